/** CustomResourceDefinitions and what they define. */
import { eventually } from "../../support/eventually.ts";
import { type Api, type Loose, type Scenario, suite } from "./suite.ts";

const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/** A definition in a group of the scenario's own. */
const definition = (schema: object, version: object = {}, more: object = {}) => ({
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: { name: "gadgets.{ns}.example.com" },
  spec: {
    group: "{ns}.example.com",
    scope: "Namespaced",
    names: {
      plural: "gadgets",
      singular: "gadget",
      kind: "Gadget",
      listKind: "GadgetList",
      shortNames: ["gg"],
      categories: ["all"],
    },
    versions: [{ name: "v1", served: true, storage: true, schema: { openAPIV3Schema: schema }, ...version }],
    ...more,
  },
});

const gadgets = "/apis/{ns}.example.com/v1/namespaces/{ns}/gadgets";
const gadget = (name: string, spec: object = {}, more: object = {}) => ({
  apiVersion: "{ns}.example.com/v1",
  kind: "Gadget",
  metadata: { name },
  spec,
  ...more,
});
const specOf = (properties: object, more: object = {}) => ({
  type: "object",
  properties: {
    spec: { type: "object", properties, ...more },
    status: { type: "object", properties: { replicas: { type: "integer" }, phase: { type: "string" } } },
  },
});

/** Makes the definition and waits until its objects are served. */
async function defined(api: Api, body: object): Promise<void> {
  const made = await api.ask("POST", definitions, body);
  if (made.code !== 201) throw new Error(JSON.stringify(made.body));
  await eventually("the definition is established", async () => {
    const { code, body } = await api.ask("POST", `${gadgets}?dryRun=All`, gadget("probe-of-the-suite"));
    return code !== 404 && code !== 405 && !(code === 500 && !body?.details);
  });
}
const removed = (api: Api) => api.ask("DELETE", `${definitions}/gadgets.{ns}.example.com`);

