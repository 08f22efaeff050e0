/** get and list. Source of the rules: apiserver `pkg/endpoints/handlers/get.go`, `pkg/storage/etcd3/store.go`. */
import type { Answer, Core, ResourceCall } from "../core.ts";
import { jsonProblem } from "../json.ts";
import { type ApiObject, asRecord } from "../object.ts";
import { keyOf, type ResourceType, shown, versionOf } from "../registry.ts";
import { type FieldError, forbidden, notSupported } from "../schema/index.ts";
import { badRequest, expired, futureRevision, invalid, StatusError } from "../status.ts";
import type { Bucket } from "../store/store.ts";
import { existing } from "../write.ts";
import { type Selection, selectionOf } from "./select.ts";

const badRevision = (value: string) =>
  `resourceVersion: Invalid value: ${JSON.stringify(value)}: strconv.ParseUint: parsing ${JSON.stringify(value)}: invalid syntax`;

/** A `resourceVersion` parameter: undefined for absent and empty. `refuse` makes the error of what is no number. */
export function revisionOf(value: string | null, refuse: (says: string) => StatusError): number | undefined {
  if (value === null || value === "") return undefined;
  if (!/^\d{1,16}$/.test(value)) throw refuse(badRevision(value));
  return Number(value);
}

/** Numbers among the parameters of lists and watches: an absent one is undefined, an empty one is wrong. */
export function numberOf(query: URLSearchParams, name: string): number | undefined {
  const value = query.get(name);
  if (value === null) return undefined;
  if (/^[+-]?\d{1,18}$/.test(value)) return Number(value);
  throw badRequest(`strconv.ParseInt: parsing ${JSON.stringify(value)}: invalid syntax`);
}

/** Errors that come from the storage have no reason. */
export const storageError = (says: string) => new StatusError(500, "", says);

export function get(core: Core, call: ResourceCall): Answer {
  const { type, route } = call;
  checkFuture(core, revisionOf(call.query.get("resourceVersion"), storageError));
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

/** The rules of `resourceVersionMatch` and `sendInitialEvents` (apimachinery `meta/internalversion/validation`). */
export function checkListOptions(query: URLSearchParams, isWatch: boolean): void {
  const match = query.get("resourceVersionMatch") ?? "";
  const revision = query.get("resourceVersion") ?? "";
  const send = query.get("sendInitialEvents");
  const problems: FieldError[] = [];
  const refuse = (says: string, field = "resourceVersionMatch") => problems.push(forbidden(field, says));
  if (isWatch) {
    if (send !== null && match !== "NotOlderThan") {
      refuse("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if (send === null && match !== "") {
      refuse("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
    }
    if (match !== "" && match !== "NotOlderThan") {
      problems.push(notSupported("resourceVersionMatch", match, ["NotOlderThan"]));
    }
  } else {
    if (match !== "") {
      if (revision === "") refuse("resourceVersionMatch is forbidden unless resourceVersion is provided");
      if (query.get("continue")) refuse("resourceVersionMatch is forbidden when continue is provided");
      if (match !== "Exact" && match !== "NotOlderThan") {
        problems.push(notSupported("resourceVersionMatch", match, ["Exact", "NotOlderThan", ""]));
      }
      if (match === "Exact" && revision === "0") {
        refuse('resourceVersionMatch "exact" is forbidden for resourceVersion "0"');
      }
    }
    if (send !== null) refuse("sendInitialEvents is forbidden for list", "sendInitialEvents");
  }
  if (problems.length > 0) throw invalid({ group: "meta.k8s.io", name: "ListOptions" }, "", problems);
}

function listOptions(core: Core, call: ResourceCall): ListOptions {
  const { query } = call;
  const match = query.get("resourceVersionMatch") ?? "";
  let limit = Math.max(0, numberOf(query, "limit") ?? 0);
  numberOf(query, "timeoutSeconds");
  checkListOptions(query, false);
  const token = query.get("continue") ?? "";
  const revision = revisionOf(query.get("resourceVersion"), (says) =>
    badRequest(`invalid resource version: ${says}`),
  );
  // What may be of any age comes from a cache there, which knows no pages.
  if (revision === 0) limit = 0;
  if (token !== "") {
    if (revision !== undefined && revision !== 0) {
      throw badRequest("specifying resource version is not allowed when using continue");
    }
    const { rv, start } = decodeToken(token);
    return { limit, exactly: rv === -1 ? undefined : rv, after: start };
  }
  if (match === "Exact" && revision !== undefined && revision > core.store.revision) {
    throw futureRevision(revision, core.store.revision, false);
  }
  checkFuture(core, revision);
  const exact = match === "Exact" || (match === "" && limit > 0 && revision !== undefined && revision !== 0);
  return { limit, exactly: exact ? revision : undefined, after: undefined };
}

function encodeToken(rv: number, start: string): string {
  return Buffer.from(JSON.stringify({ v: "meta.k8s.io/v1", rv, start })).toString("base64url");
}

function decodeToken(token: string): { rv: number; start: string } {
  const refuse = (why: string) => badRequest(`invalid continue token: continue key is not valid: ${why}`);
  const text = Buffer.from(token, "base64url").toString();
  const problem = jsonProblem(text);
  if (problem) throw refuse(problem);
  const { v, rv, start } = (asRecord(JSON.parse(text)) ?? {}) as Record<string, unknown>;
  if (v !== "meta.k8s.io/v1") throw refuse(`server does not recognize this encoded version "${v ?? ""}"`);
  if (typeof rv !== "number" || !Number.isSafeInteger(rv) || typeof start !== "string" || start === "") {
    throw refuse("incorrect encoded start resourceVersion (version meta.k8s.io/v1)");
  }
  if (start.split("/").includes("..")) throw refuse(start);
  return { rv, start };
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
      // Lists of custom objects say that there is no more, where others say nothing.
      ...(type.custom && { continue: "" }),
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
  return bucket.changedSince(revision) ? bucket.snapshot(revision) : undefined;
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
