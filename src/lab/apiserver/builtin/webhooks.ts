/**
 * What configurations of admission webhooks must be. Source: Kubernetes
 * `pkg/apis/admissionregistration/validation/validation.go`, apiserver `pkg/util/webhook/validation.go`.
 */
import {
  conditionProblem,
  duplicate,
  type FieldError,
  invalid,
  isObject,
  type JsonObject,
  notSupported,
  required,
} from "../schema/index.ts";
import { dns1035Label, dnsSubdomain, portNumber, qualifiedName } from "./names.ts";
import { checkSelector } from "./selectors.ts";
import { record, records, strings, text } from "./values.ts";

export function checkWebhooks(configuration: JsonObject): FieldError[] {
  const seen = new Set<string>();
  return records(configuration.webhooks).flatMap((hook, i) => {
    const field = `webhooks[${i}]`;
    const errors = checkWebhook(hook, field);
    errors.push(
      ...checkReviewVersions(strings(hook.admissionReviewVersions), `${field}.admissionReviewVersions`),
    );
    const name = text(hook.name);
    if (name !== "" && seen.has(name)) errors.push(duplicate(`${field}.name`, name));
    seen.add(name);
    return errors;
  });
}

function checkWebhook(hook: JsonObject, field: string): FieldError[] {
  const errors = checkName(text(hook.name), `${field}.name`);
  records(hook.rules).forEach((rule, i) => {
    errors.push(...checkRule(rule, `${field}.rules[${i}]`));
  });
  errors.push(...word(hook, field, "failurePolicy", ["Fail", "Ignore"]));
  errors.push(...word(hook, field, "matchPolicy", ["Equivalent", "Exact"]));
  if (hook.sideEffects === undefined || hook.sideEffects === null) {
    errors.push(required(`${field}.sideEffects`, "must specify one of None, NoneOnDryRun"));
  } else errors.push(...word(hook, field, "sideEffects", ["None", "NoneOnDryRun"]));
  const seconds = hook.timeoutSeconds;
  if (typeof seconds === "number" && (seconds < 1 || seconds > 30)) {
    const says = "the timeout value must be between 1 and 30 seconds";
    errors.push(invalid(`${field}.timeoutSeconds`, seconds, says));
  }
  errors.push(...checkSelector(`${field}.namespaceSelector`, hook.namespaceSelector));
  errors.push(...checkSelector(`${field}.objectSelector`, hook.objectSelector));
  errors.push(...word(hook, field, "reinvocationPolicy", ["IfNeeded", "Never"]));
  errors.push(...checkClient(record(hook.clientConfig), `${field}.clientConfig`));
  errors.push(...checkConditions(records(hook.matchConditions), `${field}.matchConditions`));
  return errors;
}

function checkName(name: string, field: string): FieldError[] {
  if (name === "") return [required(field)];
  const problems = dnsSubdomain(name);
  if (problems.length > 0) return [invalid(field, name, problems.join(","))];
  if (name.split(".").length >= 3) return [];
  return [invalid(field, name, "should be a domain with at least three segments separated by dots")];
}

function word(of: JsonObject, field: string, name: string, words: readonly string[]): FieldError[] {
  const value = of[name];
  if (value === undefined || value === null || words.includes(value as string)) return [];
  return [notSupported(`${field}.${name}`, value, words)];
}

function checkReviewVersions(versions: readonly string[], field: string): FieldError[] {
  if (versions.length === 0) return [required(field, "must specify one of v1, v1beta1")];
  const errors: FieldError[] = [];
  versions.forEach((version, i) => {
    if (versions.indexOf(version) < i) errors.push(invalid(`${field}[${i}]`, version, "duplicate version"));
    else
      for (const problem of dns1035Label(version)) errors.push(invalid(`${field}[${i}]`, version, problem));
  });
  if (!versions.some((version) => version === "v1" || version === "v1beta1")) {
    errors.push(invalid(field, versions, "must include at least one of v1, v1beta1"));
  }
  return errors;
}

const operations = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];

function checkRule(rule: JsonObject, field: string): FieldError[] {
  const errors = checkList(rule, field, "operations", "operations");
  strings(rule.operations).forEach((operation, i) => {
    if (!operations.includes(operation))
      errors.push(notSupported(`${field}.operations[${i}]`, operation, operations));
  });
  errors.push(...checkList(rule, field, "apiGroups", "API groups"));
  errors.push(...checkList(rule, field, "apiVersions", "API versions"));
  strings(rule.apiVersions).forEach((version, i) => {
    if (version === "") errors.push(required(`${field}.apiVersions[${i}]`));
  });
  errors.push(...checkResources(strings(rule.resources), `${field}.resources`));
  errors.push(...word(rule, field, "scope", ["*", "Cluster", "Namespaced"]));
  return errors;
}

