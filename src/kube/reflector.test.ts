import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type ConfigMap, nameOf } from "../api/index.ts";
import { SimulatedWorld } from "../world/index.ts";
import { KubeClient } from "./client.ts";
import { type ReflectOptions, type ReflectState, reflect } from "./reflector.ts";
import { FakeApi, json, once, refuse } from "./testing/fake-api.ts";

/** A target that remembers every state it was in. */
class Mirror {
  readonly objects = new Map<string, ConfigMap>();
  readonly history: string[] = [];
  replaced = 0;
  synced = false;

  target = {
    replace: (objects: ConfigMap[]) => {
      this.replaced++;
      this.objects.clear();
      for (const object of objects) this.objects.set(nameOf(object), object);
    },
    put: (object: ConfigMap) => void this.objects.set(nameOf(object), object),
    remove: (key: string) => void this.objects.delete(key),
    synced: () => {
      assert.equal(this.synced, false, "synced is said once");
      this.synced = true;
    },
    settled: () => void this.history.push(picture(this.objects.values())),
  };

  get names(): string[] {
    return [...this.objects.keys()].sort();
  }
}

function picture(objects: Iterable<ConfigMap>): string {
  return [...objects]
    .map((object) => `${nameOf(object)}@${object.metadata.resourceVersion}`)
    .sort()
    .join(" ");
}

function setup(options: ReflectOptions<ConfigMap> & { api?: FakeApi; seed?: number } = {}) {
  const api = options.api ?? new FakeApi();
  const world = new SimulatedWorld(options.seed ?? 1);
  const client = new KubeClient({ transport: api.transport, world, cluster: "c1" });
  const mirror = new Mirror();
  const states: ReflectState[] = [];
  const start = () =>
    reflect(client, api.resource, mirror.target, { onState: (state) => states.push(state), ...options });
  return { api, world, client, mirror, states, start };
}

const watches = (api: FakeApi) => api.requests.filter((request) => request.includes("watch=1"));
const listsOf = (api: FakeApi) => api.requests.filter((request) => !request.includes("watch=1"));

