/**
 * delete and deletecollection. Source: apiserver `pkg/registry/rest/delete.go`, `pkg/registry/generic/registry/store.go`.
 */
import { timestamp } from "../../../world/index.ts";
import { decodeBody } from "../body.ts";
import type { Answer, Core, ResourceCall } from "../core.ts";
import { type ApiObject, asRecord } from "../object.ts";
import { keyOf, pluralName, type ResourceType, shown } from "../registry.ts";
import { badRequest, conflict, invalid } from "../status.ts";
import { existing, isGone, remove, type Write } from "../write.ts";
import { writeOf } from "./options.ts";
import { listObject } from "./read.ts";
import { selectionOf } from "./select.ts";

export interface DeleteOptions {
  /** Seconds; undefined: the kind's own. */
  grace: number | undefined;
  propagation: string | undefined;
  uid: string | undefined;
  resourceVersion: string | undefined;
  write: Write;
}

async function optionsOf(call: ResourceCall): Promise<DeleteOptions> {
  const body = call.body && call.body.length > 0 ? (asRecord(await decodeBody(call)) ?? {}) : {};
  return deleteOptionsOf(call, body);
}

/** Reads `metav1.DeleteOptions` from a body and the query; the body comes first. */
export function deleteOptionsOf(call: ResourceCall, body: Record<string, unknown>): DeleteOptions {
  const { query } = call;
  const graceText = body.gracePeriodSeconds ?? query.get("gracePeriodSeconds") ?? undefined;
  const grace = graceText === undefined ? undefined : Number(graceText);
  if (grace !== undefined && (!Number.isInteger(grace) || grace < 0)) {
    throw badRequest(`gracePeriodSeconds: ${String(graceText)} is not a number of seconds`);
  }
  const orphan = body.orphanDependents ?? query.get("orphanDependents") ?? undefined;
  const propagation =
    body.propagationPolicy ??
    query.get("propagationPolicy") ??
    (orphan === undefined ? undefined : String(orphan) === "true" ? "Orphan" : "Background");
  if (propagation !== undefined && !["Background", "Foreground", "Orphan"].includes(String(propagation))) {
    throw invalid({ group: "meta.k8s.io", name: "DeleteOptions" }, "", [
      {
        field: "propagationPolicy",
        type: "FieldValueNotSupported",
        value: propagation,
        detail: 'supported values: "Background", "Foreground", "Orphan", "nil"',
      },
    ]);
  }
  const preconditions = asRecord(body.preconditions) ?? {};
  return {
    grace,
    propagation: propagation as string | undefined,
    uid: preconditions.uid as string | undefined,
    resourceVersion: preconditions.resourceVersion as string | undefined,
    write: writeOf(call, body),
  };
}

export async function removeOne(core: Core, call: ResourceCall): Promise<Answer> {
  const { type, route } = call;
  const options = await optionsOf(call);
  const current = existing(core, type, route.namespace, route.name!);
  const last = begin(core, type, current, options);
  const gone =
    !options.write.dryRun && !core.store.bucket(type.bucket).objects.has(keyOf(route.namespace, route.name!));
  await core.store.committed();
  if (gone && !returnsObject.has(type.bucket)) {
    return {
      code: 200,
      object: {
        kind: "Status",
        apiVersion: "v1",
        metadata: {},
        status: "Success",
        details: {
          name: last.metadata.name,
          ...(type.group && { group: type.group }),
          kind: type.plural,
          uid: last.metadata.uid,
        },
      },
    };
  }
  return { code: 200, object: shown(type, last) };
}

/** Kinds whose deletion answers with the object (their registries set ReturnDeletedObject). */
const returnsObject = new Set([
  "/pods",
  "/services",
  "/serviceaccounts",
  "/persistentvolumes",
  "/persistentvolumeclaims",
  "/podtemplates",
  "/resourcequotas",
]);

export async function removeMany(core: Core, call: ResourceCall): Promise<Answer> {
  const { type } = call;
  const options = await optionsOf(call);
  const { namespace, name, test } = selectionOf(call);
  const bucket = core.store.bucket(type.bucket);
  const removed: ApiObject[] = [];
  for (const key of bucket.keys(namespace)) {
    const object = bucket.objects.get(key);
    if (!object || (name !== undefined && object.metadata.name !== name) || (test && !test(object))) continue;
    removed.push(begin(core, type, object, { ...options, uid: undefined, resourceVersion: undefined }));
  }
  await core.store.committed();
  return { code: 200, object: listObject(type, removed, { resourceVersion: String(core.store.revision) }) };
}

