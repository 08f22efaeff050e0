/**
 * Values walked by their schema (structured-merge-diff `typed`): which paths a value has, how two values differ,
 * merging them, and taking paths away. What counts as one field follows from the schema: scalars, atomic lists and
 * atomic maps are leaves; structs, maps, sets and keyed lists go on.
 */
import {
  equalJson,
  isObject,
  type JsonObject,
  memberSchema,
  objectMetaSchema,
  type Schema,
  setMember,
} from "../schema/index.ts";
import { PatchError } from "./errors.ts";
import { FieldSet, field, type Path, pathText } from "./fieldset.ts";
import { goText } from "./strategic.ts";

/** A schema node and where it stands: the root and embedded resources have Kubernetes' own metadata. */
export interface Typed {
  schema: Schema | undefined;
  isResource: boolean;
}

export const rootOf = (schema: Schema | undefined): Typed => ({ schema, isResource: true });

const untyped: Typed = { schema: undefined, isResource: false };

function memberOf(type: Typed, name: string): Typed {
  if (type.isResource && name === "metadata") return { schema: objectMetaSchema(), isResource: false };
  const schema = memberSchema(type.schema, name);
  return schema ? { schema, isResource: schema["x-kubernetes-embedded-resource"] === true } : untyped;
}

function itemOf(type: Typed): Typed {
  const schema = type.schema?.items;
  return schema ? { schema, isResource: schema["x-kubernetes-embedded-resource"] === true } : untyped;
}

/** Whether a member is a named field of a struct, not an entry of a map. */
function isNamed(type: Typed, name: string): boolean {
  if (type.isResource && (name === "metadata" || name === "kind" || name === "apiVersion")) return true;
  return type.schema?.properties !== undefined && Object.hasOwn(type.schema.properties, name);
}

type Shape = "leaf" | "map" | "set" | "keyed";

function shapeOf(type: Typed, value: unknown): Shape {
  if (Array.isArray(value)) {
    const list = type.schema?.["x-kubernetes-list-type"];
    return list === "set" ? "set" : list === "map" ? "keyed" : "leaf";
  }
  if (!isObject(value)) return "leaf";
  return type.schema?.["x-kubernetes-map-type"] === "atomic" ? "leaf" : "map";
}

/** The element that names a list's item. Throws PatchError (400) where an item cannot be named. */
function elementOf(type: Typed, shape: Shape, item: unknown): string {
  if (shape === "set") {
    if (typeof item === "object")
      throw new PatchError(400, "associative list without keys has an element that is no scalar");
    return `v:${JSON.stringify(item)}`;
  }
  if (!isObject(item)) throw new PatchError(400, "associative list with keys may not have non-map elements");
  const names = type.schema?.["x-kubernetes-list-map-keys"] ?? [];
  const keys: JsonObject = {};
  for (const name of [...names].sort()) {
    const value = item[name] ?? type.schema?.items?.properties?.[name]?.default;
    if (value !== undefined) keys[name] = value;
  }
  if (Object.keys(keys).length === 0) {
    const shown = names.map((name) => JSON.stringify(name)).join(" ");
    throw new PatchError(
      400,
      `associative list with keys has an element that omits all key fields [${shown}] (and doesn't have default values for any key fields)`,
    );
  }
  return `k:${JSON.stringify(keys)}`;
}

/**
 * What of an object is not of its schema's types (structured-merge-diff `typed/validate.go`): an apply of such a
 * configuration is an error of its own, before anything is decoded.
 */
export function typeProblems(schema: Schema, object: object): string[] {
  const problems: string[] = [];
  findProblems(rootOf(schema), object, [], problems);
  return problems;
}

function goTypeOf(value: unknown): string {
  if (Array.isArray(value)) return "[]interface {}";
  if (isObject(value)) return "map[string]interface {}";
  if (typeof value === "number") return Number.isInteger(value) ? "int64" : "float64";
  return typeof value === "boolean" ? "bool" : "string";
}

function findProblems(type: Typed, value: unknown, path: Path, problems: string[]): void {
  const { schema } = type;
  if (!schema || value === null) return;
  const report = (says: string) => problems.push(`${pathText(path) || "."}: ${says}`);
  const kind = schema["x-kubernetes-int-or-string"] ? undefined : schema.type;
  if (kind === "string") {
    if (typeof value !== "string")
      report(`expected string, got &value.valueUnstructured{Value:${goText(value)}}`);
  } else if (kind === "boolean") {
    if (typeof value !== "boolean") report(`expected boolean, got ${goTypeOf(value)}`);
  } else if (kind === "integer" || kind === "number") {
    if (typeof value !== "number") report(`expected numeric (int or float), got ${goTypeOf(value)}`);
  } else if (kind === "array") {
    if (!Array.isArray(value)) report(`expected list, got &{${goText(value)}}`);
    else {
      const shape = shapeOf(type, value);
      const seen = new Set<string>();
      value.forEach((item: unknown, index) => {
        const element = shape === "leaf" ? `i:${index}` : elementOf(type, shape, item);
        if (seen.has(element)) report(`duplicate entries for key ${pathText([element])}`);
        seen.add(element);
        findProblems(itemOf(type), item, [...path, element], problems);
      });
    }
  } else if (kind === "object" || schema.properties) {
    if (!isObject(value)) report(`expected map, got &{${goText(value)}}`);
    else {
      for (const [name, member] of Object.entries(value)) {
        if (type.isResource && (name === "apiVersion" || name === "kind")) continue;
        const known = memberOf(type, name);
        const isOpen = schema["x-kubernetes-preserve-unknown-fields"] || !schema.properties;
        if (known === untyped && !isOpen)
          problems.push(`${pathText([...path, field(name)])}: field not declared in schema`);
        else findProblems(known, member, [...path, field(name)], problems);
      }
    }
  }
}

