import { derive, type Read } from "./derive.ts";
import { type Collection, Table, tableOf, type Waiting } from "./table.ts";

/** The keys that a value is found under: none, one or many. */
export type Keys = string | readonly string[] | undefined;

/** The rows under one key, ordered by their own keys. */
interface Bucket<V> {
  keys: string[];
  values: V[];
  /** The batch in which the arrays were copied and may be changed in place. */
  batch: number;
}

/** Rows of another collection under other keys: a row here is the list of all values with that key. @internal */
export class IndexTable<V> extends Table<readonly V[]> {
  readonly from: Table<V>;
  readonly #keysOf: (value: V, key: string) => Keys;
  readonly #current = new Map<string, Keys>();
  readonly #buckets = new Map<string, Bucket<V>>();
  readonly #dirty = new Set<string>();
  readonly #self: { mark(key: string): void };
  /** Rows whose keys only ever threw: nobody knows where they belong (laws 6, 7). */
  readonly #blocked = new Map<string, Waiting>();

  constructor(from: Collection<V>, keysOf: (value: V, key: string) => Keys, options: { name: string }) {
    super(from.engine, options.name);
    this.from = tableOf(from);
    this.#keysOf = keysOf;
    this.#self = {
      mark: (key) => {
        this.#dirty.add(key);
        this.touch();
      },
    };
    this.link(this.from as Table<unknown>);
    this.from.dependents.add(this.#self);
    for (const key of this.from.rows.keys()) this.#dirty.add(key);
  }

  /** Keys of the rows under one key, in order. */
  membersOf(key: string): readonly string[] {
    return this.#buckets.get(key)?.keys ?? [];
  }

  protected refresh(batch: number): void {
    if (this.#dirty.size === 0) return;
    const touched = new Set<string>();
    for (const key of this.#dirty) this.#move(key, batch, touched);
    this.#dirty.clear();
    for (const key of touched) {
      const bucket = this.#buckets.get(key);
      if (bucket?.values.length === 0) this.#buckets.delete(key);
      this.set(key, bucket && bucket.values.length > 0 ? bucket.values : undefined);
    }
  }

  #move(key: string, batch: number, touched: Set<string>): void {
    const value = this.from.rows.get(key);
    const before = listOf(this.#current.get(key));
    let keys: Keys;
    if (value !== undefined) {
      this.engine.work.evaluated++;
      try {
        keys = this.#keysOf(value, key);
        this.#block(key, false);
      } catch (error) {
        this.engine.report(this.name, key, error);
        keys = this.#current.get(key); // the last good ones, with the new value
        this.#block(key, keys === undefined);
      }
    } else this.#block(key, false);
    const after = listOf(keys);
    for (const old of before) {
      if (after.includes(old)) continue;
      touched.add(old);
      this.#take(this.#open(old, batch), key);
    }
    for (const now of after) {
      touched.add(now);
      this.#place(this.#open(now, batch), key, value as V);
    }
    if (keys === undefined) this.#current.delete(key);
    else this.#current.set(key, keys);
  }

  #block(key: string, blocked: boolean): void {
    if (blocked === this.#blocked.has(key)) return;
    if (blocked) this.#blocked.set(key, { name: `${this.name} ${key}: an exception` });
    else this.#blocked.delete(key);
    this.engine.countUnknown(blocked ? 1 : -1);
    this.engine.noteHeard(this as Table<unknown>);
  }

  /** The bucket with arrays of this batch's own: those that rows show are never changed. */
  #open(key: string, batch: number): Bucket<V> {
    let bucket = this.#buckets.get(key);
    if (!bucket) {
      bucket = { keys: [], values: [], batch };
      this.#buckets.set(key, bucket);
    } else if (bucket.batch !== batch) {
      bucket.keys = bucket.keys.slice();
      bucket.values = bucket.values.slice();
      bucket.batch = batch;
    }
    return bucket;
  }

  #place(bucket: Bucket<V>, key: string, value: V): void {
    const at = positionOf(bucket.keys, key);
    if (bucket.keys[at] === key) bucket.values[at] = value;
    else {
      bucket.keys.splice(at, 0, key);
      bucket.values.splice(at, 0, value);
    }
  }

  #take(bucket: Bucket<V>, key: string): void {
    const at = positionOf(bucket.keys, key);
    if (bucket.keys[at] !== key) return;
    bucket.keys.splice(at, 1);
    bucket.values.splice(at, 1);
  }

  protected detach(): void {
    this.from.dependents.delete(this.#self);
    for (const _ of this.#blocked) this.engine.countUnknown(-1);
    this.#blocked.clear();
  }

  protected override addOwnUnknowns(into: Set<Waiting>): void {
    for (const waiting of this.#blocked.values()) into.add(waiting);
  }

  /** Any row below may come under any key, or leave it. */
  protected addPendingOfKey(_key: string, into: Set<Waiting>): void {
    for (const waiting of this.pendingOf(undefined)) into.add(waiting);
  }
}

/** Where `key` is in the ordered list, or would be. */
function positionOf(keys: readonly string[], key: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (keys[middle]! < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

function listOf(keys: Keys): readonly string[] {
  if (keys === undefined) return [];
  return typeof keys === "string" ? [keys] : keys;
}

/** The values of `from` by other keys, for `read.all(index, key)`. A key without values has no row. */
export function index<V>(
  from: Collection<V>,
  keysOf: (value: V, key: string) => Keys,
  options: { name: string },
): Collection<readonly V[]> {
  return new IndexTable(from, keysOf, options);
}

/**
 * One row per group that has members. Members come in the order of their keys, so the result does not depend
 * on the order in which they came.
 */
export function group<V, R extends {}>(
  from: Collection<V>,
  keysOf: (value: V, key: string) => Keys,
  make: (groupKey: string, members: readonly V[], read: Read) => R | undefined,
  options: { name: string },
): Collection<R> {
  const members = index(from, keysOf, { name: `${options.name}.members` });
  return derive(members, (values, read, key) => make(key, values, read), options);
}