/** Deletes one object as a request would. */
export function deleteObject(
  core: Core,
  type: ResourceType,
  object: ApiObject,
  options: Partial<DeleteOptions> & { write: Write },
): ApiObject {
  return begin(core, type, object, {
    grace: undefined,
    propagation: undefined,
    uid: undefined,
    resourceVersion: undefined,
    ...options,
  });
}

/** Deletes what nothing holds, and marks what something does. Returns the object as it is now, or was last. */
function begin(core: Core, type: ResourceType, current: ApiObject, options: DeleteOptions): ApiObject {
  const { metadata } = current;
  const strategy = core.strategies.get(type.bucket);
  if (options.uid !== undefined && options.uid !== metadata.uid) {
    throw conflict(
      pluralName(type),
      metadata.name,
      `Precondition failed: UID in precondition: ${options.uid}, UID in object meta: ${metadata.uid}`,
    );
  }
  if (options.resourceVersion !== undefined && options.resourceVersion !== metadata.resourceVersion) {
    throw conflict(
      pluralName(type),
      metadata.name,
      `Precondition failed: ResourceVersion in precondition: ${options.resourceVersion}, ResourceVersion in object meta: ${metadata.resourceVersion}`,
    );
  }
  strategy?.checkDelete?.(core, current);

  const finalizers = finalizersFor(type, current, options.propagation);
  const wanted = strategy?.graceful?.(current, options.grace) ?? 0;
  // A deletion that has begun can be shortened, not prolonged.
  const grace = metadata.deletionTimestamp
    ? Math.min(wanted, metadata.deletionGracePeriodSeconds ?? 0)
    : wanted;
  const changed =
    !metadata.deletionTimestamp ||
    grace !== (metadata.deletionGracePeriodSeconds ?? 0) ||
    finalizers.join() !== (metadata.finalizers ?? []).join();
  const next: ApiObject = { ...current, metadata: { ...metadata } };
  if (!metadata.deletionTimestamp || grace !== metadata.deletionGracePeriodSeconds) {
    const at = new Date(core.world.now() + grace * 1000).toISOString();
    next.metadata.deletionTimestamp =
      grace > 0 ? `${at.slice(0, 19)}Z` : (metadata.deletionTimestamp ?? timestamp(core.world));
    next.metadata.deletionGracePeriodSeconds = grace;
    if (metadata.generation) next.metadata.generation = metadata.generation + 1;
  }
  if (finalizers.length > 0) next.metadata.finalizers = finalizers;
  else delete next.metadata.finalizers;
  strategy?.deleting?.(next, core);
  if (options.write.dryRun) return next;
  // What is gone at once is shown to watchers as it was.
  if (isGone(core, type, next)) return remove(core, type, current);
  if (!changed) return current;
  const stored = core.store.write(
    core.store.bucket(type.bucket),
    metadata.namespace ? `${metadata.namespace}/${metadata.name}` : metadata.name,
    next,
  );
  strategy?.stored?.(core, current, stored);
  return stored;
}

/** The finalizers that the garbage collector works by: at most one of `orphan` and `foregroundDeletion`. */
function finalizersFor(type: ResourceType, object: ApiObject, propagation: string | undefined): string[] {
  const held = object.metadata.finalizers ?? [];
  // Jobs orphan their pods by default, for old clients' sake (Kubernetes `pkg/registry/batch/job/strategy.go`).
  const policy =
    propagation ??
    (held.includes("orphan")
      ? "Orphan"
      : held.includes("foregroundDeletion")
        ? "Foreground"
        : type.bucket === "batch/jobs"
          ? "Orphan"
          : "Background");
  const rest = held.filter((item) => item !== "orphan" && item !== "foregroundDeletion");
  if (policy === "Orphan") return [...rest, "orphan"];
  if (policy === "Foreground") return [...rest, "foregroundDeletion"];
  return rest;
}