/** Every path that a value has. */
export function fieldSetOf(type: Typed, value: unknown): FieldSet {
  const set = new FieldSet();
  collect(type, value, set);
  return set;
}

function collect(type: Typed, value: unknown, into: FieldSet): void {
  const shape = shapeOf(type, value);
  if (shape === "leaf") {
    into.own = true;
  } else if (shape === "map") {
    for (const [name, member] of Object.entries(value as JsonObject)) {
      const child = new FieldSet();
      collect(memberOf(type, name), member, child);
      const isBare = member === null || (isObject(member) && Object.keys(member).length === 0);
      if (isBare || !isNamed(type, name)) child.own = true;
      if (!child.isEmpty) into.children.set(field(name), child);
    }
  } else {
    for (const item of value as unknown[]) {
      const child = into.childFor(elementOf(type, shape, item));
      if (child.own) child.children.clear();
      else collect(itemOf(type), item, child);
      child.own = true;
    }
  }
}

export interface Comparison {
  added: FieldSet;
  modified: FieldSet;
  removed: FieldSet;
}

/** How `after` differs from `before`. `undefined` is an absent value. */
export function compare(type: Typed, before: unknown, after: unknown): Comparison {
  const difference = { added: new FieldSet(), modified: new FieldSet(), removed: new FieldSet() };
  compareInto(type, before, after, [], difference);
  return difference;
}

function compareInto(type: Typed, before: unknown, after: unknown, path: Path, out: Comparison): void {
  if (before === after) return;
  const shape = commonShape(type, before, after);
  if (shape === "leaf") {
    if (before === undefined) out.added.insert(path);
    else if (after === undefined) out.removed.insert(path);
    else if (!equalJson(before, after)) out.modified.insert(path);
    return;
  }
  if (shape === "map") {
    const left = isObject(before) ? before : {};
    const right = isObject(after) ? after : {};
    for (const name of new Set([...Object.keys(left), ...Object.keys(right)])) {
      const l = Object.hasOwn(left, name) ? left[name] : undefined;
      const r = Object.hasOwn(right, name) ? right[name] : undefined;
      compareInto(memberOf(type, name), l, r, [...path, field(name)], out);
    }
  } else {
    compareLists(type, shape, before, after, path, out);
  }
  if (before === undefined) out.added.insert(path);
  else if (after === undefined) out.removed.insert(path);
}

/** Two empty or absent containers are one leaf: that keeps the difference between nothing and `{}`. */
function commonShape(type: Typed, before: unknown, after: unknown): Shape {
  const shape = shapeOf(type, isEmpty(after) ? (isEmpty(before) ? undefined : before) : after);
  const other = isEmpty(before) || isEmpty(after) ? shape : shapeOf(type, before);
  return shape === other ? shape : "leaf";
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null) return true;
  return Array.isArray(value) ? value.length === 0 : isObject(value) && Object.keys(value).length === 0;
}

function compareLists(
  type: Typed,
  shape: Shape,
  before: unknown,
  after: unknown,
  path: Path,
  out: Comparison,
): void {
  const left = itemsByElement(type, shape, before);
  const right = itemsByElement(type, shape, after);
  for (const element of new Set([...left.keys(), ...right.keys()])) {
    const l = left.get(element) ?? [];
    const r = right.get(element) ?? [];
    const at = [...path, element];
    if (l.length <= 1 && r.length <= 1) {
      compareInto(itemOf(type), l[0], r[0], at, out);
    } else if (l.length >= 2 && r.length >= 2) {
      // Items with the same name stand for one atomic field.
      if (!equalJson(l, r)) out.modified.insert(at);
    } else if (l.length >= 2) {
      if (r.length > 0) compareInto(itemOf(type), undefined, r[0], at, out);
      out.removed.insert(at);
    } else {
      if (l.length > 0) compareInto(itemOf(type), l[0], undefined, at, out);
      out.added.insert(at);
    }
  }
}

