/** HTTP/2 and gRPC on real Envoy and on the embedded proxy: in either version on either side, trailers, status mapping. */
import assert from "node:assert/strict";
import { createServer as createServer1 } from "node:http";
import { type ClientHttp2Session, connect, createServer, type IncomingHttpHeaders } from "node:http2";
import { type TestContext, test } from "node:test";
import { HTTPFault } from "#protocols/envoy/extensions/filters/http/fault/v3/fault.ts";
import { listening, startBackend, startBoth } from "./harness.ts";
import { ask, cluster, counters, filter, header, http, prefix, router, seconds, text, to } from "./http.ts";

/** Speaks HTTP/2 with prior knowledge; `?do=` says how it answers. */
async function startHttp2(t: TestContext): Promise<number> {
  let calls = 0;
  const server = createServer();
  server.on("stream", (stream, headers) => {
    let length = 0;
    let trailers: IncomingHttpHeaders = {};
    const url = new URL(headers[":path"]!, "http://x");
    const action = url.searchParams.get("do");
    stream.on("error", () => undefined);
    stream.on("data", (chunk: Buffer) => {
      length += chunk.length;
    });
    stream.on("trailers", (fields) => {
      trailers = fields;
    });
    if (action === "refuse" || (action === "refuse-odd" && ++calls % 2 === 1)) return stream.close(7);
    if (action === "cancel") return stream.close(8);
    if (action === "internal") return stream.close(2);
    stream.on("end", () => {
      calls++;
      if (action === "silence") return;
      if (action === "unavailable" || (action === "odd" && calls % 2 === 1)) {
        stream.respond(
          {
            ":status": 200,
            "content-type": "application/grpc",
            "grpc-status": "14",
            "grpc-message": "not%20now",
          },
          { endStream: true },
        );
        return;
      }
      if (action === "break") {
        stream.respond({ ":status": 200, "content-type": "application/grpc" });
        stream.write("half");
        setTimeout(() => stream.close(2), 50);
        return;
      }
      // What is left of the time is measured, and the id is random.
      const random = ["x-request-id", "x-envoy-expected-rq-timeout-ms"];
      const echo = Object.fromEntries(Object.entries(headers).filter(([name]) => !random.includes(name)));
      stream.respond(
        { ":status": 200, "content-type": headers["content-type"] ?? "text/plain", "x-echo": "1" },
        { waitForTrailers: true },
      );
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0", "x-trailer": "t" }));
      stream.end(JSON.stringify({ echo, length, trailers }));
    });
  });
  server.on("session", (session) => t.after(() => session.destroy()));
  return (await listening(t, server as never)).port;
}

interface Call {
  path: string;
  method?: string;
  headers?: Record<string, string>;
  body?: string;
  trailers?: Record<string, string>;
}

/** One stream: everything that came, and how it ended. */
function call(session: ClientHttp2Session, { path, method = "GET", headers = {}, body, trailers }: Call) {
  return new Promise<object>((resolve) => {
    const stream = session.request(
      { ":path": path, ":method": method, ":authority": "app.example", ...headers },
      { endStream: body === undefined, waitForTrailers: trailers !== undefined },
    );
    let got = "";
    let head: Record<string, unknown> = {};
    let tail: Record<string, unknown> | undefined;
    stream.on("response", (fields) => {
      head = { ...fields };
      delete head.date;
      if ("x-envoy-upstream-service-time" in head) head["x-envoy-upstream-service-time"] = "n";
    });
    stream.on("trailers", (fields) => {
      tail = { ...fields };
    });
    stream.setEncoding("utf8");
    stream.on("data", (chunk: string) => {
      got += chunk;
    });
    stream.on("error", () => undefined);
    stream.on("wantTrailers", () => stream.sendTrailers(trailers!));
    stream.on("close", () => {
      let read: unknown = got;
      if (got.startsWith("{")) {
        const echo = JSON.parse(got) as { headers?: Record<string, string> };
        if (echo.headers) delete echo.headers["x-request-id"];
        delete head["content-length"];
        read = echo;
      }
      resolve({ code: stream.rstCode, head, body: read, tail });
    });
    if (body !== undefined) stream.end(body);
  });
}

