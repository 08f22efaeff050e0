/** What Kubernetes' own kinds are by default and must be, beyond their schemas. Pure functions. */
import type { FieldError } from "../schema/index.ts";

/** Fills in the defaults of a built-in object, in place. */
export function defaultBuiltin(_object: object): void {}

/** What is wrong with a built-in object; with `old`, also what may not change. */
export function validateBuiltin(_object: object, _old?: object): FieldError[] {
  return [];
}
