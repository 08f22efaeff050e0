/** What the API server knows of any object: an envelope, and fields that only schemas understand. */
import type { ObjectMeta } from "../../api/index.ts";

export interface ApiObject {
  apiVersion: string;
  kind: string;
  metadata: { -readonly [field in keyof ObjectMeta]: ObjectMeta[field] };
  [field: string]: unknown;
}

/** A deep copy of plain JSON data. Stored objects are shared and never changed in place. */
export function clone<T>(value: T): T {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(clone) as T;
  const copy: Record<string, unknown> = {};
  for (const key of Object.keys(value)) copy[key] = clone((value as Record<string, unknown>)[key]);
  return copy as T;
}

/** Whether two pieces of plain JSON data are equal. A field that is `undefined` counts as absent. */
export function sameJson(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false;
    return a.every((item, index) => sameJson(item, b[index]));
  }
  const left = a as Record<string, unknown>;
  const right = b as Record<string, unknown>;
  for (const key of Object.keys(left)) {
    if (left[key] !== undefined && !(Object.hasOwn(right, key) && sameJson(left[key], right[key])))
      return false;
  }
  for (const key of Object.keys(right)) {
    if (right[key] !== undefined && (!Object.hasOwn(left, key) || left[key] === undefined)) return false;
  }
  return true;
}

/** An object (not an array, not null), or undefined. */
export function asRecord(value: unknown): Record<string, unknown> | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined;
}

/** The value at a path of field names, or undefined where a step is missing. */
export function valueAt(value: unknown, path: readonly string[]): unknown {
  let at: unknown = value;
  for (const step of path) {
    const record = asRecord(at);
    if (!record || !Object.hasOwn(record, step)) return undefined;
    at = record[step];
  }
  return at;
}
