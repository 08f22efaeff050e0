/**
 * Gateways: servers of Gateway objects that select a gateway's pods, with the routes bound to them. Source: Istio
 * `pilot/pkg/networking/core/gateway.go`, `pilot/pkg/model/gateway.go` (MergeGateways).
 */
import { isIP } from "node:net";
import type { GatewayServer, Gateway as IstioGateway, MeshSettings, TlsProtocol } from "../api/index.ts";
import { type PassedHosts, passedChains } from "./auto-passthrough.ts";
import type {
  Authorization,
  ChainMatch,
  DownstreamTls,
  FilterChain,
  HttpHandler,
  Listener,
  LocalRateLimit,
  Origin,
  Route,
  RouteMatch,
  Upstream,
  VirtualHost,
} from "./model.ts";
import { bySpecificity, common, credential, fullHost, isHost, isPort } from "./names.ts";
import { inspectTimeout } from "./outbound.ts";
import { namedProtocol, type Protocol } from "./protocol.ts";
import { byAge, timeOf } from "./registry.ts";
import { type DraftRoute, type RouteContext, routesOf } from "./routes.ts";
import {
  accessLogOf,
  applies,
  clustersOf,
  type DraftChain,
  inOrder,
  labelsOf,
  sniHosts,
  subnetsOf,
  tcpHandler,
} from "./tcp.ts";
import type { HostRules } from "./virtual-services.ts";
import { selects } from "./workloads.ts";

/** A server of a Gateway, with hosts resolved. */
export interface Server {
  /** `namespace/name` of the Gateway. */
  gateway: string;
  kind: "Gateway" | "KubeGateway";
  namespace: string;
  created: string;
  /** Name of the Gateway. */
  name: string;
  field: string;
  port: number;
  portName: string;
  protocol: Protocol;
  bind: string;
  hosts: readonly { namespace: string; host: string }[];
  tls: GatewayServer["tls"];
}

/** A Gateway of either API: whose pods carry it, and its servers. */
export interface GatewayRules {
  key: string;
  namespace: string;
  selector: Readonly<Record<string, string>>;
  servers: readonly Server[];
}

/** Servers that no proxy could serve are left out; analysis says why. */
export function gatewayRulesOf(object: IstioGateway, mesh: MeshSettings): GatewayRules | undefined {
  const { metadata, spec } = object;
  if (metadata.deletionTimestamp || !spec) return undefined;
  const namespace = metadata.namespace ?? "";
  const key = `${namespace}/${metadata.name}`;
  return {
    key,
    namespace,
    selector: spec.selector ?? {},
    servers: (spec.servers ?? []).flatMap((server, i): Server[] => {
      const protocol = namedProtocol(server.port?.protocol ?? "");
      const port = server.port?.number;
      if (!protocol || !isPort(port) || (server.bind && isIP(server.bind) === 0)) return [];
      if (needsCredential(server) && !credentialOf(server)) return [];
      if (unservedChecks(server).length > 0) return [];
      return [
        {
          gateway: key,
          kind: "Gateway",
          namespace,
          created: timeOf(metadata.creationTimestamp),
          name: metadata.name,
          field: `spec.servers[${i}]`,
          port,
          portName: server.port?.name ?? "",
          protocol,
          bind: server.bind ?? "",
          hosts: (server.hosts ?? [])
            .map((text) => hostOf(text, namespace, mesh))
            .filter(({ host }) => isHost(host)),
          tls: server.tls,
        },
      ];
    }),
  };
}

/** It terminates TLS with a certificate of its own. */
export function needsCredential({ port, tls }: GatewayServer): boolean {
  const protocol = namedProtocol(port?.protocol ?? "");
  return (
    (protocol === "https" || protocol === "tls") &&
    (tls?.mode === "SIMPLE" || tls?.mode === "MUTUAL" || tls?.mode === "OPTIONAL_MUTUAL")
  );
}

/**
 * Checks of clients' certificates that are not served. Without them a server would let in whom its author keeps out, so
 * it is not there.
 */
