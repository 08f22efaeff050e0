/**
 * Whether a pod may run on a node: pure functions.
 * Source: pkg/scheduler/framework/plugins/{nodeaffinity,tainttoleration,nodeunschedulable,nodename}, component-helpers
 * scheduling/corev1.
 */
import type { Node, Pod } from "../../api/index.ts";
import { satisfies, selectsMap } from "./selectors.ts";

export type Taint = NonNullable<NonNullable<Node["spec"]>["taints"]>[number];
type Toleration = NonNullable<Pod["spec"]["tolerations"]>[number];
type NodeSelectorTerm = {
  matchExpressions?: { key: string; operator: string; values?: string[] }[];
  matchFields?: { key: string; operator: string; values?: string[] }[];
};

export const notReadyTaint = "node.kubernetes.io/not-ready";
export const unreachableTaint = "node.kubernetes.io/unreachable";

/** Why the pod cannot run on the node, in the scheduler's words, or undefined when it can. */
export function misfit(pod: Pod, node: Node): string | undefined {
  const tolerations = pod.spec.tolerations ?? [];
  if (node.spec?.unschedulable) {
    const taint: Taint = { key: "node.kubernetes.io/unschedulable", effect: "NoSchedule" };
    if (!isTolerated(taint, tolerations)) return "node(s) were unschedulable";
  }
  const taint = taintsOf(node).find(
    (one) => one.effect !== "PreferNoSchedule" && !isTolerated(one, tolerations),
  );
  if (taint) return `node(s) had untolerated taint {${taint.key}: ${taint.value ?? ""}}`;
  if (!matchesNode(pod, node)) return "node(s) didn't match Pod's node affinity/selector";
  return undefined;
}

export function isNodeReady(node: Node): boolean {
  return node.status?.conditions?.some((one) => one.type === "Ready" && one.status === "True") ?? false;
}

/** The node's taints, and that of a node that is not ready, also before someone has written it down. */
function taintsOf(node: Node): Taint[] {
  const taints = node.spec?.taints ?? [];
  if (isNodeReady(node) || taints.some((one) => one.key === notReadyTaint || one.key === unreachableTaint)) {
    return taints;
  }
  return [...taints, { key: notReadyTaint, effect: "NoSchedule" }];
}

export function isTolerated(taint: Taint, tolerations: Toleration[]): boolean {
  return tolerations.some((one) => tolerates(one, taint));
}

export function tolerates(toleration: Toleration, taint: Taint): boolean {
  if (toleration.effect && toleration.effect !== taint.effect) return false;
  if (!toleration.key) return toleration.operator === "Exists";
  if (toleration.key !== taint.key) return false;
  return toleration.operator === "Exists" || (toleration.value ?? "") === (taint.value ?? "");
}

/** nodeSelector and required nodeAffinity. */
export function matchesNode(pod: Pod, node: Node): boolean {
  if (!selectsMap(pod.spec.nodeSelector ?? {}, node.metadata.labels)) return false;
  const required = pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  if (!required) return true;
  return required.nodeSelectorTerms.some((term) => matchesTerm(term, node));
}

function matchesTerm(term: NodeSelectorTerm, node: Node): boolean {
  const { matchExpressions = [], matchFields = [] } = term;
  if (matchExpressions.length === 0 && matchFields.length === 0) return false;
  const labels = node.metadata.labels;
  return (
    matchExpressions.every((one) => satisfies(one.operator, labels?.[one.key], one.values)) &&
    matchFields.every(
      (one) => one.key === "metadata.name" && satisfies(one.operator, node.metadata.name, one.values),
    )
  );
}

/** How much the pod would like the node: its preferred nodeAffinity, less taints that it would rather avoid. */
export function preference(pod: Pod, node: Node): number {
  let score = 0;
  const preferred = pod.spec.affinity?.nodeAffinity?.preferredDuringSchedulingIgnoredDuringExecution;
  for (const { weight, preference: term } of preferred ?? []) {
    if (matchesTerm(term, node)) score += weight;
  }
  for (const taint of node.spec?.taints ?? []) {
    if (taint.effect === "PreferNoSchedule" && !isTolerated(taint, pod.spec.tolerations ?? [])) score -= 1;
  }
  return score;
}
