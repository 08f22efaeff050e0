/**
 * The metadata of objects: names, labels, annotations, finalizers, and which fields clients may not change.
 * Source: apimachinery `pkg/api/validation/objectmeta.go`.
 */
import type { ApiObject } from "./object.ts";
import { asRecord, sameJson } from "./object.ts";
import type { ResourceType } from "./registry.ts";
import type { FieldError } from "./schema/index.ts";

const labelPattern = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const label1035 = /^[a-z]([-a-z0-9]*[a-z0-9])?$/;
const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const qualifiedName = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/;
const labelValue = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/;

const texts = {
  subdomain:
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
  label:
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
  label1035:
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
  qualified:
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
  labelValue:
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
};

/** What is wrong with a name of this type, or nothing. */
function nameProblem(type: ResourceType, name: string): string | undefined {
  if (type.group === "rbac.authorization.k8s.io") {
    if (name === "." || name === "..") return `may not be '${name}'`;
    const bad = ["/", "%"].find((part) => name.includes(part));
    return bad && `may not contain '${bad}'`;
  }
  if (type.group === "" && type.plural === "namespaces") {
    if (name.length > 63) return "must be no more than 63 characters";
    return labelPattern.test(name) ? undefined : texts.label;
  }
  if (type.group === "" && type.plural === "services") {
    if (name.length > 63) return "must be no more than 63 characters";
    return label1035.test(name) ? undefined : texts.label1035;
  }
  if (name.length > 253) return "must be no more than 253 characters";
  return subdomain.test(name) ? undefined : texts.subdomain;
}

function qualifiedProblem(name: string): string | undefined {
  const slash = name.lastIndexOf("/");
  const prefix = slash < 0 ? undefined : name.slice(0, slash);
  const rest = name.slice(slash + 1);
  if (prefix !== undefined && !subdomain.test(prefix)) return `prefix part ${texts.subdomain}`;
  if (rest.length > 63) return "name part must be no more than 63 characters";
  return qualifiedName.test(rest) ? undefined : texts.qualified;
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
    const problem = current ? undefined : nameProblem(type, name);
    if (problem)
      causes.push({ field: "metadata.name", type: "FieldValueInvalid", value: name, detail: problem });
  }
  causes.push(...stringMap(metadata.labels, "metadata.labels", true));
  causes.push(...stringMap(metadata.annotations, "metadata.annotations", false));
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
        const problem = qualifiedProblem(finalizer);
        if (problem)
          causes.push({
            field: "metadata.finalizers",
            type: "FieldValueInvalid",
            value: finalizer,
            detail: problem,
          });
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

function stringMap(value: unknown, field: string, areLabels: boolean): FieldError[] {
  if (value === undefined || value === null) return [];
  const map = asRecord(value);
  if (!map) return [{ field, type: "FieldValueInvalid", value, detail: "must be a map of strings" }];
  const causes: FieldError[] = [];
  let size = 0;
  for (const [key, item] of Object.entries(map)) {
    const problem = qualifiedProblem(areLabels ? key : key.toLowerCase());
    if (problem) causes.push({ field, type: "FieldValueInvalid", value: key, detail: problem });
    if (typeof item !== "string") {
      causes.push({
        field: `${field}.${key}`,
        type: "FieldValueInvalid",
        value: item,
        detail: "must be a string",
      });
    } else if (areLabels && item.length > 63) {
      causes.push({
        field,
        type: "FieldValueInvalid",
        value: item,
        detail: "must be no more than 63 characters",
      });
    } else if (areLabels && !labelValue.test(item)) {
      causes.push({ field, type: "FieldValueInvalid", value: item, detail: texts.labelValue });
    } else size += key.length + item.length;
  }
  if (!areLabels && size > 256 * 1024) {
    causes.push({ field, type: "FieldValueTooLong", detail: "may not be more than 262144 bytes" });
  }
  return causes;
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
