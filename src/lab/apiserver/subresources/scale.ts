/** `/scale`: the number of replicas of any kind that has one, as autoscaling/v1 Scale. */
import { asObject, decodeBody, mediaType, parseJson } from "../body.ts";
import type { Answer, Core, ResourceCall } from "../core.ts";
import { type ApiObject, asRecord, clone, valueAt } from "../object.ts";
import { jsonPatch, mergePatch } from "../patch/index.ts";
import type { ScalePaths } from "../registry.ts";
import { shown } from "../registry.ts";
import { badRequest, invalid, methodNotAllowed, unknownPatchType } from "../status.ts";
import { writeOf } from "../verbs/options.ts";
import { patchTypes } from "../verbs/write.ts";
import { existing, replace } from "../write.ts";

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
    spec: typeof replicas === "number" ? { replicas } : {},
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
  const before = shown(type, current);
  const now = scaleOf(before, paths);
  if (route.verb === "get") return { code: 200, object: now };
  const wanted = await wantedScale(call, now);
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
  // Read again: the body may have taken its time.
  const latest = existing(core, type, route.namespace, route.name!);
  const next = clone(shown(type, latest));
  next.metadata.resourceVersion = wanted.metadata.resourceVersion ?? "";
  setAt(next, paths.specReplicas, replicas);
  const write = writeOf(call);
  // An update of scale is an update of the object, but for what the status holds.
  const stored = replace(core, type, latest, next, undefined, write);
  await core.store.committed();
  return { code: 200, object: scaleOf(shown(type, stored), paths) };
}

async function wantedScale(call: ResourceCall, now: ApiObject): Promise<ApiObject> {
  if (call.route.verb === "update") return asObject(await decodeBody(call), scaleKind);
  if (call.route.verb !== "patch") throw methodNotAllowed();
  const kind = mediaType(call);
  const content = parseJson(call.body ?? new Uint8Array());
  const unversioned = { ...clone(now), metadata: { ...now.metadata } };
  delete unversioned.metadata.resourceVersion;
  if (kind === patchTypes.json) return asObject(jsonPatch(unversioned, content), scaleKind);
  if (kind === patchTypes.merge || kind === patchTypes.strategic) {
    return asObject(mergePatch(unversioned, content), scaleKind);
  }
  throw unknownPatchType();
}

function setAt(object: ApiObject, path: readonly string[], value: unknown): void {
  let at: Record<string, unknown> = object;
  for (const step of path.slice(0, -1)) {
    const child = asRecord(at[step]);
    if (!child && at[step] !== undefined) throw badRequest(`${path.join(".")} is not in an object`);
    at[step] = child ?? {};
    at = at[step] as Record<string, unknown>;
  }
  at[path.at(-1)!] = value;
}
