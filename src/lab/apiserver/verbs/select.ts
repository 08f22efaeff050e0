/** Which objects a list, watch or deletecollection is about. */
import type { ResourceCall } from "../core.ts";
import type { ApiObject } from "../object.ts";
import { parseFieldSelector, parseLabelSelector } from "../selectors.ts";
import { badRequest } from "../status.ts";

export interface Selection {
  namespace: string | undefined;
  /** Set when the selection can be only this object. */
  name: string | undefined;
  /** Undefined when everything in scope is selected. */
  test: ((object: ApiObject) => boolean) | undefined;
}

/** Reads the namespace and the selectors of a request. Tests take objects as stored. */
export function selectionOf(call: ResourceCall): Selection {
  const { type, route, query } = call;
  const labels = parseLabelSelector(query.get("labelSelector"));
  const tests: ((object: ApiObject) => boolean)[] = [];
  if (labels) tests.push((object) => labels(object.metadata.labels));
  let name: string | undefined;
  for (const { field, equal, value } of parseFieldSelector(query.get("fieldSelector"))) {
    const read = fieldReader(call, field);
    if (field === "metadata.name" && equal) name = value;
    tests.push((object) => (read(object) === value) === equal);
  }
  return {
    namespace: type.namespaced ? route.namespace : undefined,
    name,
    test: tests.length === 0 ? undefined : (object) => tests.every((test) => test(object)),
  };
}

function fieldReader(call: ResourceCall, field: string): (object: ApiObject) => string {
  if (field === "metadata.name") return (object) => object.metadata.name;
  if (field === "metadata.namespace") return (object) => object.metadata.namespace ?? "";
  if (Object.hasOwn(call.type.fields, field)) return call.type.fields[field]!;
  // Kinds that add fields of their own say it in their own words.
  if (call.type.custom || Object.keys(call.type.fields).length > 0) {
    throw badRequest(`field label not supported: ${field}`);
  }
  throw badRequest(
    `${JSON.stringify(field)} is not a known field selector: only "metadata.name", "metadata.namespace"`,
  );
}
