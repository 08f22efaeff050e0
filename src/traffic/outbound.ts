/** The listeners of sidecars for the connections of their application. Source: Istio `pilot/pkg/networking/core/listener.go`. */
import { cidr, isWide } from "../addresses/index.ts";
import type { MeshSettings } from "../api/index.ts";
import { type HostContext, originOf } from "./hosts.ts";
import type { ChainMatch, FilterChain, HttpHandler, Listener, Origin, WeightedUpstream } from "./model.ts";
import { blackHoleUpstream, passthroughUpstream, upstreamName } from "./names.ts";
import { meshAlpn } from "./policy.ts";
import { isHttp, isTls } from "./protocol.ts";
import type { MeshPort, MeshService } from "./registry.ts";
import {
  accessLogOf,
  clustersOf,
  type DraftChain,
  inOrder,
  sniDrafts,
  sniHosts,
  tcpDrafts,
  tcpHandler,
  weighted,
} from "./tcp.ts";
import { selects } from "./workloads.ts";

/** How long a connection may stay silent before its protocol is taken as TCP, ms. */
export const inspectTimeout = 5_000;

/** HTTP as the inspector names it. */
export const plainHttp = ["http/1.0", "http/1.1", "h2c"];

/** What a service adds to a listener, which others may share. */
export interface ListenerPart {
  /** `0.0.0.0`, or one of the service's addresses. */
  address: string;
  port: number;
  /** HTTP by the route table of the port. */
  http: boolean;
  chains: readonly DraftChain[];
  /** Connections that match none of them, `inOrder`; what is left is treated as unknown. */
  rest: readonly DraftChain[];
  inspect: Listener["inspect"];
}

/** Pods behind a headless service, by address: their clients choose by DNS. */
export interface ListenerContext extends HostContext {
  addresses: readonly string[];
}

/** What a service adds to the listeners of its clients. */
export function listenerParts(given: MeshService, context: ListenerContext): ListenerPart[] {
  const ranges = given.addresses.filter((address) => isWide(address));
  const addresses = given.addresses
    .filter((address) => !isWide(address))
    .map((address) => address.replace(/\/\d+$/, ""));
  const parts = partsOf({ ...given, addresses }, context, ranges.length > 0 && addresses.length === 0);
  if (ranges.length === 0) return parts;
  // A range cannot be listened at: its connections are told by where they were going, at the port's wildcard.
  const ofRanges = given.ports
    .filter((port) => !isHttp(port.protocol))
    .map((port): ListenerPart => {
      const rest = tcpChains(given, port, context, ranges.map(cidr)).map(({ chain, ...draft }) => ({
        ...draft,
        chain: { ...chain, name: `${chain.name}:range` },
      }));
      return { address: "0.0.0.0", port: port.number, http: false, chains: [], rest, inspect: [] };
    });
  return [...parts, ...ofRanges];
}

/** `onlyRanges`: it has addresses, but none that could be listened at. */
function partsOf(service: MeshService, context: ListenerContext, onlyRanges: boolean): ListenerPart[] {
  return service.ports.flatMap((port): ListenerPart[] => {
    if (onlyRanges && !isHttp(port.protocol)) return [];
    const wildcard = { address: "0.0.0.0", port: port.number, http: false, chains: [], rest: [] };
    if (isHttp(port.protocol)) return [{ ...wildcard, http: true, inspect: ["tls", "http"] }];
    const name = `${service.host}:${port.number}`;
    const isAuto = port.protocol === "auto";
    if (service.addresses.length > 0) {
      const own = isAuto ? httpChains(name, name, context.mesh, service.origin) : [];
      return service.addresses.map((address): ListenerPart => {
        const sni = isAuto || isTls(port.protocol) ? sniChains(service, port, context, cidr(address)) : [];
        return {
          address,
          port: port.number,
          http: false,
          chains: [...own.map((chain) => ({ chain })), ...sni],
          // All that comes here was going to the one address.
          rest: tcpChains(service, port, context, [cidr(address)]).map(anywhere),
          inspect: isAuto ? ["tls", "http"] : sni.length > 0 ? ["tls"] : [],
        };
      });
    }
    if (isAuto) {
      const rest = podChains(service, port, context);
      return [{ ...wildcard, http: true, rest, inspect: ["tls", "http"] }];
    }
    if (isTls(port.protocol)) {
      const sni = sniChains(service, port, context, undefined);
      if (sni.length > 0) return [{ ...wildcard, chains: sni, inspect: ["tls"] }];
      const match: ChainMatch = { serverNames: [service.host], transport: "tls" };
      const rest = tcpChains(service, port, context, undefined).map(({ chain, ...draft }) => ({
        ...draft,
        chain: { ...chain, match: { ...chain.match, ...match } },
      }));
      return [{ ...wildcard, rest, inspect: ["tls"] }];
    }
    if (service.resolution === "service" || service.resolution === "import")
      return [{ ...wildcard, rest: podChains(service, port, context), inspect: [] }];
    // Nothing tells a TCP connection to a name without an address from others: it takes the whole port.
    return [{ ...wildcard, rest: tcpChains(service, port, context, undefined), inspect: [] }];
  });
}

