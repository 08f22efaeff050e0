/**
 * The types of CEL's checker, as far as rules of CRDs need them, and those that a schema gives `self`
 * (apiserver `pkg/cel/common/schemas.go`, SchemaDeclType).
 */
import { celNames } from "./cel-values.ts";
import { isObject, type Schema } from "./schema.ts";

/**
 * A type. `dyn` is CEL's own; `unknown` is what this checker does not know, so that nothing is said of it; `error` is
 * that of a part that was refused already.
 */
export type CelType =
  | { kind: "list"; of: CelType }
  | { kind: "map"; key: CelType; of: CelType }
  | { kind: "object"; name: string; fields: ReadonlyMap<string, CelType> }
  | { kind: string };

export const simple = (kind: string): CelType => ({ kind });
export const unknownType = simple("unknown");
export const errorType = simple("error");
export const listOf = (of: CelType): CelType => ({ kind: "list", of });

export const isList = (type: CelType): type is { kind: "list"; of: CelType } => type.kind === "list";
export const isMap = (type: CelType): type is { kind: "map"; key: CelType; of: CelType } =>
  type.kind === "map";
export const isStruct = (
  type: CelType,
): type is { kind: "object"; name: string; fields: ReadonlyMap<string, CelType> } => type.kind === "object";

/** Whether this may turn out to be any type. */
export const isOpen = ({ kind }: CelType) => kind === "unknown" || kind === "dyn" || kind === "error";

/** Whether something of our ignorance is in a type. */
export function isKnown(type: CelType): boolean {
  if (isList(type)) return isKnown(type.of);
  if (isMap(type)) return isKnown(type.key) && isKnown(type.of);
  return type.kind !== "unknown";
}

/** Types that hold no null, unlike objects and what CEL keeps as messages. */
const withoutNull = ["bool", "int", "uint", "double", "string", "bytes"];

/** Whether both may be the same type. */
export function canBeSame(a: CelType, b: CelType): boolean {
  if (isOpen(a) || isOpen(b)) return true;
  if (a.kind === "null" || b.kind === "null") {
    return !withoutNull.includes(a.kind) && !withoutNull.includes(b.kind);
  }
  if (isList(a) && isList(b)) return canBeSame(a.of, b.of);
  if (isMap(a) && isMap(b)) return canBeSame(a.key, b.key) && canBeSame(a.of, b.of);
  return a.kind === b.kind;
}

/** A type as CEL's errors write it. Real servers put a number behind `selfType`, another one each time. */
export function showType(type: CelType): string {
  if (isList(type)) return `list(${showType(type.of)})`;
  if (isMap(type)) return `map(${showType(type.key)}, ${showType(type.of)})`;
  if (isStruct(type)) return type.name;
  return type.kind === "error" ? "!error!" : type.kind;
}

const made = new WeakMap<Schema, CelType>();

/** The type of `self` for the rules of a schema; `isResource` at the root and in embedded resources. */
export function typeOfSchema(schema: Schema, isResource: boolean): CelType {
  const known = made.get(schema);
  if (known) return known;
  const type = typeOf(schema, isResource, "selfType");
  made.set(schema, type);
  return type;
}

const texts: Record<string, string> = { byte: "bytes", duration: "duration", date: "timestamp" };

function typeOf(schema: Schema, isResource: boolean, name: string): CelType {
  if (schema["x-kubernetes-int-or-string"]) return simple("dyn");
  const of = (part: Schema, at: string) =>
    typeOf(part, part["x-kubernetes-embedded-resource"] === true, `${name}.${at}`);
  switch (schema.type) {
    case "boolean":
      return simple("bool");
    case "integer":
      return simple("int");
    case "number":
      return simple("double");
    case "string":
      if (schema.format === "datetime") return unknownType;
      return simple(schema.format === "date-time" ? "timestamp" : (texts[schema.format ?? ""] ?? "string"));
    case "array":
      return listOf(schema.items ? of(schema.items, "@idx") : unknownType);
    case "object": {
      if (isObject(schema.additionalProperties)) {
        const value = of(schema.additionalProperties as Schema, "@elem");
        return { kind: "map", key: simple("string"), of: value };
      }
      if (schema.additionalProperties === true) return unknownType;
      const fields = new Map<string, CelType>();
      for (const [field, part] of Object.entries(schema.properties ?? {}))
        for (const said of celNames(field)) fields.set(said, of(part, field));
      if (isResource) {
        fields.set("apiVersion", simple("string")).set("kind", simple("string"));
        fields.set("metadata", unknownType);
      }
      return { kind: "object", name, fields };
    }
    default:
      return unknownType;
  }
}
