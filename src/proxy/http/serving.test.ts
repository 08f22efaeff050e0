/** The embedded proxy with real sockets: what is not Envoy's to compare with, or takes more than one request to see. */
import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { type AddressInfo, connect } from "node:net";
import type { Readable, Writable } from "node:stream";
import { type TestContext, test } from "node:test";
import { Router } from "#protocols/envoy/extensions/filters/http/router/v3/router.ts";
import { HttpConnectionManager } from "#protocols/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.ts";
import { eventually } from "../../../test/support/eventually.ts";
import { startProxy } from "../index.ts";
import { endpoint, listener, pack, staticCluster } from "../testing/resources.ts";

async function start(t: TestContext, answer: (request: IncomingMessage, response: ServerResponse) => void) {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const hcm = pack(
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    HttpConnectionManager,
    {
      statPrefix: "x",
      routeSpecifier: {
        $case: "routeConfig",
        value: {
          name: "r",
          virtualHosts: [
            {
              name: "v",
              domains: ["*"],
              routes: [
                {
                  match: { pathSpecifier: { $case: "prefix", value: "/" } },
                  action: { $case: "route", value: { clusterSpecifier: { $case: "cluster", value: "app" } } },
                },
              ],
            },
          ],
        },
      },
      httpFilters: [
        {
          name: "router",
          configType: {
            $case: "typedConfig",
            value: pack("envoy.extensions.filters.http.router.v3.Router", Router, {}),
          },
        },
      ],
    } as never,
  );
  const filters = [{ name: "http", configType: { $case: "typedConfig" as const, value: hcm } }];
  const proxy = await startProxy({
    node: {
      id: "sidecar~10.0.0.1~front.demo~demo.svc.cluster.local",
      cluster: "front",
      metadata: { WORKLOAD_NAME: "front-v1", NAMESPACE: "demo" },
      locality: { region: "", zone: "", subZone: "" },
    },
    drainTime: 2_000,
    fixed: {
      listeners: new Map([listener("l", 0, { filterChains: [{ filters }] } as never)]),
      clusters: new Map([
        staticCluster("app", [
          endpoint("127.0.0.1", (server.address() as AddressInfo).port, {
            metadata: { filterMetadata: { istio: { workload: "app-v1;demo;app;v1;c1" } } },
          }),
        ]),
      ]),
    },
  });
  t.after(() => proxy.stop());
  await proxy.ready;
  return { proxy, port: proxy.listenerAddress("l")!.port };
}

test("a client that does not read holds the backend up, not memory; and gets everything when it reads", async (t) => {
  const total = 64 * 1024 * 1024;
  let written = 0;
  const { port } = await start(t, (_request, response) => {
    response.writeHead(200, { "content-length": total });
    const chunk = Buffer.alloc(64 * 1024, "x");
    const more = () => {
      while (written < total) {
        written += chunk.length;
        if (!response.write(chunk)) return void response.once("drain", more);
      }
      response.end();
    };
    more();
  });
  const socket = connect(port, "127.0.0.1");
  socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  socket.pause();
  let before = -1;
  // Until nothing moves any more.
  await eventually("the backend is held up", () => {
    const still = written === before && written > 0;
    before = written;
    return still;
  });
  assert.ok(written < 32 * 1024 * 1024, `${written} bytes were taken from the backend`);
  let got = 0;
  socket.on("data", (data) => {
    got += data.length;
  });
  socket.resume();
  await eventually("all of it came", () => got > total);
  socket.destroy();
});

