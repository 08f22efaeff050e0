/** create, update and patch of whole objects and of `/status`. */

import { timestamp } from "../../../world/index.ts";
import { admitted } from "../admission/webhooks.ts";
import {
  asObject,
  decodeObject,
  inheritTwice,
  mediaType,
  parseJson,
  parseYaml,
  strictProblems,
} from "../body.ts";
import type { Answer, Core, ResourceCall } from "../core.ts";
import { type ApiObject, asRecord, clone } from "../object.ts";
import {
  applyPatch,
  type Conflict,
  conflictMessage,
  goText,
  jsonPatch,
  mergePatch,
  strategicMergePatch,
  typeProblems,
} from "../patch/index.ts";
import { keyOf, pluralName, type ResourceType, resetFields, shown, versionOf } from "../registry.ts";
import { forbidden } from "../schema/index.ts";
import { schemaOf } from "../schemas.ts";
import {
  badRequest,
  conflict,
  invalid,
  StatusError,
  unknownPatchType,
  unsupportedMediaType,
} from "../status.ts";
import { existing, insertion, replacement, type Write, type Writing } from "../write.ts";
import { enforceFields, optionsKind, strictness, writeOf } from "./options.ts";

/** Waits until the write is durable. */
async function settled(core: Core, call: ResourceCall, code: number, stored: ApiObject): Promise<Answer> {
  await core.store.committed();
  return { code, object: shown(call.type, stored) };
}

export async function create(core: Core, call: ResourceCall): Promise<Answer> {
  if (call.type.custom?.terminating) {
    throw new StatusError(
      405,
      "MethodNotAllowed",
      "create not allowed while custom resource definition is terminating",
    );
  }
  const object = await decodeObject(call, call.type);
  enforceFields(call, object);
  await core.strategies.get(call.type.bucket)?.ready?.(core, object, call.route.namespace);
  const write = writeOf(call);
  const stored = await admitted(core, call, write, () =>
    insertion(core, call.type, call.route.namespace, object, write),
  );
  return settled(core, call, 201, stored);
}

export async function update(core: Core, call: ResourceCall): Promise<Answer> {
  const { type, route } = call;
  const object = await decodeObject(call, type);
  enforceFields(call, object);
  const write = writeOf(call);
  checkNamed(call, object);
  checkName(call, object);
  let code = 200;
  const stored = await admitted(core, call, write, () => {
    const current = core.store.bucket(type.bucket).objects.get(keyOf(route.namespace, route.name!));
    // What is written belongs to the write, which may have to begin again.
    const next = clone(object);
    if (current) return replacement(core, type, checked(type, current, next), next, route.subresource, write);
    if (route.subresource || !madeByUpdate.has(type.bucket))
      existing(core, type, route.namespace, route.name!);
    delete next.metadata.resourceVersion;
    code = 201;
    return insertion(core, type, route.namespace, next, write);
  });
  return settled(core, call, code, stored);
}

/** The object that an update is about, or why it cannot be. */
function checked(type: ResourceType, current: ApiObject, object: ApiObject): ApiObject {
  checkUid(type, current, object);
  if (!object.metadata.resourceVersion && neverUnconditional(type)) {
    throw invalid(pluralName(type), current.metadata.name, [
      {
        field: "metadata.resourceVersion",
        type: "FieldValueInvalid",
        value: 0,
        detail: "must be specified for an update",
      },
    ]);
  }
  return current;
}

/** Kinds whose updates have to say what they are based on (`AllowUnconditionalUpdate` in Kubernetes). */
function neverUnconditional(type: ResourceType): boolean {
  return type.custom !== undefined || conditionalKinds.has(type.bucket);
}

const conditionalKinds = new Set([
  "admissionregistration.k8s.io/mutatingwebhookconfigurations",
  "admissionregistration.k8s.io/validatingwebhookconfigurations",
  "apiextensions.k8s.io/customresourcedefinitions",
  "coordination.k8s.io/leases",
  "policy/poddisruptionbudgets",
]);

function checkNamed({ route }: ResourceCall, { metadata }: ApiObject): void {
  if (metadata.name) return;
  throw badRequest(
    `the name of the object (${route.name} based on URL) was undeterminable: name must be provided`,
  );
}

