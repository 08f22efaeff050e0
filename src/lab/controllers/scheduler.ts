import {
  type KubeObject,
  type Node,
  nameOf,
  nodes as nodeResource,
  type Pod,
  pods as podResource,
  resource,
} from "../../api/index.ts";
import { isConflict, isNotFound } from "../../kube/index.ts";
import type { ControllerContext } from "./context.ts";
import { misfit, preference } from "./fit.ts";
import { canonicalJson } from "./hash.ts";
import { isFinished } from "./pods.ts";
import type { ReconcileQueue, ReconcileResult } from "./queue.ts";

interface Binding extends KubeObject {
  target: { apiVersion?: string; kind: string; name: string };
}
const bindings = resource<Binding>("", "v1", "Binding", "pods");

/**
 * Gives every pod without a node one that it fits on: the one it prefers, of equals the one with the fewest pods.
 * Requests for CPU and memory are not counted: processes on one machine share what it has.
 */
export function scheduler(context: ControllerContext): ReconcileQueue {
  const pods = context.cache(podResource);
  const nodes = context.cache(nodeResource);
  const events = context.events("default-scheduler");
  // One at a time: every choice counts the pods that the one before it placed.
  const queue = context.queue("scheduler", reconcile, 1);
  const counts = new Map<string, number>();
  /** Placed by us, not yet seen with its node by the watch: uid → node. */
  const assumed = new Map<string, string>();
  const waiting = new Set<string>();

  pods.onChange((before, after) => {
    count(before, -1);
    count(after, 1);
    const pod = (after ?? before)!;
    if (!after || after.spec.nodeName) {
      waiting.delete(nameOf(pod));
      const node = assumed.get(pod.metadata.uid!);
      if (node !== undefined) {
        assumed.delete(pod.metadata.uid!);
        counts.set(node, (counts.get(node) ?? 0) - 1);
      }
      if (!after || isFinished(after)) for (const key of waiting) queue.add(key);
    } else if (isMine(after)) {
      queue.add(nameOf(after));
    }
  });
  nodes.onChange((before, after) => {
    if (before && after && schedulingText(before) === schedulingText(after)) return;
    for (const key of waiting) queue.add(key);
  });
  return queue;

  function count(pod: Pod | undefined, by: number): void {
    const node = pod && !isFinished(pod) ? pod.spec.nodeName : undefined;
    if (node) counts.set(node, (counts.get(node) ?? 0) + by);
  }

  async function reconcile(key: string): Promise<ReconcileResult> {
    const pod = pods.get(key);
    if (!pod || pod.spec.nodeName || !isMine(pod) || assumed.has(pod.metadata.uid!)) return undefined;
    if (pod.metadata.deletionTimestamp || isFinished(pod)) return undefined;
    const { node, reason } = choose(pod, [...nodes.list()], (name) => counts.get(name) ?? 0);
    if (!node) {
      waiting.add(key);
      await markUnschedulable(pod, reason);
      return undefined;
    }
    waiting.delete(key);
    await bind(pod, node.metadata.name);
    return undefined;
  }

  async function bind(pod: Pod, node: string): Promise<void> {
    const { name, namespace, uid } = pod.metadata;
    assumed.set(uid!, node);
    counts.set(node, (counts.get(node) ?? 0) + 1);
    try {
      await context.client.create(
        bindings,
        {
          apiVersion: "v1",
          kind: "Binding",
          metadata: { name, namespace, uid },
          target: { apiVersion: "v1", kind: "Node", name: node },
        },
        { subresource: "binding", manager: "kube-scheduler" },
      );
    } catch (error) {
      if (assumed.delete(uid!)) counts.set(node, (counts.get(node) ?? 0) - 1);
      // Deleted or bound by another meanwhile; the watch says which.
      if (isConflict(error) || isNotFound(error)) return;
      throw error;
    }
    events.normal(pod, "Scheduled", `Successfully assigned ${namespace}/${name} to ${node}`);
  }

  async function markUnschedulable(pod: Pod, message: string): Promise<void> {
    const known = pod.status?.conditions?.find((one) => one.type === "PodScheduled");
    if (known?.status === "False" && known.message === message) return;
    events.warning(pod, "FailedScheduling", message);
    const condition = {
      type: "PodScheduled",
      status: "False",
      reason: "Unschedulable",
      message,
      lastTransitionTime: known?.status === "False" ? known.lastTransitionTime : context.timestamp(),
    };
    const others = (pod.status?.conditions ?? []).filter((one) => one.type !== "PodScheduled");
    await context.replaceStatus(podResource, pod, { ...pod.status, conditions: [...others, condition] });
  }
}

function isMine(pod: Pod): boolean {
  return (
    (pod.spec.schedulerName ?? "default-scheduler") === "default-scheduler" &&
    !pod.spec.schedulingGates?.length
  );
}

/** The parts of a node that decide who fits; a heartbeat changes none of them. */
function schedulingText(node: Node): string {
  const ready = node.status?.conditions?.find((one) => one.type === "Ready")?.status;
  return canonicalJson([node.metadata.labels, node.spec, ready, node.status?.allocatable]);
}

/** The best node for the pod, or the scheduler's sentence on why there is none. */
export function choose(
  pod: Pod,
  nodes: Node[],
  podsOn: (node: string) => number,
): { node: Node | undefined; reason: string } {
  if (nodes.length === 0) return { node: undefined, reason: "no nodes available to schedule pods" };
  const reasons = new Map<string, number>();
  let best: { node: Node; score: number; pods: number } | undefined;
  for (const node of nodes) {
    const pods = podsOn(node.metadata.name);
    const most = Number(node.status?.allocatable?.pods ?? Number.POSITIVE_INFINITY);
    const reason = misfit(pod, node) ?? (pods >= most ? "Too many pods" : undefined);
    if (reason !== undefined) {
      reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
      continue;
    }
    const score = preference(pod, node);
    const isBetter =
      !best ||
      score > best.score ||
      (score === best.score &&
        (pods < best.pods || (pods === best.pods && node.metadata.name < best.node.metadata.name)));
    if (isBetter) best = { node, score, pods };
  }
  const counted = [...reasons].map(([reason, count]) => `${count} ${reason}`).sort();
  return {
    node: best?.node,
    reason: `0/${nodes.length} nodes are available: ${counted.join(", ")}.`,
  };
}