test("a backend that does not read holds the client up", async (t) => {
  let request: IncomingMessage | undefined;
  let read = 0;
  const { port } = await start(t, (incoming, response) => {
    request = incoming;
    incoming.on("end", () => response.end(String(read)));
  });
  const total = 64 * 1024 * 1024;
  const socket = connect(port, "127.0.0.1");
  socket.write(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ${total}\r\n\r\n`);
  let sent = 0;
  const chunk = Buffer.alloc(64 * 1024);
  const more = () => {
    while (sent < total) {
      sent += chunk.length;
      if (!socket.write(chunk)) return void socket.once("drain", more);
    }
  };
  more();
  let before = -1;
  await eventually("the client is held up", () => {
    const still = sent === before && request !== undefined;
    before = sent;
    return still;
  });
  assert.ok(sent < 48 * 1024 * 1024, `${sent} bytes were taken from the client`);
  let answer = "";
  socket.on("data", (data) => {
    answer += data;
  });
  request!.on("data", (data: Buffer) => {
    read += data.length;
  });
  await eventually("it is answered", () => answer.endsWith(String(total)));
  socket.destroy();
});

test("over HTTP/2 as well: who does not read holds up the other, and its neighbours on the connection go on", async (t) => {
  const total = 64 * 1024 * 1024;
  const chunk = Buffer.alloc(64 * 1024, "x");
  /** Gives all of it, as fast as it is taken; the bytes so far. */
  const pour = (to: Writable) => {
    const given = { bytes: 0 };
    const more = () => {
      while (given.bytes < total) {
        given.bytes += chunk.length;
        if (!to.write(chunk)) return void to.once("drain", more);
      }
      to.end();
    };
    more();
    return given;
  };
  const heldUp = (what: string, given: { bytes: number }) => {
    let before = -1;
    return eventually(`${what} is held up`, () => {
      const still = given.bytes === before && given.bytes > 0;
      before = given.bytes;
      return still;
    });
  };
  let answer: { bytes: number } | undefined;
  let upload: IncomingMessage | undefined;
  let read = 0;
  const { port } = await start(t, (request, response) => {
    if (request.url === "/down") answer = pour(response);
    else if (request.url === "/up") {
      upload = request;
      request.on("end", () => response.end(String(read)));
    } else response.end("good");
  });
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  t.after(() => session.destroy());
  const down = session.request({ ":path": "/down" });
  await eventually("the answer is on its way", () => answer);
  await heldUp("the backend", answer!);
  assert.ok(answer!.bytes < 32 * 1024 * 1024, `${answer!.bytes} bytes were taken from the backend`);
  const up = session.request({ ":path": "/up", ":method": "POST" });
  const sent = pour(up);
  await eventually("the upload is on its way", () => upload);
  await heldUp("the client", sent);
  assert.ok(sent.bytes < 48 * 1024 * 1024, `${sent.bytes} bytes were taken from the client`);
  assert.equal(await textOf(session.request({ ":path": "/" })), "good");
  let got = 0;
  down.on("data", (data: Buffer) => {
    got += data.length;
  });
  upload!.on("data", (data: Buffer) => {
    read += data.length;
  });
  assert.equal(await textOf(up), String(total));
  await eventually("all of it came", () => got === total);
});

async function textOf(stream: Readable): Promise<string> {
  let text = "";
  for await (const part of stream.setEncoding("utf8")) text += part;
  return text;
}

test("draining: what is on is answered with connection: close, idle connections close, HTTP/2 gets GOAWAY", async (t) => {
  const held: ServerResponse[] = [];
  const { proxy, port } = await start(t, (request, response) => {
    if (request.url === "/wait") held.push(response);
    else response.end("done");
  });
  const idle = connect(port, "127.0.0.1");
  idle.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  let idleGot = "";
  let idleEnded = false;
  idle.on("data", (data) => (idleGot += data)).on("end", () => (idleEnded = true));
  const busy = connect(port, "127.0.0.1");
  busy.write("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
  let busyGot = "";
  let busyEnded = false;
  busy.on("data", (data) => (busyGot += data)).on("end", () => (busyEnded = true));
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  let goaway = false;
  session.on("goaway", () => (goaway = true));
  const stream = session.request({ ":path": "/wait" });
  let streamGot = "";
  stream.setEncoding("utf8").on("data", (data: string) => (streamGot += data));
  await eventually("all are there", () => idleGot.endsWith("done") && held.length === 2);
  const drained = proxy.drain();
  await eventually("the idle one is closed and GOAWAY came", () => idleEnded && goaway);
  for (const response of held) response.end("at last");
  await eventually("the others have their answers", () => busyEnded && streamGot === "at last");
  assert.match(busyGot, /connection: close/);
  assert.match(busyGot, /at last/);
  idle.destroy();
  busy.destroy();
  session.destroy();
  await drained;
});

test("a client that goes away is told to the backend, and logged as DC", async (t) => {
  let asked = false;
  let closed = false;
  const { proxy, port } = await start(t, (request) => {
    asked = true;
    request.socket.on("close", () => (closed = true));
  });
  const socket = connect(port, "127.0.0.1");
  socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  await eventually("the backend is asked", () => asked);
  socket.destroy();
  await eventually("the backend sees it", () => closed);
  await eventually("it is counted", () =>
    /istio_requests_total\{[^}]*response_code="0"[^}]*response_flags="DC"/.test(proxy.metrics()),
  );
});

test("Istio's metrics say who asked whom, and connections to the backend are used again", async (t) => {
  const sockets = new Set<unknown>();
  const { proxy, port } = await start(t, (request, response) => {
    sockets.add(request.socket);
    response.writeHead(request.url === "/no" ? 404 : 200);
    response.end("hello");
  });
  for (const path of ["/", "/", "/no"]) await (await fetch(`http://127.0.0.1:${port}${path}`)).text();
  assert.equal(sockets.size, 1);
  const lines = proxy
    .metrics()
    .split("\n")
    .filter((line) => line.startsWith("istio_requests_total{"));
  assert.equal(lines.length, 2);
  const ok = lines.find((line) => line.includes('response_code="200"'))!;
  assert.match(ok, / 2$/);
  for (const label of [
    'reporter="source"', 'source_workload="front-v1"', 'source_workload_namespace="demo"', 'destination_workload="app-v1"',
    'destination_canonical_service="app"', 'destination_canonical_revision="v1"', 'destination_cluster="c1"',
    'request_protocol="http"', 'response_flags="-"',
  ]) {
    assert.ok(ok.includes(label), `${label} in ${ok}`);
  } // biome-ignore format: a list
  assert.match(proxy.metrics(), /istio_request_duration_milliseconds_count\{[^}]*\} 2/);
});
