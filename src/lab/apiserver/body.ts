/** Request bodies: JSON, YAML or protobuf into plain data, and nothing that could harm the process. */
import { builtinTypes } from "./builtins.ts";
import type { Call } from "./core.ts";
import { duplicateFields, hasDuplicates, jsonProblem } from "./json.ts";
import { type ApiObject, asRecord } from "./object.ts";
import { type ResourceType, versionOf } from "./registry.ts";
import { invalid as invalidField } from "./schema/index.ts";
import { badRequest, invalid, type StatusError, unsupportedMediaType } from "./status.ts";

/** Larger bodies are refused with 413, as kube-apiserver does. Bytes. */
export const bodyLimit = 3 * 1024 * 1024;

const deepest = 512;
const openBrace = 0x7b;
const accepted = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/** The media type of the body without parameters. */
export function mediaType(call: Call): string {
  return (call.headers["content-type"] ?? "application/json").split(";")[0]!.trim().toLowerCase();
}

/** A text that cannot be read, in the words of Go's decoders. */
class ParseError extends Error {}

/** What stands twice in a body, by what was read from it: told as `fieldValidation` says. */
const twice = new WeakMap<object, Twice>();

interface Twice {
  /** Paths of duplicate fields with their places in the text, or whole sentences for YAML. */
  duplicates: ReadonlyMap<string, number> | readonly string[];
  /** Where each field stands first. */
  places: ReadonlyMap<string, number>;
}

/** The strict decoding errors of a body, given those fields of it that nothing knows: in the text's order. */
export function strictProblems(value: object, unknown: readonly string[]): string[] {
  const found = twice.get(value);
  const texts = unknown.map((field) => `unknown field ${JSON.stringify(field)}`);
  if (!found) return texts;
  const { duplicates, places } = found;
  if (!(duplicates instanceof Map)) return [...(duplicates as readonly string[]), ...texts];
  const isWithin = (field: string, outer: string) =>
    field.startsWith(`${outer}.`) || field.startsWith(`${outer}[`);
  return [
    ...unknown.map((field, index) => ({ at: places.get(field) ?? 0, text: texts[index]! })),
    ...[...duplicates]
      .filter(([field]) => !unknown.some((outer) => field === outer || isWithin(field, outer)))
      .map(([field, at]) => ({ at, text: `duplicate field ${JSON.stringify(field)}` })),
  ]
    .sort((x, y) => x.at - y.at)
    .map(({ text }) => text);
}

/** Lets what was made from a body (a patched object) answer for what stands twice in it. */
export function inheritTwice(from: object, to: object): void {
  const found = twice.get(from);
  if (found) twice.set(to, found);
}

/** The body as plain data. Throws 400 for what cannot be read and 415 for a type that is not served. */
export async function decodeBody(call: Call): Promise<unknown> {
  try {
    return await decoded(call);
  } catch (error) {
    if (error instanceof ParseError) throw badRequest(unreadable(error));
    throw error;
  }
}

const unreadable = (error: ParseError) => `couldn't get version/kind; json parse error: ${error.message}`;

async function decoded(call: Call): Promise<unknown> {
  const type = mediaType(call);
  const bytes = call.body ?? new Uint8Array();
  if (type === "application/json" || type === "*/*") return json(bytes);
  if (type === "application/yaml" || type === "text/yaml" || type === "application/x-yaml")
    return parseYaml(bytes);
  if (type === "application/vnd.kubernetes.protobuf") {
    const { decodeProtobuf } = await import("./protobuf/index.ts");
    try {
      return decodeProtobuf(bytes);
    } catch (error) {
      throw badRequest(
        `couldn't decode the protobuf body: ${error instanceof Error ? error.message : error}`,
      );
    }
  }
  throw unsupportedMediaType(accepted);
}

function json(bytes: Uint8Array): unknown {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ParseError(jsonProblem(text) ?? (error instanceof Error ? error.message : String(error)));
  }
  checkTree(value);
  if (typeof value === "object" && value !== null && hasDuplicates(bytes, value)) {
    twice.set(value, duplicateFields(text));
  }
  return value;
}

/** A JSON text; `problem` makes the 400's message of what is wrong with it. */
export function parseJson(
  bytes: Uint8Array,
  problem: (says: string) => string = (says) => `couldn't get version/kind; json parse error: ${says}`,
): unknown {
  try {
    return json(bytes);
  } catch (error) {
    if (error instanceof ParseError) throw badRequest(problem(error.message));
    throw error;
  }
}

