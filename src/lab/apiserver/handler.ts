/** From a request to a response: what is asked, whether it may be, who answers, and refusals as Status. */
import type { Duplex } from "node:stream";
import { kindOf } from "./admission/attributes.ts";
import { admitOther } from "./admission/webhooks.ts";
import { authorize, impersonate } from "./auth/authorize.ts";
import { review } from "./auth/reviews.ts";
import { bodyLimit } from "./body.ts";
import { builtinTypes } from "./builtins.ts";
import type { Answer, Call, Core, Reply, ResourceCall } from "./core.ts";
import { pathReply } from "./discovery/paths.ts";
import { reply } from "./negotiate.ts";
import type { ApiObject } from "./object.ts";
import { PatchError } from "./patch/index.ts";
import { isTrue, resourceRoute } from "./route.ts";
import {
  badRequest,
  internalError,
  methodNotAllowed,
  notServed,
  PageNotFound,
  StatusError,
  tooLarge,
  unknownPath,
  unknownResource,
} from "./status.ts";
import { subresource } from "./subresources/dispatch.ts";
import { bind } from "./subresources/pods.ts";
import { isUnserved } from "./unserved.ts";
import { removeMany, removeOne } from "./verbs/delete.ts";
import { writeOf } from "./verbs/options.ts";
import { get, list } from "./verbs/read.ts";
import { watch } from "./verbs/watch.ts";
import { create, patch, update } from "./verbs/write.ts";

/** Answers one request. Never rejects. */
export async function handle(core: Core, call: Call): Promise<Reply> {
  let answer: Reply;
  try {
    if (call.body && call.body.length > bodyLimit) throw tooLarge(bodyLimit);
    answer = await dispatch(core, { ...call, user: impersonate(core, call) });
  } catch (error) {
    answer = await refusal(core, call, error);
  }
  if (call.warnings.length > 0) answer.headers.warning = warningHeader(call.warnings);
  return answer;
}

/** A refusal as the client sees it. */
export async function refusal(core: Core, call: Call, error: unknown): Promise<Reply> {
  if (error instanceof PageNotFound) {
    const body = Buffer.from(PageNotFound.text);
    const headers = { "content-type": "text/plain; charset=utf-8", "content-length": String(body.length) };
    return { status: 404, headers, body };
  }
  const known = asStatus(core, error);
  const made = await reply(core, call, undefined, { code: known.status.code, object: known.status });
  Object.assign(made.headers, known.headers);
  return made;
}

function asStatus(core: Core, error: unknown): StatusError {
  if (error instanceof StatusError) return error;
  if (error instanceof PatchError) {
    // What a JSON patch does not fit is told without words of its own.
    if (error.code === 422) return new StatusError(422, "Invalid", rejected, {});
    if (error.code === 500) return new StatusError(500, "", error.message);
    const reason = { 400: "BadRequest", 409: "Conflict", 413: "RequestEntityTooLarge" }[error.code];
    return new StatusError(error.code, reason, error.message);
  }
  core.onBug(error);
  return internalError(error instanceof Error ? error.message : String(error));
}

const endpointsWarning = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";
const rejected = "the server rejected our request due to an error in our request";

/** What an authorized request is about; undefined for paths that are not about objects. Throws 403 and 404. */
export function resolve(core: Core, call: Call): ResourceCall | undefined {
  const route = resourceRoute(call.method, call.path, call.query);
  authorize(core, call, route);
  if (!route) return undefined;
  const type = core.registry.get(route.group, route.version, route.plural);
  if (!type) {
    if (isUnserved(route.group, route.plural)) {
      throw unknownResource({ group: route.group, name: route.plural }, route.version);
    }
    const isOwn = builtinTypes().some(({ group }) => group === route.group);
    throw isOwn ? unknownPath() : new PageNotFound();
  }
  if (route.namespace !== undefined && !type.namespaced && route.plural !== "namespaces") throw unknownPath();
  if (type.namespaced && route.namespace === undefined) {
    if (route.name !== undefined) throw unknownPath();
    if (route.verb !== "list" && route.verb !== "watch") {
      throw type.custom ? new PageNotFound() : methodNotAllowed();
    }
  }
  if (type.bucket === "/endpoints") call.warnings.push(endpointsWarning);
  if (type.custom?.deprecationWarning) call.warnings.push(type.custom.deprecationWarning);
  return { ...call, route: type.namespaced ? route : { ...route, namespace: undefined }, type };
}

