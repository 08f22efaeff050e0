/** Controllers of pods. */
import type * as autoscaling from "kubernetes-types/autoscaling/v1";
import type * as batch from "kubernetes-types/batch/v1";
import type * as core from "kubernetes-types/core/v1";
import type * as policy from "kubernetes-types/policy/v1";
import {
  type ControllerRevision,
  type DaemonSet,
  type Deployment,
  humanDuration,
  type Job,
  type ReplicaSet,
  type StatefulSet,
  type Stored,
} from "../../../api/index.ts";
import { columns, containerCells, formatLabels, type Printer, printer, selectorText } from "./columns.ts";
import { since } from "./duration.ts";

const template = ["Containers", "Images", "Selector"];

export const deployment: Printer = printer<Deployment>(
  columns(["Name", "Ready", "Up-to-date", "Available", "Age"], template),
  ({ metadata, spec, status }, now) => [
    metadata.name,
    `${status?.readyReplicas ?? 0}/${spec?.replicas ?? 1}`,
    status?.updatedReplicas ?? 0,
    status?.availableReplicas ?? 0,
    since(metadata.creationTimestamp, now),
    ...containerCells(spec?.template.spec?.containers),
    selectorText(spec?.selector),
  ],
);

export const replicaSet: Printer = printer<ReplicaSet>(
  columns(["Name", "Desired:integer", "Current:integer", "Ready:integer", "Age"], template),
  ({ metadata, spec, status }, now) => [
    metadata.name,
    spec?.replicas ?? 1,
    status?.replicas ?? 0,
    status?.readyReplicas ?? 0,
    since(metadata.creationTimestamp, now),
    ...containerCells(spec?.template?.spec?.containers),
    selectorText(spec?.selector) || "<none>",
  ],
);

export const statefulSet: Printer = printer<StatefulSet>(
  columns(["Name", "Ready", "Age"], ["Containers", "Images"]),
  ({ metadata, spec, status }, now) => [
    metadata.name,
    `${status?.readyReplicas ?? 0}/${spec?.replicas ?? 1}`,
    since(metadata.creationTimestamp, now),
    ...containerCells(spec?.template.spec?.containers),
  ],
);

export const daemonSet: Printer = printer<DaemonSet>(
  columns(
    [
      "Name",
      "Desired:integer",
      "Current:integer",
      "Ready:integer",
      "Up-to-date:integer",
      "Available:integer",
      "Node Selector",
      "Age",
    ],
    template,
  ),
  ({ metadata, spec, status }, now) => [
    metadata.name,
    status?.desiredNumberScheduled ?? 0,
    status?.currentNumberScheduled ?? 0,
    status?.numberReady ?? 0,
    status?.updatedNumberScheduled ?? 0,
    status?.numberAvailable ?? 0,
    formatLabels(spec?.template.spec?.nodeSelector),
    since(metadata.creationTimestamp, now),
    ...containerCells(spec?.template.spec?.containers),
    selectorText(spec?.selector) || "<none>",
  ],
);

export const job: Printer = printer<Job>(
  columns(["Name", "Status", "Completions", "Duration", "Age"], template),
  (object, now) => {
    const { metadata, spec, status } = object;
    const succeeded = status?.succeeded ?? 0;
    const parallelism = spec?.parallelism ?? 0;
    const wanted =
      spec?.completions !== undefined ? `${spec.completions}` : parallelism > 1 ? `1 of ${parallelism}` : "1";
    const end = status?.completionTime ? Date.parse(status.completionTime) : now;
    return [
      metadata.name,
      jobStatus(object),
      `${succeeded}/${wanted}`,
      status?.startTime ? humanDuration(end - Date.parse(status.startTime)) : "",
      since(metadata.creationTimestamp, now),
      ...containerCells(spec?.template.spec?.containers),
      selectorText(spec?.selector) || "<none>",
    ];
  },
);

function jobStatus({ metadata, status }: Job): string {
  const holds = (type: string) => status?.conditions?.find((c) => c.type === type)?.status === "True";
  if (holds("Complete")) return "Complete";
  if (holds("Failed")) return "Failed";
  if (metadata.deletionTimestamp) return "Terminating";
  return ["Suspended", "FailureTarget", "SuccessCriteriaMet"].find(holds) ?? "Running";
}

export const cronJob: Printer = printer<Stored<batch.CronJob>>(
  columns(
    ["Name", "Schedule", "Timezone", "Suspend:boolean", "Active:integer", "Last Schedule", "Age"],
    template,
  ),
  ({ metadata, spec, status }, now) => [
    metadata.name,
    spec?.schedule ?? "",
    spec?.timeZone ?? "<none>",
    spec?.suspend === undefined ? "<unset>" : spec.suspend ? "True" : "False",
    status?.active?.length ?? 0,
    status?.lastScheduleTime ? since(status.lastScheduleTime, now) : "<none>",
    since(metadata.creationTimestamp, now),
    ...containerCells(spec?.jobTemplate.spec?.template.spec?.containers),
    selectorText(spec?.jobTemplate.spec?.selector) || "<none>",
  ],
);

export const controllerRevision: Printer = printer<ControllerRevision>(
  columns(["Name", "Controller", "Revision", "Age"]),
  ({ metadata, revision }, now) => {
    const owner = metadata.ownerReferences?.find(({ controller }) => controller);
    const group = owner?.apiVersion.includes("/") ? `.${owner.apiVersion.split("/")[0]}` : "";
    const kind = `${owner?.kind}${group}`.toLowerCase();
    return [
      metadata.name,
      owner ? `${kind}/${owner.name}` : "<none>",
      revision,
      since(metadata.creationTimestamp, now),
    ];
  },
);

export const podDisruptionBudget: Printer = printer<Stored<policy.PodDisruptionBudget>>(
  columns(["Name", "Min Available", "Max Unavailable", "Allowed Disruptions:integer", "Age"]),
  ({ metadata, spec, status }, now) => [
    metadata.name,
    `${spec?.minAvailable ?? "N/A"}`,
    `${spec?.maxUnavailable ?? "N/A"}`,
    status?.disruptionsAllowed ?? 0,
    since(metadata.creationTimestamp, now),
  ],
);

export const podTemplate: Printer = printer<Stored<core.PodTemplate>>(
  columns(["Name", "Containers", "Images", "Pod Labels"]),
  ({ metadata, template }) => [
    metadata.name,
    ...containerCells(template?.spec?.containers),
    formatLabels(template?.metadata?.labels),
  ],
);

export const scale: Printer = printer<Stored<autoscaling.Scale>>(
  columns(["Name", "Desired:integer", "Available:integer", "Age"]),
  ({ metadata, spec, status }, now) => [
    metadata.name,
    spec?.replicas ?? 0,
    status?.replicas ?? 0,
    since(metadata.creationTimestamp, now),
  ],
);
