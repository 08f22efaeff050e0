/**
 * Everything that makes a cluster a member: one source for `weft install`, for the lab and for `--dry-run`.
 * The order is the order in which the objects can be applied.
 */
import {
  type ClusterProperty,
  type ClusterRole,
  type ClusterRoleBinding,
  type CustomResourceDefinition,
  clusterIdProperty,
  clusterProperties,
  clusterRoleBindings,
  clusterRoles,
  customResourceDefinitions,
  type Deployment,
  definitions,
  deployments,
  discoveryHomeRole,
  discoveryRole,
  heartbeatLease,
  hostnameLabel,
  type KubeObject,
  managedByLabel,
  type Namespace,
  namespaces,
  type PolicyRule,
  type ProxyImplementation,
  type Resource,
  type Role,
  type RoleBinding,
  roleBindings,
  roles,
  type Service,
  type ServiceAccount,
  serviceAccounts,
  services,
  systemNamespace,
} from "../api/index.ts";
import { discoveryHomeRules, discoveryRules, meshRole, meshRules } from "./mesh-rules.ts";

/** What `managedByLabel` says on objects that `weft install` and `weft join` write. */
export const installManager = "weft-install";
/** Name of the control plane's Deployment, ServiceAccount and roles. */
export const controlPlane = "weft";
/** Name of the Service that answers for `clusterset.local`. */
export const dnsService = "weft-dns";
/** ClusterRole and Role of peers (law 11). */
export const peerRole = "weft-peer";

/** Where the control plane serves DNS inside its pod: above 1023, so that it needs no right to bind. */
export const dnsPort = 5353;
/** Where the control plane says whether it is ready and alive. */
export const healthPort = 8080;

export interface InstallOptions {
  /** The cluster's id in the clusterset: a DNS label, or two with a dot (KEP-2149). */
  name: string;
  image?: string;
  /** Seconds after which peers withdraw the cluster's endpoints when there is no sign of life; 30 unless told. */
  leaseDuration?: number;
  /** Control planes: one leads and writes, all answer DNS. 1 unless told. */
  replicas?: number;
  /** What runs in sidecars and gateways unless a pod says otherwise; embedded unless told. */
  proxy?: ProxyImplementation;
  /** Tells CoreDNS where `clusterset.local` is, by a block in its Corefile. */
  patchCoreDns?: boolean;
}

/**
 * Counts up with every change of a definition below `api/crds/`, so that an older Weft leaves a newer one's
 * definitions alone. A test holds the two together.
 */
export const definitionRevision = 7;
export const revisionAnnotation = "weft.dev/definition-revision";

/**
 * What upstream says of its definitions (mcs-api `config/crd/embed.go`), and others who install them compare, so that
 * nobody takes them back: the release whose schema it is, and counting up within it. Ours have that of this release.
 */
export const mcsReleaseLabel = "multicluster.x-k8s.io/release-version";
export const mcsRevisionLabel = "multicluster.x-k8s.io/crd-schema-revision";
export const mcsLabels = { [mcsReleaseLabel]: "v0.5.2", [mcsRevisionLabel]: "0" };

export const defaultImage = "weft/control-plane:0.1.0";

/** An object to apply, with its kind's URL. */
export interface Manifest<T extends KubeObject = KubeObject> {
  resource: Resource<T>;
  object: T;
}

export const labels = { "app.kubernetes.io/name": controlPlane, [managedByLabel]: installManager };
const read = ["get", "list", "watch"];
const own = [...read, "create", "update", "patch", "delete"];

const offerKinds = ["serviceoffers", "endpointoffers", "peerreports"];
/** What peers read: all of the group. */
const offeredKinds = [...offerKinds, "trustbundles"];

