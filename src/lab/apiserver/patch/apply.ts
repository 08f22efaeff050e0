/**
 * Server-side apply (KEP-555) and the bookkeeping of field managers that it rests on: structured-merge-diff
 * `merge/update.go` and apimachinery `util/managedfields`. All versions of a kind are taken to have the same fields.
 */
import { equalJson, isObject, type JsonObject, type Schema } from "../schema/index.ts";
import { PatchError } from "./errors.ts";
import { FieldSet, field, type Path, pathText } from "./fieldset.ts";
import {
  capUpdaters,
  decodeManagers,
  encodeManagers,
  identityOf,
  type Manager,
  type Managers,
} from "./managers.ts";
import {
  type Comparison,
  compare,
  fieldSetOf,
  mergeTyped,
  removePaths,
  rootOf,
  type Typed,
  withNamedParents,
  zeroObject,
} from "./typed.ts";

/** A field that another manager owns and that the apply would change. */
export interface Conflict {
  manager: string;
  operation: "Apply" | "Update";
  apiVersion: string;
  subresource?: string;
  /** `.spec.replicas` */
  field: string;
  /** `conflict with "kubectl" using v1`: the message of a Status cause (reason `FieldManagerConflict`). */
  message: string;
}

interface Tracked {
  /** Undefined: nothing is known of the kind's fields; maps are granular, lists atomic. */
  schema: Schema | undefined;
  /** Field manager; empty counts as `unknown`. */
  manager: string;
  /** Version that the request used, e.g. `apps/v1`. */
  apiVersion: string;
  subresource?: string | undefined;
  /** RFC 3339 in whole seconds; written to the entries that change. Writes of `/scale` have none. */
  time: string | undefined;
  /** Fields that this endpoint does not write: `["status"]` where there is a status subresource, `metadata.labels`. */
  reset?: readonly string[] | undefined;
}

export interface ApplyRequest<T extends object = object> extends Tracked {
  /** As stored; undefined when the apply creates the object. */
  live: T | undefined;
  applied: T;
  force: boolean;
}

const annotation = "kubectl.kubernetes.io/last-applied-configuration";

/**
 * Applies a configuration: what it names is set and owned by the manager, what the manager named before and no
 * longer does goes unless others own it. With conflicts and without `force` nothing is changed: `object` is the live
 * one. Throws PatchError (400) for a configuration that cannot be applied.
 */
export function applyPatch<T extends object>(request: ApplyRequest<T>): { object: T; conflicts: Conflict[] } {
  const { applied, live, apiVersion } = request;
  const metadata = (applied as JsonObject).metadata;
  if (isObject(metadata) && metadata.managedFields !== undefined && metadata.managedFields !== null) {
    throw new PatchError(400, "metadata.managedFields must be nil");
  }
  const version = (applied as JsonObject).apiVersion;
  if (version !== apiVersion) {
    throw new PatchError(
      400,
      `Incorrect version specified in apply patch. Specified patch version: ${String(version)}, expected: ${apiVersion}`,
    );
  }
  const type = rootOf(request.schema);
  const bare = live ? withoutSystemFields(live) : undefined;
  const managers = (live && decodeManagers(managedFieldsOf(live))) ?? new Map<string, Manager>();
  if (bare && managers.size === 0) {
    // Everything that was there before the first apply belongs to nobody in particular, but to somebody.
    const before: Manager = {
      name: "before-first-apply",
      operation: "Update",
      apiVersion,
      subresource: request.subresource,
      time: request.time,
      // What this endpoint does not write the first apply cannot be about: a Service's status is its controller's.
      set: changes(without(compare(type, zeroObject(request.schema), bare), resetOf(request))),
    };
    managers.set(identityOf(before), before);
  }
  let outcome = tryApply(request, type, bare, managers, request.force);
  if (outcome.conflicts.length > 0 && request.manager === "kubectl" && live) {
    const ours = fieldsOfLastApplied(request, type, live);
    const foreign = outcome.conflicts.filter(({ path }) => !ours?.has(path));
    outcome =
      foreign.length > 0 ? { ...outcome, conflicts: foreign } : tryApply(request, type, bare, managers, true);
  }
  if (outcome.conflicts.length > 0) {
    return { object: live ?? applied, conflicts: outcome.conflicts.map(describe) };
  }
  const object = withManagers(restoreSystemFields(outcome.object, live, applied), outcome.managers);
  if (request.manager === "kubectl") updateLastApplied(object, applied);
  return { object: object as T, conflicts: [] };
}

