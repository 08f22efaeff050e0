/** The protocol under a simulated clock: order, merging, removal, rejection; and random histories. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  DeltaDiscoveryRequest,
  DeltaDiscoveryResponse,
} from "#protocols/envoy/service/discovery/v3/discovery.ts";
import type { Timer, World } from "../world/index.ts";
import { type Encoded, type Kind, typeUrls } from "./encode/index.ts";
import { encoded } from "./encode/pack.ts";
import { type Request, Session } from "./session.ts";

const kindOf = new Map<string, Kind>(Object.entries(typeUrls).map(([kind, url]) => [url, kind as Kind]));

/** What a client is to have, by hand: kind → name → a text that stands for the contents. */
type Wanted = Record<Kind, Map<string, string>>;
const nothing = (): Wanted => ({
  cluster: new Map(),
  endpoints: new Map(),
  listener: new Map(),
  route: new Map(),
  secret: new Map(),
});

interface Sent {
  kind: Kind;
  names: string[];
  removed: string[];
  nonce: string;
  versions: Map<string, string>;
}

/** A clock that moves when it is told to, and does at once what is due: the protocol needs no more of a world. */
class Clock implements World {
  #now = 0;
  #timers: { at: number; wake: () => void }[] = [];
  now = () => this.#now;
  monotonic = () => this.#now;
  random = () => 0.5;
  bytes = (length: number) => new Uint8Array(length);

  after(delay: number, wake: () => void): Timer {
    const timer = { at: this.#now + delay, wake };
    this.#timers.push(timer);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((each) => each !== timer);
      },
    };
  }

  advance(duration: number): void {
    const end = this.#now + duration;
    for (;;) {
      const next = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.#timers = this.#timers.filter((each) => each !== next);
      this.#now = next.at;
      next.wake();
    }
    this.#now = end;
  }
}

/** A session with a client that answers when it is told to. */
class Bench {
  readonly world = new Clock();
  readonly wanted = nothing();
  readonly sent: Sent[] = [];
  readonly held = nothing();
  known = true;
  #acknowledged = 0;
  readonly session: Session;

  constructor() {
    this.session = new Session({
      world: this.world,
      view: this.#view(),
      systemVersion: () => "1",
      send: (message) => {
        const bytes = Buffer.concat(message).subarray(5); // its gRPC head aside
        const { typeUrl, resources, removedResources, nonce } = DeltaDiscoveryResponse.decode(bytes);
        this.sent.push({
          kind: kindOf.get(typeUrl)!,
          names: resources.map(({ name }) => name),
          removed: removedResources,
          nonce,
          versions: new Map(resources.map(({ name, version }) => [name, version])),
        });
      },
    });
  }

  #view() {
    const bench = this;
    const find = (kind: Kind, name: string): Encoded | undefined => {
      const text = bench.wanted[kind].get(name);
      return text === undefined ? undefined : encoded(kind, name, Buffer.from(text));
    };
    return {
      get known() {
        return bench.known;
      },
      find,
      nameOf: (_kind: Kind, name: string) => name,
      names: (kind: Kind) => bench.wanted[kind].keys(),
      endpointsOf: (cluster: string) => (bench.wanted.cluster.has(cluster) ? cluster : undefined),
    };
  }

  ask(kind: Kind, names: string[] = [], more: Partial<Request> = {}): void {
    this.session.receive({
      typeUrl: typeUrls[kind],
      resourceNamesSubscribe: names,
      resourceNamesUnsubscribe: [],
      initialResourceVersions: {},
      responseNonce: "",
      ...more,
    });
  }

  /** Changes what is wanted and pushes it; an empty text takes it away. */
  change(...changes: [kind: Kind, name: string, text: string][]): void {
    for (const [kind, name, text] of changes) {
      if (text === "") this.wanted[kind].delete(name);
      else this.wanted[kind].set(name, text);
      this.session.changed(kind, [name]);
    }
    this.session.push();
  }

  /** Every other plain ACK is known by its bytes. */
  answer({ kind, nonce }: Sent, reason?: string): void {
    if (reason === undefined && this.#acknowledged++ % 2 === 0) {
      const request = DeltaDiscoveryRequest.fromPartial({ typeUrl: typeUrls[kind], responseNonce: nonce });
      const bytes = Buffer.from(DeltaDiscoveryRequest.encode(request).finish());
      if (this.session.acknowledges(bytes)) return;
    }
    this.ask(kind, [], {
      responseNonce: nonce,
      ...(reason && { errorDetail: { code: 13, message: reason } }),
    });
  }

  /** Takes what has been sent since the last call. */
  take(): Sent[] {
    return this.sent.splice(0);
  }

  /** Answers everything well until nothing comes any more; what was sent, in order. */
  settle(): Sent[] {
    const all: Sent[] = [];
    for (let next = this.take(); next.length > 0; next = this.take()) {
      for (const each of next) {
        all.push(each);
        this.answer(each);
        // As Envoy: it asks for the endpoints of clusters that it got.
        if (each.kind === "cluster" && each.names.length > 0) this.ask("endpoints", each.names);
      }
    }
    return all;
  }
}

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

