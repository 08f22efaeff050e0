/** The protocol under a simulated clock: order, merging, removal, rejection. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { DeltaDiscoveryRequest } from "#protocols/envoy/service/discovery/v3/discovery.ts";
import { typeUrls } from "./encode/index.ts";
import { encoded } from "./encode/pack.ts";
import { Session } from "./session.ts";
import { Bench, Clock, type Sent } from "./testing/session.ts";

const texts = (sent: Sent[]) =>
  sent.map(
    ({ kind, names, removed }) => `${kind} ${[...names, ...removed.map((name) => `-${name}`)].join(",")}`,
  );

/** A client that has a cluster with endpoints, a listener and a route to it. */
function started(): Bench {
  const bench = new Bench();
  bench.change(
    ["cluster", "a", "1"],
    ["endpoints", "a", "1"],
    ["listener", "l", "1"],
    ["route", "r", "to a"],
  );
  bench.ask("cluster");
  bench.settle();
  bench.ask("listener");
  bench.settle();
  bench.ask("route", ["r"]);
  bench.settle();
  bench.world.advance(1_000);
  assert.equal(bench.session.settled, true);
  return bench;
}

test("what cannot be made for a client is told of its session, and nowhere thrown", () => {
  const faults: unknown[] = [];
  const world = new Clock();
  let broken = false;
  const session = new Session({
    world,
    view: {
      known: true,
      find(kind, name) {
        if (broken) throw new Error("a bug");
        return encoded(kind, name, Buffer.from("x"));
      },
      nameOf: (_kind, name) => name,
      names: () => ["a"],
      endpointsOf: () => undefined,
    },
    systemVersion: () => "1",
    send: () => {},
    onFault: (error) => faults.push(error),
  });
  session.receive({
    typeUrl: typeUrls.listener,
    resourceNamesSubscribe: [],
    resourceNamesUnsubscribe: [],
    initialResourceVersions: {},
    responseNonce: "",
  });
  broken = true;
  session.receive({
    typeUrl: typeUrls.listener,
    resourceNamesSubscribe: [],
    resourceNamesUnsubscribe: [],
    initialResourceVersions: {},
    responseNonce: "1",
  });
  session.changed("listener", ["a"]);
  session.push();
  world.advance(100);
  assert.equal(faults.length, 1);
});

test("clusters come first, then their endpoints, then what leads there", () => {
  const bench = new Bench();
  bench.change(
    ["cluster", "a", "1"],
    ["endpoints", "a", "1"],
    ["listener", "l", "1"],
    ["route", "r", "to a"],
  );
  bench.ask("cluster");
  bench.ask("listener");
  bench.ask("route", ["r"]);
  assert.deepEqual(texts(bench.sent), ["cluster a"]);
  assert.deepEqual(texts(bench.settle()), ["cluster a", "endpoints a", "listener l", "route r"]);
});

test("a route to a new cluster waits for the cluster and its endpoints; the old cluster goes last", () => {
  const bench = started();
  bench.change(["cluster", "b", "1"], ["endpoints", "b", "1"], ["route", "r", "to b"], ["cluster", "a", ""]);
  const [cluster, ...rest] = bench.take();
  assert.deepEqual(texts([cluster!, ...rest]), ["cluster b"]);
  bench.answer(cluster!);
  assert.deepEqual(bench.take(), []); // the client has not asked for the endpoints yet
  bench.ask("endpoints", ["b"]);
  const [endpoints] = bench.take();
  assert.deepEqual(texts([endpoints!]), ["endpoints b"]);
  bench.answer(endpoints!);
  const [route] = bench.take();
  assert.deepEqual(texts([route!]), ["route r"]);
  bench.answer(route!);
  assert.deepEqual(texts(bench.take()), ["cluster -a"]);
});

test("a route does not wait for ever for a client that asks for no endpoints", () => {
  const bench = started();
  bench.change(["cluster", "b", "1"], ["route", "r", "to b"]);
  bench.answer(bench.take()[0]!);
  bench.world.advance(1_900);
  assert.deepEqual(bench.take(), []);
  bench.world.advance(200);
  assert.deepEqual(texts(bench.take()), ["route r"]);
});

test("a cluster that changes is followed by its endpoints, though they are the same", () => {
  const bench = started();
  bench.change(["cluster", "a", "2"]);
  assert.deepEqual(texts(bench.take()), ["cluster a", "endpoints a"]);
});

test("the first change goes at once; what comes within 10 ms, or before the answer, goes together", () => {
  const bench = started();
  bench.change(["endpoints", "a", "2"]);
  assert.deepEqual(texts(bench.take()), ["endpoints a"]);
  bench.change(["endpoints", "a", "3"]);
  bench.world.advance(100);
  assert.deepEqual(bench.take(), []); // not answered yet
  bench.change(["endpoints", "a", "4"]);
  bench.world.advance(100);
  bench.ask("endpoints", [], { responseNonce: "999" }); // an answer to nothing
  assert.deepEqual(bench.take(), []);
  bench.ask("endpoints", [], { responseNonce: String(nonceOf(bench)) });
  const [merged] = bench.take();
  assert.equal(merged?.versions.get("a"), encoded("endpoints", "a", Buffer.from("4")).version);
  bench.answer(merged!);
  bench.change(["endpoints", "a", "5"]);
  assert.deepEqual(bench.take(), []);
  bench.world.advance(10);
  assert.deepEqual(texts(bench.take()), ["endpoints a"]);
});

/** The nonce of the response that is under way. */
function nonceOf(bench: Bench): number {
  return bench.session.sent.responses;
}

