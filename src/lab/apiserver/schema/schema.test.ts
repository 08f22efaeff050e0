import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  applyDefaults,
  builtinSchema,
  checkStructural,
  dropUnknown,
  errorText,
  invalid,
  invalidStatus,
  notSupported,
  openApiDefinitions,
  required,
  schemaFromCrd,
  tooMany,
} from "./index.ts";

describe("schemas of built-in kinds", () => {
  test("carry what apply and strategic merge patch need", () => {
    const pod = builtinSchema("apps", "v1", "Deployment")!.properties!.spec!.properties!.template!.properties!
      .spec!;
    const containers = pod.properties!.containers!;
    assert.deepEqual(containers["x-kubernetes-list-map-keys"], ["name"]);
    assert.equal(containers["x-kubernetes-patch-merge-key"], "name");
    const port = builtinSchema("", "v1", "Service")!.properties!.spec!.properties!.ports!.items!;
    assert.equal(port.properties!.protocol!.default, "TCP");
    assert.equal(port.type, "object", "a reference with siblings still has what it refers to");
  });

  test("may be recursive", () => {
    const definition = builtinSchema("apiextensions.k8s.io", "v1", "CustomResourceDefinition")!;
    const props =
      definition.properties!.spec!.properties!.versions!.items!.properties!.schema!.properties!
        .openAPIV3Schema!;
    const deeper = props.properties!.properties!.additionalProperties as typeof props;
    assert.equal(deeper.properties!.not, props.properties!.not);
  });

  test("are undefined for what is not served", () => {
    assert.equal(builtinSchema("apps", "v1", "Nothing"), undefined);
    assert.equal(builtinSchema("apps", "v1beta1", "Deployment"), undefined);
    assert.equal(builtinSchema("", "v1", "constructor"), undefined);
  });

  test("are published with full references and their kinds", () => {
    const definitions = openApiDefinitions("apps", "v1") as Record<string, Record<string, unknown>>;
    const deployment = definitions["io.k8s.api.apps.v1.Deployment"]!;
    assert.deepEqual(deployment["x-kubernetes-group-version-kind"], [
      { group: "apps", kind: "Deployment", version: "v1" },
    ]);
    const text = JSON.stringify(definitions);
    const wanted = new Set([...text.matchAll(/"#\/components\/schemas\/([^"]+)"/g)].map(([, name]) => name!));
    assert.deepEqual(
      [...wanted].filter((name) => !(name in definitions)),
      [],
      "every reference leads somewhere",
    );
    assert.ok(!text.includes('"description"'));
  });
});

describe("unknown fields", () => {
  test("go, and their paths are told", () => {
    const deployment = {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: "x", colour: "red", labels: { any: "thing" } },
      spec: { replica: 1, template: { spec: { containers: [{ name: "a", imagee: "b" }] } } },
    };
    assert.deepEqual(dropUnknown(builtinSchema("apps", "v1", "Deployment")!, deployment), [
      "metadata.colour",
      "spec.replica",
      "spec.template.spec.containers[0].imagee",
    ]);
    assert.deepEqual(deployment.metadata, { name: "x", labels: { any: "thing" } });
    assert.deepEqual(deployment.spec, { template: { spec: { containers: [{ name: "a" }] } } });
  });

  test("stay where the schema keeps them", () => {
    const schema = schemaFromCrd({
      type: "object",
      properties: {
        spec: {
          type: "object",
          properties: {
            free: {
              type: "object",
              "x-kubernetes-preserve-unknown-fields": true,
              properties: { known: { type: "object" } },
            },
            map: {
              type: "object",
              additionalProperties: { type: "object", properties: { a: { type: "string" } } },
            },
            template: {
              type: "object",
              "x-kubernetes-embedded-resource": true,
              properties: { spec: { type: "object" } },
            },
          },
        },
      },
    });
    const object = {
      apiVersion: "example.com/v1",
      kind: "Thing",
      metadata: { name: "x" },
      spec: {
        free: { any: { thing: 1 }, known: { gone: 1 } },
        map: { one: { a: "1", b: "2" } },
        template: {
          apiVersion: "v1",
          kind: "Pod",
          metadata: { name: "p", bad: 1 },
          spec: { gone: 1 },
          other: 1,
        },
      },
    };
    assert.deepEqual(dropUnknown(schema, object), [
      "spec.free.known.gone",
      "spec.map.one.b",
      "spec.template.metadata.bad",
      "spec.template.spec.gone",
      "spec.template.other",
    ]);
    assert.deepEqual(object.spec.free.any, { thing: 1 });
  });

  test("of RawExtension and of stored JSON stay", () => {
    const revision = {
      apiVersion: "apps/v1",
      kind: "ControllerRevision",
      metadata: {},
      revision: 1,
      data: { any: { x: 1 } },
    };
    assert.deepEqual(dropUnknown(builtinSchema("apps", "v1", "ControllerRevision")!, revision), []);
    assert.deepEqual(revision.data, { any: { x: 1 } });
  });
});