async function dispatch(core: Core, asked: Call): Promise<Reply> {
  const call = resolve(core, asked);
  if (!call) return pathReply(core, asked);
  const { route, type } = call;
  if (route.verb === "watch" && type.verbs.includes("watch")) return watch(core, call);
  if (isPodLog(call)) {
    const { logs } = await import("./subresources/kubelet.ts");
    return logs(core, call);
  }
  return reply(core, call, type, route.subresource ? await subresource(core, call) : await verb(core, call));
}

function isPodLog({ route }: ResourceCall): boolean {
  return route.verb === "get" && route.subresource === "log" && route.plural === "pods" && route.group === "";
}

async function verb(core: Core, call: ResourceCall): Promise<Answer> {
  if (!call.type.verbs.includes(call.route.verb)) throw methodNotAllowed();
  if (call.type.review && call.type.group !== "") return review(core, call);
  if (call.type.plural === "bindings" && call.type.group === "") return bind(core, call);
  const { verb: asked, name } = call.route;
  const needsName = asked === "update" || asked === "patch";
  if (needsName !== (name !== undefined) && (needsName || asked === "create")) {
    throw methodNotAllowed();
  }
  switch (call.route.verb) {
    case "get":
      return get(core, call);
    case "list":
      return list(core, call);
    case "create":
      return create(core, call);
    case "update":
      return update(core, call);
    case "patch":
      return patch(core, call);
    case "delete":
      return removeOne(core, call);
    case "deletecollection":
      return removeMany(core, call);
  }
  throw methodNotAllowed();
}

/** Webhooks may refuse connections to pods; they see the options of the connection as an object of their own. */
async function admitConnection(core: Core, call: ResourceCall): Promise<void> {
  const { kind } = kindOf(call.type, call.route.subresource);
  const options: Record<string, unknown> = {};
  for (const name of ["stdin", "stdout", "stderr", "tty"]) {
    if (isTrue(call.query.get(name))) options[name] = true;
  }
  const container = call.query.get("container");
  if (container) options.container = container;
  if (call.query.has("command")) options.command = call.query.getAll("command");
  if (call.query.has("ports")) options.ports = call.query.getAll("ports").map(Number);
  const object = { kind, apiVersion: "v1", ...options } as unknown as ApiObject;
  await admitOther(core, call, { ...writeOf(call), dryRun: false }, "CONNECT", object);
}

/** Answers a request to upgrade the connection: exec, attach and port-forward. Refusals are written to the socket. */
export async function handleUpgrade(core: Core, asked: Call, socket: Duplex, head: Buffer): Promise<void> {
  try {
    const call = resolve(core, { ...asked, user: impersonate(core, asked) });
    if (!call) throw unknownPath();
    const name = call.route.subresource ?? "";
    if (call.type.plural !== "pods" || !["exec", "attach", "portforward"].includes(name)) {
      throw name
        ? notServed(`the subresource ${call.type.plural}/${name}`)
        : badRequest("nothing to upgrade to");
    }
    await admitConnection(core, call);
    const { stream } = await import("./subresources/kubelet.ts");
    await stream(core, call, socket, head);
  } catch (error) {
    const { refuseUpgrade } = await import("./listen.ts");
    refuseUpgrade(socket, await refusal(core, asked, error));
  }
}

/** Clients refuse headers that are too long. Characters. */
const longestWarnings = 4096;

/** RFC 9111 warnings as Kubernetes writes them, several in one header; what does not fit is left out. */
function warningHeader(warnings: readonly string[]): string {
  let header = "";
  for (const text of new Set(warnings)) {
    const plain = text
      .replace(/[^\x20-\x7e]/g, " ")
      .replace(/["\\]/g, "\\$&")
      .slice(0, 1024);
    const next = `${header === "" ? "" : `${header}, `}299 - "${plain}"`;
    if (next.length > longestWarnings) break;
    header = next;
  }
  return header;
}
