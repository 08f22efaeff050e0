/**
 * The objects of one cluster: a map per kind, one revision for the whole store, and the recent events of each
 * kind for watches. Writes are made in memory at once, reach the durable log together at the end of the current
 * turn, and only then are told to watchers and acknowledged; nothing else runs in between, so no reader sees
 * what is not durable.
 */
import { encoded } from "../encode.ts";
import type { ApiObject } from "../object.ts";

export interface StoreEvent {
  type: "ADDED" | "MODIFIED" | "DELETED";
  /** The revision that this change made. */
  revision: number;
  key: string;
  /** The object after the change; for DELETED the last state, carrying the revision of its deletion. */
  object: ApiObject;
  /** The object before the change; absent for ADDED. */
  previous: ApiObject | undefined;
  /** Encoded frames by API version and type, shared by all watchers. */
  frames: Map<string, Uint8Array>;
  /** Bytes of JSON, where it has been encoded. */
  size: number;
}

/** One change for the durable log. */
export interface LogRecord {
  type: StoreEvent["type"];
  bucket: string;
  key: string;
  revision: number;
  /** The object's JSON; of a deleted one, what watchers see last. */
  value: Uint8Array;
  /** The object's JSON before the change. */
  previous: () => Uint8Array | undefined;
}

/** Where the store's contents survive the process. */
export interface DurableLog {
  /** Writes all records in one transaction; when it returns they survive a crash of the process. Throws when not. */
  commit(records: readonly LogRecord[]): void;
  close(): void;
}

/** What a log held when it was opened. */
export interface SavedState {
  revision: number;
  objects: { bucket: string; key: string; object: ApiObject }[];
  /** The last revision of each bucket, deletions included. */
  bucketRevisions: Map<string, number>;
  /** Changes after this revision are kept; it grows. */
  readonly compacted: number;
  /** The kept changes of a bucket up to `revision`, oldest first; asked for when a watch resumes from before the start. */
  history(bucket: string): StoreEvent[];
}

/** Who is told of changes. `end` is called when the kind is no longer served. */
export interface Watcher {
  event(event: StoreEvent): void;
  end(): void;
}

/** Events kept per kind for watches that resume: at most so many, and so many bytes of JSON (the last stays). */
const historyLength = 2048;
const historyBytes = 8 * 1024 * 1024;

/** What a bucket's kind went through before this process. */
interface OlderChanges {
  /** Changes up to this revision are forgotten. */
  compacted(): number;
  load(): StoreEvent[];
}

/** All objects of one kind. Keys are `namespace/name` or `name`. */
export class Bucket {
  readonly name: string;
  readonly objects = new Map<string, ApiObject>();
  readonly watchers = new Set<Watcher>();
  #history: StoreEvent[] = [];
  /** Changes of processes before us, and the last of them; read when they are asked for. */
  #older: OlderChanges | undefined;
  #compacted: number;
  #bytes = 0;
  #sorted: string[] | undefined;

  /** Nothing changed after `compacted`, but for what is `older` than this process. */
  constructor(name: string, compacted: number, older?: OlderChanges) {
    this.name = name;
    this.#compacted = compacted;
    this.#older = older;
  }

  /** Changes up to this revision are forgotten: a watch cannot resume before it. */
  get compacted(): number {
    return this.#older ? Math.min(this.#compacted, this.#older.compacted()) : this.#compacted;
  }

