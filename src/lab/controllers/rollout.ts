/**
 * How many pods each ReplicaSet of a Deployment should have next: pure arithmetic.
 * Source: pkg/controller/deployment/{rolling,recreate,sync}.go and util/deployment_util.go.
 */
import type { Deployment, ReplicaSet } from "../../api/index.ts";

export interface Scale {
  set: ReplicaSet;
  to: number;
}

export const maxReplicasAnnotation = "deployment.kubernetes.io/max-replicas";
export const desiredReplicasAnnotation = "deployment.kubernetes.io/desired-replicas";

export function isRollingUpdate(deployment: Deployment): boolean {
  return deployment.spec?.strategy?.type !== "Recreate";
}

/** How many pods may be above and how many may be missing below the wanted count, as absolute numbers. */
export function bounds(deployment: Deployment): { surge: number; unavailable: number } {
  if (!isRollingUpdate(deployment)) return { surge: 0, unavailable: 0 };
  const replicas = wanted(deployment);
  const rolling = deployment.spec?.strategy?.rollingUpdate;
  const surge = absolute(rolling?.maxSurge ?? "25%", replicas, Math.ceil);
  const unavailable = Math.min(absolute(rolling?.maxUnavailable ?? "25%", replicas, Math.floor), replicas);
  // Neither more nor fewer would be a rollout that cannot move.
  return surge === 0 && unavailable === 0 ? { surge, unavailable: 1 } : { surge, unavailable };
}

/** A count, or a percentage of `total`. */
export function absolute(
  value: number | string,
  total: number,
  round: (value: number) => number = Math.ceil,
): number {
  if (typeof value === "number") return value;
  return value.endsWith("%") ? round((total * Number(value.slice(0, -1))) / 100) : Number(value) || 0;
}

export function wanted(deployment: Deployment): number {
  return deployment.spec?.replicas ?? 1;
}

export function size(set: ReplicaSet): number {
  return set.spec?.replicas ?? 1;
}

const available = (set: ReplicaSet) => set.status?.availableReplicas ?? 0;

export function total(sets: ReplicaSet[]): number {
  return sets.reduce((sum, set) => sum + size(set), 0);
}

/** Oldest first. */
export function byAge(a: ReplicaSet, b: ReplicaSet): number {
  const age = (set: ReplicaSet) => Date.parse(String(set.metadata.creationTimestamp ?? 0));
  return age(a) - age(b) || (a.metadata.name < b.metadata.name ? -1 : 1);
}

/** The size that a new ReplicaSet starts with, given those that are there already. */
export function initialSize(deployment: Deployment, others: ReplicaSet[]): number {
  if (!isRollingUpdate(deployment)) return wanted(deployment);
  const room = wanted(deployment) + bounds(deployment).surge - total(others);
  return Math.max(0, Math.min(room, wanted(deployment)));
}

/**
 * The next step of a rolling update: the new ReplicaSet as far up as the surge allows; when it is there, the old
 * ones as far down as the new pods that are available allow, their unhealthy pods first. Empty when nothing
 * may move now.
 */
export function rollingStep(deployment: Deployment, current: ReplicaSet, old: ReplicaSet[]): Scale[] {
  const target = wanted(deployment);
  if (size(current) > target) return [{ set: current, to: target }];
  const up = Math.min(target + bounds(deployment).surge - total([current, ...old]), target - size(current));
  if (up > 0) return [{ set: current, to: size(current) + up }];
  return stepDown(deployment, current, old);
}

function stepDown(deployment: Deployment, current: ReplicaSet, old: ReplicaSet[]): Scale[] {
  if (total(old) === 0) return [];
  const least = wanted(deployment) - bounds(deployment).unavailable;
  const unready = Math.max(0, size(current) - available(current));
  const mostDown = total([current, ...old]) - least - unready;
  if (mostDown <= 0) return [];

  const sizes = new Map(old.map((set) => [set, size(set)]));
  const ordered = [...old].sort(byAge);
  let unhealthyLeft = mostDown;
  for (const set of ordered) {
    const unhealthy = Math.max(0, size(set) - available(set));
    const take = Math.min(unhealthy, unhealthyLeft);
    sizes.set(set, size(set) - take);
    unhealthyLeft -= take;
  }
  let healthyLeft = [current, ...old].reduce((sum, set) => sum + available(set), 0) - least;
  for (const set of ordered) {
    const take = Math.min(sizes.get(set)!, Math.max(0, healthyLeft));
    sizes.set(set, sizes.get(set)! - take);
    healthyLeft -= take;
  }
  return ordered.filter((set) => sizes.get(set) !== size(set)).map((set) => ({ set, to: sizes.get(set)! }));
}

/** Whether the wanted count was changed since the ReplicaSets were last scaled. */
export function isScaling(deployment: Deployment, sets: ReplicaSet[]): boolean {
  return sets.some((set) => {
    const desired = set.metadata.annotations?.[desiredReplicasAnnotation];
    return size(set) > 0 && desired !== undefined && Number(desired) !== wanted(deployment);
  });
}

/**
 * The sizes after the wanted count changed, or while the Deployment is paused: one ReplicaSet simply takes the
 * count; in the middle of a rolling update the change is shared out in proportion.
 */
export function scaleStep(
  deployment: Deployment,
  current: ReplicaSet | undefined,
  old: ReplicaSet[],
): Scale[] {
  const all = current ? [current, ...old] : old;
  const active = all.filter((set) => size(set) > 0);
  const target = wanted(deployment);
  const only = active.length > 1 ? undefined : (active[0] ?? current ?? [...old].sort(byAge).at(-1));
  if (only) return size(only) === target ? [] : [{ set: only, to: target }];
  if (current && size(current) === target && available(current) === target) {
    return active.filter((set) => set !== current).map((set) => ({ set, to: 0 }));
  }
  if (!isRollingUpdate(deployment)) return [];
  return proportional(deployment, active);
}

function proportional(deployment: Deployment, active: ReplicaSet[]): Scale[] {
  const target = wanted(deployment);
  const allowed = target > 0 ? target + bounds(deployment).surge : 0;
  const toAdd = allowed - total(active);
  if (toAdd === 0) return [];
  // The largest first; of equals the newer when growing, the older when shrinking.
  const ordered = [...active].sort((a, b) => size(b) - size(a) || (toAdd > 0 ? byAge(b, a) : byAge(a, b)));
  let added = 0;
  const scales = ordered.map((set) => {
    const before =
      Number(set.metadata.annotations?.[maxReplicasAnnotation]) || deployment.status?.replicas || 1;
    const share = Math.round((size(set) * allowed) / before) - size(set);
    const left = toAdd - added;
    const step = toAdd > 0 ? Math.max(0, Math.min(share, left)) : Math.min(0, Math.max(share, left));
    added += step;
    return { set, to: size(set) + step };
  });
  const first = scales[0]!;
  first.to = Math.max(0, first.to + (toAdd - added));
  return scales.filter((one) => one.to !== size(one.set));
}
