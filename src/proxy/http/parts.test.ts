import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SimulatedWorld } from "../../world/index.ts";
import type { Downstream, StreamFacts } from "../contract.ts";
import { compileStringMatcher } from "../strings.ts";
import { Deadline, Deadlines } from "./deadlines.ts";
import { Bucket } from "./filter-rate-limit.ts";
import { compileFormat } from "./format.ts";
import { fieldName, Headers } from "./headers.ts";
import { Http1Parser } from "./http1-parser.ts";
import { requestHead, responseHead } from "./http1-writer.ts";
import { normalizePath } from "./paths.ts";
import { peerMetadata, readPeer } from "./peer-metadata.ts";
import { queryParameter } from "./route-match.ts";

test("header fields: set, add, append and remove do what a list of pairs would", () => {
  const name = fc.constantFrom("a", "b", "c");
  const step = fc.record({ what: fc.constantFrom("set", "add", "append", "remove"), name, value: fc.constantFrom("1", "2", "") });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
      const headers = new Headers();
      let plain: [string, string][] = [];
      for (const { what, name, value } of steps) {
        const at = plain.findIndex(([n]) => n === name);
        if (what === "set") {
          headers.set(name, value);
          plain = at < 0 ? [...plain, [name, value]] : plain.flatMap((pair, i): [string, string][] => (i === at ? [[name, value]] : pair[0] === name ? [] : [pair]));
        } else if (what === "add") {
          headers.add(name, value);
          plain.push([name, value]);
        } else if (what === "append") {
          headers.append(name, value);
          if (at < 0) plain.push([name, value]);
          else plain[at] = [name, plain[at]![1] === "" ? value : `${plain[at]![1]},${value}`];
        } else {
          assert.equal(headers.remove(name), at >= 0);
          plain = plain.filter(([n]) => n !== name);
        }
        assert.deepEqual(headers.flat, plain.flat());
        assert.equal(headers.get(name), plain.find(([n]) => n === name)?.[1]);
      }
    }),
  );
}); // biome-ignore format: a model

test("field names are tokens, in lower case", () => {
  assert.equal(fieldName("X-Some-Name"), "x-some-name");
  for (const bad of ["", "a b", "a:", "ä", "a\0", "(a)"]) assert.equal(fieldName(bad), undefined, bad);
});

test("what we write our parser reads", () => {
  const token = fc.stringMatching(/^[a-z][a-z0-9-]{0,10}$/).filter((name) => !["host", "connection", "upgrade", "content-length", "transfer-encoding"].includes(name)); // biome-ignore format: one line
  const value = fc.stringMatching(/^([!-~]([ -~]{0,20}[!-~])?)?$/);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(token, value), { maxLength: 8 }),
      fc.boolean(),
      fc.boolean(),
      (fields, end, length) => {
        const headers = new Headers(fields.flat());
        if (!end && length) headers.add("content-length", "5");
        const read = (kind: "request" | "response", text: string) => {
          let flat: string[] = [];
          const parser = new Http1Parser(
            kind,
            {
              onHead: (p) => {
                flat = p.headers.flat;
                return false;
              },
              onBody: () => undefined,
              onComplete: () => undefined,
              onError: (error) => assert.fail(error.details),
            },
            { headBytes: 61_440, headerCount: 100 },
          );
          parser.execute(Buffer.from(text, "latin1"));
          return [parser.framing, flat.slice(0, fields.length * 2)];
        };
        const head = { method: "POST", path: "/", authority: "a", scheme: "http", headers };
        const wanted = end ? "none" : length ? "length" : "chunked";
        assert.deepEqual(read("request", requestHead(head, end, undefined).text), [wanted, fields.flat()]);
        const options = {
          end,
          toHead: false,
          close: false,
          keepAlive10: false,
          http10: false,
          upgrade: undefined,
        };
        assert.deepEqual(read("response", responseHead(200, headers, options).text), [wanted, fields.flat()]);
      },
    ),
  );
});

test("deadlines fire in time, once, and not when cancelled", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ after: fc.constantFrom(5, 10, 50), wait: fc.nat(20), cancel: fc.option(fc.nat(60)) }), { maxLength: 30 }),
      async (plan) => {
        const world = new SimulatedWorld(1);
        const deadlines = new Deadlines(world, (error) => assert.ifError(error));
        const fired = new Map<number, number>();
        const wanted = new Map<number, number>();
        for (const [i, { after, wait, cancel }] of plan.entries()) {
          const deadline = new Deadline({ onDeadline: (kind) => fired.set(kind, world.monotonic()), onBug: (error) => assert.ifError(error) }, i);
          deadlines.set(deadline, after);
          const due = world.monotonic() + after;
          if (cancel === null || cancel >= after) wanted.set(i, due);
          else world.after(cancel, () => deadline.cancel());
          await world.advance(wait);
        }
        await world.advance(200);
        assert.deepEqual([...fired.keys()].sort(), [...wanted.keys()].sort());
        for (const [i, at] of fired) assert.ok(at - wanted.get(i)! >= -0.5 && at - wanted.get(i)! < 1, `${i}: ${at}`);
      },
    ),
  );
}); // biome-ignore format: a model

