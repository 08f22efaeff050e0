/**
 * Names that CEL and Kubernetes' libraries declare (apiserver `pkg/cel/environment`, `pkg/cel/library`; cel-go
 * `common/stdlib`, `ext`): those that the lab's server can run, and those that it only knows of.
 */
import { type CelType, isKnown, isOpen, simple } from "./cel-types.ts";

/** First parts of qualified names. */
export const namespaces = new Set(
  "math sets strings format optional cel base64 ip lists regex json jsonpatch net google kubernetes protobuf proto authorizer native".split(
    " ",
  ),
);

/** Names of types, which are values too (`type(x) == string`), and what else may stand as a name. */
export const typeNames = new Set([
  ...namespaces,
  ..."bool int uint double string bytes list map null_type type dyn optional_type timestamp duration".split(
    " ",
  ),
]);

/** With how many arguments a macro of a receiver is one; otherwise it is a name that nobody declared. */
export const macroArities: Record<string, readonly number[]> = {
  all: [2, 3],
  exists: [2, 3],
  exists_one: [2, 3],
  existsOne: [2, 3],
  map: [2, 3],
  filter: [2],
  transformList: [3, 4],
  transformMap: [3, 4],
  transformMapEntry: [3, 4],
  sortBy: [2],
  optMap: [2],
  optFlatMap: [2],
};

const functions = new Set(
  `bool bytes double dyn duration int string timestamp type uint size contains endsWith startsWith matches
  getDate getDayOfMonth getDayOfWeek getDayOfYear getFullYear getHours getMilliseconds getMinutes getMonth getSeconds
  charAt format indexOf join lastIndexOf lowerAscii upperAscii replace split substring trim reverse quote strings
  isSorted sum min max distinct flatten range slice sort sortBy first last lists
  find findAll url isURL getScheme getHost getHostname getPort getEscapedPath getQuery
  ip isIP isCanonical family isUnspecified isLoopback isLinkLocalMulticast isLinkLocalUnicast isGlobalUnicast
  cidr isCIDR containsIP containsCIDR masked prefixLength
  quantity isQuantity isInteger asInteger asApproximateFloat sign add sub compareTo isLessThan isGreaterThan
  semver isSemver major minor patch normalize
  named validate dns1123Label dns1123LabelPrefix dns1123Subdomain dns1123SubdomainPrefix dns1035Label
  dns1035LabelPrefix qualifiedName labelValue uri uuid byte date datetime
  contains intersects equivalent of ofNonZeroValue none hasValue value or orValue unwrap unwrapOpt
  optMap optFlatMap transformList transformMap transformMapEntry existsOne bind block index iterVar accuVar
  path group serviceAccount resource subresource namespace name check fieldSelector labelSelector
  allowed reason errored error escapeKey encode decode extract extractAll
  greatest least ceil floor round trunc abs isInf isNaN isFinite bitOr bitAnd bitXor bitNot bitShiftLeft bitShiftRight
  sqrt getExt hasExt to_type`.split(/\s+/),
);

/** Whether some function, of a receiver or not, is called that. Macros are no functions. */
export function isKnownFunction(name: string): boolean {
  return functions.has(name);
}

/** What comes of functions whose result is always of one type. */
const results: Record<string, string> = {
  bool: "bool",
  bytes: "bytes",
  double: "double",
  duration: "duration",
  int: "int",
  string: "string",
  timestamp: "timestamp",
  uint: "uint",
  getDate: "int",
  getDayOfMonth: "int",
  getDayOfWeek: "int",
  getDayOfYear: "int",
  getFullYear: "int",
  getHours: "int",
  getMilliseconds: "int",
  getMinutes: "int",
  getMonth: "int",
  getSeconds: "int",
  charAt: "string",
  join: "string",
  lowerAscii: "string",
  upperAscii: "string",
  substring: "string",
  trim: "string",
  find: "string",
  url: "kubernetes.URL",
  isURL: "bool",
  isIP: "bool",
  isCIDR: "bool",
  isQuantity: "bool",
  quantity: "kubernetes.Quantity",
  isSorted: "bool",
};

const sized = ["string", "bytes", "list", "map"];
const ofText = ["contains", "startsWith", "endsWith", "matches"];

/** The type of a call, which may be unknown; undefined when no overload takes these arguments for certain. */
export function resultOf(
  name: string,
  receiver: CelType | undefined,
  types: readonly CelType[],
): CelType | undefined {
  const all = receiver ? [receiver, ...types] : types;
  if (name === "dyn") return simple("dyn");
  if (!all.every(isKnown)) return simple(results[name] ?? "unknown");
  if (name === "size") {
    const isRight = all.length === 1 && (isOpen(all[0]!) || sized.includes(all[0]!.kind));
    return isRight ? simple("int") : undefined;
  }
  if (ofText.includes(name) && receiver?.kind === "string") {
    const isRight = types.length === 1 && (isOpen(types[0]!) || types[0]!.kind === "string");
    return isRight ? simple("bool") : undefined;
  }
  return simple(results[name] ?? "unknown");
}
