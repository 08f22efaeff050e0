/** Why a proxy does what it does: the fields of objects behind each part of its configuration (`weft why`). */
import type {
  Authorization,
  ChainMatch,
  FilterChain,
  Forward,
  LocalRateLimit,
  NamedMatch,
  Origin,
  Route,
  RouteMatch,
  RouteTable,
  ScopeConfig,
  StringMatch,
  Upstream,
  VirtualHost,
} from "./model.ts";

/** A part of a configuration, in words, and what made it. */
export interface Reason {
  part: "connection" | "route" | "upstream" | "policy" | "limit";
  /** Of the listener, the virtual host, the upstream, the policy or the limit. */
  name: string;
  /** What it is for; empty: all. */
  match: string;
  /** What is done then. */
  does: string;
  /** Never empty: what no object asked for has no reason. */
  origins: readonly Origin[];
}

/**
 * Everything in these configurations that some object made; with a host (as a client calls it: `catalog`, `a.example:80`)
 * only what concerns calls to it, on their way out.
 */
export function reasons(configs: readonly ScopeConfig[], host?: string): Reason[] {
  const found = configs.flatMap((config) => reasonsOf(config, host?.toLowerCase()));
  return found.filter(({ origins }) => origins.length > 0);
}

function reasonsOf(config: ScopeConfig, host: string | undefined): Reason[] {
  const inline: RouteTable[] = [];
  const listeners = [...config.listeners.values()].filter(
    ({ direction }) => host === undefined || direction !== "inbound",
  );
  const chains = listeners.flatMap((listener) =>
    [...listener.chains, ...(listener.fallback ? [listener.fallback] : [])].map((chain) => ({
      name: listener.name,
      chain,
    })),
  );
  for (const { handler } of chains.map(({ chain }) => chain))
    if (handler.kind === "http" && typeof handler.routes !== "string") inline.push(handler.routes);
  const tables = [...config.routes.values(), ...inline];
  const hosts = tables.map((table) => ({
    table,
    chosen: host === undefined ? table.virtualHosts : chosenFor(table, host, tablesOfOthers(config, host)),
  }));
  const routes = hosts.flatMap(({ table, chosen }) =>
    chosen.flatMap((virtualHost) =>
      virtualHost.routes.flatMap((route) => ofRoute(table, virtualHost, route, config)),
    ),
  );
  const upstreamsCalled = new Set(
    hosts.flatMap(({ chosen }) =>
      chosen.flatMap(({ routes }) => routes.flatMap(({ action }) => upstreamsOf(action))),
    ),
  );
  const plain = host === undefined ? undefined : withoutPort(host);
  const upstreams = [...config.upstreams.values()]
    .filter(
      (each) =>
        plain === undefined || upstreamsCalled.has(each.name) || namesOf(each, config.scope).includes(plain),
    )
    .map(
      ({ name, balancer, tls, origins }): Reason => ({
        part: "upstream",
        name,
        match: "",
        does: [balancer.kind, tls.mode === "none" ? "plain" : `TLS ${tls.mode}`].join(", "),
        origins,
      }),
    );
  const called = new Set(upstreams.map(({ name }) => name));
  const connections = chains
    .filter(
      ({ chain }) =>
        host === undefined ||
        (chain.handler.kind === "tcp" && chain.handler.clusters.some(({ upstream }) => called.has(upstream))),
    )
    .flatMap(({ name, chain }) => ofChain(name, chain));
  return [...connections, ...routes, ...upstreams];
}

/** Tables of one service alone, whatever its clients call it (`HOST:PORT`), and the service is another. */
function tablesOfOthers({ scope, upstreams }: ScopeConfig, host: string): Set<string> {
  const called = withoutPort(host);
  return new Set(
    [...upstreams.values()]
      .filter((each) => each.service && !namesOf(each, scope).includes(called))
      .map((each) => `${each.host}:${each.port}`),
  );
}

const withoutPort = (host: string) => host.replace(/:\d+$/, "");

/** The virtual host that Envoy would choose: an exact domain before the longest pattern. */
function chosenFor({ name, virtualHosts }: RouteTable, host: string, others: Set<string>): VirtualHost[] {
  if (others.has(name)) return [];
  const weight = (domain: string) => {
    if (domain === host) return Number.MAX_SAFE_INTEGER;
    const fits = domain.startsWith("*")
      ? host.endsWith(domain.slice(1))
      : domain.endsWith("*") && host.startsWith(domain.slice(0, -1));
    return fits ? domain.length : 0;
  };
  let best = 0;
  let chosen: VirtualHost[] = [];
  for (const virtualHost of virtualHosts) {
    const own = virtualHost.domains.reduce((most, domain) => Math.max(most, weight(domain)), 0);
    if (own <= best) continue;
    best = own;
    chosen = [virtualHost];
  }
  return chosen;
}

