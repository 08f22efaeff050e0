/**
 * Which webhooks a request concerns. Source: apiserver `pkg/admission/plugin/webhook/{generic,predicates,matchconditions}`.
 */
import type { Core } from "../core.ts";
import { type ApiObject, asRecord } from "../object.ts";
import { pluralName, type ResourceType } from "../registry.ts";
import { holds } from "../schema/index.ts";
import { type LabelTest, labelSelectorTest } from "../selectors.ts";
import { forbidden, notFound } from "../status.ts";
import { type Attributes, admissionRequest, inVersion } from "./attributes.ts";

/** One webhook of a configuration, ready to be asked about. */
export interface Hook {
  name: string;
  failsOpen: boolean;
  timeoutSeconds: number;
  sideEffects: string | undefined;
  reinvocation: boolean;
  /** `v1` or `v1beta1`: the first that both sides know; undefined when there is none. */
  reviewVersion: string | undefined;
  client: ClientConfig;
  rules: readonly Rule[];
  equivalent: boolean;
  /** Undefined where everything is selected. */
  namespaces: LabelTest | undefined;
  objects: LabelTest | undefined;
  conditions: readonly { name: string; expression: string }[];
}

export interface ClientConfig {
  url: string | undefined;
  service: { namespace: string; name: string; path: string; port: number } | undefined;
  /** PEM. */
  ca: string | undefined;
}

interface Rule {
  operations: readonly string[];
  groups: readonly string[];
  versions: readonly string[];
  resources: readonly string[];
  scope: string;
}

const list = (value: unknown) => (Array.isArray(value) ? value : []);
const texts = (value: unknown) => list(value).map(String);

const read = new WeakMap<ApiObject, readonly Hook[]>();

/** The webhooks of all configurations of a kind, in the order in which they are asked: by their configurations' names. */
export function hooksOf(core: Core, kind: "mutating" | "validating"): readonly Hook[] {
  const bucket = core.store.bucket(`admissionregistration.k8s.io/${kind}webhookconfigurations`);
  if (bucket.objects.size === 0) return [];
  return bucket.keys().flatMap((key) => {
    const configuration = bucket.objects.get(key)!;
    let hooks = read.get(configuration);
    if (!hooks) {
      hooks = list(configuration.webhooks).map(hookOf);
      read.set(configuration, hooks);
    }
    return hooks;
  });
}

function hookOf(webhook: Record<string, unknown>): Hook {
  const client = asRecord(webhook.clientConfig) ?? {};
  const service = asRecord(client.service);
  const versions = texts(webhook.admissionReviewVersions);
  return {
    name: String(webhook.name),
    failsOpen: webhook.failurePolicy === "Ignore",
    timeoutSeconds: Number(webhook.timeoutSeconds ?? 10),
    sideEffects: webhook.sideEffects as string | undefined,
    reinvocation: webhook.reinvocationPolicy === "IfNeeded",
    reviewVersion: versions.find((version) => version === "v1" || version === "v1beta1"),
    client: {
      url: client.url as string | undefined,
      service: service && {
        namespace: String(service.namespace),
        name: String(service.name),
        path: String(service.path ?? ""),
        port: Number(service.port ?? 443),
      },
      ca:
        typeof client.caBundle === "string" && client.caBundle !== ""
          ? Buffer.from(client.caBundle, "base64").toString()
          : undefined,
    },
    rules: list(webhook.rules).map((rule: Record<string, unknown>) => ({
      operations: texts(rule.operations),
      groups: texts(rule.apiGroups),
      versions: texts(rule.apiVersions),
      resources: texts(rule.resources),
      scope: String(rule.scope ?? "*"),
    })),
    equivalent: webhook.matchPolicy !== "Exact",
    namespaces: selectorOf(webhook.namespaceSelector),
    objects: selectorOf(webhook.objectSelector),
    conditions: list(webhook.matchConditions).map((condition: Record<string, unknown>) => ({
      name: String(condition.name),
      expression: String(condition.expression),
    })),
  };
}

