/** What calls of the client may be told, how requests say it, and what lists and watches answer. */
import { fieldManager, type KubeObject } from "../api/index.ts";

export interface CallOptions {
  signal?: AbortSignal;
  /** Milliseconds until the request is given up, retries not counted; 30 s unless told. */
  timeout?: number;
}

export interface WriteOptions extends CallOptions {
  subresource?: string;
  /** Recorded as the owner of the written fields; `weft` unless told. */
  manager?: string;
  dryRun?: boolean;
}

export interface ApplyOptions extends WriteOptions {
  /** Takes fields that other managers own. */
  force?: boolean;
}

export interface PatchOptions extends WriteOptions {
  /** `merge` (RFC 7386) unless told; `strategic` for built-in kinds only. */
  type?: "merge" | "json" | "strategic";
}

export interface DeleteOptions extends CallOptions {
  /** The object must still be this one, or the deletion is refused with a Conflict. */
  uid?: string;
  resourceVersion?: string;
  propagationPolicy?: "Background" | "Foreground" | "Orphan";
  gracePeriodSeconds?: number;
  dryRun?: boolean;
}

export interface Selection {
  /** Only this namespace; all of them when left out. */
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
}

export interface ListOptions extends Selection, CallOptions {
  resourceVersion?: string;
  resourceVersionMatch?: "NotOlderThan" | "Exact";
  /** Objects per page; 500 unless told, 0 for all at once. */
  pageSize?: number;
}

export interface List<T> {
  items: T[];
  /** Of the snapshot that the items are. */
  resourceVersion: string;
}

export interface WatchOptions extends Selection {
  signal?: AbortSignal;
  /** From here on; empty for everything there is, as ADDED, and then on. */
  resourceVersion?: string;
  resourceVersionMatch?: "NotOlderThan";
  sendInitialEvents?: boolean;
  /** The server ends the watch after this time. */
  timeoutSeconds?: number;
  /** Milliseconds until the server must have accepted the watch; 30 s unless told. */
  timeout?: number;
}

export type WatchEvent<T> =
  | { type: "ADDED" | "MODIFIED" | "DELETED"; object: T }
  | { type: "BOOKMARK"; object: KubeObject }
  | { type: "ERROR"; object: unknown };

/** As a query has it. */
export function selection(options: Selection) {
  return { labelSelector: options.labelSelector, fieldSelector: options.fieldSelector };
}

/** As a query has it. */
export function writeQuery(options: WriteOptions) {
  return { fieldManager: options.manager ?? fieldManager, dryRun: options.dryRun ? "All" : undefined };
}

/** As the body of a DELETE has it (metav1.DeleteOptions). */
export function deleteBody(options: DeleteOptions) {
  const { uid, resourceVersion, propagationPolicy, gracePeriodSeconds, dryRun } = options;
  return {
    kind: "DeleteOptions",
    apiVersion: "v1",
    ...((uid !== undefined || resourceVersion !== undefined) && { preconditions: { uid, resourceVersion } }),
    propagationPolicy,
    gracePeriodSeconds,
    ...(dryRun && { dryRun: ["All"] }),
  };
}