interface FieldConflict {
  manager: Manager;
  path: Path;
}

interface Outcome {
  object: JsonObject;
  managers: Managers;
  conflicts: FieldConflict[];
}

function tryApply(
  request: ApplyRequest,
  type: Typed,
  live: JsonObject | undefined,
  before: Managers,
  force: boolean,
): Outcome {
  const config = withoutSystemFields(request.applied);
  const managers: Managers = new Map(before);
  const self = selfOf(request, "Apply");
  const id = identityOf(self);
  const last = managers.get(id);
  self.set = stripped(fieldSetOf(type, config)).recursiveDifference(resetOf(request));
  managers.set(id, self);
  const merged = (mergeTyped(type, live ?? {}, config) ?? {}) as JsonObject;
  // Nobody is recorded as the owner of an empty list, so pruning may take one that is applied; merging brings it back.
  const object =
    last && !last.set.isEmpty
      ? (mergeTyped(type, prune(type, merged, managers, last.set), config) as JsonObject)
      : merged;
  const difference = without(compare(type, live ?? {}, object), resetOf(request));
  const conflicts = takeOver(managers, id, difference);
  if (conflicts.length > 0 && !force) return { object: live ?? {}, managers: before, conflicts };
  // The order of a keyed list is nobody's field, but a change nevertheless.
  const isNoop = changes(difference).isEmpty && difference.removed.isEmpty && equalJson(live ?? {}, object);
  // An apply that changes nothing has no time of its own.
  if (isNoop) self.time = last?.time;
  return { object, managers, conflicts: [] };
}

/**
 * Takes away what the manager applied last time, unless it applies it again, or another manager owns it, or it was
 * never there by this manager's doing. A map that becomes empty stays as an empty one where somebody owns it.
 */
function prune(type: Typed, merged: JsonObject, managers: Managers, last: FieldSet): JsonObject {
  const named = (set: FieldSet) => withNamedParents(type, set);
  const all = named(fieldSetOf(type, merged));
  const lastNamed = named(last);
  let pruned = removePaths(type, merged, lastNamed) ?? {};
  let owned = new FieldSet();
  for (const manager of managers.values()) owned = owned.union(manager.set);
  const kept = named(fieldSetOf(type, pruned)).union(named(owned));
  pruned = removePaths(type, merged, all.difference(kept), owned) ?? {};
  const left = named(fieldSetOf(type, pruned));
  return (removePaths(type, merged, all.difference(left).intersection(lastNamed), owned) ?? {}) as JsonObject;
}

/** Removes from all other managers what was changed, and says which of that they owned. */
function takeOver(managers: Managers, self: string, difference: Comparison): FieldConflict[] {
  const changed = changes(difference);
  const conflicts: FieldConflict[] = [];
  if (changed.isEmpty && difference.removed.isEmpty) return conflicts;
  for (const [id, manager] of managers) {
    if (id === self) continue;
    const lost = manager.set.intersection(changed);
    const paths = [...lost.paths()].sort(byPlace);
    for (const path of paths) conflicts.push({ manager, path });
    const set = manager.set.difference(lost).difference(difference.removed);
    if (set.isEmpty) managers.delete(id);
    else if (!set.equals(manager.set)) managers.set(id, { ...manager, set });
  }
  return conflicts;
}