test("token buckets give what they hold, and what comes back with time", () => {
  const bucket = new Bucket(2, 1 / 1000);
  assert.deepEqual([bucket.take(0), bucket.take(0), bucket.take(0)], [true, true, false]);
  assert.deepEqual([bucket.take(999), bucket.take(1000), bucket.take(1000)], [false, true, false]);
  assert.deepEqual([bucket.take(99_000), bucket.take(99_000), bucket.take(99_000)], [true, true, false]);
});

test("paths: a normalized path stays as it is, and has no dots to go by", () => {
  const wanted = { normalizePath: true, mergeSlashes: true, escapedSlashes: "forward" as const };
  const part = fc.constantFrom("/", ".", "..", "a", "%2e", "%2F", "\\", "%5c", "//", "b", "%41", "?", "{");
  fc.assert(
    fc.property(fc.array(part, { maxLength: 12 }), (parts) => {
      const once = normalizePath(`/${parts.join("")}`, wanted);
      assert.ok(typeof once === "string" && once.startsWith("/"));
      const plain = once.split("?")[0]!;
      assert.doesNotMatch(plain, /(^|\/)\.\.?(\/|$)|\/\/|\\/);
      assert.equal(normalizePath(once, wanted), once);
    }),
  );
});

test("query parameters: the first of a name, as it is written", () => {
  assert.equal(queryParameter("/a?b=1&b=2", "b"), "1");
  assert.equal(queryParameter("/a?bb=1&b", "b"), "");
  assert.equal(queryParameter("/a?c=b=1", "b"), undefined);
  assert.equal(queryParameter("/a", "b"), undefined);
  assert.equal(queryParameter("/a?b=%20#b=2", "b"), "%20");
});

test("format strings: operators, their arguments and lengths, and what there is not", () => {
  const facts = {
    start: Date.UTC(2026, 10, 20, 12, 0, 0, 7),
    duration: 12.7,
    responseCode: 503,
    flags: ["URX", "UF"],
    bytesReceived: 1,
    bytesSent: 2,
    downstream: { remote: { ip: "10.0.0.1", port: 80 } } as Downstream,
    requestHeader: (name: string) => ({ ":path": "/p", "x-long": "abcdef" })[name],
  } satisfies StreamFacts;
  const print = (format: string) => compileFormat(format, "-")(facts);
  assert.equal(print("%RESPONSE_CODE% %RESPONSE_FLAGS% %DURATION%%%"), "503 URX,UF 12%");
  assert.equal(print("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %REQ(X-LONG):3% %REQ(nothing)%"), "/p abc -");
  assert.equal(
    print("%START_TIME% %START_TIME(%Y/%m/%dT%H:%M:%S.%3f)%"),
    "2026-11-20T12:00:00.007Z 2026/11/20T12:00:00.007",
  );
  assert.equal(print("%DOWNSTREAM_REMOTE_ADDRESS% %UPSTREAM_HOST%"), "10.0.0.1:80 -");
  for (const bad of ["%NOTHING%", "%REQ%", "%RESPONSE_CODE", "100 %"]) {
    assert.throws(() => compileFormat(bad, "-"), { name: "Unservable" }, bad);
  }
});

test("who we are comes through the header, and nonsense is unknown", () => {
  const node = {
    id: "sidecar~10.0.0.1~a.demo~demo.svc.cluster.local",
    cluster: "a",
    metadata: { WORKLOAD_NAME: "a-v1", NAMESPACE: "demo", CLUSTER_ID: "c1", LABELS: { app: "a", version: "v1", secret: "no" } },
    locality: { region: "", zone: "", subZone: "" },
  }; // biome-ignore format: one line
  const told = peerMetadata(node)!;
  assert.equal(told.id, node.id);
  assert.doesNotMatch(Buffer.from(told.metadata, "base64").toString("latin1"), /secret/);
  const { workload, namespace, app, version, cluster, canonicalService } = readPeer(told.metadata);
  assert.deepEqual(
    [workload, namespace, app, version, cluster, canonicalService],
    ["a-v1", "demo", "a", "v1", "c1", "a"],
  );
  assert.equal(readPeer("%%%").workload, "unknown");
  assert.equal(readPeer(undefined).workload, "unknown");
});

test("expressions that backtrack take no time to speak of", () => {
  const test = compileStringMatcher({
    matchPattern: { $case: "safeRegex", value: { regex: "(a+)+b|(a|aa)+c|(.*)*d" } },
    ignoreCase: false,
  });
  // V8's own way out knows no flags and no larger counts.
  const more = compileStringMatcher({
    matchPattern: { $case: "safeRegex", value: { regex: "(?i)(A+)+b|(a{1,63})+c" } },
    ignoreCase: false,
  });
  const before = process.cpuUsage();
  assert.equal(test("a".repeat(4000)), false);
  assert.equal(test(`${"a".repeat(4000)}b`), true);
  assert.equal(more("a".repeat(4000)), false);
  assert.equal(more(`${"a".repeat(4000)}B`), true);
  const { user, system } = process.cpuUsage(before);
  assert.ok(user + system < 1_000_000, `${user + system} µs`);
});
