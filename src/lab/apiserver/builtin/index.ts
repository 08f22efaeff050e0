/** What Kubernetes' own kinds are by default and must be, beyond their schemas. Pure functions. */
import { type FieldError, isObject, type JsonObject } from "../schema/index.ts";
import { defaults } from "./defaults.ts";
import { normalizeBuiltin } from "./golang.ts";

export { type DecodeProblem, normalizeBuiltin } from "./golang.ts";
export { canonicalQuantity, parseQuantity, type Quantity } from "./quantity.ts";

/** `<group>/<kind>` */
function kindKey(object: JsonObject): string {
  const version = typeof object.apiVersion === "string" ? object.apiVersion : "";
  const group = version.includes("/") ? version.slice(0, version.indexOf("/")) : "";
  return `${group}/${String(object.kind)}`;
}

/**
 * Fills in the defaults of a built-in object, in place, and brings it into the form that Go would write. What is
 * already so is not touched, so parts that are shared with a stored object stay as they are.
 */
export function defaultBuiltin(object: object): void {
  if (!isObject(object)) return;
  normalizeBuiltin(object);
  defaults[kindKey(object)]?.(object);
}

/** What is wrong with a built-in object; with `old`, also what may not change. */
export function validateBuiltin(_object: object, _old?: object): FieldError[] {
  return [];
}
