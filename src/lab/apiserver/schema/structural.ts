/** Whether a CRD's schema is structural (apiextensions `schema/validation.go`, KEP-1979), and reading it. */
import { type FieldError, forbidden, invalid, required } from "./errors.ts";
import { childPath, isObject, type Schema } from "./schema.ts";

/** A CRD's `openAPIV3Schema` as a Schema. The names are the same; nothing is copied, so do not change it later. */
export function schemaFromCrd(jsonSchemaProps: object): Schema {
  return jsonSchemaProps as Schema;
}

/**
 * What keeps a schema from being structural; empty when it is. `path` is where the schema stands in the CRD.
 */
export function checkStructural(props: object, path = "spec.validation.openAPIV3Schema"): FieldError[] {
  const errors: FieldError[] = [];
  checkNode(props as Schema, path, "root", errors);
  return errors.sort((a, b) => (a.field < b.field ? -1 : a.field > b.field ? 1 : 0));
}

const untyped = {
  root: "must not be empty at the root",
  field: "must not be empty for specified object fields",
  item: "must not be empty for specified array items",
};

function checkNode(schema: Schema, path: string, level: keyof typeof untyped, errors: FieldError[]): void {
  const isRoot = level === "root";
  const isEmbedded = schema["x-kubernetes-embedded-resource"] === true;
  const intOrString = schema["x-kubernetes-int-or-string"] === true;
  const preserve = schema["x-kubernetes-preserve-unknown-fields"] === true;
  const at = (name: string) => childPath(path, name);
  if (isEmbedded && !preserve && Object.keys(schema.properties ?? {}).length === 0) {
    const says =
      "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
    errors.push(required(at("properties"), says));
  }
  if (isEmbedded && schema.type !== "object") {
    const says = "must be object if x-kubernetes-embedded-resource is true";
    errors.push(schema.type ? invalid(at("type"), schema.type, says) : required(at("type"), says));
  } else if (!schema.type && !intOrString && !preserve) errors.push(required(at("type"), untyped[level]));
  if (isRoot && schema.type && schema.type !== "object") {
    errors.push(invalid(at("type"), schema.type, "must be object at the root"));
  }
  if (schema.properties && isObject(schema.additionalProperties)) {
    errors.push(
      forbidden(at("additionalProperties"), "additionalProperties and properties are mutual exclusive"),
    );
  }
  if (schema.type === "array" && !schema.items) errors.push(required(at("items"), "must be specified"));
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    const where = `${at("properties")}[${name}]`;
    if (isRoot || isEmbedded) checkEnvelope(name, property, where, isRoot, errors);
    checkNode(property, where, "field", errors);
  }
  if (schema.items) checkNode(schema.items, at("items"), "item", errors);
  if (isObject(schema.additionalProperties)) {
    checkNode(schema.additionalProperties as Schema, at("additionalProperties"), "field", errors);
  }
  for (const kind of ["allOf", "anyOf", "oneOf"] as const) {
    schema[kind]?.forEach((nested, i) => {
      checkValueValidation(
        nested,
        `${at(kind)}[${i}]`,
        intOrString && isIntOrStringPattern(schema, kind),
        errors,
      );
    });
  }
  if (schema.not) checkValueValidation(schema.not, at("not"), false, errors);
}

/** What an object's envelope is, a schema may repeat, but not change. */
function checkEnvelope(
  name: string,
  schema: Schema,
  path: string,
  isRoot: boolean,
  errors: FieldError[],
): void {
  if ((name === "kind" || name === "apiVersion") && schema.type !== "string")
    errors.push(invalid(childPath(path, "type"), schema.type ?? "", "must be string"));
  if (name !== "metadata") return;
  if (schema.type !== "object")
    errors.push(invalid(childPath(path, "type"), schema.type ?? "", "must be object"));
  if (isRoot) checkMetadata(schema, path, errors);
}

/** Under the root's `metadata` only `name` and `generateName` may be restricted. */
function checkMetadata(schema: Schema, path: string, errors: FieldError[]): void {
  for (const name of Object.keys(schema.properties ?? {})) {
    if (name === "name" || name === "generateName") continue;
    errors.push(
      forbidden(
        path,
        "must not specify anything other than name and generateName, but metadata is implicitly specified",
      ),
    );
    return;
  }
}

/** `anyOf: [{type: integer}, {type: string}]` is the one place where a type may stand in a value validation. */
function isIntOrStringPattern(schema: Schema, kind: "allOf" | "anyOf" | "oneOf"): boolean {
  const isPair = (list?: Schema[]) =>
    list?.length === 2 && list[0]?.type === "integer" && list[1]?.type === "string";
  return kind === "anyOf" ? isPair(schema.anyOf) : kind === "allOf" && isPair(schema.allOf?.[0]?.anyOf);
}

const structuralOnly = ["title", "description", "default", "nullable"] as const;

/** Inside allOf, anyOf, oneOf and not, a schema may only validate values, not give structure. */
function checkValueValidation(
  schema: Schema,
  path: string,
  typeAllowed: boolean,
  errors: FieldError[],
): void {
  const at = (name: string) => childPath(path, name);
  if (schema.type && !typeAllowed) {
    errors.push(forbidden(at("type"), "must be empty to be structural"));
  }
  for (const name of structuralOnly) {
    if (schema[name]) errors.push(forbidden(at(name), "must be undefined to be structural"));
  }
  if (schema.additionalProperties !== undefined) {
    errors.push(forbidden(at("additionalProperties"), "must be undefined to be structural"));
  }
  for (const name of Object.keys(schema)) {
    if (name.startsWith("x-kubernetes-") && name !== "x-kubernetes-validations") {
      const detail =
        name === "x-kubernetes-int-or-string" ||
        name.startsWith("x-kubernetes-preserve") ||
        name.startsWith("x-kubernetes-embedded")
          ? "must be false to be structural"
          : "must be undefined to be structural";
      errors.push(forbidden(at(name), detail));
    }
  }
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    checkValueValidation(property, `${at("properties")}[${name}]`, false, errors);
  }
  if (schema.items) checkValueValidation(schema.items, at("items"), false, errors);
  for (const kind of ["allOf", "anyOf", "oneOf"] as const) {
    schema[kind]?.forEach((nested, i) => {
      const pattern = typeAllowed || (kind === "anyOf" && isIntOrStringPattern(schema, kind));
      checkValueValidation(nested, `${at(kind)}[${i}]`, pattern, errors);
    });
  }
  if (schema.not) checkValueValidation(schema.not, at("not"), false, errors);
}
