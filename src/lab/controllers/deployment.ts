import {
  type Deployment,
  deployments,
  nameOf,
  pods as podResource,
  type ReplicaSet,
  replicaSets,
} from "../../api/index.ts";
import { isAlreadyExists } from "../../kube/index.ts";
import type { ControllerContext } from "./context.ts";
import {
  conditionOf,
  countedStatus,
  type DeploymentStatus,
  deadlineIn,
  rolloutStatus,
  withCondition,
} from "./deployment-status.ts";
import { sameTemplate, templateHash, templateHashLabel } from "./hash.ts";
import { controllerOf, controllerReference, isFinished } from "./pods.ts";
import type { ReconcileQueue, ReconcileResult } from "./queue.ts";
import {
  bounds,
  byAge,
  desiredReplicasAnnotation,
  initialSize,
  isRollingUpdate,
  isScaling,
  maxReplicasAnnotation,
  rollingStep,
  type Scale,
  scaleStep,
  size,
  wanted,
} from "./rollout.ts";
import { selects } from "./selectors.ts";

const revisionAnnotation = "deployment.kubernetes.io/revision";
const historyAnnotation = "deployment.kubernetes.io/revision-history";

/** Annotations of a Deployment that say nothing about its ReplicaSets (util/deployment_util.go). */
const notCopied = new Set([
  "kubectl.kubernetes.io/last-applied-configuration",
  revisionAnnotation,
  historyAnnotation,
  desiredReplicasAnnotation,
  maxReplicasAnnotation,
  "deprecated.deployment.rollback.to",
]);

/**
 * Turns a Deployment into ReplicaSets, one per template, and moves the pods from the old ones to the new one.
 * Source: pkg/controller/deployment. `kubectl rollout undo` works by writing an old template back.
 */
