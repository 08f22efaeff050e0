/** Timeouts, retries, limits, faults, mirrors, CORS, access control and rate limits on real Envoy and on the embedded proxy. */
import assert from "node:assert/strict";
import { connect, createServer } from "node:net";
import { type TestContext, test } from "node:test";
import { Cors, CorsPolicy } from "#protocols/envoy/extensions/filters/http/cors/v3/cors.ts";
import { HTTPFault } from "#protocols/envoy/extensions/filters/http/fault/v3/fault.ts";
import { LocalRateLimit } from "#protocols/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.ts";
import { RBAC, RBACPerRoute } from "#protocols/envoy/extensions/filters/http/rbac/v3/rbac.ts";
import { pack } from "../../src/proxy/testing/resources.ts";
import { get, listening, startBackend, startBoth, until } from "./harness.ts";
import { ask, cluster, counters, filter, header, http, prefix, router, seconds, text, to } from "./http.ts";

/** A port that refuses. */
async function refusing(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}

/** Speaks raw: answers every request with the bytes that its `?raw=` names, and closes where it says `/close`. */
async function startRaw(t: TestContext): Promise<number> {
  const server = createServer((socket) => {
    let text = "";
    socket.on("error", () => undefined);
    socket.setEncoding("latin1");
    socket.on("data", (data: string) => {
      text += data;
      for (let end = text.indexOf("\r\n\r\n"); end >= 0; end = text.indexOf("\r\n\r\n")) {
        const path = text.split(" ")[1]!;
        text = text.slice(end + 4);
        const raw = /raw=([^& ]*)/.exec(path)?.[1];
        if (path.includes("/reset")) socket.resetAndDestroy();
        else if (raw !== undefined) socket.write(Buffer.from(decodeURIComponent(raw), "latin1"));
        if (path.includes("/close")) socket.end();
      }
    });
  });
  return (await listening(t, server)).port;
}