/** What the control plane may do in the whole cluster. */
export const clusterRules: PolicyRule[] = [
  { apiGroups: [""], resources: ["namespaces", "nodes"], verbs: read },
  { apiGroups: [""], resources: ["services"], verbs: own },
  { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: own },
  { apiGroups: ["multicluster.x-k8s.io"], resources: ["serviceexports"], verbs: read },
  { apiGroups: ["multicluster.x-k8s.io"], resources: ["serviceimports"], verbs: own },
  {
    apiGroups: ["multicluster.x-k8s.io"],
    resources: ["serviceexports/status", "serviceimports/status"],
    verbs: ["get", "update", "patch"],
  },
  // Owner references that block deletion need this where OwnerReferencesPermissionEnforcement is on.
  {
    apiGroups: ["multicluster.x-k8s.io"],
    resources: ["serviceexports/finalizers", "serviceimports/finalizers"],
    verbs: ["update"],
  },
  { apiGroups: ["offer.weft.dev"], resources: offerKinds, verbs: own },
  { apiGroups: ["offer.weft.dev"], resources: ["peerreports/status"], verbs: ["get", "update", "patch"] },
  { apiGroups: ["about.k8s.io"], resources: ["clusterproperties"], verbs: read },
  { apiGroups: ["", "events.k8s.io"], resources: ["events"], verbs: ["create", "patch"] },
];

/** What it may do in `weft-system` besides. */
export const systemRules: PolicyRule[] = [
  // The peers' credentials; update, to renew their tokens.
  { apiGroups: [""], resources: ["secrets"], verbs: [...read, "update", "patch"] },
  {
    apiGroups: ["coordination.k8s.io"],
    resources: ["leases"],
    verbs: [...read, "create", "update", "patch"],
  },
];

/** What a peer may do in the whole cluster: read offers, nothing else (law 11). */
const peerClusterRules: PolicyRule[] = [
  { apiGroups: ["offer.weft.dev"], resources: offeredKinds, verbs: read },
];

/** What a peer may do in `weft-system`: read the one Lease. Listing it takes the field selector metadata.name. */
const peerSystemRules: PolicyRule[] = [
  {
    apiGroups: ["coordination.k8s.io"],
    resources: ["leases"],
    resourceNames: [heartbeatLease],
    verbs: read,
  },
];

export function systemNamespaceManifest(): Manifest<Namespace> {
  return {
    resource: namespaces,
    object: { apiVersion: "v1", kind: "Namespace", metadata: { name: systemNamespace, labels } },
  };
}

export function definitionManifests(): Manifest<CustomResourceDefinition>[] {
  return definitions().map((definition) => {
    const { metadata } = definition;
    const annotations = { ...metadata.annotations, [revisionAnnotation]: String(definitionRevision) };
    const upstream = definition.spec.group === "multicluster.x-k8s.io" ? mcsLabels : {};
    const object = {
      ...definition,
      metadata: { ...metadata, labels: { ...labels, ...upstream }, annotations },
    };
    return { resource: customResourceDefinitions, object };
  });
}

export function clusterPropertyManifest(name: string): Manifest<ClusterProperty> {
  return {
    resource: clusterProperties,
    object: {
      apiVersion: "about.k8s.io/v1beta1",
      kind: "ClusterProperty",
      metadata: { name: clusterIdProperty, labels },
      spec: { value: name },
    },
  };
}

/** Who the control plane is and what it and its peers may do. */
export function accessManifests(): Manifest[] {
  const account: ServiceAccount = {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: { name: controlPlane, namespace: systemNamespace, labels },
  };
  return [
    { resource: serviceAccounts, object: account },
    { resource: clusterRoles, object: clusterRole(controlPlane, clusterRules) },
    { resource: clusterRoles, object: clusterRole(meshRole, meshRules) },
    { resource: clusterRoles, object: clusterRole(discoveryRole, discoveryRules) },
    { resource: clusterRoles, object: clusterRole(discoveryHomeRole, discoveryHomeRules) },
    { resource: roles, object: role(controlPlane, systemRules) },
    { resource: clusterRoleBindings, object: clusterRoleBinding(meshRole, meshRole, controlPlane) },
    { resource: clusterRoleBindings, object: clusterRoleBinding(controlPlane, controlPlane, controlPlane) },
    { resource: roleBindings, object: roleBinding(controlPlane, controlPlane, controlPlane) },
    { resource: clusterRoles, object: clusterRole(peerRole, peerClusterRules) },
    { resource: roles, object: role(peerRole, peerSystemRules) },
  ];
}

