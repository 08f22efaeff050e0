/** What this cluster offers its peers: exports × services → ServiceOffers, their endpoints → EndpointOffers. */
import {
  apiVersionOf,
  type EndpointOffer,
  type EndpointSlice,
  endpointOffers,
  isOfferedLabel,
  mcsServiceNameLabel,
  type OfferedEndpoint,
  type OfferedPort,
  type OfferedWorkload,
  type PeerPolicy,
  type Pod,
  peerModeOf,
  refusalOf,
  type Service,
  type ServiceExport,
  type ServiceOffer,
  serviceNameLabel,
  serviceOffers,
  sliceManagedByLabel,
  sliceManager,
  tlsModeLabel,
  workloadName,
} from "../api/index.ts";
import { strangeAnnotation, strangeLabel } from "./labels.ts";
import type { InvalidReason } from "./reasons.ts";

/** Why an export cannot be offered. */
export interface Invalidity {
  reason: InvalidReason;
  message: string;
}

/** Undefined when it can be offered (KEP-1645 "Constraints and Conflict Resolution", Valid). */
export function invalidity(export_: ServiceExport, service: Service | undefined): Invalidity | undefined {
  if (!service) {
    return { reason: "NoService", message: "There is no Service of this name in this namespace." };
  }
  if (service.spec?.type === "ExternalName") {
    return {
      reason: "InvalidServiceType",
      message: "A Service of type ExternalName cannot be exported; export one with endpoints of its own.",
    };
  }
  const { exportedLabels, exportedAnnotations } = export_.spec ?? {};
  const wrong =
    strangeLabel(exportedLabels, "spec.exportedLabels") ??
    strangeAnnotation(exportedAnnotations, "spec.exportedAnnotations");
  return wrong ? { reason: "InvalidLabels", message: wrong } : undefined;
}

/**
 * The offer of one export, or undefined when there is nothing to offer. NodePort and LoadBalancer Services are
 * offered as their ClusterIP part; labels and annotations only as the export's spec lists them.
 */
export function serviceOfferOf(
  cluster: string,
  export_: ServiceExport,
  service: Service | undefined,
): ServiceOffer | undefined {
  if (invalidity(export_, service) || export_.metadata.deletionTimestamp) return undefined;
  const { namespace, name, creationTimestamp } = export_.metadata;
  const spec = service?.spec ?? {};
  const headless = spec.clusterIP === "None";
  const { exportedLabels, exportedAnnotations } = export_.spec ?? {};
  return {
    apiVersion: apiVersionOf(serviceOffers),
    kind: serviceOffers.kind,
    metadata: { name, ...(namespace && { namespace }) },
    spec: {
      cluster,
      type: headless ? "Headless" : "ClusterSetIP",
      ports: (spec.ports ?? []).map(
        (port): OfferedPort => ({
          ...(port.name && { name: port.name }),
          protocol: protocolOf(port.protocol),
          ...(port.appProtocol && { appProtocol: port.appProtocol }),
          port: port.port,
        }),
      ),
      ...(spec.ipFamilies && { ipFamilies: spec.ipFamilies }),
      ...(spec.sessionAffinity && { sessionAffinity: spec.sessionAffinity as "None" | "ClientIP" }),
      ...(spec.sessionAffinityConfig && { sessionAffinityConfig: spec.sessionAffinityConfig }),
      ...(spec.internalTrafficPolicy && { internalTrafficPolicy: spec.internalTrafficPolicy }),
      ...(spec.trafficDistribution && { trafficDistribution: spec.trafficDistribution }),
      ...(spec.publishNotReadyAddresses && { publishNotReadyAddresses: true }),
      ...(hasKeys(exportedLabels) && { exportedLabels }),
      ...(hasKeys(exportedAnnotations) && { exportedAnnotations }),
      exportedAt: creationTimestamp ?? "",
    },
  };
}

/** The Service that a slice belongs to, as `namespace/name`, when its endpoints may be offered. */
export function offeredServiceOf(slice: EndpointSlice): string | undefined {
  const { namespace, labels } = slice.metadata;
  const service = labels?.[serviceNameLabel];
  if (!service || slice.addressType === "FQDN") return undefined;
  // What was imported is another cluster's to offer, or already offered.
  if (labels[mcsServiceNameLabel] || labels[sliceManagedByLabel] === sliceManager) return undefined;
  return `${namespace}/${service}`;
}

