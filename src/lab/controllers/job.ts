import { type Job, jobs as jobResource, nameOf, type Pod, pods as podResource } from "../../api/index.ts";
import { type ControllerContext, messageOf } from "./context.ts";
import { controllerOf, inDeletionOrder, isActive, isReady, namePrefix, podFromTemplate } from "./pods.ts";
import type { ReconcileQueue, ReconcileResult } from "./queue.ts";
import { slowStart } from "./replicaset.ts";

type Status = NonNullable<Job["status"]>;
type Condition = NonNullable<Status["conditions"]>[number];

const indexAnnotation = "batch.kubernetes.io/job-completion-index";
/** Wait after the n-th failure: 10 s · 2ⁿ⁻¹, at most so long (job_controller.go, MaxJobPodFailureBackOff). */
const firstBackoff = 10_000;
const longestBackoff = 600_000;

/**
 * Runs pods to completion. Successes and failures are counted over the pods that are there, so a finished pod
 * that someone deletes is run again; Kubernetes holds such pods with a finalizer until they are counted.
 * Source: pkg/controller/job, pkg/controller/ttlafterfinished.
 */
export function jobController(context: ControllerContext): ReconcileQueue {
  const jobs = context.cache(jobResource);
  const pods = context.cache(podResource);
  const events = context.events("job-controller");
  const queue = context.queue("job", reconcile);

  jobs.onChange((before, after) => queue.add(nameOf((after ?? before)!)));
  pods.onChange((before, after) => {
    for (const pod of [before, after]) {
      const owner = pod && controllerOf(pod);
      if (owner?.kind === "Job") queue.add(`${pod!.metadata.namespace}/${owner.name}`);
    }
  });
  return queue;

  async function reconcile(key: string): Promise<ReconcileResult> {
    const job = jobs.get(key);
    if (!job?.spec || job.metadata.deletionTimestamp) return undefined;
    const finished = finishedCondition(job);
    if (finished) return expire(job, finished);

    const all = pods.ownedBy(job.metadata.uid!);
    const tally = tallyOf(job, all);
    const verdict = verdictOf(job, tally, context.world.now());
    let failure: unknown;
    let wait: number | undefined;
    try {
      wait = await manage(job, tally, verdict !== undefined);
    } catch (error) {
      failure = error;
    }
    const latest = jobs.get(key);
    if (!latest) return undefined;
    const after = tallyOf(job, pods.ownedBy(job.metadata.uid!));
    const status = jobStatus(latest, after, verdict, context.timestamp());
    await context.replaceStatus(jobResource, latest, status);
    report(latest, status);
    if (failure !== undefined) throw failure;
    const deadline = deadlineIn(latest, context.world.now());
    const waits = [wait, deadline].filter((one) => one !== undefined);
    return waits.length > 0 ? { after: Math.min(...waits) } : undefined;
  }

  /** Starts and stops pods; returns the milliseconds until the next one may be started. */
  async function manage(job: Job, tally: Tally, over: boolean): Promise<number | undefined> {
    const spec = job.spec!;
    const parallelism = spec.suspend || over ? 0 : (spec.parallelism ?? 1);
    const open = spec.completions === undefined ? parallelism : spec.completions - tally.succeeded;
    // Without a number of completions, one success says that the work is done: no new pods then.
    const isWorkQueue = spec.completions === undefined;
    const wanted =
      isWorkQueue && tally.succeeded > 0
        ? Math.min(tally.active.length, parallelism)
        : Math.min(parallelism, Math.max(0, open));
    const surplus = tally.active.length - wanted;
    if (surplus > 0) {
      for (const pod of inDeletionOrder(tally.active).slice(0, surplus)) {
        await context.remove(podResource, pod);
        events.normal(job, "SuccessfulDelete", `Deleted pod: ${pod.metadata.name}`);
      }
      return undefined;
    }
    if (surplus === 0) return undefined;
    const delay = backoffIn(tally, context.world.now());
    if (delay > 0) return delay;
    const indexes = freeIndexes(job, tally);
    await slowStart(Math.min(-surplus, indexes?.length ?? -surplus), () => create(job, indexes?.shift()));
    return undefined;
  }

  async function create(job: Job, index: number | undefined): Promise<void> {
    const { name } = job.metadata;
    const prefix = index === undefined ? name : `${name}-${index}`;
    const pod = podFromTemplate(job.spec!.template, job, { generateName: namePrefix(prefix) });
    if (index !== undefined) {
      pod.metadata.annotations = { ...pod.metadata.annotations, [indexAnnotation]: String(index) };
      pod.metadata.labels = { ...pod.metadata.labels, [indexAnnotation]: String(index) };
      pod.spec.hostname = prefix;
      for (const container of [...(pod.spec.initContainers ?? []), ...pod.spec.containers]) {
        container.env = [...(container.env ?? []), { name: "JOB_COMPLETION_INDEX", value: String(index) }];
      }
    }
    try {
      const made = await context.create(podResource, pod);
      events.normal(job, "SuccessfulCreate", `Created pod: ${made.metadata.name}`);
    } catch (error) {
      if (!context.namespaceIsGoing(job)) {
        events.warning(job, "FailedCreate", `Error creating: ${messageOf(error)}`);
      }
      throw error;
    }
  }

  /** Deletes a finished Job when its time to live is over. */
  async function expire(job: Job, finished: Condition): Promise<ReconcileResult> {
    for (const pod of pods.ownedBy(job.metadata.uid!).filter(isActive)) {
      await context.remove(podResource, pod);
    }
    const ttl = job.spec?.ttlSecondsAfterFinished;
    if (ttl === undefined) return undefined;
    const end = Date.parse(String(finished.lastTransitionTime)) + ttl * 1000;
    const left = end - context.world.now();
    if (left > 0) return { after: left };
    await context.remove(jobResource, job, { propagationPolicy: "Foreground" });
    return undefined;
  }

  function report(before: Job, status: Status): void {
    for (const condition of status.conditions ?? []) {
      const known = before.status?.conditions?.find((one) => one.type === condition.type);
      if (known?.status === condition.status) continue;
      if (condition.type === "Complete") events.normal(before, "Completed", "Job completed");
      if (condition.type === "Failed") {
        events.warning(before, condition.reason ?? "Failed", condition.message ?? "");
      }
      if (condition.type === "Suspended") {
        events.normal(before, condition.status === "True" ? "Suspended" : "Resumed", condition.message ?? "");
      }
    }
  }
}

