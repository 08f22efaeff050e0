/** What the containers of a pod must be (kubernetes `pkg/apis/core/validation`, validateContainers and around). */
import {
  duplicate,
  type FieldError,
  forbidden,
  invalid,
  isObject,
  type JsonObject,
  notFound,
  notSupported,
  required,
} from "../schema/index.ts";
import { nonNegative, oneOf, portOrName, protocols } from "./checks.ts";
import {
  checkText,
  dataKey,
  dnsLabel,
  dnsSubdomain,
  environmentName,
  portName,
  portNumber,
  qualifiedName,
} from "./names.ts";
import { canonicalQuantity, parseQuantity } from "./quantity.ts";
import { at, record, records, text } from "./values.ts";
import { checkDescending } from "./volumes.ts";

/** Containers, init containers and ephemeral containers of a pod's spec. */
export function checkContainers(spec: JsonObject, path: string, volumes: Set<string>): FieldError[] {
  const containers = records(spec.containers);
  const grace =
    typeof spec.terminationGracePeriodSeconds === "number" ? spec.terminationGracePeriodSeconds : undefined;
  const errors: FieldError[] = [];
  if (containers.length === 0) errors.push(required(`${path}.containers`));
  const names = new Set<string>();
  containers.forEach((container, i) => {
    const field = `${path}.containers[${i}]`;
    errors.push(...checkContainer(container, field, volumes));
    const name = text(container.name);
    if (names.has(name)) errors.push(duplicate(`${field}.name`, name));
    names.add(name);
    errors.push(...checkHandlers(container, field, grace));
    errors.push(...checkRestartPolicy(container, field, ["Always", "OnFailure", "Never"]));
  });
  errors.push(...checkHostPortClashes(containers, `${path}.containers`));
  records(spec.initContainers).forEach((container, i) => {
    const field = `${path}.initContainers[${i}]`;
    errors.push(...checkContainer(container, field, volumes));
    errors.push(...checkRestartPolicy(container, field, ["Always", "OnFailure", "Never"]));
    const name = text(container.name);
    if (names.has(name)) errors.push(duplicate(`${field}.name`, name));
    else if (name !== "") names.add(name);
    errors.push(...checkHostPortClashes([container], `${path}.initContainers`));
    if (container.restartPolicy === "Always") errors.push(...checkHandlers(container, field, grace));
    else {
      for (const not of ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"]) {
        if (isObject(container[not])) {
          errors.push(
            forbidden(`${field}.${not}`, "may not be set for init containers without restartPolicy=Always"),
          );
        }
      }
    }
  });
  records(spec.ephemeralContainers).forEach((container, i) => {
    const field = `${path}.ephemeralContainers[${i}]`;
    errors.push(...checkContainer(container, field, volumes));
    const name = text(container.name);
    if (names.has(name)) errors.push(duplicate(`${field}.name`, name));
    names.add(name);
  });
  return errors;
}

function checkRestartPolicy(container: JsonObject, field: string, supported: string[]): FieldError[] {
  const policy = container.restartPolicy;
  return policy === undefined || supported.includes(policy as string)
    ? []
    : [notSupported(`${field}.restartPolicy`, policy, supported)];
}

function checkContainer(container: JsonObject, field: string, volumes: Set<string>): FieldError[] {
  const errors: FieldError[] = [];
  const name = text(container.name);
  if (name === "") errors.push(required(`${field}.name`));
  else errors.push(...checkText(dnsLabel, `${field}.name`, name));
  if (text(container.image) === "") errors.push(required(`${field}.image`));
  return [
    ...errors,
    ...oneOf(`${field}.terminationMessagePolicy`, container.terminationMessagePolicy, [
      "File",
      "FallbackToLogsOnError",
    ]),
    ...checkPorts(records(container.ports), `${field}.ports`),
    ...checkEnvironment(records(container.env), `${field}.env`),
    ...checkEnvironmentFrom(records(container.envFrom), `${field}.envFrom`),
    ...checkMounts(container, `${field}.volumeMounts`, volumes),
    ...oneOf(`${field}.imagePullPolicy`, container.imagePullPolicy, ["Always", "IfNotPresent", "Never"]),
    ...checkResources(record(container.resources), `${field}.resources`),
    ...checkSecurityContext(record(container.securityContext), `${field}.securityContext`),
  ];
}