test("timeouts and retries: what is tried again, how often, and what is said at the end", async (t) => {
  const seen = new Map<string, number>();
  const a = await startBackend(t, "a", (request, response) => {
    const { searchParams } = new URL(request.url!, "http://x");
    const key = searchParams.get("key");
    if (key === null) return undefined;
    const n = (seen.get(key) ?? 0) + 1;
    seen.set(key, n);
    response.sendDate = false;
    response.setHeader("x-n", String(n));
    if (n <= Number(searchParams.get("fail") ?? 0)) {
      const status = searchParams.get("with") ?? "503";
      if (status === "reset") request.socket.destroy();
      else if (status === "slow") setTimeout(() => response.end(), 3000).unref();
      else {
        response.writeHead(Number(status), { "x-retry": "1" });
        response.end("failed");
      }
      return true;
    }
    return undefined;
  });
  const raw = await startRaw(t);
  const dead = await refusing();
  const retry = (on: string, more: object = {}) => ({
    retryPolicy: { retryOn: on, numRetries: 2, retryBackOff: { baseInterval: seconds(0.001) }, ...more },
  });
  const both = await startBoth(t, ({ log }) => ({
    clusters: [cluster("a", [a.port]), cluster("raw", [raw]), cluster("dead", [dead]), cluster("empty", []), cluster("mixed", [dead, a.port])],
    listeners: [
      http("l", log, [
        { name: "v", domains: ["*"], includeRequestAttemptCount: true, includeAttemptCountInResponse: true, routes: [
          to("/timeout", "a", { timeout: seconds(0.2) }),
          to("/late", "a", { timeout: seconds(0.3) }),
          to("/per-try", "a", { timeout: seconds(5), ...retry("5xx", { perTryTimeout: seconds(0.15) }) }),
          to("/5xx", "a", retry("5xx")),
          to("/gateway", "a", retry("gateway-error")),
          to("/codes", "a", retry("retriable-status-codes", { retriableStatusCodes: [418] })),
          to("/4xx", "a", retry("retriable-4xx")),
          to("/by-header", "a", retry("retriable-headers", { retriableHeaders: [header("x-retry", text("exact", "1"))] })),
          to("/reset", "a", retry("reset")),
          to("/istio", "a", retry("connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes", { retriableStatusCodes: [503] })),
          to("/none", "a"),
          to("/dead", "dead", retry("connect-failure")),
          to("/dead-once", "dead"),
          to("/empty", "empty", retry("5xx")),
          to("/mixed", "mixed", retry("connect-failure", { retryHostPredicate: [{ name: "envoy.retry_host_predicates.previous_hosts", configType: { $case: "typedConfig", value: { typeUrl: "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate", value: Buffer.alloc(0) } } }], hostSelectionRetryMaxAttempts: 5 })),
          to("/raw", "raw", retry("5xx")),
          to("/", "raw"),
        ] },
      ]),
    ],
  })); // biome-ignore format: a table
  let asked = 0;
  const both_ = async (path: string, method = "GET", body = "") => {
    asked++;
    return both.same((proxy) => {
      seen.clear();
      return ask(proxy, "l", path, {}, method, body).then((answer) => {
        // Whether the first host or the second comes first is chance.
        if (path === "/mixed") return answer.status;
        return answer;
      });
    });
  };
  await both_("/timeout?delay=1000");
  await both_("/late?key=KEY&fail=0");
  for (const [path, fail, how] of [
    ["per-try", 1, "slow"], ["per-try", 5, "slow"], ["5xx", 1, 503], ["5xx", 2, 500], ["5xx", 3, 503], ["5xx", 1, "reset"], ["5xx", 9, "reset"], ["5xx", 1, 404],
    ["gateway", 1, 502], ["gateway", 1, 500], ["codes", 1, 418], ["codes", 1, 503], ["4xx", 1, 409], ["4xx", 1, 404], ["by-header", 1, 404], ["reset", 1, "reset"], ["reset", 1, 503],
    ["istio", 1, 503], ["istio", 9, 503], ["istio", 1, "reset"], ["none", 1, 503], ["none", 1, "reset"],
  ] as const) {
    await both_(`/${path}?key=KEY&fail=${fail}&with=${how}`);
    await both_(`/${path}?key=KEY&fail=${fail}&with=${how}`, "POST", "a body to be sent again");
  } // biome-ignore format: a table
  for (const path of ["/dead", "/dead-once", "/empty", "/mixed", "/mixed", "/mixed", "/mixed"])
    await both_(path);
  for (const answer of [
    "garbage\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "HTTP/1.1 204 No\r\nContent-Length: 1\r\n\r\na",
    "HTTP/1.1 99 X\r\nContent-Length: 1\r\n\r\na",
    "HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-T: 1\r\n\r\n",
    "HTTP/1.1 999 Odd\r\nContent-Length: 1\r\n\r\na",
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabcHTTP/1.1 200 OK\r\n\r\n",
  ]) {
    await both_(`/x?raw=${encodeURIComponent(answer)}`);
  }
  await both_(`/raw?raw=${encodeURIComponent("garbage\r\n\r\n")}`);
  await both_("/x/reset");
  await both_("/x/close");
  await both_(`/x/close?raw=${encodeURIComponent("HTTP/1.1 200 OK\r\n\r\nuntil the end")}`);
  await both_(`/x/close?raw=${encodeURIComponent("HTTP/1.0 200 OK\r\n\r\nuntil the end")}`);
  await both_(`/x/close?raw=${encodeURIComponent("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\ncut")}`);
  await both.same(async (proxy) => (await proxy.logged(asked)).slice(0, asked));
  // Which of its hosts "mixed" asks first is chance.
  await both.same((proxy) => counters(proxy, /cluster\.mixed\.|_bytes_total$/));
});

