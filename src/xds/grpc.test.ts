import assert from "node:assert/strict";
import { once } from "node:events";
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from "node:http2";
import { type AddressInfo, connect as connectTcp, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { framed, grpcStatus } from "../http2/index.ts";
import { SimulatedWorld, type World } from "../world/index.ts";
import { type Call, GrpcServer } from "./grpc.ts";

const path = "/test.Service/Talk";

/** A server that keeps what comes, and a client by hand. */
async function talk(world: World = new SimulatedWorld(1)) {
  const calls: { call: Call; messages: string[]; ended: number }[] = [];
  const server = new GrpcServer({
    world,
    path,
    serve(call) {
      const each = { call, messages: [] as string[], ended: 0 };
      calls.push(each);
      return {
        message: (bytes) => void each.messages.push(bytes.toString()),
        ended: () => void each.ended++,
      };
    },
  });
  const sockets: Socket[] = [];
  const listener = createServer((socket) => {
    sockets.push(socket);
    server.accept(socket);
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const { port } = listener.address() as AddressInfo;
  const session: ClientHttp2Session = connect(`http://127.0.0.1:${port}`);
  session.on("error", () => {});
  const open = (headers: Record<string, string> = {}) => {
    const stream = session.request(
      { ":method": "POST", ":path": path, "content-type": "application/grpc", ...headers },
      { endStream: false },
    );
    stream.on("error", () => {});
    return stream;
  };
  return {
    calls,
    session,
    port,
    sockets,
    open,
    async [Symbol.asyncDispose]() {
      session.destroy();
      server.stop();
      await new Promise((resolve) => listener.close(resolve));
    },
  };
}

function byHand(text: string, flag = 0): Buffer {
  const head = Buffer.alloc(5);
  head[0] = flag;
  head.writeUInt32BE(text.length, 1);
  return Buffer.concat([head, Buffer.from(text)]);
}

async function trailersOf(stream: ClientHttp2Stream): Promise<Record<string, unknown>> {
  stream.resume();
  const [trailers] = (await once(stream, "trailers")) as [Record<string, unknown>];
  return trailers;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

test("messages come whole however the bytes are cut, several in one chunk and empty ones too", async () => {
  await using bench = await talk();
  const long = "x".repeat(100_000);
  const bytes = Buffer.concat(["one", "", long, "two"].map((text) => byHand(text)));
  const stream = bench.open();
  for (let at = 0, step = 1; at < bytes.length; at += step, step = step * 3 + 1) {
    stream.write(bytes.subarray(at, at + step));
  }
  await until(() => bench.calls[0]?.messages.length === 4);
  assert.deepEqual(bench.calls[0]!.messages, ["one", "", long, "two"]);
});

test("a message goes out in its parts as one, and the stream ends with a status", async () => {
  await using bench = await talk();
  const stream = bench.open();
  await until(() => bench.calls.length === 1);
  const { call } = bench.calls[0]!;
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  const body = "b".repeat(300_000);
  call.send(framed([Buffer.from("small "), Buffer.from("one")]));
  const left = new Promise<void>((resolve) =>
    call.send(framed([Buffer.from("head "), Buffer.from(body)]), resolve),
  );
  await left;
  call.end(grpcStatus.UNAVAILABLE, "100 % gone, a/b,\nümlaut 🙂");
  await new Promise<void>((resolve) => call.send(framed([Buffer.from("too late")]), resolve));
  const [trailers] = (await once(stream, "trailers")) as [Record<string, unknown>];
  assert.equal(trailers["grpc-status"], "14");
  assert.equal(trailers["grpc-message"], "100 %25 gone, a/b,%0A%C3%BCmlaut %F0%9F%99%82");
  assert.equal(
    Buffer.concat(chunks).toString("latin1"),
    Buffer.concat([byHand("small one"), byHand(`head ${body}`)]).toString("latin1"),
  );
  assert.equal(bench.calls[0]!.ended, 0, "who ends it need not be told");
});

test("what is no call of ours is refused: other paths, other media, compression, too much", async () => {
  await using bench = await talk();
  const elsewhere = bench.open({
    ":path": "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters",
  });
  const [unknown] = (await once(elsewhere, "response")) as [Record<string, unknown>];
  assert.equal(unknown["grpc-status"], "12");
  const [media] = (await once(bench.open({ "content-type": "text/plain" }), "response")) as [
    Record<string, unknown>,
  ];
  assert.equal(media[":status"], 415);
  const compressed = bench.open();
  compressed.write(byHand("zip", 1));
  assert.equal((await trailersOf(compressed))["grpc-status"], "12");
  const large = bench.open();
  large.write(Buffer.from([0, 0x7f, 0, 0, 0]));
  assert.equal((await trailersOf(large))["grpc-status"], "8");
  assert.deepEqual(
    bench.calls.map(({ messages, ended }) => [messages.length, ended]),
    [
      [0, 1],
      [0, 1],
    ],
  );
});

test("a client that goes is noticed once: by the end of its stream, a reset or its connection", async () => {
  await using bench = await talk();
  const [a, b, c] = [bench.open(), bench.open(), bench.open()];
  await until(() => bench.calls.length === 3);
  a.end();
  assert.equal((await trailersOf(a))["grpc-status"], "0");
  b.close(8);
  await until(() => bench.calls[1]!.ended === 1);
  bench.session.destroy();
  await until(() => bench.calls[2]!.ended === 1);
  assert.deepEqual(
    bench.calls.map(({ ended }) => ended),
    [1, 1, 1],
  );
  c.destroy();
});

test("a connection whose far end does not answer any more is ended", async () => {
  const world = new SimulatedWorld(1);
  await using bench = await talk(world);
  // It says what a client says first, and nothing ever after: neither that it took the settings, nor to pings.
  const silent = connectTcp(bench.port, "127.0.0.1");
  silent.resume();
  silent.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  silent.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
  await until(() => bench.sockets.length === 2);
  const theirs = bench.sockets.find(({ remotePort }) => remotePort === silent.localPort)!;
  await world.advance(29_999);
  assert.equal(theirs.destroyed, false);
  await world.advance(1);
  await once(silent, "close");
});
