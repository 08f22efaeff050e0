/** Defaults of built-in kinds (kubernetes `pkg/apis/<group>/v1/defaults.go`). */
import { isObject, type JsonObject } from "../schema/index.ts";
import { defaultPodSpec, defaultPodTemplate } from "./pod-defaults.ts";
import { at, ensure, fill, fillZero, record, records, text } from "./values.ts";

const templateGeneration = "deprecated.daemonset.template.generation";

/** By `<group>/<kind>`; each fills in what a user may leave out, in place. */
export const defaults: Record<string, (object: JsonObject) => void> = {
  "/Pod": (pod) => {
    defaultPodSpec(ensure(pod, "spec"), true);
  },
  "/PodTemplate": (template) => defaultPodTemplate(template.template),
  "/Service": service,
  "/ConfigMap": () => {},
  "/Secret": secret,
  "/Namespace": (namespace) => {
    const metadata = record(namespace.metadata);
    if (text(metadata.name) !== "") {
      const labels = ensure(metadata, "labels");
      if (labels["kubernetes.io/metadata.name"] !== metadata.name) {
        metadata.labels = { ...labels, "kubernetes.io/metadata.name": metadata.name };
      }
    }
    fillZero(ensure(namespace, "status"), "phase", "Active");
  },
  "/Node": (node) => {
    const spec = record(node.spec);
    if (text(spec.podCIDR) !== "" && spec.podCIDRs === undefined) spec.podCIDRs = [spec.podCIDR];
    const status = ensure(node, "status");
    if (status.allocatable === undefined && isObject(status.capacity))
      status.allocatable = { ...status.capacity };
  },
  "/Endpoints": (endpoints) => {
    for (const subset of records(endpoints.subsets)) {
      for (const port of records(subset.ports)) fillZero(port, "protocol", "TCP");
    }
  },
  "/ReplicationController": (controller) => {
    const spec = ensure(controller, "spec");
    fill(spec, "replicas", 1);
    defaultPodTemplate(spec.template);
    const labels = at(spec, "template", "metadata", "labels");
    if (labels) {
      fill(spec, "selector", { ...labels });
      fill(record(controller.metadata), "labels", { ...labels });
    }
  },
  "/PersistentVolume": (volume) => {
    const spec = ensure(volume, "spec");
    fillZero(spec, "persistentVolumeReclaimPolicy", "Retain");
    fill(spec, "volumeMode", "Filesystem");
    fillZero(ensure(volume, "status"), "phase", "Pending");
  },
  "/PersistentVolumeClaim": (claim) => {
    fill(ensure(claim, "spec"), "volumeMode", "Filesystem");
    fillZero(ensure(claim, "status"), "phase", "Pending");
  },
  "apps/Deployment": deployment,
  "apps/ReplicaSet": (set) => {
    const spec = ensure(set, "spec");
    fill(spec, "replicas", 1);
    defaultPodTemplate(ensure(spec, "template"));
  },
  "apps/StatefulSet": statefulSet,
  "apps/DaemonSet": (set) => {
    daemonSet(set);
    // Kept for clients of before apps/v1; the kind's strategy counts it.
    fill(ensure(record(set.metadata), "annotations"), templateGeneration, "1");
  },
  "batch/Job": job,
  "batch/CronJob": (cron) => {
    const spec = ensure(cron, "spec");
    fillZero(spec, "concurrencyPolicy", "Allow");
    fill(spec, "suspend", false);
    fill(spec, "successfulJobsHistoryLimit", 3);
    fill(spec, "failedJobsHistoryLimit", 1);
    defaultPodTemplate(at(spec, "jobTemplate", "spec", "template"));
  },
  "discovery.k8s.io/EndpointSlice": (slice) => {
    for (const port of records(slice.ports)) {
      fill(port, "name", "");
      fill(port, "protocol", "TCP");
    }
  },
  "rbac.authorization.k8s.io/RoleBinding": binding,
  "rbac.authorization.k8s.io/ClusterRoleBinding": binding,
  "scheduling.k8s.io/PriorityClass": (priority) => fill(priority, "preemptionPolicy", "PreemptLowerPriority"),
  "storage.k8s.io/StorageClass": (storage) => {
    fill(storage, "reclaimPolicy", "Delete");
    fill(storage, "volumeBindingMode", "Immediate");
  },
  "networking.k8s.io/NetworkPolicy": (policy) => {
    const spec = ensure(policy, "spec");
    for (const rule of [...records(spec.ingress), ...records(spec.egress)]) {
      for (const port of records(rule.ports)) fill(port, "protocol", "TCP");
    }
    if (!Array.isArray(spec.policyTypes)) {
      spec.policyTypes =
        Array.isArray(spec.egress) && spec.egress.length > 0 ? ["Ingress", "Egress"] : ["Ingress"];
    }
  },
  "admissionregistration.k8s.io/MutatingWebhookConfiguration": (configuration) => {
    for (const hook of records(configuration.webhooks)) {
      webhook(hook);
      fill(hook, "reinvocationPolicy", "Never");
    }
  },
  "admissionregistration.k8s.io/ValidatingWebhookConfiguration": (configuration) => {
    for (const hook of records(configuration.webhooks)) webhook(hook);
  },
  "apiextensions.k8s.io/CustomResourceDefinition": customResourceDefinition,
};

