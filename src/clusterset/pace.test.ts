import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { SimulatedWorld } from "../world/index.ts";
import { Pace } from "./pace.ts";

/** Wishes every `every` ms for `seconds`; returns when they came true, and which. */
async function wishing(pace: Pace, world: SimulatedWorld, every: number, seconds: number) {
  const done: { at: number; wish: number }[] = [];
  const begun = world.monotonic();
  for (let wish = 0; world.monotonic() - begun < seconds * 1000; wish++) {
    pace.run("a", () => done.push({ at: world.monotonic() - begun, wish }));
    await world.advance(every);
  }
  return done;
}

describe("a pace", () => {
  test("lets three through at once, then one every ten seconds, with what was wished last", async () => {
    const world = new SimulatedWorld(1);
    const done = await wishing(new Pace(world), world, 1000, 35);
    assert.deepEqual(done, [
      { at: 0, wish: 0 },
      { at: 1000, wish: 1 },
      { at: 2000, wish: 2 },
      { at: 10_000, wish: 9 },
      { at: 20_000, wish: 19 },
      { at: 30_000, wish: 29 },
    ]);
  });

  test("comes to the next one whatever the clock's fractions are (property)", async () => {
    const wait = fc.double({ min: 0.001, max: 3_000, noNaN: true });
    await fc.assert(
      fc.asyncProperty(wait, wait, async (offset, every) => {
        const world = new SimulatedWorld(1);
        await world.advance(offset);
        const seconds = Math.min(50, every); // at most some 1,000 wishes
        const done = await wishing(new Pace(world), world, Math.max(every, 1), seconds);
        const most = 3 + Math.floor(seconds / 10) + 1;
        assert.ok(done.length >= 1 && done.length <= most, `${done.length} in ${seconds} s`);
      }),
      { numRuns: 50 },
    );
  });

  test("forgets what waits under a name, and not how often it was done", async () => {
    const world = new SimulatedWorld(1);
    const pace = new Pace(world);
    const done: number[] = [];
    for (let i = 0; i < 5; i++) pace.run("a", () => done.push(i));
    assert.deepEqual(done, [0, 1, 2]);
    pace.forget("a");
    await world.advance(9_999);
    pace.run("a", () => done.push(9));
    assert.deepEqual(done, [0, 1, 2]);
    await world.advance(1);
    assert.deepEqual(done, [0, 1, 2, 9]);
  });
});
