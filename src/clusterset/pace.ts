/** How often something may happen under a name: a few times at once, then now and then, the last wish counting. */
import type { Timer, World } from "../world/index.ts";

/** So many at once, and how many ms bring one more. */
const burst = 3;
const refill = 10_000;

interface Name {
  /** When it would be as if it had never been done: each time moves it on by `refill`. */
  full: number;
  timer: Timer | undefined;
  wish: (() => void) | undefined;
}

export class Pace {
  readonly #world: World;
  readonly #names = new Map<string, Name>();

  constructor(world: World) {
    this.#world = world;
  }

  /** Does it now, or when it may be done again; another wish under the name takes its place until then. */
  run(name: string, wish: () => void): void {
    const now = this.#world.monotonic();
    this.#tidy(now);
    const of = this.#names.get(name) ?? { full: now, timer: undefined, wish: undefined };
    // In the order of their last use: those at the front have long been full again.
    this.#names.delete(name);
    this.#names.set(name, of);
    of.wish = wish;
    if (of.timer) return;
    const wait = of.full - (burst - 1) * refill - now;
    if (wait <= 0) this.#do(of);
    else of.timer = this.#world.after(wait, () => this.#do(of));
  }

  /** It is not asked again whether it may be done: sums of fractions might say that nearly nothing is missing, for ever. */
  #do(of: Name): void {
    const { wish } = of;
    of.timer = of.wish = undefined;
    of.full = Math.max(of.full, this.#world.monotonic()) + refill;
    wish?.();
  }

  /** What waits under the name is not done any more. How often it was done stays known. */
  forget(name: string): void {
    const of = this.#names.get(name);
    of?.timer?.cancel();
    if (of) of.timer = of.wish = undefined;
  }

  stop(): void {
    for (const name of this.#names.keys()) this.forget(name);
    this.#names.clear();
  }

  #tidy(now: number): void {
    for (const [name, { full, timer }] of this.#names) {
      if (timer || full > now) return;
      this.#names.delete(name);
    }
  }
}
