import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SimulatedWorld } from "../../world/index.ts";
import { ReconcileQueue } from "./queue.ts";

describe("a reconcile queue", () => {
  test("runs a key once however often it was added, and once more if it was added meanwhile", async () => {
    const world = new SimulatedWorld(1);
    const runs: string[] = [];
    let release = () => {};
    const queue = new ReconcileQueue({
      world,
      reconcile: async (key) => {
        runs.push(key);
        if (runs.length === 1) await new Promise<void>((resolve) => (release = resolve));
        return undefined;
      },
    });
    queue.add("a");
    queue.add("a");
    await world.advance(0);
    assert.deepEqual(runs, ["a"]);
    queue.add("a");
    queue.add("a");
    queue.add("b");
    await world.advance(0);
    assert.deepEqual(runs, ["a", "b"]);
    release();
    await world.advance(0);
    assert.deepEqual(runs, ["a", "b", "a"]);
    assert.equal(queue.idle, true);
  });

  test("tries a failing key again after 10 ms, 20 ms, 40 ms, and starts over after a success", async () => {
    const world = new SimulatedWorld(1);
    const runs: number[] = [];
    let failing = true;
    const failures: number[] = [];
    const queue = new ReconcileQueue({
      world,
      reconcile: async () => {
        runs.push(world.monotonic());
        if (failing) throw new Error("no");
        return undefined;
      },
      onError: (_key, _error, count) => failures.push(count),
    });
    queue.add("a");
    await world.advance(75);
    assert.deepEqual(runs, [0, 10, 30, 70]);
    assert.deepEqual(failures, [1, 2, 3, 4]);
    failing = false;
    await world.advance(80);
    failing = true;
    queue.add("a");
    await world.advance(15);
    assert.deepEqual(runs.slice(4), [150, 155, 165]);
  });

  test("of several delays takes the shortest, and is silent once it is stopped", async () => {
    const world = new SimulatedWorld(1);
    let runs = 0;
    const queue = new ReconcileQueue({
      world,
      reconcile: async () => {
        runs++;
        return { after: 1000 };
      },
    });
    queue.addAfter("a", 500);
    queue.addAfter("a", 100);
    queue.addAfter("a", 300);
    await world.advance(100);
    assert.equal(runs, 1);
    await world.advance(1000);
    assert.equal(runs, 2);
    queue.stop();
    await world.advance(10_000);
    assert.equal(runs, 2);
    assert.equal(world.nextDeadline(), undefined);
  });

  test("works on no more keys at a time than it has workers", async () => {
    const world = new SimulatedWorld(1);
    let now = 0;
    let most = 0;
    let done = 0;
    const queue = new ReconcileQueue({
      world,
      workers: 3,
      reconcile: async () => {
        most = Math.max(most, ++now);
        await new Promise((resolve) => setImmediate(resolve));
        now--;
        done++;
        return undefined;
      },
    });
    for (let n = 0; n < 20; n++) queue.add(`${n}`);
    while (!queue.idle) await world.advance(0);
    assert.deepEqual([most, done], [3, 20]);
  });
});