test("circuit breakers: requests beyond the limits are turned away", async (t) => {
  const a = await startBackend(t, "a");
  const limits = (thresholds: object) => ({ circuitBreakers: { thresholds: [thresholds] } });
  const both = await startBoth(t, ({ log }) => ({
    clusters: [
      cluster("requests", [a.port], limits({ maxRequests: 1 })),
      cluster("pending", [a.port], limits({ maxConnections: 1, maxPendingRequests: 1 })),
    ],
    listeners: [
      http("l", log, [
        { name: "v", domains: ["*"], routes: [to("/requests", "requests"), to("/pending", "pending")] },
      ]),
    ],
  }));
  for (const path of ["/requests", "/pending"]) {
    await both.same(async (proxy) => {
      const first = ask(proxy, "l", `${path}?delay=400`);
      await new Promise((resolve) => setTimeout(resolve, 100));
      const second = ask(proxy, "l", `${path}?delay=0`);
      await new Promise((resolve) => setTimeout(resolve, 100));
      const third = await ask(proxy, "l", `${path}?delay=0`);
      return [third, (await second).status, (await first).status];
    });
  }
  await both.same((proxy) => counters(proxy, /_bytes_total$/));
});

test("outliers: a host that fails is put aside, and what is left takes its share", async (t) => {
  const bad = await startBackend(t, "bad", (_request, response) => {
    response.writeHead(503);
    response.end();
    return true;
  });
  const good = await startBackend(t, "good");
  const both = await startBoth(t, ({ log }) => ({
    clusters: [
      cluster("c", [bad.port, good.port], {
        outlierDetection: {
          consecutive5xx: 3,
          interval: seconds(0.1),
          baseEjectionTime: seconds(60),
          maxEjectionPercent: 100,
        },
      }),
    ],
    listeners: [http("l", log, [{ name: "v", domains: ["*"], routes: [to("/", "c")] }])],
  }));
  await both.same(async (proxy) => {
    let failed = 0;
    for (let i = 0; i < 20; i++) if ((await ask(proxy, "l", "/")).status === 503) failed++;
    return failed;
  });
});