function unservedChecks({ tls }: GatewayServer): string[] {
  const asks = tls?.mode === "MUTUAL" || tls?.mode === "OPTIONAL_MUTUAL" || tls?.mode === "ISTIO_MUTUAL";
  if (!asks) return [];
  return [
    ...(tls.verifyCertificateSpki?.length ? ["verifyCertificateSpki"] : []),
    ...(tls.verifyCertificateHash?.length ? ["verifyCertificateHash"] : []),
    ...(tls.caCrl ? ["caCrl"] : []),
  ];
}

/** The Secret that a server names. */
export function credentialOf({ tls }: GatewayServer): string | undefined {
  return tls?.credentialName || tls?.credentialNames?.[0] || undefined;
}

/** `namespace/host`: whose routes may use the host. */
function hostOf(text: string, own: string, mesh: MeshSettings): { namespace: string; host: string } {
  const slash = text.indexOf("/");
  const namespace = slash < 0 ? "*" : text.slice(0, slash);
  return {
    namespace: namespace === "." ? own : namespace,
    host: fullHost(text.slice(slash + 1), own, mesh.clusterDomain),
  };
}

/** What a gateway's configuration is made of. */
export interface GatewayContext extends Omit<RouteContext, "port" | "gateways"> {
  /** Name of the scope. */
  scope: string;
  /** Of the gateway's pods. */
  namespace: string;
  labels: Readonly<Record<string, string>>;
  servers: readonly Server[];
  /** The application's port for a server's: by the gateway's Service. */
  target(port: number): number;
  /** Rules bound to a Gateway. */
  rules(gateway: string): readonly HostRules[];
  /** Upstreams whose TLS may be handed on unopened. */
  passed(hosts: PassedHosts): readonly Upstream[];
  /** What connections to some servers, which share a filter chain, are held to. */
  guard(
    servers: readonly Server[],
    rules: (gateway: string) => readonly HostRules[],
    tcp: boolean,
  ): { authorization: readonly Authorization[]; rateLimits: readonly LocalRateLimit[] };
}

/** A piece of a gateway's configuration, each a row of its own. */
export type GatewayPart =
  | { scope: string; kind: "listener"; name: string; listener: Listener }
  /** Without a host: the table is there and knows nobody. */
  | { scope: string; kind: "host"; table: string; name: string; host?: VirtualHost };

/** The key of a part among all. */
export function partKey(part: GatewayPart): string {
  return part.kind === "listener"
    ? `${part.scope}|listener|${part.name}`
    : `${part.scope}|host|${part.table}|${part.name}`;
}

/** Of an HTTP server's TLS only the redirect counts, as in Istio. */
const isPlainHttp = ({ protocol }: Server): boolean =>
  protocol === "http" || protocol === "http2" || protocol === "grpc" || protocol === "grpc-web";

/** It hands the mesh's TLS on by server name, without routes. */
export const isAutoPassthrough = ({ tls, protocol }: Server): boolean =>
  tls?.mode === "AUTO_PASSTHROUGH" && (protocol === "tls" || protocol === "https");

const isTerminated = ({ tls }: Server): boolean =>
  tls?.mode !== undefined && tls.mode !== "PASSTHROUGH" && tls.mode !== "AUTO_PASSTHROUGH";

/** Listeners and virtual hosts of all servers, those of one port together. */
export function gatewayParts(context: GatewayContext): GatewayPart[] {
  const byPort = new Map<string, Server[]>();
  for (const server of [...context.servers].sort(byAge)) {
    const key = `${server.bind || "0.0.0.0"}_${context.target(server.port)}`;
    const others = byPort.get(key);
    if (others) others.push(server);
    else byPort.set(key, [server]);
  }
  return [...byPort].flatMap(([name, servers]) => partsOfPort(name, servers, context));
}