/** Of a pod, what offers say. */
export function slimPod({ apiVersion, kind, metadata, spec }: Pod): Pod {
  const { name, namespace, labels, resourceVersion, uid, ownerReferences } = metadata;
  const { serviceAccountName } = spec;
  return {
    apiVersion,
    kind,
    metadata: { name, namespace, labels, resourceVersion, uid, ownerReferences },
    spec: { serviceAccountName },
  } as Pod;
}

/** A pod that speaks its mesh's mTLS, as other clusters are to know it; undefined for others. */
export function offeredWorkloadOf(
  { metadata, spec }: Pod,
  trustDomain: string,
  { own, root }: { own: readonly PeerPolicy[]; root: readonly PeerPolicy[] },
): OfferedWorkload | undefined {
  const labels = metadata.labels ?? {};
  if (labels[tlsModeLabel] !== "istio") return undefined;
  // Without a policy all take mTLS, whatever the mesh's default.
  const peers = peerModeOf(labels, own, root, { mtls: { mode: "PERMISSIVE", auto: true } });
  const { plainText, exceptPorts } = refusalOf(peers);
  const offered = Object.entries(labels).filter(([name]) => isOfferedLabel(name));
  return {
    name: workloadName(metadata.name, metadata.ownerReferences, labels),
    serviceAccount: spec.serviceAccountName ?? "default",
    trustDomain,
    ...(offered.length > 0 && { labels: Object.fromEntries(offered.sort(([a], [b]) => (a < b ? -1 : 1))) }),
    ...(plainText && { plainText }),
    ...(exceptPorts.length > 0 && { exceptPorts }),
  };
}

/** What an offer says of endpoints besides their slice. */
export interface EndpointLook {
  /** The region of a node, where it has one. */
  regionOf(node: string): string | undefined;
  /** By `namespace/name` of the pod. */
  workloadOf(pod: string): OfferedWorkload | undefined;
}

/** One EndpointSlice as an offer. */
export function endpointOfferOf(
  cluster: string,
  service: string,
  slice: EndpointSlice,
  { regionOf, workloadOf }: EndpointLook,
): EndpointOffer {
  const { namespace, name } = slice.metadata;
  return {
    apiVersion: apiVersionOf(endpointOffers),
    kind: endpointOffers.kind,
    metadata: { name, ...(namespace && { namespace }) },
    spec: {
      cluster,
      service,
      addressType: slice.addressType as "IPv4" | "IPv6",
      ports: (slice.ports ?? []).flatMap((port) =>
        port.port === undefined
          ? []
          : {
              ...(port.name && { name: port.name }),
              protocol: protocolOf(port.protocol),
              ...(port.appProtocol && { appProtocol: port.appProtocol }),
              port: port.port,
            },
      ),
      endpoints: (slice.endpoints ?? []).map((endpoint): OfferedEndpoint => {
        const region = endpoint.nodeName ? regionOf(endpoint.nodeName) : undefined;
        const pod = endpoint.targetRef;
        const workload =
          pod?.kind === "Pod" && pod.name
            ? workloadOf(`${pod.namespace ?? namespace}/${pod.name}`)
            : undefined;
        // Unknown conditions mean ready, serving as ready, not terminating (discovery.k8s.io/v1 EndpointConditions).
        const ready = endpoint.conditions?.ready ?? true;
        return {
          addresses: endpoint.addresses,
          ready,
          serving: endpoint.conditions?.serving ?? ready,
          terminating: endpoint.conditions?.terminating ?? false,
          ...(endpoint.hostname && { hostname: endpoint.hostname }),
          ...(endpoint.nodeName && { nodeName: endpoint.nodeName }),
          ...(region && { region }),
          ...(endpoint.zone && { zone: endpoint.zone }),
          ...(workload && { workload }),
        };
      }),
    },
  };
}

function protocolOf(protocol: string | undefined): "TCP" | "UDP" | "SCTP" {
  return protocol === "UDP" || protocol === "SCTP" ? protocol : "TCP";
}

function hasKeys(map: Record<string, string> | undefined): boolean {
  return map !== undefined && Object.keys(map).length > 0;
}
