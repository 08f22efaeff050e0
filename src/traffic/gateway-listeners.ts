/**
 * What listens at gateways: filter chains of their servers, with the routes bound to them. Source: Istio
 * `pilot/pkg/networking/core/gateway.go`.
 */
import type { TlsMatchAttributes, TlsProtocol } from "../api/index.ts";
import { type PassedHosts, passedChains } from "./auto-passthrough.ts";
import { hostParts } from "./gateway-routes.ts";
import {
  isAutoPassthrough,
  isPlainHttp,
  isTerminated,
  originOf,
  type Server,
  sharedHosts,
} from "./gateways.ts";
import type {
  Authorization,
  ChainMatch,
  DownstreamTls,
  FilterChain,
  HttpHandler,
  Listener,
  LocalRateLimit,
  Upstream,
  VirtualHost,
} from "./model.ts";
import { credential } from "./names.ts";
import { inspectTimeout } from "./outbound.ts";
import { byAge } from "./registry.ts";
import type { RouteContext } from "./routes.ts";
import {
  accessLogOf,
  type ChainMaker,
  clustersOf,
  type DraftChain,
  inOrder,
  sniDrafts,
  sniHosts,
  tcpDrafts,
  tcpHandler,
} from "./tcp.ts";
import type { HostRules } from "./virtual-services.ts";
import { selects } from "./workloads.ts";

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
  const chain =
    (rules: HostRules, kind: "tcp" | "tls", criteria: ChainMatch = {}): ChainMaker =>
    (route, i, match) => ({
      name: `${rules.key}:${kind}[${i}]`,
      match: { ...criteria, ...match },
      ...(tls && { tls: { ...tls, alpn: [] } }),
      authorization,
      handler: tcpHandler(clustersOf(route, rules, server.port, context), statPrefix, context.mesh),
      origins: [
        ...origins,
        { kind: rules.kind, namespace: rules.namespace, name: rules.name, field: `spec.${kind}[${i}]` },
      ],
    });
  // Which routes are for this gateway: as clients of services, it has a namespace and labels.
  const own = { ...context, gateways: new Set([server.gateway]) };
  const bySni: DraftChain[] = [];
  const rest: DraftChain[] = [];
  for (const rules of [...context.rules(server.gateway)].sort(byAge)) {
    const sharedWith = (host: string) => sharedHosts(server, rules.namespace, host);
    if (!tls && (server.protocol === "tls" || server.protocol === "https")) {
      const namesOf = (match: TlsMatchAttributes) => [...new Set(sniHosts(match).flatMap(sharedWith))];
      bySni.push(...sniDrafts(rules, server.port, own, undefined, namesOf, chain(rules, "tls")));
    } else if (rules.hosts.some((host) => sharedWith(host).length > 0)) {
      const criteria: ChainMatch = tls ? { ...(serverNames && { serverNames }), transport: "tls" } : {};
      rest.push(...tcpDrafts(rules, server.port, own, undefined, chain(rules, "tcp", criteria)).drafts);
    }
  }
  return [
    ...bySni.flatMap(({ chain, labels }) => (selects(labels, context.labels) ? [chain] : [])),
    ...inOrder(rest, context.labels),
  ];
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
