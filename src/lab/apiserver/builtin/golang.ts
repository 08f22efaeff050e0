/**
 * Built-in objects as Go reads and writes them. An API server decodes what it is sent into typed structs: nulls and
 * empty optional fields vanish, structs that are no pointers appear, quantities and times get their one spelling,
 * and a value of a wrong type is an error with encoding/json's text.
 */
import { type Message, messageNamed, messageOf } from "../protobuf/index.ts";
import { isObject, type JsonObject, setMember } from "../schema/index.ts";
import { canonicalQuantity, quantityError } from "./quantity.ts";

/** A value of a wrong type. */
export interface DecodeProblem {
  /** `spec.replicas`, without the places in lists, as Go says it. */
  field: string;
  /** `json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32` */
  message: string;
}

/**
 * Brings an object into the form in which Go would write it, in place. Returns the first value of a wrong type,
 * which stays as it is; the API server answers 400 for that: `… cannot be handled as a Deployment: <message>`.
 * Objects of kinds without a Go type here are left alone.
 */
export function normalizeBuiltin(object: object): DecodeProblem | undefined {
  const { apiVersion, kind } = object as JsonObject;
  const name =
    typeof apiVersion === "string" && typeof kind === "string" ? messageOf(apiVersion, kind) : undefined;
  return name ? struct(messageNamed(name), object as JsonObject, "") : undefined;
}

function struct(message: Message, object: JsonObject, path: string): DecodeProblem | undefined {
  let problem: DecodeProblem | undefined;
  for (const [name, field] of message.byName) {
    const [, , type, flags = ""] = field;
    const value = Object.hasOwn(object, name) ? object[name] : undefined;
    const isPointer = flags.includes("p");
    const omitsEmpty = flags.includes("o");
    if (value === undefined || value === null) {
      if (value === null) delete object[name];
      if (isPointer || flags.includes("z")) continue;
      const zero = zeroOf(type, omitsEmpty);
      if (zero !== undefined) object[name] = zero;
      continue;
    }
    const at = path === "" ? name : `${path}.${name}`;
    const found = convert(type, value, at, message, (made) => {
      object[name] = made;
    });
    problem ??= found;
    // An empty list of managed fields is a wish: nobody is to own anything.
    if (name === "managedFields") continue;
    if (omitsEmpty && !isPointer && isEmpty(type, object[name])) delete object[name];
  }
  return problem;
}

/** What a field holds that was not given: a struct is there, and so is a scalar that is not left out when it is zero. */
function zeroOf(type: string, omitsEmpty: boolean): unknown {
  if (type.startsWith("[]") || type.startsWith("{}")) return undefined;
  if (isStruct(type)) {
    const made: JsonObject = {};
    struct(messageNamed(type), made, "");
    return made;
  }
  if (omitsEmpty) return undefined;
  return type === "string"
    ? ""
    : type === "bool"
      ? false
      : type === "int32" || type === "int64"
        ? 0
        : undefined;
}

const needs = new Map<Message, boolean>();

/** Whether objects of this type have anything that Go writes as null. */
function needsNulls(message: Message): boolean {
  let found = needs.get(message);
  if (found === undefined) {
    needs.set(message, false); // types that contain themselves
    found = [...message.byName.values()].some(([, , type, flags = ""]) => {
      if (isNullable(type, flags)) return true;
      const inner = type.replace(/^(\[\]|\{\})+/, "");
      return isStruct(inner) && needsNulls(messageNamed(inner));
    });
    needs.set(message, found);
  }
  return found;
}

/** A list, a map or a time that is written although there is nothing in it. */
function isNullable(type: string, flags: string): boolean {
  if (flags.includes("p") || flags.includes("z")) return false;
  if (type === "time" || type === "microTime") return true;
  return !flags.includes("o") && (type.startsWith("[]") || type.startsWith("{}"));
}

/**
 * Writes the nulls of Go, in place: an object that went through Kubernetes' storage has them in the place of empty
 * lists that are not left out, and of times that were not given (`rules: null` of a Role without rules).
 */
export function writeNulls(object: object): void {
  const { apiVersion, kind } = object as JsonObject;
  const name = messageOf(String(apiVersion), String(kind));
  if (name) nullsOf(messageNamed(name), object as JsonObject);
}

function nullsOf(message: Message, object: JsonObject): void {
  if (!needsNulls(message)) return;
  for (const [name, [, , type, flags = ""]] of message.byName) {
    const value = object[name];
    if (isNullable(type, flags)) {
      const isEmpty =
        value === undefined ||
        (Array.isArray(value) ? value.length === 0 : isObject(value) && Object.keys(value).length === 0);
      if (isEmpty) object[name] = null;
    }
    if (typeof value !== "object" || value === null) continue;
    const inner = type.replace(/^(\[\]|\{\})/, "");
    if (!isStruct(inner) || !needsNulls(messageNamed(inner))) continue;
    const of = messageNamed(inner);
    for (const item of inner === type ? [value] : Object.values(value)) if (isObject(item)) nullsOf(of, item);
  }
}

function isStruct(type: string): boolean {
  return type.includes(".");
}

function isEmpty(type: string, value: unknown): boolean {
  if (type.startsWith("[]")) return Array.isArray(value) && value.length === 0;
  if (type.startsWith("{}")) return isObject(value) && Object.keys(value).length === 0;
  return !isStruct(type) && (value === "" || value === 0 || value === false);
}