function partsOfPort(name: string, servers: readonly Server[], context: GatewayContext): GatewayPart[] {
  const first = servers[0]!;
  const port = context.target(first.port);
  const parts: GatewayPart[] = [];
  const chains: FilterChain[] = [];
  const plain = servers.filter(isPlainHttp);
  // One port speaks plain HTTP or it does not: the oldest server says. Analysis names the others.
  if (isPlainHttp(first)) {
    const table = `http.${port}`;
    parts.push(...hostParts(table, plain, context));
    const { authorization, rateLimits } = context.guard(plain, context.rules, false);
    chains.push({
      name: table,
      match: {},
      authorization,
      handler: httpHandler(table, rateLimits, context),
      origins: plain.map(originOf),
    });
  } else {
    const taken = new Set<string>();
    for (const server of servers.filter((each) => !isPlainHttp(each)))
      for (const chain of chainsOf(server, parts, context)) {
        const match = JSON.stringify(chain.match);
        if (taken.has(match)) continue;
        taken.add(match);
        chains.push(chain);
      }
  }
  if (chains.length === 0) return [];
  const byName = chains.some(({ match }) => match.serverNames);
  const listener: Listener = {
    name,
    direction: "gateway",
    address: first.bind || "0.0.0.0",
    port,
    bind: true,
    redirected: false,
    inspect: byName ? ["tls"] : [],
    inspectTimeout: byName ? inspectTimeout : 0,
    chains,
    origins: servers.map(originOf),
  };
  return [{ scope: context.scope, kind: "listener", name, listener }, ...parts];
}

function originOf({ namespace, name, field }: Server): Origin {
  return { kind: "Gateway", namespace, name, field };
}

function chainsOf(server: Server, parts: GatewayPart[], context: GatewayContext): FilterChain[] {
  const origins = [originOf(server)];
  const names = server.hosts.map(({ host }) => host);
  if (names.length === 0) return [];
  const serverNames = names.includes("*") ? undefined : [...new Set(names)];
  if (isAutoPassthrough(server)) return passedChains(context.passed(server.hosts), origins, context.mesh);
  const tls = isTerminated(server) ? downstreamTls(server, context) : undefined;
  if (tls && server.protocol === "https") {
    const table = `https.${server.port}.${server.portName}.${server.name}.${server.namespace}`;
    parts.push(...hostParts(table, [server], context));
    const { authorization, rateLimits } = context.guard([server], context.rules, false);
    return [
      {
        name: table,
        match: { ...(serverNames && { serverNames }), transport: "tls" },
        tls,
        authorization,
        handler: httpHandler(table, rateLimits, context),
        origins,
      },
    ];
  }
  const statPrefix = `${server.name}.${server.namespace}:${server.port}`;
  const { authorization } = context.guard([server], context.rules, true);
  const chain = (
    name: string,
    match: ChainMatch,
    rules: HostRules,
    route: Parameters<typeof clustersOf>[0],
    field: string,
  ): FilterChain => ({
    name,
    match,
    ...(tls && { tls: { ...tls, alpn: [] } }),
    authorization,
    handler: tcpHandler(
      clustersOf(route, rules, server.port, { mesh: context.mesh, service: context.service }),
      statPrefix,
      context.mesh,
    ),
    origins: [...origins, { kind: rules.kind, namespace: rules.namespace, name: rules.name, field }],
  });
  // Which routes are for this gateway: as clients of services, it has a namespace and labels.
  const own = { ...context, gateways: new Set([server.gateway]) };
  const bySni: FilterChain[] = [];
  const rest: DraftChain[] = [];
  for (const rules of [...context.rules(server.gateway)].sort(byAge)) {
    if (!tls && (server.protocol === "tls" || server.protocol === "https")) {
      for (const [i, route] of rules.tls.entries())
        for (const match of route.match ?? []) {
          if (!applies(match, rules.namespace, server.port, own)) continue;
          if (!selects(match.sourceLabels, context.labels)) continue;
          const shared = sniHosts(match).flatMap((host) => sharedHosts(server, rules.namespace, host));
          const sni = [...new Set(shared)];
          const destinations = subnetsOf(match);
          if (sni.length === 0 || destinations?.length === 0) continue;
          const criteria: ChainMatch = {
            ...(!sni.includes("*") && { serverNames: sni }),
            transport: "tls",
            ...(destinations && { destinations }),
          };
          const name = `${rules.key}:tls[${i}]`;
          bySni.push(chain(name, criteria, rules, route.route ?? [], `spec.tls[${i}]`));
        }
      continue;
    }
    if (!rules.hosts.some((host) => sharedHosts(server, rules.namespace, host).length > 0)) continue;
    for (const [i, route] of rules.tcp.entries())
      for (const match of route.match?.length ? route.match : [{}]) {
        if (!applies(match, rules.namespace, server.port, own)) continue;
        const destinations = subnetsOf(match);
        if (destinations?.length === 0) continue;
        const criteria: ChainMatch = {
          ...(tls && { ...(serverNames && { serverNames }), transport: "tls" }),
          ...(destinations && { destinations }),
        };
        rest.push({
          chain: chain(`${rules.key}:tcp[${i}]`, criteria, rules, route.route ?? [], `spec.tcp[${i}]`),
          ...labelsOf(match),
        });
      }
  }
  return [...bySni, ...inOrder(rest, context.labels)];
}

