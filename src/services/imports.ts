/** What stands in this cluster for a service of the clusterset: the ServiceImport and its derived Service. */
import {
  apiVersionOf,
  fieldManager,
  type KubeObject,
  managedByAnnotation,
  managedByLabel,
  type Service,
  type ServiceImport,
  type ServiceImportPort,
  type ServicePort,
  serviceImports,
  services,
} from "../api/index.ts";
import type { MergedService } from "./merge.ts";
import { derivedName } from "./naming.ts";
import type { ImportCondition } from "./reasons.ts";

export type DesiredImport = Omit<ServiceImport, "status"> & {
  status: Omit<NonNullable<ServiceImport["status"]>, "conditions"> & { conditions: ImportCondition[] };
};

/** Whether an object carries the mark of those that Weft makes whole (law 8). */
export function isOurs(object: KubeObject): boolean {
  return object.metadata.labels?.[managedByLabel] === fieldManager;
}

function isDerivedByUs(service: Service): boolean {
  return service.metadata.annotations?.[managedByAnnotation] === fieldManager;
}

/** `namespace/name` of the derived Service of an import, or of what an import will be made for. */
export function derivedKey(of: { namespace?: string; name: string }): string {
  const namespace = of.namespace ?? "";
  return `${namespace}/${derivedName({ namespace, name: of.name })}`;
}

/** The addresses of a derived Service; none while the API has not allocated any, or when it is someone else's. */
export function addressesOf(derived: Service | undefined): string[] {
  if (!derived || !isDerivedByUs(derived)) return [];
  const { clusterIPs, clusterIP } = derived.spec ?? {};
  return (clusterIPs ?? (clusterIP ? [clusterIP] : [])).filter((ip) => ip !== "" && ip !== "None");
}

/**
 * Whether `spec.ips` of an import is what we wrote there: only then does it follow the derived Service, and the
 * derived Service, should it be deleted, come back with it. An address that a person gave is theirs.
 */
function ownsAddresses(import_: ServiceImport): boolean {
  return (import_.metadata.managedFields ?? []).some(({ manager, operation, fieldsV1 }) => {
    if (!manager?.startsWith(fieldManager) || operation !== "Apply") return false;
    const spec = (fieldsV1 as Record<string, Record<string, unknown>> | undefined)?.["f:spec"];
    return spec !== undefined && "f:ips" in spec;
  });
}

/** The addresses that an import may show: the derived Service's, or while it is away those it had from it. */
function allocatedAddresses(import_: ServiceImport | undefined, derived: Service | undefined): string[] {
  const allocated = addressesOf(derived);
  if (allocated.length > 0) return allocated;
  return import_ && ownsAddresses(import_) ? (import_.spec.ips ?? []) : [];
}

/**
 * Of the addresses, those of families in which the service's endpoints are reached: an address of another family
 * would lead to a part of them, or nowhere.
 */
function ofFamilies(addresses: readonly string[], families: readonly string[] | undefined): string[] {
  return addresses.filter((ip) => !families || families.includes(familyOf(ip)));
}

/** The ServiceImport of a service that at least one cluster exports. */
export function serviceImportOf(
  merged: MergedService,
  current: ServiceImport | undefined,
  derived: Service | undefined,
): DesiredImport {
  const { namespace, name, type } = merged;
  const allocated = type === "ClusterSetIP" ? allocatedAddresses(current, derived) : [];
  const ips = ofFamilies(allocated, merged.ipFamilies);
  return {
    apiVersion: apiVersionOf(serviceImports),
    kind: serviceImports.kind,
    metadata: {
      namespace,
      name,
      labels: merged.labels,
      ...(Object.keys(merged.annotations).length > 0 && { annotations: merged.annotations }),
    },
    spec: {
      type,
      ports: merged.ports,
      ...(ips.length > 0 && { ips, ipFamilies: ips.map(familyOf) }),
      ...(merged.sessionAffinity && { sessionAffinity: merged.sessionAffinity }),
      ...(merged.sessionAffinityConfig && { sessionAffinityConfig: merged.sessionAffinityConfig }),
      ...(merged.internalTrafficPolicy && { internalTrafficPolicy: merged.internalTrafficPolicy }),
      ...(merged.trafficDistribution && { trafficDistribution: merged.trafficDistribution }),
    },
    status: {
      clusters: merged.clusters.map((cluster) => ({ cluster })),
      conditions: [importReady(type, ips, { allocated, families: merged.ipFamilies, derived })],
      endpointSliceObjects: "Present",
    },
  };
}

