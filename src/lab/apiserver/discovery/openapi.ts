/**
 * `/openapi/v3`: what kubectl explains objects from, and where it looks whether the server validates fields.
 * Each kind's PATCH operation carries its group, version and kind and the parameters `fieldValidation` and `dryRun`
 * (cli-runtime `pkg/resource/query_param_verifier_v3.go`).
 */
import { createHash } from "node:crypto";
import { kubernetesVersion } from "../../spec.ts";
import type { Registry, ResourceType } from "../registry.ts";
import { openApiDefinitions, openApiName } from "../schema/index.ts";

const metaPackage = "io.k8s.apimachinery.pkg.apis.meta.v1";

/** `api/v1` or `apis/GROUP/VERSION`. */
function pathName(group: string, version: string): string {
  return group === "" ? `api/${version}` : `apis/${group}/${version}`;
}

/** The index of documents. A document's hash changes with what is in it. */
export function openApiIndex(registry: Registry): object {
  const versions = new Map<string, ResourceType[]>();
  for (const type of registry.all()) {
    const name = pathName(type.group, type.version);
    versions.set(name, [...(versions.get(name) ?? []), type]);
  }
  const paths: Record<string, { serverRelativeURL: string }> = {};
  for (const [name, types] of versions) {
    const content = [kubernetesVersion, ...types.map(({ custom, plural }) => [plural, custom?.rawSchema])];
    const hash = createHash("sha256").update(JSON.stringify(content)).digest("hex").toUpperCase();
    paths[name] = { serverRelativeURL: `/openapi/v3/${name}?hash=${hash}` };
  }
  return { paths };
}

/** The document of one group and version, or undefined when it is not served. */
export function openApiDocument(registry: Registry, name: string): object | undefined {
  const types = registry.all().filter((type) => pathName(type.group, type.version) === name);
  const first = types[0];
  if (!first) return undefined;
  const schemas: Record<string, object> = first.custom
    ? { ...openApiDefinitions("meta.k8s.io", "v1") }
    : { ...openApiDefinitions(first.group, first.version) };
  const paths: Record<string, object> = {};
  for (const type of types) {
    const schemaName = openApiName(type.group, type.version, type.kind);
    if (type.custom) {
      schemas[schemaName] = customSchema(type);
      schemas[`${schemaName}List`] = customList(type, schemaName);
    }
    Object.assign(paths, operations(type, schemaName));
  }
  return {
    openapi: "3.0.0",
    info: { title: "Kubernetes", version: kubernetesVersion },
    paths,
    components: { schemas },
  };
}

const reference = (name: string) => ({ $ref: `#/components/schemas/${name}` });

function customSchema(type: ResourceType): object {
  const raw = type.custom?.rawSchema;
  return {
    ...(raw ?? { type: "object", "x-kubernetes-preserve-unknown-fields": true }),
    properties: {
      ...raw?.properties,
      apiVersion: {
        type: "string",
        description:
          "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources",
      },
      kind: {
        type: "string",
        description:
          "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds",
      },
      metadata: {
        description:
          "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata",
        allOf: [reference(`${metaPackage}.ObjectMeta`)],
      },
    },
    "x-kubernetes-group-version-kind": [{ group: type.group, version: type.version, kind: type.kind }],
  };
}

function customList(type: ResourceType, schemaName: string): object {
  return {
    type: "object",
    description: `${type.listKind} is a list of ${type.kind}`,
    required: ["items"],
    properties: {
      apiVersion: { type: "string" },
      kind: { type: "string" },
      metadata: { allOf: [reference(`${metaPackage}.ListMeta`)] },
      items: { type: "array", items: reference(schemaName) },
    },
    "x-kubernetes-group-version-kind": [{ group: type.group, version: type.version, kind: type.listKind }],
  };
}

const parameter = (name: string, description: string, type = "string") => ({
  name,
  in: "query",
  description,
  schema: { type, uniqueItems: true },
});
const dryRun = parameter("dryRun", "'All': everything is done but persisted.");
const fieldManager = parameter("fieldManager", "The name of the actor that makes these changes.");
const fieldValidation = parameter(
  "fieldValidation",
  "What is done with unknown or duplicate fields: Ignore, Warn (the default) or Strict.",
);
const force = parameter("force", "Take fields over that other managers own.", "boolean");

function operations(type: ResourceType, schemaName: string): Record<string, object> {
  const root = `/${pathName(type.group, type.version)}`;
  const scope = type.namespaced ? "/namespaces/{namespace}" : "";
  const collection = `${root}${scope}/${type.plural}`;
  const of = { group: type.group, version: type.version, kind: type.kind };
  const content = { content: { "application/json": { schema: reference(schemaName) } } };
  const operation = (action: string, more: object = {}) => ({
    "x-kubernetes-action": action,
    "x-kubernetes-group-version-kind": of,
    responses: { 200: { description: "OK", ...content } },
    ...more,
  });
  const write = (action: string) =>
    operation(action, { parameters: [dryRun, fieldManager, fieldValidation], requestBody: content });
  const pathParameters = [...(type.namespaced ? ["namespace"] : []), "name"].map((name) => ({
    name,
    in: "path",
    required: true,
    schema: { type: "string", uniqueItems: true },
  }));
  const patchSchema = { schema: reference(`${metaPackage}.Patch`) };
  const patch = operation("patch", {
    parameters: [dryRun, fieldManager, fieldValidation, force],
    requestBody: {
      content: {
        "application/apply-patch+yaml": patchSchema,
        "application/json-patch+json": patchSchema,
        "application/merge-patch+json": patchSchema,
        ...(!type.custom && { "application/strategic-merge-patch+json": patchSchema }),
      },
    },
  });
  if (type.review) return { [collection]: { post: write("post") } };
  return {
    [collection]: {
      get: operation("list"),
      post: write("post"),
      delete: operation("deletecollection", { parameters: [dryRun] }),
      parameters: pathParameters.slice(0, -1),
    },
    [`${collection}/{name}`]: {
      get: operation("get"),
      put: write("put"),
      patch,
      delete: operation("delete", { parameters: [dryRun] }),
      parameters: pathParameters,
    },
  };
}
