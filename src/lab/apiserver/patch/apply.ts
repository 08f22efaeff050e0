/** Server-side apply. */
import type { Schema } from "../schema/index.ts";

/** A field that another manager owns and that the apply wants to change. */
export interface Conflict {
  manager: string;
  apiVersion: string;
  subresource?: string;
  time?: string;
  operation: "Apply" | "Update";
  /** `.spec.replicas` */
  field: string;
  /** `conflict with "kubectl" using v1` */
  message: string;
}

export interface ApplyRequest {
  schema: Schema;
  live: object | undefined;
  applied: object;
  manager: string;
  force: boolean;
  apiVersion: string;
  subresource?: string;
  /** RFC 3339; written to managedFields entries that change. */
  time: string;
}

export function applyPatch(request: ApplyRequest): { object: object; conflicts: Conflict[] } {
  return { object: structuredClone({ ...request.live, ...request.applied }), conflicts: [] };
}

export interface UpdateToTrack {
  schema: Schema;
  before: object | undefined;
  after: object;
  manager: string;
  apiVersion: string;
  subresource?: string;
  time: string;
}

/** Writes `after.metadata.managedFields`, in place. */
export function trackUpdate(_update: UpdateToTrack): void {}
