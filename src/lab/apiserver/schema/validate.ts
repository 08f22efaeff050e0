/**
 * Validation of an object against a schema, with the texts of kube-openapi's validator (`validation/validate`) as
 * apiextensions turns them into field errors (`apiserver/validation`).
 */
import { type Re2, re2 } from "../../../api/index.ts";
import { objectMetaSchema } from "./builtin.ts";
import { duplicate, type FieldError, invalid, notSupported, required, tooLong, tooMany } from "./errors.ts";
import { matchesFormat } from "./formats.ts";
import { childPath, equalJson, isObject, memberSchema, type Schema } from "./schema.ts";

/**
 * What is wrong with a custom object by its schema, CEL rules apart (`checkRules` has those). Parts that are
 * unchanged since `old` are not judged anew (KEP-4008, ratcheting). Not for built-in kinds: what OpenAPI calls
 * required there Go fills with zero values; `validateBuiltin` knows them.
 */
export function validateStructure(schema: Schema, object: object, old?: object): FieldError[] {
  const errors: FieldError[] = [];
  check(schema, object, old, "", errors, true);
  checkLists(schema, object, old, "", errors);
  return errors;
}

/** Validation of one value: `errors` gets what is wrong with it and everything in it. */
function check(
  schema: Schema,
  value: unknown,
  old: unknown,
  path: string,
  errors: FieldError[],
  isResource = false,
): void {
  if (old !== undefined && equalJson(value, old)) return;
  checkType(schema, value, path, errors);
  if (value === null) return;
  checkCombinations(schema, value, path, errors);
  if (typeof value === "string") checkString(schema, value, path, errors);
  else if (typeof value === "number") checkNumber(schema, value, path, errors);
  else if (Array.isArray(value)) checkArray(schema, value, old, path, errors);
  if (schema.enum && !schema.enum.some((allowed) => equalJson(allowed, value))) {
    const supported = schema.enum.map((allowed) =>
      typeof allowed === "string" ? allowed : JSON.stringify(allowed),
    );
    errors.push(notSupported(path, value, supported));
  }
  if (isObject(value)) checkObject(schema, value, old, path, errors, isResource);
}

function typeOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  if (typeof value === "number") return Number.isInteger(value) ? "integer" : "number";
  return typeof value;
}

function checkType(schema: Schema, value: unknown, path: string, errors: FieldError[]): void {
  const types = schema["x-kubernetes-int-or-string"]
    ? ["integer", "string"]
    : schema.type
      ? [schema.type]
      : [];
  if (types.length === 0 || (value === null && schema.nullable)) return;
  const actual = typeOf(value);
  if (types.includes(actual) || (actual === "integer" && types.includes("number"))) return;
  errors.push({
    ...wrong(path, actual, `must be of type ${types.join(",")}: "${actual}"`),
    type: "FieldValueTypeInvalid",
  });
}

/** The validator's own phrasing: it names the field again, "in body". */
function wrong(path: string, value: unknown, says: string): FieldError {
  return invalid(path, value, `${path} in body ${says}`);
}

/** Errors of allOf, anyOf, oneOf and not belong to no field, which Go prints as `<nil>`. */
function unplaced(path: string, says: string): FieldError {
  return invalid("<nil>", "", `"${path}" ${says}`);
}

