/**
 * The metadata of objects: names, labels, annotations, finalizers, and which fields clients may not change.
 * Source: apimachinery `pkg/api/validation/objectmeta.go`.
 */
import {
  checkAnnotations,
  checkLabels,
  dns1035Label,
  dnsLabel,
  dnsSubdomain,
  pathSegment,
  qualifiedName,
} from "./builtin/index.ts";
import type { ApiObject } from "./object.ts";
import { asRecord, sameJson } from "./object.ts";
import type { ResourceType } from "./registry.ts";
import { type FieldError, invalid } from "./schema/index.ts";

/** What is wrong with a new object's name. */
function nameProblems(type: ResourceType, name: string): string[] {
  if (type.group === "rbac.authorization.k8s.io") return pathSegment(name);
  if (type.group === "" && type.plural === "namespaces") return dnsLabel(name);
  if (type.group === "" && type.plural === "services") return dns1035Label(name);
  return dnsSubdomain(name);
}

/** The rules that every object's metadata has to keep, as causes of a 422. */
export function validateMetadata(
  type: ResourceType,
  object: ApiObject,
  current: ApiObject | undefined,
): FieldError[] {
  const causes: FieldError[] = [];
  const metadata = object.metadata as unknown as Record<string, unknown>;
  const name = metadata.name;
  if (typeof name !== "string" || name === "") {
    causes.push({
      field: "metadata.name",
      type: "FieldValueRequired",
      detail: "name or generateName is required",
    });
  } else {
    for (const problem of current ? [] : nameProblems(type, name)) {
      causes.push(invalid("metadata.name", name, problem));
    }
  }
  causes.push(...stringMap(metadata.labels, "metadata.labels", checkLabels));
  causes.push(...stringMap(metadata.annotations, "metadata.annotations", checkAnnotations));
  const finalizers = metadata.finalizers;
  if (finalizers !== undefined) {
    if (!Array.isArray(finalizers) || finalizers.some((item) => typeof item !== "string")) {
      causes.push({
        field: "metadata.finalizers",
        type: "FieldValueInvalid",
        value: finalizers,
        detail: "must be a list of names",
      });
    } else {
      for (const finalizer of finalizers as string[]) {
        for (const problem of qualifiedName(finalizer)) {
          causes.push(invalid("metadata.finalizers", finalizer, problem));
        }
      }
      if (current?.metadata.deletionTimestamp) {
        const known = new Set(current.metadata.finalizers ?? []);
        const added = (finalizers as string[]).filter((item) => !known.has(item));
        if (added.length > 0) {
          causes.push({
            field: "metadata.finalizers",
            type: "FieldValueForbidden",
            detail: `no new finalizers can be added if the object is being deleted, found new finalizers []string{${added.map((item) => JSON.stringify(item)).join(", ")}}`,
          });
        }
      }
    }
  }
  const owners = metadata.ownerReferences;
  if (owners !== undefined) causes.push(...ownerProblems(owners));
  return causes;
}

function stringMap(
  value: unknown,
  field: string,
  check: (field: string, map: unknown) => FieldError[],
): FieldError[] {
  if (value === undefined || value === null) return [];
  const map = asRecord(value);
  if (!map) return [invalid(field, value, "must be a map of strings")];
  const odd = Object.entries(map).filter(([, item]) => typeof item !== "string");
  if (odd.length > 0) return odd.map(([key, item]) => invalid(`${field}.${key}`, item, "must be a string"));
  return check(field, map);
}

function ownerProblems(value: unknown): FieldError[] {
  const field = "metadata.ownerReferences";
  if (!Array.isArray(value)) return [{ field, type: "FieldValueInvalid", value, detail: "must be a list" }];
  const causes: FieldError[] = [];
  let controllers = 0;
  value.forEach((item: unknown, index) => {
    const owner = asRecord(item) ?? {};
    for (const part of ["apiVersion", "kind", "name", "uid"]) {
      if (typeof owner[part] !== "string" || owner[part] === "") {
        causes.push({
          field: `${field}[${index}].${part}`,
          type: "FieldValueRequired",
          detail: `${part} must not be empty`,
        });
      }
    }
    if (owner.controller === true) controllers++;
  });
  if (controllers > 1) {
    causes.push({
      field,
      type: "FieldValueInvalid",
      value,
      detail: "Only one reference can have Controller set to true",
    });
  }
  return causes;
}

/**
 * Carries over what an update may not change. What the client sends for these fields is ignored, except that a
 * different uid is somebody else's object (checked by the caller).
 */
export function keepSystemFields(next: ApiObject, current: ApiObject): void {
  const to = next.metadata as unknown as Record<string, unknown>;
  const from = current.metadata as unknown as Record<string, unknown>;
  const kept = [
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "generateName",
    "generation",
    "resourceVersion",
  ];
  for (const field of [...kept, "deletionTimestamp", "deletionGracePeriodSeconds"]) {
    if (from[field] === undefined) delete to[field];
    else to[field] = from[field];
  }
  delete to.selfLink;
}

/** Whether nothing changed but, perhaps, the times of managed fields. */
export function sameExceptTimes(a: ApiObject, b: ApiObject): boolean {
  if (!sameJson({ ...a, metadata: undefined }, { ...b, metadata: undefined })) return false;
  const bare = (object: ApiObject) => ({
    ...object.metadata,
    resourceVersion: undefined,
    managedFields: object.metadata.managedFields?.map((entry) => ({ ...entry, time: undefined })),
  });
  return sameJson(bare(a), bare(b));
}
