import {
  leases as leaseResource,
  type Node,
  nodes as nodeResource,
  type Pod,
  pods as podResource,
} from "../../api/index.ts";
import type { ControllerContext } from "./context.ts";
import { isNodeReady, notReadyTaint, type Taint, tolerates, unreachableTaint } from "./fit.ts";
import { canonicalJson } from "./hash.ts";
import { isFinished, isReady } from "./pods.ts";
import type { ReconcileQueue, ReconcileResult } from "./queue.ts";

/** Kubernetes' `--node-monitor-grace-period`, in milliseconds: a lease not renewed for so long is a silent node. */
const gracePeriod = 40_000;
/** How long a pod stays bound to a node that is gone silent, unless it says otherwise (DefaultTolerationSeconds). */
const defaultTolerance = 300_000;
const leaseNamespace = "kube-node-lease";

/**
 * Notices nodes that fall silent: their Ready becomes Unknown, they are tainted, their pods are not ready any
 * more (so that endpoints go), and after five minutes the pods are deleted so that others take their place.
 * When the node comes back, its kubelet reports everything anew.
 * Source: pkg/controller/nodelifecycle/node_lifecycle_controller.go, pkg/controller/tainteviction.
 */
export function nodeLifecycleController(context: ControllerContext): ReconcileQueue {
  const nodes = context.cache(nodeResource);
  const pods = context.cache(podResource);
  const leases = context.cache(leaseResource);
  const events = context.events("node-controller");
  const queue = context.queue("node lifecycle", reconcile);
  /** When we last saw the node say something new, on our own monotonic clock. */
  const heard = new Map<string, { sign: string; at: number }>();
  /** Since when, on our monotonic clock, the node drives out pods. */
  const evicting = new Map<string, number>();

  nodes.onChange((before, after) => {
    const name = (after ?? before)!.metadata.name;
    if (after) queue.add(name);
    else {
      heard.delete(name);
      evicting.delete(name);
    }
  });
  leases.onChange((_, after) => {
    if (after?.metadata.namespace !== leaseNamespace) return;
    const node = nodes.get(after.metadata.name);
    // A healthy node's renewal changes nothing but when to look again, and that timer reads the lease itself.
    if (node && !isNodeReady(node)) queue.add(node.metadata.name);
  });
  return queue;

  async function reconcile(name: string): Promise<ReconcileResult> {
    let node = nodes.get(name);
    if (!node) return undefined;
    const now = context.world.monotonic();
    const sign = signOfLife(node);
    let last = heard.get(name);
    if (last?.sign !== sign) {
      last = { sign, at: now };
      heard.set(name, last);
    }
    const silence = now - last.at;
    const wasReady = isNodeReady(node);
    if (silence >= gracePeriod) node = await markUnknown(node);
    node = await taint(node);
    const wait = await evict(node);
    if (!isNodeReady(node)) {
      if (wasReady) events.normal(node, "NodeNotReady", `Node ${name} status is now: NodeNotReady`);
      await markPods(node);
    }
    const next = Math.min(wait ?? Number.POSITIVE_INFINITY, Math.max(gracePeriod - silence, 1_000));
    // A silent node is woken by its lease; only evictions are left to wait for.
    return silence >= gracePeriod ? (wait === undefined ? undefined : { after: wait }) : { after: next };
  }

  /** Something that changes whenever the node's kubelet does something for its node. */
  function signOfLife(node: Node): string {
    const lease = leases.get(`${leaseNamespace}/${node.metadata.name}`);
    const ready = node.status?.conditions?.find((one) => one.type === "Ready");
    // Our own verdict keeps the heartbeat time as it was, so it is no sign of life.
    return `${lease?.spec?.renewTime ?? ""} ${ready?.lastHeartbeatTime ?? ""}`;
  }

  async function markUnknown(node: Node): Promise<Node> {
    const known = node.status?.conditions ?? [];
    const types = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
    if (known.find((one) => one.type === "Ready")?.status === "Unknown") return node;
    const unknown = types.map((type) => {
      const before = known.find((one) => one.type === type);
      return {
        ...(before?.lastHeartbeatTime ? { lastHeartbeatTime: before.lastHeartbeatTime } : {}),
        lastTransitionTime: context.timestamp(),
        message: before ? "Kubelet stopped posting node status." : "Kubelet never posted node status.",
        reason: before ? "NodeStatusUnknown" : "NodeStatusNeverUpdated",
        status: "Unknown",
        type,
      };
    });
    const others = known.filter((one) => !types.includes(one.type));
    await context.replaceStatus(nodeResource, node, { ...node.status, conditions: [...unknown, ...others] });
    return nodes.get(node.metadata.name) ?? node;
  }

  /** Ready False is `not-ready`, Unknown is `unreachable`, True is neither. */
  async function taint(node: Node): Promise<Node> {
    const status = node.status?.conditions?.find((one) => one.type === "Ready")?.status;
    const key = status === "True" ? undefined : status === "Unknown" ? unreachableTaint : notReadyTaint;
    const known = node.spec?.taints ?? [];
    const kept = known.filter((one) => one.key !== notReadyTaint && one.key !== unreachableTaint);
    const added: Taint[] = (["NoSchedule", "NoExecute"] as const).flatMap((effect): Taint[] => {
      if (key === undefined) return [];
      const before = known.find((one) => one.key === key && one.effect === effect);
      return [
        before ?? { key, effect, ...(effect === "NoExecute" ? { timeAdded: context.timestamp() } : {}) },
      ];
    });
    const taints = [...kept, ...added];
    if (canonicalJson(taints) === canonicalJson(known)) return node;
    return context.replace(nodeResource, { ...node, spec: { ...node.spec, taints } });
  }

  async function markPods(node: Node): Promise<void> {
    for (const pod of podsOn(node)) {
      if (!isReady(pod)) continue;
      const conditions = pod.status!.conditions!.map((one) =>
        one.type === "Ready" ? { ...one, status: "False", lastTransitionTime: context.timestamp() } : one,
      );
      await context.replaceStatus(podResource, pod, { ...pod.status, conditions });
      events.warning(pod, "NodeNotReady", "Node is not ready");
    }
  }

  /** Deletes the pods that no longer tolerate the node; returns the milliseconds until the next one has to go. */
  async function evict(node: Node): Promise<number | undefined> {
    const name = node.metadata.name;
    const taints = (node.spec?.taints ?? []).filter((one) => one.effect === "NoExecute");
    if (taints.length === 0) {
      evicting.delete(name);
      return undefined;
    }
    const now = context.world.monotonic();
    const since = evicting.get(name) ?? now;
    evicting.set(name, since);
    let next: number | undefined;
    for (const pod of podsOn(node)) {
      if (pod.metadata.deletionTimestamp) continue;
      const left = tolerance(pod, taints) - (now - since);
      if (left > 0) {
        if (left !== Number.POSITIVE_INFINITY) next = Math.min(next ?? left, left);
        continue;
      }
      events.normal(
        pod,
        "TaintManagerEviction",
        `Marking for deletion Pod ${pod.metadata.namespace}/${pod.metadata.name}`,
      );
      await context.remove(podResource, pod);
    }
    return next;
  }

  function podsOn(node: Node): Pod[] {
    return [...pods.list()].filter((pod) => pod.spec.nodeName === node.metadata.name && !isFinished(pod));
  }
}

/** For how many milliseconds the pod stays in spite of the taints. */
function tolerance(pod: Pod, taints: Taint[]): number {
  let shortest = Number.POSITIVE_INFINITY;
  for (const taint of taints) {
    const fitting = (pod.spec.tolerations ?? []).filter((one) => tolerates(one, taint));
    const builtIn = taint.key === notReadyTaint || taint.key === unreachableTaint;
    if (fitting.length === 0) return builtIn ? Math.min(shortest, defaultTolerance) : 0;
    for (const { tolerationSeconds } of fitting) {
      if (tolerationSeconds !== undefined) shortest = Math.min(shortest, tolerationSeconds * 1000);
    }
  }
  return Math.max(0, shortest);
}
