/** Mistakes in CustomResourceDefinitions: what kube-apiserver finds in a schema before it serves a kind. */
import { type Api, type Scenario, suite } from "./suite.ts";

const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const definition = (spec: object, version: object = {}) => ({
  metadata: { name: "gadgets.{ns}.example.com" },
  spec: {
    group: "{ns}.example.com",
    scope: "Namespaced",
    names: { plural: "gadgets", kind: "Gadget" },
    versions: [
      {
        name: "v1",
        served: true,
        storage: true,
        schema: { openAPIV3Schema: { type: "object" } },
        ...version,
      },
    ],
    ...spec,
  },
});

/** Tries a property of the spec; a definition that is taken goes again. */
async function property(api: Api, schema: object): Promise<void> {
  await version(api, {
    schema: {
      openAPIV3Schema: {
        type: "object",
        properties: { spec: { type: "object", properties: { p: schema } } },
      },
    },
  });
}
async function version(api: Api, more: object): Promise<void> {
  await attempt(api, definition({}, more));
}
async function attempt(api: Api, body: object): Promise<void> {
  const { code } = await api.say(
    "POST",
    `${definitions}?dryRun=All`,
    body,
    {},
    ({ kind, message, details }) => (kind === "Status" ? { message, details } : "taken"),
  );
  if (code === 500) throw new Error("the server broke");
}

