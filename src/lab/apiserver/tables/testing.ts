/** Rows of tables for tests. */
import assert from "node:assert/strict";
import type { KubeObject } from "../../../api/index.ts";
import { type Cell, type PrinterColumn, tableFor } from "./index.ts";

/** The moment at which tables are made, ms. */
export const now = Date.parse("2026-11-20T12:00:00.400Z");
/** A creation time so many seconds before it. */
export const ago = (seconds: number) => `${new Date(now - 400 - seconds * 1000).toISOString().slice(0, 19)}Z`;

export type Loose = Record<string, unknown>;

/** One object's row under its columns' headers, as kubectl would show it with -o wide. */
export function row(
  group: string,
  kind: string,
  object: Loose,
  crdColumns?: PrinterColumn[],
): Record<string, Cell> {
  const whole = {
    apiVersion: "v1",
    kind,
    ...object,
    metadata: { name: "serve", creationTimestamp: ago(1500), ...(object.metadata as Loose) },
  } as unknown as KubeObject;
  const { columnDefinitions, rows } = tableFor({ group, version: "v1", kind }, crdColumns, [whole], { now });
  assert.equal(rows[0]!.cells.length, columnDefinitions.length, "a cell for every column");
  return Object.fromEntries(columnDefinitions.map(({ name }, i) => [name.toUpperCase(), rows[0]!.cells[i]!]));
}
