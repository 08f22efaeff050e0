/** The schemas of Kubernetes' own kinds, read from `data/` when a kind of theirs is first asked for. */
import { readFileSync } from "node:fs";
import { isObject, type JsonObject, type Schema } from "./schema.ts";

const metaPackage = "io.k8s.apimachinery.pkg.apis.meta.v1";

/** The package of definitions that holds the kinds of a group and version. */
const packages: Record<string, string> = {
  "/v1": "io.k8s.api.core.v1",
  "apps/v1": "io.k8s.api.apps.v1",
  "batch/v1": "io.k8s.api.batch.v1",
  "discovery.k8s.io/v1": "io.k8s.api.discovery.v1",
  "coordination.k8s.io/v1": "io.k8s.api.coordination.v1",
  "events.k8s.io/v1": "io.k8s.api.events.v1",
  "rbac.authorization.k8s.io/v1": "io.k8s.api.rbac.v1",
  "apiextensions.k8s.io/v1": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1",
  "admissionregistration.k8s.io/v1": "io.k8s.api.admissionregistration.v1",
  "policy/v1": "io.k8s.api.policy.v1",
  "networking.k8s.io/v1": "io.k8s.api.networking.v1",
  "storage.k8s.io/v1": "io.k8s.api.storage.v1",
  "scheduling.k8s.io/v1": "io.k8s.api.scheduling.v1",
  "authentication.k8s.io/v1": "io.k8s.api.authentication.v1",
  "authorization.k8s.io/v1": "io.k8s.api.authorization.v1",
  "autoscaling/v1": "io.k8s.api.autoscaling.v1",
  "autoscaling/v2": "io.k8s.api.autoscaling.v2",
  "certificates.k8s.io/v1": "io.k8s.api.certificates.v1",
  "apiregistration.k8s.io/v1": "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1",
  "node.k8s.io/v1": "io.k8s.api.node.v1",
  "meta.k8s.io/v1": metaPackage,
};

const loaded = new Map<string, JsonObject>();
const resolved = new Map<string, Schema>();
const ours = new WeakSet<Schema>();

function definitionsOf(name: string): JsonObject {
  const known = loaded.get(name);
  if (known) return known;
  const file = new URL(`./data/${name}.generated.json`, import.meta.url);
  const definitions = JSON.parse(readFileSync(file, "utf8")) as JsonObject;
  loaded.set(name, definitions);
  return definitions;
}

function definition(name: string): JsonObject | undefined {
  return definitionsOf(name.slice(0, name.lastIndexOf(".")))[name] as JsonObject | undefined;
}

/** The schema of a built-in kind, or undefined where the group, version or kind is unknown. */
export function builtinSchema(group: string, version: string, kind: string): Schema | undefined {
  const name = packages[`${group}/${version}`];
  if (!name) return undefined;
  for (const owner of [name, metaPackage]) {
    if (Object.hasOwn(definitionsOf(owner), `${owner}.${kind}`)) return resolveDefinition(`${owner}.${kind}`);
  }
  return undefined;
}

/** Whether a schema is a built-in kind's own. */
export function isBuiltinSchema(schema: Schema): boolean {
  return ours.has(schema);
}

/** The schema of an object's `metadata`, the same for all kinds. */
export function objectMetaSchema(): Schema {
  return resolveDefinition(`${metaPackage}.ObjectMeta`);
}

function resolveDefinition(name: string): Schema {
  const known = resolved.get(name);
  if (known) return known;
  const schema: JsonObject = {};
  resolved.set(name, schema as Schema);
  ours.add(schema as Schema);
  Object.assign(schema, resolveNode(definition(name) ?? {}));
  return schema as Schema;
}

/**
 * A reference becomes the node it names. One with siblings (a default, a patch key) becomes a node that inherits
 * from the named one, which may still be under construction when definitions are recursive.
 */
function resolveNode(node: JsonObject): Schema {
  const { $ref, ...own } = node;
  const target = typeof $ref === "string" ? resolveDefinition($ref) : undefined;
  if (target && Object.keys(own).length === 0) return target;
  const schema: Schema = Object.assign(Object.create(target ?? Object.prototype) as Schema, own);
  if (isObject(own.properties)) {
    schema.properties = Object.fromEntries(
      Object.entries(own.properties).map(([name, property]) => [name, resolveNode(property as JsonObject)]),
    );
  }
  if (isObject(own.items)) schema.items = resolveNode(own.items);
  if (isObject(own.additionalProperties)) schema.additionalProperties = resolveNode(own.additionalProperties);
  // RawExtension, FieldsV1 and apiextensions' JSON say nothing of what is in them: anything may be.
  const saysNothing = !own.properties && !own.items && !own.additionalProperties && !own.oneOf;
  if (!target && saysNothing && (own.type === undefined || own.type === "object")) {
    schema["x-kubernetes-preserve-unknown-fields"] = true;
  }
  return schema;
}

const refPrefix = "#/components/schemas/";

/**
 * The definitions that `/openapi/v3/…` of a group and version publishes as `components.schemas`: its kinds and all
 * that they refer to, by full name. Kinds carry `x-kubernetes-group-version-kind`.
 */
export function openApiDefinitions(group: string, version: string): Record<string, object> {
  const owner = packages[`${group}/${version}`];
  const out: Record<string, object> = {};
  const add = (name: string): void => {
    if (Object.hasOwn(out, name)) return;
    const raw = definition(name);
    if (!raw) return;
    out[name] = {};
    out[name] = publish(raw, add) as object;
  };
  if (!owner) return out;
  for (const [name, raw] of Object.entries(definitionsOf(owner))) {
    if ("x-kubernetes-group-version-kind" in (raw as JsonObject)) add(name);
  }
  for (const kind of ["Status", "DeleteOptions", "WatchEvent", "Patch", "APIResourceList", "ObjectMeta"]) {
    add(`${metaPackage}.${kind}`);
  }
  if (group === "apps" || group === "") add("io.k8s.api.autoscaling.v1.Scale");
  if (group === "") {
    add("io.k8s.api.policy.v1.Eviction");
    add("io.k8s.api.authentication.v1.TokenRequest");
  }
  return out;
}

/** The full name of a kind's definition, as `$ref`s of OpenAPI documents use it. */
export function openApiName(group: string, version: string, kind: string): string {
  const owner = packages[`${group}/${version}`] ?? `${group.split(".").reverse().join(".")}.${version}`;
  return `${owner}.${kind}`;
}

/** The published form of a node: references in full, and in `allOf` where they have siblings. */
function publish(node: unknown, reach: (name: string) => void): unknown {
  if (Array.isArray(node)) return node.map((item) => publish(item, reach));
  if (!isObject(node)) return node;
  const out: JsonObject = {};
  for (const [key, value] of Object.entries(node)) {
    if (key !== "$ref" || typeof value !== "string") {
      out[key] = publish(value, reach);
      continue;
    }
    reach(value);
    const reference = { $ref: refPrefix + value };
    if (Object.keys(node).length === 1) return reference;
    out.allOf = [reference];
  }
  return out;
}