/** The order in which structured-merge-diff walks a set: what ends at a level comes before what goes deeper. */
function byPlace(a: Path, b: Path): number {
  const depth = a.findIndex((element, i) => element !== b[i]);
  if (depth < 0) return -1;
  const ends = [a, b].map((path) => depth === path.length - 1);
  if (ends[0] !== ends[1]) return ends[0] ? -1 : 1;
  return a[depth]! < (b[depth] ?? "") ? -1 : 1;
}

function describe({ manager, path }: FieldConflict): Conflict {
  const { name, operation, apiVersion, subresource } = manager;
  const through = subresource ? ` with subresource ${JSON.stringify(subresource)}` : "";
  const using = operation === "Update" ? ` using ${apiVersion}` : "";
  return {
    manager: name,
    operation,
    apiVersion,
    ...(subresource ? { subresource } : {}),
    field: pathText(path),
    message: `conflict with ${JSON.stringify(name)}${through}${using}`,
  };
}

/** The message of the 409 Status: `Apply failed with 1 conflict: conflict with "kubectl" using v1: .spec.replicas`. */
export function conflictMessage(conflicts: readonly Conflict[]): string {
  if (conflicts.length === 1) {
    return `Apply failed with 1 conflict: ${conflicts[0]!.message}: ${conflicts[0]!.field}`;
  }
  const byManager = Map.groupBy(conflicts, (conflict) =>
    conflict.message.replace("conflict with", "conflicts with"),
  );
  const parts = [...byManager]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([message, of]) => `${message}:\n${of.map((conflict) => `- ${conflict.field}`).join("\n")}`);
  return `Apply failed with ${conflicts.length} conflicts: ${parts.join("\n")}`;
}

/**
 * What `kubectl apply` without --server-side set and nobody changed since: kubectl may take that over without force
 * when it goes on with --server-side.
 */
function fieldsOfLastApplied(request: ApplyRequest, type: Typed, live: object): FieldSet | undefined {
  const text = annotationsOf(live)?.[annotation];
  if (typeof text !== "string" || text === "") return undefined;
  let last: unknown;
  try {
    last = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(last) || last.apiVersion !== request.apiVersion) return undefined;
  const config = withoutSystemFields(last);
  const { added, modified, removed } = compare(type, config, withoutSystemFields(live));
  return fieldSetOf(type, config).difference(modified).difference(added).difference(removed);
}

/** Keeps the annotation of client-side apply in step, so that going back to it works. */
function updateLastApplied(object: JsonObject, applied: object): void {
  const annotations = annotationsOf(object);
  if (!annotations?.[annotation]) return;
  const copy = structuredClone(applied) as JsonObject;
  const own = annotationsOf(copy);
  if (own) delete own[annotation];
  object.metadata = {
    ...(object.metadata as JsonObject),
    annotations: { ...annotations, [annotation]: `${JSON.stringify(sorted(copy))}\n` },
  };
}

/** Members by name, as Go writes maps. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isObject(value)) return value;
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(members.map(([name, member]) => [name, sorted(member)]));
}

function annotationsOf(object: object): JsonObject | undefined {
  const metadata = (object as JsonObject).metadata;
  return isObject(metadata) && isObject(metadata.annotations) ? metadata.annotations : undefined;
}

export interface UpdateToTrack<T extends object = object> extends Tracked {
  /** As stored; undefined on creation. */
  before: T | undefined;
  /** What will be stored. */
  after: T;
}

/**
 * Records who changed what by any write but apply, and returns `after` with its `managedFields`. Clients may write
 * managedFields themselves: an empty list (or one empty entry) resets them, and then nothing is tracked until the
 * next apply.
 */
