/**
 * delete and deletecollection. Source: apiserver `pkg/registry/rest/delete.go`, `pkg/registry/generic/registry/store.go`.
 */
import { timestamp } from "../../../world/index.ts";
import { admitted } from "../admission/webhooks.ts";
import { decodeBody } from "../body.ts";
import type { Answer, Core, ResourceCall } from "../core.ts";
import { type ApiObject, asRecord } from "../object.ts";
import { keyOf, kindName, type ResourceType, shown } from "../registry.ts";
import { type FieldError, invalid as invalidField, notSupported } from "../schema/index.ts";
import { badRequest, conflict, invalid } from "../status.ts";
import { atOnce, Changed, existing, isGone, remove, type Write, type Writing } from "../write.ts";
import { optionsKind, writeOf } from "./options.ts";
import { listObject } from "./read.ts";
import { selectionOf } from "./select.ts";

export interface DeleteOptions {
  /** Seconds; undefined: the kind's own. */
  grace: number | undefined;
  propagation: string | undefined;
  uid: string | undefined;
  resourceVersion: string | undefined;
  write: Write;
  /** As admission webhooks see them. */
  sent: Record<string, unknown>;
}

async function optionsOf(call: ResourceCall): Promise<DeleteOptions> {
  const body = call.body && call.body.length > 0 ? (asRecord(await decodeBody(call)) ?? {}) : {};
  return deleteOptionsOf(call, body);
}

/**
 * Reads `metav1.DeleteOptions` from the body, or else from the query. `kind` is that of the options in refusals.
 * Source: apimachinery `pkg/apis/meta/v1/validation/validation.go`.
 */
export function deleteOptionsOf(call: ResourceCall, body: Record<string, unknown>): DeleteOptions {
  const { query } = call;
  if (body.kind !== undefined && body.kind !== "DeleteOptions") {
    throw badRequest(
      `no kind ${JSON.stringify(body.kind)} is registered for version ${JSON.stringify(body.apiVersion ?? "")} in scheme "pkg/runtime/scheme.go:111"`,
    );
  }
  const orphan = body.orphanDependents ?? query.get("orphanDependents") ?? undefined;
  const asked = body.propagationPolicy ?? query.get("propagationPolicy") ?? undefined;
  const problems: FieldError[] = [];
  if (asked !== undefined && !["Background", "Foreground", "Orphan"].includes(String(asked))) {
    problems.push(notSupported("propagationPolicy", asked, ["Foreground", "Background", "Orphan", "nil"]));
  } else if (asked !== undefined && orphan !== undefined) {
    const says = "orphanDependents and deletionPropagation cannot be both set";
    problems.push(invalidField("propagationPolicy", asked, says));
  }
  if (problems.length > 0) throw invalid(optionsKind(call), "", problems);
  const propagation =
    asked ?? (orphan === undefined ? undefined : String(orphan) === "true" ? "Orphan" : "Background");
  const preconditions = asRecord(body.preconditions) ?? {};
  return {
    grace: graceOf(body.gracePeriodSeconds ?? undefined, query.get("gracePeriodSeconds")),
    propagation: propagation as string | undefined,
    uid: (preconditions.uid ?? undefined) as string | undefined,
    resourceVersion: (preconditions.resourceVersion ?? undefined) as string | undefined,
    write: writeOf(call, body),
    sent: body,
  };
}

function graceOf(inBody: unknown, inQuery: string | null): number | undefined {
  if (inBody !== undefined) {
    if (typeof inBody === "number" && Number.isInteger(inBody)) return inBody;
    throw badRequest(
      `json: cannot unmarshal ${typeof inBody} into Go struct field DeleteOptions.gracePeriodSeconds of type int64`,
    );
  }
  if (inQuery === null) return undefined;
  if (!/^[+-]?\d+$/.test(inQuery)) {
    throw badRequest(`strconv.ParseInt: parsing ${JSON.stringify(inQuery)}: invalid syntax`);
  }
  return Number(inQuery);
}

