/** Which form of an answer the client gets: JSON or YAML; whole, as a Table, or only metadata. */
import { gzip } from "node:zlib";
import type { Answer, Call, Core, Reply } from "./core.ts";
import { encoded, encodedList } from "./encode.ts";
import { type ApiObject, asRecord } from "./object.ts";
import type { ResourceType } from "./registry.ts";
import { badRequest, notAcceptable, StatusError } from "./status.ts";
import { type Table, tableFor } from "./tables/index.ts";

export type Form = "whole" | "table" | "partial" | "partialList";

export interface Wanted {
  form: Form;
  yaml: boolean;
}

/** What kube-apiserver says it can answer with. */
const offered = [
  "application/json",
  "application/yaml",
  "application/vnd.kubernetes.protobuf",
  "application/json;stream=watch",
  "application/vnd.kubernetes.protobuf;stream=watch",
];
/** Smaller answers are not worth the time (kube-apiserver's threshold). Bytes. */
const gzipFrom = 128 * 1024;

/** The first entry of `Accept` that can be served; protobuf and CBOR are passed over. Throws 406. */
export function negotiate(accept: string | undefined): Wanted {
  if (!accept) return { form: "whole", yaml: false };
  for (const entry of accept.split(",")) {
    const [media, ...rest] = entry.split(";").map((part) => part.trim());
    const parameters = new Map(rest.map((part) => part.split("=", 2) as [string, string]));
    const yaml = media === "application/yaml";
    if (!yaml && media !== "application/json" && media !== "*/*" && media !== "application/*") continue;
    const as = parameters.get("as");
    if (as === undefined) return { form: "whole", yaml };
    if (parameters.get("g") !== "meta.k8s.io" || parameters.get("v") !== "v1") continue;
    if (as === "Table") return { form: "table", yaml };
    if (as === "PartialObjectMetadata") return { form: "partial", yaml };
    if (as === "PartialObjectMetadataList") return { form: "partialList", yaml };
  }
  throw notAcceptable(offered);
}

/** Only what all objects have: metadata. */
export function partialOf(object: ApiObject): object {
  return { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1", metadata: object.metadata };
}

/** `includeObject` of a Table request: what each row carries of its object. */
export function includeObject(call: Call): "None" | "Metadata" | "Object" {
  const value = call.query.get("includeObject") ?? "Metadata";
  if (value !== "None" && value !== "Metadata" && value !== "Object" && value !== "") {
    throw badRequest(
      `Unable to convert to Table as requested: includeObject: Invalid value: ${JSON.stringify(value)}: must be 'Metadata', 'Object', 'None', or empty`,
    );
  }
  return value === "" ? "Metadata" : value;
}

/** A `metav1.Table` of some objects. */
export function tableOf(
  core: Core,
  type: ResourceType,
  objects: readonly ApiObject[],
  include: "None" | "Metadata" | "Object",
  metadata: unknown,
): object {
  const table: Table = tableFor(type, type.custom?.columns, objects, { now: core.world.now() });
  return {
    kind: "Table",
    apiVersion: "meta.k8s.io/v1",
    metadata,
    columnDefinitions: table.columnDefinitions,
    rows: table.rows.map((row, index) => {
      const object = objects[index]!;
      return {
        cells: row.cells,
        object: include === "Object" ? object : include === "Metadata" ? partialOf(object) : null,
      };
    }),
  };
}

/** A verb's answer in the form that the client wants. `type` is absent for answers that are not about objects. */
export async function reply(
  core: Core,
  call: Call,
  type: ResourceType | undefined,
  answer: Answer,
): Promise<Reply> {
  const body = asRecord(answer.object);
  // A Status and the objects of other kinds (Scale, reviews) have no table.
  const isList = type !== undefined && body?.kind === type.listKind;
  const transformable =
    isList || (type !== undefined && body?.kind === type.kind && body.metadata !== undefined);
  let wanted: Wanted;
  try {
    wanted = negotiate(call.headers.accept);
  } catch (error) {
    if (body?.kind !== "Status") throw error;
    wanted = { form: "whole", yaml: false };
  }
  let value = answer.object;
  if (transformable && wanted.form !== "whole") {
    const objects = (isList ? body!.items : [body]) as ApiObject[];
    const listMeta = isList
      ? body!.metadata
      : { resourceVersion: (body as ApiObject).metadata.resourceVersion };
    checkPartial(type!, wanted.form, isList);
    if (wanted.form === "table") {
      const { continue: next, ...metadata } = listMeta as { continue?: string };
      const shown = { ...metadata, ...(next && { continue: next }) };
      value = tableOf(core, type!, objects, includeObject(call), shown);
    } else if (isList) {
      value = {
        kind: "PartialObjectMetadataList",
        apiVersion: "meta.k8s.io/v1",
        metadata: listMeta,
        items: objects.map(partialOf),
      };
    } else value = partialOf(objects[0]!);
  }
  if (wanted.form === "whole" && transformable && !wanted.yaml && !isPretty(call)) {
    const { items, ...head } = body as { items?: ApiObject[] };
    const bytes = isList ? encodedList(head, items!) : encoded(body as unknown as ApiObject);
    return sendBytes(call, answer.code, bytes);
  }
  return send(call, answer.code, value, wanted.yaml);
}

/** A list of metadata is not the metadata of a list. */
function checkPartial(type: ResourceType, form: Form, isList: boolean): void {
  const [group] = type.group.split(".");
  const internal = `*${type.custom ? "unstructured.Unstructured" : `${group || "core"}.${isList ? type.listKind : type.kind}`}`;
  const not = (says: string) => new StatusError(406, "NotAcceptable", says);
  if (form === "partial" && isList) {
    throw not(`you requested PartialObjectMetadata, but the requested object is a list (${internal})`);
  }
  if (form === "partialList" && !isList) {
    throw not(
      `you requested PartialObjectMetadataList, but the requested object is not a list (${internal})`,
    );
  }
}

function isPretty(call: Call): boolean {
  const pretty = call.query.get("pretty");
  return pretty !== null && pretty !== "false" && pretty !== "0";
}

/** Encodes a value and sends it. */
export async function send(call: Call, code: number, value: unknown, yaml = false): Promise<Reply> {
  const text = yaml
    ? (await import("yaml")).stringify(value, { lineWidth: 0 })
    : `${JSON.stringify(value, null, isPretty(call) ? 2 : undefined)}\n`;
  return sendBytes(call, code, Buffer.from(text), yaml ? "application/yaml" : "application/json");
}

/** Compresses when that is wanted and worth it. */
async function sendBytes(
  call: Call,
  code: number,
  bytes: Uint8Array,
  contentType = "application/json",
): Promise<Reply> {
  const headers: Record<string, string> = {
    "content-type": contentType,
    "cache-control": "no-cache, private",
  };
  let body = bytes;
  if (body.length >= gzipFrom && /\bgzip\b/.test(call.headers["accept-encoding"] ?? "")) {
    body = await new Promise<Uint8Array>((resolve, reject) => {
      gzip(bytes, { level: 1 }, (error, packed) => (error ? reject(error) : resolve(packed)));
    });
    headers["content-encoding"] = "gzip";
  }
  headers["content-length"] = String(body.length);
  return { status: code, headers, body };
}