function checkSecurityContext(context: JsonObject, field: string): FieldError[] {
  const errors: FieldError[] = [];
  for (const name of ["runAsUser", "runAsGroup"]) {
    const id = context[name];
    if (typeof id === "number" && (id < 0 || id > 2147483647)) {
      errors.push(invalid(`${field}.${name}`, id, "must be between 0 and 2147483647, inclusive"));
    }
  }
  if (context.privileged === true && context.allowPrivilegeEscalation === false) {
    errors.push(
      invalid(field, context, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"),
    );
  }
  return errors;
}

function checkPorts(ports: JsonObject[], path: string): FieldError[] {
  const names = new Set<string>();
  return ports.flatMap((port, i) => {
    const field = `${path}[${i}]`;
    const errors: FieldError[] = [];
    const name = text(port.name);
    if (name !== "") {
      const problems = checkText(portName, `${field}.name`, name);
      errors.push(...problems);
      if (problems.length === 0 && names.has(name)) errors.push(duplicate(`${field}.name`, name));
      names.add(name);
    }
    const number = typeof port.containerPort === "number" ? port.containerPort : 0;
    if (number === 0) errors.push(required(`${field}.containerPort`));
    else
      errors.push(...portNumber(number).map((detail) => invalid(`${field}.containerPort`, number, detail)));
    if (typeof port.hostPort === "number" && port.hostPort !== 0) {
      errors.push(
        ...portNumber(port.hostPort).map((detail) => invalid(`${field}.hostPort`, port.hostPort, detail)),
      );
    }
    errors.push(...oneOf(`${field}.protocol`, port.protocol, protocols));
    return errors;
  });
}

function checkHostPortClashes(containers: JsonObject[], path: string): FieldError[] {
  const taken = new Set<string>();
  return containers.flatMap((container, i) =>
    records(container.ports).flatMap((port, n) => {
      if (typeof port.hostPort !== "number" || port.hostPort === 0) return [];
      const key = `${text(port.protocol)}/${text(port.hostIP)}/${port.hostPort}`;
      if (taken.has(key)) return [duplicate(`${path}[${i}].ports[${n}].hostPort`, key)];
      taken.add(key);
      return [];
    }),
  );
}

const fieldPaths = [
  "metadata.name",
  "metadata.namespace",
  "metadata.uid",
  "spec.nodeName",
  "spec.serviceAccountName",
  "status.hostIP",
  "status.hostIPs",
  "status.podIP",
  "status.podIPs",
];

const resourcePaths = ["limits", "requests"].flatMap((of) =>
  ["cpu", "ephemeral-storage", "memory"].map((resource) => `${of}.${resource}`),
);

function checkEnvironment(variables: JsonObject[], path: string): FieldError[] {
  return variables.flatMap((variable, i) => {
    const field = `${path}[${i}]`;
    const name = text(variable.name);
    const errors =
      name === "" ? [required(`${field}.name`)] : checkText(environmentName, `${field}.name`, name);
    const from = variable.valueFrom;
    if (!isObject(from)) return errors;
    const at = `${field}.valueFrom`;
    const given = Object.entries(from).filter((entry): entry is [string, JsonObject] => isObject(entry[1]));
    for (const [kind, source] of given) errors.push(...checkValueSource(kind, source, `${at}.${kind}`));
    if (given.length === 0) {
      const sources = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
      errors.push(invalid(at, "", `must specify one of: ${sources}`));
    } else if (text(variable.value) !== "") {
      errors.push(invalid(at, "", "may not be specified when `value` is not empty"));
    } else if (given.length > 1) {
      errors.push(invalid(at, "", "may not have more than one field specified at a time"));
    }
    return errors;
  });
}

function checkValueSource(kind: string, source: JsonObject, field: string): FieldError[] {
  if (kind === "fieldRef") {
    const path = text(source.fieldPath);
    if (path === "") return [required(`${field}.fieldPath`)];
    const subscript = /^(metadata\.(?:annotations|labels))\['(.*)'\]$/.exec(path);
    if (subscript) return checkText(qualifiedName, field, subscript[2]!.toLowerCase());
    if (fieldPaths.includes(path)) return [];
    // What pods have in no version cannot even be converted.
    return [
      invalid(`${field}.fieldPath`, path, `error converting fieldPath: field label not supported: ${path}`),
    ];
  }
  if (kind === "resourceFieldRef") {
    const resource = text(source.resource);
    if (resource === "") return [required(`${field}.resource`)];
    const isHuge = /^(?:limits|requests)\.hugepages-/.test(resource);
    return isHuge || resourcePaths.includes(resource)
      ? []
      : [notSupported(`${field}.resource`, resource, resourcePaths)];
  }
  if (kind !== "configMapKeyRef" && kind !== "secretKeyRef") return [];
  const errors = checkText(dnsSubdomain, `${field}.name`, text(source.name));
  if (text(source.key) === "") errors.push(required(`${field}.key`));
  else errors.push(...checkText(dataKey, `${field}.key`, text(source.key)));
  return errors;
}

function checkEnvironmentFrom(sources: JsonObject[], path: string): FieldError[] {
  return sources.flatMap((source, i) => {
    const field = `${path}[${i}]`;
    const errors: FieldError[] = [];
    const prefix = text(source.prefix);
    if (prefix !== "") errors.push(...checkText(environmentName, `${field}.prefix`, prefix));
    const given = ["configMapRef", "secretRef"].filter((kind) => isObject(source[kind]));
    for (const kind of given) {
      const name = text(at(source, kind)?.name);
      if (name === "") errors.push(required(`${field}.${kind}.name`));
      else errors.push(...checkText(dnsSubdomain, `${field}.${kind}.name`, name));
    }
    if (given.length === 0)
      errors.push(invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"));
    if (given.length > 1)
      errors.push(invalid(path, "", "may not have more than one field specified at a time"));
    return errors;
  });
}

function checkMounts(container: JsonObject, path: string, volumes: Set<string>): FieldError[] {
  const places = new Set<string>();
  return records(container.volumeMounts).flatMap((mount, i) => {
    const field = `${path}[${i}]`;
    const errors: FieldError[] = [];
    const name = text(mount.name);
    const place = text(mount.mountPath);
    if (name === "") errors.push(required(`${field}.name`));
    if (!volumes.has(name)) errors.push(notFound(`${field}.name`, name));
    if (place === "") errors.push(required(`${field}.mountPath`));
    if (places.has(place)) errors.push(invalid(`${field}.mountPath`, place, "must be unique"));
    places.add(place);
    if (text(mount.subPath) !== "") errors.push(...checkDescending(`${path}.subPath`, text(mount.subPath)));
    if (text(mount.subPathExpr) !== "") {
      if (text(mount.subPath) !== "") {
        errors.push(
          invalid(
            `${field}.subPathExpr`,
            mount.subPathExpr,
            "subPathExpr and subPath are mutually exclusive",
          ),
        );
      }
      errors.push(...checkDescending(`${path}.subPathExpr`, text(mount.subPathExpr)));
    }
    return errors;
  });
}

const standardResources = /^(?:cpu|memory|ephemeral-storage|hugepages-.+)$/;
const overcommitted = /^(?:cpu|memory|ephemeral-storage)$/;

function checkResources(resources: JsonObject, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const limits = record(resources.limits);
  for (const [name, amount] of Object.entries(limits)) {
    errors.push(...checkResource(name, amount, `${path}.limits[${name}]`));
  }
  for (const [name, amount] of Object.entries(record(resources.requests))) {
    errors.push(...checkResource(name, amount, `${path}.requests[${name}]`));
    const request = parseQuantity(amount);
    const limit = parseQuantity(limits[name]);
    const isOvercommitted = overcommitted.test(name);
    if (!request) continue;
    const shown = canonicalQuantity(amount);
    if (!limit) {
      if (!isOvercommitted)
        errors.push(required(`${path}.limits`, "Limit must be set for non overcommitable resources"));
    } else if (!isOvercommitted && request.nano !== limit.nano) {
      errors.push(
        invalid(
          `${path}.requests`,
          shown,
          `must be equal to ${name} limit of ${canonicalQuantity(limits[name])}`,
        ),
      );
    } else if (request.nano > limit.nano) {
      errors.push(
        invalid(
          `${path}.requests`,
          shown,
          `must be less than or equal to ${name} limit of ${canonicalQuantity(limits[name])}`,
        ),
      );
    }
  }
  return errors;
}

function checkResource(name: string, amount: unknown, field: string): FieldError[] {
  const errors = checkText(qualifiedName, field, name);
  if (errors.length === 0 && !name.includes("/") && !standardResources.test(name)) {
    errors.push(
      invalid(field, name, "must be a standard resource type or fully qualified"),
      invalid(field, name, "must be a standard resource for containers"),
    );
  }
  const quantity = parseQuantity(amount);
  if (quantity && quantity.nano < 0n)
    errors.push(invalid(field, String(amount), "must be greater than or equal to 0"));
  return errors;
}

function checkHandlers(container: JsonObject, field: string, grace: number | undefined): FieldError[] {
  const errors: FieldError[] = [];
  for (const name of ["postStart", "preStop"]) {
    const handler = at(container, "lifecycle", name);
    if (handler) errors.push(...checkHandler(handler, `${field}.lifecycle.${name}`, grace));
  }
  for (const name of ["livenessProbe", "readinessProbe", "startupProbe"]) {
    const probe = container[name];
    if (!isObject(probe)) continue;
    const path = `${field}.${name}`;
    errors.push(...checkHandler(probe, path, grace));
    for (const of of [
      "initialDelaySeconds",
      "timeoutSeconds",
      "periodSeconds",
      "successThreshold",
      "failureThreshold",
    ]) {
      errors.push(...nonNegative(`${path}.${of}`, probe[of]));
    }
    const own = probe.terminationGracePeriodSeconds;
    if (name === "readinessProbe") {
      if (own !== undefined) {
        errors.push(
          invalid(`${path}.terminationGracePeriodSeconds`, own, "must not be set for readinessProbes"),
        );
      }
    } else {
      if (typeof own === "number" && own <= 0) {
        errors.push(invalid(`${path}.terminationGracePeriodSeconds`, own, "must be greater than 0"));
      }
      if (probe.successThreshold !== 1)
        errors.push(invalid(`${path}.successThreshold`, probe.successThreshold, "must be 1"));
    }
  }
  return errors;
}

function checkHandler(handler: JsonObject, field: string, grace: number | undefined): FieldError[] {
  const errors: FieldError[] = [];
  const given = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"].filter((kind) => isObject(handler[kind]));
  if (given.length === 0) return [required(field, "must specify a handler type")];
  given.forEach((kind, i) => {
    const action = record(handler[kind]);
    const path = `${field}.${kind}`;
    if (i > 0) errors.push(forbidden(path, "may not specify more than 1 handler type"));
    else if (kind === "exec") {
      if (!Array.isArray(action.command) || action.command.length === 0)
        errors.push(required(`${path}.command`));
    } else if (kind === "sleep") {
      const seconds = typeof action.seconds === "number" ? action.seconds : 0;
      if (grace !== undefined && (seconds < 0 || seconds > grace)) {
        errors.push(
          invalid(
            path,
            seconds,
            `must be non-negative and less than terminationGracePeriodSeconds (${grace})`,
          ),
        );
      }
    } else {
      if (kind === "httpGet" && text(action.path) === "") errors.push(required(`${path}.path`));
      errors.push(...portOrName(`${path}.port`, action.port));
      if (kind === "httpGet" && action.scheme !== "HTTP" && action.scheme !== "HTTPS") {
        errors.push(notSupported(`${path}.scheme`, action.scheme ?? "", ["HTTP", "HTTPS"]));
      }
    }
  });
  return errors;
}
