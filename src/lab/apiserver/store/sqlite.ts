/**
 * The store's contents in one SQLite file, and the changes of late, so that watches resume when the process was started
 * again. Write-ahead logging: a killed process loses nothing acknowledged.
 */
import { DatabaseSync } from "node:sqlite";
import { decoded } from "../encode.ts";
import type { ApiObject } from "../object.ts";
import type { DurableLog, LogRecord, SavedState, StoreEvent } from "./store.ts";

/** So many changes are kept at least (and a quarter more at most), if they are not too large. */
const historyLength = 10_000;
/** Bytes of JSON, for those of the changes. */
const historyBytes = 64 * 1024 * 1024;

const types = ["BASE", "ADDED", "MODIFIED", "DELETED"] as const;

/**
 * Opens (or makes) the file and reads what it holds. With `sync` every commit is on the disk before it is acknowledged,
 * and survives a power cut; without, it is in the operating system's hands, and survives whatever ends the process.
 */
export function openSqlite(
  file: string,
  keep: { length: number; bytes: number } = { length: historyLength, bytes: historyBytes },
  sync = false,
): { log: DurableLog; saved: SavedState } {
  const database = new DatabaseSync(file);
  // NORMAL in WAL mode does not sync on every commit.
  database.exec(`
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = ${sync ? "FULL" : "NORMAL"};
    CREATE TABLE IF NOT EXISTS objects (
      bucket TEXT NOT NULL, key TEXT NOT NULL, revision INTEGER NOT NULL, value BLOB NOT NULL,
      PRIMARY KEY (bucket, key)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS revisions (bucket TEXT PRIMARY KEY, revision INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS history (
      revision INTEGER PRIMARY KEY, type INTEGER NOT NULL, bucket TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL
    );
    CREATE INDEX IF NOT EXISTS history_of ON history (bucket, key, revision);
    CREATE TABLE IF NOT EXISTS compaction (only INTEGER PRIMARY KEY, revision INTEGER NOT NULL);
  `);
  const bucketRevisions = new Map<string, number>();
  let revision = 0;
  for (const row of database.prepare("SELECT bucket, revision FROM revisions").iterate()) {
    bucketRevisions.set(String(row.bucket), Number(row.revision));
    revision = Math.max(revision, Number(row.revision));
  }
  const objects: SavedState["objects"] = [];
  for (const row of database.prepare("SELECT bucket, key, value FROM objects").iterate()) {
    objects.push({ bucket: String(row.bucket), key: String(row.key), object: parsed(row.value) });
  }
  const history = new History(database, revision, bucketRevisions, keep);

  const begin = database.prepare("BEGIN IMMEDIATE");
  const end = database.prepare("COMMIT");
  const abandon = database.prepare("ROLLBACK");
  const put = database.prepare(
    "INSERT OR REPLACE INTO objects (bucket, key, revision, value) VALUES (?, ?, ?, ?)",
  );
  const remove = database.prepare("DELETE FROM objects WHERE bucket = ? AND key = ?");
  const advance = database.prepare("INSERT OR REPLACE INTO revisions (bucket, revision) VALUES (?, ?)");

  return {
    saved: { revision, objects, bucketRevisions },
    log: {
      commit(records: readonly LogRecord[]) {
        const last = new Map<string, number>();
        begin.run();
        try {
          for (const record of records) {
            const { type, bucket, key, revision, value } = record;
            if (type === "DELETED") remove.run(bucket, key);
            else put.run(bucket, key, revision, value);
            history.add(record);
            last.set(bucket, revision);
          }
          for (const [bucket, revision] of last) advance.run(bucket, revision);
          history.compact();
          end.run();
        } catch (error) {
          abandon.run();
          throw error;
        }
      },
      compacted: (bucket) => history.compacted(bucket),
      since: (bucket, revision) => history.since(bucket, revision),
      close: () => database.close(),
    },
  };
}

/**
 * The changes after a revision, each with what it made. What a change found is the change before it of the same object;
 * where that is none of those kept, it stands before them as a row of type BASE.
 */
class History {
  readonly #database: DatabaseSync;
  readonly #keep: { length: number; bytes: number };
  /** Objects with a row: their next change needs no base. */
  readonly #known = new Set<string>();
  readonly #insert: ReturnType<DatabaseSync["prepare"]>;
  /** The last change of each bucket that is not kept. */
  readonly #forgotten: Map<string, number>;
  #length = 0;
  #bytes = 0;

