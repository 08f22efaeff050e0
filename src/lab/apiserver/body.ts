/** Request bodies: JSON, YAML or protobuf into plain data, and nothing that could harm the process. */
import type { Call } from "./core.ts";
import { type ApiObject, asRecord } from "./object.ts";
import { type ResourceType, versionOf } from "./registry.ts";
import { badRequest, unsupportedMediaType } from "./status.ts";

/** Larger bodies are refused with 413, as kube-apiserver does. Bytes. */
export const bodyLimit = 3 * 1024 * 1024;

const deepest = 512;
const openBrace = 0x7b;
const accepted = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/** The media type of the body without parameters. */
export function mediaType(call: Call): string {
  return (call.headers["content-type"] ?? "application/json").split(";")[0]!.trim().toLowerCase();
}

/** The body as plain data. Throws 400 for what cannot be read and 415 for a type that is not served. */
export async function decodeBody(call: Call): Promise<unknown> {
  const type = mediaType(call);
  const bytes = call.body ?? new Uint8Array();
  if (type === "application/json" || type === "*/*") return parseJson(bytes);
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

export function parseJson(bytes: Uint8Array): unknown {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8"));
  } catch (error) {
    throw badRequest(
      `couldn't get version/kind; json parse error: ${error instanceof Error ? error.message : error}`,
    );
  }
  checkTree(value);
  return value;
}

/** YAML, of which JSON is the part that programs send. */
export async function parseYaml(bytes: Uint8Array): Promise<unknown> {
  if (bytes[0] === openBrace) {
    try {
      return parseJson(bytes);
    } catch {
      // A YAML mapping in braces, perhaps.
    }
  }
  // Programs apply JSON, which is YAML too: reading it as JSON is 20 times faster and loads no library.
  if (bytes[0] === 0x7b) {
    try {
      return parseJson(bytes);
    } catch {
      // YAML in braces, or an error that the YAML parser names.
    }
  }
  const { parse } = await import("yaml");
  let value: unknown;
  try {
    value = parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8"));
  } catch (error) {
    throw badRequest(`error converting YAML to JSON: ${error instanceof Error ? error.message : error}`);
  }
  checkTree(value);
  return value;
}

/** Refuses names that would change prototypes when copied, and trees too deep to walk. */
function checkTree(root: unknown): void {
  const open: { value: unknown; depth: number }[] = [{ value: root, depth: 0 }];
  for (let next = open.pop(); next; next = open.pop()) {
    const { value, depth } = next;
    if (typeof value !== "object" || value === null) continue;
    if (depth > deepest) throw badRequest(`the body nests deeper than ${deepest} levels`);
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
  return asObject(await decodeBody(call), { apiVersion: versionOf(type), kind: type.kind });
}

/** Checks the envelope of a decoded body. */
export function asObject(value: unknown, expected: { apiVersion: string; kind: string }): ApiObject {
  const object = asRecord(value);
  if (!object) throw badRequest(`the body is not an object of kind ${expected.kind}`);
  object.apiVersion ??= expected.apiVersion;
  object.kind ??= expected.kind;
  if (object.kind !== expected.kind) {
    throw badRequest(
      `${String(object.kind)} in version "${String(object.apiVersion)}" cannot be handled as a ${expected.kind}: the object's kind does not match the request`,
    );
  }
  if (object.apiVersion !== expected.apiVersion) {
    throw badRequest(
      `the API version in the data (${String(object.apiVersion)}) does not match the expected API version (${expected.apiVersion})`,
    );
  }
  const metadata = object.metadata === undefined || object.metadata === null ? {} : asRecord(object.metadata);
  if (!metadata) throw badRequest(`${expected.kind}: metadata is not an object`);
  object.metadata = metadata;
  return object as ApiObject;
}
