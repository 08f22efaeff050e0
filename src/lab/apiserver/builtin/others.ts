/** What the remaining kinds must be: configuration, RBAC, leases, definitions, webhooks. */
import { isIP } from "node:net";
import { jsonProblem } from "../json.ts";
import {
  asStruct,
  checkStructural,
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
import { immutable, nonNegative, oneOf } from "./checks.ts";
import {
  checkText,
  dataKey,
  dns1035Label,
  dnsLabel,
  dnsSubdomain,
  pathSegment,
  portNumber,
} from "./names.ts";
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

export function checkCustomResourceDefinition(definition: JsonObject, old?: JsonObject): FieldError[] {
  const spec = record(definition.spec);
  const names = record(spec.names);
  const name = text(record(definition.metadata).name);
  const group = text(spec.group);
  const errors: FieldError[] = [];
  if (!old && name !== `${text(names.plural)}.${group}`) {
    errors.push(invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group'));
  }
  if (group === "") errors.push(required("spec.group"));
  else {
    const problems = dnsSubdomain(group);
    if (problems.length > 0) errors.push(invalid("spec.group", group, problems.join(",")));
    else if (!group.includes("."))
      errors.push(invalid("spec.group", group, "should be a domain with at least one dot"));
  }
  errors.push(...oneOf("spec.scope", spec.scope, ["Cluster", "Namespaced"]));
  const versions = records(spec.versions);
  versions.forEach((version, i) => {
    errors.push(...checkVersion(version, `spec.versions[${i}]`));
  });
  if (new Set(versions.map((version) => version.name)).size < versions.length) {
    errors.push(invalid("spec.versions", spec.versions, "must contain unique version names"));
  }
  if (versions.filter((version) => version.storage === true).length !== 1) {
    const says = "must have exactly one version marked as storage version";
    errors.push(invalid("spec.versions", spec.versions ?? null, says));
  }
  errors.push(...checkDefinitionNames(names));
  if (text(record(spec.conversion).strategy) !== "") {
    errors.push(...oneOf("spec.conversion.strategy", record(spec.conversion).strategy, ["None", "Webhook"]));
  }
  if (spec.preserveUnknownFields === true) {
    errors.push(
      invalid(
        "spec.preserveUnknownFields",
        true,
        "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
      ),
    );
  }
  const stored = strings(record(definition.status).storedVersions);
  for (const version of versions) {
    if (version.storage === true && stored.length > 0 && !stored.includes(text(version.name))) {
      errors.push(
        invalid("status.storedVersions", stored, `must have the storage version ${text(version.name)}`),
      );
    }
  }
  stored.forEach((version, i) => {
    if (versions.some((other) => other.name === version)) return;
    const says = `missing from spec.versions; ${version} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in ${version} and removes ${version} from status.storedVersions`;
    errors.push(invalid(`status.storedVersions[${i}]`, version, says));
  });
  if (old) {
    const before = record(old.spec);
    const isEstablished = records(record(old.status).conditions).some(
      (condition) => condition.type === "Established" && condition.status === "True",
    );
    if (isEstablished) {
      errors.push(...immutable("spec.scope", spec.scope, before.scope));
      errors.push(...immutable("spec.names.kind", names.kind, record(before.names).kind));
    }
    errors.push(...immutable("spec.group", spec.group, before.group));
    errors.push(...immutable("spec.names.plural", names.plural, record(before.names).plural));
  }
  return errors;
}

function checkVersion(version: JsonObject, field: string): FieldError[] {
  const name = text(version.name);
  const problems = dns1035Label(name);
  const errors = problems.length > 0 ? [invalid(`${field}.name`, name, problems.join(","))] : [];
  const schema = record(version.schema).openAPIV3Schema;
  if (!isObject(schema)) errors.push(required(`${field}.schema.openAPIV3Schema`));
  else errors.push(...checkStructural(schema, `${field}.schema.openAPIV3Schema`));
  const scale = record(version.subresources).scale;
  if (isObject(scale)) {
    for (const [path, start] of [
      ["specReplicasPath", ".spec."],
      ["statusReplicasPath", ".status."],
    ] as const) {
      const value = text(scale[path]);
      const at = `${field}.subresources.scale.${path}`;
      if (value === "") errors.push(required(at));
      else if (!value.startsWith(start)) {
        errors.push(invalid(at, value, `should be a json path under ${start.slice(0, -1)}`));
      }
    }
  }
  records(version.additionalPrinterColumns).forEach((column, i) => {
    const at = `${field}.additionalPrinterColumns[${i}]`;
    if (text(column.name) === "") errors.push(required(`${at}.name`));
    errors.push(...oneOf(`${at}.type`, column.type, ["boolean", "date", "integer", "number", "string"]));
    if (text(column.jsonPath) === "") errors.push(required(`${at}.JSONPath`));
  });
  return errors;
}

function checkDefinitionNames(names: JsonObject): FieldError[] {
  const errors: FieldError[] = [];
  for (const name of ["plural", "singular", "kind", "listKind"]) {
    const value = text(names[name]);
    const field = `spec.names.${name}`;
    if (value === "") {
      errors.push(required(field));
      continue;
    }
    const isKind = name === "kind" || name === "listKind";
    const problems = dns1035Label(isKind ? value.toLowerCase() : value);
    const says = isKind ? "may have mixed case, but should otherwise match: " : "";
    if (problems.length > 0) errors.push(invalid(field, value, says + problems.join(",")));
  }
  for (const list of ["shortNames", "categories"]) {
    strings(names[list]).forEach((value, i) => {
      const problems = dns1035Label(value);
      if (problems.length > 0) errors.push(invalid(`spec.names.${list}[${i}]`, value, problems.join(",")));
    });
  }
  if (text(names.kind) !== "" && names.kind === names.listKind) {
    errors.push(invalid("spec.names.listKind", names.listKind, "kind and listKind may not be the same"));
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
