/** Requests that are not about objects: discovery, OpenAPI, version, health. */
import type { Call, Core, Reply } from "../core.ts";
import { send } from "../negotiate.ts";
import { methodNotAllowed, notAcceptable, PageNotFound, unknownPath } from "../status.ts";
import { openApiDocument, openApiIndex } from "./openapi.ts";
import { versionInfo } from "./version.ts";

/** Answers, or throws 404. */
export async function pathReply(core: Core, call: Call): Promise<Reply> {
  if (call.method !== "GET") throw methodNotAllowed();
  const path = call.path.length > 1 ? call.path.replace(/\/$/, "") : call.path;
  switch (path) {
    case "/":
      return send(call, 200, { paths: rootPaths });
    case "/version":
      return send(call, 200, versionInfo(core.world, core.started));
    case "/healthz":
    case "/livez":
    case "/readyz":
      return health(call, path.slice(1));
    case "/api":
      return discovered(
        call,
        aggregated(core, call, true) ?? { made: core.discovery.coreVersions(core.publicAddress) },
      );
    case "/apis":
      return discovered(call, aggregated(core, call, false) ?? { made: core.discovery.groupList() });
    case "/openapi/v3":
      return send(call, 200, openApiIndex(core.registry));
    case "/openid/v1/jwks":
      if (!core.tokens) throw unknownPath();
      return typed(await send(call, 200, core.tokens.keys()), "application/jwk-set+json");
    case "/.well-known/openid-configuration":
      if (!core.tokens) throw unknownPath();
      return send(call, 200, core.tokens.configuration(core.publicAddress));
    case "/openapi/v2":
      return openApiV2Reply(core, call);
  }
  if (/^\/(healthz|livez|readyz)\/(ping|log|etcd)$/.test(path)) return health(call, path.slice(1));
  if (path.startsWith("/openapi/v3/")) {
    const document = openApiDocument(core.registry, path.slice("/openapi/v3/".length));
    if (!document) throw unknownPath();
    const reply = await send(call, 200, document);
    // The URL carries the hash of the content.
    if (call.query.has("hash")) reply.headers["cache-control"] = "public, immutable";
    return reply;
  }
  const [root, group, version, ...rest] = path.split("/").slice(1);
  if (root === "api" && group === "v1" && version === undefined) {
    return discovered(call, { made: core.discovery.resources("", "v1") });
  }
  if (root === "apis" && group !== undefined && rest.length === 0) {
    const made =
      version === undefined ? core.discovery.group(group) : core.discovery.resources(group, version);
    return discovered(call, { made });
  }
  throw new PageNotFound();
}

async function openApiV2Reply(core: Core, call: Call): Promise<Reply> {
  const { encodeOpenApiV2, openApiV2, openApiV2Protobuf } = await import("./openapi-v2.ts");
  const media = (call.headers.accept ?? "*/*").split(",").map((entry) => entry.split(";")[0]!.trim());
  const { asked, answered } = openApiV2Protobuf;
  const first = media.find((type) => [asked, answered, "application/json", "*/*"].includes(type));
  if (!first) throw notAcceptable(["application/json", answered]);
  const document = openApiV2(core.registry);
  if (first !== asked && first !== answered) return send(call, 200, document);
  const body = encodeOpenApiV2(document);
  const headers = { "content-type": answered, "content-length": String(body.length), vary: "Accept" };
  return { status: 200, headers, body };
}

function typed(reply: Reply, contentType: string): Reply {
  reply.headers["content-type"] = contentType;
  return reply;
}

const rootPaths = [
  "/api",
  "/api/v1",
  "/apis",
  "/healthz",
  "/livez",
  "/openapi/v2",
  "/openapi/v3",
  "/readyz",
  "/version",
];

function health(call: Call, name: string): Reply {
  const verbose = call.query.has("verbose");
  const body = Buffer.from(verbose ? `[+]ping ok\n[+]store ok\n${name.split("/")[0]} check passed\n` : "ok");
  return {
    status: 200,
    headers: { "content-type": "text/plain; charset=utf-8", "content-length": String(body.length) },
    body,
  };
}

interface Discovered {
  made: { document: object; etag: string } | undefined;
  contentType?: string;
}

/** The aggregated form, where it is asked for before the older one. */
function aggregated(core: Core, call: Call, isCore: boolean): Discovered | undefined {
  for (const entry of (call.headers.accept ?? "").split(",")) {
    const parts = entry.split(";").map((part) => part.trim());
    if (!parts.includes("as=APIGroupDiscoveryList")) {
      if (parts[0] === "application/json") return undefined;
      continue;
    }
    const version = parts.includes("v=v2") ? "v2" : parts.includes("v=v2beta1") ? "v2beta1" : undefined;
    // A peer-merged profile (1.36) is for servers with peers; the plain one is next in the list.
    if (!version || parts.some((part) => part.startsWith("profile=") && part !== "profile=nopeer")) continue;
    const profile = parts.includes("profile=nopeer") ? ";profile=nopeer" : "";
    return {
      made: core.discovery.aggregated(isCore, version),
      contentType: `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList${profile}`,
    };
  }
  return undefined;
}

async function discovered(call: Call, { made, contentType }: Discovered): Promise<Reply> {
  if (!made) throw new PageNotFound();
  const headers = { etag: made.etag, vary: "Accept", "cache-control": "public" };
  if (call.headers["if-none-match"] === made.etag) {
    return { status: 304, headers, body: new Uint8Array() };
  }
  const reply = await send(call, 200, made.document);
  Object.assign(reply.headers, headers, contentType && { "content-type": contentType });
  return reply;
}
