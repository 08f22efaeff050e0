/**
 * Protobuf request bodies (media type application/vnd.kubernetes.protobuf) as the JSON objects they stand for.
 * client-go's typed clients send them for built-in kinds; answers may always be JSON. The table of messages is made
 * by `scripts/schemas` from the Go types, and read when the first such body comes.
 */
import { isObject, type JsonObject, setMember } from "../schema/index.ts";
import { special } from "./special.ts";
import { type MessageField, messageNamed, messageOf } from "./table.ts";
import { asBytes, asDouble, asInteger, asText, fields, ProtobufError, type WireValue } from "./wire.ts";

export { durationText, parseDuration } from "./special.ts";
export { type Message, type MessageField, messageNamed, messageOf } from "./table.ts";
export { ProtobufError } from "./wire.ts";

const magic = Uint8Array.of(0x6b, 0x38, 0x73, 0x00);

/** Whether a body begins with the four bytes that Kubernetes puts before its protobuf. */
export function isProtobuf(bytes: Uint8Array): boolean {
  return bytes.length >= 4 && magic.every((byte, i) => bytes[i] === byte);
}

/**
 * The object that a body holds: `k8s\0`, then a runtime.Unknown with the type and the message of that kind
 * (apimachinery `runtime/serializer/protobuf`). Throws ProtobufError when the body is not that, or of a kind that
 * has no protobuf here.
 */
export function decodeProtobuf(bytes: Uint8Array): JsonObject {
  if (!isProtobuf(bytes))
    throw new ProtobufError(
      "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
    );
  let apiVersion = "";
  let kind = "";
  let raw: Uint8Array = new Uint8Array();
  for (const [number, value] of fields(bytes.subarray(4))) {
    if (number === 1) {
      for (const [part, text] of fields(asBytes(value))) {
        if (part === 1) apiVersion = asText(text);
        else if (part === 2) kind = asText(text);
      }
    } else if (number === 2) raw = asBytes(value);
  }
  const name = messageOf(apiVersion, kind);
  if (!name)
    throw new ProtobufError(`no kind "${kind}" is registered for version "${apiVersion}" in protobuf`);
  try {
    return { kind, apiVersion, ...decodeMessage(name, raw) };
  } catch (error) {
    if (error instanceof ProtobufError) throw error;
    // A time out of range, broken JSON inside a RawExtension, nesting too deep for the stack.
    throw new ProtobufError(`proto: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

/** Whether typed clients send this kind as protobuf, and `decodeProtobuf` reads it. */
export function hasProtobuf(apiVersion: string, kind: string): boolean {
  return messageOf(apiVersion, kind) !== undefined;
}

/** Reads one message into the JSON that Go would write of it. */
export function decodeMessage(name: string, bytes: Uint8Array): JsonObject {
  const { fields: known, byNumber } = messageNamed(name);
  const out: JsonObject = {};
  for (const [number, value] of fields(bytes)) {
    const field = byNumber.get(number);
    // Fields that a newer client knows and we do not are dropped, as an API server of our version would.
    if (field) put(out, field, value);
  }
  for (const field of known) finish(out, field);
  return out;
}

function put(out: JsonObject, [, name, type, flags = ""]: MessageField, value: WireValue): void {
  if (name === "") {
    Object.assign(out, decodeValue(type, value));
  } else if (type.startsWith("[]")) {
    const list = Object.hasOwn(out, name) ? (out[name] as unknown[]) : [];
    list.push(decodeValue(type.slice(2), value));
    out[name] = list;
  } else if (type.startsWith("{}")) {
    const map = Object.hasOwn(out, name) ? (out[name] as JsonObject) : {};
    const [key, member] = decodeEntry(type.slice(2), value);
    setMember(map, key, member ?? null);
    out[name] = map;
  } else {
    const decoded = decodeValue(type, value);
    if (decoded === undefined || (!flags.includes("p") && flags.includes("o") && isZero(decoded))) return;
    out[name] = decoded;
  }
}

/** Only scalars have a zero that Go leaves out; a struct is written as `{}` unless the flags say otherwise. */
function isZero(value: unknown): boolean {
  return value === "" || value === 0 || value === false;
}

/** What Go writes although it was not on the wire: scalars and structs that are no pointers and not `omitempty`. */
function finish(out: JsonObject, [, name, type, flags = ""]: MessageField): void {
  if (name === "" || Object.hasOwn(out, name)) {
    const value = out[name];
    if (flags.includes("z") && isObject(value) && Object.keys(value).length === 0) delete out[name];
    return;
  }
  if (flags !== "" || type.startsWith("[]") || type.startsWith("{}")) return;
  if (type === "string") out[name] = "";
  else if (type === "bool") out[name] = false;
  else if (type === "int32" || type === "int64" || type === "double") out[name] = 0;
}

function decodeEntry(type: string, value: WireValue): [string, unknown] {
  let key = "";
  let member: unknown;
  for (const [number, part] of fields(asBytes(value))) {
    if (number === 1) key = asText(part);
    else if (number === 2) member = decodeValue(type, part);
  }
  return [key, member ?? emptyOf(type)];
}

function emptyOf(type: string): unknown {
  if (type === "string" || type === "bytes") return "";
  if (type === "int32" || type === "int64" || type === "double") return 0;
  if (type === "bool") return false;
  if (type === "strings") return [];
  return decodeValue(type, new Uint8Array());
}

function decodeValue(type: string, value: WireValue): unknown {
  switch (type) {
    case "string":
      return asText(value);
    case "bool":
      return asInteger(value) !== 0;
    case "int32":
    case "int64":
      return asInteger(value);
    case "double":
      return asDouble(value);
    case "bytes":
      return Buffer.from(asBytes(value)).toString("base64");
    case "strings":
      return [...fields(asBytes(value))].map(([, item]) => asText(item));
  }
  const read = special[type];
  return read ? read(asBytes(value), decodeMessage) : decodeMessage(type, asBytes(value));
}