function selectorOf(value: unknown): LabelTest | undefined {
  const selector = asRecord(value);
  if (!selector) return undefined;
  const isEmpty =
    Object.keys(asRecord(selector.matchLabels) ?? {}).length === 0 &&
    list(selector.matchExpressions).length === 0;
  return isEmpty ? undefined : labelSelectorTest(selector);
}

/**
 * Whether a webhook is to be asked about a request, and in which version of the kind; undefined when it is not.
 * Throws 403 for a condition that cannot be told (unless failures are ignored) and 404 for a missing namespace.
 */
export function concerns(core: Core, hook: Hook, attributes: Attributes): ResourceType | undefined {
  // What webhooks there are is nothing that webhooks decide.
  if (attributes.type.group === "admissionregistration.k8s.io") return undefined;
  if (hook.objects) {
    const { object, old } = attributes;
    const selects = (of: ApiObject | undefined) => of !== undefined && hook.objects!(of.metadata?.labels);
    if (!selects(object) && !selects(old)) return undefined;
  }
  const as = matchingType(core, hook, attributes);
  if (!as || !inNamespace(core, hook, attributes)) return undefined;
  return hook.conditions.length === 0 || conditionsHold(core, hook, attributes, as) ? as : undefined;
}

function matchingType(core: Core, hook: Hook, attributes: Attributes): ResourceType | undefined {
  const { type } = attributes;
  if (hook.rules.some((rule) => matches(rule, attributes, type))) return type;
  if (!hook.equivalent) return undefined;
  const others = core.registry.all().filter((other) => other.bucket === type.bucket && other !== type);
  if (others.length === 0) return undefined;
  for (const rule of hook.rules) {
    const found = others.find((other) => matches(rule, attributes, other));
    if (found) return found;
  }
  return undefined;
}

function matches(rule: Rule, attributes: Attributes, type: ResourceType): boolean {
  const has = (values: readonly string[], value: string) => values.includes("*") || values.includes(value);
  // A namespace is of the cluster, although its requests are of a namespace: its own.
  const isNamespaced = attributes.namespace !== undefined && type.bucket !== "/namespaces";
  if (rule.scope === "Namespaced" && !isNamespaced) return false;
  if (rule.scope === "Cluster" && isNamespaced) return false;
  return (
    has(rule.operations, attributes.operation) &&
    has(rule.groups, type.group) &&
    has(rule.versions, type.version) &&
    rule.resources.some((resource) => {
      const [plural, subresource = ""] = resource.split(/\/(.*)/);
      return (
        (plural === "*" || plural === type.plural) &&
        (subresource === "*" || subresource === (attributes.subresource ?? ""))
      );
    })
  );
}

function inNamespace(core: Core, hook: Hook, attributes: Attributes): boolean {
  const { namespace, type, operation, subresource, object } = attributes;
  if (!hook.namespaces || namespace === undefined) return true;
  const isOwn = type.bucket === "/namespaces" && !subresource;
  if (isOwn && (operation === "CREATE" || operation === "UPDATE")) {
    return hook.namespaces(object?.metadata.labels);
  }
  const found = core.store.bucket("/namespaces").objects.get(namespace);
  if (!found) throw notFound({ group: "", name: "namespaces" }, namespace);
  return hook.namespaces(found.metadata.labels);
}

/** One condition that is false spares the webhook; one that cannot be told counts only when none is false. */
function conditionsHold(core: Core, hook: Hook, attributes: Attributes, as: ResourceType): boolean {
  const { object: _, oldObject: __, ...request } = admissionRequest(core, attributes, as);
  const { type, object, old } = attributes;
  const about = {
    object: object && inVersion(type, as, object),
    oldObject: old && inVersion(type, as, old),
    request,
  };
  const problems: string[] = [];
  for (const { expression } of hook.conditions) {
    const told = holds(expression, about);
    if (told === false) return false;
    if (told instanceof Error)
      problems.push(`expression '${expression}' resulted in error: ${lowerFirst(told.message)}`);
  }
  if (problems.length === 0) return true;
  if (hook.failsOpen) return false;
  const says = problems.length === 1 ? problems[0]! : `[${problems.join(", ")}]`;
  throw forbidden(pluralName(attributes.type), attributes.name, says);
}

const lowerFirst = (text: string) => text.charAt(0).toLowerCase() + text.slice(1);
