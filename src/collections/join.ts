import type { Engine } from "./engine.ts";
import { type Collection, Table, tableOf, type Waiting } from "./table.ts";

/** Many collections as one; rows are keyed `partition/key`. Partitions come and go. */
export interface PartitionJoin<V> extends Collection<V> {
  /** Adds a partition, or puts another collection in the place of the one it had: only rows that differ change. */
  add(partition: string, collection: Collection<V>): void;
  /** Takes a partition and its rows out. */
  drop(partition: string): void;
  /** Which partitions there are is known now; see `awaitPartitions`. */
  markSynced(): void;
  /** As of the last settled batch. */
  partitions(): string[];
}

interface Partition<V> {
  collection: Table<V>;
  /** Keys of the rows that this join shows of it. */
  keys: Set<string>;
  dirty: Set<string>;
  self: { mark(key: string): void };
}

/**
 * Joins collections under the names of their partitions. A name must not contain a slash.
 * With `awaitPartitions` the join counts as unheard until `markSynced` says that all partitions that there
 * are have been added: what is missing may be in one not known yet.
 */
export function joinPartitions<V>(
  engine: Engine,
  options: { name: string; awaitPartitions?: boolean },
): PartitionJoin<V> {
  return new JoinTable(engine, options);
}

/** @internal */
export class JoinTable<V> extends Table<V> implements PartitionJoin<V> {
  readonly #partitions = new Map<string, Partition<V>>();
  /** undefined: to be dropped. */
  readonly #staged = new Map<string, Table<V> | undefined>();
  /** Names of partitions in which rows have changed. */
  readonly #dirty = new Set<string>();
  /** In how many places, partitions or staged, a collection stands. */
  readonly #uses = new Map<Table<V>, number>();
  #waiting = false;
  #stagedSync = false;

  constructor(engine: Engine, options: { name: string; awaitPartitions?: boolean }) {
    super(engine, options.name);
    if (options.awaitPartitions) {
      this.#waiting = true;
      engine.countUnknown(1);
    }
  }

  add(partition: string, collection: Collection<V>): void {
    if (partition.includes("/")) throw new Error(`a partition's name has no slash: ${partition}`);
    this.#stage(partition, tableOf(collection));
  }

  drop(partition: string): void {
    this.#stage(partition, undefined);
  }

  #stage(partition: string, table: Table<V> | undefined): void {
    // Inputs are those that are in and those that come in with the next batch.
    if (table) this.#use(table, 1);
    const unused = this.#staged.get(partition);
    this.#staged.set(partition, table);
    if (unused) this.#use(unused, -1);
    this.touch();
    this.engine.schedule();
  }

  #use(table: Table<V>, difference: 1 | -1): void {
    if (difference === 1) this.link(table as Table<unknown>);
    const uses = (this.#uses.get(table) ?? 0) + difference;
    if (uses > 0) this.#uses.set(table, uses);
    else {
      this.#uses.delete(table);
      this.unlink(table as Table<unknown>);
    }
  }

  markSynced(): void {
    this.#stagedSync = true;
    this.touch();
    this.engine.schedule();
  }

  partitions(): string[] {
    return [...this.#partitions.keys()].sort();
  }

  /** The collection that stands for a partition. */
  partition(name: string): Table<V> | undefined {
    return this.#partitions.get(name)?.collection;
  }

  protected refresh(): void {
    if (this.#staged.size > 0) this.#applyStaged();
    for (const name of this.#dirty) {
      const partition = this.#partitions.get(name);
      if (!partition) continue;
      const { collection, keys, dirty } = partition;
      for (const key of dirty) {
        const value = collection.rows.get(key);
        if (value === undefined) keys.delete(key);
        else keys.add(key);
        this.set(`${name}/${key}`, value);
      }
      dirty.clear();
    }
    this.#dirty.clear();
    if (this.#stagedSync && this.#waiting) {
      this.#waiting = false;
      this.engine.countUnknown(-1);
      this.engine.noteHeard(this as Table<unknown>);
    }
  }

  #applyStaged(): void {
    const staged = [...this.#staged];
    this.#staged.clear();
    for (const [name, table] of staged) {
      const old = this.#partitions.get(name);
      if (old?.collection === table) {
        if (table) this.#use(table, -1); // it stands there already
        continue;
      }
      old?.collection.dependents.delete(old.self);
      this.#partitions.delete(name);
      if (table) {
        // The old rows stay until the new ones are laid over them: equal ones are no change.
        const dirty = new Set([...(old?.keys ?? []), ...table.rows.keys()]);
        const self = {
          mark: (key: string) => {
            dirty.add(key);
            this.#dirty.add(name);
            this.touch();
          },
        };
        table.dependents.add(self);
        this.#partitions.set(name, { collection: table, keys: old?.keys ?? new Set(), dirty, self });
        this.#dirty.add(name);
      } else {
        for (const key of old?.keys ?? []) this.set(`${name}/${key}`, undefined);
      }
      if (old) this.#use(old.collection, -1);
    }
    this.engine.noteHeard(this as Table<unknown>);
  }

  protected detach(): void {
    for (const { collection, self } of this.#partitions.values()) collection.dependents.delete(self);
    this.#partitions.clear();
    this.#staged.clear();
    this.#dirty.clear();
    if (this.#waiting) this.engine.countUnknown(-1);
    this.#waiting = false;
  }

  protected addPendingOfKey(key: string, into: Set<Waiting>): void {
    const slash = key.indexOf("/");
    const partition = this.#partitions.get(key.slice(0, slash));
    if (partition)
      for (const waiting of partition.collection.pendingOf(key.slice(slash + 1))) into.add(waiting);
    else this.addOwnUnknowns(into);
  }

  protected override addOwnUnknowns(into: Set<Waiting>): void {
    if (this.#waiting) into.add(this);
  }
}
