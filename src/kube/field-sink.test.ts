import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type ConfigMap, configMaps, managedByLabel, nameOf, type Service, services } from "../api/index.ts";
import { Engine, source } from "../collections/index.ts";
import type { Conflict } from "./conflicts.ts";
import { fieldSink } from "./field-sink.ts";
import { objectSink } from "./object-sink.ts";
import { watchSource } from "./source.ts";
import { testCluster } from "./testing/cluster.ts";

interface Wish {
  metadata: { namespace: string; name: string; labels?: Record<string, string> };
  data?: Record<string, string>;
}

const wish = (name: string, data: Record<string, string>): Wish => ({
  metadata: { namespace: "default", name },
  data,
});

async function setup({ seed = 1, synced = true } = {}) {
  const cluster = await testCluster(seed);
  const { world, client, person } = cluster;
  const start = () => {
    const engine = new Engine({ world });
    const observed = watchSource(engine, client, configMaps);
    const desired = source<Wish>(engine, { name: "desired", key: nameOf, synced });
    const conflicts: [string, Conflict | undefined][] = [];
    const sink = fieldSink<ConfigMap>({
      client,
      resource: configMaps,
      desired,
      observed,
      manager: "weft-test",
      onConflict: (name, conflict) => conflicts.push([name, conflict]),
    });
    const stop = () => {
      sink.stop();
      observed.reflection.stop();
      engine.dispose();
    };
    return { engine, observed, desired, sink, conflicts, stop };
  };
  const get = (name: string) => person.get(configMaps, `default/${name}`);
  const make = (name: string, data: Record<string, string> = {}) =>
    person.create(configMaps, { ...wish(name, data) }, { manager: "kubectl" });
  return { ...cluster, start, get, make };
}