function checkCombinations(schema: Schema, value: unknown, path: string, errors: FieldError[]): void {
  const { allOf, anyOf, oneOf, not } = schema;
  if (!allOf && !anyOf && !oneOf && !not) return;
  const attempt = (alternative: Schema) => {
    const found: FieldError[] = [];
    check(alternative, value, undefined, path, found);
    return found;
  };
  if (anyOf && anyOf.length > 0) {
    const attempts = anyOf.map(attempt);
    if (!attempts.some((found) => found.length === 0)) {
      errors.push(unplaced(path, "must validate at least one schema (anyOf)"), ...shortest(attempts));
    }
  }
  if (oneOf && oneOf.length > 0) {
    const attempts = oneOf.map(attempt);
    const valid = attempts.filter((found) => found.length === 0).length;
    if (valid !== 1) {
      const count = valid === 0 ? "Found none valid" : `Found ${valid} valid alternatives`;
      errors.push(unplaced(path, `must validate one and only one schema (oneOf). ${count}`));
      if (valid === 0) errors.push(...shortest(attempts));
    }
  }
  if (allOf && allOf.length > 0) {
    const attempts = allOf.map(attempt);
    const failed = attempts.filter((found) => found.length > 0);
    errors.push(...failed.flat());
    if (failed.length > 0) {
      const none = failed.length === attempts.length ? ". None validated" : "";
      errors.push(unplaced(path, `must validate all the schemas (allOf)${none}`));
    }
  }
  if (not && attempt(not).length === 0) errors.push(unplaced(path, "must not validate the schema (not)"));
}

/** Of several failed alternatives the one that came nearest tells most. */
function shortest(attempts: FieldError[][]): FieldError[] {
  return attempts.reduce((best, found) => (found.length < best.length ? found : best));
}

function checkString(schema: Schema, value: string, path: string, errors: FieldError[]): void {
  const length = [...value].length;
  // Kubernetes' validator says the first of these.
  if (schema.maxLength !== undefined && length > schema.maxLength)
    errors.push(tooLong(path, schema.maxLength));
  else if (schema.minLength !== undefined && length < schema.minLength) {
    errors.push(wrong(path, value, `should be at least ${schema.minLength} chars long`));
  } else if (schema.pattern !== undefined && !compiled(schema.pattern).test(value)) {
    errors.push(wrong(path, value, `should match '${schema.pattern}'`));
  }
  if (
    schema.format &&
    (schema.type === "string" || schema.type === undefined) &&
    !matchesFormat(schema.format, value)
  ) {
    errors.push({
      ...wrong(path, value, `must be of type ${schema.format}: ${JSON.stringify(value)}`),
      type: "FieldValueTypeInvalid",
    });
  }
}

const patterns = new Map<string, Re2>();

/** A pattern (Go's, which is RE2). Throws for what is none. */
export function compiled(pattern: string): Re2 {
  let made = patterns.get(pattern);
  if (!made) {
    made = re2(pattern);
    if (patterns.size > 5000) patterns.clear();
    patterns.set(pattern, made);
  }
  return made;
}

function checkNumber(schema: Schema, value: number, path: string, errors: FieldError[]): void {
  const { maximum, minimum, multipleOf } = schema;
  if (multipleOf !== undefined && !Number.isInteger(value / multipleOf)) {
    errors.push(wrong(path, value, `should be a multiple of ${multipleOf}`));
  }
  if (maximum !== undefined && (schema.exclusiveMaximum ? value >= maximum : value > maximum)) {
    errors.push(
      wrong(path, value, `should be less than ${schema.exclusiveMaximum ? "" : "or equal to "}${maximum}`),
    );
  }
  if (minimum !== undefined && (schema.exclusiveMinimum ? value <= minimum : value < minimum)) {
    errors.push(
      wrong(path, value, `should be greater than ${schema.exclusiveMinimum ? "" : "or equal to "}${minimum}`),
    );
  }
  const limit = schema.format === "int32" ? 2 ** 31 : undefined;
  if (schema.type === "integer" && limit && (value >= limit || value < -limit)) {
    errors.push(wrong(path, value, `must be of type int32: "int64"`));
  }
}

