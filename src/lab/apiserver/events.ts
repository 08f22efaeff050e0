/**
 * Events exist in two groups with different field names over one store, which holds the core form.
 * Source: Kubernetes `pkg/apis/events/v1/conversion.go`.
 */
import type { ApiObject } from "./object.ts";

const toCore: Readonly<Record<string, string>> = {
  regarding: "involvedObject",
  note: "message",
  reportingController: "reportingComponent",
  deprecatedSource: "source",
  deprecatedFirstTimestamp: "firstTimestamp",
  deprecatedLastTimestamp: "lastTimestamp",
  deprecatedCount: "count",
};
const fromCore = Object.fromEntries(Object.entries(toCore).map(([events, core]) => [core, events]));

function rename(object: ApiObject, names: Readonly<Record<string, string>>, apiVersion: string): ApiObject {
  const renamed: ApiObject = { apiVersion, kind: object.kind, metadata: object.metadata };
  for (const [field, value] of Object.entries(object)) {
    if (field !== "apiVersion" && field !== "kind" && field !== "metadata") {
      renamed[Object.hasOwn(names, field) ? names[field]! : field] = value;
    }
  }
  return renamed;
}

/** A core/v1 Event as events.k8s.io/v1 shows it. */
export function fromCoreEvent(object: ApiObject): ApiObject {
  const shown = rename(object, fromCore, "events.k8s.io/v1");
  // What the core form always has is left out here where it is empty.
  for (const field of ["reportingController", "reportingInstance"])
    if (shown[field] === "") delete shown[field];
  return shown;
}

/** An events.k8s.io/v1 Event in the core form that is stored. */
export function toCoreEvent(object: ApiObject): ApiObject {
  return rename(object, toCore, "v1");
}
