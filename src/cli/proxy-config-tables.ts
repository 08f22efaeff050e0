/** Tables of a proxy's configuration, with the columns that people know from `istioctl proxy-config`. */
import { X509Certificate } from "node:crypto";
import { Cluster } from "#protocols/envoy/config/cluster/v3/cluster.ts";
import { ClusterLoadAssignment } from "#protocols/envoy/config/endpoint/v3/endpoint.ts";
import { Listener } from "#protocols/envoy/config/listener/v3/listener.ts";
import type { FilterChain } from "#protocols/envoy/config/listener/v3/listener_components.ts";
import { RouteConfiguration } from "#protocols/envoy/config/route/v3/route.ts";
import type { Route } from "#protocols/envoy/config/route/v3/route_components.ts";
import { HttpConnectionManager } from "#protocols/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.ts";
import { TcpProxy } from "#protocols/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.ts";
import { Secret } from "#protocols/envoy/extensions/transport_sockets/tls/v3/secret.ts";
import type { DumpedResource } from "../xds/index.ts";
import { table } from "./table.ts";

type Rows = (string | number | undefined)[][];
const bytesOf = ({ message }: DumpedResource) => Buffer.from(message, "base64");
const sorted = (rows: Rows) => rows.sort((a, b) => (a.join(" ") < b.join(" ") ? -1 : 1));

export function clusterTable(resources: DumpedResource[]): string {
  const types = ["STATIC", "STRICT_DNS", "LOGICAL_DNS", "EDS", "ORIGINAL_DST"];
  const rows = resources.map((resource) => {
    const cluster = Cluster.decode(bytesOf(resource));
    const type =
      cluster.clusterDiscoveryType?.$case === "type" ? types[cluster.clusterDiscoveryType.value] : undefined;
    const parts = cluster.name.split("|");
    const [direction, port, subset, host] = parts.length === 4 ? parts : ["-", "-", "-", cluster.name];
    return [host || "", port, subset || "-", direction, type, originOf(cluster.metadata)];
  });
  return table(["SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE"], sorted(rows));
}

/** `catalog.coolapp`, from `/apis/networking.istio.io/v1/namespaces/coolapp/virtual-service/catalog`. */
function originOf(
  metadata: { filterMetadata: Record<string, Record<string, unknown> | undefined> } | undefined,
): string {
  const config: unknown = metadata?.filterMetadata.istio?.config;
  const [, namespace, name] =
    typeof config === "string" ? (/namespaces\/([^/]+)\/[^/]+\/([^/]+)$/.exec(config) ?? []) : [];
  return name ? `${name}.${namespace}` : "";
}

const healths = ["HEALTHY", "HEALTHY", "UNHEALTHY", "DRAINING", "UNHEALTHY", "DEGRADED"];

export function endpointTable(resources: DumpedResource[]): string {
  const rows = resources.flatMap((resource) => {
    const { clusterName, endpoints } = ClusterLoadAssignment.decode(bytesOf(resource));
    return endpoints.flatMap(({ lbEndpoints, locality, priority }) =>
      lbEndpoints.map(({ hostIdentifier, healthStatus, metadata }) => {
        const address =
          hostIdentifier?.$case === "endpoint" ? hostIdentifier.value.address?.address : undefined;
        const socket = address?.$case === "socketAddress" ? address.value : undefined;
        const port = socket?.portSpecifier?.value ?? "";
        const tls = metadata?.filterMetadata["envoy.transport_socket_match"]?.tlsMode === "istio";
        const place = [locality?.region, locality?.zone].filter(Boolean).join("/");
        return [
          `${socket?.address}:${port}`,
          healths[healthStatus] ?? "-",
          place,
          priority,
          tls ? "mTLS" : "-",
          clusterName,
        ];
      }),
    );
  });
  return table(["ENDPOINT", "STATUS", "LOCALITY", "PRIORITY", "TLS", "CLUSTER"], sorted(rows));
}

export function listenerTable(resources: DumpedResource[]): string {
  const rows = resources.flatMap((resource) => {
    const listener = Listener.decode(bytesOf(resource));
    const address = listener.address?.address;
    const socket = address?.$case === "socketAddress" ? address.value : undefined;
    const where = [socket?.address, socket?.portSpecifier?.value];
    const all = listener.defaultFilterChain
      ? [...listener.filterChains, listener.defaultFilterChain]
      : listener.filterChains;
    return all.map((chain) => [...where, matchText(chain), destinationText(chain)]);
  });
  return table(["ADDRESSES", "PORT", "MATCH", "DESTINATION"], rows);
}

