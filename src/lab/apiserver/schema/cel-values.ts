/** JSON as CEL sees it by the schema: integers, times, bytes, and names that CEL can say. */
import { objectMetaSchema } from "./builtin.ts";
import { isObject, memberSchema, type Schema } from "./schema.ts";

const reserved = new Set([
  "true",
  "false",
  "null",
  "in",
  "as",
  "break",
  "const",
  "continue",
  "else",
  "for",
  "function",
  "if",
  "import",
  "let",
  "loop",
  "package",
  "namespace",
  "return",
  "var",
  "void",
  "while",
]);

/**
 * A field's name as rules write it (KEP-2876): `__` is `__underscores__`, `.` `__dot__`, `-` `__dash__`, `/`
 * `__slash__`; a reserved word stands between double underscores.
 */
function celName(name: string): string {
  if (reserved.has(name)) return `__${name}__`;
  return name
    .replaceAll("__", "__underscores__")
    .replaceAll(".", "__dot__")
    .replaceAll("-", "__dash__")
    .replaceAll("/", "__slash__");
}

/** All names under which rules find a field: reserved words also as they are (since Kubernetes 1.33). */
export function celNames(name: string): string[] {
  return reserved.has(name) ? [celName(name), name] : [celName(name)];
}

/** The value for `self`. At the root and in embedded resources, kind, apiVersion and the name are there to be read. */
export function toCel(schema: Schema | undefined, value: unknown, isResource = false): unknown {
  if (value === null || typeof value === "boolean") return value;
  if (typeof value === "number") return asNumber(schema, value);
  if (typeof value === "string") return asText(schema, value);
  if (Array.isArray(value)) return value.map((item) => toCel(schema?.items, item));
  if (!isObject(value)) return null;
  const resource = isResource || schema?.["x-kubernetes-embedded-resource"] === true;
  const isStruct = schema?.properties !== undefined || resource;
  const out: Record<string, unknown> = Object.create(null);
  for (const [name, member] of Object.entries(value)) {
    if (resource && name === "metadata") out.metadata = toCel(objectMetaSchema(), member);
    else {
      const made = toCel(memberSchema(schema, name), member);
      for (const said of isStruct ? celNames(name) : [name]) out[said] = made;
    }
  }
  return { ...out };
}

function asNumber(schema: Schema | undefined, value: number): number | bigint {
  const isInteger = schema?.type === "integer" || (schema?.type !== "number" && Number.isInteger(value));
  return isInteger && Number.isInteger(value) ? BigInt(value) : value;
}

function asText(schema: Schema | undefined, value: string): unknown {
  if (schema?.format === "date-time" || schema?.format === "datetime" || schema?.format === "date") {
    const instant = new Date(value);
    return Number.isNaN(instant.valueOf()) ? value : instant;
  }
  if (schema?.format === "byte") return new Uint8Array(Buffer.from(value, "base64"));
  return value;
}