  constructor(
    database: DatabaseSync,
    revision: number,
    bucketRevisions: ReadonlyMap<string, number>,
    keep: { length: number; bytes: number },
  ) {
    this.#database = database;
    this.#keep = keep;
    this.#insert = database.prepare(
      "INSERT OR REPLACE INTO history (revision, type, bucket, key, value) VALUES (?, ?, ?, ?, ?)",
    );
    const from = database.prepare("SELECT revision FROM compaction").get();
    // A file from before there was a history: it begins now.
    if (!from) database.prepare("INSERT INTO compaction (only, revision) VALUES (1, ?)").run(revision);
    const compacted = from ? Number(from.revision) : revision;
    // Which it was of those that changed since is not known any more.
    this.#forgotten = new Map(
      [...bucketRevisions].map(([bucket, last]) => [bucket, Math.min(last, compacted)]),
    );
    this.#count();
  }

  #count(): void {
    this.#known.clear();
    this.#length = 0;
    this.#bytes = 0;
    const rows = this.#database.prepare("SELECT bucket, key, length(value) AS size FROM history").iterate();
    for (const { bucket, key, size } of rows) {
      this.#known.add(`${String(bucket)} ${String(key)}`);
      this.#length++;
      this.#bytes += Number(size);
    }
  }

  compacted(bucket: string): number {
    return this.#forgotten.get(bucket) ?? 0;
  }

  add({ type, bucket, key, revision, value, previous }: LogRecord): void {
    const name = `${bucket} ${key}`;
    if (!this.#known.has(name)) {
      this.#known.add(name);
      const base = previous();
      if (base) this.#put(Number(parsed(base).metadata.resourceVersion), "BASE", bucket, key, base);
    }
    this.#put(revision, type, bucket, key, value);
  }

  #put(revision: number, type: (typeof types)[number], bucket: string, key: string, value: Uint8Array): void {
    this.#insert.run(revision, types.indexOf(type), bucket, key, value);
    this.#length++;
    this.#bytes += value.length;
  }

  /** Drops the oldest changes when there are a quarter more than are to be kept. */
  compact(): void {
    const { length, bytes } = this.#keep;
    if (this.#length <= length * 1.25 && this.#bytes <= bytes * 1.25) return;
    let rows = 0;
    let size = 0;
    const newest = this.#database
      .prepare("SELECT revision, length(value) AS size FROM history WHERE type > 0 ORDER BY revision DESC")
      .iterate();
    let last: number | undefined;
    for (const row of newest) {
      size += Number(row.size);
      if (++rows > length || (size > bytes && rows > 1)) {
        last = Number(row.revision);
        break;
      }
    }
    if (last === undefined) return;
    const forgotten = this.#database
      .prepare(
        "SELECT bucket, max(revision) AS revision FROM history WHERE type > 0 AND revision <= ? GROUP BY bucket",
      )
      .iterate(last);
    for (const { bucket, revision } of forgotten) this.#forgotten.set(String(bucket), Number(revision));
    // What stays of older rows are the bases of newer ones.
    this.#database
      .prepare(
        `DELETE FROM history WHERE revision <= :last AND NOT (
          type < 3
          AND EXISTS (SELECT 1 FROM history AS newer
            WHERE newer.bucket = history.bucket AND newer.key = history.key AND newer.revision > :last)
          AND NOT EXISTS (SELECT 1 FROM history AS later
            WHERE later.bucket = history.bucket AND later.key = history.key
              AND later.revision > history.revision AND later.revision <= :last))`,
      )
      .run({ last });
    this.#database.prepare("UPDATE history SET type = 0 WHERE revision <= ?").run(last);
    this.#database.prepare("UPDATE compaction SET revision = ?").run(last);
    this.#count();
  }

  /** The changes of a bucket after a revision, oldest first, each read from the file when it is asked for. */
  *since(bucket: string, revision: number): Iterable<StoreEvent> {
    const before = this.#database.prepare(
      "SELECT value FROM history WHERE bucket = ? AND key = ? AND revision <= ? ORDER BY revision DESC LIMIT 1",
    );
    const latest = new Map<string, ApiObject>();
    // The plus sign: in the order of the revisions, without an index that would have to be sorted.
    const rows = this.#database
      .prepare(
        "SELECT revision, type, key, value FROM history WHERE revision > ? AND +bucket = ? ORDER BY revision",
      )
      .iterate(revision, bucket);
    for (const row of rows) {
      const type = types[Number(row.type)]!;
      if (type === "BASE") continue;
      const key = String(row.key);
      const value = row.value as Uint8Array;
      const object = decoded(value);
      const size = value.length;
      let previous = type === "ADDED" ? undefined : latest.get(key);
      if (type !== "ADDED" && !previous) previous = parsed(before.get(bucket, key, revision)?.value);
      latest.set(key, object);
      yield { type, revision: Number(row.revision), key, object, previous, frames: new Map(), size };
    }
  }
}

function parsed(value: unknown): ApiObject {
  return JSON.parse(Buffer.from(value as Uint8Array).toString()) as ApiObject;
}
