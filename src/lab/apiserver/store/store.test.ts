import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, describe, test } from "node:test";
import fc from "fast-check";
import { clientOf, configMap, type Loose, testServer } from "../testing/harness.ts";
import { openSqlite } from "./sqlite.ts";
import { Store } from "./store.ts";

const labelOf = (object: Loose) => object?.metadata.labels.v as string | undefined;
const folder = mkdtempSync(join(tmpdir(), "weft-store-"));
after(() => rmSync(folder, { recursive: true }));
const maps = "/api/v1/namespaces/default/configmaps";

type Step = { name: string; act: "put" | "delete" | "label"; value: number };
const steps = fc.array(
  fc.record({
    name: fc.constantFrom("a", "b", "c", "d"),
    act: fc.constantFrom("put" as const, "put" as const, "delete" as const, "label" as const),
    value: fc.integer({ min: 0, max: 3 }),
  }),
  { maxLength: 30 },
);

describe("watches", () => {
  test("from any moment, with any selector, rebuild what a list shows (property)", async () => {
    await fc.assert(
      fc.asyncProperty(steps, fc.nat(30), fc.boolean(), async (history, from, selecting) => {
        await using cluster = await testServer();
        const selector = selecting ? "labelSelector=v%3D1" : "";
        const seen = new Map<string, string>();
        const apply = async (step: Step) => {
          const path = `${maps}/${step.name}`;
          if (step.act === "delete") await cluster.client.delete(path);
          else if (step.act === "label")
            await cluster.client.patch(path, { metadata: { labels: { v: String(step.value) } } });
          else if ((await cluster.client.patch(path, { data: { x: String(step.value) } })).code === 404) {
            await cluster.client.post(maps, configMap(step.name, { x: String(step.value) }));
          }
        };
        for (const step of history.slice(0, from)) await apply(step);
        const start = (await cluster.client.get(`${maps}?${selector}`)).body;
        for (const item of start.items) seen.set(item.metadata.name, item.metadata.resourceVersion);
        for (const step of history.slice(from)) await apply(step);
        // Resumes in the past: history replays, then live events follow.
        const events = await cluster.client.watch(
          `${maps}?watch=1&resourceVersion=${start.metadata.resourceVersion}&${selector}`,
        );
        await cluster.client.post(maps, configMap("end", {}, { labels: { v: "1" } }));
        let last = 0;
        for (let event = await events.next(); event; event = await events.next()) {
          const { name, resourceVersion } = event.object.metadata;
          assert.ok(Number(resourceVersion) > last, "revisions grow");
          last = Number(resourceVersion);
          assert.equal(event.type === "ADDED", !seen.has(name), `${event.type} ${name}`);
          if (event.type === "DELETED") seen.delete(name);
          else seen.set(name, resourceVersion);
          if (name === "end") break;
        }
        await events.stop();
        const now = (await cluster.client.get(`${maps}?${selector}`)).body.items;
        assert.deepEqual(
          [...seen].sort(),
          now.map(({ metadata }: Loose) => [metadata.name, metadata.resourceVersion]).sort(),
        );
      }),
      { numRuns: 60 },
    );
  });
});

for (const kind of ["memory", "file"]) {
  test(`history is bounded in bytes as well as in number, in ${kind === "file" ? "a file" : kind}`, async () => {
    const { log, saved } =
      kind === "file"
        ? openSqlite(join(folder, "bytes.db"), { length: 10_000, bytes: 8 * 1024 * 1024 })
        : { log: undefined, saved: undefined };
    const store = new Store(log, saved);
    const bucket = store.bucket("/configmaps");
    // Somebody for whom changes are encoded.
    bucket.watchers.add({ event: () => {}, end: () => {} });
    const revisions: number[] = [];
    for (let i = 0; i < 100; i++) {
      const object = configMap("a", { x: "x".repeat(200_000), n: String(i) }) as Loose;
      store.write(bucket, "default/a", object);
      await store.committed();
      revisions.push(store.revision);
    }
    assert.ok(bucket.compacted >= revisions[40]!, "more is kept than is to be");
    assert.ok(bucket.compacted <= revisions[80]!, "less is kept than is to be");
    const past = bucket.snapshot(revisions[85]!).get("default/a") as Loose;
    assert.equal(past.data.n, "85");
    assert.equal([...bucket.since(revisions[90]!)].length, 9);
    store.close();
  });
}