/** What clients of the scope's namespace call an upstream's service. */
function namesOf({ host, service }: Upstream, scope: string): string[] {
  if (!service || !host.startsWith(`${service.name}.${service.namespace}.svc.`)) return [host];
  const { name, namespace } = service;
  const short = scope.split("/")[1] === namespace ? [name] : [];
  return [host, `${name}.${namespace}`, `${name}.${namespace}.svc`, ...short];
}

function ofChain(name: string, chain: FilterChain): Reason[] {
  const { handler } = chain;
  const match = chainText(chain.match);
  const does =
    handler.kind === "tcp"
      ? handler.clusters
          .map(({ upstream, weight }) => weighed(upstream, weight, handler.clusters.length))
          .join(", ")
      : `routes ${typeof handler.routes === "string" ? handler.routes : handler.routes.name}`;
  return [
    { part: "connection", name, match, does, origins: chain.origins },
    ...chain.authorization.flatMap((each) => ofAuthorization(each, match)),
    ...(handler.kind === "http" ? handler.rateLimits.map((each) => ofLimit(each, match)) : []),
  ];
}

function ofAuthorization({ action, policies }: Authorization, match: string): Reason[] {
  return policies.map(({ name, rules, origins }) => {
    const does = action === "allow" && rules.length === 0 ? "allows nobody" : `${action}s who it names`;
    return { part: "policy", name, match, does, origins };
  });
}

function ofLimit({ name, match, tokens, interval, origins }: LocalRateLimit, where: string): Reason {
  return {
    part: "limit",
    name,
    match: [where, match && routeText(match)].filter(Boolean).join(" "),
    does: `${tokens} requests in ${interval / 1000}s`,
    origins,
  };
}

function ofRoute(
  table: RouteTable,
  host: VirtualHost,
  { match, action, rateLimits, origins }: Route,
  { upstreams }: ScopeConfig,
): Reason[] {
  const name = table.name === host.name ? host.name : `${table.name} ${host.name}`;
  const text = routeText(match);
  return [
    {
      part: "route",
      name,
      match: text,
      does: [
        actionText(action),
        ...upstreamsOf(action)
          .filter((name) => !upstreams.has(name))
          .map((name) => `there is no ${name}`),
      ].join("; "),
      origins: [...origins, ...more(host, origins)],
    },
    ...rateLimits.map((each) => ofLimit(each, text)),
  ];
}

/** What the virtual host is there for, where its route does not say it already. */
function more({ origins }: VirtualHost, said: readonly Origin[]): Origin[] {
  return origins.filter(
    (each) =>
      !said.some(
        ({ kind, namespace, name }) =>
          kind === each.kind && namespace === each.namespace && name === each.name,
      ),
  );
}

function upstreamsOf(action: Route["action"]): string[] {
  if (action.kind !== "forward") return [];
  return [...action.clusters, ...action.mirrors].map(({ upstream }) => upstream);
}

function actionText(action: Route["action"]): string {
  if (action.kind === "respond") return `answers ${action.status}`;
  if (action.kind === "redirect") return `redirects ${action.status}`;
  return forwardText(action);
}

function forwardText({ clusters, mirrors }: Forward): string {
  return [
    ...clusters.map(({ upstream, weight }) => weighed(upstream, weight, clusters.length)),
    ...mirrors.map(({ upstream, percent }) => `mirrors ${percent}% to ${upstream}`),
  ].join(", ");
}

function weighed(upstream: string, weight: number, of: number): string {
  return of > 1 ? `${upstream} (${weight})` : upstream;
}

function routeText({ path, headers, query }: RouteMatch): string {
  const start = path.kind === "path-prefix" ? `${path.value}/*` : stringText(path);
  const named = (sign: string) => (each: NamedMatch) =>
    `${each.invert ? "not " : ""}${sign}${each.name}=${stringText(each.match)}`;
  return [start, ...headers.map(named("")), ...query.map(named("?"))].join(" ");
}

function stringText(match: StringMatch): string {
  switch (match.kind) {
    case "present":
      return "*";
    case "exact":
      return match.value;
    case "prefix":
      return `${match.value}*`;
    case "suffix":
      return `*${match.value}`;
    default:
      return `${match.kind} ${match.value}`;
  }
}

function chainText(match: ChainMatch): string {
  return [
    match.destinationPort !== undefined && `port ${match.destinationPort}`,
    match.destinations?.length && match.destinations.join(","),
    match.serverNames?.length && `SNI ${match.serverNames.join(",")}`,
    match.transport === "tls" && "TLS",
    match.transport === "raw_buffer" && "plain",
  ]
    .filter(Boolean)
    .join(" ");
}