const ranges: Record<string, number> = { int32: 2 ** 31, int64: 2 ** 63 };

function convert(
  type: string,
  value: unknown,
  path: string,
  owner: Message,
  put: (made: unknown) => void,
): DecodeProblem | undefined {
  // A null in a list or map has become Go's zero value, where that is no null itself.
  if (value === null) return undefined;
  const wrong = (): DecodeProblem => {
    const struct = owner.name.slice(owner.name.lastIndexOf(".") + 1);
    const was = typeof value === "number" && !Number.isInteger(value) ? `number ${value}` : jsonType(value);
    return {
      field: path,
      message: `json: cannot unmarshal ${was} into Go struct field ${struct}.${path} of type ${goType(type)}`,
    };
  };
  if (type.startsWith("[]")) {
    if (!Array.isArray(value)) return wrong();
    let problem: DecodeProblem | undefined;
    value.forEach((item, i) => {
      if (item === null) value[i] = zeroOf(type.slice(2), false) ?? null;
      const found = convert(type.slice(2), item, path, owner, (made) => {
        value[i] = made;
      });
      problem ??= found;
    });
    return problem;
  }
  if (type.startsWith("{}")) {
    if (!isObject(value)) return wrong();
    let problem: DecodeProblem | undefined;
    for (const [name, member] of Object.entries(value)) {
      if (member === null) setMember(value, name, zeroOf(type.slice(2), false) ?? null);
      const found = convert(type.slice(2), member, path, owner, (made) => setMember(value, name, made));
      problem ??= found;
    }
    return problem;
  }
  switch (type) {
    case "string":
      return typeof value === "string" ? undefined : wrong();
    case "bool":
      return typeof value === "boolean" ? undefined : wrong();
    case "int32":
    case "int64": {
      const limit = ranges[type]!;
      const fits = typeof value === "number" && Number.isInteger(value) && value < limit && value >= -limit;
      return fits ? undefined : wrong();
    }
    case "double":
      return typeof value === "number" ? undefined : wrong();
    case "bytes":
      if (typeof value !== "string") return wrong();
      return /^[A-Za-z0-9+/\r\n]*={0,2}[\r\n]*$/.test(value) && value.replace(/[\r\n]/g, "").length % 4 === 0
        ? undefined
        : {
            field: path,
            message: `illegal base64 data at input byte ${value.search(/[^A-Za-z0-9+/\r\n]|$/)}`,
          };
    case "strings":
      return Array.isArray(value) && value.every((item) => typeof item === "string") ? undefined : wrong();
    case "quantity": {
      const written = canonicalQuantity(value);
      if (written === undefined) return { field: path, message: quantityError };
      if (written !== value) put(written);
      return undefined;
    }
    case "intOrString":
      return typeof value === "string" || Number.isInteger(value) ? undefined : wrong();
    case "time":
    case "microTime":
      return time(type, value, path, wrong, put);
    case "json":
    case "duration":
    case "schemaOrBool":
    case "schemaOrArray":
    case "schemaOrStrings":
      return undefined;
    default:
      return isObject(value) ? struct(messageNamed(type), value, path) : wrong();
  }
}

function time(
  type: string,
  value: unknown,
  path: string,
  wrong: () => DecodeProblem,
  put: (made: unknown) => void,
): DecodeProblem | undefined {
  if (typeof value !== "string") return wrong();
  const match = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(?:Z|[+-]\d\d:\d\d)$/.exec(value);
  const instant = match ? new Date(value) : undefined;
  if (!match || !instant || Number.isNaN(instant.valueOf())) {
    return {
      field: path,
      message: `parsing time ${JSON.stringify(value)} as "2006-01-02T15:04:05Z07:00": cannot parse ${JSON.stringify(value)} as "2006"`,
    };
  }
  if (type === "microTime" && (match[1] ?? "").length !== 7) {
    const fraction = match[1] ?? "";
    const zone = value.slice(19 + fraction.length);
    const cannot =
      fraction.length > 7
        ? `${JSON.stringify(`${fraction.slice(7)}${zone}`)} as "Z07:00"`
        : `${JSON.stringify(`${fraction}${zone}`)} as ".000000"`;
    return {
      field: path,
      message: `parsing time ${JSON.stringify(value)} as "2006-01-02T15:04:05.000000Z07:00": cannot parse ${cannot}`,
    };
  }
  const seconds = instant.toISOString().slice(0, 19);
  const written =
    type === "time" ? `${seconds}Z` : `${seconds}.${(match[1] ?? ".").slice(1, 7).padEnd(6, "0")}Z`;
  if (written !== value) put(written);
  return undefined;
}

function jsonType(value: unknown): string {
  if (Array.isArray(value)) return "array";
  return typeof value === "boolean" ? "bool" : typeof value;
}

/** A type's name in Go: `v1.PodSpec`, `[]v1.Container`, `map[string]string`. */
function goType(type: string): string {
  if (type.startsWith("[]")) return `[]${goType(type.slice(2))}`;
  if (type.startsWith("{}")) return `map[string]${goType(type.slice(2))}`;
  if (type === "bytes") return "[]uint8";
  if (type === "double") return "float64";
  const short = type.split(".");
  if (short.length > 1) return short.slice(-2).join(".");
  const names: Record<string, string> = {
    intOrString: "intstr.IntOrString",
    time: "string",
    microTime: "string",
    strings: "[]string",
    quantity: "resource.Quantity",
  };
  return names[type] ?? type;
}