export function trackUpdate<T extends object>(update: UpdateToTrack<T>): T {
  const { before, after } = update;
  const sent = managedFieldsOf(after);
  const stored = before && managedFieldsOf(before);
  const isReset =
    Array.isArray(sent) &&
    (sent.length === 0 || (sent.length === 1 && isObject(sent[0]) && Object.keys(sent[0]).length === 0));
  let managers: Managers;
  if (update.subresource) managers = decodeManagers(stored) ?? new Map();
  else if (isReset) managers = new Map();
  else {
    const decoded = decodeManagers(sent);
    managers = decoded && decoded.size > 0 ? decoded : (decodeManagers(stored) ?? new Map());
  }
  if (before && managers.size === 0) return withManagers(after as JsonObject, managers) as T;

  const type = rootOf(update.schema);
  const left = before ? withoutSystemFields(before) : zeroObject(update.schema);
  const difference = without(compare(type, left, withoutSystemFields(after)), resetOf(update));
  takeOver(managers, "", difference);
  const set = stripped(changes(difference));
  if (!set.isEmpty) {
    const self = selfOf(update, "Update");
    const id = identityOf(self);
    self.set = managers.get(id)?.set.union(set) ?? set;
    managers.set(id, self);
  }
  capUpdaters(managers);
  return withManagers(after as JsonObject, managers) as T;
}

/** Whether any manager owns the field at a path of names. */
export function isOwned(object: object, names: readonly string[]): boolean {
  const wanted = FieldSet.of(names.map(field));
  const managers = decodeManagers(managedFieldsOf(object)) ?? new Map<string, Manager>();
  return [...managers.values()].some(({ set }) => !set.intersection(wanted).isEmpty);
}

function selfOf(by: Tracked, operation: Manager["operation"]): Manager {
  const { apiVersion, subresource, time } = by;
  return { name: by.manager || "unknown", operation, apiVersion, subresource, time, set: new FieldSet() };
}

function changes(difference: Comparison): FieldSet {
  return difference.added.union(difference.modified);
}

function without({ added, modified, removed }: Comparison, reset: FieldSet): Comparison {
  return {
    added: added.recursiveDifference(reset),
    modified: modified.recursiveDifference(reset),
    removed: removed.recursiveDifference(reset),
  };
}

function resetOf(by: Tracked): FieldSet {
  const paths = by.reset ?? (by.subresource === "status" ? ["spec"] : []);
  return FieldSet.of(...paths.map((path) => path.split(".").map(field)));
}

const ownedByNobody = FieldSet.of([field("metadata")]);

function stripped(set: FieldSet): FieldSet {
  return set.difference(ownedByNobody);
}

const systemFields = [
  "name",
  "namespace",
  "creationTimestamp",
  "selfLink",
  "uid",
  "generation",
  "managedFields",
  "resourceVersion",
];

/** A view of an object without what no manager can own. */
function withoutSystemFields(object: object): JsonObject {
  const { apiVersion: _, kind: __, ...rest } = object as JsonObject;
  if (!isObject(rest.metadata)) return rest;
  const metadata = { ...rest.metadata };
  for (const name of systemFields) delete metadata[name];
  return { ...rest, metadata };
}

function restoreSystemFields(object: JsonObject, live: object | undefined, applied: object): JsonObject {
  const source = (live ?? applied) as JsonObject;
  const from = isObject(source.metadata) ? source.metadata : {};
  const sent = (applied as JsonObject).metadata;
  const metadata: JsonObject = { ...(isObject(object.metadata) ? object.metadata : {}) };
  for (const name of systemFields) if (from[name] !== undefined) metadata[name] = from[name];
  // What a client says it has read is checked by the API server, so it must come through.
  if (isObject(sent))
    for (const name of ["resourceVersion", "uid", "name", "namespace"])
      if (sent[name]) metadata[name] = sent[name];
  const { apiVersion, kind } = applied as JsonObject;
  return { apiVersion, kind, ...object, metadata };
}

function managedFieldsOf(object: object): unknown {
  const metadata = (object as JsonObject).metadata;
  return isObject(metadata) ? metadata.managedFields : undefined;
}

function withManagers(object: JsonObject, managers: Managers): JsonObject {
  const { managedFields: _, ...metadata } = isObject(object.metadata) ? object.metadata : {};
  const entries = encodeManagers(managers);
  return { ...object, metadata: entries.length > 0 ? { ...metadata, managedFields: entries } : metadata };
}