test("faults, mirrors, CORS", async (t) => {
  const a = await startBackend(t, "a");
  const shadow = await startBackend(t, "shadow");
  const percent = (numerator: number) => ({ numerator, denominator: 0 });
  const fault = (value: object) => ({
    typedPerFilterConfig: {
      "envoy.filters.http.fault": pack(
        "envoy.extensions.filters.http.fault.v3.HTTPFault",
        HTTPFault,
        value as never,
      ),
    },
  });
  const cors = (value: object) => ({
    typedPerFilterConfig: {
      "envoy.filters.http.cors": pack(
        "envoy.extensions.filters.http.cors.v3.CorsPolicy",
        CorsPolicy,
        value as never,
      ),
    },
  });
  const both = await startBoth(t, ({ log }) => ({
    clusters: [cluster("a", [a.port]), cluster("shadow", [shadow.port])],
    listeners: [
      http("l", log, [
        { name: "v", domains: ["*"], routes: [
          to("/abort", "a", {}, fault({ abort: { percentage: percent(100), errorType: { $case: "httpStatus", value: 418 } } })),
          to("/grpc-abort", "a", {}, fault({ abort: { percentage: percent(100), errorType: { $case: "grpcStatus", value: 8 } } })),
          to("/never", "a", {}, fault({ abort: { percentage: percent(0), errorType: { $case: "httpStatus", value: 418 } } })),
          to("/delay", "a", {}, fault({ delay: { percentage: percent(100), faultDelaySecifier: { $case: "fixedDelay", value: seconds(0.1) } } })),
          to("/both", "a", {}, fault({ delay: { percentage: percent(100), faultDelaySecifier: { $case: "fixedDelay", value: seconds(0.05) } }, abort: { percentage: percent(100), errorType: { $case: "httpStatus", value: 500 } } })),
          to("/some", "a", {}, fault({ headers: [header("x-fault", text("exact", "yes"))], abort: { percentage: percent(100), errorType: { $case: "httpStatus", value: 503 } } })),
          to("/mirror", "a", { prefixRewrite: "/m", requestMirrorPolicies: [{ cluster: "shadow" }] }),
          to("/cors", "a", {}, cors({ allowOriginStringMatch: [text("exact", "https://ok.example"), text("suffix", ".fine.example")], allowMethods: "GET,POST", allowHeaders: "x-a", exposeHeaders: "x-b", maxAge: "60", allowCredentials: true })),
          to("/strict-cors", "a", {}, cors({ allowOriginStringMatch: [text("exact", "https://ok.example")], forwardNotMatchingPreflights: false })),
          to("/", "a"),
        ] },
      ], {
        httpFilters: [
          filter("envoy.filters.http.cors", "cors.v3.Cors", Cors, {}),
          filter("envoy.filters.http.fault", "fault.v3.HTTPFault", HTTPFault, {}),
          router,
        ],
      }),
    ],
  })); // biome-ignore format: a table
  const preflight = { "access-control-request-method": "POST" };
  const requests: [string, Record<string, string>?, string?, string?][] = [
    ["/abort"], ["/abort", {}, "POST", "x"], ["/abort", { "content-type": "application/grpc" }, "POST", "x"], ["/grpc-abort"], ["/grpc-abort", { "content-type": "application/grpc" }, "POST", "x"],
    ["/never"], ["/delay"], ["/delay", {}, "POST", "held back"], ["/both"], ["/some"], ["/some", { "x-fault": "yes" }],
    ["/cors"], ["/cors", { origin: "https://ok.example" }], ["/cors", { origin: "https://a.fine.example" }], ["/cors", { origin: "https://bad.example" }],
    ["/cors", { origin: "https://ok.example", ...preflight }, "OPTIONS"], ["/cors", { origin: "https://bad.example", ...preflight }, "OPTIONS"], ["/cors", { origin: "https://ok.example" }, "OPTIONS"],
    ["/strict-cors", { origin: "https://bad.example", ...preflight }, "OPTIONS"], ["/strict-cors", { origin: "https://ok.example", ...preflight }, "OPTIONS"], ["/plain", { origin: "https://ok.example", ...preflight }, "OPTIONS"],
  ]; // biome-ignore format: a table
  for (const [path, headers, method, body] of requests) {
    await both.same((proxy) => ask(proxy, "l", path, headers, method, body));
  }
  await both.same(async (proxy) => (await proxy.logged(requests.length)).slice(0, requests.length));
  const shadows = await both.same(async (proxy) => {
    shadow.requests.length = 0;
    await ask(proxy, "l", "/mirror/x?y", { host: "app.example:81" });
    await ask(proxy, "l", "/mirror/z", {}, "POST", "body");
    await until("both came", async () => shadow.requests.length === 2);
    return shadow.requests.map(({ method, path, headers }) => {
      const fields: [string, string][] = [];
      for (let i = 0; i < headers.length; i += 2) {
        if (headers[i] !== "x-request-id") fields.push([headers[i]!, headers[i + 1]!]);
      }
      return { method, path, headers: Object.fromEntries(fields) };
    });
  });
  assert.equal(shadows.length, 2);
  await both.same((proxy) => counters(proxy, /_bytes_total$/));
});

