import type { KubeObject, OwnerReference, Pod, PodTemplateSpec } from "../../api/index.ts";

/** Whether the pod's Ready condition is True. */
export function isReady(pod: Pod): boolean {
  return pod.status?.conditions?.some((one) => one.type === "Ready" && one.status === "True") ?? false;
}

/** Whether the pod has been ready for `minReadySeconds`; if not yet, `undefined` or the milliseconds still to wait. */
export function availableIn(pod: Pod, minReadySeconds: number, now: number): number | undefined {
  const ready = pod.status?.conditions?.find((one) => one.type === "Ready" && one.status === "True");
  if (!ready) return undefined;
  if (minReadySeconds === 0) return 0;
  const since = Date.parse(String(ready.lastTransitionTime ?? ""));
  return Number.isNaN(since) ? undefined : Math.max(0, since + minReadySeconds * 1000 - now);
}

/** Ended for good: all containers have stopped and none will start again. */
export function isFinished(pod: Pod): boolean {
  return pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";
}

/** Counts as a replica: neither finished nor being deleted (controller_utils.go, IsPodActive). */
export function isActive(pod: Pod): boolean {
  return !isFinished(pod) && pod.metadata.deletionTimestamp === undefined;
}

/** The reference that names `object` as the controller of what it makes. */
export function controllerReference(object: KubeObject): OwnerReference {
  return {
    apiVersion: object.apiVersion,
    kind: object.kind,
    name: object.metadata.name,
    uid: object.metadata.uid!,
    controller: true,
    blockOwnerDeletion: true,
  };
}

/** The owner that is responsible for the object, if there is one. */
export function controllerOf(object: KubeObject): OwnerReference | undefined {
  return object.metadata.ownerReferences?.find((one) => one.controller === true);
}

/** A pod as its owner's template says, to be created in the owner's namespace. */
export function podFromTemplate(
  template: PodTemplateSpec,
  owner: KubeObject,
  naming: { name: string } | { generateName: string },
): Omit<Pod, "metadata"> & { metadata: Partial<Pod["metadata"]> } {
  const { labels, annotations, finalizers } = template.metadata ?? {};
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      ...naming,
      namespace: owner.metadata.namespace,
      ...(labels ? { labels: { ...labels } } : {}),
      ...(annotations ? { annotations: { ...annotations } } : {}),
      ...(finalizers ? { finalizers: [...finalizers] } : {}),
      ownerReferences: [controllerReference(owner)],
    },
    spec: structuredClone(template.spec) ?? { containers: [] },
  };
}

/**
 * The prefix of the names of an owner's pods: `owner-`, cut so that five random letters still make a DNS label
 * (apiserver pkg/storage/names/generate.go).
 */
export function namePrefix(owner: string): string {
  return `${owner}-`.slice(0, 58);
}

/**
 * Sorts the pods that are to go first to the front: unassigned, then not running, not ready, cheapest by the
 * deletion-cost annotation, more crowded with siblings on its node, ready for the shortest time, more restarts,
 * youngest. Source: controller_utils.go, ActivePodsWithRanks.
 */
export function inDeletionOrder(pods: Pod[]): Pod[] {
  const perNode = new Map<string, number>();
  for (const pod of pods) {
    const node = pod.spec.nodeName ?? "";
    perNode.set(node, (perNode.get(node) ?? 0) + 1);
  }
  const phases: Record<string, number> = { Pending: 0, Unknown: 1, Running: 2 };
  const rank = (pod: Pod): number[] => [
    pod.spec.nodeName ? 1 : 0,
    phases[pod.status?.phase ?? "Pending"] ?? 0,
    isReady(pod) ? 1 : 0,
    Number(pod.metadata.annotations?.["controller.kubernetes.io/pod-deletion-cost"] ?? 0) || 0,
    -(perNode.get(pod.spec.nodeName ?? "") ?? 0),
    -readySince(pod),
    -Math.max(0, ...(pod.status?.containerStatuses ?? []).map((one) => one.restartCount)),
    -Date.parse(String(pod.metadata.creationTimestamp ?? 0)),
  ];
  return pods
    .map((pod) => ({ pod, rank: rank(pod) }))
    .sort((a, b) => {
      const differs = a.rank.findIndex((value, i) => value !== b.rank[i]);
      return differs < 0 ? 0 : a.rank[differs]! - b.rank[differs]!;
    })
    .map((one) => one.pod);
}

function readySince(pod: Pod): number {
  const ready = pod.status?.conditions?.find((one) => one.type === "Ready" && one.status === "True");
  return ready ? Date.parse(String(ready.lastTransitionTime ?? 0)) : 0;
}
