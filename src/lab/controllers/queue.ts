import type { Timer, World } from "../../world/index.ts";

/** What a reconcile asks for: nothing, or to be called again after so many milliseconds. */
export type ReconcileResult = { after: number } | undefined;

export interface QueueOptions {
  world: World;
  /** Brings one key to its desired state. Throws to be tried again with backoff. */
  reconcile: (key: string) => Promise<ReconcileResult>;
  /** How many different keys may be in work at the same time. Default 4. */
  workers?: number;
  /** Told of every failure; the key is tried again whatever it does. */
  onError?: (key: string, error: unknown, failures: number) => void;
}

const firstBackoff = 10;
const longestBackoff = 30_000;

/**
 * Keys waiting to be reconciled (law 10: levels, not edges). A key is in work at most once at a time; adding it
 * while it waits changes nothing, adding it while it is in work runs it once more afterwards. A key that fails
 * comes back after 10 ms, 20 ms, … 30 s; other keys do not wait for it.
 */
export class ReconcileQueue {
  readonly #options: QueueOptions;
  readonly #waiting = new Set<string>();
  readonly #working = new Set<string>();
  readonly #again = new Set<string>();
  readonly #failures = new Map<string, number>();
  readonly #timers = new Map<string, { at: number; timer: Timer }>();
  #scheduled = false;
  #stopped = false;

  constructor(options: QueueOptions) {
    this.#options = options;
  }

  /** Reconciles the key as soon as a worker is free. */
  add(key: string): void {
    if (this.#stopped) return;
    if (this.#working.has(key)) this.#again.add(key);
    else this.#waiting.add(key);
    this.#schedule();
  }

  /** Reconciles the key after `delay` milliseconds at the latest; of several delays the shortest counts. */
  addAfter(key: string, delay: number): void {
    if (this.#stopped) return;
    const at = this.#options.world.monotonic() + delay;
    const earlier = this.#timers.get(key);
    if (earlier && earlier.at <= at) return;
    earlier?.timer.cancel();
    const timer = this.#options.world.after(delay, () => {
      this.#timers.delete(key);
      this.add(key);
    });
    this.#timers.set(key, { at, timer });
  }

  /** Nothing waits and nothing is in work; timers may still be set. */
  get idle(): boolean {
    return this.#waiting.size === 0 && this.#working.size === 0;
  }

  /** No further key is started. What is in work runs to its end. */
  stop(): void {
    this.#stopped = true;
    this.#waiting.clear();
    this.#again.clear();
    for (const { timer } of this.#timers.values()) timer.cancel();
    this.#timers.clear();
  }

  /** Keys start in a microtask, so that one batch of changes is one reconcile. */
  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      const workers = this.#options.workers ?? 4;
      for (const key of this.#waiting) {
        if (this.#working.size >= workers) return;
        this.#waiting.delete(key);
        void this.#work(key);
      }
    });
  }

  async #work(key: string): Promise<void> {
    this.#working.add(key);
    try {
      const result = await this.#options.reconcile(key);
      this.#failures.delete(key);
      if (result) this.addAfter(key, result.after);
    } catch (error) {
      const failures = (this.#failures.get(key) ?? 0) + 1;
      this.#failures.set(key, failures);
      if (!this.#stopped) this.#options.onError?.(key, error, failures);
      this.addAfter(key, Math.min(longestBackoff, firstBackoff * 2 ** Math.min(failures - 1, 20)));
    } finally {
      this.#working.delete(key);
      if (this.#again.delete(key)) this.add(key);
      if (this.#waiting.size > 0) this.#schedule();
    }
  }
}
