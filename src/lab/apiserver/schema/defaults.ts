/** What an API server does to an object before it validates it: null handling, defaults, unknown fields. */
import { objectMetaSchema } from "./builtin.ts";
import { childPath, isObject, memberSchema, type Schema, setMember } from "./schema.ts";

/**
 * Fills in the schema's defaults, in place (apiextensions `schema/defaulting`). A null where null is not allowed
 * counts as absent: it gives way to the default or goes.
 */
export function applyDefaults(schema: Schema, object: object): void {
  fill(schema, object);
}

function fill(schema: Schema | undefined, value: unknown): void {
  if (!schema) return;
  if (Array.isArray(value)) {
    for (const item of value) fill(schema.items, item);
    return;
  }
  if (!isObject(value)) return;
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    const isNull = Object.hasOwn(value, name) && value[name] === null && !property.nullable;
    if (property.default !== undefined && (isNull || !Object.hasOwn(value, name))) {
      setMember(value, name, structuredClone(property.default));
    } else if (isNull && property.type !== undefined) {
      delete value[name];
    }
  }
  for (const [name, member] of Object.entries(value)) {
    const of = memberSchema(schema, name);
    if (member === null && of?.default !== undefined && !of.nullable) {
      setMember(value, name, structuredClone(of.default));
    } else {
      fill(of, member);
    }
  }
}

/**
 * Removes, in place, what the schema does not name, and returns the paths (`spec.foo`, `spec.containers[0].bar`)
 * for strict decoding errors (apiextensions `schema/pruning`). The root of an object and every embedded resource
 * keep apiVersion, kind and metadata; metadata is pruned by its own schema.
 */
export function dropUnknown(schema: Schema, object: object): string[] {
  const dropped: string[] = [];
  prune(schema, object, "", true, dropped);
  return dropped;
}

function prune(
  schema: Schema | undefined,
  value: unknown,
  path: string,
  isResource: boolean,
  dropped: string[],
) {
  if (Array.isArray(value)) {
    value.forEach((item, i) => {
      prune(schema?.items, item, `${path}[${i}]`, false, dropped);
    });
    return;
  }
  if (!isObject(value) || !schema) return;
  const resource = isResource || schema["x-kubernetes-embedded-resource"] === true;
  const keepsUnknown =
    schema["x-kubernetes-preserve-unknown-fields"] === true || schema.additionalProperties === true;
  for (const name of Object.keys(value)) {
    const at = childPath(path, name);
    const own = memberSchema(schema, name);
    if (resource && (name === "apiVersion" || name === "kind")) continue;
    if (resource && name === "metadata") prune(objectMetaSchema(), value[name], at, false, dropped);
    else if (own) prune(own, value[name], at, false, dropped);
    else if (!keepsUnknown) {
      delete value[name];
      dropped.push(at);
    }
  }
}
