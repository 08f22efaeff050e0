import {
  type ControllerRevision,
  controllerRevisions,
  nameOf,
  type Pod,
  pods as podResource,
  type StatefulSet,
  statefulSets,
} from "../../api/index.ts";
import { isAlreadyExists } from "../../kube/index.ts";
import { type ControllerContext, messageOf } from "./context.ts";
import { availableIn, controllerOf, isFinished, isReady, podFromTemplate } from "./pods.ts";
import type { ReconcileQueue, ReconcileResult } from "./queue.ts";
import { currentRevision, dropRevisions, revisionHashLabel, revisionsOf, templateOf } from "./revisions.ts";
import { selects } from "./selectors.ts";

type Status = NonNullable<StatefulSet["status"]>;

/** What a StatefulSet's pods are counted as: which are there, which should be, and of which template. */
interface Situation {
  set: StatefulSet;
  current: ControllerRevision;
  update: ControllerRevision;
  /** Pods by ordinal. */
  pods: Map<number, Pod>;
  first: number;
  /** One after the last. */
  end: number;
}

/** The next thing to do; one at a time unless the set is Parallel. */
export type Step =
  | { do: "create"; ordinal: number; revision: "current" | "update" }
  | { do: "delete"; pod: Pod }
  | { do: "wait" };

/** Keeps pods with names that stay: `<set>-<ordinal>`, made and removed in order. Source: pkg/controller/statefulset. */
export function statefulSetController(context: ControllerContext): ReconcileQueue {
  const sets = context.cache(statefulSets);
  const pods = context.cache(podResource);
  context.cache(controllerRevisions);
  const events = context.events("statefulset-controller");
  const queue = context.queue("statefulset", reconcile);

  sets.onChange((before, after) => queue.add(nameOf((after ?? before)!)));
  pods.onChange((before, after) => {
    for (const pod of [before, after]) {
      if (!pod) continue;
      const owner = controllerOf(pod);
      if (owner?.kind === "StatefulSet") queue.add(`${pod.metadata.namespace}/${owner.name}`);
      if (owner || pod !== after) continue;
      const parent = parentOf(pod.metadata.name)?.set;
      const set = sets.get(`${pod.metadata.namespace}/${parent}`);
      if (set && selects(set.spec?.selector, pod.metadata.labels)) queue.add(nameOf(set));
    }
  });
  return queue;

  async function reconcile(key: string): Promise<ReconcileResult> {
    const set = sets.get(key);
    if (!set?.spec) return undefined;
    const claimed = await context.claim(set, set.spec.selector, podResource);
    if (set.metadata.deletionTimestamp) return undefined;
    if (set.spec.volumeClaimTemplates?.length) {
      events.warning(
        set,
        "FailedCreate",
        "volumeClaimTemplates are not served here: use a volume of the pod's template, such as emptyDir",
      );
      return undefined;
    }
    const update = await currentRevision(context, set, set.spec.template);
    const current =
      revisionsOf(context, set).find((one) => one.metadata.name === set.status?.currentRevision) ?? update;
    const situation = situationOf(set, claimed, current, update);
    let failure: unknown;
    try {
      for (const step of stepsOf(situation, context.world.now())) await take(situation, step);
      await dropRevisions(context, set, [current, update], set.spec.revisionHistoryLimit ?? 10, claimed);
    } catch (error) {
      failure = error;
    }
    const after = situationOf(set, pods.ownedBy(set.metadata.uid!), current, update);
    const { status, wait } = statefulSetStatus(after, context.world.now());
    await context.replaceStatus(statefulSets, sets.get(key) ?? set, status);
    if (failure !== undefined) throw failure;
    return wait === undefined ? undefined : { after: wait };
  }

  async function take({ set, current, update }: Situation, step: Step): Promise<void> {
    if (step.do === "delete") {
      await context.remove(podResource, step.pod);
      events.normal(
        set,
        "SuccessfulDelete",
        `Delete Pod ${step.pod.metadata.name} in StatefulSet ${set.metadata.name} successful`,
      );
    } else if (step.do === "create") {
      await create(set, step.ordinal, step.revision === "current" ? current : update);
    }
  }

  async function create(set: StatefulSet, ordinal: number, revision: ControllerRevision): Promise<void> {
    const name = `${set.metadata.name}-${ordinal}`;
    const pod = podFromTemplate(templateOf(revision), set, { name });
    pod.metadata.labels = {
      ...pod.metadata.labels,
      [revisionHashLabel]: revision.metadata.name,
      "statefulset.kubernetes.io/pod-name": name,
      "apps.kubernetes.io/pod-index": String(ordinal),
    };
    pod.spec.hostname = name;
    if (set.spec?.serviceName) pod.spec.subdomain = set.spec.serviceName;
    const subject = `Pod ${name} in StatefulSet ${set.metadata.name}`;
    try {
      await context.create(podResource, pod);
      events.normal(set, "SuccessfulCreate", `Create ${subject} successful`);
    } catch (error) {
      const isRace = isAlreadyExists(error) && pods.get(`${set.metadata.namespace}/${name}`) === undefined;
      if (!context.namespaceIsGoing(set) && !isRace) {
        events.warning(set, "FailedCreate", `Create ${subject} failed error: ${messageOf(error)}`);
      }
      throw error;
    }
  }
}

