/**
 * Two control planes of one cluster, one of which leads and writes. Whoever is killed, and whenever: the other
 * leads in five seconds at most, nothing is lost, nothing is written twice.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { endpointSlices, leases, serviceImports } from "../../src/api/index.ts";
import type { ControlPlane } from "../../src/control.ts";
import { SimulatedWorld } from "../../src/world/index.ts";
import { Fleet } from "../support/fleet.ts";
import { actualState, rightState } from "./state.ts";

/** What was written to c1, without the versions that guard it, and the heartbeat and election left out. */
interface Write {
  what: string;
  body: string;
  at: number;
}

async function setUp(seed: number) {
  const world = new SimulatedWorld(seed);
  const fleet = await Fleet.start(world, ["c1", "c2"]);
  const writes: Write[] = [];
  fleet.onRequest = (_reader, offerer, { method, path, body }) => {
    if (method === "GET" || offerer !== "c1" || /\/(leases|events)\b/.test(path)) return;
    const { metadata, ...rest } = JSON.parse(String(body ?? "{}"));
    delete metadata?.resourceVersion;
    writes.push({
      what: `${method} ${path}`,
      body: JSON.stringify({ metadata, ...rest }),
      at: world.monotonic(),
    });
  };
  await fleet.startPlane("c2");
  const planes = new Map<string, ControlPlane>();
  for (const identity of ["a", "b"]) planes.set(identity, await fleet.startPlane("c1", { identity }));
  await fleet.pass(2);
  const leaders = () => [...planes].flatMap(([identity, { leading }]) => (leading ? [identity] : []));
  return { world, fleet, planes, writes, leaders };
}

/** The same wish about the same object twice in a row: one of the two was for nothing. */
function repeated(writes: readonly Write[]): string[] {
  const last = new Map<string, string>();
  return writes.flatMap(({ what, body }) => {
    const object = what.replace(/^\w+ |\?.*$/g, "");
    const wish = `${what} ${body}`;
    // Who deletes something may make it again.
    const key = /^DELETE|fieldManager=weft&|fieldManager=weft$/.test(what) ? object : what;
    const again = last.get(key) === wish;
    last.set(key, wish);
    return again ? [wish] : [];
  });
}

describe("two control planes of one cluster", () => {
  test("one leads and writes; both answer", async () => {
    const { fleet, planes, leaders, writes } = await setUp(1);
    assert.equal(leaders().length, 1);
    await fleet.makeService("c2", "serve");
    await fleet.setEndpoints("c2", "serve", ["10.12.0.7"]);
    await fleet.exportService("c2", "serve");
    await fleet.pass(2);
    const import_ = await fleet.of("c1").person.get(serviceImports, "demo/serve");
    assert.ok(import_?.spec.ips?.[0]);
    for (const [identity, plane] of planes) {
      const found = plane.zones.find("serve.demo.svc.clusterset.local");
      assert.deepEqual(
        found?.sets?.("A").map(({ data }) => data),
        import_.spec.ips,
        identity,
      );
      assert.ok(plane.ready);
    }
    assert.deepEqual(repeated(writes), []);
    for (const plane of planes.values()) plane.stop();
    await fleet.close();
  });

  test("the leader gives the lead away when it is told to end", async () => {
    const { fleet, planes, leaders } = await setUp(2);
    const [first] = leaders();
    const resigned = planes.get(first!)!.resign();
    await fleet.pass(1.5);
    await resigned;
    assert.deepEqual(leaders(), [first === "a" ? "b" : "a"]);
    for (const plane of planes.values()) plane.stop();
    await fleet.close();
  });

  test("a leader killed under changes is replaced in 5 s; nothing is lost, nothing written twice", async () => {
    for (let seed = 1; seed <= 4; seed++) {
      const { world, fleet, planes, leaders, writes } = await setUp(seed);
      const { person } = fleet.of("c1");
      await fleet.makeService("c2", "serve", { ports: [{ port: 80, name: "http" }] });
      await fleet.exportService("c2", "serve");
      await fleet.makeService("c1", "web", { ports: [{ port: 80, name: "http" }] });
      const change = async (i: number) => {
        const name = { portName: "http" };
        await fleet.setEndpoints("c2", "serve", [`10.12.0.${1 + (i % 250)}`], name);
        if (i % 7 === 3) await fleet.exportService("c1", "web");
        if (i % 7 === 6) await fleet.unexport("c1", "web");
        await fleet.setEndpoints("c1", "web", [`10.10.0.${1 + (i % 250)}`], name);
      };
      const [killed] = leaders();
      fleet.weather = { latency: 20, loss: 0 };
      for (let i = 0; i < 24; i++) {
        await change(i);
        // In the middle of what the change sets going, and not always at the same place of it.
        if (i === 12) {
          await world.advance(30 * world.random());
          planes.get(killed!)!.stop();
          planes.delete(killed!);
          const at = world.monotonic();
          while (leaders().length === 0 && world.monotonic() - at < 10_000) await fleet.pass(0.1);
          const after = world.monotonic() - at;
          assert.ok(after <= 5_000, `seed ${seed}: led again after ${after} ms`);
        }
        await fleet.pass(0.2);
      }
      await fleet.pass(5);
      const [leader] = [...planes.values()];
      fleet.of("c1").plane = leader!;
      assert.deepEqual(await actualState(fleet), await rightState(fleet), `seed ${seed}`);
      assert.deepEqual(repeated(writes), [], `seed ${seed}`);
      const slices = await person.list(endpointSlices, {
        labelSelector: "app.kubernetes.io/managed-by=weft",
      });
      assert.ok(slices.items.some(({ endpoints }) => endpoints[0]?.addresses[0] === "10.12.0.24"));
      const lease = await person.get(leases, "weft-system/weft-leader");
      assert.equal(lease?.spec?.leaseTransitions, 1);
      await fleet.close();
    }
  });
});
