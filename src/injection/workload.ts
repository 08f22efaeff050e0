/**
 * Which workload a pod is of, for metrics and traces: the Deployment behind its ReplicaSet, the CronJob behind its Job.
 * Told by names alone, for nothing else is there when a pod is created. Source: Istio `pkg/kube/util.go`
 * (`GetDeployMetaFromPod`).
 */
import type { Pod } from "../api/index.ts";

export interface Workload {
  name: string;
  /** `kubernetes://apis/apps/v1/namespaces/coolapp/deployments/catalog-v1`. */
  owner: string;
}

export function workloadOf(pod: Pod, namespace: string): Workload {
  const { name, generateName = "", ownerReferences = [], labels = {} } = pod.metadata;
  const own = name || generateName.replace(/-$/, "");
  const controller = ownerReferences.find((each) => each.controller);
  if (!controller) return { name: own, owner: ownerPath("v1", namespace, "Pod", own) };
  const hash = labels["pod-template-hash"];
  if (controller.kind === "ReplicaSet" && hash && controller.name.endsWith(`-${hash}`)) {
    const deployment = controller.name.slice(0, -hash.length - 1);
    return { name: deployment, owner: ownerPath("apps/v1", namespace, "Deployment", deployment) };
  }
  // A CronJob names its Jobs by the minute (8 digits of Unix minutes) at which they are due.
  const cron = controller.kind === "Job" ? /^(.+)-\d{8}$/.exec(controller.name)?.[1] : undefined;
  if (cron) return { name: cron, owner: ownerPath("batch/v1", namespace, "CronJob", cron) };
  const { apiVersion, kind } = controller;
  return { name: controller.name, owner: ownerPath(apiVersion, namespace, kind, controller.name) };
}

function ownerPath(apiVersion: string, namespace: string, kind: string, name: string): string {
  const api = apiVersion.includes("/") ? `apis/${apiVersion}` : `api/${apiVersion}`;
  return `kubernetes://${api}/namespaces/${namespace}/${kind.toLowerCase()}s/${name}`;
}
