import { nameOf, nodes as nodeResource, type Pod, pods as podResource } from "../../api/index.ts";
import type { ControllerContext } from "./context.ts";
import { isFinished } from "./pods.ts";
import type { ReconcileQueue, ReconcileResult } from "./queue.ts";

/** How long a node must have been missing before its pods go, in milliseconds (gc_controller.go, quarantineTime). */
const quarantine = 40_000;

/**
 * Removes pods that nobody else can: those of nodes that are no more, and those that are to be deleted but never
 * got a node. Source: pkg/controller/podgc/gc_controller.go.
 */
export function podGarbageCollector(context: ControllerContext): ReconcileQueue {
  const pods = context.cache(podResource);
  const nodes = context.cache(nodeResource);
  const queue = context.queue("pod garbage collector", reconcile);
  const missing = new Map<string, number>();

  nodes.onChange((before, after) => {
    if (after) missing.delete(after.metadata.name);
    else if (before) for (const pod of podsOn(before.metadata.name)) queue.add(nameOf(pod));
  });
  pods.onChange((before, after) => {
    if (!after) return;
    const isLost = after.spec.nodeName ? !nodes.get(after.spec.nodeName) : after.metadata.deletionTimestamp;
    if (isLost && (!before || before.spec.nodeName !== after.spec.nodeName || !after.spec.nodeName)) {
      queue.add(nameOf(after));
    }
  });
  return queue;

  async function reconcile(key: string): Promise<ReconcileResult> {
    const pod = pods.get(key);
    if (!pod) return undefined;
    const node = pod.spec.nodeName;
    if (!node) {
      if (pod.metadata.deletionTimestamp) await context.remove(podResource, pod, { gracePeriodSeconds: 0 });
      return undefined;
    }
    if (nodes.get(node)) return undefined;
    const since = missing.get(node) ?? context.world.monotonic();
    missing.set(node, since);
    const left = since + quarantine - context.world.monotonic();
    if (left > 0) return { after: left };
    // The cache may be behind by a node that has just come.
    if (await context.client.get(nodeResource, node)) return { after: quarantine };
    if (!isFinished(pod)) {
      await context.replaceStatus(podResource, pod, { ...pod.status, phase: "Failed" });
    }
    await context.remove(podResource, pods.get(key) ?? pod, { gracePeriodSeconds: 0 });
    return undefined;
  }

  function podsOn(node: string): Pod[] {
    return [...pods.list()].filter((pod) => pod.spec.nodeName === node);
  }
}
