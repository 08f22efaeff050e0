/** What the remaining kinds must be: configuration, RBAC, leases, definitions, webhooks. */
import { isIP } from "node:net";
import { jsonProblem } from "../json.ts";
import {
  asStruct,
  equalJson,
  type FieldError,
  forbidden,
  invalid,
  isObject,
  type JsonObject,
  notSupported,
  required,
  tooLong,
} from "../schema/index.ts";
import { immutable, nonNegative } from "./checks.ts";
import { checkText, dataKey, dnsLabel, dnsSubdomain, pathSegment, portNumber } from "./names.ts";
import { checkSelector } from "./selectors.ts";
import { checkSpecialAddress } from "./services.ts";
import { at, record, records, strings, text } from "./values.ts";

const mostBytes = 1024 * 1024;

/** Bytes that a base64 text stands for. */
function decodedLength(value: unknown): number {
  const encoded = text(value).replace(/[\r\n]/g, "");
  return Math.floor((encoded.replace(/=+$/, "").length * 3) / 4);
}

function checkFrozen(object: JsonObject, old: JsonObject, names: string[]): FieldError[] {
  if (old.immutable !== true) return [];
  const says = "field is immutable when `immutable` is set";
  const errors = object.immutable === true ? [] : [forbidden("immutable", says)];
  for (const name of names) {
    if (!equalJson(object[name] ?? {}, old[name] ?? {})) errors.push(forbidden(name, says));
  }
  return errors;
}

export function checkConfigMap(map: JsonObject, old?: JsonObject): FieldError[] {
  const errors = old ? checkFrozen(map, old, ["data", "binaryData"]) : [];
  const data = record(map.data);
  const binary = record(map.binaryData);
  let size = 0;
  for (const [name, value] of Object.entries(data)) {
    errors.push(...checkText(dataKey, `data[${name}]`, name));
    if (Object.hasOwn(binary, name))
      errors.push(invalid(`data[${name}]`, name, "duplicate of key present in binaryData"));
    size += Buffer.byteLength(text(value));
  }
  for (const [name, value] of Object.entries(binary)) {
    errors.push(...checkText(dataKey, `binaryData[${name}]`, name));
    size += decodedLength(value);
  }
  if (size > mostBytes) errors.push(tooLong("", mostBytes));
  return errors;
}

/** The keys that a Secret of a type must have. */
const secretKeys: Record<string, string[]> = {
  "kubernetes.io/dockercfg": [".dockercfg"],
  "kubernetes.io/dockerconfigjson": [".dockerconfigjson"],
  "kubernetes.io/ssh-auth": ["ssh-privatekey"],
  "kubernetes.io/tls": ["tls.crt", "tls.key"],
};

export function checkSecret(secret: JsonObject, old?: JsonObject): FieldError[] {
  const errors = old
    ? [...immutable("type", secret.type, old.type), ...checkFrozen(secret, old, ["data"])]
    : [];
  const data = record(secret.data);
  let size = 0;
  for (const [name, value] of Object.entries(data)) {
    errors.push(...checkText(dataKey, `data[${name}]`, name));
    size += decodedLength(value);
  }
  if (size > mostBytes) errors.push(tooLong("data", mostBytes));
  const type = text(secret.type);
  for (const name of secretKeys[type] ?? []) {
    if (!Object.hasOwn(data, name)) errors.push(required(`data[${name}]`));
    else if (type.startsWith("kubernetes.io/docker") && !isJsonObject(text(data[name]))) {
      const says = jsonProblem(Buffer.from(text(data[name]), "base64").toString());
      errors.push(invalid(`data[${name}]`, "<secret contents redacted>", says ?? "must be an object"));
    }
  }
  if (type === "kubernetes.io/service-account-token") {
    const name = "kubernetes.io/service-account.name";
    if (text(at(secret, "metadata", "annotations")?.[name]) === "") {
      errors.push(required(`metadata.annotations[${name}]`));
    }
  }
  if (
    type === "kubernetes.io/basic-auth" &&
    !Object.hasOwn(data, "username") &&
    !Object.hasOwn(data, "password")
  ) {
    errors.push(required("data[username]"), required("data[password]"));
  }
  return errors;
}

