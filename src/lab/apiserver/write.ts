/**
 * The one way into the store: creating, replacing and removing objects with everything that happens on the way.
 * A write is a generator that stops where admission webhooks have a say. Between its stops it is synchronous, so no
 * other request comes between reading and writing; a stop that took time is followed by a look at what has changed.
 */
import { timestamp, uuid } from "../../world/index.ts";
import { checkEvent, defaultBuiltin, validateBuiltin, writeNulls } from "./builtin/index.ts";
import type { Core } from "./core.ts";
import { immutableMetadata, keepSystemFields, sameExceptTimes, validateMetadata } from "./metadata.ts";
import { type ApiObject, clone, sameJson } from "./object.ts";
import { PatchError, trackUpdate } from "./patch/index.ts";
import { keyOf, kindName, pluralName, type ResourceType, resetFields, shown, versionOf } from "./registry.ts";
import { applyDefaults, type FieldError, validate } from "./schema/index.ts";
import { schemaOf } from "./schemas.ts";
import { alreadyExists, badRequest, forbidden, invalid, modified, notFound, StatusError } from "./status.ts";
import type { WriteFacts } from "./strategies.ts";

export interface Write extends WriteFacts {
  /** Field manager that the change is recorded for; undefined when the caller has recorded it already (apply). */
  readonly manager: string | undefined;
}

/** Where a write stops for admission. What it is answered is the object to go on with. */
export interface Stop {
  /** `mutate`: the object as sent, with its defaults. `validate`: as it is to be stored. */
  stage: "mutate" | "validate";
  operation: "CREATE" | "UPDATE" | "DELETE";
  /** Absent for a deletion. */
  object?: ApiObject;
  /** As stored. */
  old?: ApiObject;
}

export type Writing<T> = Generator<Stop, T, ApiObject | undefined>;

/** Thrown by a write whose object was changed by another while it had stopped: it has to begin anew. */
export class Changed extends Error {}

/** Runs a write that no webhook is asked about: the server's own. */
export function atOnce<T>(writing: Writing<T>): T {
  let step = writing.next();
  while (!step.done) step = writing.next(step.value.object);
  return step.value;
}

const nameAlphabet = "bcdfghjklmnpqrstvwxz2456789";

/** Five random characters as Kubernetes makes them (no vowels: no words). */
export function randomSuffix(core: Core, length = 5): string {
  let text = "";
  for (let i = 0; i < length; i++)
    text += nameAlphabet[Math.floor(core.world.random() * nameAlphabet.length)];
  return text;
}

/** The object in the store, or 404. In the stored version. */
export function existing(
  core: Core,
  type: ResourceType,
  namespace: string | undefined,
  name: string,
): ApiObject {
  const object = core.store.bucket(type.bucket).objects.get(keyOf(namespace, name));
  if (!object) throw notFound(pluralName(type), name);
  return object;
}

/** Refuses writes into namespaces that are missing or on their way out. */
function checkNamespace(core: Core, type: ResourceType, namespace: string, name: string): void {
  const found = core.store.bucket("/namespaces").objects.get(namespace);
  if (!found) throw notFound({ group: "", name: "namespaces" }, namespace);
  if (found.metadata.deletionTimestamp) {
    const error = forbidden(
      pluralName(type),
      name,
      `unable to create new content in namespace ${namespace} because it is being terminated`,
    );
    error.status.details = {
      ...error.status.details,
      causes: [
        {
          reason: "NamespaceTerminating",
          message: `namespace ${namespace} is being terminated`,
          field: "metadata.namespace",
        },
      ],
    };
    throw error;
  }
}

/** `insertion` without admission webhooks. */
export function insert(...of: Parameters<typeof insertion>): ApiObject {
  return atOnce(insertion(...of));
}

/**
 * Creates `object` (of `type`'s version, owned by the callee) and returns it as stored.
 * Throws StatusErrors: 403, 404 (namespace), 409, 422.
 */
