import assert from "node:assert/strict";
import { test } from "node:test";
import {
  clusterIdProperty,
  clusterProperties,
  customResourceDefinitions,
  definitions,
} from "../api/index.ts";
import { testCluster } from "../kube/testing/cluster.ts";
import { clusterId, watchClusterId } from "./index.ts";

test("a cluster that is given another name is told of once; what is no name is refused, and the old one stays", async () => {
  const { client, person, world } = await testCluster();
  const definition = definitions().find(({ spec }) => spec.names.kind === "ClusterProperty")!;
  await person.create(customResourceDefinitions, definition);
  const metadata = { name: clusterIdProperty };
  await person.create(clusterProperties, { metadata, spec: { value: "east" } });
  assert.equal(await clusterId(client), "east");
  const heard: string[] = [];
  watchClusterId(client, "east", {
    renamed: (id) => heard.push(`renamed ${id}`),
    onRefused: (value) => heard.push(`refused ${value}`),
  });
  await world.advance(1_000);
  const rename = async (value: string) => {
    await person.patch(clusterProperties, metadata, { spec: { value } });
    await world.advance(1_000);
  };
  assert.deepEqual(heard, []);
  await rename("No Name");
  assert.deepEqual(heard, ["refused No Name"]);
  await person.create(clusterProperties, { metadata: { name: "other" }, spec: { value: "x" } });
  await rename("east");
  await rename("west");
  assert.deepEqual(heard, ["refused No Name", "renamed west"]);
  await rename("north");
  assert.equal(heard.length, 2, "once");
});
