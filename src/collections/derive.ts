import type { Timer } from "../world/index.ts";
import { type Collection, Table, tableOf, type Waiting } from "./table.ts";

/** What a derivation may read besides its own value. Every read is recorded, and is what triggers the next evaluation. */
export interface Read {
  /** One row, or undefined; its later appearance counts as a change too. */
  get<V>(from: Collection<V>, key: string): V | undefined;
  /** The values under one key of an index, in the order of their own keys. */
  all<V>(from: Collection<readonly V[]>, key: string): readonly V[];
  /** All values in the order of their keys. Every change of the collection evaluates this key again. */
  list<V>(from: Collection<V>): readonly V[];
  /**
   * Whether `deadline` (milliseconds on the world's monotonic clock) has passed. When it has not, this key
   * alone wakes at that time.
   */
  reached(deadline: number): boolean;
}

/** Longest delay that timers take (2^31 - 1 ms overflows into "at once" in Node). */
const longestDelay = 2 ** 30;

const noReads: readonly unknown[] = [];

/** The evaluation of one key: what it read, and what holds it up. */
export class Cell {
  readonly node: Derived<unknown, unknown>;
  readonly key: string;
  /** Pairs of table and key, flat: [table, key, table, key, …]; key undefined for the whole list. */
  reads: readonly unknown[] = noReads;
  /** flatDerive only: results by their keys. */
  results: Map<string, unknown> | undefined;
  /** The exception of the last evaluation. */
  bug: { error: unknown } | undefined;
  /** The bug's stand-in among what is waited for, when there is no earlier result to keep. */
  blocked: Waiting | undefined;
  deadline: number | undefined;
  #timer: Timer | undefined;

  constructor(node: Derived<unknown, unknown>, key: string) {
    this.node = node;
    this.key = key;
  }

  /** A read of this evaluation has changed. */
  mark(): void {
    this.node.mark(this.key);
  }

  /** Makes these the recorded reads. Returns whether they differ from the last ones. */
  adoptReads(reads: readonly unknown[]): boolean {
    const old = this.reads;
    let differ = old.length !== reads.length;
    // Most are those of the last time at the same place: only the others are let go of.
    for (let i = 0; i < old.length; i += 2) {
      if (old[i] === reads[i] && old[i + 1] === reads[i + 1]) continue;
      differ = true;
      (old[i] as Table<unknown>).removeReader(old[i + 1] as string | undefined, this);
    }
    if (!differ) return false;
    // What was let go of at one place may still be read at another.
    this.reads = reads.length === 0 ? noReads : reads;
    this.eachRead((table, key) => table.addReader(key, this));
    return true;
  }

  eachRead(visit: (table: Table<unknown>, key: string | undefined) => void): void {
    for (let i = 0; i < this.reads.length; i += 2) {
      visit(this.reads[i] as Table<unknown>, this.reads[i + 1] as string | undefined);
    }
  }

  /** One timer for the earliest deadline that has not been reached, or none. */
  adoptDeadline(deadline: number | undefined): void {
    if (deadline !== undefined && deadline === this.deadline && this.#timer) return;
    this.#sleep(undefined);
    this.deadline = deadline;
    if (deadline === undefined) return;
    const { engine } = this.node;
    const delay = Math.min(deadline - engine.world.monotonic(), longestDelay);
    this.#sleep(
      engine.world.after(delay, () => {
        this.#wake();
        // Whoever waits for the same moment wakes in the same batch, whichever timer fires first (law 5).
        const now = engine.world.monotonic();
        for (const cell of engine.sleeping) if (cell.deadline! <= now) cell.#wake();
        engine.schedule();
      }),
    );
  }

  #wake(): void {
    this.#sleep(undefined);
    this.mark();
  }

  #sleep(timer: Timer | undefined): void {
    this.#timer?.cancel();
    this.#timer = timer;
    if (timer) this.node.engine.sleeping.add(this);
    else this.node.engine.sleeping.delete(this);
  }

  drop(): void {
    this.adoptReads(noReads);
    this.adoptDeadline(undefined);
  }
}

/** Records the reads of the evaluation that is under way in one node. */
class Reading implements Read {
  readonly #node: Derived<unknown, unknown>;
  #reads: unknown[] | undefined;
  #deadline: number | undefined;

  constructor(node: Derived<unknown, unknown>) {
    this.#node = node;
  }

  begin(): void {
    this.#reads = [];
    this.#deadline = undefined;
  }