describe("the sink for fields of others' objects", () => {
  test("adds its fields, changes them and takes them back, and leaves the object otherwise alone", async () => {
    const { world, start, get, make } = await setup();
    await make("a", { theirs: "1" });
    const { desired, sink } = start();
    desired.put({ metadata: { namespace: "default", name: "a", labels: { ours: "1" } }, data: { x: "1" } });
    await world.advance(10);
    assert.deepEqual((await get("a"))?.data, { theirs: "1", x: "1" });
    assert.deepEqual((await get("a"))?.metadata.labels, { ours: "1" });
    desired.put(wish("a", { x: "2" }));
    await world.advance(10);
    assert.deepEqual((await get("a"))?.data, { theirs: "1", x: "2" });
    assert.equal((await get("a"))?.metadata.labels?.ours, undefined);
    desired.remove("default/a");
    await world.advance(10);
    const object = await get("a");
    assert.deepEqual(object?.data, { theirs: "1" });
    assert.ok(object?.metadata.managedFields?.every(({ manager }) => manager !== "weft-test"));
    assert.deepEqual(sink.writes, { applied: 3, statuses: 0, withdrawn: 1, failed: 0 });
  });

  test("never makes an object, and writes as soon as someone makes it", async () => {
    const { world, start, get, make, faults } = await setup();
    const { desired, sink } = start();
    desired.put(wish("a", { x: "1" }));
    await world.advance(60_000);
    assert.equal(await get("a"), undefined);
    assert.equal(faults.writes.length, 0);
    assert.equal(sink.lag, 0);
    await make("a");
    await world.advance(10);
    assert.deepEqual((await get("a"))?.data, { x: "1" });
  });

  test("does not make an object anew that is deleted while the write is on its way", async () => {
    const { world, start, get, make, client, person } = await setup();
    await make("a");
    const { desired } = start();
    await world.advance(10);
    const apply = client.apply.bind(client);
    client.apply = (async (resource: typeof configMaps, object: Wish, options: object) => {
      await person.delete(configMaps, "default/a");
      return apply(resource, object, options);
    }) as typeof client.apply;
    desired.put(wish("a", { x: "1" }));
    await world.advance(60_000);
    assert.equal(await get("a"), undefined);
  });

  test("reports a field that someone else owns, does not take it, and gets it when they let go", async () => {
    const { world, start, get, make, person, faults } = await setup();
    await make("a", { x: "theirs" });
    const { desired, conflicts, sink } = start();
    desired.put(wish("a", { x: "ours" }));
    await world.advance(30_000);
    assert.deepEqual((await get("a"))?.data, { x: "theirs" });
    assert.equal(conflicts.length, 1);
    assert.deepEqual(conflicts[0]![1]!.fields, [".data.x"]);
    assert.match(conflicts[0]![1]!.message, /conflict with "/);
    assert.equal(sink.conflicts.get("default/a")?.name, "default/a");
    assert.ok(faults.writes.length <= 2, "it does not insist");
    await person.patch(configMaps, "default/a", { data: { x: null } }, { manager: "kubectl" });
    await world.advance(10);
    assert.deepEqual((await get("a"))?.data, { x: "ours" });
    assert.deepEqual(conflicts.at(-1), ["default/a", undefined]);
    assert.equal(sink.conflicts.size, 0);
  });

  test("puts its fields back when someone changes or removes them without owning them by force", async () => {
    const { world, start, get, make, person } = await setup();
    await make("a");
    const { desired } = start();
    desired.put(wish("a", { x: "1" }));
    await world.advance(10);
    await person.patch(configMaps, "default/a", { data: { x: null } }, { manager: "kubectl" });
    await world.advance(10);
    assert.deepEqual((await get("a"))?.data, { x: "1" });
    await person.delete(configMaps, "default/a");
    await make("a", { y: "1" });
    await world.advance(10);
    assert.deepEqual((await get("a"))?.data, { x: "1", y: "1" });
  });

  test("after a restart takes back what an earlier life applied, once it knows that it is not wanted", async () => {
    const { world, start, get, make, faults } = await setup({ synced: false });
    await make("a");
    await make("b");
    const first = start();
    first.desired.replace([wish("a", { x: "1" }), wish("b", { x: "1" })]);
    first.desired.markSynced();
    await world.advance(10);
    first.stop();
    const before = faults.writes.length;
    const second = start();
    second.desired.put(wish("a", { x: "1" }));
    await world.advance(60_000);
    assert.deepEqual((await get("b"))?.data, { x: "1" }, "nothing is changed on ignorance");
    second.desired.markSynced();
    second.engine.settle();
    await world.advance(10);
    assert.deepEqual((await get("b"))?.data ?? {}, {});
    assert.deepEqual((await get("a"))?.data, { x: "1" });
    assert.equal(faults.writes.length - before, 1);
  });

  test("has no business with whole objects of ours", async () => {
    const { world, start, get, person } = await setup();
    await person.apply(configMaps, {
      metadata: { namespace: "default", name: "a", labels: { [managedByLabel]: "weft" } },
    });
    const { desired } = start();
    desired.put(wish("a", { x: "1" }));
    await world.advance(10);
    assert.equal((await get("a"))?.data, undefined);
  });
});

type Conditioned = {
  metadata: { namespace: string; name: string };
  status: {
    conditions: {
      type: string;
      status: "True" | "False";
      reason: string;
      message: string;
      lastTransitionTime: string;
    }[];
  };
};

const conditioned = (status: "True" | "False", message = ""): Conditioned => ({
  metadata: { namespace: "default", name: "s" },
  status: {
    conditions: [{ type: "weft.dev/Ready", status, reason: "Because", message, lastTransitionTime: "" }],
  },
});

describe("conditions", () => {
  for (const kind of ["fields of others' objects", "whole objects"] as const) {
    test(`get the time of their last change of status, as ${kind}`, async () => {
      const { world, client, person, faults } = await testCluster();
      const engine = new Engine({ world });
      const observed = watchSource(engine, client, services);
      const desired = source<Conditioned>(engine, { name: "desired", key: nameOf, synced: true });
      const spec = { ports: [{ port: 80 }] };
      const common = { client, resource: services, desired, observed };
      if (kind === "whole objects") objectSink<Service>(common);
      else {
        await person.create(services, { metadata: { namespace: "default", name: "s" }, spec });
        fieldSink<Service>({ ...common, manager: "weft-conditions" });
      }
      const put = (row: Conditioned) => desired.put({ ...row, ...(kind === "whole objects" && { spec }) });
      const condition = async () => (await person.get(services, "default/s"))?.status?.conditions?.[0];
      put(conditioned("True", "first"));
      await world.advance(10);
      const first = await condition();
      assert.match(first!.lastTransitionTime, /^2026-/);
      await world.advance(60_000);
      put(conditioned("True", "second"));
      await world.advance(10);
      assert.equal((await condition())?.message, "second");
      assert.equal((await condition())?.lastTransitionTime, first?.lastTransitionTime);
      put(conditioned("False"));
      await world.advance(10);
      assert.notEqual((await condition())?.lastTransitionTime, first?.lastTransitionTime);
      const writes = faults.writes.length;
      put(conditioned("False"));
      await world.advance(60_000);
      assert.equal(faults.writes.length, writes, "and nothing is written when nothing changes");
      assert.deepEqual((await person.get(services, "default/s"))?.spec?.ports?.length, 1);
    });
  }
});

test("under random interference the fields end as desired and others' fields are as others left them", async () => {
  const name = fc.constantFrom("a", "b", "c");
  const step = fc.oneof(
    fc.record({
      do: fc.constantFrom(
        "want" as const,
        "drop" as const,
        "make" as const,
        "delete" as const,
        "theirs" as const,
      ),
      name,
      value: fc.constantFrom("1", "2"),
    }),
    fc.record({
      do: fc.constantFrom(
        "cut" as const,
        "lossy" as const,
        "fine" as const,
        "restart" as const,
        "wait" as const,
      ),
    }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.nat(), async (steps, seed) => {
      const { world, person, faults, start, get, make } = await setup({ seed });
      const wanted = new Map<string, string>();
      const objects = new Map<string, Record<string, string>>();
      let life = start();
      for (const step of steps) {
        const ref = "name" in step ? `default/${step.name}` : "";
        switch (step.do) {
          case "want":
            wanted.set(step.name, step.value);
            life.desired.put(wish(step.name, { x: step.value }));
            break;
          case "drop":
            wanted.delete(step.name);
            life.desired.remove(ref);
            break;
          case "make":
            if (await get(step.name)) break;
            objects.set(step.name, { y: step.value });
            await make(step.name, { y: step.value });
            break;
          case "delete":
            objects.delete(step.name);
            await person.delete(configMaps, ref);
            break;
          case "theirs":
            if (!(await get(step.name))) break;
            objects.set(step.name, { y: step.value });
            await person.patch(configMaps, ref, { data: { y: step.value } }, { manager: "kubectl" });
            break;
          case "cut":
            faults.cut();
            break;
          case "lossy":
            faults.lossBefore = faults.lossAfter = 0.3;
            break;
          case "fine":
            faults.lossBefore = faults.lossAfter = 0;
            break;
          case "restart":
            life.stop();
            life = start();
            life.desired.replace([...wanted].map(([name, x]) => wish(name, { x })));
            break;
          case "wait":
            await world.advance(500);
        }
        if (world.random() < 0.5) await world.advance(world.random() * 20);
      }
      faults.lossBefore = faults.lossAfter = 0;
      await world.advance(120_000);
      for (const name of ["a", "b", "c"]) {
        const theirs = objects.get(name);
        const x = wanted.get(name);
        const expected = theirs && { ...theirs, ...(x !== undefined && { x }) };
        assert.deepEqual((await get(name))?.data, expected, name);
      }
      life.stop();
    }),
    { numRuns: Number(process.env.RUNS ?? 60) },
  );
});
