/** Listeners with their filter chains (LDS). */
import { Listener as EnvoyListener } from "#protocols/envoy/config/listener/v3/listener.ts";
import { HttpInspector } from "#protocols/envoy/extensions/filters/listener/http_inspector/v3/http_inspector.ts";
import { OriginalDst } from "#protocols/envoy/extensions/filters/listener/original_dst/v3/original_dst.ts";
import { TlsInspector } from "#protocols/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.ts";
import { Config as SetFilterState } from "#protocols/envoy/extensions/filters/network/set_filter_state/v3/set_filter_state.ts";
import { TcpProxy } from "#protocols/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.ts";
import type { ChainMatch, FilterChain, Listener, TcpHandler } from "../../traffic/index.ts";
import { networkAuthorization } from "./authorization.ts";
import { accessLogOf, httpFilter } from "./http.ts";
import { cidr } from "./match.ts";
import { duration, encode, encoded, once, pack, socketAddress } from "./pack.ts";
import { downstreamTls } from "./tls.ts";

export const encodeListener = once((listener: Listener) =>
  encoded("listener", listener.name, encode(EnvoyListener, listenerOf(listener))),
);

const listenerFilter = <C extends Parameters<typeof pack>[1]>(name: string, type: string, codec: C) => ({
  name: `envoy.filters.listener.${name}`,
  configType: {
    $case: "typedConfig" as const,
    value: pack(`envoy.extensions.filters.listener.${name}.v3.${type}`, codec, {} as never),
  },
});
const originalDestination = listenerFilter("original_dst", "OriginalDst", OriginalDst);
const inspectors = {
  tls: listenerFilter("tls_inspector", "TlsInspector", TlsInspector),
  http: listenerFilter("http_inspector", "HttpInspector", HttpInspector),
};

function listenerOf(listener: Listener): Parameters<typeof EnvoyListener.fromPartial>[0] {
  const { name, direction, address, port, bind, redirected, inspect, chains, fallback } = listener;
  const chainOf = (chain: FilterChain) => filterChain(chain, direction);
  return {
    name,
    address: socketAddress(address, port),
    ...(!bind && { bindToPort: false }),
    // Outbound, the connection is handed to the listener of where it was going; inbound, its chains look at that.
    ...(redirected && direction === "outbound" && { useOriginalDst: true }),
    listenerFilters: [
      ...(redirected ? [originalDestination] : []),
      ...(inspect.includes("tls") ? [inspectors.tls] : []),
      ...(inspect.includes("http") ? [inspectors.http] : []),
    ],
    ...(inspect.length > 0 && {
      listenerFiltersTimeout: duration(listener.inspectTimeout),
      continueOnListenerFiltersTimeout: true,
    }),
    trafficDirection: direction === "inbound" ? 1 : 2, // INBOUND, OUTBOUND (a gateway's too, as with Istio)
    filterChains: chains.map(chainOf),
    ...(fallback && { defaultFilterChain: chainOf(fallback) }),
  };
}

function filterChain(chain: FilterChain, direction: Listener["direction"]) {
  const { name, match, tls, handler, authorization, upstreamAlpn } = chain;
  return {
    name,
    filterChainMatch: chainMatch(match),
    ...(tls && { transportSocket: downstreamTls(tls) }),
    filters: [
      ...(upstreamAlpn ? [offeredAlpn(upstreamAlpn)] : []),
      ...(handler.kind === "http"
        ? [httpFilter(handler, authorization, direction)]
        : [...networkAuthorization(authorization, handler.statPrefix), tcpFilter(handler)]),
    ],
  };
}

function chainMatch(match: ChainMatch) {
  return {
    ...(match.destinationPort !== undefined && { destinationPort: match.destinationPort }),
    prefixRanges: match.destinations?.map(cidr) ?? [],
    serverNames: [...(match.serverNames ?? [])],
    transportProtocol: match.transport ?? "",
    applicationProtocols: [...(match.applicationProtocols ?? [])],
  };
}

/** What connections to upstreams offer as ALPN, in place of what the cluster says. */
function offeredAlpn(protocols: readonly string[]) {
  return {
    name: "envoy.filters.network.set_filter_state",
    configType: {
      $case: "typedConfig" as const,
      value: pack("envoy.extensions.filters.network.set_filter_state.v3.Config", SetFilterState, {
        onNewConnection: [
          {
            key: { $case: "objectKey", value: "envoy.network.application_protocols" },
            value: {
              $case: "formatString",
              value: {
                format: {
                  $case: "textFormatSource",
                  value: { specifier: { $case: "inlineString", value: protocols.join(",") } },
                },
              },
            },
            sharedWithUpstream: 1, // ONCE
          },
        ],
      }),
    },
  };
}

function tcpFilter(handler: TcpHandler) {
  const { clusters } = handler;
  const [only] = clusters;
  return {
    name: "envoy.filters.network.tcp_proxy",
    configType: {
      $case: "typedConfig" as const,
      value: pack("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", TcpProxy, {
        statPrefix: handler.statPrefix,
        clusterSpecifier:
          only && clusters.length === 1
            ? { $case: "cluster", value: only.upstream }
            : {
                $case: "weightedClusters",
                value: {
                  // Envoy wants weights of at least one: what gets nothing is left out.
                  clusters: clusters
                    .filter(({ weight }) => weight > 0)
                    .map(({ upstream, weight }) => ({ name: upstream, weight })),
                },
              },
        idleTimeout: duration(handler.idleTimeout),
        accessLog: accessLogOf(handler),
      }),
    },
  };
}
