/** What a printer of one kind is: its columns, and the cells of one object. */
import type { KubeObject } from "../../../api/index.ts";

/** metav1.TableColumnDefinition. Columns with a priority above 0 are shown by `-o wide` only. */
export interface TableColumn {
  name: string;
  type: "string" | "integer" | "number" | "boolean" | "date";
  format: string;
  description: string;
  priority: number;
}

export type Cell = string | number | boolean | null;

export interface Printer {
  columns: TableColumn[];
  /** One cell per column. `now` is milliseconds since the epoch. */
  cells(object: KubeObject, now: number): Cell[];
}

/**
 * Writes columns down tersely: the type follows a colon (`Desired:integer`, otherwise string), and those that
 * come after `wide` have priority 1.
 */
export function columns(shown: string[], wide: string[] = []): TableColumn[] {
  const column = (priority: number) => (text: string) => {
    const [name, type = "string"] = text.split(":") as [string, TableColumn["type"]?];
    return { name, type, format: name === "Name" ? "name" : "", description: describe(name), priority };
  };
  return [...shown.map(column(0)), ...wide.map(column(1))];
}

function describe(column: string): string {
  if (column === "Name") return "Name of the object, unique among its kind in its namespace.";
  if (column === "Age") return "Time since the object was created.";
  if (column === "Created At") return "When the object was created.";
  return "";
}

/** Ties a printer to the type of the objects that it prints. */
export function printer<T extends KubeObject>(
  columns: TableColumn[],
  cells: (object: T, now: number) => Cell[],
): Printer {
  return { columns, cells: cells as Printer["cells"] };
}

/** The first three, and how many more there are. */
export function firstThree(list: string[]): string {
  const shown = list.slice(0, 3).join(",");
  return list.length > 3 ? `${shown} + ${list.length - 3} more...` : shown;
}

/** `a=1,b=2` in the order of keys, `<none>` when empty. */
export function formatLabels(labels: Record<string, string> | undefined): string {
  const entries = Object.entries(labels ?? {});
  if (entries.length === 0) return "<none>";
  return entries
    .map(([key, value]) => `${key}=${value}`)
    .sort(byBytes)
    .join(",");
}

interface Selector {
  matchLabels?: Record<string, string>;
  matchExpressions?: { key: string; operator: string; values?: string[] }[];
}

/** A label selector as `kubectl get -l` would take it; empty for none. */
export function selectorText(selector: Selector | undefined): string {
  const terms: [string, string][] = Object.entries(selector?.matchLabels ?? {}).map(([key, value]) => [
    key,
    `${key}=${value}`,
  ]);
  for (const { key, operator, values = [] } of selector?.matchExpressions ?? []) {
    const set = `(${[...values].sort(byBytes).join(",")})`;
    if (operator === "In") terms.push([key, `${key} in ${set}`]);
    else if (operator === "NotIn") terms.push([key, `${key} notin ${set}`]);
    else if (operator === "Exists") terms.push([key, key]);
    else if (operator === "DoesNotExist") terms.push([key, `!${key}`]);
    else return "<invalid>";
  }
  return terms
    .sort(([a], [b]) => byBytes(a, b))
    .map(([, term]) => term)
    .join(",");
}

/** Names and images of containers, as two cells. */
export function containerCells(
  containers: readonly { name: string; image?: string }[] | undefined,
): [string, string] {
  const list = containers ?? [];
  return [list.map(({ name }) => name).join(","), list.map(({ image }) => image ?? "").join(",")];
}

/** Go sorts strings by bytes, never by locale. */
export function byBytes(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
