import type { World } from "../world/index.ts";
import type { Cell } from "./derive.ts";
import type { Sink, Table } from "./table.ts";

/** A derivation or a sink threw: a bug of ours (law 6). */
export interface Bug {
  collection: string;
  /** The key whose evaluation threw; undefined when a subscriber did. */
  key: string | undefined;
  error: unknown;
}

/** What the engine has done since its start (law 4). */
export interface Work {
  /** Calls of derivations' functions. */
  evaluated: number;
  /** Rows that really changed, in all collections. */
  changed: number;
  /** Settled batches. */
  batches: number;
  /** Collections brought up to date, in all batches. */
  visited: number;
  /** Exceptions in derivations and subscribers. */
  bugs: number;
}

/**
 * One incremental graph: the collections made on it, their clock, and the order in which changes go through.
 *
 * A batch brings the collections up to date in which something is staged or marked, each after the ones it reads
 * (a collection's level is above those of what it has read, so the order follows from what is read and needs no
 * declaration), and only then tells the subscribers. Collections that nothing touches cost nothing (law 4).
 * Between batches every collection shows the settled state of the last one (law 5).
 */
export class Engine {
  readonly world: World;
  readonly work: Work = { evaluated: 0, changed: 0, batches: 0, visited: 0, bugs: 0 };
  /** Evaluations that wait for a moment. @internal */
  readonly sleeping = new Set<Cell>();
  readonly #onBug: ((bug: Bug) => void) | undefined;
  readonly #tables = new Set<Table<unknown>>();
  /** Collections in which something is staged or marked, by their levels. */
  readonly #dueAt: Set<Table<unknown>>[] = [];
  /** Levels below are up to date in the batch under way. */
  #level = 0;
  #now = 0;
  #due = false;
  #busy = false;
  #disposed = false;
  /** Collections whose `pending` may differ after this batch though no row of theirs changed. */
  readonly #heard = new Set<Table<unknown>>();
  /** Collections with subscribers and changed rows in this batch. */
  readonly #touched = new Set<Table<unknown>>();
  /** How many reasons there are to be pending; zero in steady state, which makes `pending` free. */
  #unknowns = 0;

  /** `onBug` hears of every exception in a derivation or subscriber; the engine itself goes on. */
  constructor(options: { world: World; onBug?: (bug: Bug) => void }) {
    this.world = options.world;
    this.#onBug = options.onBug;
  }

  /**
   * Settles what has been fed since the last batch, now instead of in the next microtask, and again until
   * nothing is due. Called by a subscriber it does nothing: its changes settle right after the current batch.
   */
  settle(): void {
    if (this.#busy || this.#disposed) return;
    while (this.#due) this.#settleOnce();
  }

  /** Ends the engine: no timer fires, no subscriber is called, nothing settles any more. */
  dispose(): void {
    this.#disposed = true;
    for (const table of [...this.#tables]) table.dispose();
  }

  /** The batch's one instant, milliseconds on the world's monotonic clock. @internal */
  get now(): number {
    return this.#now;
  }

  /** @internal */
  get hasUnknowns(): boolean {
    return this.#unknowns > 0;
  }

  /** @internal */
  countUnknown(difference: 1 | -1): void {
    this.#unknowns += difference;
  }

  /** `pending` of this collection and those that depend on it may have changed in this batch. @internal */
  noteHeard(table: Table<unknown>): void {
    this.#heard.add(table);
  }

  /** @internal */
  noteTouched(table: Table<unknown>): void {
    this.#touched.add(table);
  }

  /** @internal */
  adopt(table: Table<unknown>): void {
    this.#tables.add(table);
    this.noteDue(table);
    this.schedule();
  }

  /** @internal */
  release(table: Table<unknown>): void {
    this.#tables.delete(table);
    this.#touched.delete(table);
    this.takeDue(table);
  }

  /** @internal */
  noteDue(table: Table<unknown>, level = table.level): void {
    while (this.#dueAt.length <= level) this.#dueAt.push(new Set());
    this.#dueAt[level]!.add(table);
  }

  /** Whether it was due; it no longer is. @internal */
  takeDue(table: Table<unknown>): boolean {
    return this.#dueAt[table.level]?.delete(table) ?? false;
  }

  /** Called before the collection's level becomes `level`. @internal */
  moveUp(table: Table<unknown>, level: number): void {
    if (this.takeDue(table)) this.noteDue(table, level);
  }

  /** Whether the batch under way is done with all collections of this level. @internal */
  isPast(level: number): boolean {
    return level < this.#level;
  }

  /** Something was fed: one batch for all that is fed in this turn. @internal */
  schedule(): void {
    if (this.#due || this.#disposed) return;
    this.#due = true;
    queueMicrotask(() => {
      if (this.#due && !this.#busy && !this.#disposed) this.#settleOnce();
    });
  }

  /** @internal */
  report(collection: string, key: string | undefined, error: unknown): void {
    this.work.bugs++;
    this.#onBug?.({ collection, key, error });
  }

  #settleOnce(): void {
    this.#busy = true;
    this.#due = false;
    this.#now = this.world.monotonic();
    const batch = ++this.work.batches;
    try {
      // What is marked on the way is above what marks it.
      for (this.#level = 0; this.#level < this.#dueAt.length; this.#level++) {
        const due = this.#dueAt[this.#level]!;
        if (due.size > 0) for (const table of due) if (this.takeDue(table)) table.update(batch);
      }
      this.#publish();
    } finally {
      this.#heard.clear();
      this.#touched.clear();
      this.#busy = false;
    }
  }

  /** Everything is settled before the first subscriber hears of it. */
  #publish(): void {
    const woken = this.#heard.size > 0 ? this.#dependentsOfHeard() : this.#touched;
    const calls: { table: Table<unknown>; sink: Sink<unknown>; changes: ReturnType<Table["takeChanges"]> }[] =
      [];
    for (const table of woken) {
      if (table.sinks.size === 0) continue;
      const changes = table.takeChanges();
      for (const sink of table.sinks) calls.push({ table, sink, changes });
    }
    for (const { table, sink, changes } of calls) {
      if (!table.sinks.has(sink)) continue; // unsubscribed by one that was called before
      try {
        sink(changes);
      } catch (error) {
        this.report(table.name, undefined, error);
      }
    }
  }

  #dependentsOfHeard(): Set<Table<unknown>> {
    const woken = new Set(this.#touched);
    const reached = new Set(this.#heard);
    // A set is walked through to what is added on the way.
    for (const table of reached) {
      woken.add(table);
      for (const output of table.outputs) reached.add(output);
    }
    return woken;
  }
}
