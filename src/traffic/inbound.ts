/**
 * What a sidecar does with connections to its application. Source: Istio
 * `pilot/pkg/networking/core/listener_inbound.go`, `pilot/pkg/security/authn/utils`.
 */
import {
  type ConnectionPoolSettings,
  type MeshSettings,
  modeOfPort,
  type PeerMode,
  type PeerTlsMode,
} from "../api/index.ts";
import type {
  Authorization,
  ChainMatch,
  DownstreamTls,
  FilterChain,
  HttpHandler,
  Listener,
  LocalRateLimit,
  Origin,
  Retries,
  RouteTable,
  ScopeConfig,
  Upstream,
} from "./model.ts";
import { blackHoleUpstream, inboundPassthroughUpstream, upstreamName } from "./names.ts";
import { inspectTimeout, plainHttp } from "./outbound.ts";
import { isHttp, isHttp2, type Protocol } from "./protocol.ts";
import { anyPath, defaultRetries, noChanges, only } from "./routes.ts";
import type { ApplicationEndpoint } from "./sidecars.ts";
import { accessLogOf, tcpHandler, weighted } from "./tcp.ts";
import { blackHole, inboundPassthrough, inboundUpstream } from "./upstreams.ts";

/** A port of the workload that a service names. */
export interface InboundPort {
  /** The application's own. */
  number: number;
  protocol: Protocol;
  /** Of the service. */
  service: NonNullable<Upstream["service"]>;
  servicePort: number;
  origin: Origin;
  /** Where the application listens; absent: where the connection was going. */
  endpoint?: ApplicationEndpoint;
  pool?: ConnectionPoolSettings;
}

/** What a workload's inbound configuration is made of. */
export interface InboundContext {
  scope: string;
  mesh: MeshSettings;
  ports: readonly InboundPort[];
  peers: PeerMode;
  http: readonly Authorization[];
  tcp: readonly Authorization[];
  rateLimits: readonly LocalRateLimit[];
}

/** What the mesh's own TLS offers: sidecars know each other by the first, HTTP by the others. */
const serverAlpn = ["istio-peer-exchange", "h2", "http/1.1"];
const meshHttpAlpn = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
const meshAnyAlpn = ["istio-peer-exchange", "istio", ...meshHttpAlpn];

/** Tried again only while the application cannot have seen the request. Source: Istio `retry.DefaultPolicy` inbound. */
const inboundRetries: Retries = {
  ...defaultRetries,
  on: ["reset-before-request"],
  avoidPrevious: false,
};

const identity: DownstreamTls = {
  certificate: "identity",
  client: "required",
  trust: "mesh",
  minimum: "1.2",
  alpn: serverAlpn,
};

/** The listener 15006 and the upstreams of the application. */
export function inboundConfig(context: InboundContext): ScopeConfig {
  const upstreams = new Map<string, Upstream>([
    [inboundPassthroughUpstream, inboundPassthrough],
    [blackHoleUpstream, blackHole],
  ]);
  for (const port of context.ports) {
    const protocol = isHttp2(port.protocol)
      ? "http2"
      : isHttp(port.protocol)
        ? "http1"
        : port.protocol === "auto"
          ? "auto"
          : "tcp";
    const upstream = inboundUpstream(port.number, protocol, port.service, [port.origin], port);
    upstreams.set(upstream.name, upstream);
  }
  const listener = virtualInbound(context);
  return {
    scope: context.scope,
    listeners: new Map([[listener.name, listener]]),
    routes: new Map(),
    upstreams,
    secrets: new Set(),
  };
}

