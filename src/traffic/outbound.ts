/** The listeners of sidecars for the connections of their application. Source: Istio `pilot/pkg/networking/core/listener.go`. */
import type { MeshSettings } from "../api/index.ts";
import { type HostContext, originOf } from "./hosts.ts";
import type { ChainMatch, FilterChain, HttpHandler, Listener, Origin, WeightedUpstream } from "./model.ts";
import { blackHoleUpstream, passthroughUpstream, upstreamName } from "./names.ts";
import { meshAlpn } from "./policy.ts";
import { isHttp, isTls } from "./protocol.ts";
import { isAddress, type MeshPort, type MeshService } from "./registry.ts";
import type { RouteContext } from "./routes.ts";
import { accessLogOf, cidr, clustersOf, isRange, sniHosts, tcpHandler, weighted } from "./tcp.ts";
import type { HostRules } from "./virtual-services.ts";
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
  /** Where connections go that match none of them; absent: as unknown ones. */
  fallback?: DraftChain;
  inspect: Listener["inspect"];
}

/** A chain, and the labels of the clients that it is for. */
export interface DraftChain {
  chain: FilterChain;
  labels?: Readonly<Record<string, string>>;
}

/** Pods behind a headless service, by address: their clients choose by DNS. */
export interface ListenerContext extends HostContext {
  addresses: readonly string[];
}

/** What a service adds to the listeners of its clients. */
export function listenerParts(given: MeshService, context: ListenerContext): ListenerPart[] {
  const ranges = given.addresses.filter((address) => isRange(address));
  const addresses = given.addresses
    .filter((address) => !isRange(address))
    .map((address) => address.replace(/\/\d+$/, ""));
  const parts = partsOf({ ...given, addresses }, context, ranges.length > 0 && addresses.length === 0);
  if (ranges.length === 0) return parts;
  // A range cannot be listened at: its connections are told by where they were going, at the port's wildcard.
  const ofRanges = given.ports
    .filter((port) => !isHttp(port.protocol))
    .map((port): ListenerPart => {
      const draft = tcpChain(given, port, context);
      const chain = { ...draft.chain, name: `${draft.chain.name}:range`, match: { destinations: ranges } };
      return {
        address: "0.0.0.0",
        port: port.number,
        http: false,
        chains: [{ ...draft, chain }],
        inspect: [],
      };
    });
  return [...parts, ...ofRanges];
}

/** `onlyRanges`: it has addresses, but none that could be listened at. */
function partsOf(service: MeshService, context: ListenerContext, onlyRanges: boolean): ListenerPart[] {
  return service.ports.flatMap((port): ListenerPart[] => {
    if (onlyRanges && !isHttp(port.protocol)) return [];
    const wildcard = { address: "0.0.0.0", port: port.number };
    if (isHttp(port.protocol)) return [{ ...wildcard, http: true, chains: [], inspect: ["tls", "http"] }];
    const name = `${service.host}:${port.number}`;
    if (port.protocol === "auto") {
      if (service.addresses.length === 0) {
        const chains = podChain(service, port, context);
        return [{ ...wildcard, http: true, chains, inspect: ["tls", "http"] }];
      }
      const own = httpChains(name, name, context.mesh, service.origin);
      return service.addresses.map((address) => ({
        address,
        port: port.number,
        http: false,
        chains: [...own.map((chain) => ({ chain })), ...sniChains(service, port, context, {})],
        fallback: tcpChain(service, port, context),
        inspect: ["tls", "http"],
      }));
    }
    if (isTls(port.protocol)) {
      const sni = sniChains(service, port, context, {});
      const inspect: Listener["inspect"] = sni.length > 0 ? ["tls"] : [];
      if (service.addresses.length > 0)
        return service.addresses.map((address) => ({
          address,
          port: port.number,
          http: false,
          chains: sni,
          fallback: tcpChain(service, port, context),
          inspect,
        }));
      const chain = tcpChain(service, port, context);
      const match: ChainMatch = { serverNames: [service.host], transport: "tls" };
      const chains = sni.length > 0 ? sni : [{ ...chain, chain: { ...chain.chain, match } }];
      return [{ ...wildcard, http: false, chains, inspect: ["tls"] }];
    }
    if (service.addresses.length > 0)
      return service.addresses.map((address) => ({
        address,
        port: port.number,
        http: false,
        chains: [],
        fallback: tcpChain(service, port, context),
        inspect: [],
      }));
    if (service.resolution === "service" || service.resolution === "import")
      return [{ ...wildcard, http: false, chains: podChain(service, port, context), inspect: [] }];
    // Nothing tells a TCP connection to a name without an address from others: it takes the whole port.
    const fallback = tcpChain(service, port, context);
    return [{ ...wildcard, http: false, chains: [], fallback, inspect: [] }];
  });
}