test("any history: a client that takes what is well has in the end exactly what it is to have", () => {
  const kind = fc.constantFrom<Kind>("cluster", "endpoints", "listener", "route");
  const name = fc.constantFrom("a", "b", "c");
  const step = fc.oneof(
    {
      weight: 5,
      arbitrary: fc.tuple(fc.constant("change" as const), kind, name, fc.constantFrom("", "1", "2", "bad")),
    },
    { weight: 3, arbitrary: fc.tuple(fc.constant("answer" as const), fc.nat(5)) },
    { weight: 2, arbitrary: fc.tuple(fc.constant("wait" as const), fc.nat(3_000)) },
    { weight: 1, arbitrary: fc.tuple(fc.constant("known" as const), fc.boolean()) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const bench = new Bench();
      const held = nothing();
      const pending: Sent[] = [];
      const receive = () => pending.push(...bench.take());
      const answer = (each: Sent) => {
        const bad = [...each.versions].some(
          ([name, version]) => version === encoded(each.kind, name, Buffer.from("bad")).version,
        );
        if (!bad) {
          for (const [name, version] of each.versions) held[each.kind].set(name, version);
          for (const name of each.removed) held[each.kind].delete(name);
        }
        bench.answer(each, bad ? "bad" : undefined);
      };
      bench.ask("cluster");
      bench.ask("listener");
      bench.ask("endpoints", ["a", "b", "c"]);
      bench.ask("route", ["a", "b", "c"]);
      for (const each of steps) {
        receive();
        if (each[0] === "change") bench.change([each[1], each[2], each[3]]);
        else if (each[0] === "wait") bench.world.advance(each[1]);
        else if (each[0] === "known") {
          bench.known = each[1];
          bench.session.push();
        } else if (pending.length > 0) answer(pending.splice(each[1] % pending.length, 1)[0]!);
      }
      bench.known = true;
      bench.session.push();
      for (let i = 0; i < 200 && (i < 100 || !bench.session.settled); i++) {
        receive();
        for (const each of pending.splice(0)) answer(each);
        bench.world.advance(100);
      }
      for (const kind of ["cluster", "endpoints", "listener", "route"] as const) {
        for (const name of ["a", "b", "c"]) {
          const text = bench.wanted[kind].get(name);
          const wanted = text && encoded(kind, name, Buffer.from(text)).version;
          const has = held[kind].get(name);
          // Of what is bad it keeps what it had; of clusters that a rejected route may lead to, too.
          if (text === "bad") assert.notEqual(has, wanted);
          else if (
            text === undefined &&
            kind === "cluster" &&
            bench.session.status("route").state === "rejected"
          )
            continue;
          else if (
            text === undefined &&
            kind === "cluster" &&
            bench.session.status("listener").state === "rejected"
          )
            continue;
          else assert.equal(has, wanted || undefined, `${kind} ${name}`);
          assert.equal(bench.session.held(kind).get(name), has);
        }
      }
    }),
    { numRuns: 300 },
  );
});

test("any history: a client never has a route to a cluster that it does not have, endpoints and all (law 9)", () => {
  const names = ["a", "b", "c", "d"];
  const generation = fc.record({
    clusters: fc.subarray(names, { minLength: 1 }),
    to: fc.nat(3),
    contents: fc.constantFrom("1", "2"),
  });
  const step = fc.oneof(
    { weight: 2, arbitrary: generation },
    { weight: 5, arbitrary: fc.constant("answer" as const) },
    { weight: 2, arbitrary: fc.nat(30) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const bench = new Bench();
      const clusters = new Map<string, boolean>(); // name → whether its endpoints have come since
      let routeTo: string | undefined;
      const contents = new Map<string, string>();
      const pending: Sent[] = [];
      const put = ({
        clusters,
        to,
        contents: text,
      }: {
        clusters: string[];
        to: number;
        contents: string;
      }) => {
        const target = clusters[to % clusters.length]!;
        contents.set(encoded("route", "r", Buffer.from(`to ${target}`)).version, target);
        bench.change(
          ...names.map((name): [Kind, string, string] => [
            "cluster",
            name,
            clusters.includes(name) ? text : "",
          ]),
          ...names.map((name): [Kind, string, string] => [
            "endpoints",
            name,
            clusters.includes(name) ? "1" : "",
          ]),
          ["listener", "l", "1"],
          ["route", "r", `to ${target}`],
        );
      };
      const check = () => {
        if (routeTo !== undefined) assert.equal(clusters.get(routeTo), true, `the route leads to ${routeTo}`);
      };
      // As Envoy, in the order of the stream: a cluster that is new or has changed is used once its endpoints have come;
      // until then the one before stays in use.
      const answer = (each: Sent) => {
        if (each.kind === "cluster") {
          for (const name of each.names) if (!clusters.has(name)) clusters.set(name, false);
          for (const name of each.removed) clusters.delete(name);
        }
        if (each.kind === "endpoints")
          for (const name of each.names) if (clusters.has(name)) clusters.set(name, true);
        if (each.kind === "route") routeTo = contents.get(each.versions.get("r") ?? "") ?? routeTo;
        check();
        bench.answer(each);
        if (each.kind !== "cluster") return;
        if (each.names.length > 0) bench.ask("endpoints", each.names);
        if (each.removed.length > 0) bench.ask("endpoints", [], { resourceNamesUnsubscribe: each.removed });
      };
      put({ clusters: ["a"], to: 0, contents: "1" });
      bench.ask("cluster");
      bench.ask("listener");
      bench.ask("route", ["r"]);
      for (const each of [...steps, ...Array.from({ length: 60 }, () => "answer" as const)]) {
        pending.push(...bench.take());
        if (typeof each === "object") put(each);
        else if (typeof each === "number") bench.world.advance(each);
        else if (pending.length > 0) answer(pending.shift()!);
        else bench.world.advance(10);
      }
      for (const kind of ["cluster", "endpoints", "listener", "route"] as const)
        assert.equal(bench.session.status(kind).state, "synced", kind);
    }),
    { numRuns: 1_000 },
  );
});