/** The Ready condition of an import that shows `ips` (mcs-api v1beta1 ServiceImportConditionReady). */
function importReady(
  type: ServiceImport["spec"]["type"],
  ips: readonly string[],
  why: { allocated: readonly string[]; families?: readonly string[]; derived: Service | undefined },
): ImportCondition {
  if (type === "Headless") {
    return { type: "Ready", status: "True", reason: "Ready", message: "Its names are served." };
  }
  if (ips.length > 0) {
    return { type: "Ready", status: "True", reason: "Ready", message: `It is reached at ${ips.join(", ")}.` };
  }
  if (why.allocated.length > 0) {
    return {
      type: "Ready",
      status: "False",
      reason: "IPFamilyNotSupported",
      message: `This cluster gave it ${why.allocated.join(", ")}, but its endpoints are reached by ${why.families?.join(", ")}.`,
    };
  }
  const { derived } = why;
  return {
    type: "Ready",
    status: "False",
    reason: "Pending",
    message:
      derived && !isDerivedByUs(derived)
        ? `The Service ${derived.metadata.name}, made by someone else, stands where the derived Service should. Delete it.`
        : "Waiting for an address from the derived Service.",
  };
}

export function familyOf(ip: string): "IPv4" | "IPv6" {
  return ip.includes(":") ? "IPv6" : "IPv4";
}

/**
 * The Service through which any ServiceImport, ours or written by hand, is reached: without a selector, its
 * endpoints are the imported EndpointSlices. A headless import has none: it is consumed by name.
 *
 * It asks for an address only to get back the one it had (law 10): when it is gone, or was made that way.
 * Otherwise the API allocates one.
 */
export function derivedServiceOf(import_: ServiceImport, current: Service | undefined): Service | undefined {
  const { spec, metadata } = import_;
  if (spec.type !== "ClusterSetIP" || metadata.deletionTimestamp) return undefined;
  const { namespace = "", name } = metadata;
  const asked = current ? askedAddress(current) : ownsAddresses(import_) ? spec.ips?.[0] : undefined;
  return {
    apiVersion: apiVersionOf(services),
    kind: services.kind,
    metadata: { namespace, name: derivedName({ namespace, name }) },
    spec: {
      type: "ClusterIP",
      // Both families where the cluster has both: which of them the import shows is for its endpoints to say.
      ipFamilyPolicy: "PreferDualStack",
      ...(asked && { clusterIP: asked }),
      ports: spec.ports.map((port) => servicePort(port, spec.ports)),
      ...(spec.sessionAffinity && { sessionAffinity: spec.sessionAffinity }),
      ...(spec.sessionAffinityConfig && { sessionAffinityConfig: spec.sessionAffinityConfig }),
      ...(spec.internalTrafficPolicy && { internalTrafficPolicy: spec.internalTrafficPolicy }),
      ...(spec.trafficDistribution && { trafficDistribution: spec.trafficDistribution }),
    },
  };
}

/** The address of a Service, when we are the ones who asked for it. */
function askedAddress(service: Service): string | undefined {
  const asked = (service.metadata.managedFields ?? []).some(({ manager, fieldsV1 }) => {
    const spec = (fieldsV1 as Record<string, Record<string, unknown>> | undefined)?.["f:spec"];
    return manager === fieldManager && spec !== undefined && "f:clusterIP" in spec;
  });
  return asked ? service.spec?.clusterIP : undefined;
}

/**
 * The name of an import's port in its derived Service, or undefined for none. Of several ports an import may
 * have one without a name, a Service may not (core/v1 ServicePort).
 */
export function derivedPortName(port: ServiceImportPort, all: readonly unknown[]): string | undefined {
  if (port.name || all.length === 1) return port.name || undefined;
  return `${port.port}-${(port.protocol ?? "TCP").toLowerCase()}`;
}

function servicePort(port: ServiceImportPort, all: readonly ServiceImportPort[]): ServicePort {
  const name = derivedPortName(port, all);
  return {
    ...(name && { name }),
    protocol: port.protocol ?? "TCP",
    ...(port.appProtocol && { appProtocol: port.appProtocol }),
    port: port.port,
  };
}

/** The fields that we fill in on a ServiceImport that someone else wrote. */
export interface ImportFields {
  metadata: { namespace: string; name: string };
  spec?: { ips: string[] };
  status: { conditions: ImportCondition[]; endpointSliceObjects: "Present" | "Absent" };
}

/**
 * `spec.ips` when the author gave none, the Ready condition, and whether EndpointSlices stand behind it
 * (`hasSlices`).
 */
export function handWrittenFields(
  import_: ServiceImport,
  derived: Service | undefined,
  hasSlices: boolean,
): ImportFields | undefined {
  if (isOurs(import_) || import_.metadata.deletionTimestamp) return undefined;
  const { namespace = "", name } = import_.metadata;
  const { type, ips = [], ipFamilies: families } = import_.spec;
  const given = ips.length > 0 && !ownsAddresses(import_);
  const allocated = given ? ips : type === "Headless" ? [] : allocatedAddresses(import_, derived);
  const shown = given ? ips : ofFamilies(allocated, families);
  return {
    metadata: { namespace, name },
    ...(!given && shown.length > 0 && { spec: { ips: shown } }),
    status: {
      conditions: [importReady(type, shown, { allocated, ...(families && { families }), derived })],
      endpointSliceObjects: hasSlices ? "Present" : "Absent",
    },
  };
}
