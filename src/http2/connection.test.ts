/** Our HTTP/2 with node:http2 at the other end, in both roles. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type ServerHttp2Session } from "node:http2";
import { type AddressInfo, connect as connectTcp, createServer as createTcp } from "node:net";
import { type TestContext, test } from "node:test";
import { eventually } from "../../test/support/eventually.ts";
import { realWorld } from "../world/index.ts";
import { Connection, type ConnectionOptions, errorCode, type Stream } from "./index.ts";
import { ask, bytes } from "./testing/ask.ts";

const world = realWorld();
const windows = { streamWindow: 300_000, connectionWindow: 1_000_000 };

/** A server of ours that gives back what it gets, and a client of Node's. */
async function ours(t: TestContext, stream: (stream: Stream, fields: string[], end: boolean) => void, more: Partial<ConnectionOptions> = {}) {
  const connections: Connection[] = [];
  const errors: (Error | undefined)[] = [];
  const listener = createTcp((socket) => {
    const events = { stream, closed: (error: Error | undefined) => void errors.push(error) };
    connections.push(new Connection(socket, { world, role: "server", ...windows, events, ...more }));
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const session = connect(`http://127.0.0.1:${(listener.address() as AddressInfo).port}`, {
    maxSessionMemory: 100,
  });
  session.on("error", () => undefined);
  await once(session, "remoteSettings");
  t.after(() => {
    session.destroy();
    for (const connection of connections) connection.destroy();
    listener.close();
  });
  return { session, connection: connections[0]!, errors };
} // biome-ignore format: one line

function echo(stream: Stream, fields: readonly string[], end: boolean): void {
  stream.events = {
    data(chunk) {
      if (!stream.data(chunk)) stream.pause();
    },
    end: (trailers) => stream.end(trailers),
    drain: () => stream.resume(),
    closed() {},
  };
  stream.head([":status", "103", "link", "</a>"], false);
  stream.head([":status", "200", "x-path", fields[fields.indexOf(":path") + 1]!], end);
}

/** A server of Node's, and a client of ours. */
async function theirs(t: TestContext, serve: (session: ServerHttp2Session) => void) {
  const server = createServer();
  const sessions: ServerHttp2Session[] = [];
  server.on("session", (session) => {
    sessions.push(session);
    session.on("error", () => undefined);
    serve(session);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const socket = connectTcp((server.address() as AddressInfo).port, "127.0.0.1");
  await once(socket, "connect");
  const goaways: number[] = [];
  const closed: (Error | undefined)[] = [];
  const connection = new Connection(socket, {
    world,
    role: "client",
    ...windows,
    events: { goaway: (code) => void goaways.push(code), closed: (error) => void closed.push(error) },
  });
  t.after(() => {
    connection.destroy();
    for (const session of sessions) session.destroy();
    server.close();
  });
  return { connection, goaways, closed, sessions };
}

test("as a server: many streams at once, large bodies both ways, trailers both ways, heads before the head", async (t) => {
  const { session, connection } = await ours(t, echo);
  const answers = await Promise.all(
    Array.from({ length: 60 }, async (_, i) => {
      const body = bytes(i, 1 + 20_000 * (i % 30));
      const stream = session.request({ ":method": "POST", ":path": `/${i}` }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "x-trailer": String(i) }));
      const early: unknown[] = [];
      stream.on("headers", (headers) => early.push(headers[":status"], headers.link));
      const response = once(stream, "response");
      const trailers = once(stream, "trailers");
      stream.end(body);
      const parts: Buffer[] = [];
      for await (const chunk of stream) parts.push(chunk as Buffer);
      const [[head], [tail]] = await Promise.all([response, trailers]);
      assert.deepEqual([head[":status"], head["x-path"], tail["x-trailer"]], [200, `/${i}`, String(i)]);
      assert.deepEqual(early, [103, "</a>"]);
      return Buffer.concat(parts).equals(body);
    }),
  );
  assert.ok(answers.every(Boolean), "each got back what it sent");
  await eventually("all streams are over", () => connection.size === 0);
});

test("as a client: many streams at once, large bodies both ways, trailers both ways, heads before the head", async (t) => {
  const { connection, closed } = await theirs(t, (session) =>
    session.on("stream", (stream, headers) => {
      stream.additionalHeaders({ ":status": 103, link: "</a>" });
      stream.respond({ ":status": 200, "x-path": headers[":path"] }, { waitForTrailers: true });
      let trailers = {};
      stream.on("trailers", (fields) => {
        trailers = { "x-trailer": fields["x-trailer"] };
      });
      stream.on("wantTrailers", () => stream.sendTrailers(trailers));
      stream.pipe(stream);
    }),
  );
  await Promise.all(
    Array.from({ length: 60 }, async (_, i) => {
      const body = bytes(i, i % 3 === 0 ? 0 : 20_000 * (i % 30));
      const { stream, answer, over } = ask(connection, `/${i}`, false);
      for (let at = 0; at < body.length; at += 30_000) stream.data(body.subarray(at, at + 30_000));
      stream.end(["x-trailer", String(i)]);
      await over();
      assert.deepEqual(answer.closed, [errorCode.NO_ERROR, "both"]);
      assert.deepEqual(
        answer.heads.map((fields) => fields.slice(0, 4)),
        [
          [":status", "103", "link", "</a>"],
          [":status", "200", "x-path", `/${i}`],
        ],
      );
      assert.deepEqual(answer.trailers, ["x-trailer", String(i)]);
      assert.ok(answer.body.equals(body));
    }),
  );
  connection.drain();
  await eventually("it ends when nothing is on", () => closed.length === 1);
  assert.deepEqual(closed, [undefined]);
});

test("answers without a body, and to HEAD with the length of the body that there is not", async (t) => {
  const { connection } = await theirs(t, (session) =>
    session.on("stream", (stream, headers) => {
      const length = headers[":method"] === "HEAD" ? { "content-length": "1000" } : {};
      stream.respond({ ":status": headers[":path"] === "/304" ? 304 : 200, ...length }, { endStream: true });
    }),
  );
  for (const [path, method] of [
    ["/", "GET"],
    ["/", "HEAD"],
    ["/304", "GET"],
  ] as const) {
    const { answer, over } = ask(connection, path, true, method);
    assert.deepEqual(await over(), [errorCode.NO_ERROR, "both"]);
    assert.equal(answer.ended, true);
  }
});

test("a stream that is reset ends for both, whoever did it, and the others go on", async (t) => {
  const { connection } = await theirs(t, (session) =>
    session.on("stream", (stream, headers) => {
      stream.on("error", () => undefined);
      if (headers[":path"] === "/refused") return stream.close(errorCode.REFUSED_STREAM);
      stream.respond({ ":status": 200 });
      if (headers[":path"] === "/broken") return void stream.write("half", () => stream.destroy(new Error("broken")));
      return stream.pipe(stream);
    }),
  ); // biome-ignore format: one line
  const other = ask(connection, "/other", false);
  other.stream.data(Buffer.from("one"));
  assert.deepEqual(await ask(connection, "/refused", false).over(), [errorCode.REFUSED_STREAM, "peer"]);
  const broken = ask(connection, "/broken", true);
  assert.deepEqual(await broken.over(), [errorCode.INTERNAL_ERROR, "peer"]);
  assert.equal(broken.answer.ended, false);
  const given = ask(connection, "/given-up", false);
  given.stream.data(bytes(1, 2_000_000));
  await eventually("it is answered", () => given.answer.heads.length > 0);
  given.stream.reset();
  assert.deepEqual(given.answer.closed, [errorCode.CANCEL, "us"]);
  other.stream.data(Buffer.from("two"));
  other.stream.end();
  assert.deepEqual(await other.over(), [errorCode.NO_ERROR, "both"]);
  assert.equal(other.answer.body.toString(), "onetwo");
});

test("windows that are made smaller while data is on its way, below zero too, are kept to", async (t) => {
  const session = Promise.withResolvers<ServerHttp2Session>();
  const { connection } = await theirs(t, (one) => {
    session.resolve(one);
    one.on("stream", (stream) => {
      stream.respond({ ":status": 200 });
      stream.pipe(stream);
    });
  });
  const server = await session.promise;
  const body = bytes(3, 1_000_000);
  const { stream, answer, over } = ask(connection, "/", false);
  stream.data(body.subarray(0, 500_000));
  for (const initialWindowSize of [10, 0, 3_000, 100_000]) {
    const acknowledged = once(server, "localSettings");
    server.settings({ initialWindowSize });
    await acknowledged;
  }
  stream.data(body.subarray(500_000));
  stream.end();
  await over();
  assert.ok(answer.body.equals(body));
});

test("a server that goes says so first: what is on is answered, what comes after its last word is refused", async (t) => {
  const held: Stream[] = [];
  const { session, connection, errors } = await ours(t, (stream) => {
    stream.events = { data() {}, end() {}, closed() {} };
    held.push(stream);
  });
  const goaway = once(session, "goaway");
  const first = session.request({ ":path": "/" });
  await eventually("it is there", () => held.length === 1);
  connection.drain();
  await goaway;
  held[0]!.head([":status", "200"], false);
  held[0]!.end();
  const [head] = await once(first, "response");
  assert.equal(head[":status"], 200);
  first.resume();
  await eventually("the connection ends by itself", () => errors.length === 1);
  assert.deepEqual(errors, [undefined]);
});

test("a mistake of an owner's costs its connection, and is told", async (t) => {
  const bugs: unknown[] = [];
  const closed: unknown[] = [];
  const mistake = new Error("a mistake");
  const events = {
    stream() {
      throw mistake;
    },
    closed: (error: Error | undefined) => void closed.push(error),
    bug: (error: unknown) => void bugs.push(error),
  };
  const { session } = await ours(t, echo, { events });
  const stream = session.request({ ":path": "/" });
  stream.on("error", () => undefined);
  await eventually("it is over", () => closed.length === 1);
  assert.deepEqual(bugs, [mistake]);
});
