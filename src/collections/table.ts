import type { Cell } from "./derive.ts";
import type { Engine } from "./engine.ts";
import { equal } from "./equal.ts";

/** What happened to one row in one settled batch. Never both undefined, never equal. */
export interface Change<V> {
  key: string;
  before: V | undefined;
  after: V | undefined;
}

/** Called once per settled batch; an empty list says that only what is pending may have changed. */
export type Sink<V> = (changes: readonly Change<V>[]) => void;

/** Something not heard yet: a source (or a joined set of partitions), or a key that a bug keeps from its result. */
export interface Waiting {
  readonly name: string;
}

/** A keyed set of immutable values, as of the last settled batch. */
export interface Collection<V> {
  readonly name: string;
  readonly engine: Engine;
  readonly size: number;
  get(key: string): V | undefined;
  has(key: string): boolean;
  /** In no particular order; `read.list` sorts. */
  entries(): IterableIterator<[string, V]>;
  keys(): IterableIterator<string>;
  values(): IterableIterator<V>;
  /**
   * What has not been heard yet and could change the row of this key, or, when there is no such row, could
   * make one appear; without a key: could change any row (law 7). Nobody may change or delete on the ground
   * of a row, or of its absence, while this is not empty.
   */
  pending(key?: string): readonly Waiting[];
  /**
   * Calls `sink` after every batch that changed rows here, and, with no changes, after a batch in which
   * something that rows here depend on was heard at last. Rows that are there already are not repeated.
   * Returns what ends it.
   */
  subscribe(sink: Sink<V>): () => void;
  /** Takes the collection out of its engine. What was derived from it keeps its last rows: dispose those first. */
  dispose(): void;
}

/** Is told which keys changed in the collection that it builds on. */
export interface Dependent {
  mark(key: string): void;
}

const nothing: ReadonlySet<Waiting> = new Set();

/** The inside of every collection: rows, who read them, and what this batch did to them. @internal */
export abstract class Table<V = unknown> implements Collection<V> {
  readonly name: string;
  readonly engine: Engine;
  readonly rows = new Map<string, V>();
  /** The collections that this one has read, ever. */
  readonly inputs = new Set<Table<unknown>>();
  /** The collections that read this one. */
  readonly outputs = new Set<Table<unknown>>();
  /** Higher than that of every input: in a batch lower ones come first. It never falls. */
  level = 0;
  readonly dependents = new Set<Dependent>();
  readonly sinks = new Set<Sink<V>>();
  /** Evaluations that asked for a key, whether it was there or not: one, as for most keys, or a set of them. */
  readonly #readers = new Map<string, Cell | Set<Cell>>();
  readonly #listReaders = new Set<Cell>();
  #before = new Map<string, V | undefined>();
  #list: readonly V[] | undefined;
  #pulled = 0;
  #fresh = true;
  #disposed = false;
  #pendingBatch = -1;
  readonly #pendingOfKey = new Map<string | undefined, ReadonlySet<Waiting>>();

  constructor(engine: Engine, name: string) {
    this.engine = engine;
    this.name = name;
    engine.countUnknown(1); // until the first batch
    engine.adopt(this as Table<unknown>);
  }

  get size(): number {
    return this.rows.size;
  }

  get(key: string): V | undefined {
    return this.rows.get(key);
  }

  has(key: string): boolean {
    return this.rows.has(key);
  }

  entries(): IterableIterator<[string, V]> {
    return this.rows.entries();
  }

  keys(): IterableIterator<string> {
    return this.rows.keys();
  }

  values(): IterableIterator<V> {
    return this.rows.values();
  }

  subscribe(sink: Sink<V>): () => void {
    const own: Sink<V> = (changes) => sink(changes);
    this.sinks.add(own);
    return () => this.sinks.delete(own);
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.sinks.clear();
    if (this.#fresh) this.engine.countUnknown(-1);
    this.#fresh = false;
    for (const input of this.inputs) input.outputs.delete(this as Table<unknown>);
    this.detach();
    this.engine.release(this as Table<unknown>);
  }

  /** Records that this reads `input`; this, and what reads this, come after it from now on. */
  link(input: Table<unknown>): void {
    if (this.inputs.has(input)) return;
    if (input.readsFrom(this as Table<unknown>)) throw new Error(`collection ${this.name} reads itself`);
    this.inputs.add(input);
    input.outputs.add(this as Table<unknown>);
    this.#rise(input.level + 1);
  }

  protected unlink(input: Table<unknown>): void {
    this.inputs.delete(input);
    input.outputs.delete(this as Table<unknown>);
  }

  #rise(level: number): void {
    if (this.level >= level) return;
    this.engine.moveUp(this as Table<unknown>, level);
    this.level = level;
    for (const output of this.outputs) output.#rise(level + 1);
  }

  /** Whether it is `other`, or made from it. What is below `other` cannot be. */
  protected readsFrom(other: Table<unknown>, seen = new Set<Table<unknown>>()): boolean {
    if ((this as Table<unknown>) === other) return true;
    if (this.level <= other.level || seen.has(this as Table<unknown>)) return false;
    seen.add(this as Table<unknown>);
    for (const input of this.inputs) if (input.readsFrom(other, seen)) return true;
    return false;
  }

