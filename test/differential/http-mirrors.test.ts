/** Mirrored requests on real Envoy and on the embedded proxy: what a mirror gets, when, and what it can do to the request. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectHttp2, createServer as createHttp2 } from "node:http2";
import { connect, createServer, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { exchange, get, listening, startBackend, startBoth, until } from "./harness.ts";
import { ask, cluster, counters, http, seconds, to } from "./http.ts";

/** What came on each connection, as it comes; answers only when asked to (`answer`), and reads unless `deaf`. */
async function startMirror(t: TestContext, { deaf = false } = {}) {
  const connections: { text: string; bytes: number; closed: boolean; socket: Socket }[] = [];
  const server = createServer((socket) => {
    const connection = { text: "", bytes: 0, closed: false, socket };
    connections.push(connection);
    socket.on("error", () => undefined);
    socket.on("close", () => {
      connection.closed = true;
    });
    if (deaf) {
      socket.pause();
      return;
    }
    socket.on("data", (chunk) => {
      connection.bytes += chunk.length;
      if (connection.text.length < 10_000) connection.text += chunk.toString("latin1");
    });
  });
  return { ...(await listening(t, server)), connections };
}

const mirrored = (path: string, mirror: string, more = {}) =>
  to(path, "app", { requestMirrorPolicies: [{ cluster: mirror }], ...more });

const one = (routes: object[]) => [{ name: "v", domains: ["*"], routes }];

/** What follows the head. */
const bodyOf = (text: string) => text.slice(text.indexOf("\r\n\r\n") + 4);

test("a mirror gets a request as it comes, also one that is not held as a whole", async (t) => {
  const app = await startBackend(t, "app");
  const mirror = await startMirror(t);
  const both = await startBoth(t, ({ log }) => ({
    clusters: [cluster("app", [app.port]), cluster("mirror", [mirror.port])],
    listeners: [http("l", log, one([mirrored("/", "mirror")]))],
  }));
  await both.same(async (proxy) => {
    mirror.connections.length = 0;
    const { ip, port } = proxy.address("l");
    const socket = connect({ host: ip, port, noDelay: true });
    let answered = "";
    socket.on("data", (data) => (answered += data.toString("latin1")));
    await once(socket, "connect");
    socket.write(get("/", { "transfer-encoding": "chunked" }, "POST"));
    socket.write("5\r\nhello\r\n");
    await until("the first part came", async () => mirror.connections[0]?.text.includes("hello") ?? false);
    const early = bodyOf(mirror.connections[0]!.text);
    assert.equal(answered, "");
    socket.write("6\r\n world\r\n0\r\n\r\n");
    await until("the end came", async () => mirror.connections[0]!.text.endsWith("0\r\n\r\n"));
    await until("the application answered", async () => answered.includes("hello world"));
    socket.destroy();
    return { early, whole: bodyOf(mirror.connections[0]!.text), count: mirror.connections.length };
  });
  // More than is held for anything: 3 MB.
  const size = 3 * 1024 * 1024;
  await both.same(async (proxy) => {
    mirror.connections.length = 0;
    const [answer] = await exchange(proxy.address("l"), get("/big", {}, "POST", "x".repeat(size)));
    await until("all of it came", async () => (mirror.connections[0]?.bytes ?? 0) > size);
    return answer!.status;
  });
});

test("a request that is cut short ends at its mirror too, and so does one whose mirror is silent for too long", async (t) => {
  const app = await startBackend(t, "app");
  const mirror = await startMirror(t);
  const both = await startBoth(t, ({ log }) => ({
    clusters: [cluster("app", [app.port]), cluster("mirror", [mirror.port])],
    listeners: [http("l", log, one([mirrored("/", "mirror", { timeout: seconds(0.3) })]))],
  }));
  await both.same(async (proxy) => {
    mirror.connections.length = 0;
    const { ip, port } = proxy.address("l");
    const socket = connect({ host: ip, port, noDelay: true });
    await once(socket, "connect");
    socket.write(`${get("/", { "content-length": "100" }, "POST")}half`);
    await until("half of it came", async () => mirror.connections[0]?.text.endsWith("half") ?? false);
    socket.destroy();
    await until("the mirror's ends", async () => mirror.connections[0]!.closed);
    return mirror.connections.length;
  });
  for (const [method, body] of [
    ["GET", ""],
    ["POST", "whole"],
  ] as const) {
    await both.same(async (proxy) => {
      mirror.connections.length = 0;
      const { status } = await ask(proxy, "l", "/", {}, method, body);
      await until("the mirror is given up", async () => mirror.connections[0]?.closed ?? false);
      return status;
    });
  }
});