/** YAML, of which JSON is the part that programs send. */
export async function parseYaml(bytes: Uint8Array): Promise<unknown> {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
  // Programs apply JSON, which is YAML too: reading it as JSON is 20 times faster and loads no library.
  if (bytes[0] === openBrace) {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      // YAML in braces, or an error that the YAML parser names.
    }
    if (typeof value === "object" && value !== null) {
      checkTree(value);
      if (!hasDuplicates(bytes, value)) return value;
    }
  }
  const { Lexer, LineCounter, parseDocument, visit, isScalar } = await import("yaml");
  // The parser calls itself for each level, and needs long to run out of stack.
  if (isTooDeep(new Lexer().lex(text))) throw tooDeep();
  const lineCounter = new LineCounter();
  const document = parseDocument(text, {
    lineCounter,
    prettyErrors: false,
    // Looked for below: the parser compares each key with all before it.
    uniqueKeys: false,
    // Kubernetes reads YAML 1.1, in which `y` and `no` are booleans, but knows no times and no numbers to base 60.
    version: "1.1",
    customTags: (tags) =>
      tags.filter(
        (tag) => typeof tag === "string" || (tag.format !== "TIME" && !tag.tag.endsWith(":timestamp")),
      ),
  });
  const [problem] = document.errors;
  if (problem) throw unreadableYaml(problem);
  const duplicates: string[] = [];
  visit(document, {
    Map(_, { items }) {
      const seen = new Set<unknown>();
      for (const { key } of items) {
        if (!isScalar(key)) continue;
        if (seen.has(key.value)) {
          const { line } = lineCounter.linePos(key.range?.[0] ?? 0);
          duplicates.push(`line ${line}: key ${JSON.stringify(key.value)} already set in map`);
        }
        // Keys that merge another map may stand more than once.
        if (key.value !== "<<") seen.add(key.value);
      }
    },
  });
  let value: unknown;
  try {
    value = document.toJS();
  } catch (error) {
    // Aliases of aliases, which would be more than there is memory.
    throw unreadableYaml(error);
  }
  checkTree(value);
  if (duplicates.length > 0 && typeof value === "object" && value !== null) {
    twice.set(value, { duplicates, places: new Map() });
  }
  return value;
}

const unreadableYaml = (error: unknown) =>
  badRequest(`error converting YAML to JSON: yaml: ${error instanceof Error ? error.message : error}`);
const tooDeep = () => badRequest(`the body nests deeper than ${deepest} levels`);

/** Whether a text nests too deep in brackets, or by so many indicators (`- - - x`) on one line. */
function isTooDeep(tokens: Iterable<string>): boolean {
  let brackets = 0;
  let indicators = 0;
  for (const token of tokens) {
    if (token === "[" || token === "{") brackets++;
    else if (token === "]" || token === "}") brackets--;
    else if (token === "-" || token === "?" || token === ":") indicators++;
    // In brackets a line may have as many entries as it likes.
    else if (token.endsWith("\n") || brackets > 0) indicators = 0;
    if (brackets > deepest || indicators > deepest) return true;
  }
  return false;
}

/** Refuses names that would change prototypes when copied, and trees too deep to walk. */
function checkTree(root: unknown): void {
  const open: { value: unknown; depth: number }[] = [{ value: root, depth: 0 }];
  for (let next = open.pop(); next; next = open.pop()) {
    const { value, depth } = next;
    if (typeof value !== "object" || value === null) continue;
    if (depth > deepest) throw tooDeep();
    if (Array.isArray(value)) {
      for (const item of value) if (typeof item === "object") open.push({ value: item, depth: depth + 1 });
      continue;
    }
    for (const key of Object.keys(value)) {
      if (key === "__proto__") throw badRequest('the field name "__proto__" is not accepted');
      const child = (value as Record<string, unknown>)[key];
      if (typeof child === "object") open.push({ value: child, depth: depth + 1 });
    }
  }
}

/** The body as an object of `type`. An absent kind or version is filled in, as for typed decoding. */
export async function decodeObject(call: Call, type: ResourceType): Promise<ApiObject> {
  let value: unknown;
  try {
    value = await decoded(call);
  } catch (error) {
    if (error instanceof ParseError) throw unrecognized(call, type, error.message);
    throw error;
  }
  const sent = asRecord(value);
  if (type.custom && sent && typeof sent.kind !== "string") {
    const text = Buffer.from(call.body ?? []).toString();
    throw badRequest(
      `the object provided is unrecognized (must be of type ${type.kind}): Object 'Kind' is missing in '${text}' (${summary(call)})`,
    );
  }
  if (!sent && value !== null) throw unrecognized(call, type, notAnObject(value));
  return asObject(value ?? {}, { apiVersion: versionOf(type), kind: type.kind }, !type.custom);
}

const goEnvelope =
  'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }';

