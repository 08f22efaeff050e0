/** `/scale`: the number of replicas of any kind that has one, as autoscaling/v1 Scale. */
import { admitted } from "../admission/webhooks.ts";
import { asObject, decodeBody, mediaType, parseJson, parseYaml } from "../body.ts";
import type { Answer, Core, ResourceCall } from "../core.ts";
import { type ApiObject, asRecord, clone, valueAt } from "../object.ts";
import { applyPatch, isOwned, jsonPatch, mergePatch, trackUpdate } from "../patch/index.ts";
import type { ScalePaths } from "../registry.ts";
import { shown, versionOf } from "../registry.ts";
import { isTrue } from "../route.ts";
import { schemaOf } from "../schemas.ts";
import { badRequest, invalid, unknownPatchType } from "../status.ts";
import { writeOf } from "../verbs/options.ts";
import { applyConflict, patchTypes } from "../verbs/write.ts";
import { Changed, existing, replace, type Write, type Writing } from "../write.ts";

const scaleKind = { apiVersion: "autoscaling/v1", kind: "Scale" };

function scaleOf(object: ApiObject, paths: ScalePaths): ApiObject {
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  const selector = paths.selector && valueAt(object, paths.selector);
  const text = typeof selector === "string" ? selector : selectorText(asRecord(selector));
  const replicas = valueAt(object, paths.specReplicas);
  return {
    kind: scaleKind.kind,
    apiVersion: scaleKind.apiVersion,
    metadata: { name, namespace, uid, resourceVersion, creationTimestamp },
    spec: typeof replicas === "number" && replicas !== 0 ? { replicas } : {},
    status: { replicas: Number(valueAt(object, paths.statusReplicas) ?? 0), ...(text && { selector: text }) },
  };
}

/** A LabelSelector as text. */
function selectorText(selector: Record<string, unknown> | undefined): string {
  const { matchLabels, matchExpressions } = (selector ?? {}) as {
    matchLabels?: Record<string, string>;
    matchExpressions?: { key: string; operator: string; values?: string[] }[];
  };
  return [
    ...Object.entries(matchLabels ?? {}).map(([key, value]) => `${key}=${value}`),
    ...(matchExpressions ?? []).map(({ key, operator, values }) => {
      if (operator === "Exists") return key;
      if (operator === "DoesNotExist") return `!${key}`;
      return `${key} ${operator.toLowerCase()} (${(values ?? []).join(",")})`;
    }),
  ].join(",");
}

export async function scale(core: Core, call: ResourceCall): Promise<Answer> {
  const { type, route } = call;
  const paths = type.scale!;
  const current = existing(core, type, route.namespace, route.name!);
  const now = scaleOf(shown(type, current), paths);
  if (route.verb === "get") return { code: 200, object: now };
  const wanted = await wantedScale(call, now);
  const { name } = wanted.metadata;
  if (name && name !== route.name) {
    throw badRequest(`the name of the object (${name}) does not match the name on the URL (${route.name})`);
  }
  const replicas = asRecord(wanted.spec)?.replicas ?? 0;
  if (typeof replicas !== "number" || !Number.isInteger(replicas) || replicas < 0) {
    throw invalid({ group: "autoscaling", name: "Scale" }, route.name!, [
      {
        field: "spec.replicas",
        type: "FieldValueInvalid",
        value: replicas,
        detail: "must be greater than or equal to 0",
      },
    ]);
  }
  const write = writeOf(call);
  const scaled = await admitted(core, call, write, () => scaling(core, call, wanted, write));
  await core.store.committed();
  return { code: 200, object: scaled };
}

