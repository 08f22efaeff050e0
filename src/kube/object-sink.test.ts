import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type ConfigMap, configMaps, managedByLabel, nameOf, type Service, services } from "../api/index.ts";
import { Engine, source } from "../collections/index.ts";
import type { Conflict } from "./conflicts.ts";
import { objectSink } from "./object-sink.ts";
import type { Applied } from "./objects.ts";
import { watchSource } from "./source.ts";
import { testCluster } from "./testing/cluster.ts";

interface Wish {
  metadata: { namespace: string; name: string; labels?: Record<string, string> };
  data: Record<string, string>;
}

const wish = (name: string, data: Record<string, string> = {}): Wish => ({
  metadata: { namespace: "default", name },
  data,
});

async function setup({ seed = 1, synced = true } = {}) {
  const cluster = await testCluster(seed);
  const { world, client } = cluster;
  const start = () => {
    const engine = new Engine({ world });
    const observed = watchSource(engine, client, configMaps);
    const desired = source<Wish>(engine, { name: "desired", key: nameOf, synced });
    const conflicts: [string, Conflict | undefined][] = [];
    const errors: unknown[] = [];
    const sink = objectSink<ConfigMap>({
      client,
      resource: configMaps,
      desired,
      observed,
      onConflict: (name, conflict) => conflicts.push([name, conflict]),
      onError: (_, error) => errors.push(error),
    });
    const stop = () => {
      sink.stop();
      observed.reflection.stop();
      engine.dispose();
    };
    return { engine, observed, desired, sink, conflicts, errors, stop };
  };
  const get = (name: string) => cluster.person.get(configMaps, `default/${name}`);
  return { ...cluster, start, get };
}

