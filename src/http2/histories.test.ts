/** Two of ours over a slow wire, in random histories: bytes arrive in order and whole, and every stream closes once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SimulatedWorld } from "../world/index.ts";
import { type ClosedBy, Connection, errorCode, type Stream, type StreamEvents } from "./index.ts";
import { type End, turn, wire } from "./testing/wire.ts";

const runs = Math.ceil(200 * Number(process.env.WEFT_RUNS ?? 1));

/** Which byte is where: an order that no mistake keeps. */
const byteAt = (at: number) => (at * 31 + (at >> 8) * 17) & 0xff;

/** One side of one stream: what it gave, what it got. */
class Side implements StreamEvents {
  stream!: Stream;
  given = 0;
  got = 0;
  ended = false;
  trailersGiven: string[] | undefined;
  trailersGot: string[] | undefined;
  gotHead = false;
  gotEnd = false;
  full = false;
  paused = false;
  readonly ends: { code: number; by: ClosedBy }[] = [];

  head(_fields: readonly string[], end: boolean): void {
    assert.ok(!this.gotHead && this.ends.length === 0, "one head");
    this.gotHead = true;
    this.gotEnd = end;
  }

  data(chunk: Buffer): void {
    assert.ok(!this.paused, "nothing comes while it is paused");
    assert.ok(!this.gotEnd && this.ends.length === 0, "nothing comes after the end");
    assert.ok(this.stream.receiveWindow >= 0, "no more comes than was allowed");
    for (const byte of chunk) assert.equal(byte, byteAt(this.got++));
  }

  end(trailers: string[] | undefined): void {
    assert.ok(!this.paused && !this.gotEnd && this.ends.length === 0);
    this.gotEnd = true;
    this.trailersGot = trailers;
  }

  drain(): void {
    assert.ok(this.full, "it was refused before");
    this.full = false;
  }

  closed(code: number, by: ClosedBy): void {
    this.ends.push({ code, by });
  }

  give(length: number): void {
    if (this.ended) return;
    const chunk = Buffer.alloc(length);
    for (let i = 0; i < length; i++) chunk[i] = byteAt(this.given + i);
    this.given += length;
    if (!this.stream.data(chunk)) this.full = true;
  }

  finish(withTrailers: boolean): void {
    if (this.ended) return;
    this.ended = true;
    if (withTrailers) this.trailersGiven = ["x-given", String(this.given)];
    this.stream.end(this.trailersGiven);
  }

  pause(): void {
    this.paused = true;
    this.stream.pause();
  }

  resume(): void {
    this.paused = false;
    this.stream.resume();
  }
}

interface Windows {
  streamWindow: number;
  connectionWindow: number;
}

class Pair {
  readonly world = new SimulatedWorld(1);
  readonly ends: [End, End] = wire();
  readonly asked: Side[] = [];
  readonly asking = new Map<number, Side>();
  readonly closed: (Error | undefined)[] = [];
  readonly client: Connection;
  readonly server: Connection;

  constructor(windows: [Windows, Windows]) {
    const closed = (error: Error | undefined) => void this.closed.push(error);
    const { world } = this;
    const [near, far] = this.ends;
    this.client = new Connection(near, { world, role: "client", ...windows[0], events: { closed } });
    const stream = (stream: Stream, _fields: string[], end: boolean) => {
      const side = new Side();
      side.stream = stream;
      side.gotEnd = end;
      stream.events = side;
      this.asking.set(stream.id, side);
      stream.head([":status", "200", "x-stream", String(stream.id)], false);
    };
    this.server = new Connection(far, { world, role: "server", ...windows[1], events: { stream, closed } });
  }

  ask(end: boolean): void {
    const side = new Side();
    const fields = [":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a"];
    side.ended = end;
    side.stream = this.client.request(fields, end, side)!;
    this.asked.push(side);
  }

  /** A side of the n-th stream; undefined: the request is not there yet. */
  side(n: number, ofServer: boolean): Side | undefined {
    const asked = this.asked[n % this.asked.length];
    return asked && ofServer ? this.asking.get(asked.stream.id) : asked;
  }

  get sides(): Side[] {
    return [...this.asked, ...this.asking.values()];
  }

