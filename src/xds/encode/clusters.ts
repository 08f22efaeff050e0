/** Upstreams as Envoy's clusters (CDS). */
import { Cluster } from "#protocols/envoy/config/cluster/v3/cluster.ts";
import { HttpProtocolOptions } from "#protocols/envoy/extensions/upstreams/http/v3/http_protocol_options.ts";
import type { OutlierDetection, Upstream } from "../../traffic/index.ts";
import { unplaced } from "./endpoints.ts";
import { duration, encode, encoded, fromAds, once, originMetadata, pack, uint32 } from "./pack.ts";
import { rawBuffer, upstreamTls } from "./tls.ts";

export const encodeUpstream = once((upstream: Upstream) =>
  encoded("cluster", upstream.name, encode(Cluster, clusterOf(upstream))),
);

/** Whether the endpoints of this upstream are asked for by name (EDS). */
export function hasEndpoints(upstream: Upstream): boolean {
  return upstream.discovery === "endpoints";
}

/** envoy.config.cluster.v3.Cluster.DiscoveryType */
const discoveryTypes = {
  none: 0,
  static: 0,
  "strict-dns": 1,
  "logical-dns": 2,
  endpoints: 3,
  "original-destination": 4,
} as const;

const httpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/**
 * To the application beside the proxy connections come from 127.0.0.6: that is what redirection lets through, where a
 * call from the proxy's usual source to its own pod is one that is to pass the inbound side. Source: Istio,
 * `InboundPassthroughBindIpv4`.
 */
const inboundSource = {
  sourceAddress: { address: "127.0.0.6", portSpecifier: { $case: "portValue" as const, value: 0 } },
};

function isInbound(name: string): boolean {
  return name.startsWith("inbound|") || name === "InboundPassthroughCluster";
}

function clusterOf(upstream: Upstream): Parameters<typeof Cluster.fromPartial>[0] {
  const { name, discovery, connections, outliers } = upstream;
  const { keepalive } = connections;
  const options = protocolOptions(upstream);
  const byOriginalDestination = discovery === "original-destination";
  const resolvesNames = discovery === "strict-dns" || discovery === "logical-dns";
  return {
    name,
    clusterDiscoveryType: { $case: "type", value: discoveryTypes[discovery] },
    ...(discovery === "endpoints" && {
      edsClusterConfig: { edsConfig: fromAds, serviceName: upstream.endpointsName },
    }),
    ...(!byOriginalDestination &&
      discovery !== "endpoints" && { loadAssignment: unplaced(name, upstream.endpoints) }),
    ...(resolvesNames && {
      dnsLookupFamily: 1, // V4_ONLY
      dnsRefreshRate: duration(60_000),
      respectDnsTtl: true,
    }),
    ...(isInbound(name) && { upstreamBindConfig: inboundSource }),
    connectTimeout: duration(connections.connectTimeout),
    ...(byOriginalDestination ? originalDestination(upstream) : balancerOf(upstream)),
    commonLbConfig: {
      // No panic: traffic goes to what is healthy or nowhere (Istio's choice where outliers are detected).
      healthyPanicThreshold: { value: outliers?.minHealthPercent ?? 0 },
      ...(discovery === "endpoints" && {
        localityConfigSpecifier: { $case: "localityWeightedLbConfig" as const, value: {} },
      }),
    },
    circuitBreakers: {
      thresholds: [
        {
          maxConnections: uint32(connections.maxConnections),
          maxPendingRequests: uint32(connections.maxPendingRequests),
          maxRequests: uint32(connections.maxRequests),
          maxRetries: uint32(connections.maxRetries),
          trackRemaining: true,
        },
      ],
    },
    ...(options && { typedExtensionProtocolOptions: { [httpOptions]: options } }),
    ...(outliers && { outlierDetection: outlierDetection(outliers) }),
    ...(keepalive && {
      upstreamConnectionOptions: {
        tcpKeepalive: {
          ...(keepalive.probes !== undefined && { keepaliveProbes: keepalive.probes }),
          ...(keepalive.time !== undefined && { keepaliveTime: Math.ceil(keepalive.time / 1000) }),
          ...(keepalive.interval !== undefined && {
            keepaliveInterval: Math.ceil(keepalive.interval / 1000),
          }),
        },
      },
    }),
    ...transport(upstream),
    ...metadata(upstream),
  };
}

function originalDestination({ originalPort }: Upstream) {
  return {
    lbPolicy: 6 as const, // CLUSTER_PROVIDED
    ...(originalPort !== undefined && {
      lbConfig: {
        $case: "originalDstLbConfig" as const,
        value: { upstreamPortOverride: originalPort },
      },
    }),
  };
}

/** For istioctl's DESTINATION RULE column, and for metrics: which service this is. */
function metadata({ service, origins }: Upstream) {
  const rule = originMetadata(origins, "DestinationRule");
  if (!service) return rule && { metadata: rule };
  return {
    metadata: { filterMetadata: { istio: { ...rule?.filterMetadata.istio, services: [service] } } },
  };
}

