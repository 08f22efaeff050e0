/**
 * `/openapi/v2`: the definitions of the built-in kinds. kubectl reads everything else from v3; this it downloads, as
 * protobuf, to check the items of a `kind: List` before it sends them (cli-runtime `query_param_verifier_v3.go` calls
 * List unsupported, and kubectl then validates by itself), and when it patches a custom object. No paths and no custom
 * kinds are published here: of an item that has no definition the server says what is wrong.
 */

import { kubernetesVersion } from "../../spec.ts";
import type { Registry } from "../registry.ts";
import { isObject, type JsonObject, openApiDefinitions } from "../schema/index.ts";

/** What client-go asks for, and what a kube-apiserver calls it in its answer. */
export const openApiV2Protobuf = {
  asked: "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
  answered: "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
};

interface Document {
  swagger: "2.0";
  info: { title: string; version: string };
  paths: object;
  definitions: Record<string, JsonObject>;
}

export function openApiV2(registry: Registry): Document {
  const definitions: Record<string, JsonObject> = {};
  const seen = new Set<string>();
  for (const { group, version, custom } of registry.all()) {
    if (custom || seen.has(`${group}/${version}`)) continue;
    seen.add(`${group}/${version}`);
    for (const [name, schema] of Object.entries(openApiDefinitions(group, version))) {
      definitions[name] ??= schemaV2(schema as JsonObject);
    }
  }
  return {
    swagger: "2.0",
    info: { title: "Kubernetes", version: kubernetesVersion },
    paths: {},
    definitions,
  };
}

/** Version 2 knows neither `oneOf` nor siblings of `$ref`; what may be a number or a string is called a string. */
function schemaV2(schema: JsonObject): JsonObject {
  const reference = Array.isArray(schema.allOf) ? (schema.allOf[0] as JsonObject).$ref : schema.$ref;
  if (typeof reference === "string") {
    return { $ref: reference.replace("#/components/schemas/", "#/definitions/") };
  }
  const { oneOf, properties, items, additionalProperties, ...own } = schema;
  const out: JsonObject = oneOf ? { type: "string", ...own } : own;
  if (isObject(properties)) {
    out.properties = Object.fromEntries(
      Object.entries(properties).map(([name, property]) => [name, schemaV2(property as JsonObject)]),
    );
  }
  if (isObject(items)) out.items = schemaV2(items);
  if (isObject(additionalProperties)) out.additionalProperties = schemaV2(additionalProperties);
  return out;
}

/** The document as `openapi.v2.Document` of github.com/google/gnostic-models (`openapiv2/OpenAPIv2.proto`). */
export function encodeOpenApiV2({ swagger, info, definitions }: Document): Uint8Array {
  return message(
    [1, swagger],
    [2, message([1, info.title], [2, info.version])],
    [8, message()],
    [9, message(...Object.entries(definitions).map(named))],
  );
}

type Field = [number, string | Uint8Array | undefined];

const named = ([name, schema]: [string, unknown]): Field => [
  1,
  message([1, name], [2, encodeSchema(schema as JsonObject)]),
];
/** A value of any shape travels as YAML, of which JSON is a part. */
const anyValue = (value: unknown): Uint8Array => message([2, JSON.stringify(value)]);

function encodeSchema(schema: JsonObject): Uint8Array {
  const text = (name: string) => schema[name] as string | undefined;
  const { properties, items, additionalProperties } = schema;
  return message(
    [1, text("$ref")],
    [2, text("format")],
    [4, text("description")],
    [5, schema.default === undefined ? undefined : anyValue(schema.default)],
    ...((schema.required as string[] | undefined) ?? []).map((name): Field => [19, name]),
    [21, isObject(additionalProperties) ? message([1, encodeSchema(additionalProperties)]) : undefined],
    [22, schema.type === undefined ? undefined : message([1, text("type")])],
    [23, isObject(items) ? message([1, encodeSchema(items)]) : undefined],
    [25, isObject(properties) ? message(...Object.entries(properties).map(named)) : undefined],
    ...Object.entries(schema)
      .filter(([name]) => name.startsWith("x-"))
      .map(([name, value]): Field => [31, message([1, name], [2, anyValue(value)])]),
  );
}

/** A message of length-delimited fields; those without a value are left out. */
function message(...fields: Field[]): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const [number, value] of fields) {
    if (value === undefined) continue;
    const bytes = typeof value === "string" ? Buffer.from(value) : value;
    parts.push(varint(number * 8 + 2), varint(bytes.length), bytes);
  }
  return Buffer.concat(parts);
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  for (; value > 0x7f; value >>>= 7) bytes.push((value & 0x7f) | 0x80);
  return Uint8Array.of(...bytes, value);
}
