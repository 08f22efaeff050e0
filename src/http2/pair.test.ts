/** What takes two of ours, and a wire that carries when it is told to, to see; or bytes by hand. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { SimulatedWorld } from "../world/index.ts";
import { frame, headSize, numberFrame, preface, settingsFrame } from "./frames.ts";
import { HpackEncoder } from "./hpack.ts";
import { Connection, errorCode, type Stream } from "./index.ts";
import { ask, bytes } from "./testing/ask.ts";
import { carryAll, turn, wire } from "./testing/wire.ts";

test("requests on their way to a server that goes: those that it did not look at are told so, the others answered", async () => {
  const simulated = new SimulatedWorld(1);
  const [near, far] = wire();
  const goaways: number[] = [];
  const events = { goaway: (code: number) => void goaways.push(code), closed() {} };
  const client = new Connection(near, { world: simulated, role: "client", events });
  const served: Stream[] = [];
  new Connection(far, {
    world: simulated,
    role: "server",
    events: {
      stream(stream) {
        stream.events = { data() {}, end() {}, closed() {} };
        served.push(stream);
      },
      closed() {},
    },
  });
  const first = ask(client, "/1", true);
  await turn();
  near.carry(1_000);
  await turn();
  // By hand: the last that was looked at is the first.
  const last = Buffer.concat([numberFrame(frame.GOAWAY, 0, 1), Buffer.alloc(4)]);
  last[2] = 8;
  const second = ask(client, "/2", true);
  near.push(settingsFrame([]));
  near.push(last);
  await turn();
  assert.deepEqual(goaways, [errorCode.NO_ERROR]);
  assert.deepEqual(second.answer.closed, [errorCode.REFUSED_STREAM, "peer"]);
  assert.equal(client.request([":method", "GET"], true, { data() {}, end() {}, closed() {} }), undefined);
  assert.equal(client.room, 0);
  assert.equal(first.answer.closed, undefined);
  served[0]!.head([":status", "204"], true);
  await turn();
  await carryAll(far);
  assert.deepEqual(first.answer.closed, [errorCode.NO_ERROR, "both"]);
});

test("who was refused is told to go on, also where all that waited leaves with the next piece", async () => {
  const simulated = new SimulatedWorld(1);
  const [near, far] = wire();
  const client = new Connection(near, { world: simulated, role: "client", events: { closed() {} } });
  let served: Stream | undefined;
  const windows = { streamWindow: 500_000, connectionWindow: 500_000 };
  const stream = (stream: Stream) => {
    stream.events = { data() {}, end() {}, closed() {} };
    served = stream;
  };
  new Connection(far, { world: simulated, role: "server", ...windows, events: { stream, closed() {} } });
  let drained = 0;
  let sent = 0;
  const asked = client.request(
    [":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a"],
    false,
    {
      data() {},
      end() {},
      drain: () => void drained++,
      closed() {},
    },
  )!;
  await carryAll(near);
  await carryAll(far);
  await carryAll(near);
  assert.ok(served);
  // It fills the socket: three frames, and a small one that is left when the others are gone.
  asked.data(bytes(1, 3 * 16_384 + 500));
  await turn();
  assert.equal(asked.data(bytes(2, 100_000)), false);
  asked.whenSent(() => void sent++);
  while (near.writableLength > 600) near.carry(16_384);
  client.ping(() => undefined);
  await turn();
  assert.equal(near.writableNeedDrain, true, "the socket did not say that it takes more");
  assert.deepEqual([asked.queued, drained], [100_000, 0]);
  asked.data(bytes(3, 1));
  assert.deepEqual([asked.queued, drained], [0, 1]);
  await carryAll(near);
  assert.equal(sent, 1);
});

test("who pauses and goes on while it is given what was kept gets it in order, and its end last", async () => {
  const got: string[] = [];
  const [near, far] = wire();
  const simulated = new SimulatedWorld(1);
  const client = new Connection(near, { world: simulated, role: "client", events: { closed() {} } });
  let asked!: Stream;
  const events = {
    stream(stream: Stream) {
      asked = stream;
      stream.events = {
        data(chunk: Buffer) {
          got.push(chunk.toString());
          stream.pause();
          stream.resume();
        },
        end: () => void got.push("end"),
        closed() {},
      };
      stream.pause();
    },
    closed() {},
  };
  new Connection(far, { world: simulated, role: "server", events });
  const { stream } = ask(client, "/", false);
  for (const text of ["a", "b", "c"]) stream.data(Buffer.from(text));
  stream.end();
  await carryAll(near);
  assert.deepEqual(got, []);
  asked.resume();
  assert.deepEqual(got, ["a", "b", "c", "end"]);
});

test("what streams of two connections share arrives at both, long and short, and one's end is not the other's", async () => {
  const simulated = new SimulatedWorld(1);
  const pairs = [wire(), wire()];
  const served: Stream[] = [];
  const asked = pairs.map(([near, far]) => {
    const client = new Connection(near, { world: simulated, role: "client", events: { closed() {} } });
    const stream = (stream: Stream) => {
      stream.events = { data() {}, end() {}, closed() {} };
      stream.head([":status", "200"], false);
      stream.shares = true;
      served.push(stream);
    };
    new Connection(far, { world: simulated, role: "server", events: { stream, closed() {} } });
    return ask(client, "/", true);
  });
  const carry = async () => {
    for (const [near, far] of pairs) for (const end of [near, far, near]) await carryAll(end);
  };
  await carry();
  assert.equal(served.length, 2);
  const parts = [bytes(1, 100), bytes(2, 16_383), bytes(3, 16_384), bytes(4, 20_000), bytes(5, 9)];
  for (const part of parts) for (const stream of served) stream.data(part);
  await carry();
  // The last piece of both is the same frame, and only one of them ends with it.
  for (const stream of served) stream.data(bytes(6, 5));
  const last = bytes(7, 50);
  served[0]!.data(last);
  served[1]!.data(last);
  served[0]!.end();
  await carry();
  const whole = Buffer.concat([...parts, bytes(6, 5), last]);
  assert.deepEqual([asked[0]!.answer.ended, asked[1]!.answer.ended], [true, false]);
  served[1]!.data(bytes(8, 3));
  served[1]!.end();
  await carry();
  assert.deepEqual(asked[0]!.answer.body, whole);
  assert.deepEqual(asked[1]!.answer.body, Buffer.concat([whole, bytes(8, 3)]));
});

test("resets without end are a flood: a hundred at once, and twenty a second after that", async () => {
  const simulated = new SimulatedWorld(1);
  const [near, far] = wire();
  const closed: (Error | undefined)[] = [];
  const events = { stream: () => undefined, closed: (error: Error | undefined) => void closed.push(error) };
  const server = new Connection(far, { world: simulated, role: "server", events });
  const encoder = new HpackEncoder();
  let id = -1;
  const resetOne = () => {
    id += 2;
    const block = encoder.encode([":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a"]);
    const headers = Buffer.alloc(headSize + block.length);
    headers.writeUIntBE(block.length, 0, 3);
    headers[3] = frame.HEADERS;
    headers[4] = 0x4; // END_HEADERS
    headers.writeUInt32BE(id, 5);
    block.copy(headers, headSize);
    server.receive(Buffer.concat([headers, numberFrame(frame.RST_STREAM, id, errorCode.CANCEL)]));
  };
  server.receive(Buffer.concat([preface, settingsFrame([])]));
  for (let i = 0; i < 100; i++) resetOne();
  await simulated.advance(1_000);
  for (let i = 0; i < 20; i++) resetOne();
  assert.equal(server.ending, false);
  resetOne();
  assert.equal(server.ending, true);
  await simulated.advance(1_000);
  assert.match(closed[0]!.message, /flood: RST_STREAM/);
  near.destroy();
});
