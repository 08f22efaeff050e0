/** What Deployments, ReplicaSets, StatefulSets, DaemonSets and Jobs must be (kubernetes `pkg/apis/{apps,batch}/validation`). */
import {
  asStruct,
  type FieldError,
  forbidden,
  invalid,
  isObject,
  type JsonObject,
  notSupported,
  required,
} from "../schema/index.ts";
import { countOrPercent, immutable, nonNegative, oneOf, sameSemantics } from "./checks.ts";
import { checkText, dnsLabel } from "./names.ts";
import { checkPodTemplate } from "./pods.ts";
import { checkSelector, isEmptySelector, selects } from "./selectors.ts";
import { record, records, text } from "./values.ts";

/** The selector, and that it selects what the template makes. `called` is the kind's word in Kubernetes' text. */
function checkTemplate(spec: JsonObject, called: string, kind: string): FieldError[] {
  const { selector } = spec;
  const template = record(spec.template);
  const labels = record(record(template.metadata).labels);
  const errors: FieldError[] = [];
  if (!isObject(selector)) {
    if (called !== "daemonset") errors.push(required("spec.selector"));
    // No selector selects nothing.
    const shown = Object.keys(labels).length > 0 ? labels : null;
    errors.push(
      invalid("spec.template.metadata.labels", shown, "`selector` does not match template `labels`"),
    );
  } else {
    errors.push(...checkSelector("spec.selector", selector));
    if (isEmptySelector(selector)) {
      errors.push(invalid("spec.selector", selector, `empty selector is invalid for ${called}`));
    } else if (!selects(selector, labels)) {
      const shown = Object.keys(labels).length > 0 ? labels : null;
      errors.push(
        invalid("spec.template.metadata.labels", shown, "`selector` does not match template `labels`"),
      );
    }
  }
  errors.push(...checkPodTemplate(template, "spec.template"));
  const pod = record(template.spec);
  if (pod.restartPolicy !== "Always") {
    errors.push(notSupported("spec.template.spec.restartPolicy", pod.restartPolicy ?? "", ["Always"]));
  }
  if (pod.activeDeadlineSeconds !== undefined) {
    const says = `activeDeadlineSeconds in ${kind} is not Supported`;
    errors.push(forbidden("spec.template.spec.activeDeadlineSeconds", says));
  }
  return errors;
}

function counts(spec: JsonObject, ...names: string[]): FieldError[] {
  return names.flatMap((name) => nonNegative(`spec.${name}`, spec[name]));
}

/** No number in a status is below zero, and none counts more than there are. */
/** What a kind's status counts of its replicas, in the order of Kubernetes' checks. */
const parts: Record<string, string[]> = {
  Deployment: ["updatedReplicas", "readyReplicas", "availableReplicas"],
  ReplicaSet: ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
  StatefulSet: ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"],
};

export function checkReplicaStatus(object: JsonObject): FieldError[] {
  const status = record(object.status);
  const count = (name: string) => (typeof status[name] === "number" ? status[name] : 0);
  const errors = Object.keys(status).flatMap((name) => nonNegative(`status.${name}`, status[name]));
  for (const name of parts[String(object.kind)] ?? []) {
    if (count(name) > count("replicas")) {
      errors.push(invalid(`status.${name}`, count(name), "cannot be greater than status.replicas"));
    }
  }
  if (count("availableReplicas") > count("readyReplicas")) {
    errors.push(
      invalid("status.availableReplicas", count("availableReplicas"), "cannot be greater than readyReplicas"),
    );
  }
  return errors;
}