test("who comes back says what it has, and gets what differs", () => {
  const bench = new Bench();
  bench.change(["cluster", "same", "1"], ["cluster", "newer", "2"]);
  const version = (name: string, text: string) => encoded("cluster", name, Buffer.from(text)).version;
  bench.ask("cluster", [], {
    initialResourceVersions: { same: version("same", "1"), newer: version("newer", "1"), gone: "x" },
  });
  assert.deepEqual(texts(bench.take()), ["cluster newer,-gone"]);
});

test("who asks for what there is not is told so, once, and gets it when it comes", () => {
  const bench = new Bench();
  bench.ask("route", ["r"]);
  assert.deepEqual(texts(bench.settle()), ["route -r"]);
  bench.world.advance(100);
  bench.change(["route", "other", "1"]);
  assert.deepEqual(texts(bench.settle()), []);
  bench.change(["route", "r", "1"]);
  assert.deepEqual(texts(bench.settle()), ["route r"]);
});

test("who asks again gets it again; who let go hears no more of it", () => {
  const bench = started();
  bench.ask("endpoints", ["a"]);
  assert.deepEqual(texts(bench.settle()), ["endpoints a"]);
  bench.ask("endpoints", [], { resourceNamesUnsubscribe: ["a"] });
  bench.world.advance(100);
  bench.change(["endpoints", "a", "2"]);
  assert.deepEqual(bench.take(), []);
});

test("nothing is sent while it is not known what to send (law 7)", () => {
  const bench = started();
  bench.known = false;
  bench.change(["cluster", "a", ""], ["route", "r", ""]);
  bench.world.advance(60_000);
  assert.deepEqual(bench.take(), []);
  bench.known = true;
  bench.session.push();
  assert.notDeepEqual(bench.take(), []);
});

test("a plain ACK of what is under way is known by its bytes, and nothing else is", () => {
  const bench = new Bench();
  bench.wanted.cluster.set("a", "1");
  bench.ask("cluster");
  const [first] = bench.take();
  const { nonce } = first!;
  const requests = {
    refusal: { responseNonce: nonce, errorDetail: { code: 13, message: "no" } },
    more: { responseNonce: nonce, resourceNamesSubscribe: ["b"] },
    less: { responseNonce: nonce, resourceNamesUnsubscribe: ["a"] },
    older: { responseNonce: `${Number(nonce) - 1}` },
    nothing: {},
  };
  const bytes = (request: object, typeUrl: string = typeUrls.cluster) =>
    Buffer.from(
      DeltaDiscoveryRequest.encode(DeltaDiscoveryRequest.fromPartial({ typeUrl, ...request })).finish(),
    );
  for (const [what, request] of Object.entries(requests))
    assert.equal(bench.session.acknowledges(bytes(request)), false, what);
  assert.equal(bench.session.acknowledges(bytes({ responseNonce: nonce }, typeUrls.listener)), false);
  assert.equal(bench.session.status("cluster").state, "stale");
  assert.equal(bench.session.acknowledges(bytes({ responseNonce: nonce })), true);
  assert.equal(bench.session.status("cluster").state, "synced");
  assert.equal(bench.session.acknowledges(bytes({ responseNonce: nonce })), false, "twice");
});

test("what a client rejects is found by halves, not sent again, and cleared by the next version", () => {
  const bench = new Bench();
  for (const name of ["a", "b", "c", "d", "e"]) bench.wanted.cluster.set(name, name === "d" ? "bad" : "good");
  const judge = () => {
    let rounds = 0;
    for (let next = bench.take(); next.length > 0; next = bench.take()) {
      for (const each of next) {
        rounds++;
        const bad = each.names.includes("d") && bench.wanted.cluster.get("d") === "bad";
        bench.answer(each, bad ? "no d, please" : undefined);
      }
    }
    return rounds;
  };
  bench.ask("cluster");
  assert.ok(judge() <= 7);
  const { state, rejected, resources } = bench.session.status("cluster");
  assert.equal(state, "rejected");
  assert.deepEqual(
    rejected.map(({ name, reason }) => [name, reason]),
    [["d", "no d, please"]],
  );
  assert.equal(resources, 4);
  bench.world.advance(100);
  bench.change(["cluster", "a", "changed"]);
  assert.equal(judge(), 1);
  bench.world.advance(100);
  bench.change(["cluster", "d", "mended"]);
  assert.equal(judge(), 1);
  assert.equal(bench.session.status("cluster").state, "synced");
});

test("a cluster that is no longer wanted stays while a route is rejected that does without it", () => {
  const bench = started();
  bench.change(["route", "r", "broken"], ["cluster", "a", ""]);
  const [route] = bench.take();
  assert.deepEqual(texts([route!]), ["route r"]);
  bench.answer(route!, "broken");
  bench.world.advance(60_000);
  assert.deepEqual(bench.take(), []);
  bench.change(["route", "r", "mended"]);
  assert.deepEqual(texts(bench.settle()), ["route r", "cluster -a"]);
});

test("what was to be removed with a resource that is rejected is removed without it", () => {
  const bench = new Bench();
  bench.ask("route", ["a", "c"]);
  bench.change(["route", "a", "1"], ["route", "c", "1"]);
  bench.world.advance(100);
  bench.settle();
  bench.world.advance(100);
  bench.change(["route", "a", "bad"], ["route", "c", ""]);
  const [both] = bench.take();
  assert.deepEqual([both!.names, both!.removed], [["a"], ["c"]]);
  bench.answer(both!, "no");
  const [rest] = bench.take();
  assert.deepEqual([rest!.names, rest!.removed], [[], ["c"]]);
  // A client that will not let go of it is not asked again and again.
  bench.answer(rest!, "never");
  bench.world.advance(1_000);
  assert.deepEqual(bench.take(), []);
});
