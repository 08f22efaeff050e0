/** The built-in kinds that the lab serves, one row each. */
import { fromCoreEvent, toCoreEvent } from "./events.ts";
import { type ApiObject, asRecord, valueAt } from "./object.ts";
import { allVerbs, type ResourceType, type ScalePaths, type Subresource } from "./registry.ts";

interface Row {
  kind: string;
  plural: string;
  short?: string[];
  cluster?: true;
  all?: true;
  status?: true;
  generation?: true;
  scale?: true;
  sub?: Record<string, Subresource>;
  fields?: Record<string, string>;
  verbs?: readonly string[];
  review?: true;
  bucket?: string;
  storedAs?: string;
  fromStored?: (object: ApiObject) => ApiObject;
  toStored?: (object: ApiObject) => ApiObject;
}

const workloadScale: ScalePaths = {
  specReplicas: ["spec", "replicas"],
  statusReplicas: ["status", "replicas"],
  selector: ["spec", "selector"],
};

const connect: readonly string[] = ["create", "get"];

const podSubresources: Record<string, Subresource> = {
  attach: { kind: "PodAttachOptions", verbs: connect },
  binding: { kind: "Binding", verbs: ["create"] },
  eviction: { kind: "Eviction", group: "policy", version: "v1", verbs: ["create"] },
  exec: { kind: "PodExecOptions", verbs: connect },
  log: { kind: "Pod", verbs: ["get"] },
  portforward: { kind: "PodPortForwardOptions", verbs: connect },
};

const eventFields = {
  "involvedObject.kind": "involvedObject.kind",
  "involvedObject.namespace": "involvedObject.namespace",
  "involvedObject.name": "involvedObject.name",
  "involvedObject.uid": "involvedObject.uid",
  "involvedObject.apiVersion": "involvedObject.apiVersion",
  "involvedObject.resourceVersion": "involvedObject.resourceVersion",
  "involvedObject.fieldPath": "involvedObject.fieldPath",
  reason: "reason",
  reportingComponent: "reportingComponent",
  source: "source.component",
  type: "type",
};

