/** A cluster as it is written: everything that can be wrong with it is found here. */
import {
  Cluster,
  type Cluster_SlowStartConfig,
  Cluster_DiscoveryType as Discovers,
  Cluster_LbPolicy as LbPolicy,
} from "#protocols/envoy/config/cluster/v3/cluster.ts";
import { TransportSocket } from "#protocols/envoy/config/core/v3/base.ts";
import { UpstreamTlsContext } from "#protocols/envoy/extensions/transport_sockets/tls/v3/tls.ts";
import { HttpProtocolOptions } from "#protocols/envoy/extensions/upstreams/http/v3/http_protocol_options.ts";
import { Unservable } from "../contract.ts";
import { milliseconds } from "../values.ts";
import type { Policy, SlowStart } from "./balancers.ts";

const type = "type.googleapis.com/envoy.extensions";
const httpOptionsKey = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/** Everything of a cluster that can be wrong has been read. */
export interface ReadCluster {
  config: Cluster;
  bytes: Buffer;
  discovers: Discovers;
  policy: Policy;
  httpOptions: HttpProtocolOptions | undefined;
  protocol: "http1" | "http2" | "downstream" | "auto";
}

/** Throws Unservable. */
export function readCluster(bytes: Buffer): ReadCluster {
  const config = Cluster.decode(bytes);
  if (config.clusterDiscoveryType?.$case === "clusterType") {
    throw new Unservable(`cluster type '${config.clusterDiscoveryType.value.name}' is not served`);
  }
  if (config.healthChecks.length > 0) throw new Unservable("active health checks are not served");
  if (config.lbSubsetConfig) throw new Unservable("lb_subset_config is not served");
  if (config.loadBalancingPolicy) throw new Unservable("load_balancing_policy is not served");
  const written = config.loadAssignment?.endpoints ?? [];
  if (
    config.clusterDiscoveryType?.value === Discovers.LOGICAL_DNS &&
    (written.length !== 1 || written[0]!.lbEndpoints.length !== 1)
  ) {
    throw new Unservable(
      "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint",
    );
  }
  const packed = config.typedExtensionProtocolOptions[httpOptionsKey];
  const httpOptions = packed && HttpProtocolOptions.decode(packed.value);
  for (const socket of [
    config.transportSocket,
    ...config.transportSocketMatches.map((m) => m.transportSocket),
  ]) {
    readTransportSocket(socket);
  }
  return {
    config,
    bytes,
    discovers: config.clusterDiscoveryType?.value ?? Discovers.STATIC,
    policy: policyOf(config),
    httpOptions,
    protocol: protocolOf(config, httpOptions),
  };
}

function policyOf(config: Cluster): Policy {
  const settings = config.lbConfig;
  switch (config.lbPolicy) {
    case LbPolicy.CLUSTER_PROVIDED:
      return { kind: "round-robin" };
    case LbPolicy.ROUND_ROBIN: {
      const given = settings?.$case === "roundRobinLbConfig" ? settings.value : undefined;
      return { kind: "round-robin", ...slowStart(given?.slowStartConfig) };
    }
    case LbPolicy.RANDOM:
      return { kind: "random" };
    case LbPolicy.LEAST_REQUEST: {
      const given = settings?.$case === "leastRequestLbConfig" ? settings.value : undefined;
      return {
        kind: "least-request",
        choices: given?.choiceCount ?? 2,
        bias: given?.activeRequestBias?.defaultValue ?? 1,
        ...slowStart(given?.slowStartConfig),
      };
    }
    case LbPolicy.RING_HASH: {
      const given = settings?.$case === "ringHashLbConfig" ? settings.value : undefined;
      if (given?.hashFunction) throw new Unservable("ring hash by MurmurHash2 is not served");
      return {
        kind: "ring-hash",
        smallest: given?.minimumRingSize ?? 1024,
        largest: given?.maximumRingSize ?? 8 * 1024 * 1024,
      };
    }
    case LbPolicy.MAGLEV: {
      const given = settings?.$case === "maglevLbConfig" ? settings.value : undefined;
      return { kind: "maglev", tableSize: given?.tableSize ?? 65537 };
    }
    default:
      throw new Unservable(`lb_policy ${config.lbPolicy} is not served`);
  }
}

function slowStart(config: Cluster_SlowStartConfig | undefined): { slowStart?: SlowStart } {
  const window = milliseconds(config?.slowStartWindow, 0);
  if (!config || window === 0) return {};
  const aggression = config.aggression?.defaultValue || 1;
  return { slowStart: { window, aggression, least: (config.minWeightPercent?.value ?? 10) / 100 } };
}

function protocolOf(config: Cluster, options: HttpProtocolOptions | undefined): ReadCluster["protocol"] {
  const chosen = options?.upstreamProtocolOptions;
  switch (chosen?.$case) {
    case "useDownstreamProtocolConfig":
      return "downstream";
    case "autoConfig":
      return "auto";
    case "explicitHttpConfig":
      switch (chosen.value.protocolConfig?.$case) {
        case "http2ProtocolOptions":
          return "http2";
        case "http3ProtocolOptions":
          throw new Unservable("HTTP/3 is not served");
        default:
          return "http1";
      }
    default:
      if (config.protocolSelection === 1) return "downstream";
      return config.http2ProtocolOptions ? "http2" : "http1";
  }
}

/** Undefined: plain. Throws Unservable. */
export function readTransportSocket(socket: TransportSocket | undefined): UpstreamTlsContext | undefined {
  const any = socket?.configType?.$case === "typedConfig" ? socket.configType.value : undefined;
  switch (any?.typeUrl) {
    case undefined:
    case `${type}.transport_sockets.raw_buffer.v3.RawBuffer`:
      return undefined;
    case `${type}.transport_sockets.tls.v3.UpstreamTlsContext`:
      return UpstreamTlsContext.decode(any.value);
    default:
      throw new Unservable(`transport socket ${any?.typeUrl} is not served`);
  }
}

/** What of the configuration says how connections are secured. */
export function transportKey(config: Cluster): string {
  return [config.transportSocket, ...config.transportSocketMatches.map((m) => m.transportSocket)]
    .map((socket) => (socket ? Buffer.from(TransportSocket.encode(socket).finish()).toString("base64") : ""))
    .concat(JSON.stringify(config.transportSocketMatches.map((m) => m.match)))
    .join(" ");
}
