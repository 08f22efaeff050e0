/**
 * Whether a schema can be that of a custom kind. Source: apiextensions `apis/apiextensions/validation/validation.go`
 * (ValidateCustomResourceDefinitionOpenAPISchema), `schema/validation.go`, `schema/defaulting/validation.go`.
 */
import { checkRuleExpressions, checkRuleFields } from "./cel-definition.ts";
import { dropUnknown } from "./defaults.ts";
import { type FieldError, forbidden, invalid, notSupported, required } from "./errors.ts";
import { isKnownFormat } from "./formats.ts";
import { isObject, type Schema } from "./schema.ts";
import { checkStructural } from "./structural.ts";
import { compiled, validateStructure } from "./validate.ts";

const types = ["array", "boolean", "integer", "number", "object", "string"];
const unsupported = [
  "id",
  "additionalItems",
  "patternProperties",
  "definitions",
  "dependencies",
  "$ref",
] as const;

/** What is wrong with a definition's schema; `path` is where it stands. */
export function checkDefinitionSchema(schema: Schema, path: string): FieldError[] {
  const errors: FieldError[] = [];
  if (schema.nullable) errors.push(forbidden(`${path}.nullable`, "nullable cannot be true at the root"));
  eachSchema(schema, path, (part, at) => errors.push(...checkPart(part, at)));
  const structural = checkStructural(schema, path);
  errors.push(...structural);
  if (structural.length > 0) return errors;
  eachSchema(schema, path, (part, at) => errors.push(...checkDefault(part, at)));
  eachSchema(schema, path, (part, at) => errors.push(...checkRuleFields(part, at)));
  // Rules are compiled where their schema and what is below it are right.
  const rules: FieldError[] = [];
  eachSchema(schema, path, (part, at) => {
    if (!part["x-kubernetes-validations"]?.length || errors.some(({ field }) => isBelow(field, at))) return;
    const isResource = at === path || part["x-kubernetes-embedded-resource"] === true;
    rules.push(...checkRuleExpressions(part, at, isResource));
  });
  return [...errors, ...rules];
}

function isBelow(field: string, path: string): boolean {
  return field === path || field.startsWith(`${path}.`);
}

/** The formats that a schema names and that nothing is known of: Kubernetes warns of them. */
export function unknownFormats(schema: Schema): string[] {
  const found = new Set<string>();
  eachSchema(schema, "", ({ type, format }) => {
    if (format && !isKnownFormat(type, format)) found.add(format);
  });
  return [...found];
}

function eachSchema(schema: Schema, path: string, call: (part: Schema, path: string) => void): void {
  call(schema, path);
  for (const [name, property] of Object.entries(schema.properties ?? {}))
    eachSchema(property, `${path}.properties[${name}]`, call);
  if (schema.items) eachSchema(schema.items, `${path}.items`, call);
  if (isObject(schema.additionalProperties))
    eachSchema(schema.additionalProperties as Schema, `${path}.additionalProperties`, call);
  if (schema.not) eachSchema(schema.not, `${path}.not`, call);
  for (const kind of ["allOf", "oneOf", "anyOf"] as const) {
    schema[kind]?.forEach((nested, i) => {
      eachSchema(nested, `${path}.${kind}[${i}]`, call);
    });
  }
}

function checkPart(schema: Schema, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const fields = schema as unknown as Record<string, unknown>;
  if (schema.type && !types.includes(schema.type))
    errors.push(notSupported(`${path}.type`, schema.type, types));
  for (const name of unsupported) {
    if (fields[name] !== undefined && fields[name] !== "")
      errors.push(forbidden(`${path}.${name}`, `${name} is not supported`));
  }
  if (schema.uniqueItems) {
    const says = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
    errors.push(forbidden(`${path}.uniqueItems`, says));
  }
  if (fields["x-kubernetes-preserve-unknown-fields"] === false) {
    errors.push(invalid(`${path}.x-kubernetes-preserve-unknown-fields`, false, "must be true or undefined"));
  }
  if (schema.pattern !== undefined) {
    const problem = patternProblem(schema.pattern);
    if (problem) {
      const says = `must be a valid regular expression, but isn't: ${problem}`;
      errors.push(invalid(`${path}.pattern`, schema.pattern, says));
    }
  }
  errors.push(...checkMapType(schema, path), ...checkListType(schema, path));
  return errors;
}

