import assert from "node:assert/strict";
import { test } from "node:test";
import {
  DeltaDiscoveryRequest,
  DeltaDiscoveryResponse,
} from "#protocols/envoy/service/discovery/v3/discovery.ts";
import { SimulatedWorld } from "../world/index.ts";
import { typeUrls } from "./encode/index.ts";
import { encoded } from "./encode/pack.ts";
import { type Content, Messages } from "./response.ts";

const resources = Array.from({ length: 60 }, (_, i) =>
  encoded("cluster", `c${i}`, Buffer.alloc(10 * i, "x")),
);
const long = encoded("route", "80", Buffer.alloc(100_000, "x"));

const content = (list: Content["resources"], more: Partial<Content> = {}): Content => ({
  kind: "cluster",
  resources: list,
  removed: [],
  systemVersion: "v/1",
  ...more,
});

test("a response is what the protocol's messages say, framed for gRPC", () => {
  const messages = new Messages(new SimulatedWorld(1));
  for (const list of [resources, resources.slice(0, 3), [], [long]]) {
    const { response, bytes } = messages.of(content(list, { removed: ["gone", "too"] }), 0);
    const { nonce } = response;
    const ack = { typeUrl: typeUrls.cluster, responseNonce: String(nonce) };
    assert.deepEqual(
      response.ack,
      Buffer.from(DeltaDiscoveryRequest.encode(DeltaDiscoveryRequest.fromPartial(ack)).finish()),
    );
    const whole = Buffer.concat(bytes);
    assert.equal(whole[0], 0);
    assert.equal(whole.readUInt32BE(1), whole.length - 5);
    const message = DeltaDiscoveryResponse.decode(whole.subarray(5));
    assert.deepEqual(
      message.resources.map(({ name, version }) => [name, version]),
      list.map(({ name, version }) => [name, version]),
    );
    const { systemVersionInfo, removedResources, typeUrl } = message;
    assert.deepEqual(
      { nonce: message.nonce, systemVersionInfo, removedResources, typeUrl },
      {
        nonce: String(nonce),
        systemVersionInfo: "v/1",
        removedResources: ["gone", "too"],
        typeUrl: "type.googleapis.com/envoy.config.cluster.v3.Cluster",
      },
    );
  }
});

test("clients that get the same in a row share its bytes; one client never gets a nonce twice", () => {
  const messages = new Messages(new SimulatedWorld(1));
  const [one, two] = [resources.slice(0, 1), resources.slice(1, 2)];
  const first = messages.of(content(one), 0);
  assert.equal(messages.of(content([...one]), 0), first);
  assert.equal(messages.of(content(one), first.response.nonce - 1), first);
  const again = messages.of(content(one), first.response.nonce);
  assert.ok(again.response.nonce > first.response.nonce);
  for (const other of [
    content(two),
    content(one, { systemVersion: "v/2" }),
    content(one, { kind: "listener" }),
    content(one, { removed: ["gone"] }),
  ]) {
    assert.notDeepEqual(messages.of(other, 0).bytes, again.bytes);
  }
});

test("long lists of resources are shared while they are used; what begins alike is not taken for the same", async () => {
  const world = new SimulatedWorld(1);
  const messages = new Messages(world);
  const bodyOf = (list: Content["resources"]) => messages.of(content(list), 0).bytes.at(-1)!;
  const shares = (a: Buffer, b: Buffer) => a.buffer === b.buffer && a.byteOffset === b.byteOffset;
  const first = bodyOf(resources);
  assert.ok(shares(bodyOf([...resources]), first));
  const other = bodyOf(resources.slice(0, 50));
  assert.notDeepEqual(other, first);
  assert.ok(shares(bodyOf(resources.slice(0, 50)), other));
  // Also a single long one, whatever others get in between.
  const table = bodyOf([long]);
  bodyOf(resources.slice(0, 1));
  assert.ok(shares(bodyOf([long]), table));
  // Kept while it is used, and no longer.
  await world.advance(400);
  assert.ok(shares(bodyOf([long]), table));
  await world.advance(400);
  assert.equal(messages.size, 2);
  await world.advance(200);
  assert.equal(messages.size, 0);
});