function notAnObject(value: unknown): string {
  const is = Array.isArray(value) ? "array" : typeof value === "boolean" ? "bool" : typeof value;
  return `json: cannot unmarshal ${is} into Go value of type ${goEnvelope}`;
}

/** The beginning of a body, as refusals show it. */
function summary(call: Call): string {
  const bytes = Buffer.from(call.body ?? []);
  if (bytes.length === 0) return "<empty>";
  const start = bytes.subarray(0, 30);
  const text = bytes[0] === openBrace ? start.toString() : start.toString("hex");
  return bytes.length > 30 ? `${text} ...` : text;
}

/** 400 for a body that says nothing of a kind, with its beginning. */
function unrecognized(call: Call, type: ResourceType, says: string): StatusError {
  const problem = `couldn't get version/kind; json parse error: ${says}`;
  return badRequest(
    `the object provided is unrecognized (must be of type ${type.kind}): ${problem} (${summary(call)})`,
  );
}

/** Says why a decoded body is no object of the kind that was expected; undefined when its envelope is right. */
export function envelopeProblem(
  object: Record<string, unknown>,
  expected: { apiVersion: string; kind: string },
): string | undefined {
  const { apiVersion, kind } = object;
  if (kind === expected.kind && apiVersion === expected.apiVersion) return undefined;
  if (kind === expected.kind && olderVersions.has(String(apiVersion))) {
    return `the API version in the data (${String(apiVersion)}) does not match the expected API version (${expected.apiVersion})`;
  }
  const known = builtinTypes().some((type) => type.kind === kind && versionOf(type) === apiVersion);
  if (known) {
    const [group] = groupOf(expected.apiVersion).split(".");
    const version = String(apiVersion).split("/").at(-1);
    return `converting (${version}.${String(kind)}) to (${group || "core"}.${expected.kind}): unknown conversion`;
  }
  return `no kind ${JSON.stringify(kind)} is registered for version ${JSON.stringify(apiVersion)} in scheme "pkg/runtime/scheme.go:111"`;
}

/** Versions that Kubernetes still reads and that this server does not serve. */
const olderVersions = new Set([
  "apps/v1beta1",
  "apps/v1beta2",
  "batch/v1beta1",
  "coordination.k8s.io/v1beta1",
  "discovery.k8s.io/v1beta1",
  "events.k8s.io/v1beta1",
  "networking.k8s.io/v1beta1",
  "policy/v1beta1",
  "rbac.authorization.k8s.io/v1alpha1",
  "rbac.authorization.k8s.io/v1beta1",
  "scheduling.k8s.io/v1alpha1",
  "scheduling.k8s.io/v1beta1",
]);

const groupOf = (apiVersion: string) => (apiVersion.includes("/") ? apiVersion.split("/")[0]! : "");

/** Checks the envelope of a decoded body, and fills in what it leaves out. `typed`: of a kind with a Go type. */
export function asObject(
  value: unknown,
  expected: { apiVersion: string; kind: string },
  typed = true,
  refuse: (says: string) => StatusError = badRequest,
): ApiObject {
  const object = asRecord(value);
  if (!object) throw refuse(`the body is not an object of kind ${expected.kind}`);
  if (object.apiVersion === undefined || object.apiVersion === "") object.apiVersion = expected.apiVersion;
  if (object.kind === undefined || object.kind === "") object.kind = expected.kind;
  const version = String(object.apiVersion).split("/").at(-1);
  const handled = `${String(object.kind)} in version ${JSON.stringify(version)} cannot be handled as a ${expected.kind}: `;
  const prefix = refuse === badRequest ? handled : "";
  if (typed) {
    const problem = envelopeProblem(object, expected);
    if (problem) throw refuse(problem.startsWith("the API version") ? problem : `${prefix}${problem}`);
  } else if (object.kind !== expected.kind) {
    const name = asRecord(object.metadata)?.name;
    const of = { group: groupOf(String(object.apiVersion)), name: String(object.kind) };
    throw invalid(of, typeof name === "string" ? name : "", [
      invalidField("kind", object.kind, `must be ${expected.kind}`),
    ]);
  } else if (object.apiVersion !== expected.apiVersion) {
    throw refuse(
      `the API version in the data (${String(object.apiVersion)}) does not match the expected API version (${expected.apiVersion})`,
    );
  }
  const metadata = object.metadata === undefined || object.metadata === null ? {} : asRecord(object.metadata);
  if (!metadata) {
    const is = Array.isArray(object.metadata) ? "array" : typeof object.metadata;
    throw refuse(
      `${prefix}json: cannot unmarshal ${is} into Go struct field ${expected.kind}.metadata of type v1.ObjectMeta`,
    );
  }
  object.metadata = metadata;
  return object as ApiObject;
}
