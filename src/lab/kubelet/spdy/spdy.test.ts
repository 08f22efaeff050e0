import assert from "node:assert/strict";
import { duplexPair } from "node:stream";
import { buffer } from "node:stream/consumers";
import { describe, test } from "node:test";
import { constants, createDeflate } from "node:zlib";
import fc from "fast-check";
import { type Frame, FrameReader, FrameWriter, ProtocolError } from "./frames.ts";
import { dictionary, HeaderReader, HeaderWriter } from "./headers.ts";
import { type SessionOptions, SpdySession, type SpdyStream, StreamReset } from "./index.ts";

const name = fc.stringMatching(/^[a-z0-9-]{1,20}$/);
const value = fc.string({ maxLength: 40, unit: "grapheme-ascii" });
const headers = fc
  .uniqueArray(fc.tuple(name, value), { selector: ([key]) => key, maxLength: 8 })
  .map((rows) => new Map(rows));
const id = fc.integer({ min: 1, max: 0x7fffffff });
const word = fc.integer({ min: 0, max: 0xffffffff });
const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array));
const frame: fc.Arbitrary<Frame> = fc.oneof(
  fc.record({ type: fc.constant("data" as const), stream: id, data: bytes, fin: fc.boolean() }),
  fc.record({ type: fc.constant("synStream" as const), stream: id, headers, fin: fc.boolean() }),
  fc.record({
    type: fc.constantFrom("synReply" as const, "headers" as const),
    stream: id,
    headers,
    fin: fc.boolean(),
  }),
  fc.record({ type: fc.constant("rstStream" as const), stream: id, status: word }),
  fc.record({
    type: fc.constant("settings" as const),
    settings: fc
      .uniqueArray(fc.tuple(fc.integer({ min: 1, max: 0xffffff }), word), { selector: ([key]) => key })
      .map((rows) => new Map(rows)),
  }),
  fc.record({ type: fc.constant("ping" as const), id: word }),
  fc.record({ type: fc.constant("goAway" as const), lastStream: id, status: word }),
  fc.record({ type: fc.constant("windowUpdate" as const), stream: id, delta: id }),
);

/** The bytes, cut at the places that the numbers say. */
function cut(whole: Buffer, places: number[]): Buffer[] {
  const at = [0, ...places.map((place) => place % (whole.length + 1)).sort((a, b) => a - b), whole.length];
  return at.slice(1).map((end, i) => whole.subarray(at[i], end));
}

/** Frames of one stream's data that follow each other are one. */
function joined(frames: Iterable<Frame>): Frame[] {
  const result: Frame[] = [];
  for (const frame of frames) {
    const last = result.at(-1);
    const follows = last?.type === "data" && frame.type === "data" && last.stream === frame.stream;
    if (follows && !last.fin)
      result[result.length - 1] = { ...frame, data: Buffer.concat([last.data, frame.data]) };
    else result.push({ ...frame });
  }
  return result;
}

async function read(chunks: Iterable<Buffer>): Promise<Frame[]> {
  const reader = new FrameReader();
  const frames: Frame[] = [];
  try {
    for (const chunk of chunks) for await (const frame of reader.read(chunk)) frames.push(frame);
  } finally {
    reader.close();
  }
  return joined(frames);
}

describe("header blocks", () => {
  test("start from the draft's dictionary", () => {
    let [a, b] = [1, 0];
    for (const byte of dictionary) {
      a = (a + byte) % 65521;
      b = (b + a) % 65521;
    }
    assert.equal(dictionary.length, 1423);
    // The checksum (RFC 1950) that every zlib stream with this dictionary names.
    assert.equal(((b << 16) | a) >>> 0, 0xe3c6a7c2);
  });

  test("are read back as they were written", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(headers, { maxLength: 5 }), async (blocks) => {
        const [writer, reader] = [new HeaderWriter(), new HeaderReader()];
        for (const block of blocks) assert.deepEqual(await reader.read(writer.write(block)), block);
        reader.close();
      }),
    );
  });

  test("are read as others compress them: with the dictionary, one stream for all", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(headers, { maxLength: 5 }), async (blocks) => {
        const [deflate, reader] = [createDeflate({ dictionary, level: 9 }), new HeaderReader()];
        for (const block of blocks) {
          // What is written stored is, behind its zlib and block heads, the plain block.
          const plain = new HeaderWriter().write(block).subarray(7, -5);
          const chunks: Buffer[] = [];
          const take = (chunk: Buffer) => chunks.push(chunk);
          deflate.on("data", take);
          deflate.write(plain);
          await new Promise<void>((resolve) => deflate.flush(constants.Z_SYNC_FLUSH, resolve));
          deflate.off("data", take);
          assert.deepEqual(await reader.read(Buffer.concat(chunks)), block);
        }
        reader.close();
      }),
      { numRuns: 30 },
    );
  });

  test("that stand for gigabytes are refused before they are that large", async () => {
    const deflate = createDeflate({ level: 9 });
    deflate.end(Buffer.alloc(64 * 1024 * 1024));
    const reader = new HeaderReader();
    await assert.rejects(reader.read(await buffer(deflate)), /too large/);
    await assert.rejects(reader.read(new HeaderWriter().write(new Map())), /too large/);
  });
});

