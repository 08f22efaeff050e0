/** Small words to write OpenAPI v3 structural schemas with, and the CustomResourceDefinition around them. */
import type { CustomResourceDefinition, JSONSchemaProps } from "../core.ts";

type Properties = Record<string, JSONSchemaProps>;

export const string = (rest: JSONSchemaProps = {}): JSONSchemaProps => ({ type: "string", ...rest });
export const int32 = (rest: JSONSchemaProps = {}): JSONSchemaProps => ({
  type: "integer",
  format: "int32",
  ...rest,
});
export const boolean = (rest: JSONSchemaProps = {}): JSONSchemaProps => ({ type: "boolean", ...rest });
export const strings = (rest: JSONSchemaProps = {}): JSONSchemaProps => ({
  type: "object",
  additionalProperties: { type: "string" },
  ...rest,
});
export const object = (properties: Properties, rest: JSONSchemaProps = {}): JSONSchemaProps => ({
  type: "object",
  properties,
  ...rest,
});
/** A list that is replaced as a whole when it is applied. */
export const atomicList = (items: JSONSchemaProps, rest: JSONSchemaProps = {}): JSONSchemaProps => ({
  type: "array",
  items,
  "x-kubernetes-list-type": "atomic",
  ...rest,
});
/** A list whose entries are told apart by `keys`, so several appliers can own entries of it. */
export const mapList = (
  keys: string[],
  items: JSONSchemaProps,
  rest: JSONSchemaProps = {},
): JSONSchemaProps => ({
  type: "array",
  items,
  "x-kubernetes-list-type": "map",
  "x-kubernetes-list-map-keys": keys,
  ...rest,
});

/** metav1.Condition with the validation of apimachinery's `pkg/apis/meta/v1/types.go`. */
export const conditions = (): JSONSchemaProps =>
  mapList(
    ["type"],
    object(
      {
        type: string({
          maxLength: 316,
          pattern:
            "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
        }),
        status: string({ enum: ["True", "False", "Unknown"] }),
        reason: string({
          minLength: 1,
          maxLength: 1024,
          pattern: "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
        }),
        message: string({ maxLength: 32768 }),
        lastTransitionTime: string({ format: "date-time" }),
        observedGeneration: { type: "integer", format: "int64", minimum: 0 },
      },
      { required: ["type", "status", "reason", "message", "lastTransitionTime"] },
    ),
    { description: "What is known of the object, one entry per type." },
  );

export interface Column {
  name: string;
  type: "string" | "integer" | "date" | "boolean";
  jsonPath: string;
  description?: string;
  priority?: number;
}

export const ageColumn: Column = { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" };

/** What `kind` is: everything of a CRD that differs from kind to kind. */
export interface Definition {
  group: string;
  kind: string;
  plural: string;
  scope: "Namespaced" | "Cluster";
  shortNames?: string[];
  categories?: string[];
  /** The served versions; the last one is stored. All have the same schema. */
  versions: string[];
  description: string;
  spec?: JSONSchemaProps;
  status?: JSONSchemaProps;
  required?: string[];
  columns: Column[];
  annotations?: Record<string, string>;
}

export function crd(of: Definition): CustomResourceDefinition {
  const { group, kind, plural } = of;
  const openAPIV3Schema = object(
    {
      apiVersion: string(),
      kind: string(),
      metadata: { type: "object" },
      ...(of.spec && { spec: of.spec }),
      ...(of.status && { status: of.status }),
    },
    { description: of.description, ...(of.required && { required: of.required }) },
  );
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.${group}`, ...(of.annotations && { annotations: of.annotations }) },
    spec: {
      group,
      scope: of.scope,
      names: {
        kind,
        plural,
        singular: kind.toLowerCase(),
        listKind: `${kind}List`,
        ...(of.shortNames && { shortNames: of.shortNames }),
        ...(of.categories && { categories: of.categories }),
      },
      versions: of.versions.map((name, i) => ({
        name,
        served: true,
        storage: i === of.versions.length - 1,
        schema: { openAPIV3Schema },
        ...(of.status && { subresources: { status: {} } }),
        additionalPrinterColumns: of.columns,
      })),
    },
  };
}