test("a watch that resumes from too far back to be told what it missed is told to list anew", async () => {
  await using cluster = await testServer({ storage: { kind: "sqlite", file: join(folder, "history.db") } });
  const start = (await cluster.client.post(maps, configMap("a"))).body.metadata.resourceVersion;
  for (let i = 0; i < 45; i++) {
    await cluster.client.patch(`${maps}/a`, { data: { x: "x".repeat(800_000), n: String(i) } });
  }
  assert.equal((await cluster.client.get(`${maps}?watch=1&resourceVersion=${start}`)).code, 410);
  const newest = (await cluster.client.get(maps)).body.metadata.resourceVersion;
  const resumed = await cluster.client.watch(`${maps}?watch=1&resourceVersion=${newest - 20}`);
  assert.equal((await resumed.next())!.object.data.n, "25");
  await resumed.stop();
});

describe("a store in a file", () => {
  test("has everything after a restart, goes on counting, and lets watches resume", async () => {
    const storage = { kind: "sqlite" as const, file: join(folder, "restart.db") };
    const first = await testServer({ storage });
    await first.client.post(maps, configMap("a", { x: "1" }));
    await first.client.post(maps, configMap("b"));
    await first.client.delete(`${maps}/b`);
    const services = "/api/v1/namespaces/default/services";
    const service = { metadata: { name: "s" }, spec: { ports: [{ port: 80 }] } };
    const address = (await first.client.post(services, service)).body.spec.clusterIP;
    const before = (await first.client.get(maps)).body;
    await first.server.close();

    await using second = await testServer({ storage, seed: 2 });
    const now = (await second.client.get(maps)).body;
    assert.deepEqual(now.items, before.items);
    const resumed = await second.client.watch(
      `${maps}?watch=1&resourceVersion=${before.metadata.resourceVersion}`,
    );
    await resumed.stop();
    const from = before.items[0].metadata.resourceVersion;
    const old = await second.client.watch(`${maps}?watch=1&resourceVersion=${from}`);
    const told = [await old.next(), await old.next()].map((event) => [
      event!.type,
      event!.object.metadata.name,
    ]);
    assert.deepEqual(told, [
      ["ADDED", "b"],
      ["DELETED", "b"],
    ]);
    await old.stop();
    const past = await second.client.get(
      `${maps}?resourceVersionMatch=Exact&resourceVersion=${Number(from) + 1}`,
    );
    assert.deepEqual(
      past.body.items.map(({ metadata }: Loose) => metadata.name),
      ["a", "b"],
    );
    const next = (await second.client.post(maps, configMap("c"))).body;
    assert.ok(Number(next.metadata.resourceVersion) > Number(before.metadata.resourceVersion));
    const clash = await second.client.post(services, {
      metadata: { name: "t" },
      spec: { clusterIP: address, ports: [{ port: 80 }] },
    });
    assert.equal(clash.code, 422);
  });

  test("resumes watches over restarts and compactions as one process would, or says that it cannot (property)", async () => {
    let files = 0;
    const kept = fc.record({
      length: fc.integer({ min: 2, max: 12 }),
      bytes: fc.constantFrom(2_000, 1_000_000),
    });
    const restarts = fc.array(steps, { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(restarts, kept, fc.boolean(), async (lives, keep, selecting) => {
        const file = join(folder, `history-${files++}.db`);
        const path = (name: string) => `default/${name}`;
        // What one process that forgets nothing would tell.
        const all: { revision: number; type: string; name: string; was: string | undefined; is: string }[] =
          [];
        const labels = new Map<string, string>();
        const starts: number[] = [];
        for (const life of [...lives, []]) {
          const { log, saved } = openSqlite(file, keep);
          const store = new Store(log, saved);
          starts.push(store.revision);
          const bucket = store.bucket("/configmaps");
          for (const from of starts) {
            if (from < bucket.compacted) {
              assert.ok(
                all.length > keep.length || keep.bytes < 1_000_000 || from < starts[0]!,
                "kept too little",
              );
              continue;
            }
            const matches = (label: string | undefined) =>
              label !== undefined && (!selecting || label === "1");
            const wanted = all
              .filter(({ revision }) => revision > from)
              .filter(({ was, is }) => matches(was) || matches(is))
              .map(({ revision, type, name, was }) => `${revision} ${type} ${name} ${was}`);
            const told = [...bucket.since(from)]
              .filter(({ object, previous }) => matches(labelOf(previous)) || matches(labelOf(object)))
              .map(
                ({ revision, type, key, previous }) =>
                  `${revision} ${type} ${key.slice(8)} ${labelOf(previous)}`,
              );
            assert.deepEqual(told, wanted);
          }
          for (const { name, act, value } of life) {
            const was = labels.get(name);
            const is = String(value);
            const object = (label: string) =>
              ({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, labels: { v: label } } }) as never;
            if (act === "delete") {
              if (was === undefined) continue;
              store.remove(bucket, path(name), bucket.objects.get(path(name))!);
              labels.delete(name);
              all.push({ revision: store.revision, type: "DELETED", name, was, is: was });
            } else {
              store.write(bucket, path(name), object(is));
              labels.set(name, is);
              const type = was === undefined ? "ADDED" : "MODIFIED";
              all.push({ revision: store.revision, type, name, was, is });
            }
            await store.committed();
          }
          store.close();
        }
      }),
      { numRuns: 60 },
    );
  });

  test("serves custom objects again after a restart", async () => {
    const storage = { kind: "sqlite" as const, file: join(folder, "crd.db") };
    const things = "/apis/example.com/v1/namespaces/default/things";
    const first = await testServer({ storage });
    await first.client.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", {
      metadata: { name: "things.example.com" },
      spec: {
        group: "example.com",
        scope: "Namespaced",
        names: { plural: "things", kind: "Thing" },
        versions: [
          { name: "v1", served: true, storage: true, schema: { openAPIV3Schema: { type: "object" } } },
        ],
      },
    });
    const thing = { apiVersion: "example.com/v1", kind: "Thing", metadata: { name: "t" } };
    assert.equal((await first.client.post(things, thing)).code, 201);
    await first.server.close();
    await using second = await testServer({ storage, seed: 2 });
    assert.equal((await second.client.get(things)).body.items.length, 1);
  });

  test("loses nothing that was acknowledged when the process is killed", async () => {
    const file = join(folder, "killed.db");
    let known = 0;
    for (let round = 0; round < 3; round++) {
      const child = spawn(
        process.execPath,
        [join(import.meta.dirname, "../testing/writer.ts"), file, String(round)],
        {
          stdio: ["ignore", "pipe", "inherit"],
        },
      );
      const acknowledged: string[] = [];
      const lines = createInterface({ input: child.stdout! });
      for await (const line of lines) {
        acknowledged.push(line);
        if (acknowledged.length === 40 + round * 17) child.kill("SIGKILL");
      }
      if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
      await using cluster = await testServer({ storage: { kind: "sqlite", file }, seed: 100 + round });
      const client = clientOf(cluster.server, { name: "a", groups: ["system:masters"] });
      const { body } = await client.get(maps);
      const names = new Set(body.items.map(({ metadata }: Loose) => metadata.name));
      for (const name of acknowledged) assert.ok(names.has(name), `round ${round} lost ${name}`);
      assert.ok(acknowledged.length >= 40);
      assert.ok(body.items.length >= known + acknowledged.length);
      known = body.items.length;
    }
  });
});