describe("frames", () => {
  test("are read back as they were written, however they are cut", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(frame, { maxLength: 6 }),
        fc.array(fc.nat(), { maxLength: 10 }),
        async (frames, places) => {
          const writer = new FrameWriter();
          const whole = Buffer.concat(frames.flatMap((frame) => writer.write(frame)));
          assert.deepEqual(await read(cut(whole, places)), joined(frames));
        },
      ),
    );
  });

  test("of garbage are frames or an error, and nothing else", async () => {
    const garbage = fc.array(
      fc.oneof(
        bytes,
        frame.map((frame) => Buffer.concat(new FrameWriter().write(frame))),
      ),
      { maxLength: 5 },
    );
    await fc.assert(
      fc.asyncProperty(
        garbage,
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }),
        async (pieces, changes) => {
          const whole = Buffer.concat(pieces);
          for (const [at, value] of changes) if (whole.length > 0) whole[at % whole.length] = value;
          await read([whole]).catch((error: unknown) =>
            assert.ok(error instanceof ProtocolError, String(error)),
          );
        },
      ),
      { numRuns: 300 },
    );
  });

  test("are not held: a DATA frame of 16 MB is passed on as it comes", async () => {
    const reader = new FrameReader();
    const chunk = Buffer.alloc(8 + 100, 1);
    chunk.writeUInt32BE(5, 0);
    chunk.writeUInt32BE(0xffffff, 4);
    const frames: Frame[] = [];
    for await (const frame of reader.read(chunk)) frames.push(frame);
    assert.equal(frames.length, 1);
    const [first] = frames;
    assert.ok(first?.type === "data" && first.data.length === 100 && !first.fin);
    reader.close();
  });
});

/** Both ends of a session, over memory. */
function pair(server: Omit<SessionOptions, "role">, client: Omit<SessionOptions, "role"> = {}) {
  const [a, b] = duplexPair();
  const sessions = {
    client: new SpdySession(a, { ...client, role: "client" }),
    server: new SpdySession(b, { ...server, role: "server" }),
  };
  return { ...sessions, wire: a, [Symbol.dispose]: () => a.destroy() };
}
const echo = (stream: SpdyStream) => {
  stream.accept();
  stream.pipe(stream);
};
const eventually = async (holds: () => boolean) => {
  while (!holds()) await new Promise((resolve) => setImmediate(resolve));
};

