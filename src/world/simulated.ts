import type { Timer, World } from "./index.ts";

interface Pending {
  at: number;
  order: number;
  /** Undefined once it was cancelled: it is thrown away when it comes up. */
  wake: (() => void) | undefined;
}

/** Timers by deadline, ties in the order in which they were set: a binary heap, for there may be many thousands. */
class Timers {
  readonly #heap: Pending[] = [];

  first(): Pending | undefined {
    while (this.#heap.length > 0 && !this.#heap[0]!.wake) this.shift();
    return this.#heap[0];
  }

  push(pending: Pending): void {
    const heap = this.#heap;
    let at = heap.push(pending) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(pending, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = pending;
  }

  shift(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (!last || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
  }
}

function before(a: Pending, b: Pending): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

/**
 * A world that stands still until it is told to move (law 12). Same seed, same calls: same run.
 * Timers fire in the order of their deadlines, ties in the order in which they were set.
 */
export class SimulatedWorld implements World {
  #time: number;
  #state: number;
  #order = 0;
  readonly #timers = new Timers();
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
    const pending: Pending = { at: this.#time + Math.max(0, delay), order: this.#order++, wake };
    this.#timers.push(pending);
    return {
      cancel: () => {
        pending.wake = undefined;
      },
    };
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
    return this.#timers.first()?.at;
  }

  /** Moves the clock by `duration` ms. After each timer everything that its wake-up started comes to rest first. */
  async advance(duration: number): Promise<void> {
    const end = this.#time + duration;
    await settleMicrotasks();
    for (let next = this.#timers.first(); next && next.at <= end; next = this.#timers.first()) {
      this.#time = Math.max(this.#time, next.at);
      this.#timers.shift();
      next.wake?.();
      await settleMicrotasks();
    }
    this.#time = end;
  }
}

/** One turn of the event loop lets every promise chain that does no real I/O run to its end. */
function settleMicrotasks(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