/** The hosts that a server and a host of a route have in common. */
export function sharedHosts(server: Pick<Server, "hosts">, namespace: string, host: string): string[] {
  return server.hosts.flatMap((each) =>
    each.namespace === "*" || each.namespace === namespace ? (common(each.host, host) ?? []) : [],
  );
}

/** The virtual hosts of one table: rules of several objects for one host are put together, oldest first. */
function hostParts(table: string, servers: readonly Server[], context: GatewayContext): GatewayPart[] {
  const { scope } = context;
  const made = new Map<
    string,
    { drafts: DraftRoute[]; requireTls: boolean; mixed: boolean; origins: Origin[] }
  >();
  const open = (host: string, server: Server) => {
    let found = made.get(host);
    if (!found) {
      found = { drafts: [], requireTls: false, mixed: false, origins: [originOf(server)] };
      made.set(host, found);
    }
    return found;
  };
  for (const server of servers) {
    const redirect = server.tls?.httpsRedirect === true && !isTerminated(server);
    if (redirect) for (const { host } of server.hosts) open(host, server).requireTls = true;
    for (const rules of [...context.rules(server.gateway)].sort(byAge)) {
      if (rules.http.length === 0) continue;
      const hosts = new Set(rules.hosts.flatMap((host) => sharedHosts(server, rules.namespace, host)));
      if (hosts.size === 0) continue;
      const drafts = routesOf(rules, {
        ...context,
        port: server.port,
        gateways: new Set([server.gateway]),
      }).filter(({ labels }) => selects(labels, context.labels));
      for (const host of hosts) {
        const entry = open(host, server);
        entry.requireTls ||= redirect;
        entry.drafts.push(...drafts);
        entry.mixed ||= rules.kind !== "HTTPRoute";
        entry.origins.push({ kind: rules.kind, namespace: rules.namespace, name: rules.name, field: "" });
      }
    }
  }
  const parts: GatewayPart[] = [{ scope, kind: "host", table, name: "" }];
  for (const [host, { drafts, requireTls, mixed, origins }] of made) {
    const port = servers[0]!.port;
    parts.push({
      scope,
      kind: "host",
      table,
      name: host,
      host: {
        name: `${host}:${port}`,
        domains: gatewayDomains(host, port),
        routes: sortRoutes(
          drafts.map(({ route }) => route),
          !mixed,
        ),
        requireTls,
        origins,
      },
    });
  }
  return parts;
}

/** Any port, since load balancers change it; Envoy takes one wildcard only. */
export function gatewayDomains(host: string, port: number): string[] {
  if (host === "*") return ["*"];
  return host.startsWith("*") ? [host, `${host}:${port}`] : [host, `${host}:*`];
}

/**
 * Several objects' routes are put together: HTTPRoutes' by their precedence; of others those that take everything go last.
 */
