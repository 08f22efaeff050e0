/** What a kubelet says of a pod: its status, and what of it is not served here. */
import type { Pod } from "../../api/index.ts";
import type { PodNetwork } from "../network/index.ts";
import type { PodContainer } from "./container.ts";
import type { NodeContext } from "./context.ts";
import {
  type ContainerStatus,
  conditionsOf,
  isInitDone,
  type PodStatus,
  phaseOf,
  qosClassOf,
} from "./status.ts";

export interface Observed {
  pod: Pod;
  containers: readonly PodContainer[];
  network: PodNetwork | undefined;
  /** How it ended, for good. */
  ended: "Succeeded" | "Failed" | undefined;
  failure: { reason: string; message: string } | undefined;
  hostIP: string;
  /** RFC 3339. */
  now: string;
}

/** The status of a pod, from what is observed of it. */
export function podStatus({ pod, containers, network, ended, failure, hostIP, now }: Observed): PodStatus {
  const hasInit = (pod.spec.initContainers ?? []).length > 0;
  const init: ContainerStatus[] = [];
  const statuses: ContainerStatus[] = [];
  let initialized = true;
  for (const container of containers) {
    if (container.role === "main") continue;
    const status = container.status("PodInitializing");
    if (!isInitDone(container.spec, status)) initialized = false;
    init.push(status);
  }
  for (const container of containers) {
    if (container.role !== "main") continue;
    statuses.push(container.status(hasInit && !initialized ? "PodInitializing" : "ContainerCreating"));
  }
  const phase = ended ?? phaseOf(pod.spec, init, statuses);
  const previous = pod.status;
  const address = network?.address ?? previous?.podIP;
  return {
    phase,
    conditions: conditionsOf({ pod, phase, init, statuses, hasNetwork: network !== undefined, now }),
    hostIP,
    hostIPs: [{ ip: hostIP }],
    ...(address && { podIP: address, podIPs: [{ ip: address }] }),
    startTime: previous?.startTime ?? now,
    ...(init.length > 0 && { initContainerStatuses: init }),
    containerStatuses: statuses,
    qosClass: previous?.qosClass ?? qosClassOf(pod.spec),
    ...(failure ?? (previous?.reason && { reason: previous.reason, message: previous.message })),
  };
}

/** Says by Events what the pod asks for and does not get. */
export function sayUnserved({ events }: NodeContext, pod: Pod, containers: readonly PodContainer[]): void {
  const { spec } = pod;
  for (const container of containers) {
    const user = container.spec.securityContext?.runAsUser ?? spec.securityContext?.runAsUser;
    if (user === undefined || user === 0) continue;
    const message = `runAsUser ${user} is not honoured: programs in the lab run as the user who started it`;
    events.warning(pod, "UserNotMapped", message, container.fieldPath);
  }
  for (const field of ["hostPID", "hostIPC", "shareProcessNamespace"] as const) {
    if (!spec[field]) continue;
    const message = `${field} is not supported: every container has its own namespaces`;
    events.warning(pod, "NotSupported", message);
  }
}