function matchText({ filterChainMatch: match }: FilterChain): string {
  const words = [
    match?.transportProtocol && `Trans: ${match.transportProtocol}`,
    match?.applicationProtocols.length && `App: ${match.applicationProtocols.join(",")}`,
    match?.serverNames.length && `SNI: ${match.serverNames.join(",")}`,
    match?.prefixRanges.length &&
      `Addr: ${match.prefixRanges.map(({ addressPrefix, prefixLen }) => `${addressPrefix}/${prefixLen ?? 0}`).join(",")}`,
    match?.destinationPort && `Port: ${match.destinationPort}`,
  ].filter(Boolean);
  return words.length > 0 ? words.join("; ") : "ALL";
}

function destinationText({ filters }: FilterChain): string {
  for (const { configType } of filters) {
    if (configType?.$case !== "typedConfig") continue;
    const { typeUrl, value } = configType.value;
    if (typeUrl.endsWith(".HttpConnectionManager")) {
      const { routeSpecifier } = HttpConnectionManager.decode(value);
      if (routeSpecifier?.$case === "rds") return `Route: ${routeSpecifier.value.routeConfigName}`;
      if (routeSpecifier?.$case === "routeConfig") return `Inline Route: ${routeSpecifier.value.name}`;
    }
    if (typeUrl.endsWith(".TcpProxy")) {
      const { clusterSpecifier } = TcpProxy.decode(value);
      if (clusterSpecifier?.$case === "cluster") return `Cluster: ${clusterSpecifier.value}`;
      if (clusterSpecifier?.$case === "weightedClusters")
        return `Cluster: ${clusterSpecifier.value.clusters.map(({ name, weight }) => `${name} (${weight})`).join(", ")}`;
    }
  }
  return "-";
}

export function routeTable(resources: DumpedResource[]): string {
  const rows = resources.flatMap((resource) => {
    const { name, virtualHosts } = RouteConfiguration.decode(bytesOf(resource));
    return virtualHosts.flatMap((host) =>
      host.routes.map((route) => [
        name,
        host.name,
        domainsText(host.domains),
        pathText(route),
        actionText(route),
        originOf(route.metadata),
      ]),
    );
  });
  return table(["NAME", "VHOST NAME", "DOMAINS", "MATCH", "DESTINATION", "VIRTUAL SERVICE"], rows);
}

function domainsText(domains: readonly string[]): string {
  const [first = "", second] = domains;
  if (second === undefined) return first;
  return domains.length === 2 ? `${first}, ${second}` : `${first}, ${second} + ${domains.length - 2} more...`;
}

function pathText({ match }: Route): string {
  const path = match?.pathSpecifier;
  const more = (match?.headers.length ?? 0) + (match?.queryParameters.length ?? 0);
  const value =
    path?.$case === "safeRegex"
      ? `regex ${path.value.regex}`
      : typeof path?.value === "string"
        ? path.value
        : "/";
  const text = path?.$case === "prefix" || path?.$case === "pathSeparatedPrefix" ? `${value}*` : value;
  return more > 0 ? `${text} + ${more} more` : text;
}

function actionText({ action }: Route): string {
  switch (action?.$case) {
    case "route": {
      const { clusterSpecifier } = action.value;
      if (clusterSpecifier?.$case === "cluster") return clusterSpecifier.value;
      if (clusterSpecifier?.$case === "weightedClusters")
        return clusterSpecifier.value.clusters
          .map(({ name, weight }) => `${name} (${weight ?? 0})`)
          .join(", ");
      return "-";
    }
    case "redirect":
      return "redirect";
    case "directResponse":
      return `answers ${action.value.status}`;
    default:
      return "-";
  }
}

export function secretTable(resources: DumpedResource[]): string {
  const rows = resources.map((resource) => {
    const { name, type } = Secret.decode(bytesOf(resource));
    const source =
      type?.$case === "tlsCertificate"
        ? type.value.certificateChain
        : type?.$case === "validationContext"
          ? type.value.trustedCa
          : undefined;
    const pem = source?.specifier?.$case === "inlineString" ? source.specifier.value : "";
    const kind = type?.$case === "validationContext" ? "CA" : "Cert Chain";
    try {
      const certificate = new X509Certificate(pem);
      const valid = certificate.validToDate.getTime() > Date.now();
      return [
        name,
        kind,
        resource.held ? "ACTIVE" : "WARMING",
        String(valid),
        certificate.serialNumber,
        certificate.validTo,
        certificate.validFrom,
      ];
    } catch {
      return [name, kind, resource.held ? "ACTIVE" : "WARMING", "false", "", "", ""];
    }
  });
  return table(
    ["RESOURCE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE"],
    rows,
  );
}
