/** What can be called in a mesh: Services, ServiceImports and ServiceEntries as one kind of thing. */
import { isIP } from "node:net";
import { isRange } from "../addresses/index.ts";
import {
  fieldManager,
  type MeshSettings,
  managedByAnnotation,
  type Service,
  type ServiceEntry,
  type ServiceImport,
} from "../api/index.ts";
import { type Exports, exportsOf, exportToAnnotation } from "./exports.ts";
import type { Origin } from "./model.ts";
import { isHost, isPort } from "./names.ts";
import { namedProtocol, type Protocol, portProtocol } from "./protocol.ts";

/** A port of a service. */
export interface MeshPort {
  number: number;
  name: string;
  protocol: Protocol;
  /** Of the pods; a name where pods may differ. */
  target: number | string;
}

/**
 * How endpoints are found: from EndpointSlices (`service`, `import`), from pods and WorkloadEntries by label
 * (`selected`), as written (`static`), by DNS, or the caller knows the address (`none`).
 */
export type Resolution = "service" | "import" | "selected" | "static" | "dns" | "dns-round-robin" | "none";

/** A Service, ServiceImport, or one host of a ServiceEntry. */
export interface MeshService {
  host: string;
  namespace: string;
  name: string;
  kind: "Service" | "ServiceImport" | "ServiceEntry";
  /** Virtual addresses, or ranges in CIDR notation; none where it is headless. */
  addresses: readonly string[];
  headless: boolean;
  ports: readonly MeshPort[];
  resolution: Resolution;
  exports: Exports;
  external: boolean;
  /** Oldest first is the rule where two claim the same host. */
  created: string;
  /** Of its pods; undefined where there is none. */
  selector?: Readonly<Record<string, string>>;
  /** As written, of a ServiceEntry. */
  endpoints: readonly EntryEndpoint[];
  subjectAltNames: readonly string[];
  origin: Origin;
}

/** An endpoint as a ServiceEntry writes it. */
export interface EntryEndpoint {
  address: string;
  ports: Readonly<Record<string, number>>;
  labels: Readonly<Record<string, string>>;
  locality: string;
  weight: number;
  serviceAccount?: string;
}

/** The key of a service in the registry, and of its instances. */
export function serviceKey(service: Pick<MeshService, "kind" | "namespace" | "host">): string {
  return `${service.kind}/${service.namespace}/${service.host}`;
}

const number = (of: number | string | undefined, otherwise: number): number | string => of ?? otherwise;

/** None for what is not to be called: Services without a spec, and those that stand for imports. */
export function serviceOf(service: Service, mesh: MeshSettings): MeshService | undefined {
  const { metadata, spec } = service;
  const namespace = metadata.namespace ?? "";
  if (!spec || metadata.deletionTimestamp) return undefined;
  // Derived Services stand for ServiceImports, which are here themselves.
  if (metadata.annotations?.[managedByAnnotation] === fieldManager) return undefined;
  const origin: Origin = { kind: "Service", namespace, name: metadata.name, field: "" };
  const base = {
    host: `${metadata.name}.${namespace}.svc.${mesh.clusterDomain}`,
    namespace,
    name: metadata.name,
    kind: "Service" as const,
    created: timeOf(metadata.creationTimestamp),
    exports: exportsOf(
      metadata.annotations?.[exportToAnnotation]?.split(",").map((each) => each.trim()),
      namespace,
    ),
    subjectAltNames: [],
    origin,
  };
  const ports = (spec.ports ?? [])
    .map((port) => ({
      number: port.port,
      name: port.name ?? "",
      protocol: portProtocol({ ...port, number: port.port }),
      target: number(port.targetPort, port.port),
    }))
    .filter(({ protocol }) => protocol !== "udp");
  if (spec.type === "ExternalName") {
    if (!spec.externalName) return undefined;
    return {
      ...base,
      addresses: [],
      headless: true,
      ports,
      resolution: "dns",
      external: true,
      endpoints: [{ address: spec.externalName, ports: {}, labels: {}, locality: "", weight: 1 }],
    };
  }
  const addresses = (spec.clusterIPs ?? (spec.clusterIP ? [spec.clusterIP] : [])).filter(
    (address) => address !== "None" && address !== "",
  );
  return {
    ...base,
    addresses,
    headless: spec.clusterIP === "None",
    ports,
    resolution: "service",
    external: false,
    ...(spec.selector && Object.keys(spec.selector).length > 0 && { selector: spec.selector }),
    endpoints: [],
  };
}