/** Set and ordinal of a pod's name, or undefined when it is none that a StatefulSet gives. */
function parentOf(podName: string): { set: string; ordinal: number } | undefined {
  const match = /^(.+)-(0|[1-9]\d*)$/.exec(podName);
  return match ? { set: match[1]!, ordinal: Number(match[2]) } : undefined;
}

function situationOf(
  set: StatefulSet,
  owned: Pod[],
  current: ControllerRevision,
  update: ControllerRevision,
): Situation {
  const pods = new Map<number, Pod>();
  for (const pod of owned) {
    const parent = parentOf(pod.metadata.name);
    if (parent?.set === set.metadata.name) pods.set(parent.ordinal, pod);
  }
  const first = set.spec?.ordinals?.start ?? 0;
  return { set, current, update, pods, first, end: first + (set.spec?.replicas ?? 1) };
}

/** What may be done now, in order. Source: stateful_set_control.go, updateStatefulSet. */
function stepsOf(situation: Situation, now: number): Step[] {
  const { set, pods, first, end } = situation;
  const parallel = set.spec?.podManagementPolicy === "Parallel";
  const minReady = set.spec?.minReadySeconds ?? 0;
  const isHealthy = (pod: Pod) =>
    isReady(pod) && !pod.metadata.deletionTimestamp && availableIn(pod, minReady, now) === 0;
  const steps: Step[] = [];

  for (let ordinal = first; ordinal < end; ordinal++) {
    const pod = pods.get(ordinal);
    if (!pod) {
      steps.push({ do: "create", ordinal, revision: revisionFor(situation, ordinal) });
    } else if (pod.metadata.deletionTimestamp) {
      // Its successor has the same name and has to wait.
      steps.push({ do: "wait" });
    } else if (isFinished(pod)) {
      steps.push({ do: "delete", pod });
    } else if (!isHealthy(pod)) {
      steps.push({ do: "wait" });
    } else {
      continue;
    }
    if (!parallel) return steps;
  }

  const condemned = [...pods.keys()].filter((ordinal) => ordinal < first || ordinal >= end);
  for (const ordinal of condemned.sort((a, b) => b - a)) {
    const pod = pods.get(ordinal)!;
    steps.push(pod.metadata.deletionTimestamp ? { do: "wait" } : { do: "delete", pod });
    if (!parallel) return steps;
  }
  if (set.spec?.updateStrategy?.type !== "OnDelete") steps.push(...updateSteps(situation, isHealthy));
  return steps;
}

/** From the highest ordinal down to the partition: one old pod at a time, each after the one above it is well. */
function updateSteps(situation: Situation, isHealthy: (pod: Pod) => boolean): Step[] {
  const { set, pods, first, end, update } = situation;
  const partition = set.spec?.updateStrategy?.rollingUpdate?.partition ?? 0;
  for (let ordinal = end - 1; ordinal >= first + partition; ordinal--) {
    const pod = pods.get(ordinal);
    if (!pod) return [];
    const isOld = pod.metadata.labels?.[revisionHashLabel] !== update.metadata.name;
    if (isOld && !pod.metadata.deletionTimestamp) return [{ do: "delete", pod }];
    if (!isHealthy(pod)) return [];
  }
  return [];
}

/** During a rolling update low ordinals are still of the current revision, also when one has to be made anew. */
function revisionFor(situation: Situation, ordinal: number): "current" | "update" {
  const { set, current, update, first } = situation;
  if (current.metadata.name === update.metadata.name) return "update";
  const strategy = set.spec?.updateStrategy;
  if (strategy?.type === "OnDelete") return "update";
  const partition = strategy?.rollingUpdate?.partition;
  const still = partition ?? set.status?.currentReplicas ?? 0;
  return ordinal < first + still ? "current" : "update";
}

/** A StatefulSet's status, and after how many milliseconds another pod becomes available. */
function statefulSetStatus(situation: Situation, now: number): { status: Status; wait: number | undefined } {
  const { set, pods, current, update } = situation;
  const count = { replicas: 0, ready: 0, available: 0, current: 0, updated: 0 };
  let wait: number | undefined;
  for (const pod of pods.values()) {
    count.replicas++;
    if (isReady(pod)) {
      count.ready++;
      const ready = availableIn(pod, set.spec?.minReadySeconds ?? 0, now);
      if (ready === 0) count.available++;
      else if (ready !== undefined) wait = Math.min(wait ?? ready, ready);
    }
    if (pod.metadata.deletionTimestamp) continue;
    const revision = pod.metadata.labels?.[revisionHashLabel];
    if (revision === current.metadata.name) count.current++;
    if (revision === update.metadata.name) count.updated++;
  }
  const isUpdated = count.updated === count.replicas && count.ready === count.replicas;
  const isDone =
    isUpdated &&
    count.replicas === (set.spec?.replicas ?? 1) &&
    set.spec?.updateStrategy?.type !== "OnDelete";
  const name = isDone ? update.metadata.name : current.metadata.name;
  const currentReplicas = isDone ? count.updated : count.current;
  return {
    status: {
      ...(set.status?.conditions ? { conditions: set.status.conditions } : {}),
      observedGeneration: set.metadata.generation,
      replicas: count.replicas,
      ...(count.ready > 0 ? { readyReplicas: count.ready } : {}),
      ...(currentReplicas > 0 ? { currentReplicas } : {}),
      ...(count.updated > 0 ? { updatedReplicas: count.updated } : {}),
      availableReplicas: count.available,
      currentRevision: name,
      updateRevision: update.metadata.name,
      collisionCount: set.status?.collisionCount ?? 0,
    },
    wait,
  };
}