describe("a reflector", () => {
  test("takes everything with WatchList where the server offers it, without a list", async () => {
    const { api, world, mirror, states, start } = setup();
    api.put("a");
    api.put("b");
    const reflection = start();
    assert.equal(reflection.state.state, "syncing");
    await world.advance(0);
    assert.deepEqual(mirror.names, ["demo/a", "demo/b"]);
    assert.equal(mirror.synced, true);
    assert.deepEqual(states, [{ state: "synced" }]);
    assert.deepEqual(listsOf(api), []);
    api.put("c");
    api.remove("a");
    await world.advance(0);
    assert.deepEqual(mirror.names, ["demo/b", "demo/c"]);
    assert.equal(watches(api).length, 1);
  });

  test("lists in pages of one snapshot where WatchList is refused, and asks for it only once", async () => {
    const { api, world, mirror, start } = setup();
    api.watchList = "refused";
    for (let i = 0; i < 1200; i++) api.put(`o${i}`);
    start();
    await world.advance(0);
    assert.equal(mirror.objects.size, 1200);
    assert.equal(listsOf(api).length, 3);
    assert.equal(
      mirror.objects.get("demo/o3")?.kind,
      "ConfigMap",
      "kind is filled in where lists leave it out",
    );
    api.put("late");
    await world.advance(0);
    assert.ok(mirror.objects.has("demo/late"));
    api.compact();
    api.put("later");
    api.compact();
    api.cutWatches();
    await world.advance(1_000);
    assert.equal(api.requests.filter((request) => request.includes("sendInitialEvents")).length, 1);
  });

  test("lists where WatchList is accepted but the storage cannot do it", async () => {
    const { api, world, mirror, start } = setup();
    api.watchList = "failing";
    api.put("a");
    start();
    await world.advance(0);
    assert.deepEqual(mirror.names, ["demo/a"]);
    api.put("b");
    await world.advance(0);
    assert.deepEqual(mirror.names, ["demo/a", "demo/b"]);
  });

  test("finds out that a server ignores sendInitialEvents, by its silence", async () => {
    const { api, world, mirror, start } = setup();
    api.watchList = "ignored";
    api.put("a");
    start();
    await world.advance(4_000);
    assert.equal(mirror.synced, false);
    await world.advance(2_000);
    assert.deepEqual(mirror.names, ["demo/a"]);
    assert.equal(listsOf(api).length, 1);
  });

  test("finds out that a server ignores sendInitialEvents, by a change before the bookmark", async () => {
    const { api, world, mirror, start } = setup();
    api.watchList = "ignored";
    api.put("a");
    start();
    await world.advance(100);
    api.put("a", { x: "1" });
    await world.advance(0);
    assert.equal(mirror.objects.get("demo/a")?.data?.x, "1");
    assert.equal(listsOf(api).length, 1);
  });

  test("opens its watch anew at once when it is told that the server is back", async () => {
    const { api, world, mirror, start } = setup();
    api.put("a");
    const reflection = start();
    await world.advance(2_000);
    // A connection that an outage of the network left behind: open, and nothing comes.
    api.mute = true;
    api.put("b");
    await world.advance(10_000);
    assert.deepEqual(mirror.names, ["demo/a"]);
    api.mute = false;
    reflection.again();
    await world.advance(0);
    assert.deepEqual(mirror.names, ["demo/a", "demo/b"]);
    assert.equal(reflection.state.state, "synced");
    assert.deepEqual([listsOf(api).length, watches(api).length, api.openWatches], [0, 2, 1]);
  });

  test("does not sit out the pause after a failure when it is told that the server is back", async () => {
    const { api, world, mirror, start } = setup();
    api.put("a");
    const reflection = start();
    await world.advance(2_000);
    api.unreachable = new Error("connect ECONNREFUSED");
    api.endWatches();
    await world.advance(60_000);
    api.unreachable = undefined;
    api.put("b");
    reflection.again();
    await world.advance(0);
    assert.deepEqual(mirror.names, ["demo/a", "demo/b"]);
  });

  test("resumes where it was when the server ends the watch, without a list", async () => {
    const { api, world, mirror, start } = setup();
    api.put("a");
    const reflection = start();
    await world.advance(2_000);
    api.endWatches();
    api.put("b");
    await world.advance(100);
    assert.deepEqual(mirror.names, ["demo/a", "demo/b"]);
    assert.equal(reflection.lists, 1);
    assert.match(watches(api)[1]!, /resourceVersion=101\b/);
  });

  test("resumes from a bookmark", async () => {
    const { api, world, start } = setup();
    api.put("a");
    start();
    await world.advance(2_000);
    const bookmarked = Number(api.version) + 50;
    for (let i = 0; i < 50; i++) api.put("noise");
    await world.advance(0);
    api.bookmark();
    await world.advance(0);
    api.cutWatches();
    await world.advance(1_000);
    assert.match(watches(api)[1]!, new RegExp(`resourceVersion=${bookmarked}\\b`));
  });

  test("drops half an event when the connection breaks in the middle of it", async () => {
    const { api, world, mirror, states, start } = setup();
    api.put("a");
    start();
    await world.advance(0);
    api.put("b");
    api.cutWatches({ midJson: true });
    await world.advance(1_000);
    assert.deepEqual(mirror.names, ["demo/a", "demo/b"]);
    assert.equal(mirror.replaced, 1);
    assert.deepEqual(
      states.map(({ state }) => state),
      ["synced", "stale", "synced"],
    );
  });

  test("lists anew after 410, as HTTP and as an event, and sees what was deleted meanwhile", async () => {
    for (const how of ["http", "event"] as const) {
      const { api, world, mirror, start } = setup();
      api.put("a");
      api.put("b");
      start();
      await world.advance(0);
      if (how === "event") {
        const status = { kind: "Status", code: 410, reason: "Expired", message: "too old resource version" };
        api.sendBytes(Buffer.from(`${JSON.stringify({ type: "ERROR", object: status })}\n`));
        await world.advance(0);
      } else {
        api.cutWatches();
        api.remove("a");
        api.put("c");
        api.compact();
        await world.advance(1_000);
        assert.deepEqual(mirror.names, ["demo/b", "demo/c"], how);
      }
      assert.equal(mirror.replaced, 2, how);
    }
  });

  test("hands over what came in one chunk before it says that the batch is settled", async () => {
    const { api, world, mirror, start } = setup();
    start();
    await world.advance(0);
    mirror.history.length = 0;
    api.put("a");
    api.put("b");
    api.remove("a");
    await world.advance(0);
    assert.deepEqual(mirror.history, ["demo/b@102"]);
  });

  test("finds a watch that fell silent without breaking, once the server has shown that it sends bookmarks", async () => {
    const { api, world, mirror, start } = setup();
    start();
    await world.advance(0);
    api.mute = true;
    api.put("lost");
    await world.advance(80_000);
    assert.equal(mirror.objects.size, 0);
    api.mute = false;
    await world.advance(11_000);
    assert.deepEqual(mirror.names, ["demo/lost"]);
    assert.equal(mirror.replaced, 1, "it resumes");
  });

  test("stays synced on a quiet server that sends no bookmarks, and notices one that hangs", async () => {
    const { api, world, states, start } = setup();
    start();
    await world.advance(3_600_000);
    assert.deepEqual(states, [{ state: "synced" }]);
    assert.ok(api.requests.length <= 41, `${api.requests.length} requests in an hour`);
    api.intercept = () => new Promise(() => {});
    await world.advance(90_000 + 30_000);
    assert.equal(states.at(-1)?.state, "stale");
    assert.match((states.at(-1) as { reason: string }).reason, /no answer within 30 s/);
  });

  test("backs off from a server that cannot be reached, says so, and comes back", async () => {
    const { api, world, mirror, states, start } = setup();
    api.unreachable = Object.assign(new Error("connect"), { code: "ECONNREFUSED" });
    const reflection = start();
    await world.advance(60_000);
    assert.ok(api.requests.length < 30, `${api.requests.length} tries in a minute`);
    assert.equal(reflection.state.state, "error");
    assert.match((states[0] as { reason: string }).reason, /connection refused/);
    api.unreachable = undefined;
    await world.advance(10_000);
    assert.equal(states.at(-1)?.state, "synced");
    const before = world.now();
    api.unreachable = new Error("gone");
    api.cutWatches();
    await world.advance(30_000);
    assert.equal(reflection.state.state, "stale");
    assert.ok((states.at(-1) as { since: number }).since <= before);
    api.unreachable = undefined;
    api.put("back");
    await world.advance(10_000);
    assert.deepEqual(mirror.names, ["demo/back"]);
    assert.equal(mirror.replaced, 1, "an outage is no reason to list");
  });

  test("says that it is refused, and is there when the refusal ends", async () => {
    const { api, world, states, start } = setup();
    api.intercept = () => refuse(403, "Forbidden", "configmaps is forbidden: you may not");
    const reflection = start();
    await world.advance(1_000);
    assert.deepEqual(reflection.state.state, "error");
    assert.match((states[0] as { reason: string }).reason, /c1: configmaps is forbidden/);
    api.intercept = undefined;
    await world.advance(10_000);
    assert.equal(reflection.state.state, "synced");
  });

  test("does not spin on a server that ends every watch at once", async () => {
    const { api, world, start } = setup();
    start();
    await world.advance(0);
    api.intercept = (_, url) =>
      url.searchParams.has("watch") ? { status: 200, headers: {}, body: once("") } : undefined;
    api.cutWatches();
    const before = api.requests.length;
    await world.advance(60_000);
    assert.ok(api.requests.length - before < 30, `${api.requests.length - before} requests in a minute`);
  });

  test("does not spin on garbage, and takes everything anew after a few tries", async () => {
    for (const garbage of [
      "<html>\n",
      '{"type":"ADDED"}\n',
      '{"type":"MODIFIED","object":{}}\n',
      "null\n",
      '{"type":"ADDED","object":',
    ]) {
      const { api, world, mirror, start } = setup();
      api.put("a");
      const reflection = start();
      await world.advance(0);
      api.intercept = () => ({ status: 200, headers: {}, body: once(garbage) });
      api.cutWatches();
      const before = api.requests.length;
      await world.advance(60_000);
      assert.ok(api.requests.length - before < 40, `${api.requests.length - before} requests for ${garbage}`);
      assert.notEqual(reflection.state.state, "synced");
      assert.deepEqual(mirror.names, ["demo/a"], "what we had stays");
      api.intercept = undefined;
      api.put("b");
      await world.advance(12_000);
      assert.deepEqual(mirror.names, ["demo/a", "demo/b"]);
    }
  });

  test("lists anew when the server says that our resourceVersion is from the future", async () => {
    const { api, world, mirror, start } = setup();
    api.put("a");
    start();
    await world.advance(0);
    api.intercept = (_, url) => {
      if (!url.searchParams.get("resourceVersion")) return undefined;
      const causes = [{ reason: "ResourceVersionTooLarge", message: "Too large resource version" }];
      return json(504, {
        kind: "Status",
        code: 504,
        reason: "Timeout",
        message: "Too large",
        details: { causes },
      });
    };
    api.cutWatches();
    await world.advance(1_000);
    assert.equal(mirror.replaced, 2);
  });

  test("keeps of managedFields only what is ours, and what the transform leaves", async () => {
    const { api, world, mirror, start } = setup({
      transform: (object) => (object.data?.drop ? undefined : object),
    });
    api.put("a", {}, { managedFields: [{ manager: "kubectl" }, { manager: "weft" }, { manager: "weft-x" }] });
    api.put("b", { drop: "1" });
    start();
    await world.advance(0);
    assert.deepEqual(
      mirror.objects.get("demo/a")?.metadata.managedFields?.map(({ manager }) => manager),
      ["weft", "weft-x"],
    );
    assert.deepEqual(mirror.names, ["demo/a"]);
    api.put("a", { drop: "1" });
    await world.advance(0);
    assert.deepEqual(mirror.names, []);
  });

  test("hands over nothing after it was stopped, and leaves no watch and no timer behind", async () => {
    const { api, world, mirror, start } = setup();
    const reflection = start();
    await world.advance(0);
    assert.equal(api.openWatches, 1);
    reflection.stop();
    api.put("a");
    await world.advance(0);
    assert.equal(mirror.objects.size, 0);
    assert.equal(api.openWatches, 0);
    assert.equal(world.nextDeadline(), undefined);
  });
});