/** Connections to the pods of a headless service, on ports that are not HTTP. */
function podChains(service: MeshService, port: MeshPort, context: ListenerContext): DraftChain[] {
  if (context.addresses.length === 0) return [];
  return tcpChains(service, port, context, context.addresses.map(cidr));
}

function anywhere({ chain, ...draft }: DraftChain): DraftChain {
  const { destinations: _, ...match } = chain.match;
  return { ...draft, chain: { ...chain, match } };
}

/** By SNI, as the VirtualService's tls routes say; `at`: the one address that its connections were going to. */
function sniChains(
  service: MeshService,
  port: MeshPort,
  context: ListenerContext,
  at: string | undefined,
): DraftChain[] {
  const { rules } = context;
  if (!rules) return [];
  const name = `${service.host}:${port.number}`;
  const within = at === undefined ? undefined : [at];
  const drafts = sniDrafts(rules, port.number, context, within, sniHosts, (route, i, match) => ({
    name: `${name}:tls[${i}]`,
    match,
    authorization: [],
    handler: tcpHandler(clustersOf(route, rules, port.number, context), name, context.mesh),
    origins: [{ ...originOf(rules), field: `spec.tls[${i}]` }],
  }));
  return at === undefined ? drafts : drafts.map(anywhere);
}

/**
 * Where a port's connections go, in order: where the VirtualService's tcp routes say, and else to the service. `within`:
 * the ranges that they are going to, if only some are the service's.
 */
function tcpChains(
  service: MeshService,
  port: MeshPort,
  context: ListenerContext,
  within: readonly string[] | undefined,
): DraftChain[] {
  const { rules } = context;
  const name = `${service.host}:${port.number}`;
  const chain = (
    clusters: readonly WeightedUpstream[],
    match: ChainMatch,
    origins: readonly Origin[],
  ): FilterChain => ({
    name,
    match,
    authorization: [],
    handler: tcpHandler(clusters, name, context.mesh),
    ...(port.protocol === "auto" && { upstreamAlpn: meshAlpn.tcp }),
    origins,
  });
  const { drafts = [], complete = false } = rules
    ? tcpDrafts(rules, port.number, context, within, (route, i, match) => {
        if (route.length === 0) return undefined;
        const clusters = clustersOf(route, rules, port.number, context);
        return chain(clusters, match, [service.origin, { ...originOf(rules), field: `spec.tcp[${i}]` }]);
      })
    : {};
  if (complete || within?.length === 0) return drafts;
  const upstream = weighted(upstreamName("outbound", port.number, "", service.host), 1);
  return [...drafts, { chain: chain([upstream], within ? { destinations: within } : {}, [service.origin]) }];
}

/** The HTTP side of sidecars' outbound listeners. */
function outboundHttp(routes: string, statPrefix: string, mesh: MeshSettings): HttpHandler {
  return {
    kind: "http",
    routes,
    statPrefix,
    clientCertificate: "sanitize",
    useRemoteAddress: false,
    trustedHops: 0,
    websocket: true,
    rateLimits: [],
    ...accessLogOf(mesh),
    traceSampling: mesh.traceSampling,
  };
}