/** Connections to the pods of a headless service, on ports that are not HTTP. */
function podChain(service: MeshService, port: MeshPort, context: ListenerContext): DraftChain[] {
  if (context.addresses.length === 0) return [];
  const draft = tcpChain(service, port, context);
  const destinations = context.addresses.map((address) => `${address}/${address.includes(":") ? 128 : 32}`);
  return [{ ...draft, chain: { ...draft.chain, match: { destinations } } }];
}

/** By SNI, as the VirtualService's tls routes say. */
function sniChains(
  service: MeshService,
  port: MeshPort,
  context: ListenerContext,
  base: ChainMatch,
): DraftChain[] {
  const { rules } = context;
  if (!rules) return [];
  return rules.tls.flatMap((route, i) =>
    (route.match ?? []).flatMap((match): DraftChain[] => {
      if (match.port && match.port !== port.number) return [];
      if (!appliesTo(match, rules, context)) return [];
      const serverNames = sniHosts(match);
      if (serverNames.length === 0) return [];
      const destinations = (match.destinationSubnets ?? []).filter(isAddress).map(cidr);
      const chain: FilterChain = {
        name: `${service.host}:${port.number}:tls[${i}]`,
        match: {
          ...base,
          ...(!serverNames.includes("*") && { serverNames }),
          transport: "tls",
          ...(destinations.length > 0 && { destinations }),
        },
        authorization: [],
        handler: tcpHandler(
          clustersOf(route.route ?? [], rules, port.number, context),
          `${service.host}:${port.number}`,
          context.mesh,
        ),
        origins: [{ ...originOf(rules), field: `spec.tls[${i}]` }],
      };
      return [{ chain, ...(match.sourceLabels && { labels: match.sourceLabels }) }];
    }),
  );
}

function appliesTo(
  match: { gateways?: string[]; sourceNamespace?: string },
  rules: HostRules,
  context: Pick<RouteContext, "gateways" | "client" | "mention">,
): boolean {
  if (
    match.gateways?.length &&
    !match.gateways.some((each) =>
      context.gateways.has(each === "mesh" || each.includes("/") ? each : `${rules.namespace}/${each}`),
    )
  )
    return false;
  if (match.sourceNamespace) {
    context.mention(match.sourceNamespace);
    return match.sourceNamespace === context.client;
  }
  return true;
}

/** All of a port's connections, to the service or where the VirtualService's first tcp route says. */
function tcpChain(service: MeshService, port: MeshPort, context: ListenerContext): DraftChain {
  const { rules } = context;
  const name = `${service.host}:${port.number}`;
  let clusters: WeightedUpstream[] = [weighted(upstreamName("outbound", port.number, "", service.host), 1)];
  const origins: Origin[] = [service.origin];
  for (const [i, route] of (rules?.tcp ?? []).entries()) {
    const matches = route.match?.length
      ? route.match.some(
          (match) => (!match.port || match.port === port.number) && appliesTo(match, rules!, context),
        )
      : true;
    if (!matches || !route.route?.length) continue;
    clusters = clustersOf(route.route, rules!, port.number, context);
    origins.push({ ...originOf(rules!), field: `spec.tcp[${i}]` });
    break;
  }
  return {
    chain: {
      name,
      match: {},
      authorization: [],
      handler: tcpHandler(clusters, name, context.mesh),
      ...(port.protocol === "auto" && { upstreamAlpn: meshAlpn.tcp }),
      origins,
    },
  };
}

/** The HTTP side of sidecars' outbound listeners. */
export function outboundHttp(routes: string, statPrefix: string, mesh: MeshSettings): HttpHandler {
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
export function unknownChain(policy: MeshSettings["outboundPolicy"], mesh: MeshSettings): FilterChain {
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
  for (const { chain, labels: condition } of parts.flatMap((part) => part.chains)) {
    if (!selects(condition, labels)) continue;
    const match = JSON.stringify(chain.match);
    if (taken.has(match)) continue; // two chains with one match are refused by Envoy; the first counts
    taken.add(match);
    chains.push(chain);
  }
  const fallback = parts.find((part) => part.fallback)?.fallback?.chain ?? unknownChain(policy, mesh);
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

function originsOf({ chains, fallback }: ListenerPart): readonly Origin[] {
  return fallback?.chain.origins ?? chains[0]?.chain.origins ?? [];
}
