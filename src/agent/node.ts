/** How a proxy introduces itself to discovery: the xDS node, as Istio's agent writes it. */
import type { Settings } from "./environment.ts";

/** What discovery reads of it; names are Istio's (istio `pkg/model/proxy.go`, NodeMetadata). */
export interface Node {
  /** `sidecar~10.10.0.7~catalog-v1-x.coolapp~coolapp.svc.cluster.local`; gateways are `router~…`. */
  id: string;
  cluster: string;
  metadata: Readonly<Record<string, unknown>>;
  locality: { region: string; zone: string; subZone: string };
}

/** The version of Istio whose node metadata and names we speak. */
const istioVersion = "1.28.0";

export function nodeOf(settings: Settings): Node {
  const { role, pod, labels, clusterDomain } = settings;
  const type = role === "sidecar" ? "sidecar" : "router";
  const { METAJSON: _, ...own } = settings.metadata as Record<string, unknown>;
  const service = labels["service.istio.io/canonical-name"] ?? labels.app ?? pod.name;
  const workload = typeof own.WORKLOAD_NAME === "string" ? own.WORKLOAD_NAME : workloadName(pod.name);
  return {
    id: [type, pod.address, `${pod.name}.${pod.namespace}`, `${pod.namespace}.svc.${clusterDomain}`].join(
      "~",
    ),
    cluster: `${service}.${pod.namespace}`,
    metadata: {
      ...own,
      NAME: pod.name,
      NAMESPACE: pod.namespace,
      INSTANCE_IPS: pod.address,
      LABELS: { ...labels },
      ANNOTATIONS: { ...settings.annotations },
      SERVICE_ACCOUNT: pod.serviceAccount,
      CLUSTER_ID: settings.clusterId,
      MESH_ID: settings.meshId,
      WORKLOAD_NAME: workload,
      ISTIO_VERSION: istioVersion,
      PROXY_IMPLEMENTATION: settings.implementation,
      ...(role === "sidecar" && { INTERCEPTION_MODE: "REDIRECT" }),
    },
    locality: {
      region:
        labels["topology.kubernetes.io/region"] ?? labels["failure-domain.beta.kubernetes.io/region"] ?? "",
      zone: labels["topology.kubernetes.io/zone"] ?? labels["failure-domain.beta.kubernetes.io/zone"] ?? "",
      subZone: labels["topology.istio.io/subzone"] ?? "",
    },
  };
}

/** The Deployment of a pod that its name tells: without the hash of the ReplicaSet and the pod's own letters. */
function workloadName(pod: string): string {
  return pod.replace(/-[a-z0-9]{6,10}-[a-z0-9]{5}$/, "");
}
