/** The virtual hosts of gateways: whose routes they have, and in which order. */
import type { GatewayContext, GatewayPart } from "./gateway-listeners.ts";
import { isTerminated, originOf, type Server, sharedHosts } from "./gateways.ts";
import type { Origin, Route, RouteMatch, VirtualHost } from "./model.ts";
import { bySpecificity } from "./names.ts";
import { byAge } from "./registry.ts";
import { type DraftRoute, routesOf } from "./routes.ts";
import { selects } from "./workloads.ts";

/** The virtual hosts of one table: rules of several objects for one host are put together, oldest first. */
export function hostParts(table: string, servers: readonly Server[], context: GatewayContext): GatewayPart[] {
  const { scope } = context;
  const made = new Map<
    string,
    { drafts: DraftRoute[]; requireTls: boolean; mixed: boolean; origins: Origin[] }
  >();
  const open = (host: string, server: Server) => {
    let found = made.get(host);
    if (!found) {
      found = { drafts: [], requireTls: false, mixed: false, origins: [originOf(server)] };
      made.set(host, found);
    }
    return found;
  };
  for (const server of servers) {
    const redirect = server.tls?.httpsRedirect === true && !isTerminated(server);
    if (redirect) for (const { host } of server.hosts) open(host, server).requireTls = true;
    for (const rules of [...context.rules(server.gateway)].sort(byAge)) {
      if (rules.http.length === 0) continue;
      const hosts = new Set(rules.hosts.flatMap((host) => sharedHosts(server, rules.namespace, host)));
      if (hosts.size === 0) continue;
      const drafts = routesOf(rules, {
        ...context,
        port: server.port,
        gateways: new Set([server.gateway]),
      }).filter(({ labels }) => selects(labels, context.labels));
      for (const host of hosts) {
        const entry = open(host, server);
        entry.requireTls ||= redirect;
        entry.drafts.push(...drafts);
        entry.mixed ||= rules.kind !== "HTTPRoute";
        entry.origins.push({ kind: rules.kind, namespace: rules.namespace, name: rules.name, field: "" });
      }
    }
  }
  const parts: GatewayPart[] = [{ scope, kind: "host", table, name: "" }];
  for (const [host, { drafts, requireTls, mixed, origins }] of made) {
    const port = servers[0]!.port;
    parts.push({
      scope,
      kind: "host",
      table,
      name: host,
      host: {
        name: `${host}:${port}`,
        domains: gatewayDomains(host, port),
        routes: sortRoutes(
          drafts.map(({ route }) => route),
          !mixed,
        ),
        requireTls,
        origins,
      },
    });
  }
  return parts;
}

/** Any port, since load balancers change it; Envoy takes one wildcard only. */
export function gatewayDomains(host: string, port: number): string[] {
  if (host === "*") return ["*"];
  return host.startsWith("*") ? [host, `${host}:${port}`] : [host, `${host}:*`];
}

/**
 * Several objects' routes are put together: HTTPRoutes' by their precedence; of others those that take everything go last.
 */
function sortRoutes(routes: readonly Route[], byPrecedence: boolean): Route[] {
  if (byPrecedence) return [...routes].sort((a, b) => comparePrecedence(a.match, b.match));
  const takesAll = ({ match: { path, headers, query } }: Route) =>
    path.kind === "prefix" && path.value === "/" && headers.length === 0 && query.length === 0;
  return [...routes.filter((route) => !takesAll(route)), ...routes.filter(takesAll)];
}

/** Source: Gateway API, HTTPRouteRule.matches. */
function comparePrecedence(a: RouteMatch, b: RouteMatch): number {
  const rank = ({ path: { kind } }: RouteMatch) => (kind === "exact" ? 0 : kind === "regex" ? 1 : 2);
  const length = ({ path }: RouteMatch) => ("value" in path ? path.value.length : 0);
  const methods = ({ headers }: RouteMatch) => headers.filter(({ name }) => name === ":method").length;
  return (
    rank(a) - rank(b) ||
    length(b) - length(a) ||
    methods(b) - methods(a) ||
    b.headers.length - a.headers.length ||
    b.query.length - a.query.length
  );
}

/** Hosts of a table in an order that does not depend on who came first. */
export function byHost(a: VirtualHost, b: VirtualHost): number {
  return bySpecificity(a.domains[0]!, b.domains[0]!);
}