/** Kinds that an update creates where they are not there (`AllowCreateOnUpdate` in Kubernetes). */
const madeByUpdate = new Set([
  "/endpoints",
  "/events",
  "/limitranges",
  "/services",
  "coordination.k8s.io/leases",
  "rbac.authorization.k8s.io/clusterrolebindings",
  "rbac.authorization.k8s.io/clusterroles",
  "rbac.authorization.k8s.io/rolebindings",
  "rbac.authorization.k8s.io/roles",
]);

function checkName({ route }: ResourceCall, { metadata }: ApiObject): void {
  if (!metadata.name || metadata.name === route.name) return;
  throw badRequest(
    `the name of the object (${metadata.name}) does not match the name on the URL (${route.name})`,
  );
}

/** An update that names a uid is about that object; in a patch the uid is a field that cannot change. */
function checkUid(type: ResourceType, { metadata: now }: ApiObject, { metadata: sent }: ApiObject): void {
  if (!sent.uid || sent.uid === now.uid) return;
  const says = `Precondition failed: UID in precondition: ${sent.uid}, UID in object meta: ${now.uid}`;
  const key = `/registry/${type.custom ? `${type.group}/` : ""}${type.plural}/${keyOf(now.namespace, now.name)}`;
  throw conflict(
    pluralName(type),
    now.name,
    `StorageError: invalid object, Code: 4, Key: ${key}, ResourceVersion: 0, AdditionalErrorMsg: ${says}`,
  );
}

export const patchTypes = {
  json: "application/json-patch+json",
  merge: "application/merge-patch+json",
  strategic: "application/strategic-merge-patch+json",
  apply: "application/apply-patch+yaml",
} as const;

export async function patch(core: Core, call: ResourceCall): Promise<Answer> {
  const { type, route } = call;
  const kind = mediaType(call);
  const body = call.body ?? new Uint8Array();
  if (kind === patchTypes.apply) return apply(core, call, await applied(body));
  if (call.query.has("force")) {
    throw invalid(optionsKind(call), "", [forbidden("force", "may not be specified for non-apply patch")]);
  }
  const { content, change, shows } = patchOf(call, kind, body);
  const write = writeOf(call);
  const begin = (): Writing<ApiObject> => {
    const current = existing(core, type, route.namespace, route.name!);
    const before = shown(type, current);
    const changed = change(clone(before));
    const refuse = (message: string) =>
      invalid({ group: "", name: "" }, "", [
        {
          field: "patch",
          type: "FieldValueInvalid",
          value: shows ?? JSON.stringify(changed),
          detail: message,
        },
      ]);
    const expected = { apiVersion: versionOf(type), kind: type.kind };
    const patched = asObject(changed, expected, !type.custom, refuse);
    if (typeof content === "object" && content !== null) inheritTwice(content, patched);
    enforceFields(call, patched, refuse);
    checkNamed(call, patched);
    checkName(call, patched);
    return replacement(core, type, current, patched, route.subresource, write);
  };
  return settled(core, call, 200, await admitted(core, call, write, begin));
}

interface PatchToDo {
  content: unknown;
  change: (object: ApiObject) => unknown;
  /** How refusals of what it leads to show it; the patched object when undefined. */
  shows?: string;
}

function patchOf(call: ResourceCall, kind: string, body: Uint8Array): PatchToDo {
  const { type } = call;
  const decoding = (says: string) => `error decoding patch: ${says}`;
  const unfit = (content: unknown, wanted: string) =>
    `json: cannot unmarshal ${Array.isArray(content) ? "array" : content === null ? "null" : typeof content} into Go value of type ${wanted}`;
  switch (kind) {
    case patchTypes.json: {
      const content = parseJson(body, decoding);
      if (!Array.isArray(content)) throw badRequest(decoding(unfit(content, "[]handlers.jsonPatchOp")));
      return { content, change: (object) => jsonPatch(object, content) };
    }
    case patchTypes.merge: {
      const content = parseJson(body, decoding);
      if (!asRecord(content)) throw badRequest(decoding(unfit(content, "map[string]interface {}")));
      return { content, change: (object) => mergePatch(object, content) };
    }
    case patchTypes.strategic: {
      if (type.custom) break;
      const content = parseJson(body, (says) => says);
      if (!asRecord(content)) throw badRequest(unfit(content, "map[string]interface {}"));
      const change = (object: ApiObject) => strategicMergePatch(schemaOf(type), object, content);
      return { content, change, shows: goText(content) };
    }
  }
  if (kind === patchTypes.strategic) {
    const known = Object.values(patchTypes).filter((one) => one !== patchTypes.strategic);
    throw unsupportedMediaType(known);
  }
  throw unknownPatchType();
}

