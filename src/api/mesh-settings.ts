/**
 * What a ServiceMeshControlPlane says, as one value: `mesh/` makes it, discovery, injection and gateways go by it. It
 * lies in the ConfigMap `weft-mesh-<name>` of the mesh's namespace, as JSON.
 */
import type * as core from "kubernetes-types/core/v1";
import type { ConfigMap } from "./core.ts";
import type { TrustBundle } from "./offer.ts";

export type ProxyImplementation = "embedded" | "envoy";

export interface MeshSettings {
  /** Name of the ServiceMeshControlPlane. */
  name: string;
  /** Where it is; the mesh's root namespace. */
  namespace: string;
  /** The cluster's id in the clusterset. */
  cluster: string;
  trustDomain: string;
  /** Other trust domains whose identities count as ours in policies. */
  trustDomainAliases: string[];
  /** `cluster.local`. */
  clusterDomain: string;
  mtls: {
    /** For workloads that no PeerAuthentication speaks of. */
    mode: "PERMISSIVE" | "STRICT";
    /** Speak mTLS to endpoints that can, where no DestinationRule says otherwise. */
    auto: boolean;
  };
  /** Where no DestinationRule names one. Maistra 1 (Istio 1.4) took round robin, Istio takes least request since 1.14. */
  balancer: "ROUND_ROBIN" | "LEAST_REQUEST";
  /** Hosts that nobody declared: passed through, or refused. */
  outboundPolicy: "ALLOW_ANY" | "REGISTRY_ONLY";
  /** Percent of requests that are traced when nobody decided before. */
  traceSampling: number;
  /** Proxies write an access log to their output. */
  accessLog: boolean;
  /** In Envoy's words; absent: Istio's default format. */
  accessLogFormat?: string;
  /**
   * How many proxies in front of gateways write X-Forwarded-For (Istio's `gatewayTopology.numTrustedProxies`): so many
   * entries from its end a client's address is found. Absent: none, a client is who connects.
   */
  trustedProxies?: number;
  proxy: {
    /** Which proxy runs in sidecars and gateways; pods may choose by annotation. */
    implementation: ProxyImplementation;
    /** Of the proxy's containers, as of discovery and the control plane. */
    image: string;
    resources: core.ResourceRequirements;
    /** Threads of Envoy; 0: one for each CPU. */
    concurrency: number;
  };
  /** `istiod-<name>.<namespace>.svc`: xDS at 15012, webhook and certificates at 15017. */
  discoveryHost: string;
}

/** Ports of discovery's Service, as istiod's. */
export const discoveryPorts = { xds: 15012, webhook: 15017, monitoring: 15014 } as const;

/** ClusterRoles that `weft install` brings and that discoveries are bound to: everywhere, and in their own namespace. */
export const discoveryRole = "weft-discovery";
export const discoveryHomeRole = "weft-discovery-home";

/** `managed-by` of meshes' objects, which the control plane makes: their mark, and the field manager (law 8). */
export const meshManager = "weft-mesh";
/** The same of what a discovery makes. */
export const discoveryManager = "weft-discovery";

/** The Deployment, Service, ServiceAccount of a mesh's discovery. */
export function discoveryName(mesh: string): string {
  return `istiod-${mesh}`;
}

/** Holds the mesh's settings, in its namespace. */
export function meshSettingsName(mesh: string): string {
  return `weft-mesh-${mesh}`;
}

const settingsKey = "settings.json";

/** On the ConfigMap with the settings. */
export const meshLabel = "mesh.weft.dev/mesh";
/** What the objects of a mesh's discovery have as `app.kubernetes.io/component`, besides the mesh's label. */
export const discoveryComponent = "istiod";

export function meshSettingsData(settings: MeshSettings): Record<string, string> {
  return { [settingsKey]: `${JSON.stringify(settings, undefined, 2)}\n` };
}

/**
 * The settings in a ConfigMap that `mesh/` wrote; undefined where it holds none. Only we write it, so it is taken as
 * it is.
 */
export function readMeshSettings(configMap: ConfigMap | undefined): MeshSettings | undefined {
  const text = configMap?.data?.[settingsKey];
  return text === undefined ? undefined : (JSON.parse(text) as MeshSettings);
}

/**
 * ConfigMap with the mesh's roots in PEM (`root-cert.pem`): discovery publishes it in its own namespace, `mesh/` copies
 * it to the members and into the webhook's caBundle. Istio's name, in every pod's volumes.
 */
export const rootCertificateConfigMap = "istio-ca-root-cert";
export const rootCertificateKey = "root-cert.pem";

/**
 * ConfigMap with what peers' TrustBundles say, in the mesh's namespace: the control plane, which hears peers, writes it
 * for discovery, which decides what of it counts.
 */
export const peerTrustConfigMap = "weft-peer-trust";
const peerTrustKey = "trust-bundles.json";

export function peerTrustData(claims: readonly TrustBundle["spec"][]): Record<string, string> {
  return { [peerTrustKey]: `${JSON.stringify(claims, undefined, 2)}\n` };
}

/** Only we write it, so it is taken as it is; undefined where the ConfigMap is another. */
export function readPeerTrust(configMap: ConfigMap): TrustBundle["spec"][] | undefined {
  const text = configMap.metadata.name === peerTrustConfigMap ? configMap.data?.[peerTrustKey] : undefined;
  return text === undefined ? undefined : (JSON.parse(text) as TrustBundle["spec"][]);
}

/** On namespaces: the namespace of the mesh that they are members of (Maistra's label). */
export const memberOfLabel = "maistra.io/member-of";

/** On pods, as Istio has it: endpoints that carry it take the mesh's mTLS when its value is `istio`. */
export const tlsModeLabel = "security.istio.io/tlsMode";