test("HTTP/2 in and out, and each with HTTP/1.1 on the other side", async (t) => {
  const h2 = await startHttp2(t);
  const h1 = await startBackend(t, "one");
  const both = await startBoth(t, ({ log }) => ({
    clusters: [cluster("h2", [h2], {}, true), cluster("h1", [h1.port]), cluster("none", [])],
    listeners: [
      http("l", log, [
        {
          name: "v",
          domains: ["*"],
          routes: [
            to("/h2", "h2", { timeout: seconds(1) }),
            to(prefix("/grpc", { grpc: {} }), "h2", {
              timeout: seconds(1),
              retryPolicy: { retryOn: "unavailable,refused-stream,cancelled", numRetries: 2, retryBackOff: { baseInterval: seconds(0.001) } },
            }),
            to("/grpc-limit", "h2", { timeout: seconds(0), maxStreamDuration: { grpcTimeoutHeaderMax: seconds(0) } }),
            to("/abort", "h2", {}, {}),
            to("/none", "none"),
            to("/", "h1"),
          ],
        },
      ], { httpFilters: [
        filter("envoy.filters.http.fault", "fault.v3.HTTPFault", HTTPFault, {
          headers: [header("x-abort", text("exact", "1"))],
          abort: { percentage: { numerator: 100, denominator: 0 }, errorType: { $case: "httpStatus", value: 503 } },
        }),
        router,
      ] }),
    ],
  })); // biome-ignore format: a table
  const grpc = { "content-type": "application/grpc", te: "trailers" };
  const calls: Call[] = [
    { path: "/one" },
    { path: "/one", method: "POST", body: "hello", headers: { cookie: "a=1", "x-many": "1" } },
    { path: "/one", method: "POST", body: "x".repeat(400_000) },
    { path: "/one?status=404" },
    { path: "/one", method: "HEAD" },
    { path: "/h2" },
    { path: "/h2", method: "POST", body: "y".repeat(400_000), trailers: { "x-t": "1" } },
    { path: "/h2?do=refuse" },
    { path: "/h2?do=cancel" },
    { path: "/h2?do=internal" },
    { path: "/h2?do=silence" },
    { path: "/grpc/Echo", method: "POST", headers: grpc, body: "message" },
    { path: "/grpc/Echo?do=unavailable", method: "POST", headers: grpc, body: "message" },
    { path: "/grpc/Echo?do=odd", method: "POST", headers: grpc, body: "message" },
    { path: "/grpc/Echo?do=refuse", method: "POST", headers: grpc, body: "message" },
    { path: "/grpc/Echo?do=silence", method: "POST", headers: grpc, body: "message" },
    { path: "/grpc/Echo?do=break", method: "POST", headers: grpc, body: "message" },
    { path: "/none", method: "POST", headers: grpc, body: "message" },
    { path: "/none", method: "POST", headers: { "content-type": "application/grpc-web" }, body: "message" },
    { path: "/h2", method: "POST", headers: { ...grpc, "x-abort": "1" }, body: "message" },
    { path: "/h2", headers: { "x-abort": "1" } },
    {
      path: "/grpc-limit?do=silence",
      method: "POST",
      headers: { ...grpc, "grpc-timeout": "200m" },
      body: "m",
    },
    { path: "/h2", headers: { "x-forwarded-for": "1.2.3.4", "x-forwarded-proto": "https" } },
  ];
  for (const one of calls) {
    await t.test(
      `${one.method ?? "GET"} ${one.path} ${one.headers ? JSON.stringify(one.headers) : ""}`,
      async () => {
        await both.same(async (proxy) => {
          const { ip, port } = proxy.address("l");
          const session = connect(`http://${ip}:${port}`);
          const result = await call(session, one);
          session.destroy();
          return result;
        });
      },
    );
  }
  // HTTP/1.1 in, HTTP/2 out.
  await both.same((proxy) => ask(proxy, "l", "/h2?do=refuse"));
  await both.same((proxy) => ask(proxy, "l", "/h2?do=cancel", {}, "POST", "x"));
  // Many at once over one connection.
  await both.same(async (proxy) => {
    const { ip, port } = proxy.address("l");
    const session = connect(`http://${ip}:${port}`);
    const all = await Promise.all(
      Array.from({ length: 50 }, (_, i) =>
        call(session, { path: i % 2 ? "/h2" : "/one", method: "POST", body: `${i}`.repeat(2000) }),
      ),
    );
    session.destroy();
    return all;
  });
  await t.test("all of them counted", async () => {
    // How frames are cut is each one's own.
    await both.same((proxy) => counters(proxy, /_bytes_total$/));
  });
});

