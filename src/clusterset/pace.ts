/** How often something may happen under a name: a few times at once, then now and then, the last wish counting. */
import type { Timer, World } from "../world/index.ts";

/** So many at once, and how many ms bring one more. */
const burst = 3;
const refill = 10_000;

interface Name {
  left: number;
  at: number;
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
    const of = this.#names.get(name) ?? { left: burst, at: now, timer: undefined, wish: undefined };
    of.left = Math.min(burst, of.left + (now - of.at) / refill);
    of.at = now;
    // In the order of their last use: those at the front have long been full again.
    this.#names.delete(name);
    this.#names.set(name, of);
    this.#tidy(now);
    if (of.left >= 1 && !of.timer) {
      of.left--;
      wish();
      return;
    }
    of.wish = wish;
    of.timer ??= this.#world.after((1 - of.left) * refill, () => {
      of.timer = undefined;
      const waiting = of.wish;
      of.wish = undefined;
      if (waiting) this.run(name, waiting);
    });
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
    for (const [name, { at, timer }] of this.#names) {
      if (timer || now - at < burst * refill) return;
      this.#names.delete(name);
    }
  }
}
