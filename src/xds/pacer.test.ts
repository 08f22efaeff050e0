import assert from "node:assert/strict";
import { test } from "node:test";
import { SimulatedWorld } from "../world/index.ts";
import { Pacer, type Turn } from "./pacer.ts";

function turns(count: number): { turn: Turn; resumed: number }[] {
  return Array.from({ length: count }, () => {
    const each = { resumed: 0, turn: { resume: () => void each.resumed++ } };
    return each;
  });
}

test("a few are served at a time, the others in the order in which they came", () => {
  const pacer = new Pacer(new SimulatedWorld(1), 2);
  const [a, b, c, d] = turns(4) as [Seat, Seat, Seat, Seat];
  assert.deepEqual(
    [a, b, c, d].map(({ turn }) => pacer.enter(turn)),
    [true, true, false, false],
  );
  assert.equal(pacer.enter(a.turn), true, "who is in stays in");
  pacer.leave(b.turn);
  assert.deepEqual([c.resumed, d.resumed], [1, 0]);
  assert.deepEqual([pacer.enter(c.turn), pacer.enter(d.turn)], [true, false]);
});

test("who goes while it waits is not called, and takes nobody's place", () => {
  const pacer = new Pacer(new SimulatedWorld(1), 1);
  const [a, b, c] = turns(3) as [Seat, Seat, Seat];
  for (const { turn } of [a, b, c]) pacer.enter(turn);
  pacer.leave(b.turn);
  pacer.leave(a.turn);
  assert.deepEqual([b.resumed, c.resumed], [0, 1]);
});

test("who does not answer keeps others waiting for half a second at most, and then queues again", async () => {
  const world = new SimulatedWorld(1);
  const pacer = new Pacer(world, 1);
  const [slow, next] = turns(2) as [Seat, Seat];
  pacer.enter(slow.turn);
  pacer.enter(next.turn);
  await world.advance(499);
  assert.equal(next.resumed, 0);
  await world.advance(1);
  assert.equal(next.resumed, 1);
  assert.equal(pacer.enter(slow.turn), false);
  pacer.leave(next.turn);
  assert.equal(slow.resumed, 1);
});

type Seat = ReturnType<typeof turns>[number];
