/** What connections that are not HTTP go by: whom a rule is for, server names, where they lead. */
import { cidr, intersection, isRange, without } from "../addresses/index.ts";
import type { L4MatchAttributes, MeshSettings, RouteDestination, TlsMatchAttributes } from "../api/index.ts";
import type { ChainMatch, FilterChain, TcpHandler, WeightedUpstream } from "./model.ts";
import { blackHoleUpstream, isHost } from "./names.ts";
import { noChanges, type RouteContext, resolve } from "./routes.ts";
import type { HostRules } from "./virtual-services.ts";
import { selects } from "./workloads.ts";

/** A chain, and the labels of the clients that it is for. */
export interface DraftChain {
  chain: FilterChain;
  labels?: Readonly<Record<string, string>>;
}

/** What is known of those who connect. */
type Whom = Pick<RouteContext, "gateways" | "client" | "mention">;

/**
 * Whom a match of a tcp or tls route is for, by what is known before a connection comes; its labels are looked at when
 * it is known who asks. Source: Istio `pilot/pkg/networking/core/tls.go`, matchTCP and matchTLS.
 */
function applies(match: L4MatchAttributes, namespace: string, port: number, context: Whom): boolean {
  if (match.port && match.port !== port) return false;
  if (
    match.gateways?.length &&
    !match.gateways.some((each) =>
      context.gateways.has(each === "mesh" || each.includes("/") ? each : `${namespace}/${each}`),
    )
  )
    return false;
  if (!match.sourceNamespace) return true;
  context.mention(match.sourceNamespace);
  return match.sourceNamespace === context.client;
}

/** The ranges that a match is for; undefined: all addresses. Of ranges that are none nothing is left: it never matches. */
function subnetsOf({ destinationSubnets }: L4MatchAttributes): readonly string[] | undefined {
  return destinationSubnets?.length ? destinationSubnets.filter(isRange).map(cidr) : undefined;
}

/** The chain of a route, `match` being what its connections are told by. Undefined where the route has none. */
export type ChainMaker = (
  route: readonly RouteDestination[],
  index: number,
  match: ChainMatch,
) => FilterChain | undefined;

/**
 * Chains of an object's tcp routes on a port, `inOrder`. `within`: the ranges that connections are going to, if only
 * some come here. `complete`: the last takes whatever the others left, and nothing comes after it.
 */
export function tcpDrafts(
  rules: HostRules,
  port: number,
  context: Whom,
  within: readonly string[] | undefined,
  make: ChainMaker,
): { drafts: DraftChain[]; complete: boolean } {
  const drafts: DraftChain[] = [];
  for (const [i, { match: matches, route = [] }] of rules.tcp.entries())
    for (const match of matches?.length ? matches : [{}]) {
      if (!applies(match, rules.namespace, port, context)) continue;
      const subnets = subnetsOf(match);
      const labels = labelsOf(match);
      const destinations = intersection(subnets, within);
      if (destinations?.length === 0) continue;
      const chain = make(route, i, destinations ? { destinations } : {});
      if (!chain) continue;
      drafts.push({ chain, ...labels });
      if (!subnets && !labels.labels) return { drafts, complete: true };
    }
  return { drafts, complete: false };
}

/** Chains of an object's tls routes on a port, `within` some ranges, by the server names that `namesOf` leaves of a match. */
export function sniDrafts(
  rules: HostRules,
  port: number,
  context: Whom,
  within: readonly string[] | undefined,
  namesOf: (match: TlsMatchAttributes) => string[],
  make: ChainMaker,
): DraftChain[] {
  return rules.tls.flatMap(({ match: matches = [], route = [] }, i) =>
    matches.flatMap((match): DraftChain[] => {
      if (!applies(match, rules.namespace, port, context)) return [];
      const serverNames = namesOf(match);
      const destinations = intersection(subnetsOf(match), within);
      if (serverNames.length === 0 || destinations?.length === 0) return [];
      const chain = make(route, i, {
        ...(!serverNames.includes("*") && { serverNames }),
        transport: "tls",
        ...(destinations && { destinations }),
      });
      return chain ? [{ chain, ...labelsOf(match) }] : [];
    }),
  );
}

/** The labels that a match asks of clients. */
function labelsOf({ sourceLabels }: L4MatchAttributes): Pick<DraftChain, "labels"> {
  return sourceLabels && Object.keys(sourceLabels).length > 0 ? { labels: sourceLabels } : {};
}

/**
 * Of chains that differ in destinations only, those for clients with some labels, so that the first takes what it
 * matches: a proxy takes the narrowest range, so what an earlier one covers is left out of later ones.
 */
export function inOrder(
  drafts: readonly DraftChain[],
  labels: Readonly<Record<string, string>>,
): FilterChain[] {
  const chains: FilterChain[] = [];
  const taken: string[] = [];
  for (const { chain, labels: condition } of drafts) {
    if (!selects(condition, labels)) continue;
    const { destinations } = chain.match;
    if (!destinations) return [...chains, chain];
    const left = without(destinations, taken);
    if (left.length === 0) continue;
    chains.push(
      left.length === destinations.length
        ? chain
        : { ...chain, match: { ...chain.match, destinations: left } },
    );
    taken.push(...left);
  }
  return chains;
}

/** Without those that are no names, each once. */
export function sniHosts(match: { sniHosts?: string[] }): string[] {
  return [...new Set((match.sniHosts ?? []).map((host) => host.toLowerCase()))].filter(isHost);
}

/** Where a tcp or tls route leads, with shares; nowhere if it names nobody. */
export function clustersOf(
  route: readonly {
    destination?: { host?: string; subset?: string; port?: { number?: number } };
    weight?: number;
  }[],
  rules: HostRules,
  port: number,
  context: Pick<RouteContext, "mesh" | "service">,
): WeightedUpstream[] {
  const destinations = route.filter(({ destination }) => destination?.host);
  const used =
    destinations.length === 1 ? destinations : destinations.filter(({ weight }) => (weight ?? 0) > 0);
  if (used.length === 0 || used.reduce((sum, { weight }) => sum + (weight ?? 0), 0) > 4_294_967_295)
    return [weighted(blackHoleUpstream, 1)];
  return used.map(({ destination, weight }) =>
    weighted(
      resolve(destination!, rules.namespace, { ...context, port }).upstream,
      used.length === 1 ? 1 : weight!,
    ),
  );
}

/** A share of the connections, as they are. */
export function weighted(upstream: string, weight: number): WeightedUpstream {
  return { upstream, weight, requestHeaders: noChanges, responseHeaders: noChanges };
}

/** Carries bytes; idle connections end after an hour, as in Envoy. */
export function tcpHandler(
  clusters: readonly WeightedUpstream[],
  statPrefix: string,
  mesh: MeshSettings,
): TcpHandler {
  return { kind: "tcp", statPrefix, clusters, idleTimeout: 3_600_000, ...accessLogOf(mesh) };
}

/** What handlers are told of the mesh's access log. */
export function accessLogOf({
  accessLog,
  accessLogFormat,
}: MeshSettings): Pick<TcpHandler, "accessLog" | "accessLogFormat"> {
  return { accessLog, ...(accessLogFormat && { accessLogFormat }) };
}
