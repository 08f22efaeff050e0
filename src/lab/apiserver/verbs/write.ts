/** create, update and patch of whole objects and of `/status`. */

import { timestamp } from "../../../world/index.ts";
import { asObject, decodeObject, mediaType, parseJson, parseYaml } from "../body.ts";
import type { Answer, Core, ResourceCall } from "../core.ts";
import { type ApiObject, clone } from "../object.ts";
import { applyPatch, type Conflict, jsonPatch, mergePatch, strategicMergePatch } from "../patch/index.ts";
import { keyOf, pluralName, shown, versionOf } from "../registry.ts";
import { schemaOf } from "../schemas.ts";
import { badRequest, conflict, invalid, StatusError, unsupportedMediaType } from "../status.ts";
import { existing, insert, replace, type Write } from "../write.ts";
import { enforceFields, writeOf } from "./options.ts";

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
  const stored = insert(core, call.type, call.route.namespace, object, writeOf(call));
  return settled(core, call, 201, stored);
}

export async function update(core: Core, call: ResourceCall): Promise<Answer> {
  const { type, route } = call;
  const object = await decodeObject(call, type);
  enforceFields(call, object);
  const write = writeOf(call);
  if (object.metadata.name !== route.name) {
    throw badRequest(
      `the name of the object (${object.metadata.name}) does not match the name on the URL (${route.name})`,
    );
  }
  const current = existing(core, type, route.namespace, route.name!);
  return settled(core, call, 200, replace(core, type, current, object, route.subresource, write));
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
  if (kind === patchTypes.apply) return apply(core, call, await parseYaml(body));
  const change = patchFunction(
    call,
    kind,
    kind === "application/yaml" ? await parseYaml(body) : parseJson(body),
  );
  const write = writeOf(call);
  const current = existing(core, type, route.namespace, route.name!);
  const before = shown(type, current);
  const patched = asObject(change(clone(before)), { apiVersion: versionOf(type), kind: type.kind });
  enforceFields(call, patched, (message) =>
    invalid({ group: "", name: "" }, "", [
      { field: "patch", type: "FieldValueInvalid", value: Buffer.from(body).toString(), detail: message },
    ]),
  );
  return settled(core, call, 200, replace(core, type, current, patched, route.subresource, write));
}

function patchFunction(call: ResourceCall, kind: string, content: unknown): (object: ApiObject) => unknown {
  const { type } = call;
  switch (kind) {
    case patchTypes.json:
      return (object) => jsonPatch(object, content);
    case patchTypes.merge:
      return (object) => mergePatch(object, content);
    case patchTypes.strategic:
      if (!type.custom) return (object) => strategicMergePatch(schemaOf(type), object, content);
      break;
  }
  throw unsupportedMediaType(
    Object.values(patchTypes).filter((known) => !(type.custom && known === patchTypes.strategic)),
  );
}

/** Server-side apply. Source: apiserver `pkg/endpoints/handlers/patch.go` (applyPatcher). */
async function apply(core: Core, call: ResourceCall, content: unknown): Promise<Answer> {
  const { type, route, query } = call;
  const manager = query.get("fieldManager");
  if (!manager) {
    throw invalid({ group: "meta.k8s.io", name: "PatchOptions" }, "", [
      { field: "fieldManager", type: "FieldValueRequired", detail: "is required for apply patch" },
    ]);
  }
  const applied = asObject(content, { apiVersion: versionOf(type), kind: type.kind });
  enforceFields(call, applied);
  if (applied.metadata.name && applied.metadata.name !== route.name) {
    throw badRequest(
      `the name of the object (${applied.metadata.name}) does not match the name on the URL (${route.name})`,
    );
  }
  if (applied.metadata.managedFields?.length) {
    throw badRequest("metadata.managedFields must be nil");
  }
  applied.metadata.name = route.name!;
  if (type.namespaced) applied.metadata.namespace ??= route.namespace!;
  const write: Write = { ...writeOf(call), manager: undefined };
  const current = core.store.bucket(type.bucket).objects.get(keyOf(route.namespace, route.name!));
  if (!current && route.subresource) existing(core, type, route.namespace, route.name!);
  if (!current && applied.metadata.uid) {
    throw conflict(
      pluralName(type),
      route.name!,
      `uid mismatch: the provided object specified uid ${applied.metadata.uid}, and no existing object was found`,
    );
  }
  const { object, conflicts } = applyPatch({
    schema: schemaOf(type),
    live: current && shown(type, current),
    applied,
    manager,
    force: query.get("force") === "true",
    apiVersion: versionOf(type),
    subresource: route.subresource,
    time: timestamp(core.world),
  });
  if (conflicts.length > 0) throw applyConflict(conflicts);
  const next = object as ApiObject;
  if (!current) return settled(core, call, 201, insert(core, type, route.namespace, next, write));
  return settled(core, call, 200, replace(core, type, current, next, route.subresource, write));
}

function applyConflict(conflicts: readonly Conflict[]): StatusError {
  const byManager = new Map<string, string[]>();
  for (const { field, message } of conflicts) {
    byManager.set(message, [...(byManager.get(message) ?? []), field]);
  }
  const text =
    conflicts.length === 1
      ? `${conflicts[0]!.message}: ${conflicts[0]!.field}`
      : `conflicts ${[...byManager].map(([message, fields]) => `${message.replace(/^conflict /, "")}:\n- ${fields.join("\n- ")}`).join("\n")}`;
  return new StatusError(
    409,
    "Conflict",
    `Apply failed with ${conflicts.length} conflict${conflicts.length === 1 ? "" : "s"}: ${text}`,
    {
      causes: conflicts.map(({ field, message }) => ({ reason: "FieldManagerConflict", message, field })),
    },
  );
}