function sortRoutes(routes: readonly Route[], byPrecedence: boolean): Route[] {
  if (byPrecedence) return [...routes].sort((a, b) => comparePrecedence(a.match, b.match));
  const takesAll = ({ match: { path, headers, query } }: Route) =>
    path.kind === "prefix" && path.value === "/" && headers.length === 0 && query.length === 0;
  return [...routes.filter((route) => !takesAll(route)), ...routes.filter(takesAll)];
}

/** Source: Gateway API, HTTPRouteRule.matches. */
function comparePrecedence(a: RouteMatch, b: RouteMatch): number {
  const rank = ({ path: { kind } }: RouteMatch) => (kind === "exact" ? 0 : kind === "regex" ? 1 : 2);
  const length = ({ path }: RouteMatch) => ("value" in path ? path.value.length : 0);
  const methods = ({ headers }: RouteMatch) => headers.filter(({ name }) => name === ":method").length;
  return (
    rank(a) - rank(b) ||
    length(b) - length(a) ||
    methods(b) - methods(a) ||
    b.headers.length - a.headers.length ||
    b.query.length - a.query.length
  );
}

/** Hosts of a table in an order that does not depend on who came first. */
export function byHost(a: VirtualHost, b: VirtualHost): number {
  return bySpecificity(a.domains[0]!, b.domains[0]!);
}

function httpHandler(
  table: string,
  rateLimits: readonly LocalRateLimit[],
  { mesh }: GatewayContext,
): HttpHandler {
  return {
    kind: "http",
    routes: table,
    statPrefix: table,
    clientCertificate: "sanitize-set",
    useRemoteAddress: true,
    trustedHops: mesh.trustedProxies ?? 0,
    websocket: true,
    rateLimits,
    ...accessLogOf(mesh),
    traceSampling: mesh.traceSampling,
  };
}

const versions: Record<TlsProtocol, "1.2" | "1.3" | undefined> = {
  TLS_AUTO: undefined,
  TLSV1_0: "1.2",
  TLSV1_1: "1.2",
  TLSV1_2: "1.2",
  TLSV1_3: "1.3",
};

/** Cipher suites that Envoy's TLS (BoringSSL) knows; an unknown one would have the listener refused. */
export const cipherSuites = new Set(
  ["ECDSA", "RSA"]
    .flatMap((key) =>
      ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305", "AES128-SHA", "AES256-SHA"].map(
        (cipher) => `ECDHE-${key}-${cipher}`,
      ),
    )
    .concat("AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA"),
);

function downstreamTls({ tls = {}, kind, namespace }: Server, context: GatewayContext): DownstreamTls {
  const maximum = versions[tls.maxProtocolVersion ?? "TLS_AUTO"];
  const asked = versions[tls.minProtocolVersion ?? "TLS_AUTO"] ?? "1.2";
  const minimum = maximum && maximum < asked ? maximum : asked;
  const ciphers = tls.cipherSuites?.filter((cipher) => cipherSuites.has(cipher)) ?? [];
  const common = {
    minimum,
    ...(maximum && { maximum }),
    ...(ciphers.length > 0 && { ciphers }),
    alpn: ["h2", "http/1.1"],
    ...(tls.subjectAltNames?.length && { subjectAltNames: tls.subjectAltNames }),
  };
  if (tls.mode === "ISTIO_MUTUAL")
    return { certificate: "identity", client: "required", trust: "mesh", ...common };
  const name = tls.credentialName || tls.credentialNames?.[0] || "";
  // Istio's are in the namespace of the gateway's pods; Gateway API's say where they are.
  const secret = credential(kind === "Gateway" ? context.namespace : namespace, name);
  const checked = tls.mode === "MUTUAL" || tls.mode === "OPTIONAL_MUTUAL";
  return {
    certificate: { secret },
    client: tls.mode === "MUTUAL" ? "required" : tls.mode === "OPTIONAL_MUTUAL" ? "optional" : "none",
    trust: checked
      ? {
          secret: tls.caCertCredentialName
            ? credential(context.namespace, tls.caCertCredentialName)
            : `${secret}-cacert`,
        }
      : "mesh",
    ...common,
  };
}