/** Webhooks see Scales; what is written is the object. */
function* scaling(core: Core, call: ResourceCall, wanted: ApiObject, write: Write): Writing<ApiObject> {
  const { type, route } = call;
  const paths = type.scale!;
  // Read again: the body may have taken its time.
  const latest = existing(core, type, route.namespace, route.name!);
  const before = shown(type, latest);
  const old = scaleOf(before, paths);
  const { resourceVersion } = old.metadata;
  const sent = { ...wanted, metadata: { resourceVersion, ...wanted.metadata } };
  const mutated = yield { stage: "mutate", operation: "UPDATE", object: sent, old };
  const { replicas = 0 } = asRecord(mutated!.spec) ?? {};
  const next = owned(call, before, replicas as number, write.manager!);
  next.metadata.resourceVersion = wanted.metadata.resourceVersion ?? "";
  yield { stage: "validate", operation: "UPDATE", object: mutated!, old };
  if (existing(core, type, route.namespace, route.name!) !== latest) throw new Changed();
  // An update of scale is an update of the object, but for what the status holds.
  const stored = replace(core, type, latest, next, undefined, { ...write, manager: undefined });
  return scaleOf(shown(type, stored), paths);
}

/**
 * The object with its new number of replicas, which a manager owns through `scale`, without a time
 * (`fieldmanager/scalehandler.go`).
 */
function owned(call: ResourceCall, before: ApiObject, replicas: number, manager: string): ApiObject {
  const { type, query } = call;
  const path = type.scale!.specReplicas;
  const tracking = {
    schema: schemaOf(type),
    manager,
    apiVersion: versionOf(type),
    subresource: "scale",
    reset: ["status"],
    time: undefined,
  };
  if (mediaType(call) === patchTypes.apply) {
    const { name, namespace } = before.metadata;
    const applied: ApiObject = {
      apiVersion: before.apiVersion,
      kind: before.kind,
      metadata: { name, ...(namespace && { namespace }) },
    };
    setAt(applied, path, replicas);
    const force = isTrue(query.get("force"));
    const { object, conflicts } = applyPatch({ ...tracking, live: before, applied, force });
    if (conflicts.length > 0) throw applyConflict(conflicts);
    return clone(object);
  }
  const after = clone(before);
  if (replicas === (valueAt(before, path) ?? 0)) return after;
  setAt(after, path, replicas);
  // A Scale without managers is not tracked, as no object without them is.
  if (!isOwned(before, path)) return after;
  if (replicas !== 0) return trackUpdate({ ...tracking, before, after });
  // A Scale leaves zero out, so nobody owns it then.
  const without = clone(before);
  setAt(without, path, undefined);
  const { managedFields } = trackUpdate({ ...tracking, before, after: without }).metadata;
  if (managedFields) after.metadata.managedFields = managedFields;
  else delete after.metadata.managedFields;
  return after;
}

async function wantedScale(call: ResourceCall, now: ApiObject): Promise<ApiObject> {
  if (call.route.verb === "update") return asObject(await decodeBody(call), scaleKind);
  const kind = mediaType(call);
  if (kind === patchTypes.apply) return asObject(await parseYaml(call.body ?? new Uint8Array()), scaleKind);
  const content = parseJson(call.body ?? new Uint8Array());
  const unversioned = { ...clone(now), metadata: { ...now.metadata } };
  delete unversioned.metadata.resourceVersion;
  if (kind === patchTypes.json) return asObject(jsonPatch(unversioned, content), scaleKind);
  if (kind === patchTypes.merge || kind === patchTypes.strategic) {
    return asObject(mergePatch(unversioned, content), scaleKind);
  }
  throw unknownPatchType();
}

/** Sets the value at a path; undefined takes it away. */
function setAt(object: ApiObject, path: readonly string[], value: unknown): void {
  let at: Record<string, unknown> = object;
  for (const step of path.slice(0, -1)) {
    const child = asRecord(at[step]);
    if (!child && at[step] !== undefined) throw badRequest(`${path.join(".")} is not in an object`);
    at[step] = child ?? {};
    at = at[step] as Record<string, unknown>;
  }
  if (value === undefined) delete at[path.at(-1)!];
  else at[path.at(-1)!] = value;
}