export async function removeOne(core: Core, call: ResourceCall): Promise<Answer> {
  const { type, route } = call;
  const options = await optionsOf(call);
  const last = await admitted(
    core,
    call,
    options.write,
    () => deletion(core, type, existing(core, type, route.namespace, route.name!), options),
    options.sent,
  );
  const gone = options.write.dryRun
    ? isGone(core, type, last)
    : !core.store.bucket(type.bucket).objects.has(keyOf(route.namespace, route.name!));
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
    // The answer lists what was found, as it was.
    removed.push(object);
    const each = { ...options, uid: undefined, resourceVersion: undefined };
    await admitted(
      core,
      call,
      options.write,
      function* () {
        const now = bucket.objects.get(key);
        if (now) yield* deletion(core, type, now, each);
      },
      options.sent,
    );
  }
  await core.store.committed();
  return {
    code: 200,
    object: listObject(type, removed, {
      ...(type.custom && { continue: "" }),
      resourceVersion: String(core.store.revision),
    }),
  };
}

/** Deletes one object as a request would, without asking admission webhooks. */
export function deleteObject(
  core: Core,
  type: ResourceType,
  object: ApiObject,
  options: Partial<DeleteOptions> & { write: Write },
): ApiObject {
  const none = { grace: undefined, propagation: undefined, uid: undefined, resourceVersion: undefined };
  return atOnce(deletion(core, type, object, { ...none, sent: {}, ...options }));
}

/** Deletes what nothing holds, and marks what something does. Returns the object as it is now, or was last. */
export function* deletion(
  core: Core,
  type: ResourceType,
  current: ApiObject,
  options: DeleteOptions,
): Writing<ApiObject> {
  const { metadata } = current;
  const strategy = core.strategies.get(type.bucket);
  const unmet = (what: string, wanted: string, found: string | undefined, perhaps: string) =>
    conflict(
      kindName(type),
      metadata.name,
      `the ${what} in the precondition (${wanted}) does not match the ${what} in record (${found}). The object might have been ${perhaps}`,
    );
  if (options.uid !== undefined && options.uid !== metadata.uid) {
    throw unmet("UID", options.uid, metadata.uid, "deleted and then recreated");
  }
  if (options.resourceVersion !== undefined && options.resourceVersion !== metadata.resourceVersion) {
    throw unmet("ResourceVersion", options.resourceVersion, metadata.resourceVersion, "modified");
  }
  strategy?.checkDelete?.(core, current);
  if (type.bucket === "batch/jobs" && options.propagation === undefined) {
    options.write.warnings.push(
      "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning",
    );
  }

  const finalizers = finalizersFor(type, current, options.propagation);
  // A grace below zero means at once, but not before a kubelet has said so: one second.
  const asked = options.grace !== undefined && options.grace < 0 ? 1 : options.grace;
  const wanted = strategy?.graceful?.(current, asked) ?? 0;
  // A deletion that has begun can be shortened, not prolonged.
  const grace = metadata.deletionTimestamp
    ? Math.min(wanted, metadata.deletionGracePeriodSeconds ?? 0)
    : wanted;
  const changed =
    !metadata.deletionTimestamp ||
    grace !== (metadata.deletionGracePeriodSeconds ?? 0) ||
    finalizers.join() !== (metadata.finalizers ?? []).join();
  const next: ApiObject = { ...current, metadata: { ...metadata } };
  if (!metadata.deletionTimestamp || grace !== (metadata.deletionGracePeriodSeconds ?? 0)) {
    const at = new Date(core.world.now() + grace * 1000).toISOString();
    next.metadata.deletionTimestamp =
      grace > 0 ? `${at.slice(0, 19)}Z` : (metadata.deletionTimestamp ?? timestamp(core.world));
    // Namespaces end in their own way, which knows no grace.
    if (type.bucket !== "/namespaces") next.metadata.deletionGracePeriodSeconds = grace;
    if (metadata.generation && !metadata.deletionTimestamp)
      next.metadata.generation = metadata.generation + 1;
  }
  if (finalizers.length > 0) next.metadata.finalizers = finalizers;
  else delete next.metadata.finalizers;
  strategy?.deleting?.(next, core);
  const key = keyOf(metadata.namespace, metadata.name);
  if (changed || isGone(core, type, next)) {
    yield { stage: "validate", operation: "DELETE", old: current };
    if (core.store.bucket(type.bucket).objects.get(key) !== current) throw new Changed();
  }
  if (options.write.dryRun) return next;
  if (isGone(core, type, next)) {
    // What is gone at once is shown to watchers as it was, but kinds that end gracefully say first that they end.
    if (!strategy?.graceful) return remove(core, type, current);
    return remove(core, type, core.store.write(core.store.bucket(type.bucket), key, next));
  }
  if (!changed) return current;
  const stored = core.store.write(core.store.bucket(type.bucket), key, next);
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
