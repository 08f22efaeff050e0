/** VirtualServices with their hosts, gateways and exports resolved. Source: Istio `pilot/pkg/model/virtualservice.go`. */
import type {
  HttpRoute,
  MeshSettings,
  StringMatch,
  TcpRoute,
  TlsRoute,
  VirtualService,
} from "../api/index.ts";
import { type Exports, exportsOf, isExportedTo } from "./exports.ts";
import { bySpecificity, fullHost, isHost } from "./names.ts";
import { byAge, timeOf } from "./registry.ts";

/** The gateway that stands for all sidecars. */
export const meshGateway = "mesh";

/** What somebody says about hosts: a VirtualService or an HTTPRoute, resolved. */
export interface HostRules {
  /** `namespace/name`. */
  key: string;
  kind: "VirtualService" | "HTTPRoute";
  namespace: string;
  name: string;
  created: string;
  /** Full. */
  hosts: readonly string[];
  /** `mesh`, or `namespace/name` of Gateways. */
  gateways: readonly string[];
  exports: Exports;
  http: readonly SourcedRoute[];
  tls: readonly TlsRoute[];
  tcp: readonly TcpRoute[];
}

/** An HTTP route, with the object that wrote it: delegates' routes are somebody else's. */
export interface SourcedRoute {
  value: HttpRoute;
  namespace: string;
  name: string;
  /** `spec.http[0]`. */
  field: string;
}

/** None for a delegate (no hosts): it is part of others only. */
export function hostRulesOf(
  object: VirtualService,
  mesh: MeshSettings,
  delegate: (namespace: string, name: string) => VirtualService | undefined,
): HostRules | undefined {
  const { metadata, spec } = object;
  if (!spec?.hosts?.length || metadata.deletionTimestamp) return undefined;
  const namespace = metadata.namespace ?? "";
  return {
    key: `${namespace}/${metadata.name}`,
    kind: "VirtualService",
    namespace,
    name: metadata.name,
    created: timeOf(metadata.creationTimestamp),
    hosts: spec.hosts.map((host) => fullHost(host, namespace, mesh.clusterDomain)).filter(isHost),
    gateways: gatewaysOf(object),
    exports: exportsOf(spec.exportTo, namespace),
    http: httpRoutesOf(object, delegate),
    tls: spec.tls ?? [],
    tcp: spec.tcp ?? [],
  };
}

/** Full names of its gateways; `mesh` where it names none. */
export function gatewaysOf({ metadata, spec }: VirtualService): string[] {
  if (!spec.gateways?.length) return [meshGateway];
  return spec.gateways.map((each) => fullGateway(each, metadata.namespace ?? ""));
}

/** `namespace/name`; a name alone is of the own namespace. */
export function fullGateway(gateway: string, namespace: string): string {
  return gateway === meshGateway || gateway.includes("/") ? gateway : `${namespace}/${gateway}`;
}

function httpRoutesOf(
  { metadata, spec }: VirtualService,
  delegate: (namespace: string, name: string) => VirtualService | undefined,
): SourcedRoute[] {
  const namespace = metadata.namespace ?? "";
  return (spec.http ?? []).flatMap((value, i): SourcedRoute[] => {
    const field = `spec.http[${i}]`;
    if (!value.delegate) return [{ value, namespace, name: metadata.name, field }];
    const other = delegate(value.delegate.namespace || namespace, value.delegate.name ?? "");
    if (!other || other.spec?.hosts?.length) return [];
    return (other.spec?.http ?? []).flatMap((route, j) => {
      const merged = route.delegate ? undefined : mergeDelegate(value, route);
      return merged
        ? [
            {
              value: merged,
              namespace: other.metadata.namespace ?? "",
              name: other.metadata.name,
              field: `spec.http[${j}]`,
            },
          ]
        : [];
    });
  });
}

/**
 * A delegate's route under its root: a request must match both. None if some field of a match is set on both sides
 * differently (Istio refuses what does not narrow; it drops the route). Source: Istio `mergeHTTPRoute`.
 */
function mergeDelegate(root: HttpRoute, route: HttpRoute): HttpRoute | undefined {
  const { match: rootMatch, delegate: _, ...rest } = root;
  const matches: NonNullable<HttpRoute["match"]> = [];
  for (const above of rootMatch?.length ? rootMatch : [{}]) {
    for (const below of route.match?.length ? route.match : [{}]) {
      const merged = mergeMatch(above, below);
      if (merged) matches.push(merged);
    }
  }
  const constrained = Boolean(rootMatch?.length || route.match?.length);
  if (constrained && matches.length === 0) return undefined;
  return { ...rest, ...route, ...(constrained && { match: matches }) };
}

type Match = NonNullable<HttpRoute["match"]>[number];

