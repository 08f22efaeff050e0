/** What all objects of a mesh have in common, and the objects of its discovery. */
import type { RuleWithOperations } from "kubernetes-types/admissionregistration/v1";
import {
  type ClusterRoleBinding,
  type ConfigMap,
  type Deployment,
  discoveryComponent,
  discoveryHomeRole,
  discoveryName,
  discoveryPorts,
  discoveryRole,
  type MutatingWebhookConfiguration,
  managedByLabel,
  memberOfLabel,
  meshLabel,
  meshManager,
  meshSettingsData,
  meshSettingsName,
  type OwnerReference,
  peerTrustConfigMap,
  peerTrustData,
  type RoleBinding,
  type Service,
  type ServiceAccount,
  type ServiceMeshControlPlane,
  type TrustBundle,
} from "../api/index.ts";
import type { Mesh } from "./spec.ts";

/** What marks meshes' objects as ours (law 8). */
export const meshMark = { labels: { [managedByLabel]: meshManager } };

/** Deleting the control plane takes these along; only for objects in its own namespace. */
export function ownedBy({ kind, metadata }: ServiceMeshControlPlane): OwnerReference[] {
  if (!metadata.uid) return [];
  return [{ apiVersion: "maistra.io/v1", kind, name: metadata.name, uid: metadata.uid }];
}

/** `namespace/name` of the mesh as a label's value. */
export function meshId({ settings }: Mesh): string {
  return `${settings.namespace}.${settings.name}`.slice(0, 63).replace(/[^a-z0-9]+$/, "");
}

export function labelsOf(mesh: Mesh, component: string): Record<string, string> {
  return {
    "app.kubernetes.io/component": component,
    "app.kubernetes.io/part-of": "istio",
    [meshLabel]: meshId(mesh),
  };
}

/** Metadata of an object in the mesh's namespace, that goes with its control plane. */
export function metadataOf(mesh: Mesh, name: string, component: string) {
  return {
    name,
    namespace: mesh.settings.namespace,
    labels: labelsOf(mesh, component),
    ownerReferences: ownedBy(mesh.owner),
  };
}

const component = discoveryComponent;

export function discoveryAccount(mesh: Mesh): ServiceAccount {
  return {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: metadataOf(mesh, discoveryName(mesh.settings.name), component),
  };
}

function subjects({ settings }: Mesh) {
  return [{ kind: "ServiceAccount", name: discoveryName(settings.name), namespace: settings.namespace }];
}

export function discoveryBinding(mesh: Mesh): RoleBinding {
  return {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "RoleBinding",
    metadata: metadataOf(mesh, discoveryName(mesh.settings.name), component),
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: discoveryHomeRole },
    subjects: subjects(mesh),
  };
}

/** Cluster-wide, so the mesh's namespace is in its name. */
export function discoveryClusterBinding(mesh: Mesh): ClusterRoleBinding {
  const { name, namespace } = mesh.settings;
  return {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRoleBinding",
    metadata: { name: `weft-discovery-${namespace}-${name}`, labels: labelsOf(mesh, component) },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: discoveryRole },
    subjects: subjects(mesh),
  };
}

export function discoveryService(mesh: Mesh): Service {
  const port = (name: string, port: number, appProtocol?: string) => ({
    name,
    port,
    targetPort: port,
    protocol: "TCP" as const,
    ...(appProtocol && { appProtocol }),
  });
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: metadataOf(mesh, discoveryName(mesh.settings.name), component),
    spec: {
      type: "ClusterIP",
      selector: discoverySelector(mesh),
      ports: [
        port("grpc-xds", discoveryPorts.xds),
        port("https-webhook", discoveryPorts.webhook),
        port("http-monitoring", discoveryPorts.monitoring),
      ],
    },
  };
}

function discoverySelector({ settings }: Mesh): Record<string, string> {
  return { app: "istiod", "istio.io/rev": settings.name };
}

/** How much memory its process may keep, and gives back. */
export const discoveryEnvironment = {
  // Twice the young heap that our image gives others: less of what is short-lived grows old, which saves a twentieth
  // of the CPU where changes are many.
  NODE_OPTIONS: "--max-semi-space-size=4 --v8-pool-size=1",
  // What a hundred proxies are sent at once is given back to the machine afterwards (glibc, mallopt(3)).
  MALLOC_ARENA_MAX: "2",
  MALLOC_MMAP_THRESHOLD_: "65536",
  MALLOC_TRIM_THRESHOLD_: "131072",
};

