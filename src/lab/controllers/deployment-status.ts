/**
 * What a Deployment says about itself: pure functions.
 * Source: pkg/controller/deployment/{progress,sync}.go and util/deployment_util.go; the reasons and messages are
 * what `kubectl rollout status` and `kubectl describe` show.
 */
import type { Deployment, ReplicaSet } from "../../api/index.ts";
import { bounds, total, wanted } from "./rollout.ts";

export type DeploymentStatus = NonNullable<Deployment["status"]>;
export type DeploymentCondition = NonNullable<DeploymentStatus["conditions"]>[number];

/** Status as counted over the ReplicaSets, with the Available condition and all other conditions as they were. */
export function countedStatus(
  deployment: Deployment,
  current: ReplicaSet | undefined,
  all: ReplicaSet[],
  now: string,
): DeploymentStatus {
  const sum = (field: "replicas" | "readyReplicas" | "availableReplicas") =>
    all.reduce((count, set) => count + (set.status?.[field] ?? 0), 0);
  const available = sum("availableReplicas");
  const enough = available >= wanted(deployment) - bounds(deployment).unavailable;
  const conditions = withCondition(
    deployment.status?.conditions ?? [],
    enough
      ? ["Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability."]
      : [
          "Available",
          "False",
          "MinimumReplicasUnavailable",
          "Deployment does not have minimum availability.",
        ],
    now,
  );
  const counts = {
    replicas: sum("replicas"),
    updatedReplicas: current?.status?.replicas ?? 0,
    readyReplicas: sum("readyReplicas"),
    availableReplicas: available,
    unavailableReplicas: Math.max(0, total(all) - available),
  };
  return {
    observedGeneration: deployment.metadata.generation,
    ...Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0)),
    ...(deployment.status?.collisionCount ? { collisionCount: deployment.status.collisionCount } : {}),
    conditions,
  };
}

/** The status after a step of a rollout: with Progressing, and ReplicaFailure taken from the ReplicaSets. */
export function rolloutStatus(
  deployment: Deployment,
  current: ReplicaSet | undefined,
  all: ReplicaSet[],
  now: string,
): DeploymentStatus {
  const status = countedStatus(deployment, current, all, now);
  const known = conditionOf(deployment.status, "Progressing");
  const settled =
    (status.replicas ?? 0) === (status.updatedReplicas ?? 0) && known?.reason === "NewReplicaSetAvailable";
  let conditions = status.conditions ?? [];
  const subject = current
    ? `ReplicaSet "${current.metadata.name}"`
    : `Deployment "${deployment.metadata.name}"`;

  if (hasDeadline(deployment) && !settled) {
    if (isComplete(deployment, status)) {
      conditions = withCondition(
        conditions,
        ["Progressing", "True", "NewReplicaSetAvailable", `${subject} has successfully progressed.`],
        now,
      );
    } else if (hasMoved(deployment.status, status)) {
      // Also when status and reason stay: lastUpdateTime is what the deadline counts from.
      conditions = withCondition(
        conditions,
        ["Progressing", "True", "ReplicaSetUpdated", `${subject} is progressing.`],
        now,
        true,
      );
    } else if (deadlineIn(deployment, status, Date.parse(now)) === 0) {
      conditions = withCondition(
        conditions,
        ["Progressing", "False", "ProgressDeadlineExceeded", `${subject} has timed out progressing.`],
        now,
      );
    }
  }
  const failure = [current, ...all]
    .flatMap((set) => set?.status?.conditions ?? [])
    .find((one) => one.type === "ReplicaFailure");
  conditions = failure
    ? withCondition(
        conditions,
        [failure.type, failure.status, failure.reason ?? "", failure.message ?? ""],
        now,
      )
    : conditions.filter((one) => one.type !== "ReplicaFailure");
  return { ...status, conditions };
}

export function conditionOf(
  status: DeploymentStatus | undefined,
  type: string,
): DeploymentCondition | undefined {
  return status?.conditions?.find((one) => one.type === type);
}

/** Sets a condition; an equal one stays as it is unless `touch` asks for a new lastUpdateTime. */
export function withCondition(
  conditions: DeploymentCondition[],
  [type, status, reason, message]: [string, string, string, string],
  now: string,
  touch = false,
): DeploymentCondition[] {
  const known = conditions.find((one) => one.type === type);
  if (known && known.status === status && known.reason === reason && !touch) return conditions;
  const condition: DeploymentCondition = {
    type,
    status,
    lastUpdateTime: now,
    lastTransitionTime: known && known.status === status ? known.lastTransitionTime : now,
    reason,
    message,
  };
  return [...conditions.filter((one) => one.type !== type), condition];
}

export function isComplete(deployment: Deployment, status: DeploymentStatus): boolean {
  const target = wanted(deployment);
  return (
    (status.updatedReplicas ?? 0) === target &&
    (status.replicas ?? 0) === target &&
    (status.availableReplicas ?? 0) === target &&
    (status.observedGeneration ?? 0) >= (deployment.metadata.generation ?? 0)
  );
}

function hasMoved(before: DeploymentStatus | undefined, after: DeploymentStatus): boolean {
  const old = (status: DeploymentStatus | undefined) =>
    (status?.replicas ?? 0) - (status?.updatedReplicas ?? 0);
  return (
    (after.updatedReplicas ?? 0) > (before?.updatedReplicas ?? 0) ||
    old(after) < old(before) ||
    (after.readyReplicas ?? 0) > (before?.readyReplicas ?? 0) ||
    (after.availableReplicas ?? 0) > (before?.availableReplicas ?? 0)
  );
}

function hasDeadline(deployment: Deployment): boolean {
  return deployment.spec?.progressDeadlineSeconds !== 2147483647;
}

/** Milliseconds until the rollout counts as stuck, or undefined when it is not under way. */
export function deadlineIn(
  deployment: Deployment,
  status: DeploymentStatus,
  now: number,
): number | undefined {
  const progressing = conditionOf(status, "Progressing");
  if (!hasDeadline(deployment) || deployment.spec?.paused || !progressing) return undefined;
  if (progressing.reason === "NewReplicaSetAvailable") return undefined;
  if (progressing.reason === "ProgressDeadlineExceeded") return undefined;
  const from = Date.parse(String(progressing.lastUpdateTime));
  return Math.max(0, from + (deployment.spec?.progressDeadlineSeconds ?? 600) * 1000 - now);
}