function mustBe(type: string, schema: Schema, path: string, says: string): FieldError[] {
  if (schema.type === type) return [];
  return [schema.type ? invalid(`${path}.type`, schema.type, says) : required(`${path}.type`, says)];
}

function checkMapType(schema: Schema, path: string): FieldError[] {
  const mapType: string | undefined = schema["x-kubernetes-map-type"];
  if (mapType === undefined) return [];
  const known = ["atomic", "granular"];
  return [
    ...mustBe("object", schema, path, "must be object if x-kubernetes-map-type is specified"),
    ...(known.includes(mapType) ? [] : [notSupported(`${path}.x-kubernetes-map-type`, mapType, known)]),
  ];
}

function checkListType(schema: Schema, path: string): FieldError[] {
  const listType: string | undefined = schema["x-kubernetes-list-type"];
  const keys = schema["x-kubernetes-list-map-keys"] ?? [];
  const { items } = schema;
  const errors: FieldError[] = [];
  const at = (name: string) => `${path}.x-kubernetes-list-${name}`;
  if (listType !== undefined && schema.type !== "array") {
    errors.push(...mustBe("array", schema, path, "must be array if x-kubernetes-list-type is specified"));
  } else if (listType === "set" && items?.type === "object" && items["x-kubernetes-map-type"] !== "atomic") {
    const says = "must be atomic as item of a list with x-kubernetes-list-type=set";
    errors.push(invalid(`${path}.items.x-kubernetes-map-type`, null, says));
  }
  if (listType !== undefined && !["atomic", "set", "map"].includes(listType))
    errors.push(notSupported(at("type"), listType, ["atomic", "set", "map"]));
  if (keys.length > 0 && listType !== "map") {
    const says = "must be map if x-kubernetes-list-map-keys is non-empty";
    errors.push(listType === undefined ? required(at("type"), says) : invalid(at("type"), listType, says));
  }
  if (listType !== "map") return errors;
  if (keys.length === 0) {
    errors.push(required(at("map-keys"), "must not be empty if x-kubernetes-list-type is map"));
  }
  if (!items) errors.push(required(`${path}.items`, "must have a schema if x-kubernetes-list-type is map"));
  else if (items.type !== "object") {
    const says = "must be object if parent array's x-kubernetes-list-type is map";
    errors.push(invalid(`${path}.items.type`, items.type ?? "", says));
  } else errors.push(...checkKeys(items, keys, path));
  return errors;
}

function checkKeys(items: Schema, keys: readonly string[], path: string): FieldError[] {
  const errors: FieldError[] = [];
  const at = `${path}.x-kubernetes-list-map-keys`;
  keys.forEach((key, i) => {
    const property = items.properties?.[key];
    if (!property) errors.push(invalid(at, keys, "entries must all be names of item properties"));
    else if (property.type === "array" || property.type === "object") {
      const says = "must be a scalar type if parent array's x-kubernetes-list-type is map";
      errors.push(invalid(`${path}.items.properties[${key}].type`, items.type, says));
    }
    if (keys.indexOf(key) < i) errors.push(invalid(at, keys, "must not contain duplicate entries"));
  });
  for (const key of new Set(keys)) {
    const property = items.properties?.[key];
    if (!property || property.default !== undefined || items.required?.includes(key)) continue;
    const says =
      "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
    errors.push(required(`${path}.items.properties[${key}].default`, says));
  }
  return errors;
}

function checkDefault(schema: Schema, path: string): FieldError[] {
  const value = schema.default;
  if (value === undefined || value === null) return [];
  const at = `${path}.default`;
  // As a field of an object: what a schema does not know at the root, it may in an object's own fields.
  const holder: Schema = { type: "object", properties: { value: schema } };
  if (dropUnknown(holder, { value: structuredClone(value) }).length > 0) {
    return [invalid(at, value, "must not have unknown fields")];
  }
  return validateStructure(schema, value as object).map((error) => ({
    ...error,
    field: error.field === "" || error.field === "<nil>" ? at : `${at}.${error.field}`,
  }));
}

/** What Go has against a regular expression; undefined when it takes it. */
function patternProblem(pattern: string): string | undefined {
  try {
    compiled(pattern);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