export function deploymentController(context: ControllerContext): ReconcileQueue {
  const all = context.cache(deployments);
  const sets = context.cache(replicaSets);
  const pods = context.cache(podResource);
  const events = context.events("deployment-controller");
  const queue = context.queue("deployment", reconcile);

  all.onChange((before, after) => queue.add(nameOf((after ?? before)!)));
  sets.onChange((before, after) => {
    for (const set of [before, after]) {
      if (!set) continue;
      const owner = controllerOf(set);
      if (owner) {
        if (owner.kind === "Deployment") queue.add(`${set.metadata.namespace}/${owner.name}`);
      } else {
        for (const one of all.inNamespace(set.metadata.namespace)) {
          if (selects(one.spec?.selector, set.metadata.labels)) queue.add(nameOf(one));
        }
      }
    }
  });
  // Only a Recreate waits for pods: for the last one of the old template to be gone.
  pods.onChange((before, after) => {
    const owner = before && (!after || isFinished(after)) ? controllerOf(before) : undefined;
    const set = owner && sets.get(`${before!.metadata.namespace}/${owner.name}`);
    const deployment = set && controllerOf(set);
    if (deployment) queue.add(`${set.metadata.namespace}/${deployment.name}`);
  });
  return queue;

  async function reconcile(key: string): Promise<ReconcileResult> {
    const deployment = all.get(key);
    if (!deployment?.spec?.template) return undefined;
    const owned = (await context.claim(deployment, deployment.spec.selector, replicaSets)).sort(byAge);
    const current = owned.find((set) => sameTemplate(set.spec!.template!, deployment.spec!.template));
    const old = owned.filter((set) => set !== current);
    if (deployment.metadata.deletionTimestamp) {
      await write(deployment, countedStatus(deployment, current, owned, context.timestamp()));
      return undefined;
    }
    const marked = markPaused(deployment);
    if (marked) {
      await write(deployment, marked);
      return undefined;
    }
    if (deployment.spec.paused || isScaling(deployment, owned)) {
      const known = current && (await dressed(deployment, current, old));
      await scaleAll(deployment, scaleStep(deployment, known, old));
      const now = freshSets(deployment);
      await write(
        deployment,
        countedStatus(all.get(key) ?? deployment, now.current, now.all, context.timestamp()),
      );
      return undefined;
    }
    return roll(key, deployment, current, old);
  }

  async function roll(
    key: string,
    deployment: Deployment,
    found: ReplicaSet | undefined,
    old: ReplicaSet[],
  ): Promise<ReconcileResult> {
    let current = found;
    if (isRollingUpdate(deployment)) {
      current = found ? await dressed(deployment, found, old) : await createSet(deployment, old);
      await scaleAll(deployment, rollingStep(deployment, current, old));
    } else {
      await scaleAll(
        deployment,
        old.filter((set) => size(set) > 0).map((set) => ({ set, to: 0 })),
      );
      const remaining = old.some((set) => pods.ownedBy(set.metadata.uid!).some((pod) => !isFinished(pod)));
      if (!remaining) {
        current = found ? await dressed(deployment, found, old) : await createSet(deployment, old);
        if (size(current) !== wanted(deployment)) {
          await scaleAll(deployment, [{ set: current, to: wanted(deployment) }]);
        }
      }
    }
    const now = freshSets(deployment);
    const latest = all.get(key);
    if (!latest) return undefined;
    const revision = now.current?.metadata.annotations?.[revisionAnnotation];
    let written = latest;
    if (revision !== undefined && latest.metadata.annotations?.[revisionAnnotation] !== revision) {
      written = await context.patch(deployments, latest, {
        metadata: { annotations: { [revisionAnnotation]: revision } },
      });
    }
    const status = rolloutStatus(written, now.current, now.all, context.timestamp());
    await write(written, status);
    if (conditionOf(status, "Progressing")?.reason === "NewReplicaSetAvailable") {
      await dropHistory(
        written,
        now.all.filter((set) => set !== now.current),
      );
    }
    const wait = deadlineIn(written, status, context.world.now());
    // Timestamps are whole seconds, so the deadline may be up to one second later than it looks.
    return wait === undefined ? undefined : { after: wait + 1000 };
  }

  /** The ReplicaSets as they are after this reconcile's own writes. */
  function freshSets(deployment: Deployment): { current: ReplicaSet | undefined; all: ReplicaSet[] } {
    const owned = sets
      .ownedBy(deployment.metadata.uid!)
      .filter((set) => controllerOf(set)?.uid === deployment.metadata.uid)
      .sort(byAge);
    return {
      all: owned,
      current: owned.find((set) => sameTemplate(set.spec!.template!, deployment.spec!.template)),
    };
  }

  async function createSet(deployment: Deployment, old: ReplicaSet[]): Promise<ReplicaSet> {
    const { template, selector, minReadySeconds } = deployment.spec!;
    const hash = templateHash(template, deployment.status?.collisionCount);
    const name = `${deployment.metadata.name}-${hash}`;
    const replicas = initialSize(deployment, old);
    const labels = { ...template.metadata?.labels, [templateHashLabel]: hash };
    try {
      const set = await context.create(replicaSets, {
        metadata: {
          name,
          namespace: deployment.metadata.namespace,
          labels,
          annotations: annotationsFor(deployment, undefined, nextRevision(old)),
          ownerReferences: [controllerReference(deployment)],
        },
        spec: {
          replicas,
          ...(minReadySeconds ? { minReadySeconds } : {}),
          selector: { ...selector, matchLabels: { ...selector.matchLabels, [templateHashLabel]: hash } },
          template: { ...template, metadata: { ...template.metadata, labels } },
        },
      });
      if (replicas > 0) {
        events.normal(deployment, "ScalingReplicaSet", `Scaled up replica set ${name} from 0 to ${replicas}`);
      }
      await progressed(deployment, "NewReplicaSetCreated", `Created new replica set "${name}"`);
      return set;
    } catch (error) {
      if (isAlreadyExists(error)) await collided(deployment, name);
      else if (!context.namespaceIsGoing(deployment)) {
        const message = error instanceof Error ? error.message : String(error);
        await progressed(
          deployment,
          "ReplicaSetCreateError",
          `Failed to create new replica set "${name}": ${message}`,
          "False",
        );
      }
      throw error;
    }
  }

  /** The name is taken by a ReplicaSet that is not ours or has another template: hash with a new salt. */
  async function collided(deployment: Deployment, name: string): Promise<void> {
    const other = await context.client.get(replicaSets, `${deployment.metadata.namespace}/${name}`);
    const ours = other && controllerOf(other)?.uid === deployment.metadata.uid;
    if (!other || (ours && sameTemplate(other.spec!.template!, deployment.spec!.template))) return;
    const latest = all.get(nameOf(deployment)) ?? deployment;
    await context.replaceStatus(deployments, latest, {
      ...latest.status,
      collisionCount: (latest.status?.collisionCount ?? 0) + 1,
    });
  }

  async function progressed(
    deployment: Deployment,
    reason: string,
    message: string,
    status: "True" | "False" = "True",
  ): Promise<void> {
    const latest = all.get(nameOf(deployment)) ?? deployment;
    const conditions = withCondition(
      latest.status?.conditions ?? [],
      ["Progressing", status, reason, message],
      context.timestamp(),
    );
    await context.replaceStatus(deployments, latest, { ...latest.status, conditions });
  }

  /** The current ReplicaSet with the revision, annotations and minReadySeconds that the Deployment gives it. */
  async function dressed(deployment: Deployment, set: ReplicaSet, old: ReplicaSet[]): Promise<ReplicaSet> {
    const revision = Math.max(nextRevision(old), revisionOf(set));
    const annotations = annotationsFor(deployment, set, revision);
    const minReadySeconds = deployment.spec?.minReadySeconds ?? 0;
    const same =
      (set.spec?.minReadySeconds ?? 0) === minReadySeconds &&
      Object.entries(annotations).every(([key, value]) => set.metadata.annotations?.[key] === value);
    const known = conditionOf(deployment.status, "Progressing");
    if (!known) {
      await progressed(deployment, "FoundNewReplicaSet", `Found new replica set "${set.metadata.name}"`);
    }
    if (same) return set;
    return context.patch(replicaSets, set, { metadata: { annotations }, spec: { minReadySeconds } });
  }

  function annotationsFor(
    deployment: Deployment,
    set: ReplicaSet | undefined,
    revision: number,
  ): Record<string, string> {
    const annotations: Record<string, string> = {};
    for (const [key, value] of Object.entries(deployment.metadata.annotations ?? {})) {
      if (!notCopied.has(key)) annotations[key] = value;
    }
    annotations[desiredReplicasAnnotation] = String(wanted(deployment));
    annotations[maxReplicasAnnotation] = String(wanted(deployment) + bounds(deployment).surge);
    annotations[revisionAnnotation] = String(revision);
    const before = set?.metadata.annotations?.[revisionAnnotation];
    if (before !== undefined && before !== String(revision)) {
      const history = set?.metadata.annotations?.[historyAnnotation];
      annotations[historyAnnotation] = history ? `${history},${before}` : before;
    }
    return annotations;
  }

  async function scaleAll(deployment: Deployment, scales: Scale[]): Promise<void> {
    const annotations = {
      [desiredReplicasAnnotation]: String(wanted(deployment)),
      [maxReplicasAnnotation]: String(wanted(deployment) + bounds(deployment).surge),
    };
    for (const { set, to } of scales) {
      const from = size(set);
      await context.patch(replicaSets, set, { metadata: { annotations }, spec: { replicas: to } });
      events.normal(
        deployment,
        "ScalingReplicaSet",
        `Scaled ${to > from ? "up" : "down"} replica set ${set.metadata.name} from ${from} to ${to}`,
      );
    }
    // A size that is right already still has to carry the new count, or it would look like scaling for ever.
    for (const set of sets.ownedBy(deployment.metadata.uid!)) {
      if (
        size(set) > 0 &&
        set.metadata.annotations?.[desiredReplicasAnnotation] !== String(wanted(deployment))
      ) {
        await context.patch(replicaSets, set, { metadata: { annotations } });
      }
    }
  }

  async function dropHistory(deployment: Deployment, old: ReplicaSet[]): Promise<void> {
    const keep = deployment.spec?.revisionHistoryLimit ?? 10;
    const empty = old.filter((set) => size(set) === 0 && (set.status?.replicas ?? 0) === 0);
    const surplus = empty
      .filter((set) => !set.metadata.deletionTimestamp)
      .sort((a, b) => revisionOf(a) - revisionOf(b));
    for (const set of surplus.slice(0, Math.max(0, surplus.length - keep))) {
      await context.remove(replicaSets, set);
    }
  }

  /** The status when the Deployment was just paused or resumed, else undefined. */
  function markPaused(deployment: Deployment): DeploymentStatus | undefined {
    const known = conditionOf(deployment.status, "Progressing");
    const isMarked = known?.reason === "DeploymentPaused";
    const paused = deployment.spec?.paused === true;
    if (paused === isMarked || (known?.reason === "ProgressDeadlineExceeded" && paused)) return undefined;
    const conditions = withCondition(
      deployment.status?.conditions ?? [],
      paused
        ? ["Progressing", "Unknown", "DeploymentPaused", "Deployment is paused"]
        : ["Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed"],
      context.timestamp(),
    );
    return { ...deployment.status, conditions };
  }

  async function write(deployment: Deployment, status: DeploymentStatus): Promise<void> {
    await context.replaceStatus(deployments, deployment, status);
  }
}

function revisionOf(set: ReplicaSet): number {
  return Number(set.metadata.annotations?.[revisionAnnotation]) || 0;
}

function nextRevision(old: ReplicaSet[]): number {
  return Math.max(0, ...old.map(revisionOf)) + 1;
}
