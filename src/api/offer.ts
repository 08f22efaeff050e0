/**
 * offer.weft.dev: everything that one cluster tells another, and the only thing that peers read (law 11).
 */
import type * as core from "kubernetes-types/core/v1";
import { type Condition, type KubeObject, resource } from "./meta.ts";

/** One exported service, as its own cluster describes it. Its name is the service's. */
export interface ServiceOffer extends KubeObject {
  spec: {
    /** The cluster that offers; the reader checks it against whom it reads from. */
    cluster: string;
    type: "ClusterSetIP" | "Headless";
    ports: OfferedPort[];
    ipFamilies?: string[];
    sessionAffinity?: "None" | "ClientIP";
    sessionAffinityConfig?: core.SessionAffinityConfig;
    internalTrafficPolicy?: string;
    trafficDistribution?: string;
    publishNotReadyAddresses?: boolean;
    exportedLabels?: Record<string, string>;
    exportedAnnotations?: Record<string, string>;
    /** creationTimestamp of the ServiceExport: the oldest export wins a conflict (KEP-1645). */
    exportedAt: string;
  };
}

export interface OfferedPort {
  name?: string;
  protocol: "TCP" | "UDP" | "SCTP";
  appProtocol?: string;
  port: number;
}

/** Up to 100 endpoints of one exported service. Mirrors one EndpointSlice of the service. */
export interface EndpointOffer extends KubeObject {
  spec: {
    cluster: string;
    /** Name of the service, in the offer's own namespace. */
    service: string;
    addressType: "IPv4" | "IPv6";
    ports: { name?: string; protocol: "TCP" | "UDP" | "SCTP"; appProtocol?: string; port: number }[];
    endpoints: OfferedEndpoint[];
  };
}

export interface OfferedEndpoint {
  addresses: string[];
  ready: boolean;
  serving: boolean;
  terminating: boolean;
  hostname?: string;
  nodeName?: string;
  region?: string;
  zone?: string;
  /** Who answers, where it is a pod that speaks its mesh's mTLS. */
  workload?: OfferedWorkload;
}

/** What clients in other meshes have to know of a workload: whom to expect, and what subsets select on. */
export interface OfferedWorkload {
  /** The Deployment, StatefulSet … or the pod itself. */
  name: string;
  serviceAccount: string;
  /** Of its mesh: its identity is `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`. */
  trustDomain: string;
  /** Of its labels those that `isOfferedLabel` lets through, and no others (law 11). */
  labels?: Record<string, string>;
  /** It refuses its mesh's mTLS (PeerAuthentication `DISABLE`): it is called in plain text. */
  plainText?: boolean;
  /** Ports of the pod for which that is the other way round. */
  exceptPorts?: number[];
}

/** What this cluster sees of one peer. In `weft-system`, named as the peer. */
export interface PeerReport extends KubeObject {
  spec: {
    /** The cluster that reports. */
    cluster: string;
    peer: string;
  };
  status?: {
    /** `Reachable`: True = Live; Unknown = Stale or Refused (what came from it stands); False = Lost, Renamed (it does not count), SecretInvalid. */
    conditions?: Condition[];
    /** How long the peer may be silent before it is lost: as its Lease says. */
    leaseDurationSeconds?: number;
    /** When the reporter last saw the peer's Lease renewed, by its own clock; said only of a peer that is not Live. */
    lastHeartbeatTime?: string;
    /** The Weft that runs there, as its heartbeat says. */
    version?: string;
  };
}

/** The message of `Reachable` in the report on a peer of which there is nothing else to say. */
export const livePeerMessage = "It is heard, and its control plane beats.";

/** The roots of one mesh, by which other clusters check identities of its trust domain and of no other. */
export interface TrustBundle extends KubeObject {
  spec: {
    cluster: string;
    trustDomain: string;
    /** PEM certificates: the roots that count at this moment, in the order in which they came. */
    certificates: string;
  };
}

export const serviceOffers = resource<ServiceOffer>(
  "offer.weft.dev",
  "v1alpha1",
  "ServiceOffer",
  "serviceoffers",
);
export const endpointOffers = resource<EndpointOffer>(
  "offer.weft.dev",
  "v1alpha1",
  "EndpointOffer",
  "endpointoffers",
);
export const peerReports = resource<PeerReport>("offer.weft.dev", "v1alpha1", "PeerReport", "peerreports");
export const trustBundles = resource<TrustBundle>(
  "offer.weft.dev",
  "v1alpha1",
  "TrustBundle",
  "trustbundles",
);