function transport({ tls }: Upstream) {
  const socket = upstreamTls(tls);
  if (!socket) return {};
  if (tls.mode !== "mesh" || !tls.auto) return { transportSocket: socket };
  return {
    transportSocketMatches: [
      { name: "tlsMode-istio", match: { tlsMode: "istio" }, transportSocket: socket },
      { name: "tlsMode-disabled", match: {}, transportSocket: rawBuffer },
    ],
  };
}

/** Which HTTP is spoken to the endpoints; none for TCP. */
function protocolOptions({ protocol, connections, tls }: Upstream) {
  if (protocol === "tcp") return undefined;
  const http2ProtocolOptions = connections.maxConcurrentStreams
    ? { maxConcurrentStreams: uint32(connections.maxConcurrentStreams) }
    : {};
  const explicit = <T>(value: T) => ({
    $case: "explicitHttpConfig" as const,
    value: { protocolConfig: value },
  });
  const spoken = {
    http1: explicit({ $case: "httpProtocolOptions" as const, value: {} }),
    http2: explicit({ $case: "http2ProtocolOptions" as const, value: http2ProtocolOptions }),
    auto: {
      $case: "useDownstreamProtocolConfig" as const,
      value: { httpProtocolOptions: {}, http2ProtocolOptions },
    },
  };
  const outside = tls.mode === "simple" || tls.mode === "mutual";
  return pack(httpOptions, HttpProtocolOptions, {
    commonHttpProtocolOptions: {
      ...(connections.idleTimeout > 0 && { idleTimeout: duration(connections.idleTimeout) }),
      ...(connections.maxRequestsPerConnection > 0 && {
        maxRequestsPerConnection: uint32(connections.maxRequestsPerConnection),
      }),
    },
    // Without a name of its own, TLS to the outside is for the host that was asked for.
    ...(outside &&
      !tls.sni && {
        upstreamHttpProtocolOptions: {
          autoSni: true,
          autoSanValidation: !tls.insecure && tls.subjectAltNames.length === 0,
        },
      }),
    upstreamProtocolOptions: spoken[protocol],
  });
}

/** envoy.config.cluster.v3.Cluster.LbPolicy and its settings. */
function balancerOf({ balancer, warmup }: Upstream) {
  const slowStart = warmup && {
    slowStartConfig: {
      slowStartWindow: duration(warmup.milliseconds),
      aggression: { defaultValue: warmup.aggression, runtimeKey: "weft.slow_start.aggression" },
      minWeightPercent: { value: warmup.minimumPercent },
    },
  };
  switch (balancer.kind) {
    case "least-request":
      return {
        lbPolicy: 1 as const,
        lbConfig: {
          $case: "leastRequestLbConfig" as const,
          value: { choiceCount: balancer.choices, ...slowStart },
        },
      };
    case "ring-hash":
      return {
        lbPolicy: 2 as const,
        lbConfig: {
          $case: "ringHashLbConfig" as const,
          value: { minimumRingSize: balancer.minimumRingSize },
        },
      };
    case "random":
      return { lbPolicy: 3 as const };
    case "maglev":
      return {
        lbPolicy: 5 as const,
        lbConfig: { $case: "maglevLbConfig" as const, value: { tableSize: balancer.tableSize } },
      };
    case "passthrough":
    case "round-robin":
      return {
        lbPolicy: 0 as const,
        ...(slowStart && { lbConfig: { $case: "roundRobinLbConfig" as const, value: slowStart } }),
      };
  }
}

/** Istio's translation: what is 0 is not looked at, and success rates never are. */
function outlierDetection(outliers: OutlierDetection) {
  const counted = (count: number, enforcing: string) =>
    count > 0 ? { [enforcing]: 100 } : { [enforcing]: 0 };
  return {
    ...(outliers.consecutive5xx > 0 && { consecutive5xx: outliers.consecutive5xx }),
    ...counted(outliers.consecutive5xx, "enforcingConsecutive5xx"),
    ...(outliers.consecutiveGatewayErrors > 0 && {
      consecutiveGatewayFailure: outliers.consecutiveGatewayErrors,
    }),
    ...counted(outliers.consecutiveGatewayErrors, "enforcingConsecutiveGatewayFailure"),
    splitExternalLocalOriginErrors: outliers.splitLocalErrors,
    ...(outliers.consecutiveLocalErrors > 0 && {
      consecutiveLocalOriginFailure: outliers.consecutiveLocalErrors,
    }),
    ...(outliers.splitLocalErrors &&
      counted(outliers.consecutiveLocalErrors, "enforcingConsecutiveLocalOriginFailure")),
    enforcingSuccessRate: 0,
    interval: duration(outliers.interval),
    baseEjectionTime: duration(outliers.baseEjection),
    maxEjectionPercent: outliers.maxEjectionPercent,
  };
}