describe("a session", () => {
  test("carries streams both ways, each with its headers and its own end", async () => {
    const seen: string[] = [];
    using both = pair({
      onStream(stream) {
        seen.push(stream.headers.get("streamtype")!);
        echo(stream);
      },
    });
    const sizes = [0, 1, 70_000, 1_000_000];
    const answers = sizes.map(async (size, i) => {
      const stream = both.client.open(new Map([["streamtype", `s${i}`]]));
      const sent = Buffer.alloc(size, i + 65);
      stream.end(sent);
      const answer = await buffer(stream);
      assert.ok(answer.equals(sent), `${answer.length} of ${size}`);
    });
    await Promise.all(answers);
    assert.deepEqual(seen, ["s0", "s1", "s2", "s3"]);
    await eventually(() => both.client.size === 0 && both.server.size === 0);
    await both.client.ping();
    both.server.close();
    await both.client.closed;
  });

  test("heeds the windows of a peer that tells them, and none of a peer that does not", async () => {
    for (const [told, most] of [
      [[], 300_000],
      [[{ type: "windowUpdate", stream: 1, delta: 10 }], 64 * 1024 + 10],
      [[{ type: "windowUpdate", stream: 0, delta: 10 }], 64 * 1024],
      [[{ type: "settings", settings: new Map([[7, 1000]]) }], 1000],
    ] as [Frame[], number][]) {
      const [wire, ours] = duplexPair();
      let written = false;
      const onStream = (stream: SpdyStream) => {
        stream.accept();
        stream.end(Buffer.alloc(300_000), () => (written = true));
      };
      new SpdySession(ours, { role: "server", onStream });
      const [writer, reader] = [new FrameWriter(), new FrameReader()];
      const tell = (frame: Frame) => wire.write(Buffer.concat(writer.write(frame)));
      for (const frame of told) tell(frame);
      tell({ type: "synStream", stream: 1, headers: new Map(), fin: false });
      if (told[0]?.type === "windowUpdate" && told[0].stream === 1) tell(told[0]);
      let size = 0;
      let ended = false;
      const count = (async () => {
        for await (const chunk of wire) {
          for await (const frame of reader.read(chunk as Buffer)) {
            if (frame.type === "data") size += frame.data.length;
            if (frame.type === "data" && frame.fin) ended = true;
          }
        }
      })();
      await eventually(() => size >= most);
      if (most < 300_000) {
        for (let turns = 0; turns < 20; turns++) await new Promise((resolve) => setImmediate(resolve));
        assert.equal(size, most);
        assert.ok(!written);
        tell({ type: "windowUpdate", stream: 0, delta: 1_000_000 });
        tell({ type: "windowUpdate", stream: 1, delta: 1_000_000 });
      }
      await eventually(() => ended);
      assert.equal(size, 300_000);
      wire.end();
      await count;
    }
  });

  test("holds the peer back while nobody reads, in bounded memory", async () => {
    let received: SpdyStream | undefined;
    using both = pair({
      onStream(stream) {
        received = stream;
        stream.accept();
      },
    });
    const stream = both.client.open(new Map());
    let sent = 0;
    const piece = Buffer.alloc(16 * 1024);
    const send = () => {
      while (sent < 8_000_000 && stream.write(piece)) sent += piece.length;
      if (sent >= 8_000_000) stream.end();
      else stream.once("drain", send);
    };
    send();
    await eventually(() => (received?.readableLength ?? 0) >= 64 * 1024);
    for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => setImmediate(resolve));
    assert.ok(received!.readableLength < 200_000, `${received!.readableLength}`);
    assert.ok(sent < 1_000_000, `${sent}`);
    let size = 0;
    for await (const chunk of received!) size += (chunk as Buffer).length;
    assert.ok(size >= 8_000_000);
  });

  test("tells a reset to both ends, and the others go on", async () => {
    const taken: SpdyStream[] = [];
    using both = pair({
      onStream(stream) {
        taken.push(stream);
        echo(stream);
      },
    });
    const [a, b] = [both.client.open(new Map()), both.client.open(new Map())];
    await a.reply;
    a.destroy();
    await eventually(() => taken[0]!.destroyed);
    assert.ok(taken[0]!.errored instanceof StreamReset);
    b.end("still here");
    assert.equal((await buffer(b)).toString(), "still here");
  });

  test("refuses streams that nobody takes", async () => {
    using both = pair({});
    const stream = both.client.open(new Map());
    await assert.rejects(stream.reply, { status: 3 });
  });

  test("ends every stream when the connection is lost", async () => {
    using both = pair({ onStream: (stream) => stream.accept() });
    const stream = both.client.open(new Map());
    await stream.reply;
    both.wire.destroy();
    await both.client.closed;
    assert.ok(stream.destroyed && stream.errored instanceof StreamReset);
  });

  test("survives any bytes: it closes, or it goes on", async () => {
    const pieces = fc.array(fc.oneof({ weight: 1, arbitrary: bytes }, { weight: 5, arbitrary: frame }), {
      maxLength: 12,
    });
    await fc.assert(
      fc.asyncProperty(pieces, async (pieces) => {
        const [wire, ours] = duplexPair();
        const session = new SpdySession(ours, { role: "server", onStream: echo });
        const writer = new FrameWriter();
        wire.on("error", () => {}).resume();
        for (const piece of pieces) {
          for (const part of Buffer.isBuffer(piece) ? [piece] : writer.write(piece)) wire.write(part);
        }
        wire.end();
        await session.closed;
        assert.equal(session.size, 0);
      }),
      { numRuns: 200 },
    );
  });

  test("does not answer faster than a peer reads", async () => {
    const [wire, ours] = duplexPair();
    const session = new SpdySession(ours, { role: "server", onStream: echo });
    const ping = Buffer.concat(new FrameWriter().write({ type: "ping", id: 1 }));
    const flood = Buffer.concat(Array.from({ length: 1000 }, () => ping));
    // Until it takes no more; without a bound that would be never.
    let taken = 0;
    const take = () => wire.write(flood, () => (taken += flood.length));
    for (let idle = 0; idle < 100 && taken < 2_000_000; idle++) {
      const before = taken;
      if (wire.writableLength < 100_000) take();
      await new Promise((resolve) => setImmediate(resolve));
      if (taken > before) idle = 0;
    }
    assert.ok(taken < 1_000_000, `${taken} bytes of pings taken`);
    assert.ok(ours.writableLength < 1_000_000, `${ours.writableLength} bytes wait to be sent`);
    wire.resume();
    wire.end();
    await session.closed;
  });
});
