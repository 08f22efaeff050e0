/**
 * The part that all sinks share: which objects may need a write, in what order they are looked at, retries.
 * Level-triggered: a mark says "look at it again", never what to do.
 */
import { WeftError } from "../api/index.ts";
import type { World } from "../world/index.ts";

/** Thrown by a step whose picture of the object was out of date and is mended now. Not an error to report. */
export class Stale extends Error {}

export interface WriterOptions {
  world: World;
  /** Writes under way at one time. */
  concurrency: number;
  /**
   * Compares what should be with what is. Nothing to do: returns undefined. Otherwise makes one write, after
   * which the object is looked at again.
   */
  step: (name: string) => Promise<void> | undefined;
  /** A write failed; it will be tried again. */
  onError?: (name: string, error: unknown) => void;
}

/**
 * Writes of one object in a row, and how many ms bring one more: someone who undoes every write of ours must not
 * make us write as fast as the network carries.
 */
const burst = 50;
const refill = 100;

interface Task {
  name: string;
  /** Monotonic time of the first mark that has not led to rest yet. */
  since: number;
  state: "queued" | "running" | "waiting";
  /** Waiting because it was written too often: a mark does not end that. */
  penalized: boolean;
  /** Marked while it was running. */
  again: boolean;
  failures: number;
  timer: { cancel(): void } | undefined;
}

const firstBackoff = 100;
const longestBackoff = 30_000;
/** A server that cannot be reached says nothing about the object: when it is back, writing goes on soon. */
const longestBackoffUnreachable = 5_000;

export class Writer {
  readonly #options: WriterOptions;
  readonly #tasks = new Map<string, Task>();
  /** Of the objects that were written lately. */
  readonly #budgets = new Map<string, { left: number; at: number }>();
  #queue: Task[] = [];
  /** How much of the queue is done; cut off now and then, so that a long queue is not copied for each write. */
  #head = 0;
  #running = 0;
  #scheduled = false;
  #stopped = false;
  #resting = Promise.withResolvers<void>();

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#resting.resolve();
  }

  /** Something about this object changed: it is looked at in the next microtask, or after the write under way. */
  mark(name: string): void {
    if (this.#stopped) return;
    let task = this.#tasks.get(name);
    if (!task) {
      if (this.#tasks.size === 0) this.#resting = Promise.withResolvers();
      const since = this.#options.world.monotonic();
      task = { name, since, state: "queued", penalized: false, again: false, failures: 0, timer: undefined };
      this.#tasks.set(name, task);
      this.#queue.push(task);
    } else if (task.state === "running") {
      task.again = true;
    } else if (task.state === "waiting" && !task.penalized) {
      task.timer?.cancel();
      this.#enqueue(task);
    }
    this.#schedule();
  }

  /** Age of the oldest change that has not been written, in milliseconds; 0 when all is as it should be. */
  get lag(): number {
    // Tasks are kept in the order in which they came.
    const [oldest] = this.#tasks.values();
    return oldest ? this.#options.world.monotonic() - oldest.since : 0;
  }

  /** Objects that wait for a write, retries among them. */
  get size(): number {
    return this.#tasks.size;
  }

  /** Resolves when nothing is left to write. */
  idle(): Promise<void> {
    return this.#resting.promise;
  }

  stop(): void {
    this.#stopped = true;
    for (const { timer } of this.#tasks.values()) timer?.cancel();
    this.#tasks.clear();
    this.#queue = [];
    this.#head = 0;
    this.#resting.resolve();
  }

  #enqueue(task: Task): void {
    task.state = "queued";
    task.penalized = false;
    task.timer = undefined;
    this.#queue.push(task);
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#pump();
    });
  }

  #pump(): void {
    while (this.#running < this.#options.concurrency && this.#head < this.#queue.length) {
      this.#run(this.#queue[this.#head++]!);
    }
    if (this.#head * 2 >= this.#queue.length) {
      this.#queue.splice(0, this.#head);
      this.#head = 0;
    }
  }

  #run(task: Task): void {
    task.again = false;
    let write: Promise<void> | undefined;
    try {
      write = this.#options.step(task.name);
    } catch (error) {
      this.#failed(task, error);
      return;
    }
    if (!write) {
      this.#done(task);
      return;
    }
    task.state = "running";
    this.#running++;
    write.then(
      () => {
        this.#running--;
        if (this.#stopped) return;
        // What is left to write now is newer than what has been written.
        task.failures = 0;
        task.since = this.#options.world.monotonic();
        this.#tasks.delete(task.name);
        this.#tasks.set(task.name, task);
        const pause = this.#pause(task.name);
        if (pause > 0) {
          this.#wait(task, pause);
          task.penalized = true;
        } else this.#enqueue(task);
        this.#schedule();
      },
      (error: unknown) => {
        this.#running--;
        if (this.#stopped) return;
        this.#failed(task, error);
        this.#schedule();
      },
    );
  }

  #done(task: Task): void {
    this.#tasks.delete(task.name);
    if (this.#tasks.size === 0) this.#resting.resolve();
  }

  #failed(task: Task, error: unknown): void {
    const { world, onError } = this.#options;
    if (!(error instanceof Stale)) onError?.(task.name, error);
    task.failures++;
    // What changed while the write failed may be what the failure was about: one look at once.
    if ((task.again || error instanceof Stale) && task.failures === 1) {
      this.#enqueue(task);
      return;
    }
    const unreachable = error instanceof WeftError && error.code === "API_UNREACHABLE";
    const longest = unreachable ? longestBackoffUnreachable : longestBackoff;
    const full = Math.min(firstBackoff * 2 ** Math.min(task.failures - 1, 20), longest);
    this.#wait(task, full * (0.5 + 0.5 * world.random()));
  }

  #wait(task: Task, delay: number): void {
    task.state = "waiting";
    task.timer = this.#options.world.after(delay, () => {
      this.#enqueue(task);
      this.#schedule();
    });
  }

  /** Counts a write of the object; returns how many ms it must wait for the next. */
  #pause(name: string): number {
    const now = this.#options.world.monotonic();
    const budget = this.#budgets.get(name) ?? { left: burst, at: now };
    budget.left = Math.min(burst, budget.left + (now - budget.at) / refill) - 1;
    budget.at = now;
    // In the order of their last write: those at the front have long been full again.
    this.#budgets.delete(name);
    this.#budgets.set(name, budget);
    for (const [old, { at }] of this.#budgets) {
      if (now - at < burst * refill) break;
      this.#budgets.delete(old);
    }
    return budget.left < 0 ? -budget.left * refill : 0;
  }
}
