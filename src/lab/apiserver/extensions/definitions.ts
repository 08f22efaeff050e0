/**
 * The life of CustomResourceDefinitions: checked, established at once, served, and cleaned up after.
 * Source: apiextensions-apiserver `pkg/registry/customresourcedefinition`, `pkg/controller/{status,finalizer,establish}`.
 */
import type { CustomResourceDefinition } from "../../../api/index.ts";
import { timestamp } from "../../../world/index.ts";
import type { Core } from "../core.ts";
import { type ApiObject, asRecord, clone, sameJson } from "../object.ts";
import {
  applyDefaults,
  type FieldError,
  forbidden,
  ruleProblems,
  type Schema,
  unknownFormats,
} from "../schema/index.ts";
import { schemaOf } from "../schemas.ts";
import type { Strategy } from "../strategies.ts";
import { bucketOf, customTypes } from "./types.ts";

/** Holds a definition until its objects are gone. */
export const cleanupFinalizer = "customresourcecleanup.apiextensions.k8s.io";

interface Condition {
  type: string;
  status: "True" | "False";
  reason: string;
  message: string;
}

const asDefinition = (object: ApiObject) => object as unknown as CustomResourceDefinition;

/** Everything else about definitions is checked as for any built-in kind. */
function problems(object: ApiObject): FieldError[] {
  if (asRecord(asRecord(object.spec)?.conversion)?.strategy !== "Webhook") return [];
  return [
    forbidden("spec.conversion.strategy", "conversion webhooks are not served by this API server; use None"),
  ];
}

/** Whether enough is there to speak of names and versions; what is wrong with them is said by validation. */
function isWhole(object: ApiObject): boolean {
  const spec = asRecord(object.spec);
  return (
    Array.isArray(spec?.versions) && asRecord(spec?.names) !== undefined && typeof spec?.group === "string"
  );
}

/** Names that another kind of the group has already. */
function nameConflicts(core: Core, object: ApiObject): string | undefined {
  const { spec } = asDefinition(object);
  const mine = new Set([spec.names.plural, spec.names.singular, ...(spec.names.shortNames ?? [])]);
  for (const type of core.registry.all()) {
    if (type.group !== spec.group || type.plural === spec.names.plural) continue;
    const taken = [type.plural, type.singular, ...type.shortNames].find((name) => mine.has(name));
    if (taken) return `"${taken}" is already in use`;
    if (type.kind === spec.names.kind) return `"${type.kind}" is already in use`;
  }
  return undefined;
}

function setConditions(core: Core, object: ApiObject, wanted: readonly Condition[]): void {
  const status = { ...asRecord(object.status) };
  const before = (status.conditions ?? []) as (Condition & { lastTransitionTime: string })[];
  const now = timestamp(core.world);
  status.conditions = [
    ...before.filter((condition) => !wanted.some(({ type }) => type === condition.type)),
    ...wanted.map((condition) => {
      const old = before.find(({ type }) => type === condition.type);
      const lastTransitionTime = old?.status === condition.status ? old.lastTransitionTime : now;
      return { lastTransitionTime, ...condition };
    }),
  ];
  object.status = status;
}

/** What the naming and establishing controllers of a real server find out a moment later. */
function establish(core: Core, object: ApiObject): void {
  const { spec } = asDefinition(object);
  const conflict = nameConflicts(core, object);
  const status: Record<string, unknown> = { ...asRecord(object.status) };
  const storage = spec.versions.find((version) => version?.storage)?.name;
  const stored = (status.storedVersions ?? []) as string[];
  status.storedVersions = !storage || stored.includes(storage) ? stored : [...stored, storage];
  status.acceptedNames = conflict ? (status.acceptedNames ?? { plural: "", kind: "" }) : spec.names;
  object.status = status;
  setConditions(core, object, [
    conflict
      ? { type: "NamesAccepted", status: "False", reason: "PluralConflict", message: conflict }
      : { type: "NamesAccepted", status: "True", reason: "NoConflicts", message: "no conflicts found" },
    conflict
      ? { type: "Established", status: "False", reason: "NotAccepted", message: "not all names are accepted" }
      : {
          type: "Established",
          status: "True",
          reason: "InitialNamesAccepted",
          message: "the initial names have been accepted",
        },
  ]);
}

