import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type DnsRecord, type DnsRow, recordKey, reverseName } from "./records.ts";
import { Zones } from "./zones.ts";

const a = (name: string, data: string): DnsRecord => ({ name, type: "A", ttl: 5, data });

function zones(): Zones {
  const all = new Zones();
  all.add({ name: "cluster.local" });
  return all;
}

const shown = (all: Zones, name: string, type = "A") =>
  all
    .find(name)
    ?.sets?.(type)
    .map(({ data }) => data);

describe("zones", () => {
  test("a name outside every zone is not ours", () => {
    assert.equal(zones().find("example.org"), undefined);
    assert.equal(zones().find("local"), undefined);
    assert.equal(zones().find("othercluster.local"), undefined);
  });

  test("a name that leads to others exists without records of its own", () => {
    const all = zones();
    all.put(a("serve.demo.svc.cluster.local", "10.11.0.1"));
    assert.deepEqual(shown(all, "serve.demo.svc.cluster.local"), ["10.11.0.1"]);
    assert.deepEqual(shown(all, "demo.svc.cluster.local"), []);
    assert.deepEqual(shown(all, "cluster.local"), [], "the apex always exists");
    assert.equal(shown(all, "other.svc.cluster.local"), undefined);
    all.remove(a("serve.demo.svc.cluster.local", "10.11.0.1"));
    assert.equal(shown(all, "demo.svc.cluster.local"), undefined);
    assert.equal(all.size, 0);
  });

  test("equal records count: a record goes when the last of them goes", () => {
    const all = zones();
    all.put(a("x.cluster.local", "1.1.1.1"));
    all.put(a("x.cluster.local", "1.1.1.1"));
    assert.deepEqual(shown(all, "x.cluster.local"), ["1.1.1.1"]);
    all.remove(a("x.cluster.local", "1.1.1.1"));
    assert.deepEqual(shown(all, "x.cluster.local"), ["1.1.1.1"]);
    all.remove(a("x.cluster.local", "1.1.1.1"));
    assert.equal(shown(all, "x.cluster.local"), undefined);
  });

  test("names that nobody can ask for are left out", () => {
    const all = zones();
    all.put(a(`${"x".repeat(64)}.cluster.local`, "1.1.1.1"));
    all.put(a(`${"abcdefghi.".repeat(25)}cluster.local`, "1.1.1.1"));
    all.put(a("a..cluster.local", "1.1.1.1"));
    assert.equal(all.size, 0);
    all.put(a(`${"x".repeat(63)}.cluster.local`, "1.1.1.1"));
    assert.equal(all.size, 1);
  });

  test("computed names are asked for where nothing is kept", () => {
    const all = new Zones();
    all.add({
      name: "cluster.local",
      computed: (name) =>
        name.startsWith("1-") ? [a(name, "1.0.0.0")] : name === "empty.cluster.local" ? [] : undefined,
    });
    assert.deepEqual(shown(all, "1-0-0-0.cluster.local"), ["1.0.0.0"]);
    assert.deepEqual(shown(all, "empty.cluster.local"), []);
    assert.equal(shown(all, "2-0-0-0.cluster.local"), undefined);
  });

  test("at 1,000 services and 10,000 endpoints a change costs what changed, a lookup next to nothing", () => {
    const all = zones();
    for (let s = 0; s < 1000; s++) {
      for (let e = 0; e < 10; e++) all.put(a(`s${s}.demo.svc.cluster.local`, `10.10.${s & 255}.${e}`));
    }
    for (let e = 0; e < 10_000; e++) all.put(a("big.demo.svc.cluster.local", `10.20.${e >> 8}.${e & 255}`));
    const start = performance.now();
    for (let i = 0; i < 10_000; i++) {
      all.remove(a("big.demo.svc.cluster.local", `10.20.${i >> 8}.${i & 255}`));
      all.put(a("big.demo.svc.cluster.local", `10.30.${i >> 8}.${i & 255}`));
      assert.equal(all.find(`s${i % 1000}.demo.svc.cluster.local`)?.sets?.("A").length, 10);
    }
    assert.ok(performance.now() - start < 2000, "10,000 changes within 2 s, so far below 1 ms each");
  });
});

