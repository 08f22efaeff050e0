/** The same as node:http2 (nghttp2) understands: its blocks are read, and it reads ours. */
import assert from "node:assert/strict";
import { once } from "node:events";
import http2 from "node:http2";
import { type Duplex, duplexPair } from "node:stream";
import { test } from "node:test";
import fc from "fast-check";
import { HpackDecoder, HpackEncoder } from "./hpack.ts";
import { staticNames, staticValues } from "./hpack-tables.ts";

const headers = 1;
const settings = 4;
const continuation = 9;
const [endStream, ack, endHeaders] = [0x1, 0x1, 0x4];
const [headerTableSize, prefaceLength, headLength] = [1, 24, 9];

/** A server that knows no more of HTTP/2 than is needed to see header blocks, and to answer with others. */
class Peer {
  readonly decoder: HpackDecoder;
  readonly encoder = new HpackEncoder();
  /** What came, by request. */
  readonly requests: string[][] = [];
  readonly #socket: Duplex;
  readonly #answer: (request: number) => string[];
  #read = Buffer.alloc(0);
  #block: Buffer[] = [];
  #skip = prefaceLength;

  constructor(socket: Duplex, tableSize: number, answer: (request: number) => string[]) {
    this.decoder = new HpackDecoder(tableSize);
    this.#socket = socket;
    this.#answer = answer;
    const size = Buffer.alloc(6);
    size.writeUInt16BE(headerTableSize, 0);
    size.writeUInt32BE(tableSize, 2);
    this.#send(settings, 0, 0, size);
    socket.on("data", (bytes: Buffer) => this.#onData(bytes));
  }

  #send(type: number, flags: number, stream: number, payload: Buffer): void {
    const head = Buffer.alloc(headLength);
    head.writeUIntBE(payload.length, 0, 3);
    head[3] = type;
    head[4] = flags;
    head.writeUInt32BE(stream, 5);
    this.#socket.write(Buffer.concat([head, payload]));
  }

