import {
  type ControllerRevision,
  controllerRevisions,
  type DaemonSet,
  daemonSets,
  type Node,
  nameOf,
  nodes as nodeResource,
  type Pod,
  pods as podResource,
} from "../../api/index.ts";
import { type ControllerContext, messageOf } from "./context.ts";
import { isNodeReady, isTolerated, matchesNode } from "./fit.ts";
import { availableIn, controllerOf, isActive, isReady, namePrefix, podFromTemplate } from "./pods.ts";
import type { ReconcileQueue, ReconcileResult } from "./queue.ts";
import { currentRevision, dropRevisions, revisionHashLabel } from "./revisions.ts";
import { absolute } from "./rollout.ts";
import { selects } from "./selectors.ts";

/** What daemons put up with: they are what makes a node work (daemon_controller.go, AddOrUpdateDaemonPodTolerations). */
const daemonTolerations = [
  { key: "node.kubernetes.io/not-ready", operator: "Exists", effect: "NoExecute" },
  { key: "node.kubernetes.io/unreachable", operator: "Exists", effect: "NoExecute" },
  { key: "node.kubernetes.io/disk-pressure", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/memory-pressure", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/pid-pressure", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/unschedulable", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/not-ready", operator: "Exists", effect: "NoSchedule" },
];

/** Keeps one pod on every node that a DaemonSet fits on. Source: pkg/controller/daemon. */
export function daemonSetController(context: ControllerContext): ReconcileQueue {
  const sets = context.cache(daemonSets);
  const pods = context.cache(podResource);
  const nodes = context.cache(nodeResource);
  context.cache(controllerRevisions);
  const events = context.events("daemonset-controller");
  const queue = context.queue("daemonset", reconcile);

  sets.onChange((before, after) => queue.add(nameOf((after ?? before)!)));
  pods.onChange((before, after) => {
    for (const pod of [before, after]) {
      const owner = pod && controllerOf(pod);
      if (owner?.kind === "DaemonSet") queue.add(`${pod!.metadata.namespace}/${owner.name}`);
      if (!pod || owner || pod !== after) continue;
      for (const set of sets.inNamespace(pod.metadata.namespace)) {
        if (selects(set.spec?.selector, pod.metadata.labels)) queue.add(nameOf(set));
      }
    }
  });
  nodes.onChange((before, after) => {
    if (before && after && nodeText(before) === nodeText(after)) return;
    for (const key of sets.keys()) queue.add(key);
  });
  return queue;

  async function reconcile(key: string): Promise<ReconcileResult> {
    const set = sets.get(key);
    if (!set?.spec) return undefined;
    const mine = await context.claim(set, set.spec.selector, podResource);
    if (set.metadata.deletionTimestamp) return undefined;
    const revision = await currentRevision(context, set, set.spec.template);
    let failure: unknown;
    try {
      await place(set, mine, revision);
      if (set.spec.updateStrategy?.type !== "OnDelete") await update(set, revision);
      await dropRevisions(context, set, [revision], set.spec.revisionHistoryLimit ?? 10, mine);
    } catch (error) {
      failure = error;
    }
    const { status, wait } = daemonSetStatus(
      set,
      nodes.list(),
      pods.ownedBy(set.metadata.uid!),
      hashOf(revision),
      context.world.now(),
    );
    await context.replaceStatus(daemonSets, sets.get(key) ?? set, status);
    if (failure !== undefined) throw failure;
    return wait === undefined ? undefined : { after: wait };
  }

  /** One pod on each node that should have one, none elsewhere; failed ones are replaced. */
  async function place(set: DaemonSet, mine: Pod[], revision: ControllerRevision): Promise<void> {
    const byNode = podsByNode(mine);
    for (const node of nodes.list()) {
      const name = node.metadata.name;
      const here = byNode.get(name) ?? [];
      byNode.delete(name);
      const { run, stay } = shouldRun(set, node);
      const failed = here.filter((pod) => pod.status?.phase === "Failed" && !pod.metadata.deletionTimestamp);
      for (const pod of failed) {
        events.warning(
          set,
          "FailedDaemonPod",
          `Found failed daemon pod ${nameOf(pod)} on node ${name}, will try to kill it`,
        );
        await remove(set, pod);
      }
      const alive = here.filter((pod) => !failed.includes(pod));
      if (run && alive.length === 0) await create(set, node, revision);
      else if (!stay) for (const pod of alive.filter(isActive)) await remove(set, pod);
      else for (const pod of surplus(alive, set)) await remove(set, pod);
    }
    // Pods of nodes that are no more are the pod garbage collector's.
  }

  /** Of several pods on a node the oldest of the current template stays, unless one is being surged in. */
  function surplus(alive: Pod[], set: DaemonSet): Pod[] {
    const active = alive.filter(isActive);
    const surge = set.spec?.updateStrategy?.rollingUpdate?.maxSurge;
    if (active.length <= 1 || (surge && absolute(surge, 100) > 0)) return [];
    return active.sort((a, b) => created(a) - created(b)).slice(1);
  }

  /** Deletes old pods, as many at a time as may be unavailable; their successors come by `place`. */
  async function update(set: DaemonSet, revision: ControllerRevision): Promise<void> {
    const hash = hashOf(revision);
    const wanted = [...nodes.list()].filter((node) => shouldRun(set, node).run);
    const rolling = set.spec?.updateStrategy?.rollingUpdate;
    const allowed = Math.max(1, absolute(rolling?.maxUnavailable ?? 1, wanted.length));
    const byNode = podsByNode(pods.ownedBy(set.metadata.uid!));
    const now = context.world.now();
    let unavailable = 0;
    const candidates: Pod[] = [];
    for (const node of wanted) {
      const here = (byNode.get(node.metadata.name) ?? []).filter(isActive);
      const isAvailable = here.some((pod) => availableIn(pod, set.spec?.minReadySeconds ?? 0, now) === 0);
      if (!isAvailable) unavailable++;
      for (const pod of here) {
        if (pod.metadata.labels?.[revisionHashLabel] === hash) continue;
        // One that does not work costs nothing.
        if (!isAvailable) await remove(set, pod);
        else candidates.push(pod);
      }
    }
    for (const pod of candidates.slice(0, Math.max(0, allowed - unavailable))) await remove(set, pod);
  }

  async function create(set: DaemonSet, node: Node, revision: ControllerRevision): Promise<void> {
    const pod = podFromTemplate(set.spec!.template, set, { generateName: namePrefix(set.metadata.name) });
    pod.metadata.labels = { ...pod.metadata.labels, [revisionHashLabel]: hashOf(revision) };
    pod.spec.tolerations = [...(pod.spec.tolerations ?? []), ...daemonTolerations];
    pod.spec.affinity = {
      ...pod.spec.affinity,
      nodeAffinity: {
        ...pod.spec.affinity?.nodeAffinity,
        // The template's own requirement was looked at before: only this node is left to choose.
        requiredDuringSchedulingIgnoredDuringExecution: {
          nodeSelectorTerms: [
            { matchFields: [{ key: "metadata.name", operator: "In", values: [node.metadata.name] }] },
          ],
        },
      },
    };
    try {
      const made = await context.create(podResource, pod);
      events.normal(set, "SuccessfulCreate", `Created pod: ${made.metadata.name}`);
    } catch (error) {
      if (!context.namespaceIsGoing(set)) {
        events.warning(set, "FailedCreate", `Error creating: ${messageOf(error)}`);
      }
      throw error;
    }
  }

  async function remove(set: DaemonSet, pod: Pod): Promise<void> {
    await context.remove(podResource, pod);
    events.normal(set, "SuccessfulDelete", `Deleted pod: ${pod.metadata.name}`);
  }
}

