import { nameOf, type Pod, pods as podResource, type ReplicaSet, replicaSets } from "../../api/index.ts";
import { type ControllerContext, messageOf } from "./context.ts";
import {
  availableIn,
  controllerOf,
  inDeletionOrder,
  isActive,
  isReady,
  namePrefix,
  podFromTemplate,
} from "./pods.ts";
import type { ReconcileQueue, ReconcileResult } from "./queue.ts";
import { selects } from "./selectors.ts";

/** At most this many pods of one ReplicaSet are made or deleted in one go (replica_set.go, burstReplicas). */
const burst = 500;

/** Keeps as many pods of a template as a ReplicaSet asks for. Source: pkg/controller/replicaset/replica_set.go. */
export function replicaSetController(context: ControllerContext): ReconcileQueue {
  const sets = context.cache(replicaSets);
  const pods = context.cache(podResource);
  const events = context.events("replicaset-controller");
  const queue = context.queue("replicaset", reconcile);

  sets.onChange((before, after) => queue.add(nameOf((after ?? before)!)));
  pods.onChange((before, after) => {
    for (const pod of [before, after]) {
      if (!pod) continue;
      const owner = controllerOf(pod);
      if (owner) {
        if (owner.kind === "ReplicaSet") queue.add(`${pod.metadata.namespace}/${owner.name}`);
      } else if (pod === after && !pod.metadata.deletionTimestamp) {
        for (const set of sets.inNamespace(pod.metadata.namespace)) {
          if (selects(set.spec?.selector, pod.metadata.labels)) queue.add(nameOf(set));
        }
      }
    }
  });
  return queue;

  async function reconcile(key: string): Promise<ReconcileResult> {
    const set = sets.get(key);
    if (!set) return undefined;
    const mine = await context.claim(set, set.spec?.selector, podResource);
    const active = mine.filter(isActive);
    let failure: unknown;
    if (!set.metadata.deletionTimestamp) {
      try {
        await scale(set, active);
      } catch (error) {
        failure = error;
      }
    }
    const now = pods.ownedBy(set.metadata.uid!).filter(isActive);
    const said = failure === undefined ? undefined : messageOf(failure);
    const { status, wait } = replicaSetStatus(set, now, context.world.now(), said, context.timestamp());
    await context.replaceStatus(replicaSets, set, status);
    if (failure !== undefined) throw failure;
    return wait === undefined ? undefined : { after: wait };
  }

  async function scale(set: ReplicaSet, active: Pod[]): Promise<void> {
    const missing = (set.spec?.replicas ?? 1) - active.length;
    if (missing > 0) {
      await slowStart(Math.min(missing, burst), () => createPod(set));
    } else if (missing < 0) {
      const surplus = inDeletionOrder(active).slice(0, Math.min(-missing, burst));
      await Promise.all(
        surplus.map(async (pod) => {
          await context.remove(podResource, pod);
          events.normal(set, "SuccessfulDelete", `Deleted pod: ${pod.metadata.name}`);
        }),
      );
    }
  }

  async function createPod(set: ReplicaSet): Promise<void> {
    const naming = { generateName: namePrefix(set.metadata.name) };
    try {
      const pod = await context.create(podResource, podFromTemplate(set.spec!.template!, set, naming));
      events.normal(set, "SuccessfulCreate", `Created pod: ${pod.metadata.name}`);
    } catch (error) {
      if (!context.namespaceIsGoing(set)) {
        events.warning(set, "FailedCreate", `Error creating: ${messageOf(error)}`);
      }
      throw error;
    }
  }
}

/**
 * Runs `action` `count` times in growing batches (1, 2, 4, …), so that what fails every time fails once and not
 * five hundred times. Source: controller_utils.go and replica_set.go, slowStartBatch.
 */
export async function slowStart(count: number, action: () => Promise<void>): Promise<void> {
  for (let left = count, batch = 1; left > 0; left -= batch, batch *= 2) {
    const size = Math.min(left, batch);
    const results = await Promise.allSettled(Array.from({ length: size }, action));
    const failed = results.find((one) => one.status === "rejected");
    if (failed) throw failed.reason;
  }
}

/** A ReplicaSet's status over its active pods, and after how many milliseconds another pod becomes available. */
function replicaSetStatus(
  set: ReplicaSet,
  active: Pod[],
  now: number,
  failure: string | undefined,
  timestamp: string,
): { status: NonNullable<ReplicaSet["status"]>; wait: number | undefined } {
  const template = set.spec?.template?.metadata?.labels ?? {};
  const waits = active.map((pod) => availableIn(pod, set.spec?.minReadySeconds ?? 0, now));
  const later = waits.filter((wait) => wait !== undefined && wait > 0) as number[];
  const conditions = (set.status?.conditions ?? []).filter((one) => one.type !== "ReplicaFailure");
  if (failure !== undefined) {
    const known = set.status?.conditions?.find((one) => one.type === "ReplicaFailure");
    conditions.push(
      known ?? {
        type: "ReplicaFailure",
        status: "True",
        reason: "FailedCreate",
        message: failure,
        lastTransitionTime: timestamp,
      },
    );
  }
  return {
    status: {
      replicas: active.length,
      fullyLabeledReplicas: active.filter((pod) => selects({ matchLabels: template }, pod.metadata.labels))
        .length,
      readyReplicas: active.filter(isReady).length,
      availableReplicas: waits.filter((wait) => wait === 0).length,
      observedGeneration: set.metadata.generation,
      ...(conditions.length > 0 ? { conditions } : {}),
    },
    wait: later.length > 0 ? Math.min(...later) : undefined,
  };
}
