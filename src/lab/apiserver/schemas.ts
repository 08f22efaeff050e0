/** The schema of each type, made once. */
import type { ResourceType } from "./registry.ts";
import { builtinSchema, type Schema, schemaFromCrd } from "./schema/index.ts";

/** For kinds that say nothing about themselves. */
const anything: Schema = { type: "object", "x-kubernetes-preserve-unknown-fields": true };

const made = new WeakMap<ResourceType, Schema>();

/** The schema of a type: published for built-in kinds, from the definition for custom ones. */
export function schemaOf(type: ResourceType): Schema {
  let schema = made.get(type);
  if (!schema) {
    const raw = type.custom?.rawSchema;
    schema = type.custom ? raw && schemaFromCrd(raw) : builtinSchema(type.group, type.version, type.kind);
    schema ??= anything;
    made.set(type, schema);
  }
  return schema;
}