export function checkDeployment(deployment: JsonObject, old?: JsonObject): FieldError[] {
  const spec = record(deployment.spec);
  const errors = [
    ...counts(spec, "replicas"),
    ...checkTemplate(spec, "deployment", "ReplicaSet"),
    ...checkDeploymentStrategy(record(spec.strategy)),
    ...counts(spec, "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"),
  ];
  const deadline = spec.progressDeadlineSeconds;
  const ready = typeof spec.minReadySeconds === "number" ? spec.minReadySeconds : 0;
  if (typeof deadline === "number" && deadline <= ready) {
    errors.push(invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"));
  }
  if (old) errors.push(...immutable("spec.selector", spec.selector, record(old.spec).selector));
  return errors;
}

function checkDeploymentStrategy(strategy: JsonObject): FieldError[] {
  const field = "spec.strategy.rollingUpdate";
  if (strategy.type === "Recreate") {
    return strategy.rollingUpdate === undefined
      ? []
      : [forbidden(field, "may not be specified when strategy `type` is 'Recreate'")];
  }
  if (strategy.type !== "RollingUpdate")
    return [
      notSupported("spec.strategy", asStruct({ Type: strategy.type, RollingUpdate: null }), [
        "Recreate",
        "RollingUpdate",
      ]),
    ];
  const { maxUnavailable, maxSurge } = record(strategy.rollingUpdate);
  const errors = [
    ...countOrPercent(`${field}.maxUnavailable`, maxUnavailable),
    ...countOrPercent(`${field}.maxSurge`, maxSurge),
  ];
  if (isNone(maxUnavailable) && isNone(maxSurge)) {
    errors.push(invalid(`${field}.maxUnavailable`, maxUnavailable ?? 0, "may not be 0 when `maxSurge` is 0"));
  }
  return [...errors, ...notOver100(`${field}.maxUnavailable`, maxUnavailable)];
}

function isNone(amount: unknown): boolean {
  return amount === undefined || (typeof amount === "string" ? /^0+%$/.test(amount) : amount === 0);
}

function notOver100(field: string, amount: unknown): FieldError[] {
  const isOver = typeof amount === "string" && /^[0-9]+%$/.test(amount) && Number.parseInt(amount, 10) > 100;
  return isOver ? [invalid(field, amount, "must not be greater than 100%")] : [];
}

export function checkReplicaSet(set: JsonObject, old?: JsonObject): FieldError[] {
  const spec = record(set.spec);
  return [
    ...counts(spec, "replicas", "minReadySeconds"),
    ...checkTemplate(spec, "deployment", "ReplicaSet"),
    ...(old ? immutable("spec.selector", spec.selector, record(old.spec).selector) : []),
  ];
}

const statefulSetMayChange = [
  "replicas",
  "ordinals",
  "template",
  "updateStrategy",
  "revisionHistoryLimit",
  "persistentVolumeClaimRetentionPolicy",
  "minReadySeconds",
];

export function checkStatefulSet(set: JsonObject, old?: JsonObject): FieldError[] {
  const spec = record(set.spec);
  const errors: FieldError[] = [];
  const management = spec.podManagementPolicy;
  if (management !== "OrderedReady" && management !== "Parallel") {
    errors.push(invalid("spec.podManagementPolicy", management, "must be 'OrderedReady' or 'Parallel'"));
  }
  const strategy = record(spec.updateStrategy);
  const rolling = record(strategy.rollingUpdate);
  if (strategy.type === "OnDelete") {
    if (strategy.rollingUpdate !== undefined) {
      const says = "only allowed for updateStrategy 'RollingUpdate'";
      errors.push(invalid("spec.updateStrategy.rollingUpdate", rolling, says));
    }
  } else if (strategy.type === "RollingUpdate") {
    errors.push(...nonNegative("spec.updateStrategy.rollingUpdate.partition", rolling.partition));
  } else {
    errors.push(invalid("spec.updateStrategy", strategy, "must be 'RollingUpdate' or 'OnDelete'"));
  }
  const retention = record(spec.persistentVolumeClaimRetentionPolicy);
  for (const when of ["whenDeleted", "whenScaled"]) {
    errors.push(
      ...oneOf(`spec.persistentVolumeClaimRetentionPolicy.${when}`, retention[when], ["Retain", "Delete"]),
    );
  }
  errors.push(...counts(spec, "replicas", "minReadySeconds"));
  errors.push(...nonNegative("spec.ordinals.start", record(spec.ordinals).start));
  const service = text(spec.serviceName);
  if (!old && service !== "") errors.push(...checkText(dnsLabel, "spec.serviceName", service));
  errors.push(...checkTemplate(withClaims(spec), "statefulset", "StatefulSet"));
  if (old) {
    const fixed = (of: JsonObject) =>
      Object.fromEntries(Object.entries(of).filter(([name]) => !statefulSetMayChange.includes(name)));
    if (!sameSemantics(fixed(spec), fixed(record(old.spec)))) {
      const says =
        "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
      errors.push(forbidden("spec", says));
    }
  }
  return errors;
}

/** The claims of a StatefulSet are volumes of its pods, by their names; hostname and subdomain are set by the controller. */
function withClaims(spec: JsonObject): JsonObject {
  const template = record(spec.template);
  const pod = record(template.spec);
  const claims = records(spec.volumeClaimTemplates).map((claim) => {
    const { name } = record(claim.metadata);
    return { name, persistentVolumeClaim: { claimName: name } };
  });
  const own = records(pod.volumes).filter((volume) => !claims.some((claim) => claim.name === volume.name));
  const { hostname: _, subdomain: __, ...rest } = pod;
  return { ...spec, template: { ...template, spec: { ...rest, volumes: [...claims, ...own] } } };
}

export function checkDaemonSet(set: JsonObject, old?: JsonObject): FieldError[] {
  const spec = record(set.spec);
  const errors = old ? immutable("spec.selector", spec.selector, record(old.spec).selector) : [];
  errors.push(...checkTemplate(spec, "daemonset", "DaemonSet"), ...counts(spec, "minReadySeconds"));
  const strategy = record(spec.updateStrategy);
  const field = "spec.updateStrategy.rollingUpdate";
  if (strategy.type === "RollingUpdate") {
    const { maxUnavailable, maxSurge } = record(strategy.rollingUpdate);
    errors.push(
      ...countOrPercent(`${field}.maxUnavailable`, maxUnavailable),
      ...countOrPercent(`${field}.maxSurge`, maxSurge),
      ...notOver100(`${field}.maxUnavailable`, maxUnavailable),
      ...notOver100(`${field}.maxSurge`, maxSurge),
    );
    if (!isNone(maxUnavailable) && !isNone(maxSurge)) {
      errors.push(invalid(`${field}.maxSurge`, maxSurge, "may not be set when maxUnavailable is non-zero"));
    } else if (isNone(maxUnavailable) && isNone(maxSurge)) {
      errors.push(required(`${field}.maxUnavailable`, "cannot be 0 when maxSurge is 0"));
    }
  } else if (strategy.type !== "OnDelete") {
    errors.push(notSupported("spec.updateStrategy", strategy, ["RollingUpdate", "OnDelete"]));
  }
  return [...errors, ...counts(spec, "revisionHistoryLimit")];
}

const jobFixed = [
  "selector",
  "completionMode",
  "podFailurePolicy",
  "backoffLimitPerIndex",
  "managedBy",
  "successPolicy",
];

/** The API server makes a Job's selector before this (unless `manualSelector`). */
export function checkJob(job: JsonObject, old?: JsonObject): FieldError[] {
  const spec = record(job.spec);
  const errors = checkJobSpec(spec, "spec");
  const labels = record(record(record(spec.template).metadata).labels);
  if (!isObject(spec.selector)) errors.push(required("spec.selector"));
  else {
    errors.push(...checkSelector("spec.selector", spec.selector));
    if (!selects(spec.selector, labels)) {
      const shown = Object.keys(labels).length > 0 ? labels : null;
      errors.push(
        invalid("spec.template.metadata.labels", shown, "`selector` does not match template `labels`"),
      );
    }
  }
  if (!old) return errors;
  const before = record(old.spec);
  const isIndexed = spec.completionMode === "Indexed" && spec.completions === spec.parallelism;
  if (!isIndexed)
    errors.push(...immutable("spec.completions", spec.completions ?? null, before.completions ?? null));
  for (const name of jobFixed)
    errors.push(...immutable(`spec.${name}`, spec[name] ?? null, before[name] ?? null));
  if (before.suspend !== true && !sameSemantics(spec.template, before.template)) {
    errors.push(invalid("spec.template", spec.template, "field is immutable"));
  }
  return errors;
}

function checkJobSpec(spec: JsonObject, path: string): FieldError[] {
  const errors: FieldError[] = [];
  for (const name of [
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
  ]) {
    errors.push(...nonNegative(`${path}.${name}`, spec[name]));
  }
  const mode = spec.completionMode;
  if (mode !== undefined && mode !== "NonIndexed" && mode !== "Indexed") {
    errors.push(notSupported(`${path}.completionMode`, mode, ["NonIndexed", "Indexed"]));
  }
  if (mode === "Indexed" && spec.completions === undefined) {
    errors.push(required(`${path}.completions`, "when completion mode is Indexed"));
  }
  if (mode !== "Indexed") {
    for (const name of ["backoffLimitPerIndex", "maxFailedIndexes"]) {
      if (spec[name] !== undefined)
        errors.push(invalid(`${path}.${name}`, spec[name], "requires indexed completion mode"));
    }
  }
  errors.push(...checkPodTemplate(record(spec.template), `${path}.template`));
  const restart = text(record(record(spec.template).spec).restartPolicy);
  const field = `${path}.template.spec.restartPolicy`;
  if (restart === "" || restart === "Always")
    errors.push(required(field, 'valid values: "OnFailure", "Never"'));
  else if (restart !== "OnFailure" && restart !== "Never")
    errors.push(notSupported(field, restart, ["OnFailure", "Never"]));
  return errors;
}

export function checkCronJob(cron: JsonObject): FieldError[] {
  const spec = record(cron.spec);
  const errors: FieldError[] = [];
  const schedule = text(spec.schedule);
  if (schedule === "") errors.push(required("spec.schedule"));
  else if (!/^@\w+(?: \S+)?$/.test(schedule) && schedule.trim().split(/\s+/).length !== 5) {
    const found = schedule.trim().split(/\s+/).length;
    errors.push(
      invalid("spec.schedule", schedule, `expected exactly 5 fields, found ${found}: [${schedule}]`),
    );
  }
  errors.push(...oneOf("spec.concurrencyPolicy", spec.concurrencyPolicy, ["Allow", "Forbid", "Replace"]));
  errors.push(
    ...counts(spec, "startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"),
  );
  return [...errors, ...checkJobSpec(record(record(spec.jobTemplate).spec), "spec.jobTemplate.spec")];
}
