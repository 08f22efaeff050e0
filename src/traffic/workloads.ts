/** Pods as endpoints: who they are, where they run, and whether they speak the mesh's mTLS. */
import { isIP } from "node:net";
import {
  type EndpointSlice,
  type MeshSettings,
  mcsServiceNameLabel,
  mcsSourceClusterLabel,
  type Node,
  type Pod,
  readEndpointFacts,
  regionLabel,
  serviceNameLabel,
  tlsModeLabel,
  type WorkloadEntry,
  workloadName,
  zoneLabel,
} from "../api/index.ts";
import type { Endpoint, Locality } from "./model.ts";
import { weightOf } from "./registry.ts";

/** A pod, as far as traffic goes. */
export interface Workload {
  namespace: string;
  /** Of the pod. */
  name: string;
  labels: Readonly<Record<string, string>>;
  serviceAccount: string;
  addresses: readonly string[];
  hostNetwork: boolean;
  node: string;
  /** Its containers' named ports. */
  ports: Readonly<Record<string, number>>;
  /** As metrics name it. */
  workload: Endpoint["workload"];
}

/** Of a pod, what traffic reads. */
export function slimPod(pod: Pod): Pod {
  const { apiVersion, kind, metadata, spec, status } = pod;
  const { name, namespace, labels, resourceVersion, uid, ownerReferences, deletionTimestamp } = metadata;
  const containers = [...(spec.containers ?? [])].flatMap(({ name, ports }) =>
    ports?.some((port) => port.name) ? [{ name, ports: ports.filter((port) => port.name) }] : [],
  );
  return {
    apiVersion,
    kind,
    metadata: { name, namespace, labels, resourceVersion, uid, ownerReferences, deletionTimestamp },
    spec: {
      serviceAccountName: spec.serviceAccountName,
      nodeName: spec.nodeName,
      hostNetwork: spec.hostNetwork,
      containers,
    },
    status: { podIP: status?.podIP, podIPs: status?.podIPs, phase: status?.phase },
  } as Pod;
}

/** From a pod, slimmed or whole. */
export function workloadOf(pod: Pod, mesh: MeshSettings): Workload {
  const { metadata, spec, status } = pod;
  const namespace = metadata.namespace ?? "";
  const labels = metadata.labels ?? {};
  const ports: Record<string, number> = {};
  for (const container of spec.containers ?? [])
    for (const port of container.ports ?? []) if (port.name) ports[port.name] = port.containerPort;
  return {
    namespace,
    name: metadata.name,
    labels,
    serviceAccount: spec.serviceAccountName ?? "default",
    addresses: status?.podIPs?.flatMap(({ ip }) => ip ?? []) ?? (status?.podIP ? [status.podIP] : []),
    hostNetwork: spec.hostNetwork ?? false,
    node: spec.nodeName ?? "",
    ports,
    workload: {
      name: workloadName(metadata.name, metadata.ownerReferences, labels),
      namespace,
      service: canonicalService(labels) ?? workloadName(metadata.name, metadata.ownerReferences, labels),
      revision: canonicalRevision(labels),
      cluster: mesh.cluster,
    },
  };
}

/** Source: Istio `pkg/model/proxy.go`, canonical service and revision. */
export function canonicalService(labels: Readonly<Record<string, string>>): string | undefined {
  return labels["service.istio.io/canonical-name"] ?? labels["app.kubernetes.io/name"] ?? labels.app;
}

/** Source: as above. */
export function canonicalRevision(labels: Readonly<Record<string, string>>): string {
  return (
    labels["service.istio.io/canonical-revision"] ??
    labels["app.kubernetes.io/version"] ??
    labels.version ??
    "latest"
  );
}

/** Region and zone by the well-known labels. */
export function localityOf(node: Node): Locality {
  const labels = node.metadata.labels ?? {};
  return { region: labels[regionLabel] ?? "", zone: labels[zoneLabel] ?? "" };
}

/** An endpoint of a slice, or an address that a ServiceEntry selects: all that subsets and policies ask about it. */
export interface Instance {
  address: string;
  hostname?: string;
  locality: Locality;
  labels: Readonly<Record<string, string>>;
  weight: number;
  /** Takes its mesh's mTLS; on these ports it is the other way round. */
  meshTls: boolean;
  exceptPorts: readonly number[];
  /** `spiffe://…`; empty where nobody knows. */
  identity: string;
  workload: Endpoint["workload"];
  /** For ServiceEntries: port name → number; others have the slice's. */
  ports?: Readonly<Record<string, number>>;
}

/** One slice, resolved. */
export interface Instances {
  /** As `serviceKey` of the service or import that it belongs to. */
  services: readonly string[];
  ports: readonly { name: string; number: number }[];
  instances: readonly Instance[];
}

/** Whose a slice is, as `serviceKey`: of a Service, and of a ServiceImport where it is a slice of one. */
export function servicesOfSlice(
  slice: EndpointSlice,
  mesh: MeshSettings,
  clusterSetZone: string,
): readonly string[] {
  const { labels, namespace = "" } = slice.metadata;
  const imported = labels?.[mcsServiceNameLabel];
  if (imported) return [`ServiceImport/${namespace}/${imported}.${namespace}.svc.${clusterSetZone}`];
  const service = labels?.[serviceNameLabel];
  return service ? [`Service/${namespace}/${service}.${namespace}.svc.${mesh.clusterDomain}`] : [];
}