const groups: { group: string; version: string; rows: Row[] }[] = [
  {
    group: "",
    version: "v1",
    rows: [
      { kind: "Binding", plural: "bindings", verbs: ["create"], review: true },
      { kind: "ConfigMap", plural: "configmaps", short: ["cm"] },
      { kind: "Endpoints", plural: "endpoints", short: ["ep"] },
      { kind: "Event", plural: "events", short: ["ev"], fields: eventFields },
      { kind: "LimitRange", plural: "limitranges", short: ["limits"] },
      {
        kind: "Namespace",
        plural: "namespaces",
        short: ["ns"],
        cluster: true,
        status: true,
        fields: { "status.phase": "status.phase", name: "metadata.name" },
        sub: { finalize: { kind: "Namespace", verbs: ["update"] } },
        verbs: allVerbs.filter((verb) => verb !== "deletecollection"),
      },
      {
        kind: "Node",
        plural: "nodes",
        short: ["no"],
        cluster: true,
        status: true,
        fields: { "spec.unschedulable": "spec.unschedulable" },
      },
      {
        kind: "PersistentVolumeClaim",
        plural: "persistentvolumeclaims",
        short: ["pvc"],
        status: true,
      },
      { kind: "PersistentVolume", plural: "persistentvolumes", short: ["pv"], cluster: true, status: true },
      {
        kind: "Pod",
        plural: "pods",
        short: ["po"],
        all: true,
        status: true,
        generation: true,
        sub: podSubresources,
        fields: {
          "spec.nodeName": "spec.nodeName",
          "spec.restartPolicy": "spec.restartPolicy",
          "spec.schedulerName": "spec.schedulerName",
          "spec.serviceAccountName": "spec.serviceAccountName",
          "spec.hostNetwork": "spec.hostNetwork",
          "status.phase": "status.phase",
          "status.podIP": "status.podIP",
          "status.nominatedNodeName": "status.nominatedNodeName",
        },
      },
      { kind: "PodTemplate", plural: "podtemplates" },
      { kind: "ResourceQuota", plural: "resourcequotas", short: ["quota"], status: true },
      { kind: "Secret", plural: "secrets", fields: { type: "type" } },
      {
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        short: ["sa"],
        sub: {
          token: { kind: "TokenRequest", group: "authentication.k8s.io", version: "v1", verbs: ["create"] },
        },
      },
      {
        kind: "Service",
        plural: "services",
        short: ["svc"],
        all: true,
        status: true,
        fields: { "spec.clusterIP": "spec.clusterIP", "spec.type": "spec.type" },
      },
    ],
  },
  {
    group: "apps",
    version: "v1",
    rows: [
      { kind: "ControllerRevision", plural: "controllerrevisions" },
      { kind: "DaemonSet", plural: "daemonsets", short: ["ds"], all: true, status: true, generation: true },
      {
        kind: "Deployment",
        plural: "deployments",
        short: ["deploy"],
        all: true,
        status: true,
        generation: true,
        scale: true,
      },
      {
        kind: "ReplicaSet",
        plural: "replicasets",
        short: ["rs"],
        all: true,
        status: true,
        generation: true,
        scale: true,
        fields: { "status.replicas": "status.replicas" },
      },
      {
        kind: "StatefulSet",
        plural: "statefulsets",
        short: ["sts"],
        all: true,
        status: true,
        generation: true,
        scale: true,
      },
    ],
  },
  {
    group: "batch",
    version: "v1",
    rows: [
      {
        kind: "Job",
        plural: "jobs",
        all: true,
        status: true,
        generation: true,
        fields: { "status.successful": "status.succeeded" },
      },
    ],
  },
  {
    group: "discovery.k8s.io",
    version: "v1",
    rows: [{ kind: "EndpointSlice", plural: "endpointslices", generation: true }],
  },
  { group: "coordination.k8s.io", version: "v1", rows: [{ kind: "Lease", plural: "leases" }] },
  {
    group: "events.k8s.io",
    version: "v1",
    rows: [
      {
        kind: "Event",
        plural: "events",
        short: ["ev"],
        bucket: "/events",
        storedAs: "v1",
        fields: {
          "regarding.kind": "involvedObject.kind",
          "regarding.namespace": "involvedObject.namespace",
          "regarding.name": "involvedObject.name",
          "regarding.uid": "involvedObject.uid",
          reason: "reason",
          reportingController: "reportingComponent",
          type: "type",
        },
        fromStored: fromCoreEvent,
        toStored: toCoreEvent,
      },
    ],
  },
  {
    group: "rbac.authorization.k8s.io",
    version: "v1",
    rows: [
      { kind: "ClusterRoleBinding", plural: "clusterrolebindings", cluster: true },
      { kind: "ClusterRole", plural: "clusterroles", cluster: true },
      { kind: "RoleBinding", plural: "rolebindings" },
      { kind: "Role", plural: "roles" },
    ],
  },
  {
    group: "apiextensions.k8s.io",
    version: "v1",
    rows: [
      {
        kind: "CustomResourceDefinition",
        plural: "customresourcedefinitions",
        short: ["crd", "crds"],
        cluster: true,
        status: true,
        generation: true,
      },
    ],
  },
  {
    group: "admissionregistration.k8s.io",
    version: "v1",
    rows: [
      {
        kind: "MutatingWebhookConfiguration",
        plural: "mutatingwebhookconfigurations",
        cluster: true,
        generation: true,
      },
      {
        kind: "ValidatingWebhookConfiguration",
        plural: "validatingwebhookconfigurations",
        cluster: true,
        generation: true,
      },
    ],
  },
  {
    group: "policy",
    version: "v1",
    rows: [
      {
        kind: "PodDisruptionBudget",
        plural: "poddisruptionbudgets",
        short: ["pdb"],
        status: true,
        generation: true,
      },
    ],
  },
  {
    group: "networking.k8s.io",
    version: "v1",
    rows: [
      { kind: "IngressClass", plural: "ingressclasses", cluster: true, generation: true },
      { kind: "Ingress", plural: "ingresses", short: ["ing"], status: true, generation: true },
      { kind: "NetworkPolicy", plural: "networkpolicies", short: ["netpol"], generation: true },
    ],
  },
  {
    group: "storage.k8s.io",
    version: "v1",
    rows: [{ kind: "StorageClass", plural: "storageclasses", short: ["sc"], cluster: true }],
  },
  {
    group: "scheduling.k8s.io",
    version: "v1",
    rows: [
      { kind: "PriorityClass", plural: "priorityclasses", short: ["pc"], cluster: true, generation: true },
    ],
  },
  {
    group: "authentication.k8s.io",
    version: "v1",
    rows: [
      { kind: "SelfSubjectReview", plural: "selfsubjectreviews", cluster: true, review: true },
      { kind: "TokenReview", plural: "tokenreviews", cluster: true, review: true },
    ],
  },
  {
    group: "authorization.k8s.io",
    version: "v1",
    rows: [
      { kind: "LocalSubjectAccessReview", plural: "localsubjectaccessreviews", review: true },
      { kind: "SelfSubjectAccessReview", plural: "selfsubjectaccessreviews", cluster: true, review: true },
      { kind: "SelfSubjectRulesReview", plural: "selfsubjectrulesreviews", cluster: true, review: true },
      { kind: "SubjectAccessReview", plural: "subjectaccessreviews", cluster: true, review: true },
    ],
  },
];