describe("a followed collection", () => {
  /** A collection as the engine has it: rows that are there are not repeated to those who come later. */
  class Rows {
    readonly #rows = new Map<string, DnsRow>();
    readonly #sinks = new Set<(changes: { before?: DnsRow; after?: DnsRow }[]) => void>();
    entries = () => this.#rows.entries();
    subscribe(sink: (changes: { before?: DnsRow; after?: DnsRow }[]) => void) {
      this.#sinks.add(sink);
      return () => this.#sinks.delete(sink);
    }
    batch(changes: [string, DnsRow | undefined][]) {
      const told = changes.map(([key, after]) => {
        const before = this.#rows.get(key);
        if (after) this.#rows.set(key, after);
        else this.#rows.delete(key);
        return { ...(before && { before }), ...(after && { after }) };
      });
      for (const sink of this.#sinks) sink(told);
    }
  }

  test("brings what is there and what comes, and takes all with it when it ends", () => {
    const rows = new Rows();
    const all = zones();
    rows.batch([["1", a("x.cluster.local", "1.1.1.1")]]);
    const end = all.follow(rows);
    assert.deepEqual(shown(all, "x.cluster.local"), ["1.1.1.1"]);
    rows.batch([
      ["1", a("x.cluster.local", "2.2.2.2")],
      ["2", [a("x.cluster.local", "3.3.3.3"), a("y.cluster.local", "4.4.4.4")]],
    ]);
    assert.deepEqual(shown(all, "x.cluster.local"), ["2.2.2.2", "3.3.3.3"]);
    end();
    assert.equal(all.size, 0);
  });

  test("after any history it holds what its rows hold", () => {
    const record = fc
      .tuple(
        fc.constantFrom("a", "b", "a.b", "c.a.b", "b.b"),
        fc.nat(30),
        fc.constantFrom("A" as const, "AAAA" as const),
      )
      .map(
        ([label, n, type]): DnsRecord => ({
          name: `${label}.cluster.local`,
          type,
          ttl: 5,
          data: type === "A" ? `1.1.1.${n}` : `fd00::${n}`,
        }),
      );
    const row = fc.oneof(record, fc.array(record, { maxLength: 25 }));
    const step = fc.array(fc.tuple(fc.constantFrom("1", "2", "3", "4"), fc.option(row, { nil: undefined })), {
      maxLength: 4,
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 15 }), (history) => {
        const rows = new Rows();
        const all = zones();
        const end = all.follow(rows);
        for (const changes of history) {
          rows.batch(changes);
          const expected = new Map<string, DnsRecord>();
          for (const [, each] of rows.entries()) {
            for (const one of [each].flat() as DnsRecord[]) expected.set(recordKey(one), one);
          }
          const names = new Set([...expected.values()].map(({ name }) => name));
          assert.equal(all.size, names.size);
          for (const label of ["a", "b", "a.b", "c.a.b", "b.b"]) {
            const name = `${label}.cluster.local`;
            const there = (["A", "AAAA"] as const).flatMap((type) => all.find(name)!.sets?.(type) ?? []);
            const wanted = [...expected.values()].filter((one) => one.name === name);
            assert.deepEqual(there.map(recordKey).sort(), wanted.map(recordKey).sort());
            const exists = [...names].some((other) => other === name || other.endsWith(`.${name}`));
            assert.equal(all.find(name)!.sets !== undefined, exists);
          }
        }
        end();
        assert.equal(all.size, 0);
        assert.equal(all.find("b.cluster.local")!.sets, undefined);
      }),
      { numRuns: 300 },
    );
  });
});

describe("reverse names", () => {
  test("of IPv4 and IPv6", () => {
    assert.equal(reverseName("10.10.0.7"), "7.0.10.10.in-addr.arpa");
    assert.equal(
      reverseName("2001:db8::567:89ab"),
      "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
    );
    assert.equal(reverseName("::ffff:1.2.3.4").slice(0, 31), "4.0.3.0.2.0.1.0.f.f.f.f.0.0.0.0");
  });
  for (const wrong of [
    "",
    "1.2.3",
    "1.2.3.256",
    "::1::",
    "1:2",
    "g::1",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7::8",
  ]) {
    test(`'${wrong}' is no address`, () => assert.throws(() => reverseName(wrong), RangeError));
  }
});
