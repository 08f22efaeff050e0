/**
 * The metadata of objects: names, labels, annotations, finalizers, and which fields clients may not change.
 * Source: apimachinery `pkg/api/validation/objectmeta.go`.
 */
import {
  checkAnnotations,
  checkLabels,
  dnsLabel,
  dnsSubdomain,
  pathSegment,
  qualifiedName,
} from "./builtin/index.ts";
import type { ApiObject } from "./object.ts";
import { asRecord, sameJson } from "./object.ts";
import type { ResourceType } from "./registry.ts";
import { asStruct, type FieldError, invalid } from "./schema/index.ts";

const standardFinalizers = new Set(["kubernetes", "orphan", "foregroundDeletion"]);

/** What is wrong with a new object's name. */
function nameProblems(type: ResourceType, name: string): string[] {
  if (type.group === "rbac.authorization.k8s.io") return pathSegment(name);
  if (type.group === "" && type.plural === "namespaces") return dnsLabel(name);
  if (type.group === "" && type.plural === "services") return dnsLabel(name);
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
  if (!current && typeof metadata.generateName === "string" && metadata.generateName !== "") {
    // A name may end with what the beginning of one may.
    for (const problem of nameProblems(type, metadata.generateName.replace(/-$/, "a"))) {
      causes.push(invalid("metadata.generateName", metadata.generateName, problem));
    }
  }
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
      // CRDs and what they define are checked by the rules of all kinds only, not by those of the core.
      const isGeneric = type.custom !== undefined || type.group === "apiextensions.k8s.io";
      for (const [index, finalizer] of (finalizers as string[]).entries()) {
        for (const problem of qualifiedName(finalizer)) {
          causes.push(invalid("metadata.finalizers", finalizer, problem));
        }
        if (isGeneric || finalizer.includes("/") || standardFinalizers.has(finalizer)) continue;
        const says = "name is neither a standard finalizer name nor is it fully qualified";
        causes.push(invalid(`metadata.finalizers[${index}]`, finalizer, says));
      }
      if (current?.metadata.deletionTimestamp) {
        const known = new Set(current.metadata.finalizers ?? []);
        const added = (finalizers as string[]).filter((item) => !known.has(item)).sort();
        if (added.length > 0) {
          const refusal: FieldError = {
            field: "metadata.finalizers",
            type: "FieldValueForbidden",
            detail: `no new finalizers can be added if the object is being deleted, found new finalizers []string{${added.map((item) => JSON.stringify(item)).join(", ")}}`,
          };
          // Checked for all kinds and again with the kind's own rules.
          causes.push(refusal, refusal);
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
  const controllers: string[] = [];
  for (const item of value as unknown[]) {
    const owner = asRecord(item) ?? {};
    for (const part of ["apiVersion", "kind", "name", "uid"]) {
      if (typeof owner[part] === "string" && owner[part] !== "") continue;
      const says = part === "apiVersion" ? "version must not be empty" : "must not be empty";
      causes.push(invalid(`${field}.${part}`, owner[part] ?? "", says));
    }
    if (owner.apiVersion === "v1" && owner.kind === "Event") {
      causes.push(invalid(field, item, "/v1, Kind=Event is disallowed from being an owner"));
    }
    if (owner.controller === true) controllers.push(`${owner.kind}/${owner.name}`);
  }
  if (controllers.length > 1) {
    const found = `Found "true" in references for ${controllers[0]} and ${controllers[1]}`;
    const order = ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
    const shown = (value as ApiObject[]).map((owner) =>
      asStruct(Object.fromEntries(order.filter((name) => name in owner).map((name) => [name, owner[name]]))),
    );
    causes.push(invalid(field, shown, `Only one reference can have Controller set to true. ${found}`));
  }
  return causes;
}

/** What an update may not change and is refused for, unlike what `keepSystemFields` silently keeps. */
export function immutableMetadata(next: ApiObject, current: ApiObject): FieldError[] {
  const sent = next.metadata;
  const now = current.metadata;
  const causes: FieldError[] = [];
  const fixed = (field: string, value: unknown) =>
    causes.push(invalid(`metadata.${field}`, value, "field is immutable"));
  if (sent.uid && sent.uid !== now.uid) fixed("uid", sent.uid);
  if (sent.deletionTimestamp && !now.deletionTimestamp) fixed("deletionTimestamp", sent.deletionTimestamp);
  const grace = sent.deletionGracePeriodSeconds ?? undefined;
  if (grace !== undefined && grace !== now.deletionGracePeriodSeconds) {
    fixed("deletionGracePeriodSeconds", grace);
  }
  return causes;
}

/**
 * Carries over what an update may not change and ignores what the client sends for it.
 */
export function keepSystemFields(next: ApiObject, current: ApiObject): void {
  const to = next.metadata as unknown as Record<string, unknown>;
  const from = current.metadata as unknown as Record<string, unknown>;
  const kept = ["name", "namespace", "uid", "creationTimestamp", "generation", "resourceVersion"];
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
