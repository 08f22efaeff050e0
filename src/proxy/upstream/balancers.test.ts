import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SimulatedWorld } from "../../world/index.ts";
import { xxhash64 } from "../hash.ts";
import { chooser, type Policy } from "./balancers.ts";
import { type BalanceSettings, balance, priorityLoads, Turns } from "./sets.ts";

interface TestHost {
  hashKey: string;
  weight: number;
  activeRequests: number;
  since: number;
  health: "healthy" | "degraded" | "unhealthy";
}

const host = (name: number, more: Partial<TestHost> = {}): TestHost => ({
  hashKey: `10.0.0.${name}:80`,
  weight: 1,
  activeRequests: 0,
  since: 0,
  health: "healthy",
  ...more,
});

const world = () => new SimulatedWorld(1);

/** How often each is chosen. */
function counts(choose: () => TestHost | undefined, times: number): Map<string, number> {
  const found = new Map<string, number>();
  for (let i = 0; i < times; i++) {
    const { hashKey } = choose()!;
    found.set(hashKey, (found.get(hashKey) ?? 0) + 1);
  }
  return found;
}

test("round robin by weights gives each its share in every cycle", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 8 }),
      fc.nat(50),
      (weights, next) => {
        const hosts = weights.map((weight, i) => host(i, { weight }));
        const total = weights.reduce((a, b) => a + b, 0);
        const { choose } = chooser({ kind: "round-robin" }, hosts, world(), { next });
        const found = counts(() => choose(undefined), 10 * total);
        for (const one of hosts) {
          assert.ok(
            Math.abs((found.get(one.hashKey) ?? 0) - 10 * one.weight) <= 1,
            `${one.hashKey} of ${weights}`,
          );
        }
      },
    ),
  );
});

test("turns go on where they were when hosts change", () => {
  const turns = new Turns(world());
  const settings: BalanceSettings = {
    policy: { kind: "round-robin" },
    localityWeighted: false,
    panicThreshold: 50,
    overprovisioning: 140,
  };
  const three = [1, 2, 3].map((n) => host(n));
  const make = () => balance([[{ weight: 1, hosts: three }]], settings, world(), turns);
  const seen = Array.from({ length: 9 }, () => make().choose(undefined)!.hashKey);
  assert.deepEqual(seen.slice(3), seen.slice(0, 6));
  assert.equal(new Set(seen).size, 3);
});

test("least request prefers who has less to do, by two choices", () => {
  const hosts = [host(1, { activeRequests: 10 }), host(2), host(3, { activeRequests: 5 })];
  const { choose } = chooser({ kind: "least-request", choices: 2, bias: 1 }, hosts, world(), { next: 0 });
  const found = counts(() => choose(undefined), 9_000);
  // Of two drawn with replacement the idle one is missed 4 times of 9, the busiest meets only itself once.
  assert.ok(Math.abs(found.get(hosts[1]!.hashKey)! - 5_000) < 250);
  assert.ok(Math.abs(found.get(hosts[0]!.hashKey)! - 1_000) < 250);
});

for (const policy of [
  { kind: "ring-hash", smallest: 1024, largest: 2 ** 20 },
  { kind: "maglev", tableSize: 5003 },
] satisfies Policy[]) {
  test(`${policy.kind}: the same key keeps its host, and few move when one goes`, () => {
    const hosts = Array.from({ length: 10 }, (_, i) => host(i));
    const keys = Array.from({ length: 2_000 }, (_, i) => xxhash64(`key ${i}`));
    const whole = chooser(policy, hosts, world(), { next: 0 });
    const reversed = chooser(policy, [...hosts].reverse(), world(), { next: 5 });
    const without = chooser(policy, hosts.slice(1), world(), { next: 0 });
    let moved = 0;
    const shares = new Map<string, number>();
    for (const key of keys) {
      const chosen = whole.choose(key)!;
      assert.equal(reversed.choose(key), chosen);
      shares.set(chosen.hashKey, (shares.get(chosen.hashKey) ?? 0) + 1);
      if (chosen !== hosts[0] && without.choose(key) !== chosen) moved++;
    }
    assert.ok(moved < keys.length * 0.1, `${moved} moved`);
    for (const count of shares.values()) assert.ok(count > 80 && count < 400, String(count));
  });
}

test("a new host gets more and more", async () => {
  const time = world();
  const hosts = [host(1, { since: -100_000 }), host(2)];
  const slowStart = { window: 10_000, aggression: 1, least: 0.1 };
  const { choose } = chooser({ kind: "round-robin", slowStart }, hosts, time, { next: 0 });
  const share = () => (counts(() => choose(undefined), 1_000).get(hosts[1]!.hashKey) ?? 0) / 1_000;
  const seen: number[] = [];
  for (const age of [0, 5_000, 5_000]) {
    await time.advance(age);
    seen.push(share());
  }
  for (const [i, wanted] of [0.1 / 1.1, 0.5 / 1.5, 0.5].entries()) {
    assert.ok(Math.abs(seen[i]! - wanted) < 0.02, `${seen}`);
  }
});

test("priorities share all of the traffic, and the first takes what it can carry", () => {
  const count = fc.record({ total: fc.nat(20), bad: fc.nat(20), degraded: fc.nat(20) }).map((c) => {
    const healthy = Math.max(0, c.total - c.bad);
    return { total: c.total, healthy, degraded: Math.min(c.degraded, c.total - healthy) };
  });
  fc.assert(
    fc.property(fc.array(count, { minLength: 1, maxLength: 5 }), fc.constantFrom(0, 50), (counts, panic) => {
      const { healthy, degraded } = priorityLoads(counts, 140, panic);
      const sum = [...healthy, ...degraded].reduce((a, b) => a + b, 0);
      assert.equal(sum, 100);
      assert.ok([...healthy, ...degraded].every((load) => load >= 0));
      const [first] = counts;
      if (first!.total > 0 && first!.healthy * 1.4 >= first!.total) assert.equal(healthy[0], 100);
    }),
  );
});
