/** The protocol under random histories: what a client has in the end, and what it never has on the way. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Kind } from "./encode/index.ts";
import { encoded } from "./encode/pack.ts";
import { Bench, nothing, type Sent } from "./testing/session.ts";

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
