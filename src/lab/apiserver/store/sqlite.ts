/** The store's contents in one SQLite file. Write-ahead logging: a killed process loses nothing acknowledged. */
import { DatabaseSync } from "node:sqlite";
import type { ApiObject } from "../object.ts";
import type { DurableLog, LogRecord, SavedState } from "./store.ts";

/** Opens (or makes) the file and reads what it holds. */
export function openSqlite(file: string): { log: DurableLog; saved: SavedState } {
  const database = new DatabaseSync(file);
  // NORMAL in WAL mode does not sync on every commit: the kernel has the pages, which survives SIGKILL.
  database.exec(`
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS objects (
      bucket TEXT NOT NULL, key TEXT NOT NULL, revision INTEGER NOT NULL, value BLOB NOT NULL,
      PRIMARY KEY (bucket, key)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS revisions (bucket TEXT PRIMARY KEY, revision INTEGER NOT NULL) WITHOUT ROWID;
  `);
  const saved: SavedState = { revision: 0, objects: [], bucketRevisions: new Map() };
  for (const row of database.prepare("SELECT bucket, revision FROM revisions").iterate()) {
    saved.bucketRevisions.set(String(row.bucket), Number(row.revision));
    saved.revision = Math.max(saved.revision, Number(row.revision));
  }
  for (const row of database.prepare("SELECT bucket, key, value FROM objects").iterate()) {
    const object = JSON.parse(Buffer.from(row.value as Uint8Array).toString()) as ApiObject;
    saved.objects.push({ bucket: String(row.bucket), key: String(row.key), object });
  }

  const begin = database.prepare("BEGIN IMMEDIATE");
  const end = database.prepare("COMMIT");
  const abandon = database.prepare("ROLLBACK");
  const put = database.prepare(
    "INSERT OR REPLACE INTO objects (bucket, key, revision, value) VALUES (?, ?, ?, ?)",
  );
  const remove = database.prepare("DELETE FROM objects WHERE bucket = ? AND key = ?");
  const advance = database.prepare("INSERT OR REPLACE INTO revisions (bucket, revision) VALUES (?, ?)");

  return {
    saved,
    log: {
      commit(records: readonly LogRecord[]) {
        const last = new Map<string, number>();
        begin.run();
        try {
          for (const { bucket, key, revision, value } of records) {
            if (value) put.run(bucket, key, revision, value);
            else remove.run(bucket, key);
            last.set(bucket, revision);
          }
          for (const [bucket, revision] of last) advance.run(bucket, revision);
          end.run();
        } catch (error) {
          abandon.run();
          throw error;
        }
      },
      close: () => database.close(),
    },
  };
}
