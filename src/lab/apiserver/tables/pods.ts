/** How a pod's many states become the one word under STATUS (printers.go, printPod). */
import type { Pod } from "../../../api/index.ts";
import { type Cell, columns, type Printer, printer } from "./columns.ts";
import { since } from "./duration.ts";

type Statuses = NonNullable<NonNullable<Pod["status"]>["containerStatuses"]>;
type ContainerStatus = Statuses[number];
type Terminated = NonNullable<NonNullable<ContainerStatus["state"]>["terminated"]>;

export const pod: Printer = printer<Pod>(
  columns(
    ["Name", "Ready", "Status", "Restarts", "Age"],
    ["IP", "Node", "Nominated Node", "Readiness Gates"],
  ),
  podCells,
);

function podCells(object: Pod, now: number): Cell[] {
  const { spec } = object;
  const status = object.status ?? {};
  const summary = summarize(object);
  const restarts =
    summary.restarts > 0 && summary.lastRestart
      ? `${summary.restarts} (${since(summary.lastRestart, now)} ago)`
      : `${summary.restarts}`;
  const gates = spec.readinessGates ?? [];
  const open = gates.filter(({ conditionType }) => hasCondition(object, conditionType));
  return [
    object.metadata.name,
    `${summary.ready}/${summary.total}`,
    summary.reason,
    restarts,
    since(object.metadata.creationTimestamp, now),
    status.podIPs?.[0]?.ip || status.podIP || "<none>",
    spec.nodeName || "<none>",
    status.nominatedNodeName || "<none>",
    gates.length > 0 ? `${open.length}/${gates.length}` : "<none>",
  ];
}

interface Summary {
  reason: string;
  ready: number;
  total: number;
  restarts: number;
  lastRestart: string | undefined;
}

function summarize(object: Pod): Summary {
  const status = object.status ?? {};
  const inits = object.spec.initContainers ?? [];
  const sidecars = new Set(inits.filter((c) => c.restartPolicy === "Always").map((c) => c.name));
  const total = (object.spec.containers ?? []).length + sidecars.size;

  let reason = status.reason || status.phase || "";
  for (const condition of status.conditions ?? []) {
    if (condition.type === "PodScheduled" && condition.reason === "SchedulingGated")
      reason = "SchedulingGated";
  }

  const initial = new Restarts();
  const ofSidecars = new Restarts();
  let ready = 0;
  let initReason: string | undefined;
  for (const [index, container] of (status.initContainerStatuses ?? []).entries()) {
    const sidecar = sidecars.has(container.name);
    initial.add(container);
    if (sidecar) ofSidecars.add(container);
    const { terminated, waiting } = container.state ?? {};
    if (terminated && terminated.exitCode === 0) continue;
    if (sidecar && container.started) {
      if (container.ready) ready++;
      continue;
    }
    if (terminated) initReason = `Init:${endOf(terminated)}`;
    else if (waiting?.reason && waiting.reason !== "PodInitializing") initReason = `Init:${waiting.reason}`;
    else initReason = `Init:${index}/${inits.length}`;
    break;
  }

  let restarts = initial;
  if (initReason !== undefined) reason = initReason;
  if (initReason === undefined || hasCondition(object, "Initialized")) {
    restarts = ofSidecars;
    let running = false;
    let failure = "";
    // From the last container to the first: the first one's word is the one that stays.
    for (const container of (status.containerStatuses ?? []).toReversed()) {
      restarts.add(container);
      const { terminated, waiting } = container.state ?? {};
      if (waiting?.reason) reason = waiting.reason;
      else if (terminated) {
        reason = endOf(terminated);
        if (terminated.exitCode !== 0) failure = reason;
      } else if (container.ready && container.state?.running) {
        running = true;
        ready++;
      }
    }
    if (reason === "Completed") {
      if (running && hasCondition(object, "Ready")) reason = "Running";
      else if (failure !== "") reason = failure;
      else if (running) reason = "NotReady";
    }
  }

  if (object.metadata.deletionTimestamp) {
    if (status.reason === "NodeLost") reason = "Unknown";
    else if (status.phase !== "Succeeded" && status.phase !== "Failed") reason = "Terminating";
  }
  return { reason, ready, total, restarts: restarts.count, lastRestart: restarts.last };
}

/** Counts restarts and keeps the time of the latest. */
class Restarts {
  count = 0;
  last: string | undefined;

  add(container: ContainerStatus): void {
    this.count += container.restartCount ?? 0;
    const ended = container.lastState?.terminated?.finishedAt;
    if (ended && (!this.last || Date.parse(ended) > Date.parse(this.last))) this.last = ended;
  }
}

function endOf({ reason, signal, exitCode }: Terminated): string {
  if (reason) return reason;
  return signal ? `Signal:${signal}` : `ExitCode:${exitCode}`;
}

function hasCondition(object: Pod, type: string): boolean {
  return object.status?.conditions?.find((c) => c.type === type)?.status === "True";
}