function itemsByElement(type: Typed, shape: Shape, list: unknown): Map<string, unknown[]> {
  const items = new Map<string, unknown[]>();
  for (const item of Array.isArray(list) ? list : []) {
    const element = elementOf(type, shape, item);
    const same = items.get(element);
    if (same) same.push(item);
    else items.set(element, [item]);
  }
  return items;
}

/** The live value with the applied one laid over it. Neither is changed; parts may be shared with the result. */
export function mergeTyped(type: Typed, live: unknown, applied: unknown): unknown {
  if (applied === undefined) return live;
  if (live === undefined && shapeOf(type, applied) === "leaf") return applied;
  const shape = commonShape(type, live, applied);
  if (shape === "leaf") return applied;
  if (shape === "map") {
    const out: JsonObject = { ...(isObject(live) ? live : {}) };
    for (const [name, member] of Object.entries(isObject(applied) ? applied : {})) {
      const before = Object.hasOwn(out, name) ? out[name] : undefined;
      setMember(out, name, mergeTyped(memberOf(type, name), before, member));
    }
    return out;
  }
  return mergeLists(type, shape, Array.isArray(live) ? live : [], Array.isArray(applied) ? applied : []);
}

/**
 * Items of both lists in the order that was applied; items that only the live list has stay in front of the shared
 * item that they stood before.
 */
function mergeLists(type: Typed, shape: Shape, live: unknown[], applied: unknown[]): unknown[] {
  const wanted = new Map<string, unknown>();
  for (const item of applied) {
    const element = elementOf(type, shape, item);
    if (wanted.has(element)) throw new PatchError(400, `duplicate entries for key ${element.slice(2)}`);
    wanted.set(element, item);
  }
  const existing = live.map((item) => ({ element: elementOf(type, shape, item), item }));
  const found = new Map<string, unknown>();
  for (const { element, item } of existing) found.set(element, found.has(element) ? undefined : item);
  const shared = [...wanted.keys()].filter((element) => found.has(element));
  const out: unknown[] = [];
  let next = 0;
  let passed = 0;
  const passLiveOnly = (until: string | undefined) => {
    for (; next < existing.length && existing[next]!.element !== until; next++) {
      if (!wanted.has(existing[next]!.element)) out.push(existing[next]!.item);
    }
  };
  for (const [element, item] of wanted) {
    passLiveOnly(shared[passed]);
    out.push(mergeTyped(itemOf(type), found.get(element), item));
    if (element === shared[passed]) passed++;
  }
  passLiveOnly(undefined);
  return out;
}

/**
 * The value without the paths of the set. Containers that become empty go too, but for those that `keep` names:
 * `undefined` when all is gone.
 */
export function removePaths(type: Typed, value: unknown, gone: FieldSet, keep?: FieldSet): unknown {
  if (gone.children.size === 0) return value;
  const shape = shapeOf(type, value);
  if (shape === "leaf") return Array.isArray(value) || isObject(value) ? undefined : value;
  const isKept = keep?.own === true;
  if (shape === "map") {
    const out: JsonObject = {};
    for (const [name, member] of Object.entries(value as JsonObject)) {
      const element = field(name);
      const below = gone.children.get(element);
      if (below?.own) continue;
      const kept = below
        ? removePaths(memberOf(type, name), member, below, keep?.children.get(element))
        : member;
      if (kept !== undefined) setMember(out, name, kept);
    }
    return isKept || Object.keys(out).length > 0 ? out : undefined;
  }
  const out: unknown[] = [];
  for (const item of value as unknown[]) {
    const element = elementOf(type, shape, item);
    const below = gone.children.get(element);
    if (below?.own) continue;
    const kept = below ? removePaths(itemOf(type), item, below, keep?.children.get(element)) : item;
    if (kept !== undefined) out.push(kept);
  }
  return isKept || out.length > 0 ? out : undefined;
}

/** The set with every named field on the way to its paths: `a.b.c` then has `a` too, where `a` is a field of a struct. */
export function withNamedParents(type: Typed, set: FieldSet): FieldSet {
  const out = new FieldSet();
  out.own = set.own;
  for (const [element, child] of set.children) {
    const name = element.startsWith("f:") ? element.slice(2) : undefined;
    const below = withNamedParents(name === undefined ? itemOf(type) : memberOf(type, name), child);
    if (name !== undefined && isNamed(type, name)) below.own = true;
    out.children.set(element, below);
  }
  return out;
}

/**
 * What Go's zero value of a kind looks like in JSON: structs that are no pointers are there, and required lists are
 * null. Custom kinds have none of that. A creation is compared with this, so that only what was given has an owner.
 */
export function zeroObject(schema: Schema | undefined): JsonObject {
  const out: JsonObject = {};
  for (const [name, property] of Object.entries(schema?.properties ?? {})) {
    if (isObject(property.default) && Object.keys(property.default).length === 0)
      out[name] = zeroObject(property);
    else if (property.type === "array" && schema?.required?.includes(name)) out[name] = null;
    else if (property.default === "") out[name] = "";
  }
  return out;
}
