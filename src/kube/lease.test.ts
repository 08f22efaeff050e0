import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { leases } from "../api/index.ts";
import { KubeClient } from "./client.ts";
import { type Election, elect, startHeartbeat } from "./lease.ts";
import { testCluster } from "./testing/cluster.ts";
import { Faults } from "./testing/faults.ts";

const at = { namespace: "default", name: "lease" };

describe("a heartbeat", () => {
  test("makes the Lease, renews it, and catches up after an outage", async () => {
    const { world, client, person, faults } = await testCluster();
    const errors: unknown[] = [];
    const heartbeat = startHeartbeat({
      client,
      ...at,
      identity: "c1",
      onError: (error) => errors.push(error),
    });
    await world.advance(0);
    const first = await person.get(leases, at);
    assert.equal(first?.spec?.holderIdentity, "c1");
    assert.equal(first?.spec?.leaseDurationSeconds, 30);
    assert.equal(first?.spec?.renewTime, "2026-01-01T00:00:00.000000Z");
    await world.advance(35_000);
    assert.equal((await person.get(leases, at))?.spec?.renewTime, "2026-01-01T00:00:30.000000Z");
    faults.lossBefore = 1;
    await world.advance(60_000);
    assert.ok(errors.length > 10);
    faults.lossBefore = 0;
    await world.advance(1_500);
    const renewed = (await person.get(leases, at))?.spec?.renewTime ?? "";
    assert.ok(Date.parse(renewed) > world.now() - 2_000, "soon after the outage, not at the next beat");
    assert.ok(world.monotonic() - (heartbeat.renewedAt ?? 0) < 2_000);
    await person.delete(leases, at);
    await world.advance(10_000);
    assert.ok(await person.get(leases, at), "a deleted Lease comes back");
    heartbeat.stop();
    const before = faults.requests.length;
    await world.advance(60_000);
    assert.equal(faults.requests.length, before);
  });
});

/** As the control plane's candidates are set. */
const quick = { leaseDuration: 3_000, renewDeadline: 2_000, retryPeriod: 1_000 };

async function candidates(seed: number, count: number, timing: Partial<typeof quick> = {}) {
  const { world, server, person } = await testCluster(seed);
  const leading: string[] = [];
  let most = 0;
  const all = Array.from({ length: count }, (_, i) => {
    const faults = new Faults(world);
    const transport = faults.wrap(server.as({ name: `candidate-${i}`, groups: ["system:masters"] }));
    const client = new KubeClient({ transport, world, cluster: "c1" });
    const start = (): Election =>
      elect({
        client,
        ...at,
        ...timing,
        identity: `candidate-${i}`,
        onLeading: (signal) => {
          leading.push(`candidate-${i}`);
          most = Math.max(most, leading.length);
          signal.addEventListener("abort", () => leading.splice(leading.indexOf(`candidate-${i}`), 1));
        },
      });
    return { faults, start, election: start() };
  });
  return { world, person, all, leading, most: () => most };
}

describe("an election", () => {
  test("has one leader, who stays while he renews", async () => {
    const { world, leading, most } = await candidates(1, 3);
    await world.advance(5_000);
    assert.equal(leading.length, 1);
    const [leader] = leading;
    await world.advance(300_000);
    assert.deepEqual(leading, [leader]);
    assert.equal(most(), 1);
  });

  test("passes on at once when the leader stops, and after the Lease is out when he vanishes", async () => {
    const { world, all, leading, most } = await candidates(1, 2);
    await world.advance(5_000);
    const first = all.findIndex((_, i) => leading[0] === `candidate-${i}`);
    const stopped = all[first]!.election.stop();
    await world.advance(3_000);
    await stopped;
    assert.deepEqual(leading, [`candidate-${1 - first}`]);
    all[first]!.election = all[first]!.start();
    await world.advance(5_000);
    all[1 - first]!.faults.lossBefore = 1;
    await world.advance(12_500);
    assert.deepEqual(leading, [], "he stops by himself before others take over");
    await world.advance(10_000);
    assert.deepEqual(leading, [`candidate-${first}`]);
    assert.equal(most(), 1);
  });

  test("is over in less than five seconds, with quick candidates, when the leader is killed", async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const { world, all, leading, most } = await candidates(seed, 3, quick);
      await world.advance(5_000 + seed * 77);
      const first = all.findIndex((_, i) => leading[0] === `candidate-${i}`);
      all[first]!.election.abandon();
      assert.deepEqual(leading, []);
      await world.advance(4_500);
      assert.equal(leading.length, 1);
      assert.equal(most(), 1);
      for (const { election } of all) election.abandon();
    }
  });

  for (const timing of [{}, quick])
    test(`never has two leaders, whatever the network loses ${JSON.stringify(timing)}`, async () => {
      const step = fc.record({
        candidate: fc.nat(2),
        loss: fc.constantFrom(0, 0.5, 1),
        wait: fc.nat(20_000),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 20 }), fc.nat(), async (steps, seed) => {
          const { world, all, leading, most } = await candidates(seed, 3, timing);
          for (const { candidate, loss, wait } of steps) {
            all[candidate]!.faults.lossBefore = loss;
            all[candidate]!.faults.lossAfter = loss;
            await world.advance(wait);
          }
          for (const { faults } of all) faults.lossBefore = faults.lossAfter = 0;
          await world.advance(40_000);
          assert.equal(leading.length, 1);
          assert.equal(most(), 1);
          for (const { election } of all) void election.stop();
        }),
        { numRuns: Number(process.env.RUNS ?? 20) },
      );
    });
});