  #onData(bytes: Buffer): void {
    this.#read = Buffer.concat([this.#read, bytes]);
    for (;;) {
      const frame = this.#read.subarray(this.#skip);
      if (frame.length < headLength) return;
      const length = frame.readUIntBE(0, 3);
      if (frame.length < headLength + length) return;
      this.#read = frame.subarray(headLength + length);
      this.#skip = 0;
      this.#onFrame(
        frame[3]!,
        frame[4]!,
        frame.readUInt32BE(5),
        frame.subarray(headLength, headLength + length),
      );
    }
  }

  #onFrame(type: number, flags: number, stream: number, payload: Buffer): void {
    if (type === settings && (flags & ack) === 0) {
      for (let at = 0; at < payload.length; at += 6) {
        if (payload.readUInt16BE(at) === headerTableSize)
          this.encoder.setMaxTableSize(payload.readUInt32BE(at + 2));
      }
      this.#send(settings, ack, 0, Buffer.alloc(0));
    }
    if (type !== headers && type !== continuation) return;
    this.#block.push(payload);
    if ((flags & endHeaders) === 0) return;
    const { fields } = this.decoder.decode(Buffer.concat(this.#block), Infinity, Infinity);
    this.#block = [];
    this.requests.push(fields);
    const block = this.encoder.encode(this.#answer(this.requests.length - 1));
    this.#send(headers, endHeaders | endStream, stream, block);
  }
}

interface Answer {
  fields: string[];
  /** Names of those that came never indexed. */
  secret: string[];
}

async function connect(tableSizes: { ours: number; theirs: number }, answer: (request: number) => string[]) {
  const [ours, theirs] = duplexPair();
  const peer = new Peer(ours, tableSizes.ours, answer);
  const session = http2.connect("http://weft.test", {
    createConnection: () => theirs,
    settings: { headerTableSize: tableSizes.theirs },
  });
  await once(session, "remoteSettings");
  const ask = async (fields: readonly string[]): Promise<Answer> => {
    const stream = session.request(fields, { endStream: true });
    const closed = once(stream, "close");
    const [known, , raw] = (await once(stream, "response")) as [http2.IncomingHttpHeaders, number, string[]];
    stream.resume();
    await closed;
    return {
      fields: raw,
      secret: (known as { [http2.sensitiveHeaders]?: string[] })[http2.sensitiveHeaders] ?? [],
    };
  };
  return { peer, session, ask };
}

const pseudo = [":method", "GET", ":scheme", "http", ":authority", "weft.test", ":path"];
const character = fc
  .oneof({ weight: 4, arbitrary: fc.integer({ min: 0x21, max: 0x7e }) }, fc.integer({ min: 0x80, max: 0xff }))
  .map((code) => String.fromCharCode(code));
const value = fc.oneof(
  fc.constantFrom("", "a", "gzip, deflate", "a value of some words", "x".repeat(200), "y".repeat(3_000)),
  fc.string({ unit: character, maxLength: 50 }),
);
const name = fc.oneof(
  fc.constantFrom(
    "accept",
    "cookie",
    "authorization",
    "x-request-id",
    "x-pet",
    "via",
    "cache-control",
    "accept-encoding",
  ),
  fc.stringMatching(/^x-[a-z0-9-]{1,20}$/),
);
const list = fc.uniqueArray(fc.tuple(name, value), { maxLength: 12, selector: ([name]) => name });
const fieldsOf = (pairs: readonly (readonly [string, string])[]) => pairs.flat();

test("node:http2 and we read what the other writes, over connections with tables of any size", async () => {
  const size = fc.constantFrom(0, 50, 300, 4_096, 65_536);
  const exchange = fc.record({
    request: list,
    response: list,
    path: fc.constantFrom("/", "/a", "/index.html", "/b?c=d"),
  });
  const histories = fc.record({
    ours: size,
    theirs: size,
    exchanges: fc.array(fc.oneof({ weight: 6, arbitrary: exchange }, { weight: 1, arbitrary: size }), {
      minLength: 1,
      maxLength: 30,
    }),
  });
  await fc.assert(
    fc.asyncProperty(histories, async ({ ours, theirs, exchanges }) => {
      const answers = exchanges.filter((one) => typeof one !== "number");
      const response = (i: number) => [":status", "200", ...fieldsOf(answers[i]!.response)];
      const { peer, session, ask } = await connect({ ours, theirs }, response);
      let asked = 0;
      for (const one of exchanges) {
        if (typeof one === "number") {
          await new Promise<void>((done) => session.settings({ headerTableSize: one }, () => done()));
          continue;
        }
        const request = [...pseudo, one.path, ...fieldsOf(one.request)];
        const got = await ask(request);
        assert.deepEqual(peer.requests[asked], request);
        assert.deepEqual(got.fields, response(asked));
        const secrets = one.response.filter(
          ([name, value]) => name === "authorization" || (name === "cookie" && value.length < 20),
        );
        assert.deepEqual(got.secret.toSorted(), secrets.map(([name]) => name).toSorted());
        asked++;
      }
      session.destroy();
    }),
    { numRuns: 60 },
  );
});

test("the Huffman code of each byte that a header may have is that of node:http2", async () => {
  const { peer, session, ask } = await connect({ ours: 0, theirs: 4_096 }, () => [":status", "200"]);
  for (let code = 1; code < 256; code++) {
    // With so many short codes around it, the whole is shorter in Huffman code.
    const value = `${"0".repeat(30)}${String.fromCharCode(code)}${"0".repeat(30)}`;
    await ask([...pseudo, "/", "x-byte", value]);
    assert.equal(peer.requests.at(-1)!.at(-1), value, `${code}`);
  }
  session.destroy();
});

test("the static table is that of node:http2", async () => {
  // Written as indices, names and statuses are read as what they are in the table of node:http2.
  const names = staticNames.filter((name) => !/^$|^:|^transfer-encoding$/.test(name));
  const fields = [...new Set(names)].flatMap((name) => [
    name,
    name === "content-length" ? "0" : "gzip, deflate",
  ]);
  const statuses = staticValues.filter((_, index) => staticNames[index] === ":status");
  assert.equal(names.length, 46);
  assert.equal(statuses.length, 7);
  const tables = { ours: 4_096, theirs: 0 };
  const { peer, session, ask } = await connect(tables, (i) => [":status", statuses[i]!, ...fields]);
  const requests = [
    [":method", "GET", ":scheme", "http", ":authority", "weft.test", ":path", "/"],
    [":method", "POST", ":scheme", "https", ":authority", "weft.test", ":path", "/index.html"],
  ];
  for (const [i, status] of statuses.entries()) {
    const request = requests[i % 2]!;
    // A response of 204 has no content-length (RFC 9110, 8.6): node:http2 leaves it out.
    const { fields: got } = await ask(request);
    if (status === "204") assert.deepEqual(got.slice(0, 2), [":status", status]);
    else assert.deepEqual(got, [":status", status, ...fields]);
    assert.deepEqual(peer.requests[i], request);
  }
  session.destroy();
});
