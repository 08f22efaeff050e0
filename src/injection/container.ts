/**
 * The proxy's container and its volumes: one template, for sidecars (`inject`) and for gateways (`mesh/`, which is
 * handed it by `control.ts`). What it needs to know it finds in its environment and in its volumes; the agent in it
 * (`weft proxy sidecar|gateway`) reads them.
 */
import {
  type Container,
  discoveryPorts,
  type MeshSettings,
  type Probe,
  rootCertificateConfigMap,
  type Volume,
} from "../api/index.ts";
import { paths, ports, proxyContainerName, proxyUid } from "./names.ts";

export type Resources = NonNullable<Container["resources"]>;
export type EnvVar = NonNullable<Container["env"]>[number];

export interface ProxyContainerOptions {
  role: "sidecar" | "gateway";
  mesh: MeshSettings;
  /** The workload that the pod is of, for metrics: `catalog-v1`, `kubernetes://apis/apps/v1/namespaces/coolapp/deployments/catalog-v1`. */
  workload: { name: string; owner?: string };
  /** The pod's labels, as far as they are known. */
  labels?: Readonly<Record<string, string>>;
  /** Those of the mesh unless told. */
  implementation?: MeshSettings["proxy"]["implementation"];
  resources?: Resources;
  concurrency?: number;
  /** Besides the proxy's own: a gateway's. */
  ports?: NonNullable<Container["ports"]>;
  /** Besides what every proxy gets; wins over it. */
  env?: readonly EnvVar[];
  /** Seconds from SIGTERM: how long it goes on at least, and how long it waits for connections to end. */
  drain?: { least: number; most: number };
}

/** Kubernetes' terminationGracePeriodSeconds where a pod says none. */
export const defaultGrace = 30;
/** How long others may still call a pod that goes, seconds (Istio: `MINIMUM_DRAIN_DURATION`). */
const leastDrain = 5;
/** What is left of the grace for the end of the process itself, seconds. */
const lastMoments = 3;

/** The drain of a proxy that is told to end at the same time as others hear of it. */
export function usualDrain(grace = defaultGrace): { least: number; most: number } {
  const most = Math.max(grace - lastMoments, 1);
  return { least: Math.min(leastDrain, most), most };
}

/** The container `istio-proxy`. */
export function proxyContainer(options: ProxyContainerOptions): Container {
  const { role, mesh } = options;
  return {
    name: proxyContainerName,
    image: mesh.proxy.image,
    imagePullPolicy: "IfNotPresent",
    args: ["proxy", role],
    env: environment(options),
    ports: [
      ...(options.ports ?? []),
      { containerPort: ports.metrics, name: "http-envoy-prom", protocol: "TCP" },
    ],
    readinessProbe: readiness({ initialDelaySeconds: role === "gateway" ? 1 : 0 }),
    resources: options.resources ?? mesh.proxy.resources,
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ["ALL"] },
      privileged: false,
      readOnlyRootFilesystem: true,
      runAsGroup: proxyUid,
      runAsNonRoot: true,
      runAsUser: proxyUid,
      seccompProfile: { type: "RuntimeDefault" },
    },
    volumeMounts: [
      { name: "istio-envoy", mountPath: paths.proxy },
      { name: "istio-token", mountPath: paths.tokens },
      { name: "istiod-ca-cert", mountPath: paths.roots },
      { name: "istio-podinfo", mountPath: paths.pod },
    ],
  };
}

/** Asks whether the proxy has its certificate and its whole configuration. */
export function readiness(timing: Partial<Probe>): Probe {
  return {
    httpGet: { path: "/healthz/ready", port: ports.health, scheme: "HTTP" },
    periodSeconds: 1,
    timeoutSeconds: 3,
    // A busy machine is no reason to leave the endpoints.
    failureThreshold: 10,
    ...timing,
  };
}

/** The volumes that `proxyContainer` mounts. */
export function proxyVolumes(): Volume[] {
  const field = (path: string) => ({ path, fieldRef: { fieldPath: `metadata.${path}` } });
  return [
    { name: "istio-envoy", emptyDir: { medium: "Memory" } },
    { name: "istio-podinfo", downwardAPI: { items: [field("labels"), field("annotations")] } },
    {
      name: "istio-token",
      projected: {
        sources: [
          { serviceAccountToken: { audience: "istio-ca", expirationSeconds: 43_200, path: "istio-token" } },
        ],
      },
    },
    // Not optional: a pod waits until its mesh's roots are there.
    { name: "istiod-ca-cert", configMap: { name: rootCertificateConfigMap } },
  ];
}

/** Names of the variables are Istio's where Istio has one. */
function environment(options: ProxyContainerOptions): EnvVar[] {
  const { mesh, workload, role, drain = usualDrain() } = options;
  const from = (name: string, fieldPath: string) => ({ name, valueFrom: { fieldRef: { fieldPath } } });
  const all: EnvVar[] = [
    from("POD_NAME", "metadata.name"),
    from("POD_NAMESPACE", "metadata.namespace"),
    from("INSTANCE_IP", "status.podIP"),
    from("SERVICE_ACCOUNT", "spec.serviceAccountName"),
    from("HOST_IP", "status.hostIP"),
    from("NODE_NAME", "spec.nodeName"),
    { name: "DISCOVERY_ADDRESS", value: `${mesh.discoveryHost}:${discoveryPorts.xds}` },
    { name: "CA_ADDR", value: `${mesh.discoveryHost}:${discoveryPorts.webhook}` },
    { name: "TRUST_DOMAIN", value: mesh.trustDomain },
    { name: "CLUSTER_DOMAIN", value: mesh.clusterDomain },
    { name: "PROXY_IMPLEMENTATION", value: options.implementation ?? mesh.proxy.implementation },
    { name: "PROXY_CONCURRENCY", value: String(options.concurrency ?? mesh.proxy.concurrency) },
    { name: "MINIMUM_DRAIN_DURATION", value: `${drain.least}s` },
    { name: "TERMINATION_DRAIN_DURATION_SECONDS", value: String(drain.most) },
    from("ISTIO_META_POD_NAME", "metadata.name"),
    from("ISTIO_META_CONFIG_NAMESPACE", "metadata.namespace"),
    from("ISTIO_META_NODE_NAME", "spec.nodeName"),
    { name: "ISTIO_META_INTERCEPTION_MODE", value: role === "sidecar" ? "REDIRECT" : "NONE" },
    { name: "ISTIO_META_CLUSTER_ID", value: mesh.cluster },
    { name: "ISTIO_META_MESH_ID", value: `${mesh.namespace}/${mesh.name}` },
    { name: "ISTIO_META_WORKLOAD_NAME", value: workload.name },
    ...(workload.owner ? [{ name: "ISTIO_META_OWNER", value: workload.owner }] : []),
    { name: "ISTIO_METAJSON_LABELS", value: JSON.stringify(options.labels ?? {}) },
  ];
  const given = new Map((options.env ?? []).map((each) => [each.name, each]));
  return [...all.filter(({ name }) => !given.has(name)), ...given.values()];
}
