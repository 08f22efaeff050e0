/** What the router changes in heads: of requests on their way to a host, of responses on their way back. */
import type { Host } from "../contract.ts";
import type { Exchange } from "./exchange.ts";
import { grpcTimeout } from "./grpc.ts";
import type { Headers } from "./headers.ts";
import { mutate } from "./mutations.ts";
import { PEER, PEER_ID } from "./peer-metadata.ts";
import type { Forward, Target } from "./route-action.ts";
import type { Route } from "./routes.ts";

/** How long the response may take, ms; 0: as long as it likes. */
export function timeoutOf(exchange: Exchange, { timeout, grpcTimeoutMax: most }: Forward): number {
  if (most === undefined || !exchange.grpc) return timeout;
  const wanted = grpcTimeout(exchange.head.headers.get("grpc-timeout"));
  if (wanted === undefined) return timeout;
  return most > 0 ? Math.min(wanted, most) : wanted;
}

/** What the route changes; once, for all tries. */
export function prepareHead(exchange: Exchange, route: Route, forward: Forward, target: Target): void {
  const { head, manager } = exchange;
  tellTimeout(exchange, forward, timeoutOf(exchange, forward), 0);
  if (route.virtualHost.attemptCountInRequest) head.headers.set("x-envoy-attempt-count", "1");
  if (target.requestHeaders) mutate(head.headers, target.requestHeaders, exchange);
  for (const mutation of route.requestHeaders) mutate(head.headers, mutation, exchange);
  rewriteHost(exchange, forward, target);
  if (forward.prefixRewrite !== "" || forward.regexRewrite) {
    const { path } = head;
    const plain = exchange.plainPath;
    const query = path.slice(plain.length);
    const rewritten = forward.regexRewrite
      ? forward.regexRewrite(plain)
      : forward.prefixRewrite + plain.slice(route.path.matchedLength(plain));
    if (!manager.settings.suppressEnvoyHeaders) head.headers.set("x-envoy-original-path", path);
    head.path = rewritten + query;
  }
}

/** Says which try this is, and how much of the time (`whole` ms) is left. */
export function tellTry(
  exchange: Exchange,
  route: Route,
  forward: Forward,
  tries: number,
  whole: number,
  elapsed: number,
): void {
  if (route.virtualHost.attemptCountInRequest) {
    exchange.head.headers.set("x-envoy-attempt-count", String(tries));
  }
  tellTimeout(exchange, forward, whole, elapsed);
}

/** `auto_host_rewrite`: the host by the name that it was found by. */
export function autoHost(exchange: Exchange, forward: Forward, host: Host, tries: number): void {
  if (forward.hostRewrite?.kind !== "auto" || !host.hostname) return;
  if (tries === 1) hostWas(exchange, forward, exchange.head.authority);
  exchange.head.authority = host.hostname;
}

/** How long we will wait for this try, for whoever answers; `elapsed` ms of `whole` are gone. */
function tellTimeout(exchange: Exchange, forward: Forward, whole: number, elapsed: number): void {
  const { head, manager } = exchange;
  if (manager.settings.suppressEnvoyHeaders) return;
  let expected = forward.retry?.perTryTimeout || whole;
  if (expected <= 0) return;
  // Out of time is 1: 0 would be without end.
  if (whole > 0) expected = elapsed >= whole ? 1 : Math.min(expected, whole - elapsed);
  head.headers.set("x-envoy-expected-rq-timeout-ms", String(Math.floor(expected)));
}

function rewriteHost(exchange: Exchange, forward: Forward, target: Target): void {
  const { head } = exchange;
  const rewrite = forward.hostRewrite;
  const before = head.authority;
  if (target.hostRewrite) head.authority = target.hostRewrite;
  else if (rewrite?.kind === "literal") head.authority = rewrite.host;
  else if (rewrite?.kind === "header") head.authority = head.headers.get(rewrite.name) || before;
  else if (rewrite?.kind === "path") head.authority = rewrite.substitution(exchange.plainPath);
  if (head.authority !== before) hostWas(exchange, forward, before);
}

/** The request's host is another now. */
function hostWas(exchange: Exchange, forward: Forward, before: string): void {
  const { head, manager } = exchange;
  if (forward.appendForwardedHost) head.headers.append("x-forwarded-host", before, ",");
  if (!manager.settings.suppressEnvoyHeaders) head.headers.set("x-envoy-original-host", before);
}

/** Between sidecars: who we are, for the other's metrics. Not to hosts that have no sidecar. */
export function introduce(exchange: Exchange, host: Host): void {
  const { manager, head } = exchange;
  const { ownPeer } = manager;
  if (!ownPeer || manager.inbound) return;
  if (host.secure && host.metadata?.filterMetadata.istio?.workload !== undefined) {
    head.headers.set(PEER_ID, ownPeer.id);
    head.headers.set(PEER, ownPeer.metadata);
  } else {
    head.headers.remove(PEER_ID);
    head.headers.remove(PEER);
  }
}

/** Fields that are of one connection only (RFC 9110, 7.6.1). */
const hopByHop = (name: string) =>
  name === "connection" ||
  name === "keep-alive" ||
  name === "proxy-connection" ||
  name === "transfer-encoding" ||
  name === "upgrade";

/** Takes out of an answer what was for us; `took` ms since the request was whole. Returns the protocol it switches to. */
export function readAnswer(
  exchange: Exchange,
  status: number,
  headers: Headers,
  took: number | undefined,
): string | undefined {
  const { manager } = exchange;
  const upgrade = status === 101 ? (headers.get("upgrade") ?? exchange.upgrade) : undefined;
  headers.removeWhere(upgrade === undefined ? hopByHop : (name) => name === "transfer-encoding");
  if (manager.ownPeer && !manager.inbound) {
    headers.remove(PEER_ID);
    headers.remove(PEER);
  }
  if (took !== undefined && !manager.settings.suppressEnvoyHeaders) {
    headers.set("x-envoy-upstream-service-time", String(Math.floor(took)));
  }
  return upgrade;
}

/** What the route changes in answers, our own among them; `tries` there were. */
export function changeAnswer(
  exchange: Exchange,
  route: Route,
  target: Target,
  headers: Headers,
  tries: number,
): void {
  if (route.virtualHost.attemptCountInResponse && tries > 0) {
    headers.set("x-envoy-attempt-count", String(tries));
  }
  if (target.responseHeaders) mutate(headers, target.responseHeaders, exchange);
  for (const mutation of route.responseHeaders) mutate(headers, mutation, exchange);
}
