/** The string formats that CRD schemas may name (apiextensions `validation/formats.go`); others are not checked. */
import { isIPv4, isIPv6 } from "node:net";
import { isRange } from "../../../addresses/index.ts";

const uuid = (version: string, variant: string) =>
  new RegExp(`^[0-9a-f]{8}-?[0-9a-f]{4}-?${version}[0-9a-f]{3}-?${variant}[0-9a-f]{3}-?[0-9a-f]{12}$`, "i");

const label = "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?";
const hex = "[0-9a-f]";

const formats: Record<string, (text: string) => boolean> = {
  bsonobjectid: matching(/^[0-9a-f]{24}$/i),
  uri: (text) => text.startsWith("/") || URL.canParse(text),
  email: matching(/^[^@\s]+@[^@\s]+$/),
  hostname: isHostname,
  ipv4: isIPv4,
  ipv6: isIPv6,
  cidr: isCidr,
  mac: matching(
    /^(?:[0-9a-f]{2}([:-]))(?:[0-9a-f]{2}\1){4,18}[0-9a-f]{2}$|^(?:[0-9a-f]{4}\.){2,9}[0-9a-f]{4}$/i,
  ),
  uuid: uuid(hex, hex).test.bind(uuid(hex, hex)),
  uuid3: uuid("3", hex).test.bind(uuid("3", hex)),
  uuid4: uuid("4", "[89ab]").test.bind(uuid("4", "[89ab]")),
  uuid5: uuid("5", "[89ab]").test.bind(uuid("5", "[89ab]")),
  hexcolor: matching(/^#?(?:[0-9a-f]{3}|[0-9a-f]{6})$/i),
  byte: matching(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/),
  date: isDate,
  datetime: (text) =>
    /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:?\d\d)$/.test(text) &&
    isDate(text.slice(0, 10)),
  duration: (text) =>
    /^[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|ms|s|m|h))+$/.test(text) ||
    /^\d+(?:\.\d+)? ?(?:ns|nano\w*|us|µs|micro\w*|ms|milli\w*|s|sec\w*|m|min\w*|h|hr|hour\w*|d|day\w*|w|wk|week\w*)$/.test(
      text,
    ) ||
    text === "0",
  k8sshortname: (text) => text.length <= 63 && new RegExp(`^${label}$`).test(text),
  k8slongname: (text) => text.length <= 253 && new RegExp(`^${label}(?:\\.${label})*$`).test(text),
};

/** Whether a text has the format; true for formats that Kubernetes does not check. Dashes in names do not count. */
export function matchesFormat(format: string, text: string): boolean {
  const name = format.replaceAll("-", "");
  return !Object.hasOwn(formats, name) || formats[name]!(text);
}

/** Formats that Kubernetes knows and that say nothing of the text, or that are not looked at here. */
const unchecked = ["isbn", "isbn10", "isbn13", "creditcard", "ssn", "rgbcolor", "password"];

/** Whether Kubernetes knows a format for values of a type. */
export function isKnownFormat(type: string | undefined, format: string): boolean {
  if (type === "integer") return format === "int32" || format === "int64";
  if (type === "number") return format === "float" || format === "double";
  const name = format.replaceAll("-", "");
  return (
    (type === undefined || type === "string") && (Object.hasOwn(formats, name) || unchecked.includes(name))
  );
}

function matching(pattern: RegExp): (text: string) => boolean {
  return (text) => pattern.test(text);
}

function isHostname(text: string): boolean {
  return (
    text.length <= 255 &&
    text.split(".").every((part) => /^[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$/.test(part))
  );
}

/** An address and the length of its prefix, as Go's net.ParseCIDR takes them. */
function isCidr(text: string): boolean {
  return text.includes("/") && isRange(text);
}

function isDate(text: string): boolean {
  if (!/^\d{4}-\d\d-\d\d$/.test(text)) return false;
  const date = new Date(`${text}T00:00:00Z`);
  return !Number.isNaN(date.valueOf()) && date.toISOString().startsWith(text);
}
