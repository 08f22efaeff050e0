/**
 * The objects of one cluster: a map per kind, and one revision for the whole store. The changes of late, for watches that
 * resume, are the log's to keep where there is one, so that they cost no memory. Writes are made in memory at once, reach the durable log together at the end of the current
 * turn, and only then are told to watchers and acknowledged; nothing else runs in between, so no reader sees
 * what is not durable.
 */
import { encoded } from "../encode.ts";
import type { ApiObject } from "../object.ts";
import { RecentChanges } from "./recent.ts";

export interface StoreEvent {
  type: "ADDED" | "MODIFIED" | "DELETED";
  /** The revision that this change made. */
  revision: number;
  key: string;
  /** The object after the change; for DELETED the last state, carrying the revision of its deletion. */
  object: ApiObject;
  /** The object before the change; absent for ADDED. */
  previous: ApiObject | undefined;
  /** Encoded frames by API version and type, shared by all watchers while they are told. */
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

/** Where the store's contents survive the process, and the changes of late for watches that resume. */
export interface DurableLog {
  /** Writes all records in one transaction; when it returns they survive a crash of the process. Throws when not. */
  commit(records: readonly LogRecord[]): void;
  /** Changes of the bucket up to this revision are forgotten; it grows. */
  compacted(bucket: string): number;
  /** The changes of a bucket after a revision that is not before `compacted`, oldest first; to be read at once. */
  since(bucket: string, revision: number): Iterable<StoreEvent>;
  close(): void;
}

/** What a log held when it was opened. */
export interface SavedState {
  revision: number;
  objects: { bucket: string; key: string; object: ApiObject }[];
  /** The last revision of each bucket, deletions included. */
  bucketRevisions: Map<string, number>;
}

/** Who is told of changes. `end` is called when the kind is no longer served. */
export interface Watcher {
  event(event: StoreEvent): void;
  end(): void;
}

/** The changes of one kind that are kept for watches that resume. */
export interface KeptChanges {
  readonly compacted: number;
  since(revision: number): Iterable<StoreEvent>;
  add(event: StoreEvent): void;
}

/** All objects of one kind. Keys are `namespace/name` or `name`. */
export class Bucket {
  readonly name: string;
  readonly objects = new Map<string, ApiObject>();
  readonly watchers = new Set<Watcher>();
  readonly #kept: KeptChanges;
  /** Changes that are not durable yet, oldest first. */
  #pending: StoreEvent[] = [];
  /** The revision of the last change, deletions included. */
  #changed: number;
  /** Since when the kind is served, if it was not for some time. */
  #served = 0;
  #sorted: string[] | undefined;

  /** `changed` is the revision of the last change that processes before us made. */
  constructor(name: string, changed: number, kept: KeptChanges) {
    this.name = name;
    this.#changed = changed;
    this.#kept = kept;
  }

  /** Changes up to this revision are forgotten: a watch cannot resume before it. */
  get compacted(): number {
    return Math.max(this.#served, this.#kept.compacted);
  }

  /** Whether anything changed after `revision`. */
  changedSince(revision: number): boolean {
    return this.#changed > revision;
  }

  /** Keys in order. With a namespace, only that namespace's. */
  keys(namespace?: string): string[] {
    this.#sorted ??= [...this.objects.keys()].sort();
    if (namespace === undefined) return this.#sorted;
    const from = lowerBound(this.#sorted, `${namespace}/`);
    // "0" is the character after "/".
    return this.#sorted.slice(from, lowerBound(this.#sorted, `${namespace}0`));
  }

  /** Changes after `revision`, oldest first; to be read at once. Only valid for `revision >= compacted`. */
  *since(revision: number): Iterable<StoreEvent> {
    if (!this.changedSince(revision)) return;
    yield* this.#kept.since(revision);
    for (const event of this.#pending) if (event.revision > revision) yield event;
  }

  /** The contents as they were at `revision` (not before `compacted`): the present with the changes since undone. */
  snapshot(revision: number): Map<string, ApiObject> {
    const state = new Map(this.objects);
    const undone = new Set<string>();
    for (const { key, previous } of this.since(revision)) {
      // The first change of an object found it as it was.
      if (undone.has(key)) continue;
      undone.add(key);
      if (previous) state.set(key, previous);
      else state.delete(key);
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
    this.#changed = event.revision;
    this.#pending.push(event);
  }

  /** The changes that were applied are durable. */
  settle(): void {
    for (const event of this.#pending) this.#kept.add(event);
    this.#pending = [];
  }

  undo(event: StoreEvent): void {
    this.#pending.pop();
    this.#sorted = undefined;
    if (event.previous) this.objects.set(event.key, event.previous);
    else this.objects.delete(event.key);
  }

  /** The kind is no longer served: watches end, and none resumes from before. */
  end(revision: number): void {
    this.#served = revision;
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
      const log = this.#log;
      const kept = log
        ? {
            get compacted() {
              return log.compacted(name);
            },
            since: (revision: number) => log.since(name, revision),
            add() {},
          }
        : new RecentChanges();
      bucket = new Bucket(name, this.#saved?.bucketRevisions.get(name) ?? 0, kept);
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
    }
    for (const bucket of new Set(batch.map(({ bucket }) => bucket))) bucket.settle();
    for (const { bucket, event } of batch) {
      for (const watcher of bucket.watchers) watcher.event(event);
      event.frames.clear();
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
