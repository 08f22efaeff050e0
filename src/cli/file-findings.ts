/** What an API server would refuse of objects that are only files yet: kinds that it does not know, values that cannot be. */
import {
  type CustomResourceDefinition,
  definitions,
  type KubeObject,
  type Secret,
  secrets,
} from "../api/index.ts";
import { type Finding, finding, inputOf } from "../traffic/index.ts";

/** Groups whose kinds people expect of a mesh. */
const meshGroups =
  /(?:^|\.)istio\.io$|^maistra\.io$|^federation\.maistra\.io$|^gateway\.networking\.k8s\.io$|^mesh\.weft\.dev$/;

/** The part of a schema that is looked at. */
interface Schema {
  type?: string;
  enum?: unknown[];
  properties?: Record<string, Schema>;
  items?: Schema;
  additionalProperties?: Schema | boolean;
  "x-kubernetes-int-or-string"?: boolean;
}

/** Of one object, as the definitions that Weft brings have it. */
export function fileFindings(object: KubeObject): Finding[] {
  const [group = "", version] = object.apiVersion.includes("/") ? object.apiVersion.split("/") : [];
  if (!meshGroups.test(group)) return [];
  const origin = {
    kind: inputOf(object) === "kubeGateways" ? "KubeGateway" : object.kind,
    namespace: object.metadata.namespace ?? "",
    name: object.metadata.name,
  };
  const definition = definitions().find(
    ({ spec }: CustomResourceDefinition) => spec.group === group && spec.names.kind === object.kind,
  );
  if (!definition) return [finding("WEFT0910", { ...origin, field: "" }, { kind: object.kind, group })];
  const served = definition.spec.versions.find(({ name }) => name === version);
  if (!served) {
    const names = definition.spec.versions.map(({ name }) => name).join(", ");
    const reason = `${group} has no version "${version}" of it, but ${names}`;
    return [finding("WEFT0106", { ...origin, field: "apiVersion" }, { reason })];
  }
  const schema = served.schema?.openAPIV3Schema as Schema | undefined;
  const found: Finding[] = [];
  walk((object as { spec?: unknown }).spec, schema?.properties?.spec, "spec", (field, reason) =>
    found.push(finding("WEFT0106", { ...origin, field }, { reason })),
  );
  return found;
}

type Say = (field: string, reason: string) => void;

function walk(value: unknown, schema: Schema | undefined, field: string, say: Say): void {
  if (!schema || value === undefined || value === null) return;
  const wanted = schema["x-kubernetes-int-or-string"] ? undefined : schema.type;
  const is = Array.isArray(value) ? "array" : typeof value;
  if (wanted && !(is === wanted || (wanted === "integer" && Number.isInteger(value)))) {
    say(field, `${JSON.stringify(value)} is no ${wanted}`);
    return;
  }
  if (schema.enum && !schema.enum.includes(value))
    say(field, `"${String(value)}" is none of ${schema.enum.join(", ")}`);
  if (Array.isArray(value)) {
    for (const [i, item] of value.entries()) walk(item, schema.items, `${field}[${i}]`, say);
  } else if (is === "object") {
    const others = typeof schema.additionalProperties === "object" ? schema.additionalProperties : undefined;
    for (const [name, item] of Object.entries(value as object))
      walk(item, schema.properties?.[name] ?? others, `${field}.${name}`, say);
  }
}

/** An object of a file as an API server keeps it: a Secret's `stringData` is its `data`. */
export function asKept(object: KubeObject): KubeObject {
  if (object.kind !== secrets.kind || object.apiVersion !== "v1") return object;
  const { stringData = {}, ...secret } = object as Secret & { stringData?: Record<string, unknown> };
  const encoded = Object.entries(stringData ?? {}).map(([key, text]) => [
    key,
    Buffer.from(String(text)).toString("base64"),
  ]);
  return { ...secret, data: { ...secret.data, ...Object.fromEntries(encoded) } } as KubeObject;
}