function fieldText(path: string): (object: ApiObject) => string {
  const steps = path.split(".");
  return (object) => {
    const value = valueAt(object, steps);
    if (value === undefined || value === null) {
      return path === "spec.unschedulable" || path === "spec.hostNetwork" ? "false" : "";
    }
    return asRecord(value) ? "" : String(value);
  };
}

function typeOf(group: string, version: string, row: Row): ResourceType {
  const subresources = new Map<string, Subresource>(Object.entries(row.sub ?? {}));
  if (row.status) subresources.set("status", { kind: row.kind, verbs: ["get", "patch", "update"] });
  if (row.scale) {
    subresources.set("scale", {
      kind: "Scale",
      group: "autoscaling",
      version: "v1",
      verbs: ["get", "patch", "update"],
    });
  }
  const apiVersion = group === "" ? version : `${group}/${version}`;
  return {
    group,
    version,
    kind: row.kind,
    listKind: `${row.kind}List`,
    plural: row.plural,
    singular: row.kind.toLowerCase(),
    namespaced: !row.cluster,
    shortNames: row.short ?? [],
    categories: row.all ? ["all"] : row.kind === "CustomResourceDefinition" ? ["api-extensions"] : [],
    verbs: row.verbs ?? (row.review ? ["create"] : allVerbs),
    subresources: new Map([...subresources].sort(([a], [b]) => (a < b ? -1 : 1))),
    bucket: row.bucket ?? `${group}/${row.plural}`,
    storedAs: row.storedAs ?? apiVersion,
    scale: row.scale ? workloadScale : undefined,
    generation: row.generation ?? false,
    fields: Object.fromEntries(
      Object.entries(row.fields ?? {}).map(([field, path]) => [field, fieldText(path)]),
    ),
    custom: undefined,
    ...(row.review && { review: true }),
    ...(row.fromStored && { fromStored: row.fromStored }),
    ...(row.toStored && { toStored: row.toStored }),
  };
}

let types: readonly ResourceType[] | undefined;

/** Every built-in type. The same objects for every server, so that what is made from them is made once. */
export function builtinTypes(): readonly ResourceType[] {
  types ??= groups.flatMap(({ group, version, rows }) => rows.map((row) => typeOf(group, version, row)));
  return types;
}