export function* insertion(
  core: Core,
  type: ResourceType,
  namespace: string | undefined,
  sent: ApiObject,
  write: Write,
): Writing<ApiObject> {
  checkPlace(type, namespace, sent);
  const bucket = core.store.bucket(type.bucket);
  if (type.namespaced) checkNamespace(core, type, namespace!, sent.metadata.name ?? "");
  const time = timestamp(core.world);
  delete sent.metadata.selfLink;
  const strategy = core.strategies.get(type.bucket);
  // Managers own what they sent and its defaults, not what happens from here on.
  setDefaults(type, sent);
  let object = tracked(type, undefined, sent, undefined, write, time);
  strategy?.admit?.(core, object, write);
  object = (yield { stage: "mutate", operation: "CREATE", object })!;
  const { metadata } = object;
  if (!metadata.name && metadata.generateName) {
    // A clash is as unlikely as it is harmless: try again.
    do metadata.name = `${metadata.generateName.slice(0, 58)}${randomSuffix(core)}`;
    while (bucket.objects.has(keyOf(namespace, metadata.name)));
  }
  delete metadata.deletionTimestamp;
  delete metadata.deletionGracePeriodSeconds;
  delete metadata.resourceVersion;
  metadata.uid = uuid(core.world);
  metadata.creationTimestamp = time;
  if (type.generation || type.custom) metadata.generation = 1;
  else delete metadata.generation;
  const prepared = inStoredVersion(type, object);
  if (type.subresources.has("status") && !strategy?.createsWithStatus) delete prepared.status;
  strategy?.prepareCreate?.(core, prepared, write);
  setDefaults(type, prepared);
  const key = keyOf(namespace, metadata.name);
  const fresh = yield* allocated(core, type, prepared, write);
  if (type.custom) warnOfFinalizers(fresh, write.warnings);
  if (!type.custom) writeNulls(fresh);
  if (bucket.objects.has(key)) {
    const clash = alreadyExists(pluralName(type), metadata.name);
    const isEnding = bucket.objects.get(key)!.metadata.deletionTimestamp;
    if (isEnding) clash.status.message = `object is being deleted: ${clash.status.message}`;
    throw clash;
  }
  if (type.namespaced) checkNamespace(core, type, namespace!, metadata.name);
  if (write.dryRun) return fresh;
  const stored = core.store.write(bucket, key, fresh);
  strategy?.stored?.(core, undefined, stored);
  return stored;
}

/** Refuses a new object that is of another namespace than the request, or that says it was stored before. */
function checkPlace(type: ResourceType, namespace: string | undefined, { metadata }: ApiObject): void {
  if (type.namespaced) {
    if (metadata.namespace && metadata.namespace !== namespace) {
      throw badRequest(
        "the namespace of the provided object does not match the namespace sent on the request",
      );
    }
    metadata.namespace = namespace!;
  } else delete metadata.namespace;
  if (metadata.resourceVersion && metadata.resourceVersion !== "0") {
    // The storage says this, so it comes without a reason.
    throw new StatusError(500, "", "resourceVersion should not be set on objects to be created");
  }
}

/** The new object with what is allocated for it, found valid by us and by webhooks. */
function* allocated(core: Core, type: ResourceType, prepared: ApiObject, write: Write): Writing<ApiObject> {
  const strategy = core.strategies.get(type.bucket);
  for (;;) {
    const fresh = strategy?.allocate ? clone(prepared) : prepared;
    strategy?.allocate?.(core, fresh, undefined, write);
    check(core, type, fresh, undefined);
    const { revision } = core.store;
    yield { stage: "validate", operation: "CREATE", object: fresh };
    if (!strategy?.allocate || core.store.revision === revision) return fresh;
    try {
      strategy.allocate(core, clone(fresh), undefined, write);
      return fresh;
    } catch {
      // What was allocated has become someone else's while webhooks were asked: once more.
    }
  }
}

/** `replacement` without admission webhooks. */
export function replace(...of: Parameters<typeof replacement>): ApiObject {
  return atOnce(replacement(...of));
}

/**
 * Replaces `current` (as stored) by `next` (of `type`'s version, owned by the callee); `subresource` limits what
 * may change. Returns what is stored afterwards; the same object when nothing changed. An object whose last
 * finalizer goes is deleted. Throws `Changed` when `current` is no longer what is stored.
 */