describe("the sink for whole objects", () => {
  test("makes what is desired, with owner label and field manager, and writes nothing twice", async () => {
    const { world, faults, start, get } = await setup();
    const { desired, sink } = start();
    desired.put(wish("a", { x: "1" }));
    await world.advance(10);
    const made = await get("a");
    assert.deepEqual(made?.data, { x: "1" });
    assert.equal(made?.metadata.labels?.[managedByLabel], "weft");
    assert.deepEqual(
      made?.metadata.managedFields?.map(({ manager, operation }) => [manager, operation]),
      [["weft", "Apply"]],
    );
    desired.put(wish("a", { x: "1" }));
    await world.advance(60_000);
    assert.equal(faults.writes.length, 1);
    assert.equal(sink.lag, 0);
    await sink.idle();
  });

  test("changes and removes fields, and deletes what is no longer desired", async () => {
    const { world, start, get, faults } = await setup();
    const { desired, sink } = start();
    desired.put(wish("a", { x: "1", y: "1" }));
    await world.advance(10);
    desired.put(wish("a", { x: "2" }));
    await world.advance(10);
    assert.deepEqual((await get("a"))?.data, { x: "2" });
    desired.remove("default/a");
    await world.advance(10);
    assert.equal(await get("a"), undefined);
    assert.deepEqual(sink.writes, { created: 1, applied: 1, statuses: 0, deleted: 1, failed: 0 });
    assert.equal(faults.writes.length, 3);
  });

  test("brings back what someone deletes or edits, and leaves alone what someone adds", async () => {
    const { world, person, start, get } = await setup();
    const { desired } = start();
    desired.put(wish("a", { x: "1" }));
    await world.advance(10);
    await person.patch(
      configMaps,
      "default/a",
      { data: { x: "wrong", theirs: "1" } },
      { manager: "kubectl" },
    );
    await world.advance(10);
    assert.deepEqual((await get("a"))?.data, { x: "1", theirs: "1" });
    await person.delete(configMaps, "default/a");
    await world.advance(10);
    assert.deepEqual((await get("a"))?.data, { x: "1" });
  });

  test("after a restart writes nothing where all is as it should be, and mends what is not", async () => {
    const { world, faults, person, start, get } = await setup();
    const first = start();
    first.desired.replace([wish("a", { x: "1", gone: "1" }), wish("b", { x: "1" }), wish("c"), wish("d")]);
    await world.advance(10);
    first.stop();
    await person.delete(configMaps, "default/c");
    const before = faults.writes.length;
    const second = start();
    second.desired.replace([wish("a", { x: "1" }), wish("b", { x: "1" }), wish("c")]);
    await world.advance(10);
    assert.equal(faults.writes.length - before, 3);
    assert.deepEqual((await get("a"))?.data, { x: "1" }, "a field that an earlier life applied is withdrawn");
    assert.ok(await get("c"));
    assert.equal(await get("d"), undefined);
  });

  test("never touches an object of the same name that is not ours, and says so", async () => {
    const { world, person, start, get, faults } = await setup();
    const theirs = await person.create(configMaps, wish("a", { x: "theirs" }), { manager: "kubectl" });
    const { desired, conflicts, sink, engine } = start();
    desired.put(wish("a", { x: "ours" }));
    await world.advance(60_000);
    assert.deepEqual(await get("a"), theirs);
    assert.equal(faults.writes.length, 0);
    assert.equal(conflicts.length, 1);
    assert.match(conflicts[0]![1]!.message, /ConfigMap default\/a exists and is not Weft's/);
    engine.settle();
    assert.equal(sink.conflicts.size, 1);
    assert.equal(sink.lag, 0, "a conflict is not a delay");
    await person.delete(configMaps, "default/a");
    await world.advance(10);
    assert.deepEqual((await get("a"))?.data, { x: "ours" });
    assert.equal(sink.conflicts.size, 0);
    assert.deepEqual(conflicts.at(-1), ["default/a", undefined]);
  });

  test("does not take an object that someone makes while ours is on its way", async () => {
    for (const data of [{ x: "theirs" }, { y: "theirs" }] as Record<string, string>[]) {
      const { world, person, client, start, get } = await setup();
      const { desired, conflicts } = start();
      await world.advance(10);
      // Between our look and our apply.
      const apply = client.apply.bind(client);
      let raced = false;
      client.apply = (async (resource: typeof configMaps, object: Wish, options: object) => {
        if (!raced) {
          raced = true;
          await person.create(configMaps, wish("a", data), { manager: "kubectl" });
        }
        return apply(resource, object, options);
      }) as typeof client.apply;
      desired.put(wish("a", { x: "ours" }));
      await world.advance(60_000);
      const object = await get("a");
      assert.deepEqual(object?.data, data);
      assert.equal(object?.metadata.labels, undefined);
      assert.equal(conflicts.length, 1);
    }
  });

  test("leaves rows and absent rows alone while what they depend on has not been heard (law 7)", async () => {
    const { world, person, start, get } = await setup({ synced: false });
    await person.apply(configMaps, {
      metadata: { ...wish("old").metadata, labels: { [managedByLabel]: "weft" } },
    });
    const { desired, sink, engine } = start();
    desired.put(wish("new"));
    await world.advance(60_000);
    assert.ok(await get("old"));
    assert.equal(await get("new"), undefined);
    assert.equal(sink.held, 2);
    await sink.idle();
    desired.markSynced();
    engine.settle();
    await world.advance(10);
    assert.equal(await get("old"), undefined);
    assert.ok(await get("new"));
    assert.equal(sink.held, 0);
  });

  test("writes the last wish only, however many came while it was busy", async () => {
    const { world, start, get, faults } = await setup();
    const { desired, engine } = start();
    await world.advance(10);
    faults.lossBefore = 1;
    for (let i = 0; i < 50; i++) {
      desired.put(wish("a", { x: String(i) }));
      engine.settle();
    }
    await world.advance(1_000);
    faults.lossBefore = 0;
    await world.advance(60_000);
    assert.deepEqual((await get("a"))?.data, { x: "49" });
    assert.equal(faults.writes.length, 1);
  });

  test("tries again with growing pauses, reports each failure, and knows its lag", async () => {
    const { world, start, faults } = await setup();
    const { desired, sink, errors } = start();
    await world.advance(10);
    desired.put({ metadata: { namespace: "missing", name: "a" }, data: {} });
    await world.advance(120_000);
    assert.ok(errors.length > 5 && errors.length < 20, `${errors.length} tries`);
    assert.equal(sink.waiting, 1);
    assert.ok(sink.lag >= 119_000);
    assert.match(String(errors[0]), /c1: namespaces "missing" not found/);
    void faults;
  });

  test("does not write as fast as it can against someone who undoes every write", async () => {
    const { world, person, start, get, faults } = await setup();
    const { desired } = start();
    desired.put(wish("a", { x: "ours" }));
    await world.advance(10);
    for (let i = 0; i < 500; i++) {
      if ((await get("a"))?.data?.x === "ours") {
        await person.patch(configMaps, "default/a", { data: { x: "theirs" } }, { manager: "kubectl" });
      }
      await world.advance(1);
    }
    const { length } = faults.writes;
    assert.ok(length > 10 && length < 70, `${length} writes in half a second`);
    await world.advance(1_000);
    assert.deepEqual((await get("a"))?.data, { x: "ours" });
  });

  test("finds a row's object by the object's own name, whatever the row's key is", async () => {
    const { world, client, get } = await setup();
    const engine = new Engine({ world });
    const observed = watchSource(engine, client, configMaps);
    const desired = source<Wish>(engine, {
      name: "desired",
      key: (row) => row.metadata.labels?.row ?? "",
      synced: true,
    });
    const put = (row: string, wanted: Wish) =>
      desired.put({ ...wanted, metadata: { ...wanted.metadata, labels: { row } } });
    objectSink<ConfigMap>({ client, resource: configMaps, desired, observed });
    put("1", wish("a"));
    await world.advance(10);
    assert.ok(await get("a"));
    put("1", wish("b"));
    await world.advance(10);
    assert.equal(await get("a"), undefined);
    assert.ok(await get("b"));
    put("2", wish("b", { second: "1" }));
    await world.advance(10);
    assert.deepEqual((await get("b"))?.data ?? {}, {}, "of two rows for one name the lesser key counts");
    desired.remove("1");
    await world.advance(10);
    assert.deepEqual((await get("b"))?.data, { second: "1" });
  });

  test("is content with what the server fills in, and does not give up what it allocated", async () => {
    const { world, client, person, faults } = await setup();
    const engine = new Engine({ world });
    const observed = watchSource(engine, client, services);
    const desired = source<Applied<Service>>(engine, { name: "desired", key: nameOf, synced: true });
    objectSink<Service>({ client, resource: services, desired, observed });
    const row = {
      metadata: { namespace: "default", name: "s" },
      spec: { ports: [{ port: 80 }], selector: { a: "b" } },
    };
    desired.put(row);
    await world.advance(10);
    const before = await person.get(services, "default/s");
    desired.put({ ...row, spec: { ...row.spec, ports: [{ port: 80 }, { port: 81, name: "more" }] } });
    desired.put({
      ...row,
      spec: {
        ...row.spec,
        ports: [
          { port: 80, name: "web" },
          { port: 81, name: "more" },
        ],
      },
    });
    await world.advance(60_000);
    const after = await person.get(services, "default/s");
    assert.equal(after?.spec?.clusterIP, before?.spec?.clusterIP);
    assert.equal(after?.spec?.ports?.length, 2);
    assert.equal(faults.writes.length, 2);
  });
});

/**
 * Random wishes, random interference, a network that loses requests, answers and watches, restarts of the sink.
 * In the end the objects are the desired ones, and what is not ours was never touched.
 */
test("under random interference the sink ends in the desired state and never touches foreign objects", async () => {
  const name = fc.constantFrom("a", "b", "c", "d");
  const value = fc.constantFrom("1", "2", "3");
  const step = fc.oneof(
    fc.record({ do: fc.constant("want" as const), name, value }),
    fc.record({ do: fc.constant("drop" as const), name }),
    fc.record({
      do: fc.constantFrom("edit" as const, "delete" as const, "foreign" as const, "take" as const),
      name,
      value,
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
      const { world, person, faults, start } = await setup({ seed });
      const wanted = new Map<string, string>();
      /** Foreign objects as their makers left them. */
      const foreign = new Map<string, ConfigMap>();
      let life = start();
      for (const step of steps) {
        const ref = "name" in step ? `default/${step.name}` : "";
        // The race with an apply that is on its way has its own test.
        if (step.do === "edit" || step.do === "foreign" || step.do === "take") await world.advance(0);
        switch (step.do) {
          case "want":
            wanted.set(step.name, step.value);
            life.desired.put(wish(step.name, { x: step.value }));
            break;
          case "drop":
            wanted.delete(step.name);
            life.desired.remove(ref);
            break;
          case "edit": {
            const object = await person.get(configMaps, ref);
            if (object && !foreign.has(step.name)) {
              await person.patch(configMaps, ref, { data: { x: step.value } }, { manager: "kubectl" });
            }
            break;
          }
          case "delete":
            foreign.delete(step.name);
            await person.delete(configMaps, ref);
            break;
          case "foreign":
            if (!(await person.get(configMaps, ref))) {
              const object = wish(step.name, { x: step.value });
              foreign.set(step.name, await person.create(configMaps, object, { manager: "kubectl" }));
            }
            break;
          case "take": {
            const object = await person.get(configMaps, ref);
            if (object?.metadata.labels?.[managedByLabel]) {
              const labels = { [managedByLabel]: "someone" };
              const taken = await person.patch(
                configMaps,
                ref,
                { metadata: { labels } },
                { manager: "kubectl" },
              );
              foreign.set(step.name, taken);
              // Without the network's delays nobody can win the race against an apply that is on its way.
              await world.advance(0);
              const now = await person.get(configMaps, ref);
              if (now) foreign.set(step.name, now);
            }
            break;
          }
          case "cut":
            faults.cut();
            break;
          case "lossy":
            faults.lossBefore = 0.3;
            faults.lossAfter = 0.3;
            break;
          case "fine":
            faults.lossBefore = 0;
            faults.lossAfter = 0;
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
      faults.lossBefore = 0;
      faults.lossAfter = 0;
      await world.advance(120_000);
      const expected = new Map<string, unknown>();
      for (const [name, x] of wanted) expected.set(name, { x });
      for (const [name, object] of foreign) expected.set(name, object.data);
      const { items } = await person.list(configMaps, { namespace: "default" });
      const there = new Map(
        items
          .filter(({ metadata }) => metadata.name.length === 1)
          .map(({ metadata, data }) => [metadata.name, data] as const),
      );
      assert.deepEqual(new Map([...there].sort()), new Map([...expected].sort()));
      for (const [name, object] of foreign) {
        assert.equal(
          items.find(({ metadata }) => metadata.name === name)?.metadata.resourceVersion,
          object.metadata.resourceVersion,
          `the foreign ${name} was touched`,
        );
      }
      assert.equal(life.sink.lag, 0);
      life.stop();
    }),
    { numRuns: Number(process.env.RUNS ?? 60) },
  );
});
