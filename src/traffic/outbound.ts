/**
 * What sidecars do with connections of their application: virtual hosts and listeners of each service. Source: Istio
 * `pilot/pkg/networking/core/{httproute,listener}.go`.
 */
import type { MeshSettings } from "../api/index.ts";
import type {
  ChainMatch,
  FilterChain,
  HttpHandler,
  Listener,
  Origin,
  RouteTable,
  TcpHandler,
  VirtualHost,
  WeightedUpstream,
} from "./model.ts";
import { blackHoleUpstream, isHost, passthroughUpstream, upstreamName } from "./names.ts";
import { meshAlpn } from "./policy.ts";
import { isHttp, isTls } from "./protocol.ts";
import { isAddress, type MeshPort, type MeshService } from "./registry.ts";
import { type DraftRoute, defaultRoute, noChanges, type RouteContext, resolve, routesOf } from "./routes.ts";
import type { HostRules } from "./virtual-services.ts";
import { selects } from "./workloads.ts";

/** How long a connection may stay silent before its protocol is taken as TCP, ms. */
export const inspectTimeout = 5_000;

/** HTTP as the inspector names it. */
export const plainHttp = ["http/1.0", "http/1.1", "h2c"];

/** A virtual host whose routes may be for some clients only. */
export interface DraftHost {
  /** The name of its table: a port, or `host:port` where the service has a listener of its own. */
  table: string;
  host: VirtualHost;
  /** Parallel to the routes; undefined when all are for everybody. */
  labels: readonly (Readonly<Record<string, string>> | undefined)[] | undefined;
}

const forLabels = new WeakMap<DraftHost, Map<string, VirtualHost>>();

/** The virtual host as clients with these labels have it; the same labels, the same object. */
export function hostFor(draft: DraftHost, labels: Readonly<Record<string, string>>): VirtualHost {
  const { host, labels: conditions } = draft;
  if (!conditions) return host;
  let made = forLabels.get(draft);
  if (!made) {
    made = new Map();
    forLabels.set(draft, made);
  }
  const key = JSON.stringify(labels);
  let found = made.get(key);
  if (!found) {
    const routes = host.routes.filter((_, i) => !conditions[i] || selects(conditions[i], labels));
    found = { ...host, routes };
    made.set(key, found);
  }
  return found;
}

export interface HostContext extends Omit<RouteContext, "port"> {
  rules: HostRules | undefined;
}

/** Ports with virtual hosts: HTTP, and those whose protocol is found out. */
export function hasHosts(port: MeshPort): boolean {
  return isHttp(port.protocol) || port.protocol === "auto";
}

/** A service on a port whose protocol is found out has a listener for each of its addresses. */
export function hasOwnListener(service: MeshService, port: MeshPort): boolean {
  return port.protocol === "auto" && service.addresses.some((address) => !isRange(address));
}

export function hostsOf(service: MeshService, context: HostContext): DraftHost[] {
  return service.ports.filter(hasHosts).map((port) => {
    const own = hasOwnListener(service, port);
    const name = `${service.host}:${port.number}`;
    return draftHost(
      own ? name : String(port.number),
      name,
      own ? ["*"] : domainsOf(service, port.number, context.client),
      port.number,
      service,
      context,
    );
  });
}

/** A host that only a VirtualService knows, on port 80 as Istio has it. */
export function looseHost(host: string, rules: HostRules, context: HostContext): DraftHost {
  return draftHost("80", `${host}:80`, withPort([host], 80), 80, undefined, { ...context, rules });
}

function draftHost(
  table: string,
  name: string,
  domains: readonly string[],
  port: number,
  service: MeshService | undefined,
  context: HostContext,
): DraftHost {
  const { rules } = context;
  const drafts: DraftRoute[] =
    rules && rules.http.length > 0 ? routesOf(rules, { ...context, port }) : whole(service, port, context);
  return {
    table,
    host: {
      name,
      domains,
      routes: drafts.map(({ route }) => route),
      requireTls: false,
      origins: [...(service ? [service.origin] : []), ...(rules ? [originOf(rules)] : [])],
    },
    labels: drafts.some(({ labels }) => labels) ? drafts.map(({ labels }) => labels) : undefined,
  };
}