const scenarios: Scenario[] = [
  [
    "a schema has a type everywhere, and only what belongs to the type",
    async (api) => {
      await property(api, {});
      await property(api, { type: "text" });
      await property(api, { type: "array" });
      await property(api, { type: "array", items: {} });
      await property(api, {
        type: "object",
        properties: { a: { type: "string" } },
        additionalProperties: { type: "string" },
      });
      await property(api, { type: "object", additionalProperties: false });
      await property(api, { type: "array", uniqueItems: true, items: { type: "string" } });
      await property(api, { type: "string", $ref: "#/x" });
      await property(api, { type: "object", nullable: true, default: null });
      await property(api, { "x-kubernetes-int-or-string": true, type: "string" });
      await property(api, { type: "string", "x-kubernetes-preserve-unknown-fields": true });
      await property(api, { type: "string", "x-kubernetes-embedded-resource": true });
      await property(api, { type: "object", "x-kubernetes-embedded-resource": true });
      await property(api, { type: "string", id: "x", patternProperties: { a: { type: "string" } } });
      await property(api, { type: "object", "x-kubernetes-preserve-unknown-fields": false });
    },
  ],
  [
    "the root is an object, whose metadata is not for it to say",
    async (api) => {
      const root = (schema: object) => version(api, { schema: { openAPIV3Schema: schema } });
      await root({});
      await root({ type: "string" });
      await root({ type: "object", nullable: true });
      await root({ type: "object", properties: { metadata: { type: "string" } } });
      await root({
        type: "object",
        properties: { metadata: { type: "object", properties: { labels: { type: "object" } } } },
      });
      await root({
        type: "object",
        properties: { metadata: { type: "object", properties: { name: { type: "string", pattern: "^a" } } } },
      });
      await root({
        type: "object",
        properties: { kind: { type: "integer" }, apiVersion: { type: "object" } },
      });
      await version(api, { schema: undefined });
    },
  ],
  [
    "patterns, bounds and enumerations make sense",
    async (api) => {
      await property(api, { type: "string", pattern: "(" });
      await property(api, { type: "string", pattern: "a(?=b)" });
      await property(api, { type: "string", pattern: "[" });
      await property(api, { type: "string", pattern: "^[a-z]+$" });
      await property(api, { type: "string", enum: ["a", "a"] });
      await property(api, { type: "string", minLength: -1, maxLength: -1 });
      await property(api, { type: "string", format: "nothing" });
    },
  ],
  [
    "defaults are of their schema",
    async (api) => {
      await property(api, { type: "integer", default: "x" });
      await property(api, { type: "integer", minimum: 3, default: 1 });
      await property(api, { type: "string", enum: ["a"], default: "b" });
      await property(api, { type: "string", pattern: "^a", default: "b" });
      await property(api, { type: "object", properties: { a: { type: "string" } }, default: { b: 1 } });
      await property(api, {
        type: "object",
        required: ["a"],
        properties: { a: { type: "string" } },
        default: {},
      });
      await property(api, {
        type: "object",
        required: ["a"],
        properties: { a: { type: "string", default: "x" } },
        default: {},
      });
      await property(api, { type: "array", items: { type: "string" }, default: [1, "a"] });
      await property(api, { type: "array", items: { type: "string", default: 1 } });
      await property(api, { type: "array", maxItems: 1, items: { type: "string" }, default: ["a", "b"] });
      await property(api, { type: "string", default: null });
    },
  ],
  [
    "lists and maps name their keys, which are there",
    async (api) => {
      const item = (more: object = {}) => ({
        type: "object",
        properties: { k: { type: "string" } },
        ...more,
      });
      await property(api, { type: "array", "x-kubernetes-list-type": "tree", items: item() });
      await property(api, { type: "object", "x-kubernetes-list-type": "atomic" });
      await property(api, { type: "array", "x-kubernetes-list-type": "map", items: item() });
      await property(api, { type: "array", "x-kubernetes-list-map-keys": ["k"], items: item() });
      await property(api, {
        type: "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["x"],
        items: item(),
      });
      await property(api, {
        type: "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"],
        items: item(),
      });
      await property(api, {
        type: "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k", "k"],
        items: item({ required: ["k"] }),
      });
      await property(api, {
        type: "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"],
        items: item({ required: ["k"] }),
      });
      await property(api, {
        type: "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"],
        items: { type: "string" },
      });
      await property(api, { type: "array", "x-kubernetes-list-type": "set", items: item() });
      await property(api, { type: "object", "x-kubernetes-map-type": "deep" });
      await property(api, { type: "array", "x-kubernetes-map-type": "atomic", items: { type: "string" } });
    },
  ],
  [
    "columns lead somewhere",
    async (api) => {
      const column = (more: object) =>
        version(api, {
          additionalPrinterColumns: [{ name: "A", type: "string", jsonPath: ".spec.a", ...more }],
        });
      await column({});
      await column({ name: "" });
      await column({ type: "text" });
      await column({ type: "" });
      await column({ jsonPath: "" });
      await column({ jsonPath: "spec.a" });
      await column({ jsonPath: ".spec[" });
      await column({ jsonPath: ".spec.a[?(@.b=='c')].d" });
      await column({ format: "nothing" });
    },
  ],
  [
    "scales, fields and warnings belong to what they are of",
    async (api) => {
      const scale = (more: object) =>
        version(api, {
          subresources: {
            scale: { specReplicasPath: ".spec.replicas", statusReplicasPath: ".status.replicas", ...more },
          },
        });
      await scale({});
      await scale({ specReplicasPath: ".status.replicas", statusReplicasPath: ".spec.replicas" });
      await scale({ specReplicasPath: "", statusReplicasPath: "" });
      await scale({ specReplicasPath: ".spec.a[0]" });
      await scale({ labelSelectorPath: ".metadata.labels" });
      await scale({ labelSelectorPath: ".status.selector" });
      await version(api, { deprecationWarning: "old" });
      await version(api, { deprecated: true, deprecationWarning: "" });
      await version(api, { deprecated: true, deprecationWarning: "old\nnew" });
      const text = {
        type: "object",
        properties: {
          spec: { type: "object", properties: { a: { type: "string" }, o: { type: "object" } } },
        },
      };
      const fields = (...paths: string[]) =>
        version(api, {
          schema: { openAPIV3Schema: text },
          selectableFields: paths.map((jsonPath) => ({ jsonPath })),
        });
      await fields(".spec.a");
      await fields(".spec.a", ".spec.a");
      await fields(".spec.b");
      await fields(".spec.o");
      await fields(".metadata.name");
      await fields("");
    },
  ],
  [
    "names and versions are those of a kind",
    async (api) => {
      const v = (name: string, storage = false) => ({
        name,
        served: true,
        storage,
        schema: { openAPIV3Schema: { type: "object" } },
      });
      await attempt(api, definition({ versions: [] }));
      await attempt(api, definition({ versions: [v("v1", true), v("v1")] }));
      await attempt(api, definition({ versions: [v("v1", true), v("v2", true)] }));
      await attempt(api, definition({ versions: [v("V1", true)] }));
      await attempt(api, definition({ scope: "Galaxy" }));
      await attempt(api, definition({ group: "nodots" }));
      await attempt(api, definition({ names: { plural: "Gadgets", kind: "gad get", listKind: "gad get" } }));
      await attempt(
        api,
        definition({ names: { plural: "gadgets", kind: "Gadget", shortNames: ["G_"], categories: ["A b"] } }),
      );
      await attempt(api, definition({ preserveUnknownFields: true }));
      await attempt(api, definition({ conversion: { strategy: "Odd" } }));
    },
  ],
];

suite("definitions of custom kinds", import.meta.filename, scenarios);