export function* replacement(
  core: Core,
  type: ResourceType,
  current: ApiObject,
  next: ApiObject,
  subresource: string | undefined,
  write: Write,
): Writing<ApiObject> {
  const name = current.metadata.name;
  const sent = next.metadata;
  if (sent.name && sent.name !== name) {
    throw badRequest(`the name of the object (${sent.name}) does not match the name on the URL (${name})`);
  }
  if (sent.namespace && current.metadata.namespace && sent.namespace !== current.metadata.namespace) {
    throw badRequest("the namespace of the provided object does not match the namespace sent on the request");
  }
  if (sent.resourceVersion && !/^\d+$/.test(sent.resourceVersion)) {
    throw new StatusError(
      500,
      "",
      `strconv.ParseUint: parsing ${JSON.stringify(sent.resourceVersion)}: invalid syntax`,
    );
  }
  if (
    sent.resourceVersion &&
    sent.resourceVersion !== "0" &&
    sent.resourceVersion !== current.metadata.resourceVersion
  ) {
    throw modified(pluralName(type), name);
  }
  const fixed = immutableMetadata(next, current);
  // Kubernetes checks this twice, once for all kinds and once with the kind's own rules.
  if (fixed.length > 0) throw invalid(kindName(type), name, [...fixed, ...fixed]);
  const bucket = core.store.bucket(type.bucket);
  const strategy = core.strategies.get(type.bucket);
  setDefaults(type, next);
  const before = shown(type, current);
  const wanted = tracked(type, before, next, subresource, write, timestamp(core.world));
  const mutated = yield { stage: "mutate", operation: "UPDATE", object: wanted, old: before };
  let fresh = inStoredVersion(type, mutated!);
  if (subresource === "status") {
    fresh = { ...current, metadata: statusMetadata(type, fresh, current), status: fresh.status };
    if (fresh.status === undefined) delete fresh.status;
  } else if (type.subresources.has("status") && subresource === undefined) {
    if (current.status === undefined) delete fresh.status;
    else fresh.status = current.status;
  }
  fresh.metadata = { ...fresh.metadata };
  keepSystemFields(fresh, current);
  if (fresh.metadata.managedFields === undefined) delete fresh.metadata.managedFields;
  if (subresource === undefined) strategy?.prepareUpdate?.(core, fresh, current, write);
  setDefaults(type, fresh);
  if (subresource === undefined) strategy?.allocate?.(core, fresh, current, write);
  check(core, type, fresh, current);
  yield { stage: "validate", operation: "UPDATE", object: fresh, old: current };
  if (bucket.objects.get(keyOf(current.metadata.namespace, name)) !== current) throw new Changed();
  if (!type.custom) writeNulls(fresh);
  if ((type.generation || type.custom) && subresource !== "status" && specChanged(type, fresh, current)) {
    fresh.metadata.generation = (current.metadata.generation ?? 0) + 1;
  }
  if (sameExceptTimes(fresh, current)) return current;
  if (write.dryRun) return fresh;
  const key = keyOf(current.metadata.namespace, name);
  if (isGone(core, type, fresh)) {
    // The change itself is never stored: watchers see the object go as it was, the answer has no revision of its own.
    remove(core, type, current);
    return {
      ...fresh,
      metadata: { ...fresh.metadata, resourceVersion: current.metadata.resourceVersion! },
    };
  }
  const stored = core.store.write(bucket, key, fresh);
  strategy?.stored?.(core, current, stored);
  return stored;
}

/** Writes of `/status` change metadata too, but for what the kind's status strategy resets. */
function statusMetadata(type: ResourceType, next: ApiObject, current: ApiObject): ApiObject["metadata"] {
  const reset = resetFields(type, "status");
  const { managedFields } = next.metadata;
  if (reset.includes("metadata")) return { ...current.metadata, managedFields };
  const metadata: Record<string, unknown> = { ...next.metadata };
  for (const path of reset) {
    if (!path.startsWith("metadata.")) continue;
    const name = path.slice("metadata.".length);
    metadata[name] = (current.metadata as Record<string, unknown>)[name];
    if (metadata[name] === undefined) delete metadata[name];
  }
  return metadata as unknown as ApiObject["metadata"];
}

