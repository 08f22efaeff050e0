/** What a pod, or a template for pods, must be (kubernetes `pkg/apis/core/validation`, ValidatePodSpec). */
import {
  type FieldError,
  forbidden,
  invalid,
  isObject,
  type JsonObject,
  notSupported,
  required,
} from "../schema/index.ts";
import { nonNegative, oneOf, sameSemantics } from "./checks.ts";
import { checkContainers } from "./containers.ts";
import { checkAnnotations, checkLabels, checkText, dnsLabel, dnsSubdomain, qualifiedName } from "./names.ts";
import { at, record, records, text } from "./values.ts";
import { checkVolumes } from "./volumes.ts";

/** A pod on its own: what templates may leave open is settled here. */
export function checkPod(pod: JsonObject, old?: JsonObject): FieldError[] {
  const spec = record(pod.spec);
  const errors = checkPodSpec(spec, "spec", true);
  for (const kind of ["containers", "initContainers"]) {
    records(spec[kind]).forEach((container, i) => {
      const image = text(container.image);
      if (image !== image.trim()) {
        errors.push(
          invalid(`spec.${kind}[${i}].image`, image, "must not have leading or trailing whitespace"),
        );
      }
    });
  }
  if (old) return [...errors, ...checkPodUpdate(spec, record(old.spec))];
  if (records(spec.ephemeralContainers).length > 0) {
    errors.push(forbidden("spec.ephemeralContainers", "cannot be set on create"));
  }
  if (text(spec.nodeName) !== "" && records(spec.schedulingGates).length > 0) {
    errors.push(forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared"));
  }
  return errors;
}

/** A template: its metadata and spec. `path` is where it stands. */
export function checkPodTemplate(template: JsonObject, path: string): FieldError[] {
  const metadata = record(template.metadata);
  const spec = record(template.spec);
  const errors = [
    ...checkLabels(`${path}.labels`, metadata.labels),
    ...checkAnnotations(`${path}.annotations`, metadata.annotations),
    ...checkPodSpec(spec, `${path}.spec`, false),
  ];
  if (records(spec.ephemeralContainers).length > 0) {
    errors.push(
      forbidden(`${path}.spec.ephemeralContainers`, "ephemeral containers not allowed in pod template"),
    );
  }
  return errors;
}

function checkPodSpec(spec: JsonObject, path: string, isPod: boolean): FieldError[] {
  const f = (name: string) => `${path}.${name}`;
  const volumes = checkVolumes(records(spec.volumes), f("volumes"));
  const errors = [
    ...volumes.errors,
    ...checkContainers(spec, path, volumes.names),
    ...checkHostPorts(spec, path, isPod),
    ...oneOf(f("restartPolicy"), spec.restartPolicy, ["Always", "OnFailure", "Never"]),
    ...oneOf(f("dnsPolicy"), spec.dnsPolicy, ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]),
    ...checkLabels(f("nodeSelector"), spec.nodeSelector),
    ...nonNegativeId(f("securityContext.runAsUser"), at(spec, "securityContext")?.runAsUser),
    ...nonNegativeId(f("securityContext.runAsGroup"), at(spec, "securityContext")?.runAsGroup),
    ...nonNegativeId(f("securityContext.fsGroup"), at(spec, "securityContext")?.fsGroup),
    ...checkDns(spec, f("dnsConfig")),
  ];
  records(spec.readinessGates).forEach((gate, i) => {
    errors.push(
      ...checkText(qualifiedName, `${f("readinessGates")}[${i}].conditionType`, text(gate.conditionType)),
    );
  });
  const names: [string, typeof dnsLabel][] = [
    ["serviceAccountName", dnsSubdomain],
    ["nodeName", dnsSubdomain],
    ["hostname", dnsLabel],
    ["subdomain", dnsLabel],
    ["priorityClassName", dnsSubdomain],
    ["runtimeClassName", dnsSubdomain],
  ];
  for (const [name, check] of names) {
    const value = text(spec[name]);
    if (value !== "") errors.push(...checkText(check, f(name), value));
  }
  const deadline = spec.activeDeadlineSeconds;
  if (typeof deadline === "number" && (deadline < 1 || deadline > 2147483647)) {
    errors.push(invalid(f("activeDeadlineSeconds"), deadline, "must be between 1 and 2147483647, inclusive"));
  }
  errors.push(...checkTolerations(records(spec.tolerations), f("tolerations")));
  records(spec.hostAliases).forEach((alias, i) => {
    if (!/^[\d.]+$|:/.test(text(alias.ip))) {
      errors.push(
        invalid(
          `${f("hostAliases")}[${i}].ip`,
          alias.ip,
          "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
      );
    }
  });
  return errors;
}

function nonNegativeId(field: string, value: unknown): FieldError[] {
  return typeof value === "number" && (value < 0 || value > 2147483647)
    ? [invalid(field, value, "must be between 0 and 2147483647, inclusive")]
    : [];
}

/** In the host's network a container's port is the host's. */
function checkHostPorts(spec: JsonObject, path: string, isPod: boolean): FieldError[] {
  if (spec.hostNetwork !== true) return [];
  return records(spec.containers).flatMap((container, i) =>
    records(container.ports).flatMap((port, n) => {
      const hostPort = typeof port.hostPort === "number" ? port.hostPort : 0;
      const matches = hostPort === port.containerPort || (!isPod && hostPort === 0);
      return matches
        ? []
        : [
            invalid(
              `${path}.containers[${i}].ports[${n}].hostPort`,
              hostPort,
              "must match `containerPort` when `hostNetwork` is true",
            ),
          ];
    }),
  );
}

function checkDns(spec: JsonObject, path: string): FieldError[] {
  const config = spec.dnsConfig;
  const servers = Array.isArray(record(config).nameservers) ? (record(config).nameservers as unknown[]) : [];
  if (spec.dnsPolicy === "None") {
    if (!isObject(config)) {
      return [required(path, "must provide `dnsConfig` when `dnsPolicy` is None")];
    }
    if (servers.length === 0) {
      return [
        required(`${path}.nameservers`, "must provide at least one DNS nameserver when `dnsPolicy` is None"),
      ];
    }
  }
  return servers.length > 3
    ? [invalid(`${path}.nameservers`, servers, "must not have more than 3 nameservers")]
    : [];
}

const effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

function checkTolerations(tolerations: JsonObject[], path: string): FieldError[] {
  return tolerations.flatMap((toleration, i) => {
    const field = `${path}[${i}]`;
    const errors: FieldError[] = [];
    const key = text(toleration.key);
    const operator = text(toleration.operator);
    if (key !== "") errors.push(...checkText(qualifiedName, `${field}.key`, key));
    else if (operator !== "Exists") {
      errors.push(
        invalid(
          `${field}.operator`,
          operator,
          'operator must be Exists when `key` is empty, which means "match all values and all keys"',
        ),
      );
    }
    if (toleration.tolerationSeconds !== undefined && toleration.effect !== "NoExecute") {
      errors.push(
        invalid(
          `${field}.effect`,
          toleration.effect ?? "",
          "effect must be 'NoExecute' when `tolerationSeconds` is set",
        ),
      );
    }
    if (operator !== "" && operator !== "Equal" && operator !== "Exists") {
      errors.push(notSupported(`${field}.operator`, operator, ["Equal", "Exists"]));
    }
    if (operator === "Exists" && text(toleration.value) !== "") {
      errors.push(
        invalid(`${field}.operator`, toleration, "value must be empty when `operator` is 'Exists'"),
      );
    }
    if (text(toleration.effect) !== "" && !effects.includes(text(toleration.effect))) {
      errors.push(notSupported(`${field}.effect`, toleration.effect, effects));
    }
    return errors;
  });
}

/** What may change of a pod. */
export const updatable = [
  "`spec.containers[*].image`",
  "`spec.initContainers[*].image`",
  "`spec.activeDeadlineSeconds`",
  "`spec.tolerations` (only additions to existing tolerations)",
  "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
];

/** A running pod may get other images, a shorter deadline and more tolerations; nothing else. */
function checkPodUpdate(spec: JsonObject, old: JsonObject): FieldError[] {
  const errors: FieldError[] = [];
  for (const kind of ["containers", "initContainers"]) {
    const before = records(old[kind]);
    const after = records(spec[kind]);
    if (before.length !== after.length) {
      return [forbidden(`spec.${kind}`, "pod updates may not add or remove containers")];
    }
    after.forEach((container, i) => {
      if (text(container.image) === "") errors.push(required(`spec.${kind}[${i}].image`));
    });
  }
  const deadline = spec.activeDeadlineSeconds;
  const oldDeadline = old.activeDeadlineSeconds;
  if (typeof deadline === "number" && typeof oldDeadline === "number" && oldDeadline < deadline) {
    errors.push(
      invalid("spec.activeDeadlineSeconds", deadline, "must be less than or equal to previous value"),
    );
  } else if (deadline === undefined && oldDeadline !== undefined) {
    errors.push(
      invalid("spec.activeDeadlineSeconds", null, "must not update from a positive integer to nil value"),
    );
  }
  const tolerations = records(spec.tolerations);
  const isKept = (toleration: JsonObject) =>
    tolerations.some((other) =>
      ["key", "operator", "value", "effect"].every((name) => text(other[name]) === text(toleration[name])),
    );
  if (!records(old.tolerations).every(isKept)) {
    errors.push(
      forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds"),
    );
  }
  const gates = records(old.schedulingGates).map((gate) => gate.name);
  records(spec.schedulingGates).forEach((gate, i) => {
    if (!gates.includes(gate.name)) {
      errors.push(
        forbidden(
          `spec.schedulingGates[${i}].name`,
          `only deletion is allowed, but found new scheduling gate '${text(gate.name)}'`,
        ),
      );
    }
  });
  const grace =
    typeof old.terminationGracePeriodSeconds === "number" &&
    old.terminationGracePeriodSeconds < 0 &&
    spec.terminationGracePeriodSeconds === 1
      ? old.terminationGracePeriodSeconds
      : spec.terminationGracePeriodSeconds;
  const withOldImages = (kind: string) =>
    records(spec[kind]).map((container, i) => ({ ...container, image: records(old[kind])[i]?.image }));
  const munged: JsonObject = {
    ...spec,
    containers: withOldImages("containers"),
    initContainers: withOldImages("initContainers"),
    activeDeadlineSeconds: oldDeadline,
    tolerations: old.tolerations,
    schedulingGates: old.schedulingGates,
    terminationGracePeriodSeconds: grace,
    // Ephemeral containers, nodeName and resources have subresources of their own that write them.
    ephemeralContainers: old.ephemeralContainers,
    nodeName: text(old.nodeName) === "" ? old.nodeName : spec.nodeName,
  };
  if (records(old.schedulingGates).length > 0) {
    munged.nodeSelector = old.nodeSelector;
    munged.affinity = old.affinity;
  }
  if (!sameSemantics(munged, old)) {
    errors.push(
      forbidden(
        "spec",
        `pod updates may not change fields other than ${updatable.join(",")}\n${difference(munged, old)}`,
      ),
    );
  }
  return errors;
}

/** Which members differ, one per line. */
function difference(after: JsonObject, before: JsonObject): string {
  const names = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...names]
    .filter((name) => !sameSemantics(before[name], after[name]))
    .map((name) => `- ${name}: ${JSON.stringify(before[name])}\n+ ${name}: ${JSON.stringify(after[name])}`)
    .join("\n");
}

/** What a status may not do: a bound pod's node and class of service stay. */
export function checkPodStatus(pod: JsonObject, old: JsonObject): FieldError[] {
  const errors: FieldError[] = [];
  const before = record(old.status).qosClass;
  const after = record(pod.status).qosClass;
  if (before !== undefined && after !== before)
    errors.push(invalid("status.qosClass", after, "field is immutable"));
  records(record(pod.status).containerStatuses).forEach((status, i) => {
    errors.push(...nonNegative(`status.containerStatuses[${i}].restartCount`, status.restartCount));
  });
  return errors;
}
