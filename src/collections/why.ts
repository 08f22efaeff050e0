import { Derived } from "./derive.ts";
import { JoinTable } from "./join.ts";
import { IndexTable } from "./keyed.ts";
import { type Collection, type Table, tableOf } from "./table.ts";

/** What a row was made from, down to the sources. */
export interface Why {
  collection: string;
  /** `*` stands for the whole collection, read as a list. */
  key: string;
  /** Absent when there is no such row: that, too, is an input. */
  value?: unknown;
  /** The row that it comes from first, then what was read besides, each once. */
  from: Why[];
  /** What is not heard yet and could change it (law 7). */
  pending?: string[];
  /** The exception that keeps it at its last good result (law 6). */
  bug?: string;
  /** Milliseconds on the monotonic clock at which it is looked at again. */
  deadline?: number;
}

/** The tree of inputs behind a row, or behind its absence. */
export function why(collection: Collection<unknown>, key: string): Why {
  return explain(tableOf(collection), key);
}

function explain(table: Table<unknown>, key: string | undefined): Why {
  const result: Why = { collection: table.name, key: key ?? "*", from: [] };
  if (key !== undefined && table.rows.has(key)) result.value = table.rows.get(key);
  const pending = table.pending(key);
  if (pending.length > 0) result.pending = pending.map(({ name }) => name);
  if (key === undefined) return result;
  if (table instanceof Derived) {
    const cell = table.cellOf(key);
    if (!cell) return result;
    result.from.push(explain(table.base as Table<unknown>, cell.key));
    const seen = new Map<Table<unknown>, Set<string | undefined>>();
    cell.eachRead((read, readKey) => {
      const keys = seen.get(read) ?? new Set();
      seen.set(read, keys);
      if (keys.has(readKey)) return;
      keys.add(readKey);
      result.from.push(explain(read, readKey));
    });
    if (cell.bug) result.bug = String(cell.bug.error);
    if (cell.deadline !== undefined) result.deadline = cell.deadline;
  } else if (table instanceof IndexTable) {
    for (const member of table.membersOf(key)) result.from.push(explain(table.from, member));
  } else if (table instanceof JoinTable) {
    const slash = key.indexOf("/");
    const partition = table.partition(key.slice(0, slash));
    if (partition) result.from.push(explain(partition as Table<unknown>, key.slice(slash + 1)));
  }
  return result;
}
