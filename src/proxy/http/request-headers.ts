/** What a connection manager does to a request's head before its route is looked up (ConnectionManagerUtility). */
import { networkInterfaces } from "node:os";
import { contains } from "../../addresses/index.ts";
import type { Downstream, PeerCertificate } from "../contract.ts";
import type { Headers, RequestHead } from "./headers.ts";
import { hasOption } from "./http1-head.ts";
import { normalizePath } from "./paths.ts";
import { portAt } from "./route-action.ts";
import type { ManagerSettings } from "./settings.ts";

/** The parts of a connection that its requests' headers tell of; made once for each connection. */
export interface ConnectionFacts {
  downstream: Downstream;
  secure: boolean;
  /** What we say of the client's certificate in x-forwarded-client-cert. */
  clientCert: string | undefined;
}

export function connectionFacts(downstream: Downstream, settings: ManagerSettings): ConnectionFacts {
  const { tls } = downstream;
  const { clientCert } = settings;
  const says = clientCert === "append-forward" || clientCert === "sanitize-set";
  return {
    downstream,
    secure: tls !== undefined,
    clientCert: says && tls?.peer ? describe(tls.peer, tls.local?.uris ?? [], settings) : undefined,
  };
}

function describe(peer: PeerCertificate, local: readonly string[], settings: ManagerSettings): string {
  const wanted = settings.clientCertDetails;
  const parts: string[] = [];
  for (const uri of local) parts.push(`By=${uri}`);
  parts.push(`Hash=${peer.fingerprint}`);
  if (wanted.cert || wanted.chain) {
    const base64 = peer.der.toString("base64").replace(/.{64}/g, "$&\n").trimEnd();
    const pem = encodeURIComponent(`-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`);
    if (wanted.cert) parts.push(`Cert="${pem}"`);
    if (wanted.chain) parts.push(`Chain="${pem}"`);
  }
  if (wanted.subject) parts.push(`Subject="${peer.subject.replace(/["\\]/g, "\\$&")}"`);
  // Without any it says so (Envoy).
  if (wanted.uri) for (const uri of peer.uris.length > 0 ? peer.uris : [""]) parts.push(`URI=${uri}`);
  if (wanted.dns) for (const name of peer.dns) parts.push(`DNS=${name}`);
  return parts.join(";");
}

/** Headers that only callers within may use; Envoy takes them from all others. */
const internalOnly = new Set([
  "x-envoy-retriable-status-codes",
  "x-envoy-retriable-header-names",
  "x-envoy-retry-on",
  "x-envoy-retry-grpc-on",
  "x-envoy-max-retries",
  "x-envoy-upstream-alt-stat-name",
  "x-envoy-upstream-rq-timeout-ms",
  "x-envoy-upstream-rq-per-try-timeout-ms",
  "x-envoy-upstream-rq-timeout-alt-response",
  "x-envoy-expected-rq-timeout-ms",
  "x-envoy-force-trace",
  "x-envoy-ip-tags",
  "x-envoy-hedge-on-per-try-timeout",
  "x-envoy-is-timeout-retry",
]);
const edgeOnly = new Set([
  "x-envoy-decorator-operation",
  "x-envoy-downstream-service-cluster",
  "x-envoy-downstream-service-node",
  "x-envoy-original-path",
  "x-envoy-original-host",
]);

/** What became of a head: go on, or an answer that refuses it. */
export type Judgement =
  | undefined
  | { status: number; details: string }
  | { status: 307; details: string; location: string };

/** The client's address as far as it is known, found on the way. */
export interface Client {
  ip: string;
}