export function discoveryDeployment(mesh: Mesh): Deployment {
  const { settings, discovery } = mesh;
  const field = (name: string, fieldPath: string) => ({ name, valueFrom: { fieldRef: { fieldPath } } });
  const name = discoveryName(settings.name);
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: metadataOf(mesh, name, component),
    spec: {
      replicas: discovery.replicas,
      selector: { matchLabels: discoverySelector(mesh) },
      // A new discovery has everything before the old one goes: proxies change over, none waits.
      strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
      template: {
        metadata: {
          labels: { ...discoverySelector(mesh), ...labelsOf(mesh, component), istio: "pilot" },
          // Another one is another authority, which begins with the process.
          annotations: { "mesh.weft.dev/trust-domain": settings.trustDomain },
        },
        spec: {
          serviceAccountName: name,
          containers: [
            {
              name: "discovery",
              image: settings.proxy.image,
              imagePullPolicy: "IfNotPresent",
              args: ["discovery", `--mesh=${settings.namespace}/${settings.name}`],
              env: [
                field("POD_NAME", "metadata.name"),
                field("POD_NAMESPACE", "metadata.namespace"),
                field("POD_IP", "status.podIP"),
                ...Object.entries(discoveryEnvironment).map(([name, value]) => ({ name, value })),
              ],
              ports: [
                { name: "grpc-xds", containerPort: discoveryPorts.xds, protocol: "TCP" },
                { name: "https-webhook", containerPort: discoveryPorts.webhook, protocol: "TCP" },
                { name: "http-monitoring", containerPort: discoveryPorts.monitoring, protocol: "TCP" },
              ],
              readinessProbe: {
                httpGet: { path: "/ready", port: "http-monitoring" },
                periodSeconds: 1,
                failureThreshold: 3,
              },
              resources: discovery.resources,
              securityContext: {
                allowPrivilegeEscalation: false,
                readOnlyRootFilesystem: true,
                runAsNonRoot: true, // the image's user is a number
                capabilities: { drop: ["ALL"] },
                seccompProfile: { type: "RuntimeDefault" },
              },
            },
          ],
        },
      },
    },
  };
}

export function settingsConfigMap(mesh: Mesh): ConfigMap {
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: metadataOf(mesh, meshSettingsName(mesh.settings.name), component),
    data: meshSettingsData(mesh.settings),
  };
}

export function peerTrustFor(mesh: Mesh, claims: readonly TrustBundle["spec"][]): ConfigMap {
  const inOrder = [...claims].sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: metadataOf(mesh, peerTrustConfigMap, component),
    data: peerTrustData(inOrder),
  };
}

/** Name of the webhook configuration of a mesh: cluster-wide, so the mesh's namespace is in it. */
export function injectionName({ settings }: Mesh): string {
  return `weft-injection-${settings.namespace}-${settings.name}`;
}

/** The published type leaves the inlined rule out. */
const newPods: RuleWithOperations & Record<string, unknown> = {
  operations: ["CREATE"],
  apiGroups: [""],
  apiVersions: ["v1"],
  resources: ["pods"],
  scope: "Namespaced",
};

/** Sidecars are asked for: pods that say nothing are not shown to discovery, and so never wait for it. */
const asks = ["labels", "annotations"]
  .map((where) => `has(object.metadata.${where}) && 'sidecar.istio.io/inject' in object.metadata.${where}`)
  .map((one) => `(${one})`)
  .join(" || ");

/**
 * Members' new pods that ask for a sidecar are shown to discovery. Nothing fails open: while it is away, they are not
 * made.
 */
export function injectionConfig(mesh: Mesh, caBundle: string): MutatingWebhookConfiguration {
  const { name, namespace } = mesh.settings;
  return {
    apiVersion: "admissionregistration.k8s.io/v1",
    kind: "MutatingWebhookConfiguration",
    metadata: { name: injectionName(mesh), labels: labelsOf(mesh, component) },
    webhooks: [
      {
        name: "sidecar-injector.mesh.weft.dev",
        clientConfig: {
          service: {
            name: discoveryName(name),
            namespace,
            path: "/inject",
            port: discoveryPorts.webhook,
          },
          caBundle,
        },
        rules: [newPods],
        namespaceSelector: { matchLabels: { [memberOfLabel]: namespace } },
        objectSelector: {
          matchExpressions: [{ key: "sidecar.istio.io/inject", operator: "NotIn", values: ["false"] }],
        },
        matchConditions: [{ name: "asks-for-a-sidecar", expression: asks }],
        matchPolicy: "Equivalent",
        failurePolicy: "Fail",
        reinvocationPolicy: "Never",
        sideEffects: "None",
        timeoutSeconds: 10,
        admissionReviewVersions: ["v1"],
      },
    ],
  };
}
