/** `metadata.managedFields` read and written (apimachinery `util/managedfields`). */
import type { ManagedFieldsEntry } from "../../../api/index.ts";
import { isObject, type JsonObject } from "../schema/index.ts";
import { FieldSet } from "./fieldset.ts";

export interface Manager {
  name: string;
  operation: "Apply" | "Update";
  apiVersion: string;
  subresource: string | undefined;
  time: string | undefined;
  set: FieldSet;
}

/** By identity: two entries with the same are one manager. */
export type Managers = Map<string, Manager>;

/** Appliers are the same manager in whatever version they apply. */
export function identityOf(
  manager: Pick<Manager, "name" | "operation" | "apiVersion" | "subresource">,
): string {
  const { name, operation, apiVersion, subresource } = manager;
  return JSON.stringify([name, operation, operation === "Apply" ? "" : apiVersion, subresource ?? ""]);
}

// Stored objects are never changed, so an entry's set is read once however often the object is written.
const read = new WeakMap<object, FieldSet>();
const written = new WeakMap<FieldSet, JsonObject>();

/** Undefined when an entry is not what an API server writes. */
export function decodeManagers(entries: unknown): Managers | undefined {
  const managers: Managers = new Map();
  for (const entry of Array.isArray(entries) ? (entries as unknown[]) : []) {
    if (!isObject(entry)) return undefined;
    const { manager, operation, apiVersion, fieldsType, fieldsV1, subresource, time } = entry as JsonObject;
    if (operation !== "Apply" && operation !== "Update") return undefined;
    if (typeof apiVersion !== "string" || apiVersion === "" || fieldsType !== "FieldsV1") return undefined;
    const decoded: Manager = {
      name: typeof manager === "string" ? manager : "",
      operation,
      apiVersion,
      subresource: typeof subresource === "string" && subresource !== "" ? subresource : undefined,
      time: typeof time === "string" ? time : undefined,
      set: setOf(fieldsV1),
    };
    managers.set(identityOf(decoded), decoded);
  }
  return managers;
}

function setOf(fields: unknown): FieldSet {
  if (!isObject(fields)) return new FieldSet();
  let set = read.get(fields);
  if (!set) {
    set = FieldSet.fromFields(fields);
    read.set(fields, set);
    written.set(set, fields);
  }
  return set;
}

function fieldsOf(set: FieldSet): JsonObject {
  let fields = written.get(set);
  if (!fields) {
    fields = set.toFields();
    written.set(set, fields);
    read.set(fields, set);
  }
  return fields;
}

/** Appliers first, then by time, name, version and subresource, as an API server writes them. */
export function encodeManagers(managers: Managers): ManagedFieldsEntry[] {
  const order = (m: Manager) => [m.operation, m.time ?? "", m.name, m.apiVersion, m.subresource ?? ""];
  return [...managers.values()]
    .filter((manager) => !manager.set.isEmpty)
    .map((manager) => ({ manager, by: order(manager) }))
    .sort((a, b) => {
      const i = a.by.findIndex((part, n) => part !== b.by[n]);
      return i < 0 ? 0 : a.by[i]! < b.by[i]! ? -1 : 1;
    })
    .map(({ manager: { name, operation, apiVersion, subresource, time, set } }) => ({
      manager: name,
      operation,
      apiVersion,
      ...(time === undefined ? {} : { time }),
      fieldsType: "FieldsV1",
      fieldsV1: fieldsOf(set),
      ...(subresource === undefined ? {} : { subresource }),
    }));
}

const mostUpdaters = 10;

/** More than ten Update managers become fewer: the oldest of each version are put together as `ancient-changes`. */
export function capUpdaters(managers: Managers): void {
  const updaters = [...managers.entries()]
    .filter(([, manager]) => manager.operation === "Update")
    .sort(([a, x], [b, y]) =>
      (x.time ?? "") === (y.time ?? "") ? (a < b ? -1 : 1) : (x.time ?? "") < (y.time ?? "") ? -1 : 1,
    );
  let count = updaters.length;
  const first = new Map<string, string>();
  for (const [id, manager] of updaters) {
    if (count <= mostUpdaters) return;
    const { apiVersion } = manager;
    const before = first.get(apiVersion);
    if (before === undefined) {
      first.set(apiVersion, id);
      continue;
    }
    const bucket: Manager = {
      name: "ancient-changes",
      operation: "Update",
      apiVersion,
      subresource: undefined,
      time: manager.time,
      set: manager.set,
    };
    const bucketId = identityOf(bucket);
    const older = managers.get(bucketId) ?? managers.get(before);
    if (!managers.has(bucketId)) managers.delete(before);
    if (older) bucket.set = older.set.union(manager.set);
    managers.delete(id);
    managers.set(bucketId, bucket);
    count--;
  }
}
