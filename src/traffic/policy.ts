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
import { credential, milliseconds } from "./names.ts";
import { isHeaderName } from "./valid.ts";

/** Envoy's circuit breakers when nobody set one: no limit (2^32 - 1), as Istio writes it. */
const unlimited = 4_294_967_295;

/** A number that counts something, within Envoy's bounds; undefined for what is none: then the default holds. */
function count(value: number | undefined, most = unlimited): number | undefined {
  return value !== undefined && Number.isInteger(value) && value > 0 ? Math.min(value, most) : undefined;
}

/** As `count`, but 0 has its meaning. */
function countOrNone(value: number | undefined, most = unlimited): number | undefined {
  return value === 0 ? 0 : count(value, most);
}

/** A duration that must not be 0. */
function positive(text: string | undefined): number | undefined {
  return milliseconds(text) || undefined;
}

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

/** The mesh's where the rule names none. */
export function balancerOf(settings: LoadBalancerSettings | undefined, mesh: MeshSettings): Balancer {
  const hash = settings?.consistentHash;
  if (hash) {
    if (hash.maglev)
      return { kind: "maglev", tableSize: isPrime(hash.maglev.tableSize) ? hash.maglev.tableSize : 65_537 };
    return {
      kind: "ring-hash",
      minimumRingSize: count(hash.ringHash?.minimumRingSize ?? hash.minimumRingSize, longestRing) ?? 1_024,
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

/** Envoy's largest ring. */
const longestRing = 8_388_608;

/** Maglev's table must have a prime number of entries, 5,000,011 at most. */
function isPrime(number: number | undefined): number is number {
  if (number === undefined || !Number.isInteger(number) || number < 2 || number > 5_000_011) return false;
  for (let i = 2; i * i <= number; i++) if (number % i === 0) return false;
  return true;
}

const leastRequest: Balancer = { kind: "least-request", choices: 2 };

/** What the routes to a consistently hashed upstream hash. Source: Istio `consistentHashToHashPolicy`. */
export function hashPolicyOf(settings: LoadBalancerSettings | undefined): HashPolicy[] {
  const hash = settings?.consistentHash;
  if (!hash) return [];
  if (hash.httpHeaderName && isHeaderName(hash.httpHeaderName))
    return [{ kind: "header", name: hash.httpHeaderName.toLowerCase() }];
  if (hash.httpCookie?.name && isHeaderName(hash.httpCookie.name)) {
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

/** Undefined: new endpoints get their whole share at once. */
export function warmupOf(
  settings: LoadBalancerSettings | undefined,
): { milliseconds: number; minimumPercent: number; aggression: number } | undefined {
  const duration = milliseconds(settings?.warmup?.duration ?? settings?.warmupDurationSecs);
  if (!duration) return undefined;
  return {
    milliseconds: duration,
    minimumPercent: count(settings?.warmup?.minimumPercent, 100) ?? 10,
    aggression: Math.max(settings?.warmup?.aggression ?? 1, 1),
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

/** Envoy's limits, with Istio's defaults. */
export function connectionLimitsOf(settings: ConnectionPoolSettings | undefined): ConnectionLimits {
  const { tcp, http } = settings ?? {};
  const keepalive = tcp?.tcpKeepalive;
  const time = positive(keepalive?.time);
  const probes = count(keepalive?.probes);
  const streams = count(http?.maxConcurrentStreams, 2 ** 31 - 1);
  const interval = positive(keepalive?.interval);
  return {
    connectTimeout: positive(tcp?.connectTimeout) ?? 10_000,
    maxConnections: count(tcp?.maxConnections) ?? unlimited,
    maxPendingRequests: count(http?.http1MaxPendingRequests) ?? unlimited,
    maxRequests: count(http?.http2MaxRequests) ?? unlimited,
    maxRetries: count(http?.maxRetries) ?? unlimited,
    maxRequestsPerConnection: count(http?.maxRequestsPerConnection) ?? 0,
    idleTimeout: milliseconds(http?.idleTimeout ?? tcp?.idleTimeout) ?? 3_600_000,
    ...(streams !== undefined && { maxConcurrentStreams: streams }),
    ...(keepalive && {
      keepalive: {
        ...(probes !== undefined && { probes }),
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
    consecutive5xx: countOrNone(settings.consecutive5xxErrors ?? settings.consecutiveErrors) ?? 5,
    consecutiveGatewayErrors: count(settings.consecutiveGatewayErrors) ?? 0,
    consecutiveLocalErrors: splitLocalErrors
      ? (countOrNone(settings.consecutiveLocalOriginFailures) ?? 5)
      : 5,
    splitLocalErrors,
    interval: positive(settings.interval) ?? 10_000,
    baseEjection: positive(settings.baseEjectionTime) ?? 30_000,
    maxEjectionPercent: count(settings.maxEjectionPercent, 100) ?? 10,
    minHealthPercent: count(settings.minHealthPercent, 100) ?? 0,
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

/** What is known of an upstream besides its rule. */
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

/** How its connections are secured; auto mTLS where the rule says nothing. */
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
        ...(settings.credentialName && { secret: credential(mesh.namespace, settings.credentialName) }),
        ...(settings.clientCertificate && { certificate: settings.clientCertificate }),
        ...(settings.privateKey && { key: settings.privateKey }),
        ...(settings.caCertificates && { ca: settings.caCertificates }),
        ...(settings.caCrl && { crl: settings.caCrl }),
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
