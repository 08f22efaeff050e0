/** Route tables: Envoy's RouteConfiguration, compiled when it changes, looked at for each request. */
import type { RouteConfiguration } from "#protocols/envoy/config/route/v3/route.ts";
import {
  type Route as RouteMessage,
  VirtualHost_TlsRequirementType as TlsRequirement,
  type VirtualHost as VirtualHostMessage,
} from "#protocols/envoy/config/route/v3/route_components.ts";
import type { World } from "../../world/index.ts";
import { type CompiledRoutes, Unservable } from "../contract.ts";
import { messageOf } from "../values.ts";
import { compileFilterConfigs, compileLegacyCors, type FilterConfigs, layered } from "./filter-configs.ts";
import { compileRateLimits } from "./filter-rate-limit.ts";
import { compileMutation, type Mutation } from "./mutations.ts";
import {
  compileDirect,
  compileForward,
  compileRedirect,
  type Direct,
  type Forward,
  portAt,
  type Redirect,
} from "./route-action.ts";
import {
  compileConditions,
  compilePath,
  type Matched,
  type PathMatch,
  type RequestTest,
} from "./route-match.ts";

export interface Route {
  name: string;
  path: PathMatch;
  conditions: RequestTest | undefined;
  action: Forward | Redirect | Direct;
  /** In the order in which they are made: the most specific first, unless the table says otherwise. */
  requestHeaders: readonly Mutation[];
  responseHeaders: readonly Mutation[];
  filters: FilterConfigs | undefined;
  rateLimits: ReturnType<typeof compileRateLimits>;
  virtualHost: VirtualHost;
  /** Of this route's decorator: the name of its spans, told to the next proxy; empty: nothing is told. */
  operation: string;
}

export interface VirtualHost {
  name: string;
  routes: readonly Route[];
  requireTls: "none" | "external" | "all";
  attemptCountInRequest: boolean;
  attemptCountInResponse: boolean;
}

/** A table, ready to be asked. */
export class RouteTable implements CompiledRoutes {
  readonly config: RouteConfiguration;
  readonly #exact = new Map<string, VirtualHost>();
  /** By length, longest first. */
  readonly #suffixes: { length: number; hosts: Map<string, VirtualHost> }[];
  readonly #prefixes: { length: number; hosts: Map<string, VirtualHost> }[];
  #any: VirtualHost | undefined;
  readonly #ignorePort: boolean;
  readonly filters: FilterConfigs | undefined;
  readonly internalOnlyHeaders: readonly string[];

