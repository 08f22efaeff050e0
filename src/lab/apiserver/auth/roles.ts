/**
 * The roles and bindings that every cluster has. Source: Kubernetes
 * `plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go`, reduced to what the lab serves.
 */
import type { PolicyRule } from "../../../api/index.ts";
import type { ApiObject } from "../object.ts";

const apiVersion = "rbac.authorization.k8s.io/v1";
const labels = { "kubernetes.io/bootstrapping": "rbac-defaults" };
const annotations = { "rbac.authorization.kubernetes.io/autoupdate": "true" };

const read = ["get", "list", "watch"];
const change = ["create", "delete", "deletecollection", "patch", "update"];
const readWrite = [...change, ...read];

const rule = (
  apiGroup: string,
  resources: string[],
  verbs: string[],
  resourceNames?: string[],
): PolicyRule => ({
  apiGroups: [apiGroup],
  resources,
  verbs,
  ...(resourceNames && { resourceNames }),
});
const paths = (...nonResourceURLs: string[]): PolicyRule => ({ nonResourceURLs, verbs: ["get"] });

const coreEdited = [
  "configmaps",
  "events",
  "persistentvolumeclaims",
  "pods",
  "replicationcontrollers",
  "services",
];
const coreSeen = [
  ...coreEdited,
  "endpoints",
  "limitranges",
  "namespaces",
  "namespaces/status",
  "persistentvolumeclaims/status",
  "pods/log",
  "pods/status",
  "resourcequotas",
  "resourcequotas/status",
  "serviceaccounts",
  "services/status",
];
const workloads = [
  "daemonsets",
  "deployments",
  "deployments/scale",
  "replicasets",
  "replicasets/scale",
  "statefulsets",
  "statefulsets/scale",
];
const workloadStatus = [
  "controllerrevisions",
  "daemonsets/status",
  "deployments/status",
  "replicasets/status",
  "statefulsets/status",
];

const viewRules: PolicyRule[] = [
  rule("", coreSeen, read),
  rule("discovery.k8s.io", ["endpointslices"], read),
  rule("apps", [...workloads, ...workloadStatus], read),
  rule("batch", ["cronjobs", "cronjobs/status", "jobs", "jobs/status"], read),
  rule("policy", ["poddisruptionbudgets", "poddisruptionbudgets/status"], read),
  rule("networking.k8s.io", ["ingresses", "ingresses/status", "networkpolicies"], read),
];
const editRules: PolicyRule[] = [
  rule("", ["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"], read),
  rule("", ["serviceaccounts"], ["impersonate"]),
  rule("", ["pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"], change),
  rule("", ["pods/eviction"], ["create"]),
  rule("", [...coreEdited, "secrets", "serviceaccounts", "services/proxy"], change),
  rule("", ["serviceaccounts/token"], ["create"]),
  rule("apps", workloads, change),
  rule("batch", ["cronjobs", "jobs"], change),
  rule("policy", ["poddisruptionbudgets"], change),
  rule("networking.k8s.io", ["ingresses", "networkpolicies"], change),
  rule("coordination.k8s.io", ["leases"], readWrite),
];
const adminRules: PolicyRule[] = [
  rule("authorization.k8s.io", ["localsubjectaccessreviews"], ["create"]),
  rule("rbac.authorization.k8s.io", ["rolebindings", "roles"], readWrite),
];

const leaderElection: PolicyRule = rule(
  "coordination.k8s.io",
  ["leases"],
  ["create", "get", "list", "patch", "update", "watch"],
);
const writeEvents: PolicyRule[] = ["", "events.k8s.io"].map((group) =>
  rule(group, ["events"], ["create", "patch", "update"]),
);

interface RoleRow {
  name: string;
  rules?: PolicyRule[];
  /** Joins the rules of roles with these labels. */
  aggregates?: string[];
  /** Is joined into these roles. */
  into?: string[];
  /** Who has the role: `Group NAME` or `User NAME`. */
  bound?: string[];
}

