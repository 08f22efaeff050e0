import assert from "node:assert/strict";
import { test } from "node:test";
import type { ConfigMap } from "../api/index.ts";
import { SimulatedWorld } from "../world/index.ts";
import { KubeClient } from "./client.ts";
import { Informer, type ObjectChange } from "./informer.ts";
import { FakeApi } from "./testing/fake-api.ts";

function setup(objects: [name: string, data: Record<string, string>][] = []) {
  const api = new FakeApi();
  for (const [name, data] of objects) api.put(name, data);
  const world = new SimulatedWorld(1);
  const client = new KubeClient({ transport: api.transport, world, cluster: "c1" });
  const bugs: unknown[] = [];
  const informer = new Informer(client, api.resource, {
    indexes: { colour: (object) => (object.data?.colour ? [object.data.colour] : []) },
    onBug: (error) => bugs.push(error),
  });
  const heard: string[][] = [];
  const listen = (changes: ObjectChange<ConfigMap>[]) =>
    void heard.push(
      changes.map(
        ({ key, before, after }) => `${key} ${before?.data?.colour ?? "-"} → ${after?.data?.colour ?? "-"}`,
      ),
    );
  return { api, world, informer, heard, listen, bugs };
}

test("an informer is complete when it says so, and finds objects by name, namespace and index", async () => {
  const { world, informer } = setup([
    ["a", { colour: "red" }],
    ["b", { colour: "red" }],
    ["c", {}],
  ]);
  assert.equal(informer.synced, false);
  await world.advance(0);
  await informer.whenSynced();
  assert.equal(informer.size, 3);
  assert.equal(informer.get("demo/a")?.data?.colour, "red");
  assert.equal(informer.get({ namespace: "demo", name: "b" })?.data?.colour, "red");
  assert.equal(informer.list("demo").length, 3);
  assert.equal(informer.list("other").length, 0);
  assert.deepEqual(
    informer.byIndex("colour", "red").map(({ metadata }) => metadata.name),
    ["a", "b"],
  );
  assert.throws(() => informer.byIndex("size", "big"), RangeError);
});

test("listeners hear each batch once, with what was before; late ones first hear what is there", async () => {
  const { api, world, informer, heard, listen } = setup([["a", { colour: "red" }]]);
  const stop = informer.subscribe(listen);
  await world.advance(0);
  assert.deepEqual(heard.splice(0), [["demo/a - → red"]]);
  api.put("a", { colour: "blue" });
  api.put("b", { colour: "green" });
  await world.advance(0);
  assert.deepEqual(heard.splice(0), [["demo/a red → blue", "demo/b - → green"]]);
  assert.deepEqual(informer.byIndex("colour", "red"), []);
  api.remove("a");
  await world.advance(0);
  assert.deepEqual(heard.splice(0), [["demo/a blue → -"]]);
  informer.subscribe(listen);
  assert.deepEqual(heard.splice(0), [["demo/b - → green"]]);
  stop();
  api.put("c");
  await world.advance(0);
  assert.equal(heard.length, 1);
});

test("a new list after an outage is heard as the difference only", async () => {
  const { api, world, informer, heard, listen } = setup([
    ["a", { colour: "red" }],
    ["b", { colour: "red" }],
  ]);
  await world.advance(0);
  const kept = informer.get("demo/b");
  informer.subscribe(listen);
  heard.length = 0;
  api.cutWatches();
  api.remove("a");
  api.put("c", { colour: "blue" });
  api.compact();
  await world.advance(1_000);
  assert.deepEqual(
    heard.map((batch) => batch.sort()),
    [["demo/a red → -", "demo/c - → blue"]],
  );
  assert.equal(informer.get("demo/b"), kept, "an object that did not change stays the same object");
});

test("a listener that throws harms neither the cache nor the other listeners", async () => {
  const { api, world, informer, heard, listen, bugs } = setup();
  informer.subscribe(() => {
    throw new Error("bug");
  });
  informer.subscribe(listen);
  await world.advance(0);
  api.put("a", { colour: "red" });
  await world.advance(0);
  assert.equal(bugs.length, 1);
  assert.equal(heard.length, 1);
  assert.equal(informer.state.state, "synced");
});
