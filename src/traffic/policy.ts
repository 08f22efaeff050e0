/**
 * A DestinationRule's trafficPolicy for one port and subset, in the model's words. Sources: Istio
 * `networking/v1/destination_rule.proto`, `pilot/pkg/networking/core/cluster_traffic_policy.go`.
 */
import type {
  ClientTlsSettings,
  ConnectionPoolSettings,
  LoadBalancerSettings,
  MeshSettings,
  OutlierDetectionSettings,
  TrafficPolicy,
} from "../api/index.ts";
import type {
  Balancer,
  ConnectionLimits,
  HashPolicy,
  LocalityPolicy,
  OutlierDetection,
  UpstreamTls,
} from "./model.ts";
import { milliseconds } from "./names.ts";

/** Envoy's circuit breakers when nobody set one: no limit (2^32 - 1), as Istio writes it. */
const unlimited = 4_294_967_295;

/** The parts of a policy that hold for a port: portLevelSettings take the place of all of them. */
export interface PortPolicy {
  loadBalancer?: LoadBalancerSettings;
  connectionPool?: ConnectionPoolSettings;
  outlierDetection?: OutlierDetectionSettings;
  tls?: ClientTlsSettings;
}

/** What holds for one port: of the rule's policy, overlaid by the subset's field by field. */
export function policyFor(
  policy: TrafficPolicy | undefined,
  subset: TrafficPolicy | undefined,
  port: number,
): PortPolicy {
  return overlay(overlay({}, policy, port), subset, port);
}

function overlay(below: PortPolicy, policy: TrafficPolicy | undefined, port: number): PortPolicy {
  if (!policy) return below;
  const own = policy.portLevelSettings?.find((each) => each.port?.number === port);
  if (own) return pick({}, own);
  return pick(below, policy);
}

function pick(below: PortPolicy, from: PortPolicy): PortPolicy {
  const loadBalancer = from.loadBalancer ?? below.loadBalancer;
  const connectionPool = from.connectionPool ?? below.connectionPool;
  const outlierDetection = from.outlierDetection ?? below.outlierDetection;
  const tls = from.tls ?? below.tls;
  return {
    ...(loadBalancer && { loadBalancer }),
    ...(connectionPool && { connectionPool }),
    ...(outlierDetection && { outlierDetection }),
    ...(tls && { tls }),
  };
}

export function balancerOf(settings: LoadBalancerSettings | undefined, mesh: MeshSettings): Balancer {
  const hash = settings?.consistentHash;
  if (hash) {
    if (hash.maglev) return { kind: "maglev", tableSize: hash.maglev.tableSize || 65_537 };
    return {
      kind: "ring-hash",
      minimumRingSize: hash.ringHash?.minimumRingSize || hash.minimumRingSize || 1_024,
    };
  }
  switch (settings?.simple) {
    case "ROUND_ROBIN":
      return { kind: "round-robin" };
    case "RANDOM":
      return { kind: "random" };
    case "PASSTHROUGH":
      return { kind: "passthrough" };
    case "LEAST_REQUEST":
    case "LEAST_CONN":
      return leastRequest;
    default:
      return mesh.balancer === "ROUND_ROBIN" ? { kind: "round-robin" } : leastRequest;
  }
}

const leastRequest: Balancer = { kind: "least-request", choices: 2 };

/** What the routes to a consistently hashed upstream hash. Source: Istio `consistentHashToHashPolicy`. */
export function hashPolicyOf(settings: LoadBalancerSettings | undefined): HashPolicy[] {
  const hash = settings?.consistentHash;
  if (!hash) return [];
  if (hash.httpHeaderName) return [{ kind: "header", name: hash.httpHeaderName.toLowerCase() }];
  if (hash.httpCookie?.name) {
    const ttl = milliseconds(hash.httpCookie.ttl);
    return [
      {
        kind: "cookie",
        name: hash.httpCookie.name,
        path: hash.httpCookie.path ?? "",
        ...(ttl !== undefined && { ttl }),
      },
    ];
  }
  if (hash.useSourceIp) return [{ kind: "source-ip" }];
  if (hash.httpQueryParameterName) return [{ kind: "query", name: hash.httpQueryParameterName }];
  return [];
}

export function warmupOf(
  settings: LoadBalancerSettings | undefined,
): { milliseconds: number; minimumPercent: number; aggression: number } | undefined {
  const duration = milliseconds(settings?.warmup?.duration ?? settings?.warmupDurationSecs);
  if (!duration) return undefined;
  return {
    milliseconds: duration,
    minimumPercent: settings?.warmup?.minimumPercent ?? 10,
    aggression: settings?.warmup?.aggression ?? 1,
  };
}