function checkList(rule: JsonObject, field: string, name: string, what: string): FieldError[] {
  const values = strings(rule[name]);
  if (values.length === 0) return [required(`${field}.${name}`)];
  if (values.length === 1 || !values.includes("*")) return [];
  return [invalid(`${field}.${name}`, values, `if '*' is present, must not specify other ${what}`)];
}

function checkResources(resources: readonly string[], field: string): FieldError[] {
  if (resources.length === 0) return [required(field)];
  const errors: FieldError[] = [];
  const wholeResources = new Set<string>();
  const wholeSubresources = new Set<string>();
  let plain = false;
  resources.forEach((resource, i) => {
    if (resource === "") {
      errors.push(required(`${field}[${i}]`));
      return;
    }
    const [plural, sub] = resource.split(/\/(.*)/) as [string, string | undefined];
    if (sub === undefined) {
      plain = resource !== "*";
      return;
    }
    const clash = (all: string) =>
      errors.push(
        invalid(`${field}[${i}]`, resource, `if '${all}' is present, must not specify ${resource}`),
      );
    if (wholeResources.has(plural)) clash(`${plural}/*`);
    if (wholeSubresources.has(sub)) clash(`*/${sub}`);
    if (sub === "*") wholeResources.add(plural);
    if (plural === "*") wholeSubresources.add(sub);
  });
  if (resources.length > 1 && resources.includes("*/*"))
    errors.push(invalid(field, resources, "if '*/*' is present, must not specify other resources"));
  if (resources.includes("*") && plain) {
    const says = "if '*' is present, must not specify other resources without subresources";
    errors.push(invalid(field, resources, says));
  }
  return errors;
}

function checkClient(client: JsonObject, field: string): FieldError[] {
  const hasUrl = client.url !== undefined && client.url !== null;
  if (hasUrl === isObject(client.service))
    return [required(field, "exactly one of url or service is required")];
  return hasUrl
    ? checkUrl(text(client.url), `${field}.url`)
    : checkService(record(client.service), `${field}.service`);
}

function checkUrl(value: string, field: string): FieldError[] {
  const form = "; desired format: https://host[/path]";
  if (!URL.canParse(value)) return [required(field, `url must be a valid URL: ${value}${form}`)];
  const url = new URL(value);
  const errors: FieldError[] = [];
  const scheme = url.protocol.slice(0, -1);
  if (scheme !== "https")
    errors.push(invalid(field, scheme, `'https' is the only allowed URL scheme${form}`));
  if (url.host === "") errors.push(invalid(field, "", `host must be specified${form}`));
  const user = url.username + (url.password ? `:${url.password}` : "");
  if (user !== "") errors.push(invalid(field, user, "user information is not permitted in the URL"));
  if (url.hash.length > 1)
    errors.push(invalid(field, url.hash.slice(1), "fragments are not permitted in the URL"));
  if (url.search.length > 1)
    errors.push(invalid(field, url.search.slice(1), "query parameters are not permitted in the URL"));
  return errors;
}

function checkService(service: JsonObject, field: string): FieldError[] {
  const errors: FieldError[] = [];
  if (text(service.name) === "") errors.push(required(`${field}.name`));
  if (text(service.namespace) === "") errors.push(required(`${field}.namespace`));
  const ports = portNumber(Number(service.port ?? 0));
  if (ports.length > 0)
    errors.push(invalid(`${field}.port`, service.port, `port is not valid: ${ports.join(", ")}`));
  const path = text(service.path);
  const wrong = (says: string) => errors.push(invalid(`${field}.path`, path, says));
  if (path === "" || path === "/") return errors;
  if (path === "//") {
    wrong("segment[0] may not be empty");
    return errors;
  }
  if (!path.startsWith("/")) wrong("must start with a '/'");
  path
    .slice(1)
    .replace(/\/$/, "")
    .split("/")
    .forEach((step, i) => {
      if (step === "") wrong(`segment[${i}] may not be empty`);
      else for (const problem of dnsSubdomain(step)) wrong(`segment[${i}]: ${problem}`);
    });
  return errors;
}

function checkConditions(conditions: readonly JsonObject[], field: string): FieldError[] {
  const seen = new Set<string>();
  return conditions.flatMap((condition, i) => {
    const errors: FieldError[] = [];
    const expression = text(condition.expression).trim();
    const problem = expression === "" ? undefined : conditionProblem(expression);
    if (expression === "") errors.push(required(`${field}[${i}].expression`));
    else if (problem) errors.push(invalid(`${field}[${i}].expression`, expression, problem));
    const name = text(condition.name);
    if (name === "") errors.push(required(`${field}[${i}].name`));
    else for (const says of qualifiedName(name)) errors.push(invalid(`${field}[${i}].name`, name, says));
    if (name !== "" && seen.has(name)) errors.push(duplicate(`${field}[${i}].name`, name));
    seen.add(name);
    return errors;
  });
}
