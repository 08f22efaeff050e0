/**
 * Strategic merge patch (apimachinery `util/strategicpatch`): a merge patch that knows from the schema which lists
 * merge by a key, and that carries directives for what a plain merge cannot say.
 */
import {
  equalJson,
  isObject,
  type JsonObject,
  memberSchema,
  type Schema,
  setMember,
} from "../schema/index.ts";
import { PatchError } from "./errors.ts";

const directive = "$patch";
const retainKeys = "$retainKeys";
const badRetainKeys = "invalid patch format of retainKeys";
const orderPrefix = "$setElementOrder/";
const deletePrefix = "$deleteFromPrimitiveList/";

/** Applies a strategic merge patch to a copy of a built-in object. Throws PatchError when the patch is malformed. */
export function strategicMergePatch<T extends object>(schema: Schema, object: T, patch: unknown): T {
  if (!isObject(patch)) throw new PatchError(400, "strategic merge patch must be an object");
  return (mergeMap(structuredClone(object) as JsonObject, structuredClone(patch), schema) ?? {}) as T;
}

function mergeMap(original: JsonObject, patch: JsonObject, schema: Schema | undefined): JsonObject {
  const what = patch[directive];
  if (what !== undefined) {
    if (what === "replace") {
      delete patch[directive];
      return patch;
    }
    if (what === "delete") return {};
    if (what !== "merge")
      throw new PatchError(500, `unknown patch type: ${String(what)} in map: ${goText(patch)}`);
    delete patch[directive];
  }
  applyRetainKeys(original, patch);
  const orders = new Map<string, unknown[]>();
  for (const [name, value] of Object.entries(patch)) {
    if (!name.startsWith(orderPrefix)) continue;
    if (!Array.isArray(value)) throw new PatchError(422, `invalid format for ${name}: it must be a list`);
    orders.set(name.slice(orderPrefix.length), value);
    delete patch[name];
  }
  const liveOrders = new Map<string, unknown[]>();
  for (const [name, value] of Object.entries(patch)) {
    if (name.startsWith(deletePrefix)) deleteFromPrimitives(original, name.slice(deletePrefix.length), value);
    else {
      if (Array.isArray(original[name])) liveOrders.set(name, original[name]);
      const order = mergeMember(original, name, value, memberSchema(schema, name));
      if (order) liveOrders.set(name, order);
    }
  }
  for (const [name, order] of orders) {
    const list = original[name];
    const key = memberSchema(schema, name)?.["x-kubernetes-patch-merge-key"];
    if (Array.isArray(list)) original[name] = inOrder(list, order, liveOrders.get(name) ?? list, key);
  }
  return original;
}

/** Returns the live order of a list that was merged, where that is another one than before. */
function mergeMember(
  original: JsonObject,
  name: string,
  value: unknown,
  schema: Schema | undefined,
): unknown[] | undefined {
  if (value === null) {
    delete original[name];
    return undefined;
  }
  const before = Object.hasOwn(original, name) ? original[name] : undefined;
  const strategies = strategiesOf(schema);
  if (isObject(before) && isObject(value) && !strategies.includes("replace")) {
    setMember(original, name, mergeMap(before, value, schema));
  } else if (Array.isArray(before) && Array.isArray(value) && strategies.includes("merge")) {
    const { merged, liveOrder } = mergeList(before, value, schema);
    setMember(original, name, merged);
    return liveOrder;
  } else {
    const kept = withoutDirectives(value);
    if (kept === undefined) delete original[name];
    else setMember(original, name, kept);
  }
  return undefined;
}

function strategiesOf(schema: Schema | undefined): string[] {
  return schema?.["x-kubernetes-patch-strategy"]?.split(",") ?? [];
}

/** `$retainKeys` lists the only members that may stay; a patch may not set others. */
function applyRetainKeys(original: JsonObject, patch: JsonObject): void {
  const keep = patch[retainKeys];
  if (keep === undefined) return;
  delete patch[retainKeys];
  if (!Array.isArray(keep)) throw new PatchError(400, badRetainKeys);
  for (const [name, value] of Object.entries(patch)) {
    if (value !== null && !name.startsWith("$") && !keep.includes(name)) {
      throw new PatchError(400, badRetainKeys);
    }
  }
  for (const name of Object.keys(original)) if (!keep.includes(name)) delete original[name];
}

