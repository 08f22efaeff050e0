/** A mistake of ours, wherever a request is: it costs that request or its connection, and nothing else. */
import assert from "node:assert/strict";
import { createServer, get } from "node:http";
import { connect as connectHttp2, createServer as createHttp2 } from "node:http2";
import { type AddressInfo, connect } from "node:net";
import { type TestContext, test } from "node:test";
import { Router as RouterFilter } from "#protocols/envoy/extensions/filters/http/router/v3/router.ts";
import { HttpConnectionManager } from "#protocols/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.ts";
import { HttpProtocolOptions } from "#protocols/envoy/extensions/upstreams/http/v3/http_protocol_options.ts";
import { startProxy } from "../index.ts";
import { endpoint, listener, pack, staticCluster } from "../testing/resources.ts";
import { Exchange } from "./exchange.ts";
import { Router } from "./router.ts";

const MISTAKE = "a mistake, made for this test";

/** A proxy before a backend that answers after 20 ms, and what it logs as errors. */
async function start(t: TestContext, http2: boolean) {
  const server = http2
    ? createHttp2().on("stream", (stream) => {
        stream.on("error", () => undefined).resume();
        stream.on("end", () => {
          if (stream.destroyed) return;
          stream.respond({ ":status": 200 });
          stream.end("good");
        });
      })
    : createServer((request, response) => {
        request.resume().on("end", () => (request.url === "/slow" ? undefined : response.end("good")));
      });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const retryPolicy = { retryOn: "connect-failure", numRetries: 2 };
  const hcm = {
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
              ["/slow", "app", 0.1],
              ["/refused", "refused", 5],
              ["/", "app", 5],
            ].map(([path, cluster, time]) => ({
              match: { pathSpecifier: { $case: "prefix", value: path } },
              action: {
                $case: "route",
                value: {
                  clusterSpecifier: { $case: "cluster", value: cluster },
                  timeout: { seconds: Math.floor(time as number), nanos: ((time as number) % 1) * 1e9 },
                  retryPolicy,
                },
              },
            })),
          },
        ],
      },
    },
    httpFilters: [
      {
        name: "router",
        configType: {
          $case: "typedConfig",
          value: pack("envoy.extensions.filters.http.router.v3.Router", RouterFilter, {}),
        },
      },
    ],
  };
  const filter = {
    name: "http",
    configType: {
      $case: "typedConfig" as const,
      value: pack(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        HttpConnectionManager,
        hcm as never,
      ),
    },
  };
  const options = pack("envoy.extensions.upstreams.http.v3.HttpProtocolOptions", HttpProtocolOptions, {
    upstreamProtocolOptions: {
      $case: "explicitHttpConfig",
      value: { protocolConfig: { $case: "http2ProtocolOptions", value: {} } },
    },
  } as never);
  const { port } = server.address() as AddressInfo;
  const errors: string[] = [];
  const proxy = await startProxy({
    node: { id: "x", cluster: "x", metadata: {}, locality: { region: "", zone: "", subZone: "" } },
    adminPort: 0,
    drainTime: 100,
    log: (level, message) => void (level === "error" && errors.push(message)),
    fixed: {
      listeners: new Map([listener("l", 0, { filterChains: [{ filters: [filter] }] } as never)]),
      clusters: new Map([
        staticCluster("app", [endpoint("127.0.0.1", port)], {
          ...(http2 && {
            typedExtensionProtocolOptions: {
              "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options,
            },
          }),
        } as never),
        staticCluster("refused", [endpoint("127.0.0.1", 1)]),
      ]),
    },
  });
  t.after(() => proxy.stop());
  await proxy.ready;
  const active = async () => {
    const stats = await (await fetch(`http://127.0.0.1:${proxy.adminPort}/stats`)).text();
    return stats.split("\n").filter((line) => /(downstream|upstream)_rq_active: [1-9]/.test(line));
  };
  return { port: proxy.listenerAddress("l")!.port, errors, active };
}

