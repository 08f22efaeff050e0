import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Client, type Loose, testServer } from "../testing/harness.ts";

const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const widgets = "/apis/example.com/v1/namespaces/default/widgets";

const spec = {
  type: "object",
  required: ["size"],
  properties: {
    size: { type: "integer", minimum: 1 },
    color: { type: "string", default: "red", enum: ["red", "green"] },
  },
};
const status = { type: "object", properties: { size: { type: "integer" } } };

function definition(change: Loose = {}, version: Loose = {}) {
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: "widgets.example.com" },
    spec: {
      group: "example.com",
      scope: "Namespaced",
      names: { plural: "widgets", kind: "Widget", shortNames: ["wd"], categories: ["all"] },
      versions: [
        {
          name: "v1",
          served: true,
          storage: true,
          subresources: {
            status: {},
            scale: { specReplicasPath: ".spec.size", statusReplicasPath: ".status.size" },
          },
          additionalPrinterColumns: [{ name: "Size", type: "integer", jsonPath: ".spec.size" }],
          selectableFields: [{ jsonPath: ".spec.color" }],
          schema: { openAPIV3Schema: { type: "object", properties: { spec, status } } },
          ...version,
        },
      ],
      ...change,
    },
  };
}

const widget = (name: string, spec: object) => ({
  apiVersion: "example.com/v1",
  kind: "Widget",
  metadata: { name },
  spec,
});

async function withWidgets(): ReturnType<typeof testServer> {
  const cluster = await testServer();
  const { code, body } = await cluster.client.post(definitions, definition());
  assert.equal(code, 201, body.message);
  return cluster;
}

const condition = (object: Loose, type: string) =>
  object.status.conditions.find((item: { type: string }) => item.type === type)?.status;

describe("a CustomResourceDefinition", () => {
  test("is established at once, in discovery and OpenAPI too", async () => {
    await using cluster = await testServer();
    assert.equal((await cluster.client.get(widgets)).code, 404);
    const { body } = await cluster.client.post(definitions, definition());
    assert.equal(condition(body, "Established"), "True");
    assert.equal(condition(body, "NamesAccepted"), "True");
    assert.deepEqual(body.status.storedVersions, ["v1"]);
    assert.equal(body.spec.names.listKind, "WidgetList");
    assert.equal((await cluster.client.get(widgets)).body.kind, "WidgetList");
    const resources = (await cluster.client.get("/apis/example.com/v1")).body.resources;
    assert.deepEqual(
      resources.map(({ name }: Loose) => name),
      ["widgets", "widgets/scale", "widgets/status"],
    );
    const aggregated = await cluster.client.get("/apis", {
      accept: "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
    });
    assert.match(aggregated.headers["content-type"]!, /as=APIGroupDiscoveryList/);
    const group = aggregated.body.items.find((item: Loose) => item.metadata.name === "example.com");
    assert.equal(group.versions[0].resources[0].shortNames[0], "wd");
    const openapi = (await cluster.client.get("/openapi/v3/apis/example.com/v1")).body;
    const patch = openapi.paths["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"].patch;
    assert.deepEqual(patch["x-kubernetes-group-version-kind"], {
      group: "example.com",
      version: "v1",
      kind: "Widget",
    });
    assert.ok(patch.parameters.some(({ name }: Loose) => name === "fieldValidation"));
    assert.equal(
      openapi.components.schemas["com.example.v1.Widget"].properties.spec.properties.size.type,
      "integer",
    );
  });

  test("with a schema that is not structural, or a wrong name, is refused", async () => {
    await using cluster = await testServer();
    const loose = await cluster.client.post(definitions, definition({}, { schema: { openAPIV3Schema: {} } }));
    assert.equal(loose.code, 422);
    assert.match(loose.body.message, /spec\.validation\.openAPIV3Schema\.type: Required value/);
    const named = await cluster.client.post(definitions, {
      ...definition(),
      metadata: { name: "x.example.com" },
    });
    assert.match(named.body.message, /must be spec\.names\.plural\+"\."\+spec\.group/);
    const twice = definition();
    twice.spec.versions.push({ ...twice.spec.versions[0]!, name: "v2" });
    assert.match(
      (await cluster.client.post(definitions, twice)).body.message,
      /must have exactly one version marked as storage version/,
    );
    const webhook = await cluster.client.post(
      definitions,
      definition({ conversion: { strategy: "Webhook" } }),
    );
    assert.match(webhook.body.message, /conversion webhooks are not served/);
  });

  test("whose names are taken is not served", async () => {
    await using cluster = await withWidgets();
    const names = { plural: "gadgets", kind: "Gadget", shortNames: ["wd"] };
    const { body } = await cluster.client.post(definitions, {
      ...definition({ names }),
      metadata: { name: "gadgets.example.com" },
    });
    assert.equal(condition(body, "NamesAccepted"), "False");
    assert.equal((await cluster.client.get("/apis/example.com/v1/namespaces/default/gadgets")).code, 404);
  });

  test("warns of rules that are not checked because they cannot be compiled", async () => {
    await using cluster = await testServer();
    const openAPIV3Schema = { type: "object", "x-kubernetes-validations": [{ rule: "math.abs(-1) == 1" }] };
    const { code, headers } = await cluster.client.post(
      definitions,
      definition({ versions: [{ name: "v1", served: true, storage: true, schema: { openAPIV3Schema } }] }),
    );
    assert.equal(code, 201);
    assert.match(headers.warning!, /spec.versions\[v1\]: <root>: rule math\.abs\(-1\) == 1 is not checked/);
  });
});

