/** What Kubernetes' own kinds are by default and must be, beyond their schemas. Pure functions. */
import { type FieldError, forbidden, isObject, type JsonObject } from "../schema/index.ts";
import { defaults } from "./defaults.ts";
import { checkCustomResourceDefinition } from "./definitions.ts";
import { normalizeBuiltin } from "./golang.ts";
import {
  checkBinding,
  checkClusterRole,
  checkConfigMap,
  checkControllerRevision,
  checkDisruptionBudget,
  checkEndpoints,
  checkLease,
  checkPriorityClass,
  checkRole,
  checkSecret,
} from "./others.ts";
import { checkPod, checkPodStatus, checkPodTemplate } from "./pods.ts";
import { checkEndpointSlice, checkService } from "./services.ts";
import { record, records } from "./values.ts";
import { checkWebhooks } from "./webhooks.ts";
import {
  checkCronJob,
  checkDaemonSet,
  checkDeployment,
  checkJob,
  checkReplicaSet,
  checkReplicaStatus,
  checkStatefulSet,
} from "./workloads.ts";

export { checkEvent } from "./events.ts";
export { type DecodeProblem, normalizeBuiltin, writeNulls } from "./golang.ts";
export {
  checkAnnotations,
  checkLabels,
  dns1035Label,
  dnsLabel,
  dnsSubdomain,
  labelValue,
  pathSegment,
  qualifiedName,
  type TextCheck,
} from "./names.ts";
export { updatable } from "./pods.ts";
export { canonicalQuantity, parseQuantity, type Quantity } from "./quantity.ts";
export { checkSelector, selects } from "./selectors.ts";

/** `<group>/<kind>` */
function kindKey(object: JsonObject): string {
  const version = typeof object.apiVersion === "string" ? object.apiVersion : "";
  const group = version.includes("/") ? version.slice(0, version.indexOf("/")) : "";
  return `${group}/${String(object.kind)}`;
}

/**
 * Fills in the defaults of a built-in object, in place, and brings it into the form that Go would write. What is
 * already so is not touched, so parts that are shared with a stored object stay as they are.
 */
export function defaultBuiltin(object: object): void {
  if (!isObject(object)) return;
  normalizeBuiltin(object);
  defaults[kindKey(object)]?.(object);
}

type Check = (object: JsonObject, old?: JsonObject) => FieldError[];

const checks: Record<string, Check> = {
  "/Pod": checkPod,
  "/PodTemplate": (template) => checkPodTemplate(record(template.template), "template"),
  "/Service": checkService,
  "/Endpoints": checkEndpoints,
  "/ConfigMap": checkConfigMap,
  "/Secret": checkSecret,
  "apps/ControllerRevision": checkControllerRevision,
  "scheduling.k8s.io/PriorityClass": checkPriorityClass,
  "policy/PodDisruptionBudget": checkDisruptionBudget,
  "apps/Deployment": checkDeployment,
  "apps/ReplicaSet": checkReplicaSet,
  "apps/StatefulSet": checkStatefulSet,
  "apps/DaemonSet": checkDaemonSet,
  "batch/Job": checkJob,
  "batch/CronJob": checkCronJob,
  "discovery.k8s.io/EndpointSlice": checkEndpointSlice,
  "coordination.k8s.io/Lease": checkLease,
  "rbac.authorization.k8s.io/Role": checkRole,
  "rbac.authorization.k8s.io/ClusterRole": checkClusterRole,
  "rbac.authorization.k8s.io/RoleBinding": checkBinding,
  "rbac.authorization.k8s.io/ClusterRoleBinding": checkBinding,
  "apiextensions.k8s.io/CustomResourceDefinition": checkCustomResourceDefinition,
  "admissionregistration.k8s.io/MutatingWebhookConfiguration": checkWebhooks,
  "admissionregistration.k8s.io/ValidatingWebhookConfiguration": checkWebhooks,
};

const statusChecks: Record<string, Check> = {
  "/Pod": (pod, old) => checkPodStatus(pod, old ?? {}),
  "/Service": (service) =>
    records(record(record(service.status).loadBalancer).ingress).length > 0 &&
    record(service.spec).type !== "LoadBalancer"
      ? [forbidden("status.loadBalancer.ingress", "may only be used when `spec.type` is 'LoadBalancer'")]
      : [],
  "apps/Deployment": checkReplicaStatus,
  "apps/ReplicaSet": checkReplicaStatus,
  "apps/StatefulSet": checkReplicaStatus,
};

/**
 * What is wrong with a built-in object after `defaultBuiltin`; with `old` (as stored), also what may not change.
 * Metadata is the API server's own concern. Only status is judged when only status changed. A value of a wrong type
 * is one error here; an API server that asks `normalizeBuiltin` first can answer 400 with the same text.
 */
export function validateBuiltin(object: object, old?: object): FieldError[] {
  if (!isObject(object)) return [];
  const problem = normalizeBuiltin(object);
  if (problem) return [{ field: problem.field, type: "FieldValueTypeInvalid", detail: problem.message }];
  const before = isObject(old) ? old : undefined;
  const key = kindKey(object);
  if (before && object.spec !== undefined && object.spec === before.spec)
    return statusChecks[key]?.(object, before) ?? [];
  return checks[key]?.(object, before) ?? [];
}
