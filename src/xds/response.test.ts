import assert from "node:assert/strict";
import { test } from "node:test";
import { DeltaDiscoveryResponse } from "#protocols/envoy/service/discovery/v3/discovery.ts";
import { SimulatedWorld } from "../world/index.ts";
import { encoded } from "./encode/pack.ts";
import { Bodies, deltaResponse } from "./response.ts";

const resources = Array.from({ length: 60 }, (_, i) =>
  encoded("cluster", `c${i}`, Buffer.alloc(10 * i, "x")),
);

const long = encoded("route", "80", Buffer.alloc(100_000, "x"));

test("a response is what the protocol's messages say, shared or not", () => {
  const bodies = new Bodies(new SimulatedWorld(1));
  for (const list of [resources, resources.slice(0, 3), []]) {
    for (const shared of [bodies, undefined]) {
      const parts = deltaResponse(
        { kind: "cluster", resources: list, removed: ["gone", "too"], nonce: "7", systemVersion: "v/1" },
        shared,
      );
      const message = DeltaDiscoveryResponse.decode(Buffer.concat(parts));
      assert.deepEqual(
        message.resources.map(({ name, version }) => [name, version]),
        list.map(({ name, version }) => [name, version]),
      );
      const { nonce, systemVersionInfo, removedResources, typeUrl } = message;
      assert.deepEqual(
        { nonce, systemVersionInfo, removedResources, typeUrl },
        {
          nonce: "7",
          systemVersionInfo: "v/1",
          removedResources: ["gone", "too"],
          typeUrl: "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        },
      );
    }
  }
});

test("clients that get the same share its bytes; what begins alike is not taken for the same", async () => {
  const world = new SimulatedWorld(1);
  const bodies = new Bodies(world);
  const first = bodies.of(resources);
  assert.equal(bodies.of([...resources]), first);
  const other = bodies.of(resources.slice(0, 40));
  assert.notDeepEqual(other, first);
  assert.equal(bodies.of(resources.slice(0, 40)), other);
  // A short one is shared by those who get it in a row.
  const change = bodies.of(resources.slice(0, 1));
  assert.equal(bodies.of(resources.slice(0, 1)), change);
  assert.notDeepEqual(bodies.of(resources.slice(1, 2)), change);
  assert.deepEqual(bodies.of(resources.slice(0, 1)), change);
  // So is a single long one, whatever others get in between.
  const table = bodies.of([long]);
  bodies.of(resources.slice(0, 1));
  assert.equal(bodies.of([long]), table);
  assert.notDeepEqual(bodies.front("cluster", "v/2"), bodies.front("cluster", "v/1"));
  assert.equal(bodies.front("cluster", "v/1"), bodies.front("cluster", "v/1"));
  // Kept while it is used, and no longer.
  await world.advance(400);
  assert.equal(bodies.of(resources.slice(0, 40)), other);
  await world.advance(400);
  assert.equal(bodies.size, 2);
  await world.advance(200);
  assert.equal(bodies.size, 0);
});
