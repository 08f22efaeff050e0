/**
 * Whether an object in the API is what a field manager wants it to be, without knowing the kind's schema.
 * What the server filled in by default is no difference. The structure of lists is read off the manager's own
 * entry in managedFields (FieldsV1, see structured-merge-diff `fieldpath/serialize.go`).
 */
import type { KubeObject } from "../api/index.ts";

/** FieldsV1: `f:name` for fields, `k:{...}` and `v:...` for list items, `.` for the container itself. */
export type OwnedFields = { [path: string]: OwnedFields };

/** What `manager` owns of the object by server-side apply, of its status when `subresource` says so. */
function ownedFields(object: KubeObject, manager: string, subresource?: string): OwnedFields | undefined {
  const entry = object.metadata.managedFields?.find(
    (entry) =>
      entry.manager === manager &&
      entry.operation === "Apply" &&
      (entry.subresource || undefined) === subresource,
  );
  return entry?.fieldsV1 as OwnedFields | undefined;
}

/**
 * Whether every field of `desired` has its value in `observed`. Lists that `owned` shows to be maps or sets may
 * have further items and another order. One that it shows to be ours as a whole (atomic) is ours to the last
 * field of its items, which managedFields does not list; of other lists every item counts.
 */
export function covers(observed: unknown, desired: unknown, owned?: OwnedFields): boolean {
  if (desired === undefined || desired === null) return true;
  if (typeof desired !== "object") return observed === desired;
  if (Array.isArray(desired)) {
    if (observed === undefined || observed === null) return desired.length === 0;
    if (!Array.isArray(observed)) return false;
    if (isAtomic(owned)) return same(observed, desired);
    if (observed.length === desired.length && desired.every((item, i) => covers(observed[i], item)))
      return true;
    return isAssociative(owned) && desired.every((item) => observed.some((other) => covers(other, item)));
  }
  const fields = Object.entries(desired);
  if (observed === undefined || observed === null) {
    return fields.every(([, value]) => covers(undefined, value));
  }
  if (typeof observed !== "object" || Array.isArray(observed)) return false;
  return fields.every(([name, value]) => covers((observed as Fields)[name], value, owned?.[`f:${name}`]));
}

type Fields = Record<string, unknown>;

function isAssociative(owned: OwnedFields | undefined): boolean {
  return (
    owned !== undefined && Object.keys(owned).some((path) => path.startsWith("k:") || path.startsWith("v:"))
  );
}

function isAtomic(owned: OwnedFields | undefined): boolean {
  return owned !== undefined && Object.keys(owned).length === 0;
}

/** Equal to the last field; undefined and absent are one. */
function same(observed: unknown, desired: unknown): boolean {
  if (typeof desired !== "object" || desired === null) return observed === (desired ?? undefined);
  if (typeof observed !== "object" || observed === null) return false;
  if (Array.isArray(desired) !== Array.isArray(observed)) return false;
  const names = new Set([...Object.keys(desired), ...Object.keys(observed)]);
  return [...names].every((name) => same((observed as Fields)[name], (desired as Fields)[name]));
}

/** Whether the manager still owns a field that it does not want any more, so that it must be withdrawn. */
function ownsMore(owned: OwnedFields | undefined, desired: unknown): boolean {
  for (const [path, inner] of Object.entries(owned ?? {})) {
    if (path === ".") continue;
    const child = childAt(path, desired);
    if (child === undefined || child === null || ownsMore(inner, child)) return true;
  }
  return false;
}

function childAt(path: string, desired: unknown): unknown {
  const name = path.slice(2);
  switch (path.slice(0, 2)) {
    case "f:":
      return isFields(desired) ? desired[name] : undefined;
    case "k:": {
      if (!Array.isArray(desired)) return undefined;
      const keys = Object.entries(JSON.parse(name) as Fields);
      // A key that the desired item leaves out has been given its default by the server.
      return desired.find((item) =>
        keys.every(([key, value]) => item?.[key] === undefined || item[key] === value),
      );
    }
    case "v:": {
      if (!Array.isArray(desired)) return undefined;
      const value: unknown = JSON.parse(name);
      return desired.find((item) => covers(item, value)) === undefined ? undefined : true;
    }
    default:
      return desired;
  }
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * `desired` with the values that the server made of it (it may write `1000m` as `1`, or drop what is empty):
 * what later observations are compared with.
 */
function asStored(desired: unknown, stored: unknown, owned?: OwnedFields): unknown {
  if (desired === undefined || desired === null || stored === undefined || stored === null) return stored;
  if (typeof desired !== "object" || typeof stored !== "object") return stored;
  if (Array.isArray(desired)) {
    if (!Array.isArray(stored) || stored.length !== desired.length || isAtomic(owned)) return stored;
    return desired.map((item, i) => asStored(item, stored[i]));
  }
  return Object.fromEntries(
    Object.entries(desired).map(([name, value]) => [
      name,
      asStored(value, (stored as Fields)[name], owned?.[`f:${name}`]),
    ]),
  );
}

/**
 * Compares objects with what is wanted of them, and remembers where the server does not store what it is told
 * literally, so that no such difference is written again and again.
 */
export class Comparison {
  readonly #manager: string;
  readonly #subresource: string | undefined;
  readonly #stored = new Map<string, Stored>();

  constructor(manager: string, subresource?: string) {
    this.#manager = manager;
    this.#subresource = subresource;
  }

  /** Whether nothing needs to be written. `row` is the identity of what `wanted` was made from. */
  matches(name: string, row: unknown, wanted: object, current: KubeObject): boolean {
    const owned = ownedFields(current, this.#manager, this.#subresource);
    const stored = this.#stored.get(name);
    if (!stored || stored.row !== row) return !ownsMore(owned, wanted) && covers(current, wanted, owned);
    // The very object that our last write of this row left: another would leave it too.
    if (stored.version !== undefined && stored.version === current.metadata.resourceVersion) return true;
    return (stored.surplus || !ownsMore(owned, wanted)) && covers(current, stored.as, owned);
  }

  /** Whether the manager owns anything of the object. */
  ownsAny(current: KubeObject): boolean {
    return ownsMore(ownedFields(current, this.#manager, this.#subresource), undefined);
  }

  wrote(name: string, row: unknown, wanted: object, made: KubeObject): void {
    const owned = ownedFields(made, this.#manager, this.#subresource);
    const surplus = ownsMore(owned, wanted);
    if (!surplus && covers(made, wanted, owned)) {
      this.#stored.delete(name);
      return;
    }
    const version = made.metadata.resourceVersion;
    this.#stored.set(name, { row, as: asStored(wanted, made, owned), surplus, version });
  }

  forget(name: string): void {
    this.#stored.delete(name);
  }
}

/** What a write left that is not literally what was wanted. */
interface Stored {
  row: unknown;
  /** The wanted fields with the values that the server gave them. */
  as: unknown;
  /** The server counts fields as ours that we did not name. */
  surplus: boolean;
  version: string | undefined;
}
