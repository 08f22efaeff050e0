/** What the control plane may do for meshes, and what the discovery of a mesh may do. */
import { discoveryHomeRole, discoveryRole, type PolicyRule } from "../api/index.ts";

const read = ["get", "list", "watch"];

/** ClusterRole of the control plane for the meshes that ServiceMeshControlPlanes ask for. */
export const meshRole = "weft-mesh";
const writeOnly = ["create", "patch", "delete"];

/** What the control plane may do for meshes: in namespaces of all names, so in the whole cluster. */
export const meshRules: PolicyRule[] = [
  {
    apiGroups: ["maistra.io"],
    resources: ["servicemeshcontrolplanes", "servicemeshmemberrolls", "servicemeshmembers"],
    verbs: read,
  },
  {
    apiGroups: ["maistra.io"],
    resources: [
      "servicemeshcontrolplanes/status",
      "servicemeshmemberrolls/status",
      "servicemeshmembers/status",
    ],
    verbs: ["patch"],
  },
  // The roll's owner reference; and what OwnerReferencesPermissionEnforcement asks for where it is on.
  { apiGroups: ["maistra.io"], resources: ["servicemeshmemberrolls"], verbs: ["patch"] },
  { apiGroups: ["maistra.io"], resources: ["servicemeshcontrolplanes/finalizers"], verbs: ["update"] },
  // Who is behind exported endpoints: other clusters' meshes are told (law 11), as EndpointOffers.
  { apiGroups: [""], resources: ["pods"], verbs: read },
  { apiGroups: ["offer.weft.dev"], resources: ["trustbundles"], verbs: read },
  { apiGroups: ["security.istio.io"], resources: ["peerauthentications"], verbs: read },
  // The label of members.
  { apiGroups: [""], resources: ["namespaces"], verbs: ["patch"] },
  { apiGroups: [""], resources: ["serviceaccounts", "configmaps"], verbs: [...read, ...writeOnly] },
  { apiGroups: ["apps"], resources: ["deployments"], verbs: [...read, ...writeOnly] },
  {
    apiGroups: ["rbac.authorization.k8s.io"],
    resources: ["rolebindings", "clusterrolebindings"],
    verbs: [...read, ...writeOnly],
  },
  // So the bindings can be to these two only.
  {
    apiGroups: ["rbac.authorization.k8s.io"],
    resources: ["clusterroles"],
    resourceNames: [discoveryRole, discoveryHomeRole],
    verbs: ["bind"],
  },
  {
    apiGroups: ["admissionregistration.k8s.io"],
    resources: ["mutatingwebhookconfigurations"],
    verbs: [...read, ...writeOnly],
  },
  {
    apiGroups: ["gateway.networking.k8s.io"],
    resources: ["gatewayclasses"],
    verbs: [...read, ...writeOnly],
  },
  { apiGroups: ["gateway.networking.k8s.io"], resources: ["gatewayclasses/status"], verbs: ["patch"] },
];

const istioKinds = [
  "virtualservices",
  "destinationrules",
  "gateways",
  "serviceentries",
  "workloadentries",
  "sidecars",
];
const securityKinds = ["peerauthentications", "authorizationpolicies"];
const gatewayKinds = ["gatewayclasses", "gateways", "httproutes", "referencegrants"];
const status = (kinds: readonly string[]) => kinds.map((kind) => `${kind}/status`);

/** What discovery may do in the whole cluster: read what traffic goes by, and say what is wrong with it. */
export const discoveryRules: PolicyRule[] = [
  { apiGroups: [""], resources: ["services", "pods", "nodes", "namespaces"], verbs: read },
  { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: read },
  { apiGroups: ["multicluster.x-k8s.io"], resources: ["serviceimports"], verbs: read },
  { apiGroups: ["networking.istio.io"], resources: istioKinds, verbs: read },
  { apiGroups: ["networking.istio.io"], resources: status(istioKinds), verbs: ["patch"] },
  { apiGroups: ["security.istio.io"], resources: securityKinds, verbs: read },
  { apiGroups: ["security.istio.io"], resources: status(securityKinds), verbs: ["patch"] },
  { apiGroups: ["gateway.networking.k8s.io"], resources: gatewayKinds, verbs: read },
  {
    apiGroups: ["gateway.networking.k8s.io"],
    resources: status(["gatewayclasses", "gateways", "httproutes"]),
    verbs: ["patch"],
  },
  { apiGroups: ["mesh.weft.dev"], resources: ["ratelimits"], verbs: read },
  { apiGroups: ["mesh.weft.dev"], resources: ["ratelimits/status"], verbs: ["patch"] },
  { apiGroups: ["maistra.io"], resources: ["servicemeshcontrolplanes"], verbs: read },
  // Who asks for a certificate, and whether the trust bundles of others are known.
  { apiGroups: ["authentication.k8s.io"], resources: ["tokenreviews"], verbs: ["create"] },
  { apiGroups: ["offer.weft.dev"], resources: ["trustbundles"], verbs: read },
  { apiGroups: ["", "events.k8s.io"], resources: ["events"], verbs: ["create", "patch"] },
];

/** What it may do in its own namespace besides: the authority's Secret, the gateways' credentials, roots, leases. */
export const discoveryHomeRules: PolicyRule[] = [
  { apiGroups: [""], resources: ["secrets"], verbs: [...read, "create", "update", "patch"] },
  { apiGroups: [""], resources: ["configmaps"], verbs: [...read, "create", "update", "patch"] },
  {
    apiGroups: ["coordination.k8s.io"],
    resources: ["leases"],
    verbs: [...read, "create", "update", "patch"],
  },
  { apiGroups: ["offer.weft.dev"], resources: ["trustbundles"], verbs: [...writeOnly, "update"] },
];