  end(): { reads: readonly unknown[]; deadline: number | undefined } {
    const reads = this.#reads ?? noReads;
    this.#reads = undefined;
    return { reads, deadline: this.#deadline };
  }

  get<V>(from: Collection<V>, key: string): V | undefined {
    return this.#table(from, key).get(key);
  }

  all<V>(from: Collection<readonly V[]>, key: string): readonly V[] {
    return this.#table(from, key).get(key) ?? [];
  }

  list<V>(from: Collection<V>): readonly V[] {
    return this.#table(from, undefined).list();
  }

  reached(deadline: number): boolean {
    if (!this.#reads) throw new Error(`${this.#node.name}: a read after the evaluation has ended`);
    if (deadline <= this.#node.engine.now) return true;
    this.#deadline = Math.min(deadline, this.#deadline ?? Number.POSITIVE_INFINITY);
    return false;
  }

  #table<V>(from: Collection<V>, key: string | undefined): Table<V> {
    if (!this.#reads) throw new Error(`${this.#node.name}: a read after the evaluation has ended`);
    const table = tableOf(from);
    this.#node.need(table as Table<unknown>);
    this.#reads.push(table, key);
    return table;
  }
}

/** A collection whose rows are results of evaluating a function on the rows of another. @internal */
export abstract class Derived<V, R> extends Table<R> {
  protected readonly from: Table<V>;
  protected readonly cells = new Map<string, Cell>();
  readonly #dirty = new Set<string>();
  readonly #reading: Reading;
  readonly #self: { mark(key: string): void };
  readonly #blocked = new Set<Waiting>();
  #batch = 0;

  constructor(from: Collection<V>, name: string) {
    super(from.engine, name);
    this.from = tableOf(from);
    this.#reading = new Reading(this as Derived<unknown, unknown>);
    this.#self = { mark: (key) => this.mark(key) };
    this.link(this.from as Table<unknown>);
    this.from.dependents.add(this.#self);
    for (const key of this.from.rows.keys()) this.#dirty.add(key);
  }

  mark(key: string): void {
    this.#dirty.add(key);
    this.touch();
  }

  /** Before a collection is read for the first time it is brought up to date. */
  need(table: Table<unknown>): void {
    if (this.inputs.has(table)) return;
    if (table.engine !== this.engine) throw new Error(`${this.name} reads ${table.name} of another engine`);
    this.link(table);
    table.pull(this.#batch);
  }

  protected refresh(batch: number): void {
    this.#batch = batch;
    for (const key of this.#dirty) {
      this.#dirty.delete(key);
      const value = this.from.rows.get(key);
      if (value === undefined) this.#drop(key);
      else this.#evaluate(key, value);
    }
  }

  /** Calls the function; lays its results ready in the cell. Throws what the function throws. */
  protected abstract compute(cell: Cell, value: V, read: Read): void;
  /** Shows the last results of the cell as rows. */
  protected abstract show(cell: Cell): void;
  /** Takes the cell's rows away. */
  protected abstract withdraw(cell: Cell): void;
  /** Whether the cell has shown results of an evaluation that did not throw. */
  protected abstract hasGoodResult(cell: Cell): boolean;

  #evaluate(key: string, value: V): void {
    let cell = this.cells.get(key);
    const isNew = cell === undefined;
    if (!cell) {
      cell = new Cell(this as Derived<unknown, unknown>, key);
      this.cells.set(key, cell);
    }
    this.engine.work.evaluated++;
    this.#reading.begin();
    let bug: { error: unknown } | undefined;
    try {
      this.compute(cell, value, this.#reading);
    } catch (error) {
      bug = { error };
    }
    const { reads, deadline } = this.#reading.end();
    const readsDiffer = cell.adoptReads(reads);
    cell.adoptDeadline(deadline);
    cell.bug = bug;
    this.#block(cell, bug !== undefined && !this.hasGoodResult(cell));
    if (bug) this.engine.report(this.name, key, bug.error);
    else this.show(cell);
    if ((isNew || readsDiffer) && this.engine.hasUnknowns) this.engine.noteHeard(this as Table<unknown>);
  }

  /** A key that only ever threw has no last good result to keep: what it would have shown is unknown (laws 6, 7). */
  #block(cell: Cell, blocked: boolean): void {
    if (blocked === (cell.blocked !== undefined)) return;
    if (blocked) {
      cell.blocked = { name: `${this.name} ${cell.key}: an exception` };
      this.#blocked.add(cell.blocked);
    } else if (cell.blocked) {
      this.#blocked.delete(cell.blocked);
      cell.blocked = undefined;
    }
    this.engine.countUnknown(blocked ? 1 : -1);
    this.engine.noteHeard(this as Table<unknown>);
  }

  #drop(key: string): void {
    const cell = this.cells.get(key);
    if (!cell) return;
    this.cells.delete(key);
    this.#block(cell, false);
    cell.drop();
    this.withdraw(cell);
    if (this.engine.hasUnknowns) this.engine.noteHeard(this as Table<unknown>);
  }

  protected detach(): void {
    this.from.dependents.delete(this.#self);
    for (const cell of this.cells.values()) {
      if (cell.blocked) this.engine.countUnknown(-1);
      cell.drop();
    }
    this.cells.clear();
    this.#blocked.clear();
    this.#dirty.clear();
  }

  /** The evaluation that made this row, or that would make it. */
  abstract cellOf(key: string): Cell | undefined;
  /** What the rows of this collection are made from. */
  get base(): Table<V> {
    return this.from;
  }

  protected addPendingOfCell(cell: Cell, into: Set<Waiting>): void {
    addAll(into, this.from.pendingOf(cell.key));
    if (cell.blocked) into.add(cell.blocked);
    cell.eachRead((table, key) => addAll(into, table.pendingOf(key)));
  }

  protected override addOwnUnknowns(into: Set<Waiting>): void {
    addAll(into, this.#blocked);
  }
}

/** Each row makes at most one row, under the same key. */
class MappedTable<V, R extends {}> extends Derived<V, R> {
  readonly #make: (value: V, read: Read, key: string) => R | undefined;
  #result: R | undefined;

  constructor(
    from: Collection<V>,
    make: (value: V, read: Read, key: string) => R | undefined,
    options: { name: string },
  ) {
    super(from, options.name);
    this.#make = make;
  }

  protected compute(cell: Cell, value: V, read: Read): void {
    this.#result = this.#make(value, read, cell.key);
  }

  protected show(cell: Cell): void {
    this.set(cell.key, this.#result);
    cell.results = shown;
    this.#result = undefined;
  }

  protected withdraw(cell: Cell): void {
    this.set(cell.key, undefined);
  }

  protected hasGoodResult(cell: Cell): boolean {
    return cell.results !== undefined;
  }

  cellOf(key: string): Cell | undefined {
    return this.cells.get(key);
  }

  protected addPendingOfKey(key: string, into: Set<Waiting>): void {
    const cell = this.cells.get(key);
    if (cell) this.addPendingOfCell(cell, into);
    else addAll(into, this.from.pendingOf(key));
  }
}

/** Says that a MappedTable's cell has been shown; its result is its row. */
const shown = new Map<string, unknown>();

/** Each row makes any number of rows under keys of their own. */
class FlatTable<V, R extends {}> extends Derived<V, R> {
  readonly #make: (value: V, read: Read, key: string) => Iterable<R>;
  readonly #keyOf: (result: R) => string;
  /** Who makes a row. More than one is a clash: the smallest key of the input wins, whoever came first. */
  readonly #makers = new Map<string, Cell[]>();
  #results = new Map<string, R>();

  constructor(
    from: Collection<V>,
    make: (value: V, read: Read, key: string) => Iterable<R>,
    options: FlatOptions<R>,
  ) {
    super(from, options.name);
    this.#make = make;
    this.#keyOf = options.key;
  }

  protected compute(cell: Cell, value: V, read: Read): void {
    const results = new Map<string, R>();
    for (const result of this.#make(value, read, cell.key)) {
      const key = this.#keyOf(result);
      if (!results.has(key)) results.set(key, result);
    }
    this.#results = results;
  }

  protected show(cell: Cell): void {
    const before = cell.results;
    const after = this.#results;
    cell.results = after;
    for (const key of after.keys()) {
      if (!before?.has(key)) this.#join(key, cell);
      this.#resolve(key);
    }
    if (before) for (const key of before.keys()) if (!after.has(key)) this.#leave(key, cell);
  }

  protected withdraw(cell: Cell): void {
    const results = cell.results;
    if (results) for (const key of results.keys()) this.#leave(key, cell);
  }

  protected hasGoodResult(cell: Cell): boolean {
    return cell.results !== undefined;
  }

  #join(key: string, cell: Cell): void {
    const makers = this.#makers.get(key);
    if (makers) makers.push(cell);
    else this.#makers.set(key, [cell]);
  }

  #leave(key: string, cell: Cell): void {
    const makers = this.#makers.get(key);
    if (!makers) return;
    const rest = makers.filter((maker) => maker !== cell);
    if (rest.length > 0) this.#makers.set(key, rest);
    else this.#makers.delete(key);
    this.#resolve(key);
  }

  #resolve(key: string): void {
    this.set(key, this.cellOf(key)?.results?.get(key) as R | undefined);
  }

  cellOf(key: string): Cell | undefined {
    const makers = this.#makers.get(key);
    if (!makers) return undefined;
    let winner = makers[0];
    for (const maker of makers) if (winner && maker.key < winner.key) winner = maker;
    return winner;
  }

  protected addPendingOfKey(key: string, into: Set<Waiting>): void {
    const cell = this.cellOf(key);
    if (cell) this.addPendingOfCell(cell, into);
    else addAll(into, this.pendingOf(undefined));
  }
}

export interface FlatOptions<R> {
  name: string;
  key: (result: R) => string;
}

/** One row makes at most one row, under the same key. */
export function derive<V, R extends {}>(
  from: Collection<V>,
  make: (value: V, read: Read, key: string) => R | undefined,
  options: { name: string },
): Collection<R> {
  return new MappedTable(from, make, options);
}

/**
 * One row makes any number of rows. Keys of results should differ by construction; where they clash, the
 * result is defined, but `pending` does not foresee a clash that an unheard source may bring. Of two results of one row under the same key the first counts; of two
 * rows' results under the same key that of the smaller input key.
 */
export function flatDerive<V, R extends {}>(
  from: Collection<V>,
  make: (value: V, read: Read, key: string) => Iterable<R>,
  options: FlatOptions<R>,
): Collection<R> {
  return new FlatTable(from, make, options);
}

function addAll(into: Set<Waiting>, from: ReadonlySet<Waiting>): void {
  for (const waiting of from) into.add(waiting);
}