  constructor(config: RouteConfiguration, world: World) {
    this.config = config;
    this.#ignorePort = config.ignorePortInHostMatching;
    this.internalOnlyHeaders = config.internalOnlyHeaders.map((name) => name.toLowerCase());
    this.filters = compileFilterConfigs(config.typedPerFilterConfig);
    if (config.vhds) throw new Unservable("virtual host discovery is not served");
    if (config.clusterSpecifierPlugins.some((plugin) => !plugin.isOptional)) {
      throw new Unservable("cluster specifier plugins are not served");
    }
    const suffixes = new Map<string, VirtualHost>();
    const prefixes = new Map<string, VirtualHost>();
    for (const message of config.virtualHosts) {
      const host = compileVirtualHost(message, config, this.filters, world);
      for (const domain of message.domains) {
        const name = domain.toLowerCase();
        const put = (map: Map<string, VirtualHost>, key: string) => {
          if (map.has(key)) throw new Unservable(`Only unique values for domains are permitted. Duplicate entry of domain ${domain} in route ${config.name}`); // biome-ignore format: Envoy's words
          map.set(key, host);
        };
        if (name === "*") {
          if (this.#any)
            throw new Unservable(`Only a single wildcard domain is permitted in route ${config.name}`);
          this.#any = host;
        } else if (name.startsWith("*")) put(suffixes, name.slice(1));
        else if (name.endsWith("*")) put(prefixes, name.slice(0, -1));
        else put(this.#exact, name);
      }
    }
    this.#suffixes = byLength(suffixes);
    this.#prefixes = byLength(prefixes);
  }

  /** Exact, then the longest `*.suffix`, then the longest `prefix.*`, then `*`. The host may have a port. */
  virtualHost(authority: string): VirtualHost | undefined {
    let host = authority.toLowerCase();
    if (this.#ignorePort) {
      const colon = portAt(host);
      if (colon >= 0) host = host.slice(0, colon);
    }
    const exact = this.#exact.get(host);
    if (exact) return exact;
    for (const { length, hosts } of this.#suffixes) {
      if (host.length <= length) continue; // `*` stands for at least one character
      const found = hosts.get(host.slice(host.length - length));
      if (found) return found;
    }
    for (const { length, hosts } of this.#prefixes) {
      if (host.length <= length) continue;
      const found = hosts.get(host.slice(0, length));
      if (found) return found;
    }
    return this.#any;
  }

  /** The first route of the host that matches. */
  match(virtualHost: VirtualHost, request: Matched): Route | undefined {
    for (const route of virtualHost.routes) {
      if (!route.path.test(request.path)) continue;
      if (route.conditions && !route.conditions(request)) continue;
      return route;
    }
    return undefined;
  }
}

function byLength(map: Map<string, VirtualHost>): { length: number; hosts: Map<string, VirtualHost> }[] {
  const lengths = new Map<number, Map<string, VirtualHost>>();
  for (const [key, host] of map) {
    const hosts = lengths.get(key.length) ?? new Map<string, VirtualHost>();
    hosts.set(key, host);
    lengths.set(key.length, hosts);
  }
  return [...lengths].sort(([a], [b]) => b - a).map(([length, hosts]) => ({ length, hosts }));
}

function compileVirtualHost(
  message: VirtualHostMessage,
  config: RouteConfiguration,
  tableFilters: FilterConfigs | undefined,
  world: World,
): VirtualHost {
  if (message.matcher) throw new Unservable(`virtual host ${message.name}: matcher trees are not served`);
  const cors = message.cors && compileLegacyCors(message.cors);
  const filters = layered(tableFilters, layered(cors, compileFilterConfigs(message.typedPerFilterConfig)));
  const routes: Route[] = [];
  const host: VirtualHost = {
    name: message.name,
    routes,
    requireTls:
      message.requireTls === TlsRequirement.ALL
        ? "all"
        : message.requireTls === TlsRequirement.EXTERNAL_ONLY
          ? "external"
          : "none",
    attemptCountInRequest: message.includeRequestAttemptCount,
    attemptCountInResponse: message.includeAttemptCountInResponse,
  };
  const hostRequest = compileMutation(message.requestHeadersToAdd, message.requestHeadersToRemove);
  const hostResponse = compileMutation(message.responseHeadersToAdd, message.responseHeadersToRemove);
  const tableRequest = compileMutation(config.requestHeadersToAdd, config.requestHeadersToRemove);
  const tableResponse = compileMutation(config.responseHeadersToAdd, config.responseHeadersToRemove);
  for (const route of message.routes) {
    try {
      routes.push(compileRoute(route, message, host));
    } catch (error) {
      if (!(error instanceof Unservable)) throw error;
      throw new Unservable(`route '${route.name}' of virtual host '${message.name}': ${messageOf(error)}`);
    }
  }
  return host;

  function compileRoute(route: RouteMessage, parent: VirtualHostMessage, virtualHost: VirtualHost): Route {
    const { match, action } = route;
    if (!match) throw new Unservable("a route without match");
    if (!action) throw new Unservable("a route without action");
    let compiled: Forward | Redirect | Direct;
    let legacy: FilterConfigs | undefined;
    if (action.$case === "route") {
      const mirrors = parent.requestMirrorPolicies.length
        ? parent.requestMirrorPolicies
        : config.requestMirrorPolicies;
      compiled = compileForward(action.value, { retry: parent.retryPolicy, mirrors });
      legacy = action.value.cors && compileLegacyCors(action.value.cors);
    } else if (action.$case === "redirect") compiled = compileRedirect(action.value);
    else if (action.$case === "directResponse") {
      compiled = compileDirect(action.value, config.maxDirectResponseBodySizeBytes ?? 4096);
    } else throw new Unservable(`action '${action.$case}' is not served`);
    const inOrder = (
      own: Mutation | undefined,
      ofHost: Mutation | undefined,
      ofTable: Mutation | undefined,
    ) => {
      const order = [own, ofHost, ofTable].filter((mutation) => mutation !== undefined);
      return config.mostSpecificHeaderMutationsWins ? order.reverse() : order;
    };
    return {
      name: route.name,
      path: compilePath(match),
      conditions: compileConditions(match, world),
      action: compiled,
      requestHeaders: inOrder(
        compileMutation(route.requestHeadersToAdd, route.requestHeadersToRemove),
        hostRequest,
        tableRequest,
      ),
      responseHeaders: inOrder(
        compileMutation(route.responseHeadersToAdd, route.responseHeadersToRemove),
        hostResponse,
        tableResponse,
      ),
      filters: layered(filters, layered(legacy, compileFilterConfigs(route.typedPerFilterConfig))),
      rateLimits: compileRateLimits([
        ...(action.$case === "route" ? action.value.rateLimits : []),
        ...(action.$case !== "route" ||
        action.value.rateLimits.length === 0 ||
        action.value.includeVhRateLimits
          ? parent.rateLimits
          : []),
      ]),
      virtualHost,
      operation: route.decorator?.propagate === false ? "" : (route.decorator?.operation ?? ""),
    };
  }
}