describe("defaults of custom kinds", () => {
  const schema = schemaFromCrd({
    type: "object",
    properties: {
      spec: {
        type: "object",
        default: {},
        properties: {
          replicas: { type: "integer", default: 1 },
          note: { type: "string", nullable: true, default: "x" },
          plain: { type: "string" },
          list: {
            type: "array",
            items: { type: "object", properties: { port: { type: "integer", default: 80 } } },
          },
        },
      },
    },
  });

  test("are filled in from the outside in", () => {
    const object = { metadata: {} };
    applyDefaults(schema, object);
    assert.deepEqual(object, { metadata: {}, spec: { replicas: 1, note: "x" } });
  });

  test("take the place of null where null is not allowed, and null without a default goes", () => {
    const object = { spec: { replicas: null, note: null, plain: null, list: [{}, { port: 1 }] } };
    applyDefaults(schema, object);
    assert.deepEqual(object, { spec: { replicas: 1, note: null, list: [{ port: 80 }, { port: 1 }] } });
  });

  test("are copies: one object's change is not another's", () => {
    const one: Record<string, Record<string, unknown>> = {};
    const two: Record<string, Record<string, unknown>> = {};
    applyDefaults(schema, one);
    applyDefaults(schema, two);
    one.spec!.replicas = 5;
    assert.equal(two.spec!.replicas, 1);
  });
});

describe("structural schemas", () => {
  const cases: [string, object, string][] = [
    [
      "a field without a type",
      { type: "object", properties: { a: {} } },
      "s.properties[a].type: Required value: must not be empty for specified object fields",
    ],
    [
      "a list without items",
      { type: "object", properties: { a: { type: "array" } } },
      "s.properties[a].items: Required value: must be specified",
    ],
    [
      "a type inside anyOf",
      { type: "object", anyOf: [{ type: "object" }] },
      "s.anyOf[0].type: Forbidden: must be empty to be structural",
    ],
    [
      "a default inside not",
      { type: "object", not: { default: 1 } },
      "s.not.default: Forbidden: must be undefined to be structural",
    ],
    [
      "a root that is no object",
      { type: "string" },
      's.type: Invalid value: "string": must be object at the root',
    ],
    [
      "metadata with more than names",
      {
        type: "object",
        properties: { metadata: { type: "object", properties: { labels: { type: "object" } } } },
      },
      "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
    ],
  ];
  for (const [name, schema, text] of cases) {
    test(`${name} is not structural`, () => assert.equal(errorText(checkStructural(schema, "s")), text));
  }

  test("an integer or a string may be written in both of Kubernetes' ways", () => {
    const both = [{ type: "integer" }, { type: "string" }];
    const way = (more: object) => ({
      type: "object",
      properties: { a: { "x-kubernetes-int-or-string": true, ...more } },
    });
    assert.deepEqual(checkStructural(way({})), []);
    assert.deepEqual(checkStructural(way({ anyOf: both })), []);
    assert.deepEqual(checkStructural(way({ allOf: [{ anyOf: both }, { pattern: "^x" }] })), []);
  });
});

describe("the Status for an invalid object", () => {
  test("is Kubernetes' own", () => {
    const status = invalidStatus({ group: "apps", kind: "Deployment" }, "x", [
      invalid("spec.replicas", -1, "must be greater than or equal to 0"),
    ]);
    assert.equal(
      status.message,
      'Deployment.apps "x" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0',
    );
    assert.deepEqual(status.details, {
      name: "x",
      group: "apps",
      kind: "Deployment",
      causes: [
        {
          reason: "FieldValueInvalid",
          message: "Invalid value: -1: must be greater than or equal to 0",
          field: "spec.replicas",
        },
      ],
    });
    assert.equal(status.code, 422);
  });

  test("names several errors once each, in brackets", () => {
    const twice = required("spec.a");
    const text = errorText([twice, twice, notSupported("spec.b", "x", ["y", "z"]), tooMany("spec.c", 3, 2)]);
    assert.equal(
      text,
      '[spec.a: Required value, spec.b: Unsupported value: "x": supported values: "y", "z", spec.c: Too many: 3: must have at most 2 items]',
    );
  });

  test("shows values as Go's JSON does", () => {
    assert.equal(errorText([invalid("a", { b: 1, a: "<" }, "")]), 'a: Invalid value: {"a":"\\u003c","b":1}');
    assert.equal(errorText([invalid("a", undefined, "no")]), "a: Invalid value: null: no");
  });
});
