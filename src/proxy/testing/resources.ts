/** Short ways to write Envoy's resources in tests. */
import { Cluster } from "#protocols/envoy/config/cluster/v3/cluster.ts";
import { ClusterLoadAssignment } from "#protocols/envoy/config/endpoint/v3/endpoint.ts";
import { Listener } from "#protocols/envoy/config/listener/v3/listener.ts";
import { TcpProxy } from "#protocols/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.ts";
import {
  DownstreamTlsContext,
  UpstreamTlsContext,
} from "#protocols/envoy/extensions/transport_sockets/tls/v3/tls.ts";
import type { HttpRoom } from "../contract.ts";

type Partial<T> = T extends { fromPartial(object: infer P): unknown } ? P : never;

interface Codec {
  fromPartial(object: never): unknown;
  encode(message: never): { finish(): Uint8Array };
}

/** A message in an Any: `pack("envoy.extensions…TcpProxy", TcpProxy, {…})`. */
export function pack<C extends Codec>(type: string, codec: C, value: Partial<C>) {
  const bytes = codec.encode(codec.fromPartial(value as never) as never).finish();
  return { typeUrl: `type.googleapis.com/${type}`, value: Buffer.from(bytes) };
}

export const socketAddress = (address: string, port: number) => ({
  address: {
    $case: "socketAddress" as const,
    value: { address, portSpecifier: { $case: "portValue" as const, value: port } },
  },
});

export const endpoint = (address: string, port: number, more: object = {}) => ({
  hostIdentifier: { $case: "endpoint" as const, value: { address: socketAddress(address, port) } },
  ...more,
});

/** A ClusterLoadAssignment of one locality. */
export const assignment = (clusterName: string, ...endpoints: ReturnType<typeof endpoint>[]) =>
  ClusterLoadAssignment.fromPartial({ clusterName, endpoints: [{ lbEndpoints: endpoints }] });

export const staticCluster = (
  name: string,
  endpoints: ReturnType<typeof endpoint>[],
  more: Partial<typeof Cluster> = {},
): [string, Uint8Array] => [
  name,
  Cluster.encode(
    Cluster.fromPartial({
      name,
      clusterDiscoveryType: { $case: "type", value: 0 },
      loadAssignment: assignment(name, ...endpoints),
      ...more,
    }),
  ).finish(),
];

export const tcpFilter = (cluster: string, more: Partial<typeof TcpProxy> = {}) => ({
  name: "tcp",
  configType: {
    $case: "typedConfig" as const,
    value: pack("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", TcpProxy, {
      statPrefix: cluster,
      clusterSpecifier: { $case: "cluster", value: cluster },
      ...more,
    }),
  },
});

export const listener = (
  name: string,
  port: number,
  more: Partial<typeof Listener>,
): [string, Uint8Array] => [
  name,
  Listener.encode(
    Listener.fromPartial({ name, address: socketAddress("127.0.0.1", port), ...more }),
  ).finish(),
];

export const listenerFilter = (name: "tls_inspector" | "http_inspector" | "original_dst") => {
  const type = {
    tls_inspector: "TlsInspector",
    http_inspector: "HttpInspector",
    original_dst: "OriginalDst",
  }[name];
  return {
    name,
    configType: {
      $case: "typedConfig" as const,
      value: {
        typeUrl: `type.googleapis.com/envoy.extensions.filters.listener.${name}.v3.${type}`,
        value: Buffer.alloc(0),
      },
    },
  };
};

const tls = "envoy.extensions.transport_sockets.tls.v3";
export const serverTls = (context: Partial<typeof DownstreamTlsContext>) => ({
  name: "tls",
  configType: {
    $case: "typedConfig" as const,
    value: pack(`${tls}.DownstreamTlsContext`, DownstreamTlsContext, context),
  },
});
export const clientTls = (context: Partial<typeof UpstreamTlsContext>) => ({
  name: "tls",
  configType: {
    $case: "typedConfig" as const,
    value: pack(`${tls}.UpstreamTlsContext`, UpstreamTlsContext, context),
  },
});

/** For tests of what is not HTTP. */
export const noHttp: HttpRoom = {
  compileRoutes: (config) => ({ config }),
  createHttpHandler: () => {
    throw new Error("no HTTP here");
  },
  compileAccessLog: () => ({ empty: true, log: () => undefined }),
};