test("access control and local rate limits", async (t) => {
  const a = await startBackend(t, "a");
  const any = [{ identifier: { $case: "any", value: true } }];
  const path = (value: string) => ({
    rule: { $case: "urlPath", value: { rule: { $case: "path", value: text("prefix", value) } } },
  });
  const policy = (permissions: object[], principals: object[] = any) => ({ permissions, principals });
  const rules = (action: number, policies: object) => ({ rules: { action, policies } });
  const perRoute = (value: object) => ({
    typedPerFilterConfig: {
      "envoy.filters.http.rbac": pack(
        "envoy.extensions.filters.http.rbac.v3.RBACPerRoute",
        RBACPerRoute,
        value as never,
      ),
    },
  });
  const bucket = (tokens: number) => ({
    maxTokens: tokens,
    tokensPerFill: tokens,
    fillInterval: seconds(3600),
  });
  const all = { defaultValue: { numerator: 100, denominator: 0 }, runtimeKey: "" };
  const limit = (value: object) =>
    pack("envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit", LocalRateLimit, {
      statPrefix: "rl",
      filterEnabled: all,
      filterEnforced: all,
      ...value,
    } as never);
  const limited = (value: object) => ({
    typedPerFilterConfig: { "envoy.filters.http.local_ratelimit": limit(value) },
  });
  const both = await startBoth(t, ({ log }) => ({
    clusters: [cluster("a", [a.port])],
    listeners: [
      http("deny", log, [{ name: "v", domains: ["*"], routes: [
        to("/free", "a", {}, perRoute({})),
        to("/own", "a", {}, perRoute({ rbac: rules(0, { "only put": policy([{ rule: { $case: "header", value: header(":method", text("exact", "PUT")) } }]) }) })),
        to("/", "a"),
      ] }], { httpFilters: [
        filter("envoy.filters.http.rbac", "rbac.v3.RBAC", RBAC, rules(1, {
          "no admin": policy([path("/admin")]),
          "no evil": policy([{ rule: { $case: "any", value: true } }], [{ identifier: { $case: "header", value: header("x-who", text("exact", "evil")) } }]),
        })),
        router,
      ] }),
      http("allow", log, [{ name: "v", domains: ["*"], routes: [to("/", "a")] }], { httpFilters: [
        filter("envoy.filters.http.rbac", "rbac.v3.RBAC", RBAC, rules(0, {
          open: policy([{ rule: { $case: "andRules", value: { rules: [path("/open"), { rule: { $case: "notRule", value: path("/open/not") } }] } } }]),
          local: policy([{ rule: { $case: "orRules", value: { rules: [{ rule: { $case: "destinationPort", value: 1 } }, path("/local")] } } }], [{ identifier: { $case: "directRemoteIp", value: { addressPrefix: "127.0.0.0", prefixLen: 8 } } }]),
          far: policy([path("/far")], [{ identifier: { $case: "remoteIp", value: { addressPrefix: "10.0.0.0", prefixLen: 8 } } }]),
        })),
        router,
      ] }),
      http("limits", log, [{ name: "v", domains: ["*"], routes: [
        to("/two", "a", {}, limited({ tokenBucket: bucket(2), responseHeadersToAdd: [{ header: { key: "retry-after", value: "7" } }] })),
        to("/soft", "a", {}, limited({ tokenBucket: bucket(1), filterEnforced: { defaultValue: { numerator: 0, denominator: 0 }, runtimeKey: "" }, requestHeadersToAddWhenNotEnforced: [{ header: { key: "x-over", value: "1" } }] })),
        to("/status", "a", {}, limited({ tokenBucket: bucket(1), status: { code: 503 } })),
        to("/by-user", "a", { rateLimits: [{ actions: [{ actionSpecifier: { $case: "requestHeaders", value: { headerName: "x-user", descriptorKey: "user" } } }] }] }, limited({
          tokenBucket: bucket(100),
          descriptors: [{ entries: [{ key: "user", value: "ann" }], tokenBucket: bucket(1) }],
        })),
        to("/each", "a", { rateLimits: [
          { actions: [{ actionSpecifier: { $case: "requestHeaders", value: { headerName: "x-user", descriptorKey: "value" } } }] },
          { actions: [{ actionSpecifier: { $case: "headerValueMatch", value: { descriptorKey: "value", descriptorValue: "-", expectMatch: true, headers: [{ name: "x-user", headerMatchSpecifier: { $case: "presentMatch", value: true }, invertMatch: true }] } } }] },
        ] }, limited({
          tokenBucket: bucket(100),
          descriptors: [{ entries: [{ key: "value", value: "" }], tokenBucket: bucket(1) }],
        })),
        to(prefix("/grpc"), "a", {}, limited({ tokenBucket: bucket(1), rateLimitedAsResourceExhausted: true })),
        to("/", "a"),
      ] }], { httpFilters: [
        { name: "envoy.filters.http.local_ratelimit", configType: { $case: "typedConfig", value: pack("envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit", LocalRateLimit, { statPrefix: "rl" } as never) } },
        router,
      ] }),
    ],
  })); // biome-ignore format: a table
  const requests: [string, string, Record<string, string>?, string?][] = [
    ["deny", "/"], ["deny", "/admin/x?y"], ["deny", "/Admin"], ["deny", "//admin"], ["deny", "/x/../admin"], ["deny", "/%61dmin"], ["deny", "/", { "x-who": "evil" }], ["deny", "/free", { "x-who": "evil" }],
    ["deny", "/own"], ["deny", "/own", {}, "PUT"], ["deny", "/admin", { "content-type": "application/grpc" }, "POST"],
    ["allow", "/open"], ["allow", "/open/not"], ["allow", "/local"], ["allow", "/closed"], ["allow", "/far", { "x-forwarded-for": "10.1.2.3" }], ["allow", "/far", { "x-forwarded-for": "11.1.2.3" }], ["allow", "/far"],
    ["limits", "/two"], ["limits", "/two"], ["limits", "/two"], ["limits", "/soft"], ["limits", "/soft"], ["limits", "/status"], ["limits", "/status"],
    ["limits", "/by-user", { "x-user": "ann" }], ["limits", "/by-user", { "x-user": "ann" }], ["limits", "/by-user", { "x-user": "bob" }], ["limits", "/by-user"],
    ["limits", "/each", { "x-user": "ann" }], ["limits", "/each", { "x-user": "ann" }], ["limits", "/each", { "x-user": "bob" }], ["limits", "/each"], ["limits", "/each"],
    ["limits", "/grpc", { "content-type": "application/grpc" }, "POST"], ["limits", "/grpc", { "content-type": "application/grpc" }, "POST"], ["limits", "/free"],
  ]; // biome-ignore format: a table
  for (const [listener, path, headers, method] of requests) {
    await both.same((proxy) => ask(proxy, listener, path, headers, method));
  }
  await both.same(async (proxy) => (await proxy.logged(requests.length)).slice(0, requests.length));
  await both.same((proxy) => counters(proxy, /_bytes_total$/));
});