/** KEP-1645: `name.namespace.svc.clusterset.local`. */
export function importOf(service: ServiceImport, clusterSetZone: string): MeshService | undefined {
  const { metadata, spec } = service;
  if (!spec || metadata.deletionTimestamp) return undefined;
  const namespace = metadata.namespace ?? "";
  return {
    host: `${metadata.name}.${namespace}.svc.${clusterSetZone}`,
    namespace,
    name: metadata.name,
    kind: "ServiceImport",
    addresses: spec.ips ?? [],
    headless: spec.type === "Headless",
    ports: (spec.ports ?? [])
      .map((port) => ({
        number: port.port,
        name: port.name ?? "",
        protocol: portProtocol({ ...port, number: port.port }),
        target: port.name ?? port.port,
      }))
      .filter(({ protocol }) => protocol !== "udp"),
    resolution: "import",
    exports: "all",
    external: false,
    created: timeOf(metadata.creationTimestamp),
    endpoints: [],
    subjectAltNames: [],
    origin: { kind: "ServiceImport", namespace, name: metadata.name, field: "" },
  };
}

const resolutions: Record<string, Resolution> = {
  STATIC: "static",
  DNS: "dns",
  DNS_ROUND_ROBIN: "dns-round-robin",
  NONE: "none",
};

/** One for each of its hosts. `DYNAMIC_DNS` is not served. */
export function entriesOf(entry: ServiceEntry): MeshService[] {
  const { metadata, spec } = entry;
  if (!spec || metadata.deletionTimestamp) return [];
  const namespace = metadata.namespace ?? "";
  const selector = spec.workloadSelector?.labels;
  const written = resolutions[spec.resolution ?? "NONE"];
  if (!written) return [];
  const resolution = selector && written === "static" ? "selected" : written;
  const ports = (spec.ports ?? [])
    .filter((port) => isPort(port.number) && (!port.targetPort || isPort(port.targetPort)))
    .map(
      (port): MeshPort => ({
        number: port.number!,
        name: port.name ?? "",
        protocol:
          namedProtocol(port.protocol ?? "") ??
          portProtocol({ number: port.number!, ...(port.name && { name: port.name }) }),
        target: port.targetPort || port.number!,
      }),
    )
    .filter(({ protocol }) => protocol !== "udp");
  const hosts = (spec.hosts ?? []).map((host) => host.toLowerCase()).filter(isHost);
  return hosts.map((host): MeshService => {
    const endpoints = (spec.endpoints ?? []).map(
      (each): EntryEndpoint => ({
        address: each.address ?? "",
        ports: each.ports ?? {},
        labels: each.labels ?? {},
        locality: each.locality ?? "",
        weight: weightOf(each.weight),
        ...(each.serviceAccount && {
          serviceAccount: each.serviceAccount.includes("/")
            ? each.serviceAccount
            : `${namespace}/${each.serviceAccount}`,
        }),
      }),
    );
    const byName = resolution === "dns" || resolution === "dns-round-robin";
    return {
      host,
      namespace,
      name: metadata.name,
      kind: "ServiceEntry",
      addresses: (spec.addresses ?? []).filter(isRange),
      headless: (spec.addresses ?? []).length === 0,
      ports,
      resolution,
      exports: exportsOf(spec.exportTo, namespace),
      external: spec.location !== "MESH_INTERNAL",
      created: timeOf(metadata.creationTimestamp),
      ...(selector && { selector }),
      endpoints:
        byName && endpoints.length === 0 && !host.startsWith("*")
          ? [{ address: host, ports: {}, labels: {}, locality: "", weight: 1 }]
          : endpoints
              .filter(({ address }) =>
                byName ? isHost(address) && !address.includes("*") : isIP(address) !== 0,
              )
              // Envoy's LOGICAL_DNS asks for one name.
              .slice(0, resolution === "dns-round-robin" ? 1 : undefined),
      subjectAltNames: spec.subjectAltNames ?? [],
      origin: { kind: "ServiceEntry", namespace, name: metadata.name, field: "spec.hosts" },
    };
  });
}

/** A ServiceEntry's hosts are services of their own: `example.com` is its name too. Source: Istio `addTelemetryMetadata`. */
export function nameInMetrics({ kind, host, name, namespace }: MeshService): {
  host: string;
  name: string;
  namespace: string;
} {
  return { host, name: kind === "ServiceEntry" ? host : name, namespace };
}

/** Weights of endpoints, kept so small that no sum of them is more than Envoy counts (2^32 - 1). */
export function weightOf(weight: number | undefined): number {
  return weight && weight > 0 ? Math.min(Math.round(weight), 100_000) : 1;
}

/** A creation time as sortable text; objects of files, which have none yet, are the youngest. */
export function timeOf(created: string | undefined): string {
  return created ?? "9999";
}

/** Oldest first, then by name: the order in which objects of one kind take precedence. */
export function byAge(
  a: { created: string; namespace: string; name: string },
  b: { created: string; namespace: string; name: string },
): number {
  if (a.created !== b.created) return a.created < b.created ? -1 : 1;
  const left = `${a.namespace}/${a.name}`;
  const right = `${b.namespace}/${b.name}`;
  return left < right ? -1 : left > right ? 1 : 0;
}