function isJsonObject(encoded: string): boolean {
  try {
    return isObject(JSON.parse(Buffer.from(encoded, "base64").toString("utf8")));
  } catch {
    return false;
  }
}

export function checkEndpoints(endpoints: JsonObject): FieldError[] {
  return records(endpoints.subsets).flatMap((subset, i) => {
    const field = `subsets[${i}]`;
    const addresses = [...records(subset.addresses), ...records(subset.notReadyAddresses)];
    const ports = records(subset.ports);
    const errors: FieldError[] = [];
    if (addresses.length === 0)
      errors.push(required(field, "must specify `addresses` or `notReadyAddresses`"));
    for (const kind of ["addresses", "notReadyAddresses"]) {
      records(subset[kind]).forEach((address, n) => {
        const ip = text(address.ip);
        const at = `${field}.${kind}[${n}].ip`;
        if (isIP(ip) !== 0) errors.push(...checkSpecialAddress(ip, at));
        // Two of Kubernetes' checks find the same.
        else
          errors.push(
            invalid(at, ip, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
            invalid(at, ip, "must be a valid IP address"),
          );
      });
    }
    ports.forEach((port, n) => {
      const number = typeof port.port === "number" ? port.port : 0;
      const name = text(port.name);
      if (ports.length > 1 && name === "") errors.push(required(`${field}.ports[${n}].name`));
      else if (name !== "") errors.push(...checkText(dnsLabel, `${field}.ports[${n}].name`, name));
      errors.push(
        ...portNumber(number).map((detail) => invalid(`${field}.ports[${n}].port`, number, detail)),
      );
    });
    return errors;
  });
}

export function checkLease(lease: JsonObject): FieldError[] {
  const spec = record(lease.spec);
  const errors: FieldError[] = [];
  const duration = spec.leaseDurationSeconds;
  if (typeof duration === "number" && duration <= 0) {
    errors.push(invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"));
  }
  errors.push(...nonNegative("spec.leaseTransitions", spec.leaseTransitions));
  if (text(spec.preferredHolder) !== "" && text(spec.strategy) === "") {
    errors.push(forbidden("spec.preferredHolder", "may only be specified if `strategy` is defined"));
  }
  return errors;
}

export function checkRole(role: JsonObject): FieldError[] {
  return checkRules(records(role.rules), true);
}

export function checkClusterRole(role: JsonObject): FieldError[] {
  const errors = checkRules(records(role.rules), false);
  if (!isObject(role.aggregationRule)) return errors;
  const selectors = records(role.aggregationRule.clusterRoleSelectors);
  const field = "aggregationRule.clusterRoleSelectors";
  if (selectors.length === 0) {
    errors.push(required(field, "at least one clusterRoleSelector required if aggregationRule is non-nil"));
  }
  selectors.forEach((selector, i) => {
    errors.push(...checkSelector(`${field}[${i}]`, selector));
  });
  return errors;
}

function checkRules(rules: JsonObject[], isNamespaced: boolean): FieldError[] {
  return rules.flatMap((rule, i) => {
    const field = `rules[${i}]`;
    const errors: FieldError[] = [];
    const has = (name: string) => strings(rule[name]).length > 0;
    if (!has("verbs")) errors.push(required(`${field}.verbs`, "verbs must contain at least one value"));
    if (has("nonResourceURLs")) {
      const urls = rule.nonResourceURLs;
      if (isNamespaced) {
        errors.push(
          invalid(`${field}.nonResourceURLs`, urls, "namespaced rules cannot apply to non-resource URLs"),
        );
      }
      if (has("apiGroups") || has("resources") || has("resourceNames")) {
        const says = "rules cannot apply to both regular resources and non-resource URLs";
        errors.push(invalid(`${field}.nonResourceURLs`, urls, says));
      }
      return errors;
    }
    if (!has("apiGroups"))
      errors.push(required(`${field}.apiGroups`, "resource rules must supply at least one api group"));
    if (!has("resources"))
      errors.push(required(`${field}.resources`, "resource rules must supply at least one resource"));
    return errors;
  });
}

const rbacGroup = "rbac.authorization.k8s.io";

export function checkBinding(binding: JsonObject, old?: JsonObject): FieldError[] {
  const isNamespaced = binding.kind === "RoleBinding";
  const ref = record(binding.roleRef);
  const kinds = isNamespaced ? ["Role", "ClusterRole"] : ["ClusterRole"];
  const errors: FieldError[] = [];
  if (ref.apiGroup !== rbacGroup)
    errors.push(notSupported("roleRef.apiGroup", ref.apiGroup ?? "", [rbacGroup]));
  if (!kinds.includes(text(ref.kind))) errors.push(notSupported("roleRef.kind", ref.kind ?? "", kinds));
  if (text(ref.name) === "") errors.push(required("roleRef.name"));
  else errors.push(...checkText(pathSegment, "roleRef.name", text(ref.name)));
  records(binding.subjects).forEach((subject, i) => {
    errors.push(...checkSubject(subject, `subjects[${i}]`, isNamespaced));
  });
  if (old && !equalJson(old.roleRef, binding.roleRef)) {
    errors.push(invalid("roleRef", binding.roleRef, "cannot change roleRef"));
  }
  return errors;
}

function checkSubject(subject: JsonObject, field: string, isNamespaced: boolean): FieldError[] {
  const errors: FieldError[] = [];
  const name = text(subject.name);
  const group = text(subject.apiGroup);
  if (name === "") errors.push(required(`${field}.name`));
  switch (subject.kind) {
    case "ServiceAccount":
      if (name !== "") errors.push(...checkText(dnsSubdomain, `${field}.name`, name));
      if (group !== "") errors.push(notSupported(`${field}.apiGroup`, group, [""]));
      if (!isNamespaced && text(subject.namespace) === "") errors.push(required(`${field}.namespace`));
      break;
    case "User":
    case "Group":
      if (group !== rbacGroup) errors.push(notSupported(`${field}.apiGroup`, group, [rbacGroup]));
      break;
    default:
      errors.push(notSupported(`${field}.kind`, subject.kind ?? "", ["ServiceAccount", "User", "Group"]));
  }
  return errors;
}

/** ControllerRevisions carry what they are revisions of. */
export function checkControllerRevision(revision: JsonObject): FieldError[] {
  return revision.data === undefined || revision.data === null ? [required("data", "data is mandatory")] : [];
}

const systemPriorities = ["system-cluster-critical", "system-node-critical"];

export function checkPriorityClass(priority: JsonObject): FieldError[] {
  const name = text(record(priority.metadata).name);
  if (!name.startsWith("system-") || systemPriorities.includes(name)) return [];
  const says = `priority class names with 'system-' prefix are reserved for system use only. error: ${name} is not a known system priority class`;
  return [forbidden("metadata.name", says)];
}

export function checkDisruptionBudget(budget: JsonObject): FieldError[] {
  const { minAvailable, maxUnavailable, selector, unhealthyPodEvictionPolicy } = record(budget.spec);
  if (minAvailable === undefined || maxUnavailable === undefined) return [];
  const shown = {
    MinAvailable: minAvailable,
    Selector: selector ?? null,
    MaxUnavailable: maxUnavailable,
    UnhealthyPodEvictionPolicy: unhealthyPodEvictionPolicy ?? null,
  };
  return [invalid("spec", asStruct(shown), "minAvailable and maxUnavailable cannot be both set")];
}
