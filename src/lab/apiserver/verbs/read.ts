/** get and list. Source of the rules: apiserver `pkg/endpoints/handlers/get.go`, `pkg/storage/etcd3/store.go`. */
import type { Answer, Core, ResourceCall } from "../core.ts";
import type { ApiObject } from "../object.ts";
import { keyOf, type ResourceType, shown, versionOf } from "../registry.ts";
import { badRequest, expired, futureRevision, invalid } from "../status.ts";
import type { Bucket } from "../store/store.ts";
import { existing } from "../write.ts";
import { type Selection, selectionOf } from "./select.ts";

/** A `resourceVersion` parameter: undefined for absent and empty. Throws for what is not a decimal number. */
export function revisionOf(value: string | null): number | undefined {
  if (value === null || value === "") return undefined;
  if (!/^(0|[1-9][0-9]{0,15})$/.test(value)) {
    throw badRequest(
      `resourceVersion: Invalid value: ${JSON.stringify(value)}: strconv.ParseUint: parsing ${JSON.stringify(value)}: invalid syntax`,
    );
  }
  return Number(value);
}

export function get(core: Core, call: ResourceCall): Answer {
  const { type, route } = call;
  checkFuture(core, revisionOf(call.query.get("resourceVersion")));
  return { code: 200, object: shown(type, existing(core, type, route.namespace, route.name!)) };
}

function checkFuture(core: Core, revision: number | undefined): void {
  if (revision !== undefined && revision > core.store.revision)
    throw futureRevision(revision, core.store.revision);
}

interface ListOptions {
  limit: number;
  /** The snapshot that is asked for exactly; undefined: the newest. */
  exactly: number | undefined;
  /** The last key of the page before. */
  after: string | undefined;
}

/** The validation matrix of list options (apimachinery `meta/internalversion/validation`). */
function listOptions(core: Core, call: ResourceCall): ListOptions {
  const { query } = call;
  const match = query.get("resourceVersionMatch") ?? "";
  const revision = revisionOf(query.get("resourceVersion"));
  const limit = Number(query.get("limit") ?? 0) || 0;
  const token = query.get("continue") ?? "";
  const refuse = (field: string, detail: string) =>
    invalid({ group: "meta.k8s.io", name: "ListOptions" }, "", [
      { field, type: "FieldValueForbidden", detail },
    ]);
  if (query.get("sendInitialEvents")) {
    throw refuse("sendInitialEvents", "sendInitialEvents is forbidden for list");
  }
  if (match !== "") {
    if (token !== "")
      throw refuse("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided");
    if (revision === undefined) {
      throw refuse(
        "resourceVersionMatch",
        "resourceVersionMatch is forbidden unless resourceVersion is provided",
      );
    }
    if (match !== "Exact" && match !== "NotOlderThan") {
      throw invalid({ group: "meta.k8s.io", name: "ListOptions" }, "", [
        {
          field: "resourceVersionMatch",
          type: "FieldValueNotSupported",
          value: match,
          detail: 'supported values: "Exact", "NotOlderThan", ""',
        },
      ]);
    }
    if (match === "Exact" && revision === 0) {
      throw refuse(
        "resourceVersionMatch",
        'resourceVersionMatch "Exact" is forbidden for resourceVersion "0"',
      );
    }
  }
  if (token !== "") {
    if (revision !== undefined && revision !== 0) {
      throw badRequest("specifying resource version is not allowed when using continue");
    }
    const { rv, start } = decodeToken(token);
    return { limit, exactly: rv === -1 ? undefined : rv, after: start };
  }
  checkFuture(core, revision);
  const exact = match === "Exact" || (match === "" && limit > 0 && revision !== undefined && revision !== 0);
  return { limit, exactly: exact ? revision : undefined, after: undefined };
}

function encodeToken(rv: number, start: string): string {
  return Buffer.from(JSON.stringify({ v: "meta.k8s.io/v1", rv, start })).toString("base64url");
}

function decodeToken(token: string): { rv: number; start: string } {
  try {
    const { v, rv, start } = JSON.parse(Buffer.from(token, "base64url").toString()) as Record<
      string,
      unknown
    >;
    if (
      v === "meta.k8s.io/v1" &&
      typeof rv === "number" &&
      Number.isSafeInteger(rv) &&
      typeof start === "string"
    ) {
      return { rv, start };
    }
  } catch {
    // Not a token of ours, said below.
  }
  throw badRequest("continue key is not valid");
}

export function list(core: Core, call: ResourceCall): Answer {
  const { type } = call;
  const bucket = core.store.bucket(type.bucket);
  const selection = selectionOf(call);
  const { limit, exactly, after } = listOptions(core, call);
  const revision = exactly ?? core.store.revision;
  const state = stateAt(core, bucket, exactly, after);
  const found: ApiObject[] = [];
  let left = 0;
  let last = "";
  for (const [key, object] of entries(bucket, state, selection, after)) {
    if (selection.test && !selection.test(object)) continue;
    if (limit > 0 && found.length === limit) {
      left++;
      if (selection.test) break; // the count is only said without selectors
      continue;
    }
    found.push(object);
    last = key;
  }
  return {
    code: 200,
    object: listObject(type, found, {
      resourceVersion: String(revision),
      ...(left > 0 && { continue: encodeToken(revision, last) }),
      ...(left > 0 && !selection.test && { remainingItemCount: left }),
    }),
  };
}

/** The contents at a revision that may be past; undefined: the present. */
function stateAt(
  core: Core,
  bucket: Bucket,
  revision: number | undefined,
  after: string | undefined,
): ReadonlyMap<string, ApiObject> | undefined {
  if (revision === undefined || revision === core.store.revision) return undefined;
  checkFuture(core, revision);
  if (revision < bucket.compacted) {
    const error = expired(
      after === undefined
        ? "The resourceVersion for the provided list is too old."
        : "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    if (after !== undefined) error.status.metadata = { continue: encodeToken(-1, after) };
    throw error;
  }
  return bucket.since(revision).length === 0 ? undefined : bucket.snapshot(revision);
}

function* entries(
  bucket: Bucket,
  past: ReadonlyMap<string, ApiObject> | undefined,
  { namespace, name }: Selection,
  after: string | undefined,
): Iterable<[string, ApiObject]> {
  const state = past ?? bucket.objects;
  if (name !== undefined && namespace !== undefined) {
    const key = keyOf(namespace, name);
    const object = state.get(key);
    if (object && (after === undefined || key > after)) yield [key, object];
    return;
  }
  const keys = past
    ? [...past.keys()].filter((key) => namespace === undefined || key.startsWith(`${namespace}/`)).sort()
    : bucket.keys(namespace);
  for (const key of keys) if (after === undefined || key > after) yield [key, state.get(key)!];
}

/** A list object of the type's version. Items carry kind and version, which kube-apiserver does for CRDs only. */
export function listObject(type: ResourceType, stored: readonly ApiObject[], metadata: object): object {
  return {
    kind: type.listKind,
    apiVersion: versionOf(type),
    metadata,
    items: stored.map((object) => shown(type, object)),
  };
}