export function dnsServiceManifest(): Manifest<Service> {
  const port = (protocol: "UDP" | "TCP") => ({
    name: `dns-${protocol.toLowerCase()}`,
    protocol,
    port: 53,
    targetPort: `dns-${protocol.toLowerCase()}`,
  });
  return {
    resource: services,
    object: {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: dnsService, namespace: systemNamespace, labels },
      spec: { selector: { app: controlPlane }, ports: [port("UDP"), port("TCP")] },
    },
  };
}

export function deploymentManifest(options: InstallOptions): Manifest<Deployment> {
  const app = { app: controlPlane };
  const field = (fieldPath: string) => ({ valueFrom: { fieldRef: { fieldPath } } });
  const probe = (path: string) => ({ httpGet: { path, port: "health" } });
  const { replicas = 1 } = options;
  return {
    resource: deployments,
    object: {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: controlPlane, namespace: systemNamespace, labels },
      spec: {
        replicas,
        selector: { matchLabels: app },
        // The new control plane settles while the old one still answers DNS.
        strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
        template: {
          metadata: { labels: { ...app, ...labels } },
          spec: {
            serviceAccountName: controlPlane,
            ...(replicas > 1 && { topologySpreadConstraints: [spread] }),
            containers: [
              {
                name: controlPlane,
                image: options.image ?? defaultImage,
                ...(options.leaseDuration && { args: [`--lease-duration=${options.leaseDuration}`] }),
                imagePullPolicy: "IfNotPresent",
                env: [
                  { name: "POD_NAME", ...field("metadata.name") },
                  { name: "POD_NAMESPACE", ...field("metadata.namespace") },
                  { name: "POD_IP", ...field("status.podIP") },
                  { name: "NODE_NAME", ...field("spec.nodeName") },
                  // What meshes run: the same image, and which proxy.
                  { name: "WEFT_IMAGE", value: options.image ?? defaultImage },
                  { name: "WEFT_PROXY", value: options.proxy ?? "embedded" },
                ],
                ports: [
                  { name: "dns-udp", containerPort: dnsPort, protocol: "UDP" },
                  { name: "dns-tcp", containerPort: dnsPort, protocol: "TCP" },
                  { name: "health", containerPort: healthPort, protocol: "TCP" },
                ],
                readinessProbe: { ...probe("/readyz"), periodSeconds: 1, failureThreshold: 3 },
                livenessProbe: { ...probe("/livez"), periodSeconds: 10, failureThreshold: 6 },
                resources: { requests: { cpu: "50m", memory: "96Mi" } },
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
    },
  };
}

/** Several control planes on several nodes, where there are several. */
const spread = {
  maxSkew: 1,
  topologyKey: hostnameLabel,
  whenUnsatisfiable: "ScheduleAnyway" as const,
  labelSelector: { matchLabels: { app: controlPlane } },
};

/** All of it but what depends on addresses that the cluster allocates. */
export function manifests(options: InstallOptions): Manifest[] {
  return [
    systemNamespaceManifest(),
    ...definitionManifests(),
    ...accessManifests(),
    dnsServiceManifest(),
    clusterPropertyManifest(options.name),
    deploymentManifest(options),
  ];
}

function clusterRole(name: string, rules: PolicyRule[]): ClusterRole {
  return { ...kind("ClusterRole"), metadata: { name, labels }, rules };
}

export function role(name: string, rules: PolicyRule[]): Role {
  return { ...kind("Role"), metadata: { name, namespace: systemNamespace, labels }, rules };
}

export function clusterRoleBinding(name: string, roleName: string, account: string): ClusterRoleBinding {
  return {
    ...kind("ClusterRoleBinding"),
    metadata: { name, labels },
    ...binding("ClusterRole", roleName, account),
  };
}

export function roleBinding(name: string, roleName: string, account: string): RoleBinding {
  return {
    ...kind("RoleBinding"),
    metadata: { name, namespace: systemNamespace, labels },
    ...binding("Role", roleName, account),
  };
}

function kind(kind: string) {
  return { apiVersion: "rbac.authorization.k8s.io/v1", kind };
}

function binding(roleKind: "Role" | "ClusterRole", name: string, account: string) {
  return {
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: roleKind, name },
    subjects: [{ kind: "ServiceAccount", name: account, namespace: systemNamespace }],
  };
}