const scenarios: Scenario[] = [
  [
    "a definition gets defaults and conditions",
    async (api) => {
      api.mask(/patch: Invalid value: ".*": /, "patch: Invalid value: …: ");
      api.mask(/^Invalid value: "\{.*\}": /, "Invalid value: …: ");
      await defined(api, definition(specOf({ size: { type: "integer" } })));
      await api.say("GET", `${definitions}/gadgets.{ns}.example.com`, undefined, {}, (body: Loose) => ({
        ...body,
        metadata: { finalizers: body.metadata.finalizers, generation: body.metadata.generation },
      }));
      await api.say("GET", "/apis/{ns}.example.com/v1", undefined, {}, (body: Loose) => ({
        ...body,
        resources: body.resources.map(({ storageVersionHash: _, ...resource }: Loose) => resource),
      }));
      await api.get("/apis/{ns}.example.com");
      await removed(api);
    },
  ],
  [
    "unknown fields are pruned, defaults are set, nulls give way",
    async (api) => {
      api.mask(/patch: Invalid value: ".*": /, "patch: Invalid value: …: ");
      api.mask(/^Invalid value: "\{.*\}": /, "Invalid value: …: ");
      await defined(
        api,
        definition(
          specOf({
            size: { type: "integer", default: 3 },
            colour: { type: "string", nullable: true },
            inner: { type: "object", default: {}, properties: { deep: { type: "string", default: "x" } } },
            list: {
              type: "array",
              items: { type: "object", properties: { a: { type: "integer", default: 1 } } },
            },
            open: { type: "object", "x-kubernetes-preserve-unknown-fields": true },
            either: { "x-kubernetes-int-or-string": true },
            map: { type: "object", additionalProperties: { type: "string" } },
          }),
        ),
      );
      await api.post(gadgets, gadget("a"));
      await api.post(
        gadgets,
        gadget(
          "b",
          {
            size: null,
            colour: null,
            more: 1,
            list: [{}, { b: 1 }],
            open: { x: { y: 1 } },
            either: "5",
            map: { a: "b" },
          },
          { extra: 1 },
        ),
      );
      for (const mode of ["Strict", "Warn", "Ignore"]) {
        await api.post(
          `${gadgets}?fieldValidation=${mode}`,
          gadget(`c-${mode.toLowerCase()}`, { more: 1, open: { x: 1 } }, { extra: 1 }),
        );
        await api.say(
          "POST",
          `${gadgets}?fieldValidation=${mode}`,
          '{"apiVersion":"{ns}.example.com/v1","kind":"Gadget","metadata":{"name":"d","name":"d"},"spec":{"size":1,"size":2}}',
        );
        await api.say(
          "PATCH",
          `${gadgets}/a?fieldValidation=${mode}`,
          { spec: { more: 1 } },
          { "content-type": "application/merge-patch+json" },
        );
        await api.apply(
          `${gadgets}/a`,
          gadget("a", { more: 1, size: 4 }),
          "me",
          `&force=true&fieldValidation=${mode}`,
        );
      }
      await removed(api);
    },
  ],
  [
    "objects are judged by the schema",
    async (api) => {
      api.mask(/patch: Invalid value: ".*": /, "patch: Invalid value: …: ");
      api.mask(/^Invalid value: "\{.*\}": /, "Invalid value: …: ");
      await defined(
        api,
        definition(
          specOf(
            {
              size: { type: "integer", minimum: 1, maximum: 5, multipleOf: 1 },
              colour: { type: "string", enum: ["red", "blue"] },
              name: { type: "string", minLength: 2, maxLength: 4, pattern: "^[a-z]+$" },
              list: {
                type: "array",
                minItems: 1,
                maxItems: 2,
                items: { type: "string" },
                "x-kubernetes-list-type": "set",
              },
              keyed: {
                type: "array",
                items: {
                  type: "object",
                  required: ["k"],
                  properties: { k: { type: "string" }, v: { type: "integer" } },
                },
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["k"],
              },
              when: { type: "string", format: "date-time" },
              either: { "x-kubernetes-int-or-string": true },
              map: { type: "object", maxProperties: 1, additionalProperties: { type: "integer" } },
              one: {
                type: "object",
                properties: { a: { type: "string" }, b: { type: "string" } },
                oneOf: [{ required: ["a"] }, { required: ["b"] }],
              },
            },
            { required: ["size"] },
          ),
        ),
      );
      await api.post(gadgets, gadget("a", { size: 1 }));
      for (const spec of [
        {},
        { size: 0 },
        { size: 9 },
        { size: "x" },
        { size: 1, colour: "green" },
        { size: 1, name: "A" },
        { size: 1, name: "abcdef" },
        { size: 1, list: [] },
        { size: 1, list: ["a", "b", "c"] },
        { size: 1, list: ["a", "a"] },
        { size: 1, list: "a" },
        { size: 1, keyed: [{ k: "a" }, { k: "a" }] },
        { size: 1, keyed: [{ v: 1 }] },
        { size: 1, when: "today" },
        { size: 1, either: 1.5 },
        { size: 1, map: { a: "b" } },
        { size: 1, map: { a: 1, b: 2 } },
        { size: 1, one: {} },
        { size: 1, one: { a: "", b: "" } },
      ]) {
        await api.post(gadgets, gadget("x", spec));
      }
      await api.post(gadgets, { ...gadget("x"), spec: "text" });
      await api.post(gadgets, { ...gadget("x"), spec: null });
      await api.patch(`${gadgets}/a`, { spec: { size: 7 } });
      await api.patch(`${gadgets}/a`, { spec: { size: 2 } }, "strategic");
      await api.patch(`${gadgets}/a`, [{ op: "replace", path: "/spec/size", value: "x" }], "json");
      await api.apply(`${gadgets}/a`, gadget("a", { size: "x" }), "me");
      await removed(api);
    },
  ],
  [
    "rules in CEL judge objects and their changes",
    async (api) => {
      api.mask(/patch: Invalid value: ".*": /, "patch: Invalid value: …: ");
      api.mask(/^Invalid value: "\{.*\}": /, "Invalid value: …: ");
      await defined(
        api,
        definition(
          specOf(
            {
              min: { type: "integer" },
              max: { type: "integer" },
              fixed: {
                type: "string",
                "x-kubernetes-validations": [
                  { rule: "self == oldSelf", message: "fixed is fixed", reason: "FieldValueForbidden" },
                ],
              },
              items: {
                type: "array",
                maxItems: 5,
                items: {
                  type: "string",
                  maxLength: 10,
                  "x-kubernetes-validations": [{ rule: "self.startsWith('x')" }],
                },
              },
              text: {
                type: "string",
                maxLength: 20,
                "x-kubernetes-validations": [
                  { rule: "self.size() > 2", messageExpression: "'too short: ' + self" },
                ],
              },
              once: {
                type: "string",
                "x-kubernetes-validations": [
                  {
                    rule: "!oldSelf.hasValue() || self == oldSelf.value()",
                    optionalOldSelf: true,
                    message: "set once",
                  },
                ],
              },
            },
            {
              "x-kubernetes-validations": [
                {
                  rule: "!has(self.min) || !has(self.max) || self.min <= self.max",
                  message: "min above max",
                  fieldPath: ".min",
                },
              ],
            },
          ),
        ),
      );
      await api.post(gadgets, gadget("a", { min: 1, max: 2, fixed: "f", items: ["xa"], text: "abc" }));
      await api.post(gadgets, gadget("b", { min: 3, max: 2 }));
      // One at a time: several come in the order of a Go map.
      await api.post(gadgets, gadget("b", { items: ["xa", "b"] }));
      await api.post(gadgets, gadget("b", { text: "a" }));
      await api.patch(`${gadgets}/a`, { spec: { fixed: "g" } });
      await api.patch(`${gadgets}/a`, { spec: { min: 9 } });
      await api.patch(`${gadgets}/a`, { spec: { once: "1" } });
      await api.patch(`${gadgets}/a`, { spec: { once: "2" } });
      await api.patch(`${gadgets}/a`, { metadata: { labels: { a: "b" } } });
      await removed(api);
    },
  ],
  [
    "subresources of custom objects",
    async (api) => {
      api.mask(/patch: Invalid value: ".*": /, "patch: Invalid value: …: ");
      api.mask(/^Invalid value: "\{.*\}": /, "Invalid value: …: ");
      await defined(
        api,
        definition(specOf({ replicas: { type: "integer" }, selector: { type: "string" } }), {
          subresources: {
            status: {},
            scale: {
              specReplicasPath: ".spec.replicas",
              statusReplicasPath: ".status.replicas",
              labelSelectorPath: ".spec.selector",
            },
          },
        }),
      );
      await api.post(gadgets, gadget("a", { replicas: 2, selector: "a=b" }, { status: { replicas: 9 } }));
      await api.put(`${gadgets}/a`, gadget("a", { replicas: 3 }, { status: { replicas: 9 } }));
      const { body } = await api.get(`${gadgets}/a`);
      await api.put(`${gadgets}/a`, {
        ...body,
        spec: { ...body.spec, replicas: 3 },
        status: { replicas: 9 },
      });
      await api.patch(`${gadgets}/a/status`, {
        status: { replicas: 3 },
        spec: { replicas: 7 },
        metadata: { labels: { a: "b" } },
      });
      await api.get(`${gadgets}/a/status`);
      await api.get(`${gadgets}/a/scale`);
      await api.patch(`${gadgets}/a/scale`, { spec: { replicas: 5 } });
      await api.put(`${gadgets}/a/scale`, {
        apiVersion: "autoscaling/v1",
        kind: "Scale",
        metadata: { name: "a", namespace: "{ns}" },
        spec: { replicas: 6 },
      });
      await api.get(`${gadgets}/a`);
      await api.apply(
        `${gadgets}/a`,
        gadget("a", { replicas: 1 }, { status: { replicas: 1 } }),
        "me",
        "&force=true",
      );
      await api.apply(`${gadgets}/a/status`, gadget("a", {}, { status: { phase: "X" } }), "me");
      await api.put(`${gadgets}/a/status`, gadget("a", {}, { status: { replicas: "x" } }));
      await api.get(`${gadgets}/none/scale`);
      await removed(api);
    },
  ],
  [
    "without a status subresource, status is a field like others",
    async (api) => {
      api.mask(/patch: Invalid value: ".*": /, "patch: Invalid value: …: ");
      api.mask(/^Invalid value: "\{.*\}": /, "Invalid value: …: ");
      await defined(api, definition(specOf({ replicas: { type: "integer" } })));
      await api.post(gadgets, gadget("a", { replicas: 2 }, { status: { replicas: 9 } }));
      await api.patch(`${gadgets}/a`, { status: { replicas: 3 } });
      await api.patch(`${gadgets}/a/status`, { status: { replicas: 3 } });
      await api.get(`${gadgets}/a/scale`);
      await api.post(gadgets, gadget("a"));
      await api.post(gadgets, { ...gadget("b"), kind: "Other" });
      await api.post(gadgets, { metadata: { name: "b" } });
      await api.post(gadgets, gadget("Not A Name"));
      await api.post(gadgets, {
        ...gadget("f"),
        metadata: { name: "f", finalizers: ["plain"], labels: { "a b": "c" } },
      });
      await api.post(gadgets, { ...gadget("f"), metadata: { name: "f", finalizers: ["plain"] } });
      await api.post(gadgets, { ...gadget("g"), metadata: { name: "g", labels: { a: 1 } } });
      await api.put(`${gadgets}/a`, gadget("a"));
      await api.put(`${gadgets}/a`, { ...gadget("a"), metadata: { name: "a", resourceVersion: "1" } });
      await api.put(`${gadgets}/none`, gadget("none"));
      await api.get(`${gadgets}?fieldSelector=spec.x%3D1`);
      await api.get(`${gadgets}?labelSelector=a%20b`);
      await api.get(gadgets);
      await api.delete(`${gadgets}/a`);
      await api.delete(gadgets);
      await api.delete("/apis/{ns}.example.com/v1/gadgets");
      await removed(api);
    },
  ],
  [
    "printer columns and selectable fields",
    async (api) => {
      api.mask(/patch: Invalid value: ".*": /, "patch: Invalid value: …: ");
      api.mask(/^Invalid value: "\{.*\}": /, "Invalid value: …: ");
      await defined(
        api,
        definition(
          specOf({ size: { type: "integer" }, colour: { type: "string" }, when: { type: "string" } }),
          {
            additionalPrinterColumns: [
              { name: "Size", type: "integer", jsonPath: ".spec.size" },
              { name: "Colour", type: "string", jsonPath: ".spec.colour", priority: 1 },
              { name: "When", type: "date", jsonPath: ".metadata.creationTimestamp" },
            ],
            selectableFields: [{ jsonPath: ".spec.colour" }],
          },
        ),
      );
      await api.ask("POST", gadgets, gadget("a", { size: 1, colour: "red" }));
      await api.ask("POST", gadgets, gadget("b", { size: 2 }));
      api.mask(/^\d+[smh]$/, "AGE");
      await api.get(gadgets, "application/json;as=Table;v=v1;g=meta.k8s.io,application/json");
      await api.get(`${gadgets}?fieldSelector=spec.colour%3Dred`);
      await api.get(`${gadgets}?fieldSelector=spec.size%3D1`);
      await removed(api);
    },
  ],
  [
    "several versions of one kind",
    async (api) => {
      const schema = { openAPIV3Schema: specOf({ size: { type: "integer" } }) };
      await defined(
        api,
        definition(
          specOf({}),
          {},
          {
            versions: [
              { name: "v1", served: true, storage: true, schema },
              { name: "v1beta1", served: true, storage: false, deprecated: true, schema },
              { name: "v1alpha1", served: false, storage: false, schema },
            ],
          },
        ),
      );
      const beta = gadgets.replace("/v1/", "/v1beta1/");
      await api.post(beta, { ...gadget("a", { size: 1 }), apiVersion: "{ns}.example.com/v1beta1" });
      await api.get(`${gadgets}/a`);
      await api.get(`${beta}/a`);
      await api.get(gadgets.replace("/v1/", "/v1alpha1/"));
      await api.patch(`${gadgets}/a`, { spec: { size: 2 } });
      await api.get(beta);
      await api.get("/apis/{ns}.example.com");
      await removed(api);
    },
  ],
];

suite("custom kinds", import.meta.filename, scenarios);
