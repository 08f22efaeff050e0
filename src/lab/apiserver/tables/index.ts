/**
 * Objects as rows: the columns that `kubectl get` shows, which the server chooses (metav1.Table).
 * Source of columns and words: Kubernetes `pkg/printers/internalversion/printers.go`.
 */
import type { KubeObject } from "../../../api/index.ts";
import * as cluster from "./cluster.ts";
import type { Cell, Printer, TableColumn } from "./columns.ts";
import { customPrinter, type PrinterColumn } from "./custom.ts";
import * as network from "./network.ts";
import { pod } from "./pods.ts";
import * as workloads from "./workloads.ts";

export type { Cell, TableColumn } from "./columns.ts";
export { columnProblem, type PrinterColumn } from "./custom.ts";

export interface TableRow {
  cells: Cell[];
}

export interface Table {
  columnDefinitions: TableColumn[];
  rows: TableRow[];
}

const builtIn = new Map<string, Printer>([
  ["/Pod", pod],
  ["/Service", network.service],
  ["/Endpoints", network.endpoints],
  ["/Node", cluster.node],
  ["/Namespace", cluster.namespace],
  ["/ServiceAccount", cluster.serviceAccount],
  ["/ConfigMap", cluster.configMap],
  ["/Secret", cluster.secret],
  ["/Event", cluster.event],
  ["/PersistentVolume", cluster.persistentVolume],
  ["/PersistentVolumeClaim", cluster.persistentVolumeClaim],
  ["/LimitRange", cluster.createdAt],
  ["/PodTemplate", workloads.podTemplate],
  ["/ResourceQuota", cluster.resourceQuota],
  ["autoscaling/Scale", workloads.scale],
  ["events.k8s.io/Event", cluster.event],
  ["discovery.k8s.io/EndpointSlice", network.endpointSlice],
  ["apps/Deployment", workloads.deployment],
  ["apps/ReplicaSet", workloads.replicaSet],
  ["apps/StatefulSet", workloads.statefulSet],
  ["apps/DaemonSet", workloads.daemonSet],
  ["apps/ControllerRevision", workloads.controllerRevision],
  ["batch/Job", workloads.job],
  ["batch/CronJob", workloads.cronJob],
  ["policy/PodDisruptionBudget", workloads.podDisruptionBudget],
  ["networking.k8s.io/Ingress", network.ingress],
  ["networking.k8s.io/IngressClass", network.ingressClass],
  ["networking.k8s.io/NetworkPolicy", network.networkPolicy],
  ["coordination.k8s.io/Lease", cluster.lease],
  ["rbac.authorization.k8s.io/Role", cluster.createdAt],
  ["rbac.authorization.k8s.io/ClusterRole", cluster.createdAt],
  ["rbac.authorization.k8s.io/RoleBinding", cluster.roleBinding],
  ["rbac.authorization.k8s.io/ClusterRoleBinding", cluster.roleBinding],
  ["apiextensions.k8s.io/CustomResourceDefinition", cluster.createdAt],
  ["storage.k8s.io/StorageClass", cluster.storageClass],
  ["admissionregistration.k8s.io/MutatingWebhookConfiguration", cluster.webhookConfiguration],
  ["admissionregistration.k8s.io/ValidatingWebhookConfiguration", cluster.webhookConfiguration],
  ["scheduling.k8s.io/PriorityClass", cluster.priorityClass],
]);

/** Compiled columns of CRDs; they live as long as the CRD object that asks for them. */
const custom = new WeakMap<readonly PrinterColumn[], Printer>();
const standard = customPrinter(undefined);

/**
 * The table of some objects of one kind. `crdColumns` are the `additionalPrinterColumns` of a CRD's version;
 * a kind that nobody knows, or a CRD without columns, gets NAME and AGE. `now` is milliseconds since the epoch.
 */
export function tableFor(
  of: { group: string; version: string; kind: string },
  crdColumns: readonly PrinterColumn[] | undefined,
  objects: Iterable<KubeObject>,
  { now }: { now: number },
): Table {
  const { columns, cells } = printerFor(of, crdColumns);
  return {
    columnDefinitions: columns,
    rows: Array.from(objects, (object) => ({ cells: cells(object, now) })),
  };
}

function printerFor(of: { group: string; kind: string }, crdColumns: readonly PrinterColumn[] | undefined) {
  if (!crdColumns?.length) return builtIn.get(`${of.group}/${of.kind}`) ?? standard;
  let made = custom.get(crdColumns);
  if (!made) {
    made = customPrinter(crdColumns);
    custom.set(crdColumns, made);
  }
  return made;
}
