/** Labels, annotations and names that mean something to others or to ourselves. */

/** Field manager of everything that the control plane writes (law 8). */
export const fieldManager = "weft";

/** Weft's version: that of package.json. */
export const weftVersion = "0.1.0";

/** The namespace that Weft is installed in. */
export const systemNamespace = "weft-system";

/** On whole objects that are ours: who made them. The value is `fieldManager`. */
export const managedByLabel = "app.kubernetes.io/managed-by";
/** The same on derived Services, whose labels are what the user's tables show: as upstream, none. */
export const managedByAnnotation = "weft.dev/managed-by";

/** On a Secret in `weft-system`: it holds a kubeconfig for the peer that the value names. */
export const peerLabel = "weft.dev/peer";
/** Istio's label for the same purpose; read, never written. */
export const istioPeerLabel = "istio/multiCluster";

/** The Lease in `weft-system` that says a cluster's control plane is alive. */
export const heartbeatLease = "weft-heartbeat";

/** On the heartbeat: the version of the Weft that beats. */
export const versionAnnotation = "weft.dev/version";
/** On the heartbeat: what the cluster calls itself, so that a peer that knows it by another name can tell. */
export const clusterAnnotation = "weft.dev/cluster";

/** The Lease in `weft-system` by which a cluster's control planes agree on the one that writes. */
export const leaderLease = "weft-leader";

/** The ClusterProperty that holds a cluster's id (KEP-2149). */
export const clusterIdProperty = "cluster.clusterset.k8s.io";
/**
 * Whether a text can be a cluster's id: a DNS label, or two with a dot (KEP-1645 "DNS"), and the value of a label,
 * since EndpointSlices say by one whose they are.
 */
export function isClusterId(text: string): boolean {
  const labels = text.split(".");
  return (
    text.length <= 63 &&
    labels.length <= 2 &&
    labels.every((each) => /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(each))
  );
}

/** KEP-1645: on an EndpointSlice, the ServiceImport that it belongs to. */
export const mcsServiceNameLabel = "multicluster.kubernetes.io/service-name";
/** KEP-1645: on an EndpointSlice, the cluster that its endpoints run in. */
export const mcsSourceClusterLabel = "multicluster.kubernetes.io/source-cluster";

/** On an EndpointSlice, the Service that it belongs to. */
export const serviceNameLabel = "kubernetes.io/service-name";
/** On an EndpointSlice, the controller that owns it. */
export const sliceManagedByLabel = "endpointslice.kubernetes.io/managed-by";
/** The value that Weft sets on slices of its own. */
export const sliceManager = "endpointslice-controller.weft.dev";

/** On an imported EndpointSlice: the name of the EndpointOffer that it imports. */
export const offerAnnotation = "weft.dev/offer";
/** On an imported EndpointSlice: who its endpoints are (`readEndpointFacts`). */
export const endpointFactsAnnotation = "weft.dev/endpoints";
/** Of an endpoint or client: its cluster. Subsets and `failoverPriority` may ask for it, as in Istio. */
export const clusterLabel = "topology.istio.io/cluster";

export const regionLabel = "topology.kubernetes.io/region";
export const zoneLabel = "topology.kubernetes.io/zone";
export const hostnameLabel = "kubernetes.io/hostname";

/** The DNS zone of services that span clusters (KEP-1645). */
export const clusterSetZone = "clusterset.local";
