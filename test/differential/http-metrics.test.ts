/** What both proxies count, and what sidecars say of themselves: Istio's metrics of ours against Envoy's own figures. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Listener } from "#protocols/envoy/config/listener/v3/listener.ts";
import { FileAccessLog } from "#protocols/envoy/extensions/access_loggers/file/v3/file.ts";
import { Router } from "#protocols/envoy/extensions/filters/http/router/v3/router.ts";
import { pack } from "../../src/proxy/testing/resources.ts";
import { encodeListener } from "../../src/xds/encode/index.ts";
import {
  chain,
  forward,
  httpHandler,
  listener,
  route,
  routeTable,
  virtualHost,
} from "../../src/xds/testing/features.ts";
import { exchange, get, startBackend, startBoth, type TestProxy } from "./harness.ts";
import { ask, cluster, counters, filter, http, seconds, to } from "./http.ts";

const FORMAT =
  "%RESPONSE_CODE% %RESPONSE_FLAGS% %DOWNSTREAM_WIRE_BYTES_RECEIVED% %DOWNSTREAM_WIRE_BYTES_SENT%\n";

const accessLog = (path: string) => [
  {
    name: "envoy.access_loggers.file",
    configType: {
      $case: "typedConfig",
      value: pack("envoy.extensions.access_loggers.file.v3.FileAccessLog", FileAccessLog, {
        path,
        accessLogFormat: {
          $case: "logFormat",
          value: {
            format: {
              $case: "textFormatSource",
              value: { specifier: { $case: "inlineString", value: FORMAT } },
            },
          },
        },
      } as never),
    },
  },
];

/** Answers have no fields that depend on time. */
const router = filter("envoy.filters.http.router", "router.v3.Router", Router, {
  suppressEnvoyHeaders: true,
});

const requests = [
  ...["/", "/", "/?a=longer", "/?status=404", "/?status=503", "/none", "/direct", "/refused", "/empty"].map((path) => get(path)),
  get("/late?delay=2000"),
  get("/again?status=503"),
  get("/again?status=200"),
  get("/flaky"),
  get("/", {}, "POST", "x".repeat(5000)),
  get("/", {}, "HEAD"),
  `${get("/", { "transfer-encoding": "chunked" }, "POST")}b;a=b\r\nhello world\r\n0\r\n\r\n`,
  get("/chunks"),
]; // biome-ignore format: a list

async function start(t: TestContext) {
  let flaky = false;
  const backend = await startBackend(t, "app", (request, response) => {
    response.sendDate = false;
    if (request.url === "/flaky") {
      // The next to ask is answered well.
      flaky = !flaky;
      if (flaky) response.statusCode = 503;
      response.end("flaky");
      return true;
    }
    if (request.url !== "/chunks") return false;
    response.write("one");
    setTimeout(() => response.end("two"), 30);
    return true;
  });
  return startBoth(t, ({ log }) => ({
    clusters: [cluster("app", [backend.port]), cluster("refused", [1]), cluster("empty", [])],
    listeners: [
      http(
        "l",
        log,
        [
          {
            name: "v",
            domains: ["*"],
            routes: [
              {
                match: { pathSpecifier: { $case: "prefix", value: "/none" }, headers: [{ name: "never" }] },
                action: { $case: "directResponse", value: { status: 200 } },
              },
              {
                match: { pathSpecifier: { $case: "prefix", value: "/direct" } },
                action: { $case: "directResponse", value: { status: 418 } },
              },
              to("/refused", "refused"),
              to("/empty", "empty"),
              to("/again", "app", {
                retryPolicy: {
                  retryOn: "5xx",
                  numRetries: 2,
                  retryBackOff: { baseInterval: seconds(0.001) },
                },
              }),
              to("/flaky", "app", {
                retryPolicy: {
                  retryOn: "5xx",
                  numRetries: 1,
                  retryBackOff: { baseInterval: seconds(0.001) },
                },
              }),
              to("/late", "app", { timeout: seconds(0.2) }),
              to({ pathSpecifier: { $case: "path", value: "/" } }, "app"),
              to({ pathSpecifier: { $case: "path", value: "/chunks" } }, "app"),
            ],
          },
        ],
        { accessLog: accessLog(log), httpFilters: [router] } as never,
      ),
    ],
  }));
}