function service(object: JsonObject): void {
  const spec = ensure(object, "spec");
  fillZero(spec, "sessionAffinity", "None");
  if (spec.sessionAffinity === "None") delete spec.sessionAffinityConfig;
  if (
    spec.sessionAffinity === "ClientIP" &&
    at(spec, "sessionAffinityConfig", "clientIP")?.timeoutSeconds === undefined
  ) {
    spec.sessionAffinityConfig = { clientIP: { timeoutSeconds: 10800 } };
  }
  fillZero(spec, "type", "ClusterIP");
  for (const port of records(spec.ports)) {
    fillZero(port, "protocol", "TCP");
    fillZero(port, "targetPort", port.port);
  }
  const isExternal =
    spec.type === "LoadBalancer" ||
    spec.type === "NodePort" ||
    (spec.type === "ClusterIP" && Array.isArray(spec.externalIPs) && spec.externalIPs.length > 0);
  if (isExternal) fillZero(spec, "externalTrafficPolicy", "Cluster");
  if (spec.type !== "ExternalName") fill(spec, "internalTrafficPolicy", "Cluster");
  if (spec.type === "LoadBalancer") {
    fill(spec, "allocateLoadBalancerNodePorts", true);
    for (const ingress of records(at(object, "status", "loadBalancer")?.ingress)) {
      if (text(ingress.ip) !== "") fill(ingress, "ipMode", "VIP");
    }
  }
}

/** `stringData` is a way in for text: it becomes part of `data` and is never stored. */
function secret(object: JsonObject): void {
  fillZero(object, "type", "Opaque");
  if (!isObject(object.stringData)) return;
  const data: JsonObject = { ...record(object.data) };
  for (const [name, value] of Object.entries(object.stringData)) {
    data[name] = Buffer.from(text(value), "utf8").toString("base64");
  }
  object.data = data;
  delete object.stringData;
}

function deployment(object: JsonObject): void {
  const spec = ensure(object, "spec");
  fill(spec, "replicas", 1);
  const strategy = ensure(spec, "strategy");
  fillZero(strategy, "type", "RollingUpdate");
  if (strategy.type === "RollingUpdate") {
    const rolling = ensure(strategy, "rollingUpdate");
    fill(rolling, "maxUnavailable", "25%");
    fill(rolling, "maxSurge", "25%");
  }
  fill(spec, "revisionHistoryLimit", 10);
  fill(spec, "progressDeadlineSeconds", 600);
  defaultPodTemplate(ensure(spec, "template"));
}