/** What has become of a Job's pods. */
export interface Tally {
  active: Pod[];
  ready: number;
  terminating: number;
  succeeded: number;
  failed: number;
  /** Indexes done, of an Indexed Job. */
  done: Set<number>;
  /** When the last failed pod ended, in milliseconds since the epoch. */
  lastFailure: number | undefined;
  /** Restarts of containers that run on, for `restartPolicy: OnFailure`. */
  restarts: number;
}

function tallyOf(job: Job, pods: Pod[]): Tally {
  const indexed = job.spec?.completionMode === "Indexed";
  const succeeded = pods.filter((pod) => pod.status?.phase === "Succeeded");
  const failed = pods.filter((pod) => pod.status?.phase === "Failed");
  const active = pods.filter(isActive);
  const done = new Set(indexed ? succeeded.map(indexOf).filter((one) => one !== undefined) : []);
  return {
    active,
    ready: active.filter(isReady).length,
    terminating: pods.filter(
      (pod) => pod.metadata.deletionTimestamp && !succeeded.includes(pod) && !failed.includes(pod),
    ).length,
    succeeded: indexed ? done.size : succeeded.length,
    failed: failed.length,
    done,
    lastFailure: failed.length > 0 ? Math.max(...failed.map(endOf)) : undefined,
    restarts: active
      .flatMap((pod) => [
        ...(pod.status?.initContainerStatuses ?? []),
        ...(pod.status?.containerStatuses ?? []),
      ])
      .reduce((sum, one) => sum + one.restartCount, 0),
  };
}

function indexOf(pod: Pod): number | undefined {
  const text = pod.metadata.annotations?.[indexAnnotation];
  return text === undefined ? undefined : Number(text);
}

function endOf(pod: Pod): number {
  const ends = (pod.status?.containerStatuses ?? []).map((one) =>
    Date.parse(String(one.state?.terminated?.finishedAt ?? 0)),
  );
  return Math.max(0, ...ends.filter((one) => !Number.isNaN(one)));
}

/** Indexes of an Indexed Job that are neither done nor in work, lowest first; undefined for other Jobs. */
function freeIndexes(job: Job, tally: Tally): number[] | undefined {
  if (job.spec?.completionMode !== "Indexed") return undefined;
  const busy = new Set(tally.active.map(indexOf));
  const all = Array.from({ length: job.spec.completions ?? 0 }, (_, index) => index);
  return all.filter((index) => !tally.done.has(index) && !busy.has(index));
}

