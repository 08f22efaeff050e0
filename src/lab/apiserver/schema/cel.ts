/** CEL rules of schemas (x-kubernetes-validations). */
import type { FieldError } from "./errors.ts";
import type { Schema } from "./schema.ts";

/** What the schema's rules find wrong with an object; transition rules see `old`. */
export function checkRules(_schema: Schema, _object: object, _old?: object): FieldError[] {
  return [];
}
