import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { beforeEach, describe, test } from "node:test";
import fc from "fast-check";
import { Node } from "#protocols/envoy/config/core/v3/base.ts";
import {
  DeltaDiscoveryRequest,
  DeltaDiscoveryResponse,
} from "#protocols/envoy/service/discovery/v3/discovery.ts";
import { messages as cutMessages } from "../http2/index.ts";
import { SimulatedWorld } from "../world/index.ts";
import { AdsClient, type Delivered, type OpenStream, typeUrls } from "./ads.ts";
import { openGrpcStream } from "./grpc.ts";

const { cluster, endpoints } = typeUrls;

describe("the client of delta ADS", () => {
  let world: SimulatedWorld;
  let client: AdsClient;
  let sent: DeltaDiscoveryRequest[];
  /** The streams that were opened; undefined: it could not be. */
  let streams: Parameters<OpenStream>[0][];
  let reachable: boolean;
  const clusters = { changed: [] as Delivered[][], removed: [] as string[] };

  beforeEach(() => {
    world = new SimulatedWorld(7);
    sent = [];
    streams = [];
    reachable = true;
    clusters.changed = [];
    clusters.removed = [];
    client = new AdsClient({
      world,
      node: Node.fromPartial({ id: "me" }),
      open: async (on) => {
        if (!reachable) throw new Error("unreachable");
        streams.push(on);
        on.opened();
        return { send: (bytes) => sent.push(DeltaDiscoveryRequest.decode(bytes)), close: () => undefined };
      },
    });
    client.serve(
      cluster,
      (changed, removed) => {
        clusters.changed.push([...changed]);
        clusters.removed.push(...removed);
        return changed.flatMap(({ name }) => (name.startsWith("bad") ? [{ name, reason: "bad" }] : []));
      },
      true,
    );
    client.serve(endpoints, () => []);
    client.start();
  });

  const turn = () => world.advance(0);
  const respond = async (
    typeUrl: string,
    nonce: string,
    versions: Record<string, string>,
    removed: string[] = [],
  ) => {
    const resources = Object.entries(versions).map(([name, version]) => ({
      name,
      version,
      resource: { typeUrl, value: Buffer.from(name) },
    }));
    const message = DeltaDiscoveryResponse.fromPartial({
      typeUrl,
      nonce,
      resources,
      removedResources: removed,
    });
    streams.at(-1)!.message(Buffer.from(DeltaDiscoveryResponse.encode(message).finish()));
    await turn();
  };

  test("asks for all clusters with its node, and for what is subscribed by name", async () => {
    await turn();
    client.subscribe(endpoints, "a");
    client.subscribe(endpoints, "b");
    client.subscribe(endpoints, "a");
    await turn();
    client.unsubscribe(endpoints, "a");
    client.unsubscribe(endpoints, "b");
    await turn();
    assert.deepEqual(
      sent.map((r) => [r.typeUrl, r.node?.id, r.resourceNamesSubscribe, r.resourceNamesUnsubscribe]),
      [
        [cluster, "me", [], []],
        [endpoints, "me", ["a", "b"], []],
        [endpoints, undefined, [], ["b"]],
      ],
    );
  });

  test("acknowledges what is good; refuses by name what is not, and takes the rest", async () => {
    await turn();
    sent = [];
    await respond(cluster, "1", { a: "1", b: "1" });
    await respond(cluster, "2", { a: "2", bad: "1" });
    assert.deepEqual(
      sent.map((r) => [r.responseNonce, r.errorDetail?.message]),
      [
        ["1", undefined],
        ["2", "bad: bad"],
      ],
    );
    assert.deepEqual(
      clusters.changed.map((all) => all.map(({ name }) => name)),
      [
        ["a", "b"],
        ["a", "bad"],
      ],
    );
    assert.equal(client.state.rejections.get(`${cluster} bad`), "bad");
    await respond(cluster, "3", {}, ["bad"]);
    assert.equal(client.state.rejections.size, 0);
    assert.deepEqual(clusters.removed, ["bad"]);
  });

  test("after an end it asks again, later each time, with the versions that it holds", async () => {
    await turn();
    client.subscribe(endpoints, "a");
    await turn();
    await respond(cluster, "1", { x: "7", bad: "1" });
    await respond(endpoints, "2", { a: "3" });
    sent = [];
    reachable = false;
    streams[0]!.ended("gone");
    await world.advance(120_000);
    assert.equal(client.state.connected, false);
    assert.equal(sent.length, 0);
    reachable = true;
    await world.advance(31_000);
    assert.deepEqual(
      sent.map((r) => [r.typeUrl, r.initialResourceVersions, r.resourceNamesSubscribe]),
      [
        [cluster, { x: "7" }, []],
        [endpoints, { a: "3" }, ["a"]],
      ],
    );
  });

  test("what an old stream still says is not heard", async () => {
    await turn();
    const [old] = streams;
    old!.ended("gone");
    await world.advance(31_000);
    assert.equal(streams.length, 2);
    old!.message(
      Buffer.from(
        DeltaDiscoveryResponse.encode(
          DeltaDiscoveryResponse.fromPartial({ typeUrl: cluster, nonce: "x", removedResources: ["a"] }),
        ).finish(),
      ),
    );
    old!.ended("again");
    await turn();
    assert.deepEqual(clusters.removed, []);
    await respond(cluster, "1", { a: "1" });
    assert.equal(sent.at(-1)?.responseNonce, "1");
  });
});

test("a server that does not let the connection come about is given up after 5 s", async () => {
  const world = new SimulatedWorld(3);
  const server = createServer(() => undefined); // it takes the bytes of TLS and says nothing
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const ended: string[] = [];
  const tls = { serverName: "discovery", roots: "" };
  const on = { opened: () => assert.fail(), message: () => assert.fail() };
  const stream = await openGrpcStream(world, { host: "127.0.0.1", port, tls }, "/", {
    ...on,
    ended: (reason) => ended.push(reason),
  });
  const [accepted] = await once(server, "connection");
  await world.advance(4_900);
  assert.deepEqual(ended, []);
  await world.advance(100);
  assert.deepEqual(ended, ["no connection within 5 s"]);
  stream.close();
  (accepted as Socket).destroy();
  server.close();
});

test("gRPC messages come whole, however the bytes are cut", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 40 })), fc.array(fc.nat(30)), (messages, cuts) => {
      const bytes = Buffer.concat(
        messages.flatMap((message) => {
          const head = Buffer.alloc(5);
          head.writeUInt32BE(message.length, 1);
          return [head, Buffer.from(message)];
        }),
      );
      const got: Buffer[] = [];
      const read = cutMessages(1024 * 1024, (message) => got.push(Buffer.from(message)));
      let at = 0;
      for (const cut of [...cuts, bytes.length]) {
        assert.equal(read(bytes.subarray(at, at + cut)), undefined);
        at += cut;
        if (at >= bytes.length) break;
      }
      assert.deepEqual(
        got,
        messages.map((message) => Buffer.from(message)),
      );
    }),
  );
});