/** Failover acts only where outliers are looked for; distribution always. Source: Istio `loadbalancer.go`. */
export function localityPolicyOf(policy: PortPolicy): LocalityPolicy | undefined {
  const setting = policy.loadBalancer?.localityLbSetting;
  if (setting?.enabled === false) return undefined;
  const distribute = (setting?.distribute ?? []).map(({ from, to }) => ({ from: from ?? "*", to: to ?? {} }));
  const failover = policy.outlierDetection !== undefined;
  if (!failover && distribute.length === 0) return undefined;
  return {
    failover,
    regions: (setting?.failover ?? []).map(({ from, to }) => ({ from: from ?? "", to: to ?? "" })),
    priorityLabels: setting?.failoverPriority ?? [],
    distribute,
  };
}

export function connectionLimitsOf(settings: ConnectionPoolSettings | undefined): ConnectionLimits {
  const { tcp, http } = settings ?? {};
  const keepalive = tcp?.tcpKeepalive;
  const time = milliseconds(keepalive?.time);
  const interval = milliseconds(keepalive?.interval);
  return {
    connectTimeout: milliseconds(tcp?.connectTimeout) ?? 10_000,
    maxConnections: tcp?.maxConnections || unlimited,
    maxPendingRequests: http?.http1MaxPendingRequests || unlimited,
    maxRequests: http?.http2MaxRequests || unlimited,
    maxRetries: http?.maxRetries || unlimited,
    maxRequestsPerConnection: http?.maxRequestsPerConnection ?? 0,
    idleTimeout: milliseconds(http?.idleTimeout ?? tcp?.idleTimeout) ?? 3_600_000,
    ...(http?.maxConcurrentStreams && { maxConcurrentStreams: http.maxConcurrentStreams }),
    ...(keepalive && {
      keepalive: {
        ...(keepalive.probes && { probes: keepalive.probes }),
        ...(time !== undefined && { time }),
        ...(interval !== undefined && { interval }),
      },
    }),
  };
}

/** Source: Istio `applyOutlierDetection`; what is left out has Envoy's default. */
export function outliersOf(settings: OutlierDetectionSettings | undefined): OutlierDetection | undefined {
  if (!settings) return undefined;
  const splitLocalErrors = settings.splitExternalLocalOriginErrors ?? false;
  return {
    consecutive5xx: settings.consecutive5xxErrors ?? settings.consecutiveErrors ?? 5,
    consecutiveGatewayErrors: settings.consecutiveGatewayErrors ?? 0,
    consecutiveLocalErrors: splitLocalErrors ? (settings.consecutiveLocalOriginFailures ?? 5) : 5,
    splitLocalErrors,
    interval: milliseconds(settings.interval) ?? 10_000,
    baseEjection: milliseconds(settings.baseEjectionTime) ?? 30_000,
    maxEjectionPercent: settings.maxEjectionPercent || 10,
    minHealthPercent: settings.minHealthPercent ?? 0,
  };
}

/**
 * What is offered as ALPN between sidecars: the other side tells by it that this is the mesh's TLS, and what is inside.
 * Source: Istio `pilot/pkg/networking/util`, ALPNInMesh…; its alpn filter, which stock Envoy does not have, chooses
 * by request what we choose by upstream.
 */
export const meshAlpn = {
  http1: ["istio-http/1.1", "istio", "http/1.1"],
  http2: ["istio-h2", "istio", "h2"],
  tcp: ["istio-peer-exchange", "istio"],
} as const;

export interface TlsContext {
  mesh: MeshSettings;
  protocol: "http1" | "http2" | "auto" | "tcp";
  /** `outbound_.8080_._.host`. */
  sni: string;
  host: string;
  identities: readonly string[];
  /** Endpoints outside of the mesh never have a sidecar. */
  external: boolean;
  subjectAltNames: readonly string[];
}

export function tlsOf(settings: ClientTlsSettings | undefined, context: TlsContext): UpstreamTls {
  const { mesh, protocol, identities } = context;
  const alpn = protocol === "http2" ? meshAlpn.http2 : protocol === "tcp" ? meshAlpn.tcp : meshAlpn.http1;
  switch (settings?.mode) {
    case "DISABLE":
      return { mode: "none" };
    case "SIMPLE":
    case "MUTUAL": {
      const names = settings.subjectAltNames?.length ? settings.subjectAltNames : context.subjectAltNames;
      return {
        mode: settings.mode === "SIMPLE" ? "simple" : "mutual",
        sni: settings.sni ?? (context.host.startsWith("*") ? "" : context.external ? context.host : ""),
        ...(settings.credentialName && { secret: settings.credentialName }),
        ...(settings.clientCertificate && { certificate: settings.clientCertificate }),
        ...(settings.privateKey && { key: settings.privateKey }),
        ...(settings.caCertificates && { ca: settings.caCertificates }),
        subjectAltNames: names,
        insecure: settings.insecureSkipVerify ?? false,
      };
    }
    case "ISTIO_MUTUAL":
      return {
        mode: "mesh",
        auto: false,
        sni: settings.sni || context.sni,
        identities: settings.subjectAltNames?.length ? settings.subjectAltNames : identities,
        alpn: [...alpn],
      };
    default:
      if (!mesh.mtls.auto || context.external) return { mode: "none" };
      return { mode: "mesh", auto: true, sni: context.sni, identities, alpn: [...alpn] };
  }
}
