import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  configMaps,
  customResourceDefinitions,
  events,
  type KubeObject,
  nameOf,
  type Resource,
  resource,
  secrets,
} from "../../api/index.ts";
import { SimulatedWorld } from "../../world/index.ts";
import { type TestCluster, testCluster } from "./harness.ts";

interface Widget extends KubeObject {
  spec?: { size?: number };
}
const widgets = resource<Widget>("example.com", "v1", "Widget", "widgets");

async function defineWidgets(cluster: TestCluster): Promise<void> {
  await cluster.client.create(customResourceDefinitions, {
    metadata: { name: "widgets.example.com" },
    spec: {
      group: "example.com",
      names: { plural: "widgets", singular: "widget", kind: "Widget", listKind: "WidgetList" },
      scope: "Namespaced",
      versions: ["v1", "v1alpha1"].map((name) => ({
        name,
        served: true,
        storage: name === "v1",
        schema: {
          openAPIV3Schema: {
            type: "object",
            properties: { spec: { type: "object", properties: { size: { type: "integer" } } } },
          },
        },
      })),
    },
  });
  await cluster.until("widgets are served", async () =>
    cluster.client.list(widgets).then(
      () => true,
      () => false,
    ),
  );
}

function owner(object: KubeObject, more: object = {}) {
  const { apiVersion, kind, metadata } = object;
  return { apiVersion, kind, name: metadata.name, uid: metadata.uid!, ...more };
}

async function make<T extends KubeObject>(
  cluster: TestCluster,
  of: Resource<T>,
  name: string,
  ...owners: ReturnType<typeof owner>[]
): Promise<T> {
  return cluster.client.create(of, {
    metadata: { name, namespace: "demo", ownerReferences: owners },
  } as Parameters<typeof cluster.client.create<T>>[1]);
}

const gone = <T extends KubeObject>(cluster: TestCluster, of: Resource<T>, name: string) =>
  cluster.until(`${name} gone`, async () => !(await cluster.client.get(of, `demo/${name}`)));

describe("the garbage collector", () => {
  test("deletes what a custom resource owns, and custom resources that others own", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    await defineWidgets(cluster);
    const top = await make(cluster, configMaps, "top");
    const widget = await make(cluster, widgets, "widget", owner(top));
    await make(cluster, secrets, "leaf", owner(widget));
    await make(cluster, secrets, "free");
    await cluster.client.delete(configMaps, nameOf(top));
    await gone(cluster, widgets, "widget");
    await gone(cluster, secrets, "leaf");
    assert.ok(await cluster.client.get(secrets, "demo/free"));
  });

  test("finds an owner that is named in another version than the preferred one", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    await defineWidgets(cluster);
    const widget = await make(cluster, widgets, "widget");
    await make(cluster, secrets, "leaf", { ...owner(widget), apiVersion: "example.com/v1alpha1" });
    await cluster.client.delete(widgets, nameOf(widget));
    await gone(cluster, secrets, "leaf");
  });

  test("keeps what has another owner, and forgets the one that is gone", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    const [a, b] = [await make(cluster, configMaps, "a"), await make(cluster, configMaps, "b")];
    await make(cluster, secrets, "shared", owner(a), owner(b));
    await cluster.client.delete(configMaps, "demo/a");
    await cluster.until("one owner", async () => {
      const found = await cluster.client.get(secrets, "demo/shared");
      return found?.metadata.ownerReferences?.map((one) => one.name).join() === "b";
    });
    await cluster.client.delete(configMaps, "demo/b");
    await gone(cluster, secrets, "shared");
  });

  test("deletes what is made for an owner that never was, or was another of the same name", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    const a = await make(cluster, configMaps, "a");
    await make(cluster, secrets, "stray", { ...owner(a), uid: "00000000-0000-4000-8000-000000000000" });
    await make(cluster, secrets, "kept", owner(a));
    await make(cluster, secrets, "unknown", {
      ...owner(a),
      apiVersion: "nobody.example.com/v1",
      kind: "Nothing",
    });
    await gone(cluster, secrets, "stray");
    assert.ok(await cluster.client.get(secrets, "demo/kept"));
    assert.ok(await cluster.client.get(secrets, "demo/unknown"), "a kind that is not known may still come");
  });

  test("in the foreground lets the owner go after its last dependent that blocks it", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    const top = await make(cluster, configMaps, "top");
    await cluster.client.create(secrets, {
      metadata: {
        name: "held",
        namespace: "demo",
        finalizers: ["example.com/hold"],
        ownerReferences: [owner(top, { blockOwnerDeletion: true })],
      },
    });
    await cluster.client.delete(configMaps, "demo/top", { propagationPolicy: "Foreground" });
    await cluster.until("the dependent is being deleted", async () => {
      const held = await cluster.client.get(secrets, "demo/held");
      return held?.metadata.deletionTimestamp !== undefined;
    });
    assert.ok((await cluster.client.get(configMaps, "demo/top"))?.metadata.deletionTimestamp);
    await cluster.client.patch(secrets, "demo/held", { metadata: { finalizers: [] } });
    await gone(cluster, secrets, "held");
    await gone(cluster, configMaps, "top");
  });

  test("with orphaning leaves the dependents, without an owner", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    const top = await make(cluster, configMaps, "top");
    await make(cluster, secrets, "orphan", owner(top, { blockOwnerDeletion: true }));
    await cluster.client.delete(configMaps, "demo/top", { propagationPolicy: "Orphan" });
    await gone(cluster, configMaps, "top");
    const orphan = await cluster.client.get(secrets, "demo/orphan");
    assert.deepEqual(orphan?.metadata.ownerReferences ?? [], []);
  });

  test("forgets Events an hour after they were last seen", async () => {
    const world = new SimulatedWorld(5);
    await using cluster = await testCluster({ simulated: world });
    const event = (name: string) =>
      cluster.client.create(events, {
        metadata: { name, namespace: "default" },
        involvedObject: { kind: "Pod", name: "x", namespace: "default" },
        lastTimestamp: `${new Date(world.now()).toISOString().slice(0, 19)}Z`,
        reason: "Tested",
        message: name,
        type: "Normal",
      } as never);
    await event("old");
    await world.advance(30 * 60_000);
    await event("young");
    await world.advance(45 * 60_000);
    const left = (await cluster.list(events)).map((one) => one.metadata.name);
    assert.ok(left.includes("young") && !left.includes("old"), left.join());
  });
});