test("WebSocket: the connection is another protocol's once both sides agree, and plain HTTP else", async (t) => {
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.once("data", (data) => {
      const head = data.toString("latin1");
      if (head.includes("/no")) socket.write("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
      else {
        socket.write(
          "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-X: 1\r\n\r\nhello",
        );
        socket.pipe(socket);
      }
    });
  });
  const { port } = await listening(t, server);
  const both = await startBoth(t, ({ log }) => ({
    clusters: [cluster("ws", [port])],
    listeners: [http("l", log, [{ name: "v", domains: ["*"], routes: [to("/", "ws")] }])],
  }));
  const upgrade = { connection: "Upgrade", upgrade: "websocket", "sec-websocket-version": "13" };
  await both.same(async (proxy) => {
    const { ip, port } = proxy.address("l");
    return new Promise<string>((resolve) => {
      const socket = connect({ host: ip, port });
      let got = "";
      socket.setEncoding("latin1");
      socket.on("data", (data: string) => {
        got += data;
        if (got.endsWith("hello")) socket.write("ping");
        if (got.endsWith("ping")) socket.end();
      });
      socket.on("close", () => {
        const lines = got.split("\r\n").filter((line) => !line.startsWith("date:"));
        resolve([lines[0], ...lines.slice(1).sort()].join("\n"));
      });
      socket.write(get("/yes", upgrade));
    });
  });
  await both.same((proxy) => ask(proxy, "l", "/no", upgrade));
  // Envoy ends a connection of which the client has ended its half, which is a reset.
  await both.same((proxy) => counters(proxy, /_rq_(response_before_rq_complete|rx_reset)$/));
});
