/**
 * A pod's status from the states of its containers.
 * Source: kubernetes `pkg/kubelet/kubelet_pods.go` (getPhase), `pkg/kubelet/status/generate.go`.
 */
import type { Container, Pod } from "../../api/index.ts";
import { parseQuantity } from "./fields.ts";

export type PodStatus = NonNullable<Pod["status"]>;
export type ContainerStatus = NonNullable<PodStatus["containerStatuses"]>[number];
export type PodCondition = NonNullable<PodStatus["conditions"]>[number];
export type PodPhase = "Pending" | "Running" | "Succeeded" | "Failed";

/** A native sidecar: an init container that keeps running beside the containers (KEP-753). */
export function isSidecar(container: Container): boolean {
  return container.restartPolicy === "Always";
}

/** Whether an init container lets the ones after it start. */
export function isInitDone(container: Container, status: ContainerStatus | undefined): boolean {
  if (isSidecar(container)) return status?.started === true;
  return status?.state?.terminated?.exitCode === 0;
}

export function phaseOf(spec: Pod["spec"], init: ContainerStatus[], statuses: ContainerStatus[]): PodPhase {
  const restartPolicy = spec.restartPolicy ?? "Always";
  const byName = (name: string, of: ContainerStatus[]) => of.find((status) => status.name === name);
  let initializing = false;
  for (const container of spec.initContainers ?? []) {
    const status = byName(container.name, init);
    if (isInitDone(container, status)) continue;
    const ended = status?.state?.terminated ?? status?.lastState?.terminated;
    if (!isSidecar(container) && ended && ended.exitCode !== 0 && restartPolicy === "Never") return "Failed";
    // A sidecar that is down after the containers have begun does not put the pod back to Pending.
    if (isSidecar(container) && statuses.some(hasBegun)) continue;
    initializing = true;
  }
  let waiting = 0;
  let running = 0;
  let stopped = 0;
  let failed = 0;
  for (const { name } of spec.containers) {
    const status = byName(name, statuses);
    const ended =
      status?.state?.terminated ?? (status?.state?.waiting ? status.lastState?.terminated : undefined);
    if (status?.state?.running) running++;
    else if (ended) {
      stopped++;
      if (ended.exitCode !== 0) failed++;
    } else waiting++;
  }
  if (initializing || waiting > 0) return "Pending";
  if (running > 0) return "Running";
  if (stopped === 0) return "Pending";
  if (restartPolicy === "Always") return "Running";
  if (failed === 0) return "Succeeded";
  return restartPolicy === "Never" ? "Failed" : "Running";
}

function hasBegun(status: ContainerStatus): boolean {
  return !status.state?.waiting || status.lastState?.terminated !== undefined;
}

/** What the conditions are made from. */
export interface ConditionInput {
  pod: Pod;
  phase: PodPhase;
  init: ContainerStatus[];
  statuses: ContainerStatus[];
  /** The pod's network is there and nothing is left to do before containers can start. */
  hasNetwork: boolean;
  /** RFC 3339. */
  now: string;
}

/** The kubelet's conditions; those of others (readiness gates, the scheduler) stay as they are in the pod. */
export function conditionsOf({
  pod,
  phase,
  init,
  statuses,
  hasNetwork,
  now,
}: ConditionInput): PodCondition[] {
  const { spec } = pod;
  const previous = pod.status?.conditions ?? [];
  const ended = phase === "Succeeded" || phase === "Failed";
  const completed = phase === "Succeeded" ? "PodCompleted" : phase === "Failed" ? "PodFailed" : undefined;

  const unfinished = (spec.initContainers ?? []).filter(
    (container) =>
      !isInitDone(
        container,
        init.find(({ name }) => name === container.name),
      ),
  );
  const initialized = unfinished.length === 0 || (phase === "Running" && statuses.some(hasBegun));
  const unready = [
    ...(spec.initContainers ?? []).filter(
      (container) => isSidecar(container) && !init.find(({ name }) => name === container.name)?.ready,
    ),
    ...spec.containers.filter(({ name }) => !statuses.find((status) => status.name === name)?.ready),
  ].map(({ name }) => name);
  const containersReady: Omit<PodCondition, "type" | "lastTransitionTime"> =
    unready.length === 0 && !ended
      ? { status: "True" }
      : {
          status: "False",
          reason: completed ?? "ContainersNotReady",
          ...(completed ? {} : { message: `containers with unready status: [${unready.join(" ")}]` }),
        };
  const gates = (spec.readinessGates ?? []).flatMap(({ conditionType }) => {
    const condition = previous.find(({ type }) => type === conditionType);
    if (!condition) {
      return [`corresponding condition of pod readiness gate "${conditionType}" does not exist.`];
    }
    if (condition.status === "True") return [];
    return [`the status of pod readiness gate "${conditionType}" is not "True", but ${condition.status}`];
  });
  const ready: typeof containersReady =
    containersReady.status === "True" && gates.length > 0
      ? { status: "False", reason: "ReadinessGatesNotReady", message: gates.join(", ") }
      : containersReady;

  const own: Omit<PodCondition, "lastTransitionTime">[] = [
    { type: "PodReadyToStartContainers", status: hasNetwork ? "True" : "False" },
    initialized
      ? { type: "Initialized", status: "True", ...(phase === "Succeeded" && { reason: "PodCompleted" }) }
      : {
          type: "Initialized",
          status: "False",
          reason: "ContainersNotInitialized",
          message: `containers with incomplete status: [${unfinished.map(({ name }) => name).join(" ")}]`,
        },
    { type: "Ready", ...ready },
    { type: "ContainersReady", ...containersReady },
  ];
  const scheduled = previous.find(({ type }) => type === "PodScheduled");
  if (!scheduled) own.push({ type: "PodScheduled", status: "True" });
  const conditions = own.map((condition) => {
    const before = previous.find(({ type }) => type === condition.type);
    const changed = before?.status !== condition.status;
    return { ...condition, lastTransitionTime: changed ? now : (before?.lastTransitionTime ?? now) };
  });
  const others = previous.filter(({ type }) => !own.some((condition) => condition.type === type));
  return [...conditions, ...others];
}

/** Source: kubernetes `pkg/apis/core/v1/helper/qos/qos.go`. */
export function qosClassOf(spec: Pod["spec"]): "Guaranteed" | "Burstable" | "BestEffort" {
  const resources = [...(spec.initContainers ?? []), ...spec.containers].map(
    (container) => container.resources ?? {},
  );
  const amounts = (of: Record<string, unknown> | undefined) =>
    Object.entries(of ?? {}).filter(
      ([name, value]) => (name === "cpu" || name === "memory") && parseQuantity(String(value)) > 0,
    );
  if (resources.every(({ limits, requests }) => amounts(limits).length + amounts(requests).length === 0)) {
    return "BestEffort";
  }
  const guaranteed = resources.every(({ limits, requests }) =>
    ["cpu", "memory"].every((name) => {
      const limit = limits?.[name];
      if (limit === undefined) return false;
      const request = requests?.[name];
      return request === undefined || parseQuantity(String(request)) === parseQuantity(String(limit));
    }),
  );
  return guaranteed ? "Guaranteed" : "Burstable";
}