function statefulSet(object: JsonObject): void {
  const spec = ensure(object, "spec");
  fillZero(spec, "podManagementPolicy", "OrderedReady");
  const strategy = ensure(spec, "updateStrategy");
  if (text(strategy.type) === "") {
    strategy.type = "RollingUpdate";
    fill(strategy, "rollingUpdate", {});
  }
  if (strategy.type === "RollingUpdate" && isObject(strategy.rollingUpdate))
    fill(strategy.rollingUpdate, "partition", 0);
  const retention = ensure(spec, "persistentVolumeClaimRetentionPolicy");
  fillZero(retention, "whenDeleted", "Retain");
  fillZero(retention, "whenScaled", "Retain");
  fill(spec, "replicas", 1);
  fill(spec, "revisionHistoryLimit", 10);
  defaultPodTemplate(ensure(spec, "template"));
  for (const claim of records(spec.volumeClaimTemplates)) {
    fillZero(claim, "apiVersion", "v1");
    fillZero(claim, "kind", "PersistentVolumeClaim");
    fill(ensure(claim, "spec"), "volumeMode", "Filesystem");
    fillZero(ensure(claim, "status"), "phase", "Pending");
  }
}

function daemonSet(object: JsonObject): void {
  const spec = ensure(object, "spec");
  const strategy = ensure(spec, "updateStrategy");
  fillZero(strategy, "type", "RollingUpdate");
  if (strategy.type === "RollingUpdate") {
    const rolling = ensure(strategy, "rollingUpdate");
    fill(rolling, "maxUnavailable", 1);
    fill(rolling, "maxSurge", 0);
  }
  fill(spec, "revisionHistoryLimit", 10);
  defaultPodTemplate(ensure(spec, "template"));
}

function job(object: JsonObject): void {
  const spec = ensure(object, "spec");
  if (spec.completions === undefined && spec.parallelism === undefined) spec.completions = 1;
  fill(spec, "parallelism", 1);
  fill(spec, "backoffLimit", spec.backoffLimitPerIndex === undefined ? 6 : 2147483647);
  fill(spec, "completionMode", "NonIndexed");
  fill(spec, "suspend", false);
  fill(spec, "podReplacementPolicy", spec.podFailurePolicy === undefined ? "TerminatingOrFailed" : "Failed");
  fill(spec, "manualSelector", false);
  const template = ensure(spec, "template");
  const labels = at(template, "metadata", "labels");
  if (labels) fill(record(object.metadata), "labels", { ...labels });
  defaultPodTemplate(template);
}

const rbacGroup = "rbac.authorization.k8s.io";

function binding(object: JsonObject): void {
  if (isObject(object.roleRef)) fillZero(object.roleRef, "apiGroup", rbacGroup);
  for (const subject of records(object.subjects)) {
    if (subject.kind === "User" || subject.kind === "Group") fillZero(subject, "apiGroup", rbacGroup);
  }
}

function webhook(hook: JsonObject): void {
  fill(hook, "failurePolicy", "Fail");
  fill(hook, "matchPolicy", "Equivalent");
  fill(hook, "namespaceSelector", {});
  fill(hook, "objectSelector", {});
  fill(hook, "timeoutSeconds", 10);
  for (const rule of records(hook.rules)) fill(rule, "scope", "*");
  const service = at(hook, "clientConfig", "service");
  if (service) fill(service, "port", 443);
}

function customResourceDefinition(object: JsonObject): void {
  const spec = ensure(object, "spec");
  const names = ensure(spec, "names");
  const kind = text(names.kind);
  if (kind !== "") {
    fillZero(names, "singular", kind.toLowerCase());
    fillZero(names, "listKind", `${kind}List`);
  }
  fill(spec, "conversion", { strategy: "None" });
  const service = at(spec, "conversion", "webhook", "clientConfig", "service");
  if (service) fill(service, "port", 443);
  const status = ensure(object, "status");
  if (!Array.isArray(status.storedVersions) || status.storedVersions.length === 0) {
    const stored = records(spec.versions).find((version) => version.storage === true);
    if (stored) status.storedVersions = [stored.name];
  }
}