  /** Until nothing moves. */
  async carryAll(): Promise<void> {
    for (let quiet = 0; quiet < 3; ) {
      quiet++;
      for (const end of this.ends)
        if (end.loaded) {
          end.carry(1_000_000);
          quiet = 0;
        }
      await turn();
    }
  }
}

type Step =
  | { do: "ask"; end: boolean }
  | { do: "give"; n: number; server: boolean; length: number }
  | { do: "finish"; n: number; server: boolean; trailers: boolean }
  | { do: "pause" | "resume" | "reset"; n: number; server: boolean }
  | { do: "carry"; from: 0 | 1; most: number };

const n = fc.nat(3);
const length = fc.oneof(fc.nat(100), fc.nat(70_000));
const server = fc.boolean();
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ do: fc.constant("ask" as const), end: fc.boolean() }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("give" as const), n, server, length }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("finish" as const), n, server, trailers: fc.boolean() }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constantFrom("pause" as const, "resume" as const), n, server }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("reset" as const), n, server }) },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant("carry" as const),
      from: fc.constantFrom(0 as const, 1 as const),
      most: fc.nat(50_000),
    }),
  },
);
const windows = fc.record({
  streamWindow: fc.integer({ min: 65_535, max: 200_000 }),
  connectionWindow: fc.integer({ min: 65_535, max: 300_000 }),
});

function apply(pair: Pair, step: Step): void {
  if (step.do === "ask") {
    if (pair.client.room > 0) pair.ask(step.end);
    return;
  }
  if (step.do === "carry") {
    pair.ends[step.from].carry(step.most);
    return;
  }
  const side = pair.side(step.n, step.server);
  if (!side) return;
  if (step.do === "give") side.give(step.length);
  else if (step.do === "finish") side.finish(step.trailers);
  else if (step.do === "reset") side.stream.reset(errorCode.CANCEL);
  else side[step.do]();
}

function check(asked: Side, asking: Side | undefined): void {
  assert.equal(asked.ends.length, 1, "it closes once");
  if (!asking) return;
  assert.equal(asking.ends.length, 1, "it closes once");
  if (asked.ends[0]!.by !== "both" || asking.ends[0]!.by !== "both") return;
  assert.equal(asking.got, asked.given);
  assert.equal(asked.got, asking.given);
  assert.ok(asked.gotEnd && asking.gotEnd && asked.gotHead);
  assert.deepEqual(asking.trailersGot, asked.trailersGiven);
  assert.deepEqual(asked.trailersGot, asking.trailersGiven);
}

test("whatever is done in whatever order, bytes come whole and in order, and every stream closes once", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.tuple(windows, windows),
      fc.array(step, { maxLength: 120, size: "max" }),
      async (both, steps) => {
        const pair = new Pair(both);
        for (const one of steps) {
          apply(pair, one);
          await turn();
        }
        // All that is held is let go, and then all that is open is ended.
        await pair.carryAll();
        for (const side of pair.sides) side.resume();
        await pair.carryAll();
        for (const side of pair.sides)
          assert.ok(!side.full || side.ended || side.ends.length > 0, "who was refused is told to go on");
        for (const side of pair.sides) side.finish(false);
        await pair.carryAll();
        // The connection is as good as before.
        pair.ask(false);
        await pair.carryAll();
        for (const ofServer of [false, true]) {
          pair.side(pair.asked.length - 1, ofServer)!.give(400_000);
          pair.side(pair.asked.length - 1, ofServer)!.finish(true);
        }
        await pair.carryAll();
        for (const asked of pair.asked) check(asked, pair.asking.get(asked.stream.id));
        if (!steps.some((one) => one.do === "reset"))
          assert.ok(
            pair.sides.every(({ ends }) => ends[0]!.by === "both"),
            "none is reset by itself",
          );
        assert.deepEqual([pair.client.size, pair.server.size], [0, 0]);
        assert.deepEqual(pair.closed, [], "nothing was wrong");
        pair.server.drain();
        await pair.carryAll();
        assert.deepEqual(pair.closed, [undefined, undefined], "and both agree that it is over");
      },
    ),
    { numRuns: runs },
  );
});