/** HTTP/1 and HTTP/2 apart: the ALPN that the other side tells them by is the connection's. */
function httpChains(table: string, name: string, mesh: MeshSettings, origin: Origin): FilterChain[] {
  const handler = outboundHttp(table, name, mesh);
  const chain = (suffix: string, protocols: string[], alpn: readonly string[]): FilterChain => ({
    name: `${name}:${suffix}`,
    match: { transport: "raw_buffer", applicationProtocols: protocols },
    authorization: [],
    handler,
    upstreamAlpn: alpn,
    origins: [origin],
  });
  return [chain("http1", ["http/1.0", "http/1.1"], meshAlpn.http1), chain("http2", ["h2c"], meshAlpn.http2)];
}

/** Where connections go that nobody has a rule for. */
function unknownChain(policy: MeshSettings["outboundPolicy"], mesh: MeshSettings): FilterChain {
  const upstream = policy === "ALLOW_ANY" ? passthroughUpstream : blackHoleUpstream;
  return {
    name: policy === "ALLOW_ANY" ? "PassthroughFilterChain" : "BlackHoleFilterChain",
    match: {},
    authorization: [],
    handler: tcpHandler([weighted(upstream, 1)], upstream, mesh),
    origins: [],
  };
}

/** 15001: everything that leaves the pod comes here and is handed on by where it was going. */
export function virtualOutbound(policy: MeshSettings["outboundPolicy"], mesh: MeshSettings): Listener {
  return {
    name: "virtualOutbound",
    direction: "outbound",
    address: "0.0.0.0",
    port: 15_001,
    bind: true,
    redirected: true,
    inspect: [],
    inspectTimeout: 0,
    chains: [
      {
        name: "virtualOutbound-blackhole",
        match: { destinationPort: 15_001 },
        authorization: [],
        handler: tcpHandler([weighted(blackHoleUpstream, 1)], blackHoleUpstream, mesh),
        origins: [],
      },
    ],
    fallback: { ...unknownChain(policy, mesh), name: "virtualOutbound-catchall-tcp" },
    origins: [],
  };
}

/** The listener that parts of several services make together. */
export function outboundListener(
  address: string,
  port: number,
  parts: readonly ListenerPart[],
  policy: MeshSettings["outboundPolicy"],
  mesh: MeshSettings,
  labels: Readonly<Record<string, string>>,
): Listener {
  const name = `${address}_${port}`;
  const chains: FilterChain[] = [];
  if (parts.some(({ http }) => http))
    chains.push({
      name,
      match: { transport: "raw_buffer", applicationProtocols: plainHttp },
      authorization: [],
      handler: outboundHttp(String(port), name, mesh),
      origins: [],
    });
  const taken = new Set<string>();
  const told = parts
    .flatMap((part) => part.chains)
    .flatMap(({ chain, labels: condition }) => (selects(condition, labels) ? [chain] : []));
  const rest = parts.flatMap((part) => inOrder(part.rest, labels));
  for (const chain of [...told, ...rest]) {
    if (takesAll(chain)) continue;
    const match = JSON.stringify(chain.match);
    if (taken.has(match)) continue; // two chains with one match are refused by Envoy; the first counts
    taken.add(match);
    chains.push(chain);
  }
  const fallback = rest.find(takesAll) ?? unknownChain(policy, mesh);
  const inspect = (["tls", "http"] as const).filter((each) =>
    parts.some((part) => part.inspect.includes(each)),
  );
  return {
    name,
    direction: "outbound",
    address,
    port,
    bind: false,
    redirected: false,
    inspect,
    inspectTimeout: inspect.length > 0 ? inspectTimeout : 0,
    chains,
    fallback,
    origins: parts.length === 1 ? originsOf(parts[0]!) : [],
  };
}

function takesAll({ match }: FilterChain): boolean {
  return Object.keys(match).length === 0;
}

function originsOf({ chains, rest }: ListenerPart): readonly Origin[] {
  return (rest.at(-1) ?? chains[0])?.chain.origins ?? [];
}