/** What one slice's endpoints are; those that do not serve are left out, as Istio does. */
export function instancesOf(
  slice: EndpointSlice,
  services: readonly string[],
  lookUp: {
    pod: (name: string) => Workload | undefined;
    podAt: (address: string) => Workload | undefined;
    locality: (node: string) => Locality | undefined;
    mtls: (workload: Workload) => { meshTls: boolean; exceptPorts: readonly number[] };
    /** The mesh's own. */
    trustDomain: string;
    cluster: string;
  },
): Instances {
  const namespace = slice.metadata.namespace ?? "";
  const cluster = slice.metadata.labels?.[mcsSourceClusterLabel];
  if (cluster && cluster !== lookUp.cluster)
    return { services, ports: portsOf(slice), instances: farInstances(slice, cluster) };
  const unknown = { ...nobody, namespace, cluster: lookUp.cluster };
  const instances: Instance[] = [];
  for (const endpoint of slice.endpoints ?? []) {
    if (endpoint.conditions?.ready === false) continue;
    const address = endpoint.addresses[0];
    if (address === undefined) continue;
    const target = endpoint.targetRef;
    const workload =
      target?.kind === "Pod" && target.name && !cluster
        ? lookUp.pod(`${target.namespace ?? namespace}/${target.name}`)
        : lookUp.podAt(address);
    const node = endpoint.nodeName ?? workload?.node;
    const locality = (node ? lookUp.locality(node) : undefined) ?? { region: "", zone: endpoint.zone ?? "" };
    const { meshTls, exceptPorts } = workload ? lookUp.mtls(workload) : plainText;
    instances.push({
      address,
      hostname: endpoint.hostname || undefined,
      locality,
      labels: workload?.labels ?? noLabels,
      weight: 1,
      meshTls,
      exceptPorts,
      identity: workload ? identityOf(lookUp.trustDomain, workload.namespace, workload.serviceAccount) : "",
      workload: workload?.workload ?? unknown,
    });
  }
  return { services, ports: portsOf(slice), instances };
}

const nobody = { name: "", service: "", revision: "" };
const noLabels = {};
const plainText = { meshTls: false, exceptPorts: [] };

/** `spiffe://…` of a workload. */
export function identityOf(trustDomain: string, namespace: string, serviceAccount: string): string {
  return `spiffe://${trustDomain}/ns/${namespace}/sa/${serviceAccount}`;
}

/**
 * Endpoints of another cluster: what it says of them. Addresses and node names of our own cluster may be the same, so
 * nothing is looked up here. Its mesh's trust domain is believed by its own roots only, whatever is said.
 */
function farInstances(slice: EndpointSlice, cluster: string): Instance[] {
  const namespace = slice.metadata.namespace ?? "";
  const facts = readEndpointFacts(slice);
  return (slice.endpoints ?? []).flatMap((endpoint): Instance[] => {
    const [address] = endpoint.addresses;
    if (endpoint.conditions?.ready === false || address === undefined) return [];
    const { region = "", workload } = facts.get(address) ?? {};
    const labels = workload?.labels ?? {};
    return [
      {
        address,
        ...(endpoint.hostname && { hostname: endpoint.hostname }),
        locality: { region, zone: endpoint.zone ?? "" },
        labels,
        weight: 1,
        meshTls: workload !== undefined && !workload.plainText,
        exceptPorts: workload?.exceptPorts ?? [],
        identity: workload ? identityOf(workload.trustDomain, namespace, workload.serviceAccount) : "",
        workload: workload
          ? {
              name: workload.name,
              namespace,
              service: canonicalService(labels) ?? workload.name,
              revision: canonicalRevision(labels),
              cluster,
            }
          : { ...nobody, namespace, cluster },
      },
    ];
  });
}

function portsOf(slice: EndpointSlice): Instances["ports"] {
  return (slice.ports ?? []).flatMap(({ name, port, protocol }) =>
    port === undefined || protocol === "UDP" ? [] : [{ name: name ?? "", number: port }],
  );
}

/** A pod or a WorkloadEntry that a ServiceEntry selects. */
export function instanceOfEntry(entry: WorkloadEntry): Instance | undefined {
  const { metadata, spec } = entry;
  if (!spec?.address || isIP(spec.address) === 0) return undefined;
  const [region = "", zone = ""] = (spec.locality ?? "").split("/");
  const labels = spec.labels ?? metadata.labels ?? {};
  return {
    address: spec.address,
    locality: { region, zone },
    labels,
    weight: weightOf(spec.weight),
    meshTls: labels[tlsModeLabel] === "istio",
    exceptPorts: [],
    identity: "",
    workload: {
      name: metadata.name,
      namespace: metadata.namespace ?? "",
      service: canonicalService(labels) ?? metadata.name,
      revision: canonicalRevision(labels),
      cluster: "",
    },
    ports: spec.ports ?? {},
  };
}

/** Whether labels have all that a selector asks for; an empty selector takes everything. */
export function selects(
  selector: Readonly<Record<string, string>> | undefined,
  labels: Readonly<Record<string, string>>,
): boolean {
  if (!selector) return true;
  for (const name in selector) if (labels[name] !== selector[name]) return false;
  return true;
}