  /** Something is staged or marked: the next batch, or the one under way, brings this collection up to date. */
  protected touch(): void {
    if (!this.#disposed) this.engine.noteDue(this as Table<unknown>);
  }

  /** Brings this collection up to date; those that it reads are. */
  update(batch: number): void {
    if (this.#disposed) return;
    this.engine.work.visited++;
    this.refresh(batch);
    if (this.#fresh) {
      this.#fresh = false;
      this.engine.countUnknown(-1);
      this.engine.noteHeard(this as Table<unknown>);
    }
  }

  /** The same in the middle of a batch, for who has not read it before: after those that it reads. */
  pull(batch: number): void {
    if (this.#pulled === batch || this.engine.isPast(this.level)) return;
    this.#pulled = batch;
    for (const input of this.inputs) input.pull(batch);
    if (this.engine.takeDue(this as Table<unknown>)) this.update(batch);
  }

  /** Applies what is staged or marked to the rows. */
  protected abstract refresh(batch: number): void;
  /** Lets go of inputs and timers. */
  protected abstract detach(): void;

  /** One row's new value, or undefined when it goes. An equal value is no change and keeps the old object. */
  protected set(key: string, after: V | undefined): void {
    const before = this.rows.get(key);
    if (equal(before, after)) return;
    if (after === undefined) this.rows.delete(key);
    else this.rows.set(key, after);
    this.#list = undefined;
    this.engine.work.changed++;
    if (this.sinks.size > 0) {
      if (!this.#before.has(key)) this.#before.set(key, before);
      this.engine.noteTouched(this as Table<unknown>);
    }
    for (const dependent of this.dependents) dependent.mark(key);
    const readers = this.#readers.get(key);
    if (readers instanceof Set) for (const cell of readers) cell.mark();
    else readers?.mark();
    for (const cell of this.#listReaders) cell.mark();
  }

  /** This batch's changes for the subscribers; forgets them. */
  takeChanges(): readonly Change<V>[] {
    const changes: Change<V>[] = [];
    for (const [key, before] of this.#before) {
      const after = this.rows.get(key);
      if (!equal(before, after)) changes.push({ key, before, after });
    }
    this.#before = new Map();
    return changes;
  }

  /** All values in the order of their keys. */
  list(): readonly V[] {
    this.#list ??= [...this.rows.keys()].sort().map((key) => this.rows.get(key) as V);
    return this.#list;
  }

  /** `key` undefined: the whole list. */
  addReader(key: string | undefined, cell: Cell): void {
    if (key === undefined) {
      this.#listReaders.add(cell);
      return;
    }
    const readers = this.#readers.get(key);
    if (readers instanceof Set) readers.add(cell);
    else if (!readers) this.#readers.set(key, cell);
    else if (readers !== cell) this.#readers.set(key, new Set([readers, cell]));
  }

  removeReader(key: string | undefined, cell: Cell): void {
    if (key === undefined) {
      this.#listReaders.delete(cell);
      return;
    }
    const readers = this.#readers.get(key);
    if (readers instanceof Set) readers.delete(cell);
    if (readers === cell || (readers instanceof Set && readers.size === 0)) this.#readers.delete(key);
  }

  pending(key?: string): readonly Waiting[] {
    return this.engine.hasUnknowns ? [...this.pendingOf(key)] : [];
  }

  /** As `pending`, remembered until the next batch. */
  pendingOf(key: string | undefined): ReadonlySet<Waiting> {
    if (!this.engine.hasUnknowns) return nothing;
    const batch = this.engine.work.batches;
    if (this.#pendingBatch !== batch || this.#fresh) {
      this.#pendingBatch = batch;
      this.#pendingOfKey.clear();
    }
    let found = this.#pendingOfKey.get(key);
    if (!found) {
      const into = new Set<Waiting>();
      if (this.#fresh) into.add(this);
      else if (key === undefined) this.addPendingOfAll(into, new Set());
      else this.addPendingOfKey(key, into);
      found = into.size > 0 ? into : nothing;
      this.#pendingOfKey.set(key, found);
    }
    return found;
  }

  protected abstract addPendingOfKey(key: string, into: Set<Waiting>): void;

  /** What is not heard anywhere below this collection. */
  addPendingOfAll(into: Set<Waiting>, seen: Set<Table<unknown>>): void {
    if (seen.has(this as Table<unknown>)) return;
    seen.add(this as Table<unknown>);
    if (this.#fresh) into.add(this);
    this.addOwnUnknowns(into);
    for (const input of this.inputs) input.addPendingOfAll(into, seen);
  }

  /** What this collection itself does not know. */
  protected addOwnUnknowns(_into: Set<Waiting>): void {}
}

/** Every collection is a table inside. @internal */
export function tableOf<V>(collection: Collection<V>): Table<V> {
  return collection as Table<V>;
}
