/** The Go types whose JSON is not that of their protobuf fields. */
import type { JsonObject } from "../schema/index.ts";
import { asBytes, asInteger, asText, fields } from "./wire.ts";

type DecodeMessage = (name: string, bytes: Uint8Array) => JsonObject;

const schemaMessage = "apiextensions.v1.JSONSchemaProps";

/** By the names that `scripts/schemas` gives them. `undefined` means that JSON leaves the field out. */
export const special: Record<string, (bytes: Uint8Array, decode: DecodeMessage) => unknown> = {
  /** metav1.Time: seconds and nanos; JSON has whole seconds in UTC, and nothing for the zero time. */
  time(bytes) {
    const [seconds] = secondsAndNanos(bytes);
    return seconds === undefined ? undefined : `${new Date(seconds * 1000).toISOString().slice(0, 19)}Z`;
  },
  /** metav1.MicroTime: the same with six digits. */
  microTime(bytes) {
    const [seconds, nanos] = secondsAndNanos(bytes);
    if (seconds === undefined) return undefined;
    const micros = String(Math.floor(nanos / 1000)).padStart(6, "0");
    return `${new Date(seconds * 1000).toISOString().slice(0, 19)}.${micros}Z`;
  },
  /** metav1.Duration: nanoseconds; JSON has Go's text of a duration. */
  duration(bytes) {
    let nanos = 0;
    for (const [, value] of fields(bytes)) nanos = asInteger(value);
    return durationText(nanos);
  },
  /** RawExtension, FieldsV1 and apiextensions' JSON: the JSON text itself. */
  json(bytes) {
    for (const [, value] of fields(bytes)) {
      const text = asText(value);
      if (text !== "") return JSON.parse(text) as unknown;
    }
    return undefined;
  },
  /** resource.Quantity: its text. */
  quantity(bytes) {
    for (const [, value] of fields(bytes)) return asText(value);
    return "0";
  },
  /** intstr.IntOrString: type (0 int, 1 string), int, string. */
  intOrString(bytes) {
    let isText = false;
    let number = 0;
    let text = "";
    for (const [field, value] of fields(bytes)) {
      if (field === 1) isText = asInteger(value) === 1;
      else if (field === 2) number = asInteger(value);
      else if (field === 3) text = asText(value);
    }
    return isText ? text : number;
  },
  /** `allows` or a schema. */
  schemaOrBool(bytes, decode) {
    let allows = false;
    for (const [field, value] of fields(bytes)) {
      if (field === 1) allows = asInteger(value) !== 0;
      else if (field === 2) return decode(schemaMessage, asBytes(value));
    }
    return allows;
  },
  /** A schema or a list of them. */
  schemaOrArray(bytes, decode) {
    const list: unknown[] = [];
    for (const [field, value] of fields(bytes)) {
      if (field === 1) return decode(schemaMessage, asBytes(value));
      list.push(decode(schemaMessage, asBytes(value)));
    }
    return list;
  },
  /** A schema or a list of property names. */
  schemaOrStrings(bytes, decode) {
    const list: string[] = [];
    for (const [field, value] of fields(bytes)) {
      if (field === 1) return decode(schemaMessage, asBytes(value));
      list.push(asText(value));
    }
    return list;
  },
};

/** Go's zero time (year 1) is sent with no fields, or as its seconds before 1970. */
function secondsAndNanos(bytes: Uint8Array): [number | undefined, number] {
  let seconds: number | undefined;
  let nanos = 0;
  for (const [field, value] of fields(bytes)) {
    if (field === 1) seconds = asInteger(value);
    else if (field === 2) nanos = asInteger(value);
  }
  return seconds === undefined || seconds <= -62135596800 ? [undefined, 0] : [seconds, nanos];
}

/** A duration as Go's time.Duration prints it: `1h0m0s`, `1.5s`, `10ms`. */
export function durationText(nanos: number): string {
  if (nanos === 0) return "0s";
  const sign = nanos < 0 ? "-" : "";
  const size = Math.abs(nanos);
  if (size < 1e3) return `${sign}${size}ns`;
  if (size < 1e6) return `${sign}${size / 1e3}µs`;
  if (size < 1e9) return `${sign}${size / 1e6}ms`;
  const hours = Math.floor(size / 3.6e12);
  const minutes = Math.floor((size % 3.6e12) / 6e10);
  const seconds = (size % 6e10) / 1e9;
  if (hours > 0) return `${sign}${hours}h${minutes}m${seconds}s`;
  return minutes > 0 ? `${sign}${minutes}m${seconds}s` : `${sign}${seconds}s`;
}

const units: Record<string, number> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 6e10, h: 3.6e12 };

/** Reads Go's text of a duration into nanoseconds; undefined when it is none. */
export function parseDuration(text: string): number | undefined {
  if (text === "0") return 0;
  if (!/^[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|ms|s|m|h))+$/.test(text)) return undefined;
  let nanos = 0;
  for (const [, amount, unit] of text.matchAll(/([\d.]+)(ns|us|µs|ms|s|m|h)/g))
    nanos += Number(amount) * units[unit!]!;
  return text.startsWith("-") ? -nanos : nanos;
}