function whole(service: MeshService | undefined, port: number, context: HostContext): DraftRoute[] {
  if (!service) return [];
  const upstream = upstreamName("outbound", port, "", service.host);
  return [{ route: defaultRoute(upstream, context.hash(service.host, port, ""), [service.origin]) }];
}

function originOf({ kind, namespace, name }: HostRules): Origin {
  return { kind, namespace, name, field: "" };
}

/**
 * The names that clients call a service by, each with and without the port. Source: Istio `generateVirtualHostDomains`,
 * `generateAltVirtualHosts`.
 */
export function domainsOf(service: MeshService, port: number, client: string): string[] {
  const names = [service.host];
  if (service.kind === "Service") {
    const { name, namespace } = service;
    names.push(`${name}.${namespace}.svc`, `${name}.${namespace}`);
    if (client === namespace) names.push(name);
  }
  for (const address of service.addresses) {
    if (isRange(address)) continue;
    const host = address.replace(/\/\d+$/, "");
    names.push(host.includes(":") ? `[${host}]` : host);
  }
  return withPort(names, port);
}

function withPort(names: readonly string[], port: number): string[] {
  return names.flatMap((name) => (name === "*" ? [name] : [name, `${name}:${port}`]));
}

/** Envoy refuses a table in which two hosts have the same domain: the first keeps it. */
export function tableOf(
  name: string,
  hosts: readonly VirtualHost[],
  unknown: RouteTable["unknown"],
): RouteTable {
  const taken = new Set<string>();
  const virtualHosts: VirtualHost[] = [];
  for (const host of hosts) {
    let free = true;
    for (const domain of host.domains) {
      if (taken.has(domain)) free = false;
      taken.add(domain);
    }
    if (free) virtualHosts.push(host);
    else {
      const before = new Set(virtualHosts.flatMap(({ domains }) => domains));
      const domains = host.domains.filter((domain) => !before.has(domain));
      if (domains.length > 0) virtualHosts.push({ ...host, domains });
    }
  }
  return { name, virtualHosts, unknown };
}

// ---------------------------------------------------------------------------------------------- listeners

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

export interface DraftChain {
  chain: FilterChain;
  labels?: Readonly<Record<string, string>>;
}

/** Pods behind a headless service, by address: their clients choose by DNS. */
export interface ListenerContext extends HostContext {
  addresses: readonly string[];
}

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

function isRange(address: string): boolean {
  return address.includes("/") && !/\/(?:32|128)$/.test(address);
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

/** Without those that are no names, each once. */
export function sniHosts(match: { sniHosts?: string[] }): string[] {
  return [...new Set((match.sniHosts ?? []).map((host) => host.toLowerCase()))].filter(isHost);
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

export function clustersOf(
  route: readonly {
    destination?: { host?: string; subset?: string; port?: { number?: number } };
    weight?: number;
  }[],
  rules: HostRules,
  port: number,
  context: Pick<RouteContext, "mesh" | "service">,
): WeightedUpstream[] {
  const destinations = route.filter(({ destination }) => destination?.host);
  const used =
    destinations.length === 1 ? destinations : destinations.filter(({ weight }) => (weight ?? 0) > 0);
  if (used.length === 0 || used.reduce((sum, { weight }) => sum + (weight ?? 0), 0) > 4_294_967_295)
    return [weighted(blackHoleUpstream, 1)];
  return used.map(({ destination, weight }) =>
    weighted(
      resolve(destination!, rules.namespace, { ...context, port }).upstream,
      used.length === 1 ? 1 : weight!,
    ),
  );
}

export function weighted(upstream: string, weight: number): WeightedUpstream {
  return { upstream, weight, requestHeaders: noChanges, responseHeaders: noChanges };
}

export function tcpHandler(
  clusters: readonly WeightedUpstream[],
  statPrefix: string,
  mesh: MeshSettings,
): TcpHandler {
  return { kind: "tcp", statPrefix, clusters, idleTimeout: 3_600_000, accessLog: mesh.accessLog };
}

export function cidr(address: string): string {
  return address.includes("/") ? address : `${address}/${address.includes(":") ? 128 : 32}`;
}

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
    accessLog: mesh.accessLog,
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