/** The configuration of an apply. */
async function applied(body: Uint8Array): Promise<unknown> {
  try {
    return await parseYaml(body);
  } catch (error) {
    if (error instanceof StatusError && error.status.code === 400) {
      throw badRequest(`error decoding YAML: ${error.message}`);
    }
    throw error;
  }
}

/** Server-side apply. Source: apiserver `pkg/endpoints/handlers/patch.go` (applyPatcher). */
async function apply(core: Core, call: ResourceCall, content: unknown): Promise<Answer> {
  const { type, route, query } = call;
  const manager = query.get("fieldManager");
  if (!manager) {
    throw invalid(optionsKind(call), "", [
      { field: "fieldManager", type: "FieldValueRequired", detail: "is required for apply patch" },
    ]);
  }
  const config = asRecord(content);
  if (!config) {
    const is = Array.isArray(content) ? "array" : typeof content;
    throw badRequest(
      `error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal ${is} into Go value of type map[string]interface {}`,
    );
  }
  const expected = { apiVersion: versionOf(type), kind: type.kind };
  if (config.kind !== expected.kind || config.apiVersion !== expected.apiVersion) {
    const [group, version] = splitVersion(config.apiVersion);
    throw badRequest(`invalid object type: ${group}/${version}, Kind=${String(config.kind ?? "")}`);
  }
  const strict = strictness(call) === "Strict" ? strictProblems(config, []) : [];
  if (strict.length > 0) {
    throw badRequest(
      `error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  ${strict.join("\n  ")}`,
    );
  }
  const applied = asObject(config, expected, !type.custom);
  const write: Write = { ...writeOf(call), manager: undefined };
  checkTyped(call, applied);
  checkName(call, applied);
  if (applied.metadata.managedFields?.length) {
    throw badRequest("metadata.managedFields must be nil");
  }
  applied.metadata.name = route.name!;
  const force = query.get("force") === "true";
  let code = 200;
  const begin = (): Writing<ApiObject> => {
    const current = core.store.bucket(type.bucket).objects.get(keyOf(route.namespace, route.name!));
    if (!current && route.subresource) existing(core, type, route.namespace, route.name!);
    if (!current && applied.metadata.uid) {
      throw conflict(
        pluralName(type),
        route.name!,
        `uid mismatch: the provided object specified uid ${applied.metadata.uid}, and no existing object was found`,
      );
    }
    const config = clone(applied);
    if (!current) delete config.metadata.resourceVersion;
    const { object, conflicts } = applyPatch({
      schema: schemaOf(type),
      live: current && shown(type, current),
      applied: config,
      manager,
      force,
      apiVersion: versionOf(type),
      subresource: route.subresource,
      reset: resetFields(type, route.subresource),
      time: timestamp(core.world),
    });
    if (conflicts.length > 0) throw applyConflict(conflicts);
    const next = object as ApiObject;
    if (current) return replacement(core, type, current, next, route.subresource, write);
    code = 201;
    return insertion(core, type, route.namespace, next, write);
  };
  const stored = await admitted(core, call, write, begin);
  return settled(core, call, code, stored);
}

function splitVersion(apiVersion: unknown): [group: string, version: string] {
  const parts = String(apiVersion ?? "").split("/");
  return parts.length > 1 ? [parts[0]!, parts[1]!] : ["", parts[0]!];
}

/** An apply has to be of its kind's types through and through; what it does not know is the server's error. */
function checkTyped(call: ResourceCall, applied: ApiObject): void {
  const { type } = call;
  const [group, version] = splitVersion(applied.apiVersion);
  const { name = "", namespace = "" } = applied.metadata;
  const what = `${namespace}/${name}; ${group}/${version}, Kind=${type.kind}`;
  const untyped = (says: string) =>
    new StatusError(500, "", `failed to create typed patch object (${what}): ${says}`);
  const problems = typeProblems(schemaOf(type), applied);
  if (problems.length === 1) throw untyped(problems[0]!);
  if (problems.length > 1) throw untyped(`errors:\n${problems.map((problem) => `  ${problem}`).join("\n")}`);
  enforceFields(call, applied);
}

export function applyConflict(conflicts: readonly Conflict[]): StatusError {
  const causes = conflicts.map(({ field, message }) => ({ reason: "FieldManagerConflict", message, field }));
  return new StatusError(409, "Conflict", conflictMessage(conflicts), { causes });
}
