/** A filter chain made ready: its TLS, its network filters, and the handler that they end in. */
import type {
  FilterChain,
  FilterChainMatch,
} from "#protocols/envoy/config/listener/v3/listener_components.ts";
import { HttpConnectionManager } from "#protocols/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.ts";
import { RBAC } from "#protocols/envoy/extensions/filters/network/rbac/v3/rbac.ts";
import { Config as SetFilterState } from "#protocols/envoy/extensions/filters/network/set_filter_state/v3/set_filter_state.ts";
import { TcpProxy } from "#protocols/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.ts";
import type { Any } from "#protocols/google/protobuf/any.ts";
import {
  type ConnectionHandler,
  type HandlerDeps,
  type HttpRoom,
  type RouteHandle,
  type StatsScope,
  Unservable,
} from "../contract.ts";
import { compileRbac } from "../rbac.ts";
import type { Secrets } from "../secrets.ts";
import { milliseconds } from "../values.ts";
import type { TakenConnection } from "./connection.ts";
import { TcpProxyHandler } from "./tcp-proxy.ts";
import { ServerTls } from "./tls-accept.ts";

const network = "type.googleapis.com/envoy.extensions.filters.network";

export interface ChainDeps {
  handler: HandlerDeps;
  secrets: Secrets;
  http: HttpRoom;
  listenerStats: StatsScope;
}

/** What a chain waits for before its listener serves. */
export interface Wanted {
  ready(): boolean;
  subscribe(changed: () => void): () => void;
  /** ms after which it is not waited for; 0: for ever. */
  patience: number;
}

/** Undefined answers: denied, the connection is to be closed. */
type NetworkFilter = (connection: TakenConnection) => boolean;

export class Chain {
  readonly key: string;
  readonly name: string;
  readonly match: FilterChainMatch;
  readonly tls: ServerTls | undefined;
  readonly handler: ConnectionHandler;
  readonly wanted: Wanted[] = [];
  readonly #filters: NetworkFilter[] = [];
  readonly #stops: (() => void)[] = [];

  /** Throws Unservable, and leaves nothing behind then. */
  constructor(message: FilterChain, key: string, deps: ChainDeps) {
    this.key = key;
    this.name = message.name;
    this.match = message.filterChainMatch ?? (emptyMatch as FilterChainMatch);
    this.tls = ServerTls.read(message.transportSocket, deps.secrets, deps.listenerStats);
    try {
      if (message.useProxyProto) throw new Unservable("use_proxy_proto is not served");
      this.handler = this.#terminal(message, deps);
    } catch (error) {
      this.dispose();
      throw error;
    }
    const { tls } = this;
    if (tls) {
      const { material } = tls;
      this.wanted.push({
        ready: () => material.settled,
        subscribe: (changed) => material.subscribe(changed),
        patience: 15_000,
      });
    }
  }

