/**
 * maistra.io, after the definitions of maistra/istio-operator (maistra-2.6). The types are in `../maistra.ts`. Both
 * forms of a control plane are stored side by side, without a conversion: what is not described here is kept as it
 * is, and a condition names it when it is not served.
 */
import type { JSONSchemaProps } from "../core.ts";
import { ageColumn, atomicList, boolean, crd, mapList, object, string, strings } from "./schema.ts";

const group = "maistra.io";
const categories = ["maistra-io"];

/** An object of which only some fields are described. */
const open = (properties: Record<string, JSONSchemaProps> = {}): JSONSchemaProps =>
  object(properties, { "x-kubernetes-preserve-unknown-fields": true });
const count = (rest: JSONSchemaProps = {}): JSONSchemaProps => ({
  type: "integer",
  format: "int64",
  ...rest,
});
const names = () => atomicList(string());

/** Unlike metav1.Condition neither reason nor message need be there. */
const conditions = mapList(
  ["type"],
  object(
    {
      type: string(),
      status: string({ enum: ["True", "False", "Unknown"] }),
      reason: string(),
      message: string(),
      lastTransitionTime: string({ format: "date-time" }),
    },
    { required: ["type"] },
  ),
);

const component = open({
  deployment: open({ replicas: count({ minimum: 0 }), autoScaling: open({ enabled: boolean() }) }),
  pod: open(),
  container: open({ resources: open() }),
});

const gateway = open({
  enabled: boolean(),
  namespace: string(),
  service: open({
    type: string({ enum: ["ClusterIP", "NodePort", "LoadBalancer"] }),
    ports: atomicList(open({ name: string(), port: count({ minimum: 1, maximum: 65535 }) })),
    metadata: open({ labels: strings(), annotations: strings() }),
  }),
  runtime: component,
});
const gateways: JSONSchemaProps = { type: "object", additionalProperties: gateway };

export const serviceMeshControlPlaneDefinition = crd({
  group,
  categories,
  kind: "ServiceMeshControlPlane",
  plural: "servicemeshcontrolplanes",
  shortNames: ["smcp"],
  scope: "Namespaced",
  versions: ["v1", "v2"],
  description:
    "A mesh: its discovery and gateways, in this namespace. Members join by a ServiceMeshMemberRoll.",
  required: ["spec"],
  spec: open({
    version: string(),
    template: string({ description: "v1." }),
    profiles: names(),
    networkType: string({ description: "v1." }),
    istio: { ...open(), description: "v1: Helm values of Istio." },
    threeScale: { ...open(), description: "v1." },
    mode: string({ enum: ["MultiTenant", "ClusterWide"] }),
    cluster: open({ name: string(), network: string() }),
    proxy: open({
      accessLogging: open({ file: open({ name: string(), format: string(), encoding: string() }) }),
      networking: open({
        trafficControl: open({
          outbound: open({ policy: string({ enum: ["ALLOW_ANY", "REGISTRY_ONLY"] }) }),
        }),
      }),
      runtime: open({ container: open({ resources: open() }) }),
      injection: open({ autoInject: boolean() }),
      concurrency: count({ minimum: 0 }),
    }),
    security: open({
      trust: open({ domain: string(), additionalDomains: names() }),
      controlPlane: open({ mtls: boolean() }),
      dataPlane: open({ mtls: boolean(), automtls: boolean() }),
    }),
    policy: open({ type: string() }),
    telemetry: open({ type: string() }),
    tracing: open({ type: string(), sampling: count({ minimum: 0, maximum: 10000 }) }),
    gateways: open({
      enabled: boolean(),
      ingress: gateway,
      egress: gateway,
      additionalIngress: gateways,
      additionalEgress: gateways,
      openshiftRoute: open({ enabled: boolean() }),
    }),
    runtime: open({ components: { type: "object", additionalProperties: component } }),
    addons: open(),
    techPreview: open(),
  }),
  status: open({
    annotations: strings(),
    conditions,
    observedGeneration: count(),
    operatorVersion: string(),
    chartVersion: string(),
    readiness: object({
      components: object({ ready: names(), pending: names(), unready: names() }),
    }),
    appliedSpec: open({ profiles: names() }),
  }),
  columns: [
    { name: "Ready", type: "string", jsonPath: ".status.annotations.readyComponentCount" },
    { name: "Status", type: "string", jsonPath: '.status.conditions[?(@.type=="Ready")].reason' },
    { name: "Profiles", type: "string", jsonPath: ".status.appliedSpec.profiles" },
    { name: "Version", type: "string", jsonPath: ".status.chartVersion" },
    ageColumn,
  ],
});

export const serviceMeshMemberRollDefinition = crd({
  group,
  categories,
  kind: "ServiceMeshMemberRoll",
  plural: "servicemeshmemberrolls",
  shortNames: ["smmr"],
  scope: "Namespaced",
  versions: ["v1"],
  description: "Namespaces that are members of this namespace's mesh. Its name is default.",
  required: ["spec"],
  spec: object({
    members: atomicList(string({ maxLength: 63 }), { nullable: true }),
    memberSelectors: atomicList(
      object({
        matchLabels: strings(),
        matchExpressions: atomicList(
          object({ key: string(), operator: string(), values: names() }, { required: ["key", "operator"] }),
        ),
      }),
    ),
  }),
  status: object({
    annotations: strings(),
    observedGeneration: count(),
    meshGeneration: count(),
    meshReconciledVersion: string(),
    members: names(),
    configuredMembers: names(),
    pendingMembers: names(),
    terminatingMembers: names(),
    conditions,
  }),
  // Maistra 1's; what Maistra 2 shows beside the name stands behind `-o wide`.
  columns: [
    { name: "Members", type: "string", jsonPath: ".spec.members" },
    { name: "Ready", type: "string", jsonPath: ".status.annotations.configuredMemberCount", priority: 1 },
    {
      name: "Status",
      type: "string",
      jsonPath: '.status.conditions[?(@.type=="Ready")].reason',
      priority: 1,
    },
    { ...ageColumn, priority: 1 },
  ],
});

export const serviceMeshMemberDefinition = crd({
  group,
  categories,
  kind: "ServiceMeshMember",
  plural: "servicemeshmembers",
  shortNames: ["smm"],
  scope: "Namespaced",
  versions: ["v1"],
  description: "Makes its namespace a member of a mesh. Its name is default.",
  required: ["spec"],
  spec: object(
    {
      controlPlaneRef: object(
        { name: string({ minLength: 1 }), namespace: string({ minLength: 1 }) },
        { required: ["name", "namespace"] },
      ),
    },
    { required: ["controlPlaneRef"] },
  ),
  status: object({ annotations: strings(), observedGeneration: count(), conditions }),
  columns: [
    { name: "Control Plane", type: "string", jsonPath: ".status.annotations.controlPlaneRef" },
    { name: "Ready", type: "string", jsonPath: '.status.conditions[?(@.type=="Ready")].status' },
    ageColumn,
  ],
});