/** 15006: everything that comes into the pod. */
function virtualInbound(context: InboundContext): Listener {
  const { mesh, peers } = context;
  const chains: FilterChain[] = [
    {
      name: "virtualInbound-blackhole",
      match: { destinationPort: 15_006 },
      authorization: [],
      handler: tcpHandler([weighted(blackHoleUpstream, 1)], blackHoleUpstream, mesh),
      origins: [],
    },
  ];
  for (const port of context.ports) {
    const upstream = upstreamName("inbound", port.number, "", "");
    chains.push(
      ...chainsOf(
        port.protocol,
        modeOfPort(peers, port.number),
        { destinationPort: port.number },
        {
          name: `${port.service.host}:${port.servicePort}`,
          upstream,
          origins: [port.origin, ...peers.origins],
        },
        context,
      ),
    );
  }
  // Ports that no service names: whatever is spoken, by the policy of the port or of the workload.
  for (const [port, mode] of peers.ports)
    if (!context.ports.some(({ number }) => number === port))
      chains.push(
        ...chainsOf("auto", mode, { destinationPort: port }, catchAll(`${port}`, peers.origins), context),
      );
  chains.push(...chainsOf("auto", peers.mode, {}, catchAll("virtualInbound", peers.origins), context));
  return {
    name: "virtualInbound",
    direction: "inbound",
    address: "0.0.0.0",
    port: 15_006,
    bind: true,
    redirected: true,
    inspect: ["tls", "http"],
    inspectTimeout,
    chains,
    origins: peers.origins,
  };
}

interface Target {
  name: string;
  upstream: string;
  origins: readonly Origin[];
}

function catchAll(name: string, origins: readonly Origin[]): Target {
  return { name, upstream: inboundPassthroughUpstream, origins };
}

/** The chains of one port for one mode: which connections are HTTP, which are in the mesh's TLS, which are plain. */
function chainsOf(
  protocol: Protocol,
  mode: PeerTlsMode,
  base: ChainMatch,
  target: Target,
  context: InboundContext,
): FilterChain[] {
  const chains: FilterChain[] = [];
  const add = (suffix: string, match: ChainMatch, kind: "http" | "tcp", tls?: DownstreamTls) =>
    chains.push({
      name: `${target.name}${suffix}`,
      match: { ...base, ...match },
      ...(tls && { tls }),
      authorization: kind === "http" ? context.http : context.tcp,
      handler:
        kind === "http"
          ? inboundHttp(target, context, tls !== undefined)
          : tcpHandler([weighted(target.upstream, 1)], target.upstream, context.mesh),
      origins: target.origins,
    });
  const inTls = (applicationProtocols?: string[]): ChainMatch => ({
    transport: "tls",
    ...(applicationProtocols && { applicationProtocols }),
  });
  const isPlain: ChainMatch = { transport: "raw_buffer" };
  const strict = mode === "strict";
  if (isHttp(protocol)) {
    if (mode !== "disable") add("-mtls", inTls(strict ? undefined : meshAnyAlpn), "http", identity);
    if (!strict) add("", isPlain, "http");
    return chains;
  }
  if (protocol === "auto") {
    if (mode !== "disable") {
      add("-mtls-http", inTls(meshHttpAlpn), "http", identity);
      add("-mtls", inTls(strict ? undefined : ["istio-peer-exchange", "istio"]), "tcp", identity);
    }
    if (!strict) {
      add("-http", { ...isPlain, applicationProtocols: plainHttp }, "http");
      add("", isPlain, "tcp");
      add("-tls", inTls(), "tcp"); // the application's own TLS
    }
    return chains;
  }
  if (mode !== "disable") add("-mtls", inTls(strict ? undefined : meshAnyAlpn), "tcp", identity);
  if (!strict) {
    add("", isPlain, "tcp");
    add("-tls", inTls(), "tcp");
  }
  return chains;
}

function inboundHttp(target: Target, { mesh, rateLimits }: InboundContext, mtls: boolean): HttpHandler {
  const routes: RouteTable = {
    name: target.upstream,
    virtualHosts: [
      {
        name: `inbound|http|${target.name}`,
        domains: ["*"],
        routes: [
          {
            name: "default",
            match: anyPath,
            action: {
              kind: "forward",
              clusters: [only(target.upstream)],
              timeout: 0,
              retries: inboundRetries,
              mirrors: [],
              hash: [],
            },
            requestHeaders: noChanges,
            responseHeaders: noChanges,
            rateLimits: [],
            origins: target.origins,
          },
        ],
        requireTls: false,
        origins: target.origins,
      },
    ],
    unknown: "not-found",
  };
  return {
    kind: "http",
    routes,
    statPrefix: `inbound_${target.name}`,
    clientCertificate: mtls ? "append-forward" : "sanitize",
    useRemoteAddress: false,
    trustedHops: 0,
    websocket: true,
    rateLimits,
    ...accessLogOf(mesh),
    traceSampling: mesh.traceSampling,
  };
}