/** Milliseconds until a new pod may be started after failures. */
function backoffIn(tally: Tally, now: number): number {
  if (tally.lastFailure === undefined || tally.failed === 0) return 0;
  const delay = Math.min(longestBackoff, firstBackoff * 2 ** (tally.failed - 1));
  return Math.max(0, tally.lastFailure + delay - now);
}

function deadlineIn(job: Job, now: number): number | undefined {
  const { activeDeadlineSeconds, suspend } = job.spec!;
  const start = job.status?.startTime;
  if (activeDeadlineSeconds === undefined || suspend || !start) return undefined;
  return Math.max(0, Date.parse(String(start)) + activeDeadlineSeconds * 1000 - now);
}

/** How a Job ended, or undefined while it has not. */
export interface Verdict {
  success: boolean;
  reason: string;
  message: string;
}

export function verdictOf(job: Job, tally: Tally, now: number): Verdict | undefined {
  const { completions, backoffLimit = 6, template } = job.spec!;
  // Once given, a verdict stands.
  for (const { type, status, reason = "", message = "" } of job.status?.conditions ?? []) {
    if (status !== "True") continue;
    if (type === "SuccessCriteriaMet" || type === "FailureTarget") {
      return { success: type === "SuccessCriteriaMet", reason, message };
    }
  }
  const onFailure = template.spec?.restartPolicy === "OnFailure";
  const failures = tally.failed + (onFailure ? tally.restarts : 0);
  // The limit is reached by the failure after the last retry; restarts within a pod count when they reach it.
  if (tally.failed > backoffLimit || (onFailure && backoffLimit > 0 && failures >= backoffLimit)) {
    return {
      success: false,
      reason: "BackoffLimitExceeded",
      message: "Job has reached the specified backoff limit",
    };
  }
  if (deadlineIn(job, now) === 0) {
    return {
      success: false,
      reason: "DeadlineExceeded",
      message: "Job was active longer than specified deadline",
    };
  }
  const complete =
    completions === undefined
      ? tally.succeeded > 0 && tally.active.length === 0 && tally.terminating === 0
      : tally.succeeded >= completions;
  if (!complete || job.spec!.suspend) return undefined;
  return {
    success: true,
    reason: "CompletionsReached",
    message: "Reached expected number of succeeded pods",
  };
}

function finishedCondition(job: Job): Condition | undefined {
  return job.status?.conditions?.find(
    (one) => (one.type === "Complete" || one.type === "Failed") && one.status === "True",
  );
}

export function jobStatus(job: Job, tally: Tally, verdict: Verdict | undefined, now: string): Status {
  const suspended = job.spec?.suspend === true;
  let conditions = [...(job.status?.conditions ?? [])];
  const set = (type: string, status: string, reason: string, message: string) => {
    const known = conditions.find((one) => one.type === type);
    if (known?.status === status) return;
    const condition = { type, status, reason, message, lastProbeTime: now, lastTransitionTime: now };
    conditions = [...conditions.filter((one) => one !== known), condition];
  };
  if (suspended) set("Suspended", "True", "JobSuspended", "Job suspended");
  else if (conditions.some((one) => one.type === "Suspended")) {
    set("Suspended", "False", "JobResumed", "Job resumed");
  }
  if (verdict) {
    set(verdict.success ? "SuccessCriteriaMet" : "FailureTarget", "True", verdict.reason, verdict.message);
    // The end is told when no pod runs any more (KEP-3939).
    if (tally.active.length === 0 && tally.terminating === 0) {
      set(verdict.success ? "Complete" : "Failed", "True", verdict.reason, verdict.message);
    }
  }
  const isComplete = conditions.some((one) => one.type === "Complete" && one.status === "True");
  const startTime = suspended ? undefined : (job.status?.startTime ?? now);
  return {
    ...(conditions.length > 0 ? { conditions } : {}),
    ...(startTime ? { startTime } : {}),
    ...(isComplete ? { completionTime: job.status?.completionTime ?? now } : {}),
    ...(tally.active.length > 0 ? { active: tally.active.length } : {}),
    ...(tally.succeeded > 0 ? { succeeded: tally.succeeded } : {}),
    ...(tally.failed > 0 ? { failed: tally.failed } : {}),
    ...(tally.done.size > 0 ? { completedIndexes: ranges(tally.done) } : {}),
    terminating: tally.terminating,
    ready: tally.ready,
  };
}

/** `1,3-5`: how completed indexes are written. */
export function ranges(numbers: Iterable<number>): string {
  const parts: [number, number][] = [];
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const last = parts.at(-1);
    if (last && last[1] === number - 1) last[1] = number;
    else parts.push([number, number]);
  }
  return parts.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(",");
}