function checkArray(
  schema: Schema,
  value: unknown[],
  old: unknown,
  path: string,
  errors: FieldError[],
): void {
  const oldItem = correlate(schema, old);
  if (schema.items) {
    for (let i = 0; i < value.length; i++)
      check(schema.items, value[i], oldItem(value[i]), `${path}[${i}]`, errors);
  }
  if (schema.minItems !== undefined && value.length < schema.minItems) {
    errors.push(wrong(path, value.length, `should have at least ${schema.minItems} items`));
  }
  if (schema.maxItems !== undefined && value.length > schema.maxItems) {
    errors.push(tooMany(path, value.length, schema.maxItems));
  }
  if (schema.uniqueItems && value.some((item, i) => value.findIndex((other) => equalJson(item, other)) < i)) {
    errors.push(wrong(path, "", "shouldn't contain duplicates"));
  }
}

function checkObject(
  schema: Schema,
  value: Record<string, unknown>,
  old: unknown,
  path: string,
  errors: FieldError[],
  isResource: boolean,
): void {
  const size = Object.keys(value).length;
  if (schema.minProperties !== undefined && size < schema.minProperties) {
    errors.push(wrong(path, size, `should have at least ${schema.minProperties} properties`));
  }
  if (schema.maxProperties !== undefined && size > schema.maxProperties) {
    errors.push(tooMany(path, size, schema.maxProperties));
  }
  for (const [name, member] of Object.entries(value)) {
    const own = memberSchema(schema, name);
    const at = childPath(path, name);
    const embedded = schema["x-kubernetes-embedded-resource"] === true;
    if ((isResource || embedded) && name === "metadata")
      check(objectMetaSchema(), member, undefined, at, errors);
    else if (own) check(own, member, isObject(old) ? old[name] : undefined, at, errors);
    else if (schema.additionalProperties === false) {
      errors.push(wrong(at, name, "is a forbidden property"));
    }
  }
  if (schema["x-kubernetes-embedded-resource"]) {
    for (const name of ["apiVersion", "kind"]) {
      if (typeof value[name] !== "string" || value[name] === "")
        errors.push(required(childPath(path, name), "must not be empty"));
    }
  }
  for (const name of schema.required ?? []) {
    if (!Object.hasOwn(value, name)) errors.push(required(childPath(path, name)));
  }
}

/** Finds the old item that a new one stands for: in lists of type map the one with the same keys. */
export function correlate(schema: Schema, old: unknown): (item: unknown) => unknown {
  const keys = schema["x-kubernetes-list-map-keys"];
  if (schema["x-kubernetes-list-type"] !== "map" || !keys || !Array.isArray(old)) return () => undefined;
  return (item) =>
    isObject(item)
      ? old.find((other: unknown) => isObject(other) && keys.every((key) => equalJson(other[key], item[key])))
      : undefined;
}

/** Uniqueness in lists of type set and map (apiextensions `schema/listtype`). */
function checkLists(schema: Schema, value: unknown, old: unknown, path: string, errors: FieldError[]): void {
  if (old !== undefined && equalJson(value, old)) return;
  if (Array.isArray(value)) {
    const type = schema["x-kubernetes-list-type"];
    const keys = schema["x-kubernetes-list-map-keys"] ?? [];
    if (type === "set" || type === "map") {
      const seen = new Map<string, number>();
      value.forEach((item: unknown, i) => {
        const identity =
          type === "set" || !isObject(item)
            ? item
            : Object.fromEntries(
                keys.filter((key) => Object.hasOwn(item, key)).map((key) => [key, item[key]]),
              );
        const text = JSON.stringify(identity);
        const times = (seen.get(text) ?? 0) + 1;
        seen.set(text, times);
        if (times === 2) errors.push(duplicate(`${path}[${i}]`, identity));
      });
    }
    const oldItem = correlate(schema, old);
    const items = schema.items;
    if (items) {
      value.forEach((item, i) => {
        checkLists(items, item, oldItem(item), `${path}[${i}]`, errors);
      });
    }
  } else if (isObject(value)) {
    for (const [name, member] of Object.entries(value)) {
      const own = memberSchema(schema, name);
      if (own) checkLists(own, member, isObject(old) ? old[name] : undefined, childPath(path, name), errors);
    }
  }
}