/** Our own samples of one metric of Istio's. */
async function samples(proxy: TestProxy, metric: string) {
  const text = await proxy.admin("/stats/prometheus");
  return text
    .split("\n")
    .filter((line) => line.startsWith(`${metric}{`))
    .map((line) => ({
      code: /response_code="(\d+)"/.exec(line)![1]!,
      flags: /response_flags="([^"]*)"/.exec(line)![1]!,
      value: Number(line.slice(line.lastIndexOf(" ") + 1)),
    }));
}

function add(to: Record<string, number[]>, key: string, values: number[]): void {
  const before = to[key];
  to[key] = before ? before.map((value, i) => value + values[i]!) : values;
}

test("counts, codes, flags and bytes of Istio's metrics are those that Envoy counts", async (t) => {
  const both = await start(t);
  for (const request of requests) {
    await both.same(async (proxy) => {
      const [answer] = await exchange(proxy.address("l"), request, { head: request.startsWith("HEAD") });
      return answer!.status;
    });
  }
  const logs = await both.same(async (proxy) => proxy.logged(requests.length));
  const counted = await both.same((proxy) => counters(proxy));
  const [total, received, sent] = [
    await samples(both.weft, "istio_requests_total"),
    await samples(both.weft, "istio_request_bytes_sum"),
    await samples(both.weft, "istio_response_bytes_sum"),
  ];
  const sum = (list: { value: number }[]) => list.reduce((all, { value }) => all + value, 0);
  assert.equal(sum(total), counted["http.l.downstream_rq_total"]);
  for (const family of [2, 4, 5]) {
    assert.equal(
      sum(total.filter(({ code }) => code.startsWith(String(family)))),
      counted[`http.l.downstream_rq_${family}xx`],
      `answers ${family}xx`,
    );
  }
  // Of each code with each flag: what Envoy's log lines say.
  const said: Record<string, number[]> = {};
  for (const line of logs) {
    const [code, flags, bytesIn, bytesOut] = line.split(" ");
    add(said, `${code} ${flags}`, [1, Number(bytesIn), Number(bytesOut)]);
  }
  const ours: Record<string, number[]> = {};
  [total, received, sent].forEach((list, i) => {
    for (const { code, flags, value } of list) {
      add(
        ours,
        `${code} ${flags}`,
        [0, 0, 0].map((_, at) => (at === i ? value : 0)),
      );
    }
  });
  assert.deepEqual(ours, said);
});

test("what sidecars or clients say of themselves in headers does not reach the application", async (t) => {
  const backend = await startBackend(t, "app");
  const handler = httpHandler(
    routeTable("inbound|8080||", [virtualHost("inbound|http|8080", ["*"], route(forward("app")))]),
    { accessLog: false },
  );
  const inbound = listener("in", 0, [chain("http", handler)], {
    direction: "inbound",
    address: "127.0.0.1",
  });
  const both = await startBoth(t, () => ({
    clusters: [cluster("app", [backend.port])],
    listeners: [Listener.decode(encodeListener(inbound).message)],
  }));
  const forged: Record<string, string>[] = [
    { "x-envoy-peer-metadata": "CgA=", "x-envoy-peer-metadata-id": "sidecar~1.2.3.4~forged.demo~x" },
    { "x-envoy-peer-metadata-id": "sidecar~1.2.3.4~forged.demo~x" },
  ];
  for (const headers of forged) {
    const { status, body } = await both.same(async (proxy) => {
      const answer = await ask(proxy, "in", "/", headers);
      return { status: answer.status, body: (answer.body as { headers: object }).headers };
    });
    assert.equal(status, 200);
    assert.deepEqual(
      Object.keys(body).filter((name) => name.includes("peer")),
      [],
    );
  }
});