function isEstablished(object: ApiObject): boolean {
  const conditions = (asRecord(object.status)?.conditions ?? []) as Condition[];
  return conditions.some(({ type, status }) => type === "Established" && status === "True");
}

/** Fills in what the schema cannot: the other forms of the name. */
function completeNames(object: ApiObject): void {
  const spec = asRecord(object.spec);
  const names = asRecord(spec?.names);
  if (!spec || !names || typeof names.kind !== "string") return;
  names.singular ||= names.kind.toLowerCase();
  names.listKind ||= `${names.kind}List`;
  spec.conversion ??= { strategy: "None" };
}

/** Formats that nobody knows: said once, as Kubernetes does. */
function unrecognizedFormats(object: ApiObject, before?: ApiObject): string[] {
  const formats = (of: ApiObject | undefined) => {
    const versions = asRecord(of?.spec)?.versions;
    return (Array.isArray(versions) ? (versions as unknown[]) : []).flatMap((version) => {
      const schema = asRecord(asRecord(asRecord(version)?.schema)?.openAPIV3Schema);
      return schema ? unknownFormats(schema as Schema) : [];
    });
  };
  const known = new Set(formats(before));
  return [...new Set(formats(object))]
    .filter((format) => !known.has(format))
    .map((format) => `unrecognized format ${JSON.stringify(format)}`);
}

/** CEL rules that this server cannot compile and so does not check: whoever makes the definition is told. */
function uncheckedRules(object: ApiObject): string[] {
  const versions = asRecord(object.spec)?.versions;
  return (Array.isArray(versions) ? (versions as unknown[]) : []).flatMap((version) => {
    const schema = asRecord(asRecord(asRecord(version)?.schema)?.openAPIV3Schema);
    const problems = schema ? ruleProblems(schema as Schema) : [];
    return problems.map((problem) => `spec.versions[${String(asRecord(version)?.name)}]: ${problem}`);
  });
}

export const definitionStrategy: Strategy = {
  prepareCreate(_, object, { warnings }) {
    completeNames(object);
    warnings.push(...unrecognizedFormats(object), ...uncheckedRules(object));
  },
  prepareUpdate(_, object, current, { warnings }) {
    completeNames(object);
    if (sameJson(object.spec, current.spec)) return;
    warnings.push(...unrecognizedFormats(object, current), ...uncheckedRules(object));
  },
  validate: (_, object) => problems(object),
  allocate(core, object) {
    if (isWhole(object) && !object.metadata.deletionTimestamp) establish(core, object);
  },
  deleting(object, core) {
    const finalizers = object.metadata.finalizers ?? [];
    if (!finalizers.includes(cleanupFinalizer)) {
      object.metadata.finalizers = [...finalizers, cleanupFinalizer];
    }
    setConditions(core, object, [
      {
        type: "Terminating",
        status: "True",
        reason: "InstanceDeletionInProgress",
        message: "CustomResource deletion is in progress",
      },
    ]);
  },
  stored(core, before, after) {
    const definition = asDefinition((after ?? before)!);
    const { group, names } = definition.spec;
    core.registry.remove(group, names.plural);
    const bucket = core.store.bucket(bucketOf(definition));
    if (!after) {
      bucket.end(core.store.revision);
      return;
    }
    if (!isEstablished(after)) return;
    const types = customTypes(definition);
    core.registry.add(...types);
    if (before && !sameJson(before.spec, after.spec) && types[0]) {
      // Objects read as if they had been written under the new schema's defaults.
      const schema = schemaOf(types.find((type) => type.storedAs === `${group}/${type.version}`) ?? types[0]);
      for (const [key, object] of bucket.objects) {
        const fresh = clone(object);
        applyDefaults(schema, fresh);
        if (!sameJson(fresh, object)) bucket.load(key, fresh);
      }
    }
    if (after.metadata.deletionTimestamp) core.cleanUp(definition.metadata.name);
  },
};