function hashOf(revision: ControllerRevision): string {
  return revision.metadata.labels?.[revisionHashLabel] ?? "";
}

function created(pod: Pod): number {
  return Date.parse(String(pod.metadata.creationTimestamp ?? 0));
}

function nodeText(node: Node): string {
  return JSON.stringify([node.metadata.labels, node.spec?.taints, isNodeReady(node)]);
}

/** The node that a daemon pod is on or, not scheduled yet, meant for. */
function targetNode(pod: Pod): string | undefined {
  if (pod.spec.nodeName) return pod.spec.nodeName;
  const required = pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  return required?.nodeSelectorTerms[0]?.matchFields?.find((one) => one.key === "metadata.name")?.values?.[0];
}

function podsByNode(pods: Pod[]): Map<string, Pod[]> {
  const byNode = new Map<string, Pod[]>();
  for (const pod of pods) {
    const node = targetNode(pod);
    if (node === undefined) continue;
    const list = byNode.get(node);
    if (list) list.push(pod);
    else byNode.set(node, [pod]);
  }
  return byNode;
}

/** Whether the node should have a pod of the set, and whether one that is there may stay. */
function shouldRun(set: DaemonSet, node: Node): { run: boolean; stay: boolean } {
  const template = set.spec!.template.spec;
  const tolerations = [...(template?.tolerations ?? []), ...daemonTolerations];
  const like = { spec: template } as Pod;
  if ((template?.nodeName && template.nodeName !== node.metadata.name) || !matchesNode(like, node)) {
    return { run: false, stay: false };
  }
  const taints = (node.spec?.taints ?? []).filter((taint) => !isTolerated(taint, tolerations));
  return {
    run: !taints.some((one) => one.effect === "NoSchedule" || one.effect === "NoExecute"),
    stay: !taints.some((one) => one.effect === "NoExecute"),
  };
}

/** A DaemonSet's status over nodes and pods, and after how many milliseconds another pod becomes available. */
function daemonSetStatus(
  set: DaemonSet,
  nodes: Iterable<Node>,
  pods: Pod[],
  hash: string,
  now: number,
): { status: NonNullable<DaemonSet["status"]>; wait: number | undefined } {
  const byNode = podsByNode(pods);
  const count = { desired: 0, current: 0, mis: 0, ready: 0, available: 0, updated: 0 };
  let wait: number | undefined;
  for (const node of nodes) {
    const here = (byNode.get(node.metadata.name) ?? []).filter((pod) => !pod.metadata.deletionTimestamp);
    if (!shouldRun(set, node).run) {
      if (here.length > 0) count.mis++;
      continue;
    }
    count.desired++;
    const pod = here.sort((a, b) => created(a) - created(b))[0];
    if (!pod) continue;
    count.current++;
    if (isReady(pod)) count.ready++;
    const ready = availableIn(pod, set.spec?.minReadySeconds ?? 0, now);
    if (ready === 0) count.available++;
    else if (ready !== undefined) wait = Math.min(wait ?? ready, ready);
    if (pod.metadata.labels?.[revisionHashLabel] === hash) count.updated++;
  }
  const unavailable = count.desired - count.available;
  return {
    status: {
      currentNumberScheduled: count.current,
      numberMisscheduled: count.mis,
      desiredNumberScheduled: count.desired,
      numberReady: count.ready,
      observedGeneration: set.metadata.generation,
      ...(count.updated > 0 ? { updatedNumberScheduled: count.updated } : {}),
      ...(count.available > 0 ? { numberAvailable: count.available } : {}),
      ...(unavailable > 0 ? { numberUnavailable: unavailable } : {}),
    },
    wait,
  };
}