test("trailers of a request reach the host, whatever the request had to wait for", async (t) => {
  const h2 = await startHttp2(t);
  const h1 = await startBackend(t, "one");
  const tailed = await startTailed(t);
  const retryPolicy = {
    retryOn: "refused-stream",
    numRetries: 1,
    retryBackOff: { baseInterval: seconds(0.001) },
  };
  const both = await startBoth(t, ({ log }) => ({
    // Each has no connection yet when it is asked for first.
    clusters: [
      ...["first", "empty", "delayed", "again"].map((name) => cluster(name, [h2], {}, true)),
      cluster("h1", [h1.port]),
      cluster("tailed", [tailed]),
    ],
    listeners: [
      http("l", log, [
        {
          name: "v",
          domains: ["*"],
          routes: [
            to("/first", "first"),
            to("/empty", "empty"),
            to("/delayed", "delayed"),
            to("/again", "again", { retryPolicy }),
            to("/h1", "h1"),
            to("/tailed", "tailed"),
          ],
        },
      ], { httpFilters: [
        filter("envoy.filters.http.fault", "fault.v3.HTTPFault", HTTPFault, {
          headers: [header(":path", text("prefix", "/delayed"))],
          delay: { percentage: { numerator: 100, denominator: 0 }, faultDelaySecifier: { $case: "fixedDelay", value: seconds(0.1) } },
        }),
        router,
      ] }),
    ],
  })); // biome-ignore format: a table
  /** What both proxies say to a request on a connection of its own. */
  const ask = (one: Parameters<typeof call>[1]) =>
    both.same(async (proxy) => {
      const { ip, port } = proxy.address("l");
      const session = connect(`http://${ip}:${port}`);
      const result = await call(session, one);
      session.destroy();
      return result;
    });
  const trailers = { "x-t": "1", "x-many": "2" };
  for (const one of [
    { path: "/first", method: "POST", body: "small", trailers },
    { path: "/empty", method: "POST", body: "", trailers },
    { path: "/delayed", method: "POST", body: "held", trailers },
    { path: "/again?do=refuse-odd", method: "POST", body: "twice", trailers },
  ]) {
    await t.test(one.path, async () => {
      const seen = (await ask(one)) as { body: { trailers: object; length: number } };
      assert.deepEqual({ ...seen.body.trailers }, trailers);
      assert.equal(seen.body.length, one.body.length);
    });
  }
  // HTTP/1.1 is not to carry any, in either direction (enable_trailers is off).
  for (const one of [{ path: "/h1", method: "POST", body: "x", trailers }, { path: "/tailed" }]) {
    await t.test(one.path, async () => {
      const seen = (await ask(one)) as { tail?: object };
      assert.equal(seen.tail, undefined);
    });
  }
});

/** HTTP/1.1 with trailers behind its answers. */
async function startTailed(t: TestContext): Promise<number> {
  const server = createServer1((_, response) => {
    response.sendDate = false;
    response.writeHead(200, { trailer: "x-tail" });
    response.write("body");
    response.addTrailers({ "x-tail": "t" });
    response.end();
  });
  return (await listening(t, server)).port;
}