  /** Keys in order. With a namespace, only that namespace's. */
  keys(namespace?: string): string[] {
    this.#sorted ??= [...this.objects.keys()].sort();
    if (namespace === undefined) return this.#sorted;
    const from = lowerBound(this.#sorted, `${namespace}/`);
    // "0" is the character after "/".
    return this.#sorted.slice(from, lowerBound(this.#sorted, `${namespace}0`));
  }

  /** Changes after `revision`, oldest first. Only valid for `revision >= compacted`. */
  since(revision: number): StoreEvent[] {
    if (this.#older && revision < this.#compacted) {
      const older = this.#older.load();
      this.#compacted = this.compacted;
      this.#older = undefined;
      this.#bytes += older.reduce((sum, { size }) => sum + size, 0);
      this.#history.unshift(...older);
    }
    let from = this.#history.length;
    while (from > 0 && this.#history[from - 1]!.revision > revision) from--;
    return this.#history.slice(from);
  }

  /** The contents as they were at `revision` (not before `compacted`): the present with the changes since undone. */
  snapshot(revision: number): Map<string, ApiObject> {
    const state = new Map(this.objects);
    for (const event of this.since(revision).reverse()) {
      if (event.previous) state.set(event.key, event.previous);
      else state.delete(event.key);
    }
    return state;
  }

  apply(event: StoreEvent): void {
    if (event.type === "DELETED") {
      this.objects.delete(event.key);
      this.#sorted = undefined;
    } else {
      if (event.type === "ADDED") this.#sorted = undefined;
      this.objects.set(event.key, event.object);
    }
    this.#history.push(event);
  }

  /** Forgets the oldest events beyond what is kept, now that the size of a new one is known. */
  trim(latest: StoreEvent): void {
    this.#bytes += latest.size;
    if (this.#history.length <= historyLength * 1.25 && this.#bytes <= historyBytes * 1.25) return;
    let drop = Math.max(0, this.#history.length - historyLength);
    let freed = 0;
    for (let i = 0; i < this.#history.length - 1; i++) {
      if (i >= drop && this.#bytes - freed <= historyBytes) break;
      freed += this.#history[i]!.size;
      drop = Math.max(drop, i + 1);
    }
    this.#bytes -= freed;
    // There is no gap in what is kept.
    this.#older = undefined;
    this.#compacted = this.#history.splice(0, drop).at(-1)?.revision ?? this.#compacted;
  }

  /** Takes back the latest event, which the log refused. */
  undo(event: StoreEvent): void {
    this.#history.pop();
    this.#sorted = undefined;
    if (event.previous) this.objects.set(event.key, event.previous);
    else this.objects.delete(event.key);
  }

  /** The kind is no longer served: watches end, and none resumes from before. */
  end(revision: number): void {
    this.#history = [];
    this.#older = undefined;
    this.#bytes = 0;
    this.#compacted = revision;
    for (const watcher of [...this.watchers]) watcher.end();
  }

  /** Puts an object in without an event: what was saved, or a new default read into an old object. */
  load(key: string, object: ApiObject): void {
    this.objects.set(key, object);
    this.#sorted = undefined;
  }
}

export class Store {
  #revision: number;
  readonly #buckets = new Map<string, Bucket>();
  readonly #log: DurableLog | undefined;
  readonly #saved: SavedState | undefined;
  #pending: { bucket: Bucket; event: StoreEvent }[] = [];
  #flushed: Promise<void> | undefined;
  #broken: Error | undefined;

  /** Without a log the store lives in memory only. */
  constructor(log?: DurableLog, saved?: SavedState) {
    this.#log = log;
    this.#saved = saved;
    // Revision 0 means "any" to clients, so the first object gets a revision above 1.
    this.#revision = Math.max(saved?.revision ?? 0, 1);
    for (const { bucket, key, object } of saved?.objects ?? []) this.bucket(bucket).load(key, object);
  }

  /** The revision of the newest write. */
  get revision(): number {
    return this.#revision;
  }

  bucket(name: string): Bucket {
    let bucket = this.#buckets.get(name);
    if (!bucket) {
      const saved = this.#saved;
      const older = saved && {
        compacted: () => saved.compacted,
        load: () => saved.history(name),
      };
      bucket = new Bucket(name, saved?.bucketRevisions.get(name) ?? 0, older);
      this.#buckets.set(name, bucket);
    }
    return bucket;
  }

  /**
   * Creates or replaces, and returns the object as stored: a copy of the envelope that carries the new revision.
   * Acknowledge it only after `committed()`.
   */
  write(bucket: Bucket, key: string, object: ApiObject): ApiObject {
    return this.#change(bucket, key, bucket.objects.has(key) ? "MODIFIED" : "ADDED", object);
  }

  /** Deletes. `last` is the state that watchers see; returned as they see it. */
  remove(bucket: Bucket, key: string, last: ApiObject): ApiObject {
    return this.#change(bucket, key, "DELETED", last);
  }

  #change(bucket: Bucket, key: string, type: StoreEvent["type"], next: ApiObject): ApiObject {
    if (this.#broken) throw this.#broken;
    const previous = bucket.objects.get(key);
    const revision = ++this.#revision;
    const object: ApiObject = { ...next, metadata: { ...next.metadata, resourceVersion: String(revision) } };
    const event: StoreEvent = { type, revision, key, object, previous, frames: new Map(), size: 0 };
    bucket.apply(event);
    this.#pending.push({ bucket, event });
    if (!this.#flushed) {
      this.#flushed = Promise.resolve().then(() => this.#flush());
      // Whoever waits for `committed()` hears of a failure; nobody has to wait.
      this.#flushed.catch(() => {});
    }
    return object;
  }

  /** Resolves when everything written so far is durable; rejects when it could not be made so (it is undone). */
  committed(): Promise<void> {
    return this.#flushed ?? Promise.resolve();
  }

  #flush(): void {
    const batch = this.#pending;
    this.#pending = [];
    this.#flushed = undefined;
    if (this.#log) {
      try {
        this.#log.commit(
          batch.map(({ bucket, event }) => ({
            type: event.type,
            bucket: bucket.name,
            key: event.key,
            revision: event.revision,
            value: encoded(event.object),
            previous: () => event.previous && encoded(event.previous),
          })),
        );
      } catch (error) {
        // Nothing was told to anybody. What is derived from objects may know them, so no more is written.
        this.#broken = new Error(`the store's log failed: ${error instanceof Error ? error.message : error}`);
        for (const { bucket, event } of batch.reverse()) bucket.undo(event);
        throw this.#broken;
      }
    }
    for (const { bucket, event } of batch) {
      // Without a log or a watcher nobody has needed the bytes.
      if (this.#log || bucket.watchers.size > 0) event.size = encoded(event.object).length;
      bucket.trim(event);
      for (const watcher of bucket.watchers) watcher.event(event);
    }
  }

  close(): void {
    if (this.#pending.length > 0) this.#flush();
    this.#log?.close();
  }
}

/** The first index whose key is not below `key`. */
function lowerBound(sorted: readonly string[], key: string): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]! < key) low = middle + 1;
    else high = middle;
  }
  return low;
}