const rows: RoleRow[] = [
  {
    name: "cluster-admin",
    rules: [
      { apiGroups: ["*"], resources: ["*"], verbs: ["*"] },
      { nonResourceURLs: ["*"], verbs: ["*"] },
    ],
    bound: ["Group system:masters"],
  },
  { name: "admin", aggregates: ["admin"] },
  { name: "edit", aggregates: ["edit"], into: ["admin"] },
  { name: "view", aggregates: ["view"], into: ["edit"] },
  { name: "system:aggregate-to-admin", rules: adminRules, into: ["admin"] },
  { name: "system:aggregate-to-edit", rules: editRules, into: ["edit"] },
  { name: "system:aggregate-to-view", rules: viewRules, into: ["view"] },
  {
    name: "system:discovery",
    rules: [
      paths(
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/healthz",
        "/livez",
        "/openapi",
        "/openapi/*",
        "/readyz",
        "/version",
        "/version/",
      ),
    ],
    bound: ["Group system:authenticated"],
  },
  {
    name: "system:basic-user",
    rules: [
      rule("authorization.k8s.io", ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], ["create"]),
      rule("authentication.k8s.io", ["selfsubjectreviews"], ["create"]),
    ],
    bound: ["Group system:authenticated"],
  },
  {
    name: "system:public-info-viewer",
    rules: [paths("/healthz", "/livez", "/readyz", "/version", "/version/")],
    bound: ["Group system:authenticated", "Group system:unauthenticated"],
  },
  {
    name: "system:service-account-issuer-discovery",
    rules: [
      paths(
        "/.well-known/openid-configuration",
        "/.well-known/openid-configuration/",
        "/openid/v1/jwks",
        "/openid/v1/jwks/",
      ),
    ],
    bound: ["Group system:serviceaccounts"],
  },
  {
    name: "system:auth-delegator",
    rules: [
      rule("authentication.k8s.io", ["tokenreviews"], ["create"]),
      rule("authorization.k8s.io", ["subjectaccessreviews"], ["create"]),
    ],
  },
  {
    // A real cluster limits each node to what is its own (the Node authorizer); here nodes may do this for all.
    name: "system:node",
    rules: [
      rule("authentication.k8s.io", ["tokenreviews"], ["create"]),
      rule("authorization.k8s.io", ["localsubjectaccessreviews", "subjectaccessreviews"], ["create"]),
      rule("", ["services", "endpoints", "namespaces", "serviceaccounts", "configmaps", "secrets"], read),
      rule("", ["nodes"], ["create", "get", "list", "watch", "patch", "update", "delete"]),
      rule("", ["nodes/status"], ["patch", "update"]),
      rule("", ["pods"], ["create", "get", "list", "watch", "delete"]),
      rule("", ["pods/status"], ["patch", "update"]),
      rule("", ["pods/eviction", "serviceaccounts/token"], ["create"]),
      rule("", ["persistentvolumeclaims", "persistentvolumes"], read),
      rule("discovery.k8s.io", ["endpointslices"], read),
      rule("coordination.k8s.io", ["leases"], ["create", "get", "patch", "update", "delete"]),
      ...writeEvents,
    ],
    bound: ["Group system:nodes"],
  },
  {
    name: "system:node-proxier",
    rules: [
      rule("", ["endpoints", "services", "nodes"], ["get", "list", "watch"]),
      rule("discovery.k8s.io", ["endpointslices"], ["list", "watch"]),
      ...writeEvents,
    ],
    bound: ["User system:kube-proxy"],
  },
  {
    name: "system:kube-dns",
    rules: [rule("", ["endpoints", "services"], ["list", "watch"])],
  },
  {
    // One identity for all controllers of the lab; real ones have a ServiceAccount each.
    name: "system:kube-controller-manager",
    rules: [{ apiGroups: ["*"], resources: ["*"], verbs: ["*"] }, leaderElection, ...writeEvents],
    bound: ["User system:kube-controller-manager"],
  },
  {
    name: "system:kube-scheduler",
    rules: [
      leaderElection,
      ...writeEvents,
      rule("", ["nodes", "namespaces", "persistentvolumeclaims", "persistentvolumes"], read),
      rule("", ["pods"], ["get", "list", "watch", "delete"]),
      rule("", ["bindings", "pods/binding"], ["create"]),
      rule("", ["pods/status"], ["patch", "update"]),
      rule("apps", ["replicasets", "statefulsets"], read),
      rule("policy", ["poddisruptionbudgets"], read),
      rule("authentication.k8s.io", ["tokenreviews"], ["create"]),
      rule("authorization.k8s.io", ["subjectaccessreviews"], ["create"]),
    ],
    bound: ["User system:kube-scheduler"],
  },
];

/** The ClusterRoles and ClusterRoleBindings of a new cluster. */
export function bootstrapRoles(): { roles: ApiObject[]; bindings: ApiObject[] } {
  const aggregationLabel = (role: string) => `rbac.authorization.k8s.io/aggregate-to-${role}`;
  const roles = rows.map(({ name, rules, aggregates, into }): ApiObject => {
    const joined = Object.fromEntries((into ?? []).map((role) => [aggregationLabel(role), "true"]));
    return {
      apiVersion,
      kind: "ClusterRole",
      metadata: { name, labels: { ...labels, ...joined }, annotations },
      ...(aggregates && {
        aggregationRule: {
          clusterRoleSelectors: aggregates.map((role) => ({
            matchLabels: { [aggregationLabel(role)]: "true" },
          })),
        },
      }),
      rules: rules ?? [],
    };
  });
  const bindings = rows.flatMap(({ name, bound }): ApiObject[] => {
    if (!bound) return [];
    const subjects = bound.map((subject) => {
      const [kind, who] = subject.split(" ");
      return { apiGroup: "rbac.authorization.k8s.io", kind, name: who };
    });
    return [
      {
        apiVersion,
        kind: "ClusterRoleBinding",
        metadata: { name, labels, annotations },
        roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name },
        subjects,
      },
    ];
  });
  return { roles, bindings };
}
