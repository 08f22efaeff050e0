/** Columns that a CRD asks for (apiextensions-apiserver, registry/customresource/tableconvertor). */
import type * as crd from "kubernetes-types/apiextensions/v1";
import type { KubeObject } from "../../../api/index.ts";
import { byBytes, type Cell, columns, type Printer, type TableColumn } from "./columns.ts";
import { since } from "./duration.ts";
import { compilePath, type Path } from "./jsonpath.ts";

export type PrinterColumn = crd.CustomResourceColumnDefinition;

/** What a CRD without columns of its own is printed with. */
const ageOnly: PrinterColumn[] = [{ name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" }];

/** A column whose path is not understood stays empty; `columnProblem` says so when the CRD is made. */
export function customPrinter(asked: readonly PrinterColumn[] | undefined): Printer {
  const list = asked?.length ? asked : ageOnly;
  const paths = list.map(({ jsonPath }) => (columnProblem(jsonPath) ? () => [] : compilePath(jsonPath)));
  const own = list.map(
    (column): TableColumn => ({
      name: column.name,
      type: column.type as TableColumn["type"],
      format: column.format ?? "",
      description:
        column.description || `Custom resource definition column (in JSONPath format): ${column.jsonPath}`,
      priority: column.priority ?? 0,
    }),
  );
  return {
    columns: [...columns(["Name"]), ...own],
    cells: (object, now) => [
      object.metadata.name,
      ...own.map(({ type }, index) => cell(object, paths[index]!, type, now)),
    ],
  };
}

/** What is wrong with a column's JSONPath, or undefined: for the validation of CRDs. */
export function columnProblem(jsonPath: string): string | undefined {
  try {
    compilePath(jsonPath);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Only the first value that a path finds is shown; one of another type than the column's is not. */
function cell(object: KubeObject, path: Path, type: TableColumn["type"], now: number): Cell {
  const value = path(object)[0];
  if (value === undefined || value === null) return null;
  switch (type) {
    case "string":
      return typeof value === "object" ? goJson(value) : String(value);
    case "integer":
      return typeof value === "number" ? Math.trunc(value) : null;
    case "number":
      return typeof value === "number" ? value : null;
    case "boolean":
      return typeof value === "boolean" ? value : null;
    case "date":
      return typeof value === "string" ? since(value, now) : null;
    default:
      return null;
  }
}

/** JSON as Go writes it: keys in order, `<`, `>` and `&` escaped. */
function goJson(value: object): string {
  const ordered = (_: string, inner: unknown) =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => byBytes(a, b)))
      : inner;
  const escapes: Record<string, string> = { "<": "\\u003c", ">": "\\u003e", "&": "\\u0026" };
  return JSON.stringify(value, ordered).replace(/[<>&]/g, (character) => escapes[character]!);
}
