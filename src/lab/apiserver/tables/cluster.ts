/** Nodes, namespaces, configuration, identities, storage and what happened. */
import type * as admission from "kubernetes-types/admissionregistration/v1";
import type * as core from "kubernetes-types/core/v1";
import type * as scheduling from "kubernetes-types/scheduling/v1";
import type * as storage from "kubernetes-types/storage/v1";
import type {
  ConfigMap,
  KubeObject,
  Lease,
  Namespace,
  Node,
  RoleBinding,
  Secret,
  ServiceAccount,
  Stored,
} from "../../../api/index.ts";
import { byBytes, columns, type Printer, printer } from "./columns.ts";
import { since } from "./duration.ts";

export const node: Printer = printer<Node>(
  columns(
    ["Name", "Status", "Roles", "Age", "Version"],
    ["Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime"],
  ),
  (object, now) => {
    const { metadata, spec, status } = object;
    const ready = status?.conditions?.find(({ type }) => type === "Ready")?.status;
    const states = [ready === undefined ? "Unknown" : ready === "True" ? "Ready" : "NotReady"];
    if (spec?.unschedulable) states.push("SchedulingDisabled");
    const address = (type: string) => status?.addresses?.find((a) => a.type === type)?.address ?? "<none>";
    const info = status?.nodeInfo;
    const kernel = info?.kernelVersion || "<unknown>";
    return [
      metadata.name,
      states.join(","),
      rolesOf(object).join(",") || "<none>",
      since(metadata.creationTimestamp, now),
      info?.kubeletVersion ?? "",
      address("InternalIP"),
      address("ExternalIP"),
      info?.osImage || "<unknown>",
      info?.architecture ? `${kernel} (${info.architecture})` : kernel,
      info?.containerRuntimeVersion || "<unknown>",
    ];
  },
);

function rolesOf({ metadata }: Node): string[] {
  const prefix = "node-role.kubernetes.io/";
  const roles = new Set<string>();
  for (const [label, value] of Object.entries(metadata.labels ?? {})) {
    if (label.startsWith(prefix) && label.length > prefix.length) roles.add(label.slice(prefix.length));
    else if (label === "kubernetes.io/role" && value !== "") roles.add(value);
  }
  return [...roles].sort(byBytes);
}

export const namespace: Printer = printer<Namespace>(
  columns(["Name", "Status", "Age"]),
  ({ metadata, status }, now) => [metadata.name, status?.phase ?? "", since(metadata.creationTimestamp, now)],
);

export const serviceAccount: Printer = printer<ServiceAccount>(
  columns(["Name", "Age"]),
  ({ metadata }, now) => [metadata.name, since(metadata.creationTimestamp, now)],
);

export const configMap: Printer = printer<ConfigMap>(
  columns(["Name", "Data", "Age"]),
  ({ metadata, data, binaryData }, now) => [
    metadata.name,
    Object.keys(data ?? {}).length + Object.keys(binaryData ?? {}).length,
    since(metadata.creationTimestamp, now),
  ],
);

export const secret: Printer = printer<Secret>(
  columns(["Name", "Type", "Data", "Age"]),
  ({ metadata, type, data }, now) => [
    metadata.name,
    type ?? "Opaque",
    Object.keys(data ?? {}).length,
    since(metadata.creationTimestamp, now),
  ],
);

export const lease: Printer = printer<Lease>(
  columns(["Name", "Holder", "Age"]),
  ({ metadata, spec }, now) => [
    metadata.name,
    spec?.holderIdentity ?? "",
    since(metadata.creationTimestamp, now),
  ],
);

/** A core Event; those of events.k8s.io carry the same facts under other names. */
type AnyEvent = Stored<Omit<core.Event, "involvedObject">> & {
  involvedObject?: core.ObjectReference;
  regarding?: core.ObjectReference;
  note?: string;
  reportingController?: string;
  deprecatedSource?: core.EventSource;
  deprecatedFirstTimestamp?: string;
  deprecatedLastTimestamp?: string;
  deprecatedCount?: number;
};

export const event: Printer = printer<AnyEvent>(
  columns(
    [
      "Last Seen",
      "Type",
      "Reason",
      "Object",
      "Subobject",
      "Source",
      "Message",
      "First Seen",
      "Count",
      "Name",
    ],
    [],
  ).map((column) =>
    ["Subobject", "Source", "First Seen", "Count", "Name"].includes(column.name)
      ? { ...column, priority: 1 }
      : column,
  ),
  (object, now) => {
    const about = object.involvedObject ?? object.regarding;
    const firstAt = object.firstTimestamp ?? object.deprecatedFirstTimestamp ?? object.eventTime;
    const first = since(firstAt, now);
    const lastAt = object.lastTimestamp ?? object.deprecatedLastTimestamp;
    const last = object.series
      ? since(object.series.lastObservedTime, now)
      : lastAt
        ? since(lastAt, now)
        : first;
    const source = object.source ?? object.deprecatedSource;
    const component = source?.component || object.reportingComponent || object.reportingController || "";
    const instance = source?.host || object.reportingInstance || "";
    const kind = (about?.kind ?? "").toLowerCase();
    return [
      last,
      object.type ?? "",
      object.reason ?? "",
      about?.name ? `${kind}/${about.name}` : kind,
      about?.fieldPath ?? "",
      instance ? `${component}, ${instance}` : component,
      (object.message ?? object.note ?? "").trim(),
      first,
      object.series?.count ?? (object.count || object.deprecatedCount || 1),
      object.metadata.name,
    ];
  },
);