/** `upgrade`: the request asks for another protocol, and may. */
export function prepareRequest(
  head: RequestHead,
  upgrade: string | undefined,
  facts: ConnectionFacts,
  settings: ManagerSettings,
  newRequestId: () => string,
  client: Client,
): Judgement {
  const { headers } = head;
  const { downstream } = facts;
  // Hop by hop, RFC 9110 7.6.1.
  const connection = headers.get("connection");
  if (connection !== undefined) {
    const lower = connection.toLowerCase();
    if (lower !== "close" && lower !== "keep-alive") {
      const judgement = dropNamed(lower, headers);
      if (judgement) return judgement;
    }
    if (upgrade === undefined) headers.remove("connection");
  }
  headers.remove("keep-alive");
  headers.remove("proxy-connection");
  headers.remove("transfer-encoding");
  const te = headers.get("te");
  if (te !== undefined) {
    if (hasOption(te.toLowerCase(), "trailers")) headers.set("te", "trailers");
    else headers.remove("te");
  }
  if (upgrade === undefined) headers.remove("upgrade");

  if (settings.stripTrailingDot || settings.stripPort !== "none") stripHost(head, facts, settings);

  // Who asks, RFC-less: x-forwarded-for.
  const { flat } = headers;
  let forwardedFor: string | undefined;
  let proto: string | undefined;
  let requestId: string | undefined;
  let clean = false;
  for (let i = 0; i < flat.length; i += 2) {
    const name = flat[i]!;
    if (name.charCodeAt(0) !== 120) continue; // x
    if (name === "x-forwarded-for") forwardedFor = flat[i + 1];
    else if (name === "x-forwarded-proto") proto = flat[i + 1];
    else if (name === "x-request-id") requestId = flat[i + 1];
    else if (name.startsWith("x-envoy-")) clean = true;
  }
  let ip = downstream.remote.ip;
  if (settings.useRemoteAddress) {
    const hops = settings.trustedHops;
    if (hops > 0 && forwardedFor !== undefined) ip = addressFromEnd(forwardedFor, hops - 1) ?? ip;
    if (!settings.skipXffAppend) {
      const from = isLoopback(downstream.remote.ip) ? ownAddress() : downstream.remote.ip;
      headers.append("x-forwarded-for", from, ",");
      forwardedFor = from;
    }
    if (hops === 0 || proto === undefined) {
      headers.set("x-forwarded-proto", facts.secure ? "https" : "http");
    }
  } else {
    if (forwardedFor !== undefined) ip = addressFromEnd(forwardedFor, settings.trustedHops) ?? ip;
    if (proto === undefined) {
      headers.set("x-forwarded-proto", facts.secure ? "https" : "http");
    }
  }
  client.ip = ip;
  if (settings.appendForwardedPort && !headers.has("x-forwarded-port")) {
    headers.set("x-forwarded-port", String(downstream.local.port));
  }
  const internal =
    settings.internal.length > 0 &&
    !(forwardedFor?.includes(",") ?? true) &&
    settings.internal.some((range) => contains(range, ip));
  const edge = settings.useRemoteAddress && !internal;
  if (internal) headers.set("x-envoy-internal", "true");
  else if (clean) {
    headers.remove("x-envoy-internal");
    headers.removeWhere((name) => internalOnly.has(name) || (edge && edgeOnly.has(name)));
  }
  if (edge && !settings.skipXffAppend) headers.set("x-envoy-external-address", ip);
  if (settings.schemeOverwrite !== undefined) head.scheme = settings.schemeOverwrite;
  else if (head.scheme === "") head.scheme = headers.get("x-forwarded-proto") === "https" ? "https" : "http";

  clientCertificate(headers, facts, settings);

  if (requestId !== undefined && edge && !settings.preserveRequestId) {
    headers.remove("x-request-id");
    requestId = undefined;
  }
  if (requestId === undefined && settings.generateRequestId) headers.add("x-request-id", newRequestId());
  if (settings.via) headers.append("via", settings.via, ", ");

  if (settings.underscores === "drop") headers.removeWhere((name) => name.includes("_"));
  if (head.method === "CONNECT") return undefined;
  if (head.path.charCodeAt(0) !== 47) return { status: 404, details: "absolute_path_rejected" };
  return path(head, settings);
}

/** Of the machine: what Envoy writes in place of a loopback address, which would say nothing to whoever reads it. */
let own: string | undefined;
export function ownAddress(): string {
  if (own === undefined) {
    const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
    own = all.find(({ internal, family }) => !internal && family === "IPv4")?.address ?? "127.0.0.1";
  }
  return own;
}

function isLoopback(ip: string): boolean {
  return ip.startsWith("127.") || ip === "::1";
}

function path(head: RequestHead, settings: ManagerSettings): Judgement {
  // As Istio has Envoy do: a fragment is not the server's business.
  const fragment = head.path.indexOf("#");
  if (fragment >= 0) head.path = head.path.slice(0, fragment);
  if (!settings.normalizePath && !settings.mergeSlashes && settings.escapedSlashes === "keep")
    return undefined;
  const normal = normalizePath(head.path, settings);
  if (normal === undefined) return { status: 400, details: "path_normalization_failed" };
  if (typeof normal === "object") {
    return { status: 307, details: "path_normalization_failed", location: normal.redirect };
  }
  head.path = normal;
  return undefined;
}

/** Fields that `connection` names go with it; what may not be named refuses the request (Envoy: 400). */
function dropNamed(connection: string, headers: Headers): Judgement {
  for (const part of connection.split(",")) {
    const option = part.trim();
    switch (option) {
      case "":
      case "close":
      case "keep-alive":
      case "upgrade":
      case "http2-settings":
      case "te":
        if (option === "http2-settings") headers.remove(option);
        break;
      case "host":
        return { status: 400, details: "missing_host_header" };
      default:
        headers.remove(option);
    }
  }
  return undefined;
}

function stripHost(head: RequestHead, facts: ConnectionFacts, settings: ManagerSettings): void {
  const at = portAt(head.authority);
  let host = at < 0 ? head.authority : head.authority.slice(0, at);
  let port = at < 0 ? "" : head.authority.slice(at);
  if (settings.stripTrailingDot && host.endsWith(".")) host = host.slice(0, -1);
  if (settings.stripPort === "any") port = "";
  else if (settings.stripPort === "matching" && port === `:${facts.downstream.local.port}`) port = "";
  head.authority = host + port;
}

/** The `n`-th address from the right of an x-forwarded-for; undefined when there is none, or it is no address. */
function addressFromEnd(list: string, n: number): string | undefined {
  const parts = list.split(",");
  const found = parts[parts.length - 1 - n]?.trim();
  return found !== undefined && /^[0-9a-fA-F:.]+$/.test(found) && found !== "" ? found : undefined;
}

function clientCertificate(headers: Headers, facts: ConnectionFacts, settings: ManagerSettings): void {
  const mode = settings.clientCert;
  if (mode === "always-forward-only") return;
  const shown = facts.downstream.tls?.peer !== undefined;
  if (mode === "sanitize" || !shown) {
    headers.remove("x-forwarded-client-cert");
    return;
  }
  if (mode === "forward-only" || facts.clientCert === undefined) return;
  if (mode === "append-forward") headers.append("x-forwarded-client-cert", facts.clientCert, ",");
  else headers.set("x-forwarded-client-cert", facts.clientCert);
}