  #terminal(message: FilterChain, deps: ChainDeps): ConnectionHandler {
    let sniCluster = false;
    const { handler } = deps;
    for (const [index, filter] of message.filters.entries()) {
      const any = filter.configType?.$case === "typedConfig" ? filter.configType.value : undefined;
      const last = index === message.filters.length - 1;
      switch (any?.typeUrl) {
        case `${network}.rbac.v3.RBAC`:
          this.#filters.push(rbacFilter(any, handler));
          break;
        case `${network}.set_filter_state.v3.Config`:
          this.#filters.push(filterState(any));
          break;
        case `${network}.sni_cluster.v3.SniCluster`:
          sniCluster = true;
          break;
        case `${network}.tcp_proxy.v3.TcpProxy`: {
          if (!last) throw new Unservable(`${filter.name} is a terminal filter and must be the last`);
          const config = TcpProxy.decode(any.value);
          return new TcpProxyHandler(
            config,
            handler,
            deps.http.compileAccessLog(config.accessLog, handler),
            sniCluster,
          );
        }
        case `${network}.http_connection_manager.v3.HttpConnectionManager`: {
          if (!last) throw new Unservable(`${filter.name} is a terminal filter and must be the last`);
          const hcm = HttpConnectionManager.decode(any.value);
          if (hcm.routeSpecifier?.$case === "rds") {
            const { routeConfigName, configSource } = hcm.routeSpecifier.value;
            this.#want(
              handler.routes.get(routeConfigName),
              milliseconds(configSource?.initialFetchTimeout, 15_000),
            );
          }
          return deps.http.createHttpHandler(hcm, handler);
        }
        default:
          throw new Unservable(
            `network filter '${filter.name}' (${any?.typeUrl ?? "no type"}) is not served`,
          );
      }
    }
    throw new Unservable(`filter chain '${message.name}' ends in no terminal filter`);
  }

  #want(route: RouteHandle, patience: number): void {
    // Followed for as long as the chain is there, so that the table is asked for.
    this.#stops.push(route.subscribe(() => undefined));
    this.wanted.push({
      ready: () => route.current !== undefined,
      subscribe: (changed) => route.subscribe(changed),
      patience,
    });
  }

  /** After TLS: the filters, then the handler. */
  take(connection: TakenConnection): void {
    connection.chain = this.name;
    for (const filter of this.#filters) {
      if (filter(connection)) continue;
      connection.socket.on("error", () => undefined).destroy();
      return;
    }
    this.handler.handle(connection);
  }

  /** Ends what is left and lets go of everything. */
  dispose(): void {
    for (const stop of this.#stops.splice(0)) stop();
    this.handler?.close();
    this.tls?.material.dispose();
  }
}

const emptyMatch = {
  prefixRanges: [],
  addressSuffix: "",
  directSourcePrefixRanges: [],
  sourceType: 0,
  sourcePrefixRanges: [],
  sourcePorts: [],
  serverNames: [],
  transportProtocol: "",
  applicationProtocols: [],
};

function rbacFilter(any: Any, deps: HandlerDeps): NetworkFilter {
  const config = RBAC.decode(any.value);
  if (config.matcher || config.shadowMatcher) throw new Unservable("rbac: matchers are not served");
  const enforced = config.rules && compileRbac(config.rules, "connections");
  const shadow = config.shadowRules && compileRbac(config.shadowRules, "connections");
  const stats = deps.stats.scope(`${config.statPrefix}rbac`, "rbac", { prefix: config.statPrefix });
  return (connection) => {
    if (shadow) {
      const { allowed, policy } = shadow({ connection });
      stats.counter(allowed ? "shadow_allowed" : "shadow_denied").inc();
      const prefix = config.shadowRulesStatPrefix;
      connection.metadata ??= {};
      connection.metadata["envoy.filters.network.rbac"] = {
        [`${prefix}shadow_engine_result`]: allowed ? "allowed" : "denied",
        ...(policy === undefined ? {} : { [`${prefix}shadow_effective_policy_id`]: policy }),
      };
    }
    if (!enforced) return true;
    const { allowed } = enforced({ connection });
    stats.counter(allowed ? "allowed" : "denied").inc();
    return allowed;
  };
}

/** Filter state that we know of: what ALPN connections to upstreams offer. */
function filterState(any: Any): NetworkFilter {
  const config = SetFilterState.decode(any.value);
  let offered: readonly string[] | undefined;
  for (const { key, value } of config.onNewConnection) {
    const format = value?.value.format;
    const text = format?.$case === "textFormat" ? format.value : undefined;
    const inline =
      format?.$case === "textFormatSource" && format.value.specifier?.$case === "inlineString"
        ? format.value.specifier.value
        : text;
    if (
      key?.value !== "envoy.network.application_protocols" ||
      inline === undefined ||
      inline.includes("%")
    ) {
      throw new Unservable(`filter state '${key?.value ?? ""}' is not served`);
    }
    offered = inline.split(",");
  }
  return (connection) => {
    connection.upstreamAlpn = offered;
    return true;
  };
}
