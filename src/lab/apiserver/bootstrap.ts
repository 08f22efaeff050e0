/** The objects that every cluster begins with. Existing ones are left as they are. */
import { bootstrapRoles } from "./auth/roles.ts";
import type { Core } from "./core.ts";
import { type ApiObject, clone, sameJson } from "./object.ts";
import { keyOf } from "./registry.ts";
import { insert, replace, type Write } from "./write.ts";

const systemNamespaces = ["default", "kube-system", "kube-public", "kube-node-lease"];

/** The identity of what the API server writes itself. */
export const apiServerUser = { name: "system:apiserver", groups: ["system:masters"] } as const;

const write: Write = { user: apiServerUser, dryRun: false, warnings: [], manager: "kube-apiserver" };

export interface BootstrapOptions {
  advertise: { address: string; port: number };
  /** ClusterIP of `default/kubernetes`. */
  serviceAddress: string;
}

export function bootstrap(core: Core, options: BootstrapOptions): void {
  for (const name of systemNamespaces) {
    ensure(core, "", undefined, "namespaces", { apiVersion: "v1", kind: "Namespace", metadata: { name } });
  }
  for (const [name, value] of [
    ["system-cluster-critical", 2000000000],
    ["system-node-critical", 2000001000],
  ] as const) {
    ensure(core, "scheduling.k8s.io", undefined, "priorityclasses", {
      apiVersion: "scheduling.k8s.io/v1",
      kind: "PriorityClass",
      metadata: { name },
      value,
      preemptionPolicy: "PreemptLowerPriority",
    });
  }
  const { roles, bindings } = bootstrapRoles();
  const rbac = "rbac.authorization.k8s.io";
  for (const role of roles) ensure(core, rbac, undefined, "clusterroles", role);
  for (const binding of bindings) ensure(core, rbac, undefined, "clusterrolebindings", binding);
  ownService(core, options);
}

/** The Service `default/kubernetes`, through which pods reach this server. */
function ownService(core: Core, { advertise, serviceAddress }: BootstrapOptions): void {
  ensure(core, "", "default", "services", {
    apiVersion: "v1",
    kind: "Service",
    metadata: {
      name: "kubernetes",
      namespace: "default",
      labels: { component: "apiserver", provider: "kubernetes" },
    },
    spec: {
      clusterIP: serviceAddress,
      ports: [{ name: "https", protocol: "TCP", port: 443, targetPort: advertise.port }],
      sessionAffinity: "None",
      type: "ClusterIP",
    },
  });
  ensure(
    core,
    "",
    "default",
    "endpoints",
    {
      apiVersion: "v1",
      kind: "Endpoints",
      metadata: {
        name: "kubernetes",
        namespace: "default",
        labels: { "endpointslice.kubernetes.io/skip-mirror": "true" },
      },
      subsets: [
        {
          addresses: [{ ip: advertise.address }],
          ports: [{ name: "https", port: advertise.port, protocol: "TCP" }],
        },
      ],
    },
    "subsets",
  );
  ensure(
    core,
    "discovery.k8s.io",
    "default",
    "endpointslices",
    {
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: {
        name: "kubernetes",
        namespace: "default",
        labels: { "kubernetes.io/service-name": "kubernetes" },
      },
      addressType: "IPv4",
      endpoints: [{ addresses: [advertise.address], conditions: { ready: true } }],
      ports: [{ name: "https", port: advertise.port, protocol: "TCP" }],
    },
    "endpoints",
  );
}

/** Creates an object unless one of its name is there; then only `field` is set right. */
export function ensure(
  core: Core,
  group: string,
  namespace: string | undefined,
  plural: string,
  object: ApiObject,
  field?: string,
): void {
  const type = core.registry.find(group, plural)!;
  const current = core.store.bucket(type.bucket).objects.get(keyOf(namespace, object.metadata.name));
  if (!current) insert(core, type, namespace, object, write);
  else if (field && !sameJson(current[field], object[field])) {
    replace(core, type, current, { ...clone(current), [field]: object[field] }, undefined, write);
  }
}