/** RoleBindings and ClusterRoleBindings. */
export const roleBinding: Printer = printer<RoleBinding>(
  columns(["Name", "Role", "Age"], ["Users", "Groups", "ServiceAccounts"]),
  ({ metadata, roleRef, subjects = [] }, now) => {
    const names = (kind: string) => subjects.filter((s) => s.kind === kind).map(({ name }) => name);
    const accounts = subjects.filter((s) => s.kind === "ServiceAccount");
    return [
      metadata.name,
      `${roleRef.kind}/${roleRef.name}`,
      since(metadata.creationTimestamp, now),
      names("User").join(", "),
      names("Group").join(", "),
      accounts.map((s) => `${s.namespace ?? ""}/${s.name}`).join(", "),
    ];
  },
);

type Claim = Stored<core.PersistentVolumeClaim>;
type Volume = Stored<core.PersistentVolume>;

export const persistentVolumeClaim: Printer = printer<Claim>(
  columns(
    ["Name", "Status", "Volume", "Capacity", "Access Modes", "StorageClass", "VolumeAttributesClass", "Age"],
    ["VolumeMode"],
  ),
  ({ metadata, spec, status }, now) => {
    const bound = !!spec?.volumeName;
    return [
      metadata.name,
      metadata.deletionTimestamp ? "Terminating" : (status?.phase ?? ""),
      spec?.volumeName ?? "",
      bound ? `${status?.capacity?.storage ?? "0"}` : "",
      bound ? accessModes(status?.accessModes) : "",
      storageClassOf(metadata, spec?.storageClassName),
      attributesClass(spec),
      since(metadata.creationTimestamp, now),
      spec?.volumeMode ?? "<unset>",
    ];
  },
);

export const persistentVolume: Printer = printer<Volume>(
  columns(
    [
      "Name",
      "Capacity",
      "Access Modes",
      "Reclaim Policy",
      "Status",
      "Claim",
      "StorageClass",
      "VolumeAttributesClass",
      "Reason",
      "Age",
    ],
    ["VolumeMode"],
  ),
  ({ metadata, spec, status }, now) => [
    metadata.name,
    `${spec?.capacity?.storage ?? "0"}`,
    accessModes(spec?.accessModes),
    spec?.persistentVolumeReclaimPolicy ?? "",
    metadata.deletionTimestamp ? "Terminating" : (status?.phase ?? ""),
    spec?.claimRef ? `${spec.claimRef.namespace ?? ""}/${spec.claimRef.name ?? ""}` : "",
    storageClassOf(metadata, spec?.storageClassName),
    attributesClass(spec),
    status?.reason ?? "",
    since(metadata.creationTimestamp, now),
    spec?.volumeMode ?? "<unset>",
  ],
);

function attributesClass(spec: { volumeAttributesClassName?: string } | undefined): string {
  return spec?.volumeAttributesClassName ?? "<unset>";
}

function storageClassOf(metadata: KubeObject["metadata"], name: string | undefined): string {
  return metadata.annotations?.["volume.beta.kubernetes.io/storage-class"] ?? name ?? "";
}

function accessModes(modes: readonly string[] | undefined): string {
  const short: [string, string][] = [
    ["ReadWriteOnce", "RWO"],
    ["ReadOnlyMany", "ROX"],
    ["ReadWriteMany", "RWX"],
    ["ReadWriteOncePod", "RWOP"],
  ];
  return short
    .filter(([mode]) => modes?.includes(mode))
    .map(([, text]) => text)
    .join(",");
}

export const storageClass: Printer = printer<Stored<storage.StorageClass>>(
  columns(["Name", "Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", "Age"]),
  (object, now) => {
    const { metadata } = object;
    const standard = ["storageclass.kubernetes.io", "storageclass.beta.kubernetes.io"].some(
      (prefix) => metadata.annotations?.[`${prefix}/is-default-class`] === "true",
    );
    return [
      standard ? `${metadata.name} (default)` : metadata.name,
      object.provisioner,
      object.reclaimPolicy ?? "Delete",
      object.volumeBindingMode ?? "Immediate",
      object.allowVolumeExpansion ?? false,
      since(metadata.creationTimestamp, now),
    ];
  },
);

/** Mutating and validating webhook configurations. */
export const webhookConfiguration: Printer = printer<Stored<admission.MutatingWebhookConfiguration>>(
  columns(["Name", "Webhooks:integer", "Age"]),
  ({ metadata, webhooks }, now) => [
    metadata.name,
    webhooks?.length ?? 0,
    since(metadata.creationTimestamp, now),
  ],
);

export const priorityClass: Printer = printer<Stored<scheduling.PriorityClass>>(
  columns(["Name", "Value:integer", "Global-Default:boolean", "Age", "PreemptionPolicy"]),
  (object, now) => [
    object.metadata.name,
    object.value,
    object.globalDefault ?? false,
    since(object.metadata.creationTimestamp, now),
    object.preemptionPolicy ?? "",
  ],
);

/** What is used of what may be used; limits, which are quotas too, in a column of their own. */
export const resourceQuota: Printer = printer<Stored<core.ResourceQuota>>(
  columns(["Name", "Request", "Limit", "Age"]),
  ({ metadata, status }, now) => {
    const uses = Object.keys(status?.hard ?? {})
      .sort(byBytes)
      .map((name) => `${name}: ${status?.used?.[name] ?? "0"}/${status?.hard?.[name]}`);
    return [
      metadata.name,
      uses.filter((use) => !use.startsWith("limits.")).join(", "),
      uses.filter((use) => use.startsWith("limits.")).join(", "),
      since(metadata.creationTimestamp, now),
    ];
  },
);

/** Roles, ClusterRoles, LimitRanges and CRDs, whose printer upstream is the bare default: the time itself, not the age. */
export const createdAt: Printer = printer<KubeObject>(
  columns(["Name", "Created At:date"]),
  ({ metadata }) => [metadata.name, metadata.creationTimestamp ?? null],
);