test("mirrors count in the statistics of their cluster; one that fails does nothing to the request", async (t) => {
  const app = await startBackend(t, "app");
  const mirror = await startBackend(t, "mirror");
  const silent = await startMirror(t);
  const both = await startBoth(t, ({ log }) => ({
    clusters: [
      cluster("app", [app.port]),
      cluster("mirror", [mirror.port]),
      cluster("refusing", [1]),
      cluster("empty", []),
      cluster("silent", [silent.port]),
      cluster("full", [mirror.port], {
        circuitBreakers: { thresholds: [{ priority: 0, maxRequests: 0 }] },
      }),
    ],
    listeners: [
      http("l", log, one([
        mirrored("/mirror", "mirror"),
        mirrored("/refusing", "refusing"),
        mirrored("/empty", "empty"),
        mirrored("/full", "full"),
        mirrored("/nobody", "there is none"),
        mirrored("/silent", "silent", { timeout: seconds(0.2) }),
      ])),
    ],
  })); // biome-ignore format: a table
  for (const path of ["/mirror?status=404", "/refusing", "/empty", "/full", "/nobody", "/silent"]) {
    for (const [method, body] of [
      ["GET", ""],
      ["POST", "body"],
    ] as const) {
      await t.test(`${method} ${path}`, async () => {
        await both.same((proxy) => ask(proxy, "l", path, {}, method, body));
      });
    }
  }
  await t.test("all of them counted", async () => {
    const found = await both.same((proxy) => counters(proxy, /_bytes_total$/));
    assert.equal(found["cluster.silent.upstream_rq_504"], 2);
  });
});

test("what comes behind a body reaches the mirror as well, over HTTP/2", async (t) => {
  const seen: object[] = [];
  const server = createHttp2();
  server.on("stream", (stream, headers) => {
    let body = "";
    let trailers = {};
    stream.on("data", (chunk) => (body += chunk));
    stream.on("trailers", (fields) => (trailers = { ...fields }));
    stream.on("end", () => {
      if (String(headers[":authority"]).includes("-shadow")) seen.push({ body, trailers });
      stream.respond({ ":status": 200 });
      stream.end("fine");
    });
  });
  server.on("session", (session) => t.after(() => session.destroy()));
  const { port } = await listening(t, server as never);
  const both = await startBoth(t, ({ log }) => ({
    clusters: [cluster("app", [port], {}, true), cluster("mirror", [port], {}, true)],
    listeners: [http("l", log, one([mirrored("/", "mirror")]))],
  }));
  const got = await both.same(async (proxy) => {
    seen.length = 0;
    const session = connectHttp2(`http://127.0.0.1:${proxy.address("l").port}`);
    const stream = session.request(
      { ":path": "/", ":method": "POST", ":authority": "app.example" },
      { waitForTrailers: true },
    );
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-t": "1" }));
    stream.end("body");
    stream.resume();
    await once(stream, "close");
    await until("the mirror has it", async () => seen.length === 1);
    session.destroy();
    return [...seen];
  });
  assert.deepEqual(JSON.parse(JSON.stringify(got)), [{ body: "body", trailers: { "x-t": "1" } }]);
});

test("a mirror that does not read holds nothing up and is given up (Envoy has the request wait for it)", async (t) => {
  const app = await startBackend(t, "app", (request, response) => {
    let bytes = 0;
    request.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    request.on("end", () => response.end(String(bytes)));
    return true;
  });
  const mirror = await startMirror(t, { deaf: true });
  const both = await startBoth(t, ({ log }) => ({
    clusters: [cluster("app", [app.port]), cluster("mirror", [mirror.port])],
    listeners: [http("l", log, one([mirrored("/", "mirror")]))],
  }));
  const size = 32 * 1024 * 1024;
  const [answer] = await exchange(both.weft.address("l"), get("/", {}, "POST", "x".repeat(size)));
  assert.equal(answer!.status, 200);
  assert.equal(answer!.body, String(size));
  assert.deepEqual(
    (await both.weft.admin("/stats"))
      .split("\n")
      .filter((l) => /^cluster.mirror.upstream_(cx|rq)_active/.test(l)),
    ["cluster.mirror.upstream_cx_active: 0", "cluster.mirror.upstream_rq_active: 0"],
  );
});