function deleteFromPrimitives(original: JsonObject, name: string, gone: unknown): void {
  if (!Array.isArray(gone))
    throw new PatchError(422, `invalid format for ${deletePrefix}${name}: it must be a list`);
  const list = original[name];
  if (!Array.isArray(list)) return;
  original[name] = list.filter((item) => !gone.some((other) => equalJson(item, other)));
}

/**
 * The merged list: the patch's items in the patch's order, and the live order by which `$setElementOrder` may place
 * them anew. Items that a patch adds take, in that order, the places of those that it deletes: kube-apiserver's
 * slices share memory that way, and `kubectl apply` shows it.
 */
function mergeList(
  live: unknown[],
  patch: unknown[],
  schema: Schema | undefined,
): { merged: unknown[]; liveOrder: unknown[] } {
  const key = schema?.["x-kubernetes-patch-merge-key"];
  if (key === undefined || !isObject(patch[0] ?? live[0])) {
    const known = (list: unknown[], item: unknown) => list.some((other) => equalJson(item, other));
    const added = patch.filter((item, i) => !known(live, item) && !known(patch.slice(0, i), item));
    return { merged: inOrder([...live, ...added], patch, live, undefined), liveOrder: live };
  }
  const items = patch as JsonObject[];
  if (items.some((item) => item[directive] === "replace")) {
    const merged = items
      .filter((item) => item[directive] !== "replace")
      .map((item) => withoutDirectives(item));
    return { merged, liveOrder: live };
  }
  const named = items.map((item) => {
    if (!isObject(item) || item[key] === undefined) {
      throw new PatchError(500, `map: ${goText(item)} does not contain declared merge key: ${key}`);
    }
    return item;
  });
  const isSame = (a: unknown, b: JsonObject) => isObject(a) && equalJson(a[key], b[key]);
  const gone = named.filter((item) => item[directive] === "delete");
  const left = live.filter((item) => !gone.some((other) => isSame(item, other)));
  const merged = [...left];
  for (const item of named) {
    if (item[directive] === "delete") continue;
    const at = merged.findIndex((other) => isSame(other, item));
    if (at >= 0) merged[at] = mergeMap(merged[at] as JsonObject, item, schema?.items);
    else merged.push(withoutDirectives(item));
  }
  const asked = named.filter((item) => item[directive] !== "delete");
  return { merged: inOrder(merged, asked, left, key), liveOrder: merged.slice(0, live.length) };
}

/** A value as Go's `%v` prints it. */
export function goText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(goText).join(" ")}]`;
  if (!isObject(value)) return value === null ? "<nil>" : String(value);
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `map[${members.map(([name, member]) => `${name}:${goText(member)}`).join(" ")}]`;
}

/**
 * The order that is asked for. An item that only the server has comes before the first asked-for item that stands
 * behind it in the live order. Items are named by their merge key, or by themselves.
 */
function inOrder(list: unknown[], order: unknown[], live: unknown[], key: string | undefined): unknown[] {
  const identity = (item: unknown) => JSON.stringify(key !== undefined && isObject(item) ? item[key] : item);
  const places = (items: unknown[]) => {
    const found = new Map<string, number>();
    items.forEach((item, i) => {
      if (!found.has(identity(item))) found.set(identity(item), i);
    });
    return found;
  };
  const wanted = places(order);
  const place = places(live);
  const byPlace = (of: Map<string, number>) => (a: unknown, b: unknown) =>
    (of.get(identity(a)) ?? live.length) - (of.get(identity(b)) ?? live.length);
  const named = list.filter((item) => wanted.has(identity(item))).sort(byPlace(wanted));
  const serverOnly = list.filter((item) => !wanted.has(identity(item))).sort(byPlace(place));
  const out: unknown[] = [];
  let next = 0;
  for (const item of named) {
    const behind = place.get(identity(item)) ?? -1;
    while (next < serverOnly.length && (place.get(identity(serverOnly[next])) ?? live.length) < behind) {
      out.push(serverOnly[next++]);
    }
    out.push(item);
  }
  return [...out, ...serverOnly.slice(next)];
}

/** New parts lose nulls and directives; a part that is itself a directive is nothing. */
function withoutDirectives(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutDirectives).filter((item) => item !== undefined);
  if (!isObject(value)) return value;
  if (directive in value) return undefined;
  const out: JsonObject = {};
  for (const [name, member] of Object.entries(value)) {
    if (
      member === null ||
      name.startsWith(orderPrefix) ||
      name.startsWith(deletePrefix) ||
      name === retainKeys
    )
      continue;
    const kept = withoutDirectives(member);
    if (kept !== undefined) setMember(out, name, kept);
  }
  return out;
}