/** What matches both; undefined where nothing could, or where that cannot be said in one match. */
function mergeMatch(above: Match, below: Match): Match | undefined {
  for (const field of ["port", "sourceNamespace"] as const)
    if (above[field] && below[field] && above[field] !== below[field]) return undefined;
  if (above.uri && below.uri && Boolean(above.ignoreUriCase) !== Boolean(below.ignoreUriCase))
    return undefined;
  const texts = (field: "uri" | "scheme" | "method" | "authority") => narrower(above[field], below[field]);
  const [uri, scheme, method, authority] = [
    texts("uri"),
    texts("scheme"),
    texts("method"),
    texts("authority"),
  ];
  const headers = both(above.headers, below.headers, narrower);
  const queryParams = both(above.queryParams, below.queryParams, narrower);
  // What is to be absent grows narrower as what it names grows wider: only the same is sure.
  const withoutHeaders = both(above.withoutHeaders, below.withoutHeaders, same);
  const sourceLabels = both(above.sourceLabels, below.sourceLabels, same);
  const gateways =
    above.gateways?.length && below.gateways?.length
      ? below.gateways.filter((each) => above.gateways!.includes(each))
      : (below.gateways ?? above.gateways);
  const merged = { uri, scheme, method, authority, headers, queryParams, withoutHeaders, sourceLabels };
  if (Object.values(merged).includes(null) || (gateways?.length === 0 && above.gateways?.length))
    return undefined;
  const name = [above.name, below.name].filter((each) => each).join("-");
  const given = Object.entries({ ...merged, gateways }).filter(([, value]) => value !== undefined);
  return { ...above, ...below, ...(name && { name }), ...(Object.fromEntries(given) as Match) };
}

/** Entry by entry; null if two of one name cannot be put together. */
function both<T>(
  above: Readonly<Record<string, T>> | undefined,
  below: Readonly<Record<string, T>> | undefined,
  merge: (above: T | undefined, below: T | undefined) => T | null | undefined,
): Record<string, T> | null | undefined {
  if (!above && !below) return undefined;
  const all: Record<string, T> = {};
  for (const name of new Set([...Object.keys(above ?? {}), ...Object.keys(below ?? {})])) {
    const merged = merge(above?.[name], below?.[name]);
    if (merged === null) return null;
    if (merged !== undefined) all[name] = merged;
  }
  return all;
}

function same<T>(above: T | undefined, below: T | undefined): T | null | undefined {
  if (above === undefined || below === undefined) return below ?? above;
  return JSON.stringify(above) === JSON.stringify(below) ? below : null;
}

/** The narrower of the two; null if neither is known to be. Source: Istio `stringMatchConflict`. */
function narrower(
  above: StringMatch | undefined,
  below: StringMatch | undefined,
): StringMatch | null | undefined {
  if (!above || !below) return below ?? above;
  if (JSON.stringify(above) === JSON.stringify(below)) return below;
  if (isAny(above)) return below;
  if (isAny(below)) return above;
  if (above.prefix === undefined) return null;
  const within = below.exact?.startsWith(above.prefix) || below.prefix?.startsWith(above.prefix);
  return within ? below : null;
}

/** It has to be there, whatever it is. */
function isAny({ exact, prefix, regex }: StringMatch): boolean {
  return exact === undefined && !prefix && !regex;
}

/**
 * Who speaks for a host: of the VirtualServices that a client sees, the one with the most specific host, then the one
 * for this client alone before those for some before those for all, then the oldest. The rest is not looked at.
 * Source: Istio `sidecar.go`, `buildSidecarVirtualHostsForVirtualService`.
 */
export function rulesFor(
  candidates: readonly HostRules[],
  host: string,
  patterns: ReadonlySet<string>,
  client: string,
  mention: (namespace: string) => void,
): HostRules | undefined {
  let best: { rules: HostRules; host: string } | undefined;
  for (const rules of candidates) {
    if (rules.exports !== "all") for (const each of rules.exports) mention(each);
    if (!isExportedTo(rules.exports, client)) continue;
    for (const pattern of rules.hosts) {
      if (pattern !== host && !patterns.has(pattern)) continue;
      const found = { rules, host: pattern };
      if (!best || prefer(found, best, client) < 0) best = found;
    }
  }
  return best?.rules;
}

function prefer(
  a: { rules: HostRules; host: string },
  b: { rules: HostRules; host: string },
  client: string,
): number {
  return (
    (a.host === b.host ? 0 : bySpecificity(a.host, b.host)) ||
    reach(a.rules.exports) - reach(b.rules.exports) ||
    Number(b.rules.namespace === client && b.rules.exports !== "all") -
      Number(a.rules.namespace === client && a.rules.exports !== "all") ||
    byAge(a.rules, b.rules)
  );
}

function reach(exports: Exports): number {
  return exports === "all" ? 1_000 : exports.size;
}