function warnOfFinalizers({ metadata }: ApiObject, warnings: string[]): void {
  for (const finalizer of metadata.finalizers ?? []) {
    if (finalizer.includes("/") || ["orphan", "foregroundDeletion"].includes(finalizer)) continue;
    const advice =
      "prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers";
    warnings.push(`metadata.finalizers: ${JSON.stringify(finalizer)}: ${advice}`);
  }
}

/** Records what the write changes for its manager, unless that was done already (apply). */
function tracked(
  type: ResourceType,
  before: ApiObject | undefined,
  after: ApiObject,
  subresource: string | undefined,
  write: Write,
  time: string,
): ApiObject {
  if (write.manager === undefined) return after;
  try {
    return trackUpdate({
      schema: schemaOf(type),
      before,
      after,
      manager: write.manager,
      apiVersion: versionOf(type),
      subresource,
      reset: resetFields(type, subresource),
      time,
    });
  } catch (error) {
    // An object whose lists cannot be told apart by their keys: validation says what is wrong with it.
    if (!(error instanceof PatchError)) throw error;
    return after;
  }
}

/** Whether an object that is being deleted has nothing left that holds it. */
export function isGone(core: Core, type: ResourceType, object: ApiObject): boolean {
  if (!object.metadata.deletionTimestamp || object.metadata.finalizers?.length) return false;
  if ((object.metadata.deletionGracePeriodSeconds ?? 0) > 0) return false;
  return !core.strategies.get(type.bucket)?.holds?.(object);
}

/** Takes an object out of the store. `last` is the state that watchers see. */
export function remove(core: Core, type: ResourceType, last: ApiObject): ApiObject {
  const bucket = core.store.bucket(type.bucket);
  const key = keyOf(last.metadata.namespace, last.metadata.name);
  const before = bucket.objects.get(key);
  const gone = core.store.remove(bucket, key, last);
  core.strategies.get(type.bucket)?.stored?.(core, before, undefined);
  return gone;
}

function inStoredVersion(type: ResourceType, object: ApiObject): ApiObject {
  if (type.toStored) return type.toStored(object);
  return object.apiVersion === type.storedAs ? { ...object } : { ...object, apiVersion: type.storedAs };
}

/** Fills in the defaults of an object in a type's version, in place. */
export function setDefaults(type: ResourceType, object: ApiObject): void {
  if (type.custom) applyDefaults(schemaOf(type), object);
  else defaultBuiltin(object);
}

function check(core: Core, type: ResourceType, object: ApiObject, current: ApiObject | undefined): void {
  const causes: FieldError[] = validateMetadata(type, object, current);
  causes.push(
    ...(type.custom ? validate(schemaOf(type), object, current) : validateBuiltin(object, current)),
  );
  causes.push(...(core.strategies.get(type.bucket)?.validate?.(core, object, current) ?? []));
  const isEvent = type.bucket === "/events";
  if (isEvent && !current) causes.push(...checkEvent(object, type.group));
  const kind = isEvent ? { group: "", name: "Event" } : kindName(type);
  if (causes.length > 0) throw invalid(kind, object.metadata.name ?? "", causes);
}

/** Metadata that some kinds count as part of what is wanted. */
const countedMetadata: Record<string, "annotations" | "labels"> = {
  "apps/deployments": "annotations",
  "discovery.k8s.io/endpointslices": "labels",
};

function specChanged(type: ResourceType, a: ApiObject, b: ApiObject): boolean {
  const counted = countedMetadata[type.bucket];
  if (counted && !sameJson(a.metadata[counted] ?? {}, b.metadata[counted] ?? {})) return true;
  if (!type.custom && "spec" in a) return !sameJson(a.spec, b.spec);
  const bare = (object: ApiObject) => ({
    ...object,
    apiVersion: undefined,
    metadata: undefined,
    ...(type.subresources.has("status") && { status: undefined }),
  });
  return !sameJson(bare(a), bare(b));
}
