/** Services and what stands behind or before them. */
import type * as networking from "kubernetes-types/networking/v1";
import type { EndpointSlice, Endpoints, Service, Stored } from "../../../api/index.ts";
import {
  byBytes,
  columns,
  firstThree,
  formatLabels,
  type Printer,
  printer,
  selectorText,
} from "./columns.ts";
import { since } from "./duration.ts";

export const service: Printer = printer<Service>(
  columns(["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age"], ["Selector"]),
  (object, now) => {
    const { metadata, spec } = object;
    const ports = (spec?.ports ?? []).map(({ port, nodePort, protocol = "TCP" }) =>
      nodePort ? `${port}:${nodePort}/${protocol}` : `${port}/${protocol}`,
    );
    return [
      metadata.name,
      spec?.type ?? "ClusterIP",
      spec?.clusterIPs?.[0] || spec?.clusterIP || "<none>",
      externalAddress(object),
      ports.join(",") || "<none>",
      since(metadata.creationTimestamp, now),
      formatLabels(spec?.selector),
    ];
  },
);

function externalAddress({ spec, status }: Service): string {
  const given = spec?.externalIPs ?? [];
  switch (spec?.type ?? "ClusterIP") {
    case "ClusterIP":
    case "NodePort":
      return given.join(",") || "<none>";
    case "LoadBalancer":
      return [...ingressAddresses(status?.loadBalancer?.ingress), ...given].join(",") || "<pending>";
    case "ExternalName":
      return spec?.externalName ?? "";
    default:
      return "<unknown>";
  }
}

function ingressAddresses(ingress: readonly { ip?: string; hostname?: string }[] | undefined): string[] {
  const addresses = (ingress ?? [])
    .map(({ ip, hostname }) => ip || hostname || "")
    .filter((text) => text !== "");
  return [...new Set(addresses)].sort(byBytes);
}

export const endpoints: Printer = printer<Endpoints>(
  columns(["Name", "Endpoints", "Age"]),
  ({ metadata, subsets }, now) => [
    metadata.name,
    subsets?.length ? firstThree(socketAddresses(subsets)) : "<none>",
    since(metadata.creationTimestamp, now),
  ],
);

function socketAddresses(subsets: NonNullable<Endpoints["subsets"]>): string[] {
  return subsets.flatMap(({ addresses = [], ports = [] }) =>
    ports.length === 0
      ? addresses.map(({ ip }) => ip)
      : ports.flatMap(({ port }) =>
          addresses.map(({ ip }) => (ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`)),
        ),
  );
}

export const endpointSlice: Printer = printer<EndpointSlice>(
  columns(["Name", "AddressType", "Ports", "Endpoints", "Age"]),
  (object, now) => [
    object.metadata.name,
    object.addressType,
    firstThree((object.ports ?? []).map(({ port, name }) => `${port ?? name ?? "*"}`)) || "<unset>",
    firstThree((object.endpoints ?? []).flatMap(({ addresses }) => addresses ?? [])) || "<unset>",
    since(object.metadata.creationTimestamp, now),
  ],
);

export const ingress: Printer = printer<Stored<networking.Ingress>>(
  columns(["Name", "Class", "Hosts", "Address", "Ports", "Age"]),
  ({ metadata, spec, status }, now) => [
    metadata.name,
    spec?.ingressClassName ?? "<none>",
    hosts(spec?.rules ?? []),
    ingressAddresses(status?.loadBalancer?.ingress).join(","),
    spec?.tls?.length ? "80, 443" : "80",
    since(metadata.creationTimestamp, now),
  ],
);

/** Three hosts at most; what is counted as "more" is rules, as upstream counts. */
function hosts(rules: networking.IngressRule[]): string {
  const shown: string[] = [];
  let more = false;
  for (const { host } of rules) {
    if (shown.length === 3) more = true;
    else if (host) shown.push(host);
  }
  if (shown.length === 0) return "*";
  return more ? `${shown.join(",")} + ${rules.length - 3} more...` : shown.join(",");
}

export const ingressClass: Printer = printer<Stored<networking.IngressClass>>(
  columns(["Name", "Controller", "Parameters", "Age"]),
  ({ metadata, spec }, now) => {
    const to = spec?.parameters;
    const standard = metadata.annotations?.["ingressclass.kubernetes.io/is-default-class"] === "true";
    return [
      standard ? `${metadata.name} (default)` : metadata.name,
      spec?.controller ?? "",
      to ? `${to.kind}${to.apiGroup ? `.${to.apiGroup}` : ""}/${to.name}` : "<none>",
      since(metadata.creationTimestamp, now),
    ];
  },
);

export const networkPolicy: Printer = printer<Stored<networking.NetworkPolicy>>(
  columns(["Name", "Pod-Selector", "Age"]),
  ({ metadata, spec }, now) => [
    metadata.name,
    selectorText(spec?.podSelector) || "<none>",
    since(metadata.creationTimestamp, now),
  ],
);
