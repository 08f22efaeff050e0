/** What connections that are not HTTP go by: where they lead, server names, ranges of addresses. */
import type { MeshSettings } from "../api/index.ts";
import type { TcpHandler, WeightedUpstream } from "./model.ts";
import { blackHoleUpstream, isHost } from "./names.ts";
import { noChanges, type RouteContext, resolve } from "./routes.ts";
import type { HostRules } from "./virtual-services.ts";

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

/** An address or range as a range. */
export function cidr(address: string): string {
  return address.includes("/") ? address : `${address}/${address.includes(":") ? 128 : 32}`;
}

/** A range of addresses, not one. */
export function isRange(address: string): boolean {
  return address.includes("/") && !/\/(?:32|128)$/.test(address);
}