/** One request on a connection of its own: its body, or undefined when there was no whole answer. */
function ask(port: number, path: string, http2: boolean): Promise<string | undefined> {
  return new Promise((resolve) => {
    if (!http2) {
      const socket = connect(port, "127.0.0.1");
      let text = "";
      socket.setEncoding("latin1").on("data", (data) => (text += data));
      socket.on("error", () => undefined).on("close", () => resolve(text.split("\r\n\r\n")[1]));
      socket.write(`POST ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\n`);
      setTimeout(() => socket.write("body"), 5);
      return;
    }
    const session = connectHttp2(`http://127.0.0.1:${port}`).on("error", () => undefined);
    const stream = session.request({ ":path": path, ":method": "POST" });
    let text = "";
    stream.setEncoding("utf8").on("data", (data: string) => (text += data));
    stream
      .on("error", () => undefined)
      .on("close", () => {
        session.close();
        resolve(stream.rstCode === 0 ? text : undefined);
      });
    setTimeout(() => stream.end("body"), 5);
  });
}

const places: [typeof Exchange | typeof Router, string, string][] = [
  ...["begin", "respond", "sendData", "sendEnd", "onRequestData", "onRequestEnd"].map(
    (name): [typeof Exchange, string, string] => [Exchange, name, "/"],
  ),
  ...["begin", "onUpstreamReady", "onResponseHead", "onResponseData", "onResponseEnd", "onRequestData"].map(
    (name): [typeof Router, string, string] => [Router, name, "/"],
  ),
  [Router, "onUpstreamFailure", "/refused"],
  [Router, "onDeadline", "/slow"],
];

for (const http2 of [false, true]) {
  test(`in HTTP/${http2 ? 2 : "1.1"}, on both sides: whatever throws, the request ends, it is logged, and the next is served`, async (t) => {
    const { port, errors, active } = await start(t, http2);
    for (const [where, method, path] of places) {
      if (http2 && path === "/slow") continue;
      errors.length = 0;
      const prototype = where.prototype as unknown as Record<string, () => void>;
      const { mock } = t.mock.method(prototype, method);
      mock.mockImplementationOnce(() => {
        throw new Error(MISTAKE);
      });
      const what = `${where.name}.${method}`;
      const answer = await ask(port, path, http2);
      // Over HTTP/1.1 all of the body is there before its end is told.
      if (!["sendEnd", "onResponseEnd"].includes(method))
        assert.notEqual(answer, "good", `${what}: the request is the one that pays`);
      assert.equal(errors.length, 1, `${what} is logged once: ${errors.join("\n")}`);
      assert.match(errors[0]!, new RegExp(MISTAKE));
      mock.restore();
      assert.equal(await ask(port, "/", http2), "good", `after ${what}`);
      assert.deepEqual(await active(), [], `after ${what}`);
    }
  });
}

test("a mistake in a request that came with the one before costs the connection, after the first answer", async (t) => {
  const { port, errors } = await start(t, false);
  let calls = 0;
  const begin = Exchange.prototype.begin;
  t.mock.method(Exchange.prototype, "begin", function (this: Exchange, ...args: Parameters<typeof begin>) {
    if (++calls === 2) throw new Error(MISTAKE);
    return begin.apply(this, args);
  });
  const socket = connect(port, "127.0.0.1");
  socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
  let text = "";
  await new Promise<void>((resolve) =>
    socket
      .setEncoding("latin1")
      .on("data", (data) => (text += data))
      .on("error", () => undefined)
      .on("close", () => resolve()),
  );
  assert.equal(calls, 2);
  assert.equal(errors.length, 1);
  assert.ok(text.split("HTTP/1.1 ").length <= 2, text);
  const answer = await new Promise<number>((resolve) =>
    get({ host: "127.0.0.1", port, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode!);
    }),
  );
  assert.equal(answer, 200);
});
