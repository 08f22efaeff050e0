import type { Timer, World } from "./index.ts";

interface Pending {
  at: number;
  order: number;
  wake: () => void;
}

/**
 * A world that stands still until it is told to move (law 12). Same seed, same calls: same run.
 * Timers fire in the order of their deadlines, ties in the order in which they were set.
 */
export class SimulatedWorld implements World {
  #time: number;
  #state: number;
  #order = 0;
  #pending = new Set<Pending>();
  readonly #epoch: number;

  constructor(seed: number, epoch = Date.UTC(2026, 0, 1)) {
    this.#state = seed >>> 0;
    this.#epoch = epoch;
    this.#time = 0;
  }

  now(): number {
    return this.#epoch + this.#time;
  }

  monotonic(): number {
    return this.#time;
  }

  after(delay: number, wake: () => void): Timer {
    const pending = { at: this.#time + Math.max(0, delay), order: this.#order++, wake };
    this.#pending.add(pending);
    return { cancel: () => this.#pending.delete(pending) };
  }

  /** Mulberry32: small, seeded, good enough for histories. */
  random(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => Math.floor(this.random() * 256));
  }

  /** The deadline of the next timer, in milliseconds on the monotonic clock, or undefined when none is set. */
  nextDeadline(): number | undefined {
    return this.#next()?.at;
  }

  /** Moves the clock by `duration` ms. After each timer everything that its wake-up started comes to rest first. */
  async advance(duration: number): Promise<void> {
    const end = this.#time + duration;
    await settleMicrotasks();
    for (let next = this.#next(); next && next.at <= end; next = this.#next()) {
      this.#time = Math.max(this.#time, next.at);
      this.#pending.delete(next);
      next.wake();
      await settleMicrotasks();
    }
    this.#time = end;
  }

  #next(): Pending | undefined {
    let first: Pending | undefined;
    for (const pending of this.#pending) {
      if (!first || pending.at < first.at || (pending.at === first.at && pending.order < first.order)) {
        first = pending;
      }
    }
    return first;
  }
}

/** One turn of the event loop lets every promise chain that does no real I/O run to its end. */
function settleMicrotasks(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