describe("custom objects", () => {
  test("are pruned, defaulted and validated", async () => {
    await using cluster = await withWidgets();
    const made = await cluster.client.post(widgets, widget("a", { size: 1, unknown: true }));
    assert.equal(made.code, 201, made.body.message);
    assert.deepEqual(made.body.spec, { size: 1, color: "red" });
    assert.match(made.headers.warning!, /unknown field \\"spec\.unknown\\"/);
    const strict = await cluster.client.post(
      `${widgets}?fieldValidation=Strict`,
      widget("b", { size: 1, x: 1 }),
    );
    assert.equal(strict.code, 400);
    const bad = await cluster.client.post(widgets, widget("b", { size: 0, color: "blue" }));
    assert.equal(bad.code, 422);
    assert.match(bad.body.message, /^Widget\.example\.com "b" is invalid: \[/);
    assert.match(
      bad.body.message,
      /spec\.color: Unsupported value: "blue": supported values: "red", "green"/,
    );
    assert.equal((await cluster.client.post(widgets, widget("b", {}))).code, 422);
  });

  test("have status, scale, generation, columns and selectable fields", async () => {
    await using cluster = await withWidgets();
    await cluster.client.post(widgets, { ...widget("a", { size: 2 }), status: { size: 9 } });
    const one = await cluster.client.get(`${widgets}/a`);
    assert.equal(one.body.status, undefined);
    assert.equal(one.body.metadata.generation, 1);
    const patched = await cluster.client.patch(`${widgets}/a/status`, {
      status: { size: 2 },
      spec: { size: 7 },
    });
    assert.deepEqual(
      [patched.body.spec.size, patched.body.status.size, patched.body.metadata.generation],
      [2, 2, 1],
    );
    const scaled = await cluster.client.patch(`${widgets}/a/scale`, { spec: { replicas: 5 } });
    assert.equal(scaled.body.spec.replicas, 5);
    assert.equal((await cluster.client.get(`${widgets}/a`)).body.metadata.generation, 2);
    const table = await cluster.client.get(widgets, {
      accept: "application/json;as=Table;v=v1;g=meta.k8s.io",
    });
    assert.deepEqual(table.body.rows[0].cells, ["a", 5]);
    assert.equal(
      (await cluster.client.get(`${widgets}?fieldSelector=spec.color%3Dred`)).body.items.length,
      1,
    );
    assert.equal(
      (await cluster.client.get(`${widgets}?fieldSelector=spec.color%3Dgreen`)).body.items.length,
      0,
    );
    const strategic = await cluster.client.patch(`${widgets}/a`, {}, "strategic");
    assert.equal(strategic.code, 415);
  });

  test("are seen under every served version", async () => {
    await using cluster = await testServer();
    const both = definition();
    both.spec.versions.push({ ...both.spec.versions[0]!, name: "v1beta1", storage: false });
    await cluster.client.post(definitions, both);
    await cluster.client.post(widgets, widget("a", { size: 1 }));
    const beta = "/apis/example.com/v1beta1/namespaces/default/widgets";
    const events = await cluster.client.watch(`${beta}?watch=1`);
    const { body } = await cluster.client.get(`${beta}/a`);
    assert.equal(body.apiVersion, "example.com/v1beta1");
    await cluster.client.patch(`${beta}/a`, { spec: { size: 2 } });
    const [first, second] = await events.take(2);
    assert.equal(first!.object.apiVersion, "example.com/v1beta1");
    assert.equal(second!.object.spec.size, 2);
    assert.equal((await cluster.client.get(`${widgets}/a`)).body.apiVersion, "example.com/v1");
    await events.stop();
  });

  test("read a default that came later", async () => {
    await using cluster = await withWidgets();
    await cluster.client.post(widgets, widget("a", { size: 1 }));
    const { body } = await cluster.client.get(`${definitions}/widgets.example.com`);
    const properties = body.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties;
    properties.shape = { type: "string", default: "round" };
    const changed = await cluster.client.put(`${definitions}/widgets.example.com`, body);
    assert.equal(changed.code, 200, changed.body.message);
    assert.equal((await cluster.client.get(`${widgets}/a`)).body.spec.shape, "round");
  });

  test("go with their definition, finalizers respected", async () => {
    await using cluster = await withWidgets();
    await cluster.client.post(widgets, widget("a", { size: 1 }));
    const held = widget("b", { size: 1 });
    await cluster.client.post(widgets, {
      ...held,
      metadata: { name: "b", finalizers: ["example.com/hold"] },
    });
    const events = await cluster.client.watch(
      `${widgets}?watch=1&resourceVersion=${await newest(cluster.client)}`,
    );
    await cluster.client.delete(`${definitions}/widgets.example.com`);
    await cluster.world.advance(0);
    assert.equal(
      condition((await cluster.client.get(`${definitions}/widgets.example.com`)).body, "Terminating"),
      "True",
    );
    assert.equal((await cluster.client.get(`${widgets}/a`)).code, 404);
    assert.equal((await cluster.client.post(widgets, widget("c", { size: 1 }))).code, 405);
    await cluster.client.patch(`${widgets}/b`, { metadata: { finalizers: null } });
    await cluster.world.advance(0);
    assert.equal((await cluster.client.get(`${definitions}/widgets.example.com`)).code, 404);
    assert.equal((await cluster.client.get(widgets)).code, 404);
    const kinds: string[] = [];
    for (let event = await events.next(); event; event = await events.next()) kinds.push(event.type);
    assert.deepEqual(kinds, ["DELETED", "MODIFIED", "DELETED"]);
  });
});

async function newest(client: Client): Promise<string> {
  return (await client.get(widgets)).body.metadata.resourceVersion;
}