/**
 * Random writes, random faults. At the end the mirror equals the server; and at no moment did the mirror show
 * a state that the server never had, or an older one after a newer one.
 */
test("a reflected cache always ends equal to the server's list and never shows a state that never was", async () => {
  const write = fc.record({
    do: fc.constantFrom("put", "remove"),
    name: fc.constantFrom("a", "b", "c", "d"),
  });
  const fault = fc.record({
    do: fc.constantFrom("cut", "midJson", "end", "compact", "bookmark", "dark", "light", "garbage", "wait"),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.oneof({ weight: 3, arbitrary: write }, { weight: 2, arbitrary: fault }), { maxLength: 60 }),
      fc.constantFrom("offered" as const, "refused" as const, "ignored" as const),
      fc.nat(),
      async (steps, watchList, seed) => {
        const { api, world, mirror, start } = setup({ seed });
        api.watchList = watchList;
        const states = [picture(api.objects())];
        const reflection = start();
        for (const step of steps) {
          switch (step.do) {
            case "put":
              api.put((step as { name: string }).name);
              break;
            case "remove":
              api.remove((step as { name: string }).name);
              break;
            case "cut":
            case "midJson":
              api.cutWatches({ midJson: step.do === "midJson" });
              break;
            case "end":
              api.endWatches();
              break;
            case "compact":
              api.compact();
              break;
            case "bookmark":
              api.bookmark();
              break;
            case "dark":
              api.unreachable = new Error("dark");
              break;
            case "light":
              api.unreachable = undefined;
              break;
            case "garbage":
              api.sendBytes(Buffer.from("\u0000garbage}\n"));
              break;
            case "wait":
              await world.advance(700);
          }
          states.push(picture(api.objects()));
          if (world.random() < 0.4) await world.advance(world.random() * 50);
        }
        api.unreachable = undefined;
        await world.advance(60_000);
        assert.equal(picture(mirror.objects.values()), picture(api.objects()));
        let at = 0;
        for (const seen of mirror.history) {
          const found = states.indexOf(seen, at);
          assert.ok(found >= 0, `"${seen}" never was, or was before "${states[at]}"`);
          at = found;
        }
        reflection.stop();
        await world.advance(0);
        assert.equal(world.nextDeadline(), undefined, "no timer is left");
      },
    ),
    { numRuns: Number(process.env.RUNS ?? 300) },
  );
});
