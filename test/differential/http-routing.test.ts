/** HTTP routing on real Envoy and on the embedded proxy: what matches, what is changed, what is answered. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { exchange, get, startBackend, startBoth } from "./harness.ts";
import { ask, cluster, counters, header, http, prefix, regex, seconds, seen, text, to } from "./http.ts";

test("virtual hosts and matches: the most specific host, the first route that matches", async (t) => {
  const a = await startBackend(t, "a");
  const host = (name: string, domains: string[], more: object = {}) => ({
    name,
    domains,
    routes: [to("/", "a", {}, { responseHeadersToAdd: [{ header: { key: "host-is", value: name } }] })],
    ...more,
  });
  const routed = (name: string, match: object) =>
    to(match, "a", {}, { name, responseHeadersToAdd: [{ header: { key: "route-is", value: name } }] });
  const both = await startBoth(t, ({ log }) => ({
    clusters: [cluster("a", [a.port])],
    listeners: [
      http("hosts", log, [
        host("exact", ["app.example"]),
        host("exact-port", ["app.example:8080"]),
        host("suffix", ["*.example"]),
        host("longer-suffix", ["*.deep.example"]),
        host("prefix", ["app.*"]),
        host("longer-prefix", ["app.other.*"]),
        host("rest", ["*"]),
      ]),
      http("ports", log, [host("exact", ["app.example"])], {}, { ignorePortInHostMatching: true }),
      http("tls", log, [host("x", ["*"], { requireTls: 2 })]),
      http("routes", log, [
        {
          name: "r",
          domains: ["*"],
          routes: [
            routed("exact", { pathSpecifier: { $case: "path", value: "/exact" } }),
            routed("fold", { pathSpecifier: { $case: "path", value: "/FoLd" }, caseSensitive: false }),
            routed("separated", { pathSpecifier: { $case: "pathSeparatedPrefix", value: "/sep" } }),
            routed("regex", {
              pathSpecifier: { $case: "safeRegex", value: { regex: "/re/(a|b)+[0-9]{2}" } },
            }),
            routed("header", prefix("/h", { headers: [header("x-one", text("exact", "1"))] })),
            routed("header-regex", prefix("/h", { headers: [header("x-one", regex("[2-4]"))] })),
            routed(
              "header-not",
              prefix("/h", {
                headers: [
                  header("x-two", text("prefix", "a"), {
                    invertMatch: true,
                    treatMissingHeaderAsEmpty: true,
                  }),
                ],
              }),
            ),
            routed(
              "header-absent",
              prefix("/h", {
                headers: [
                  {
                    name: "x-three",
                    headerMatchSpecifier: { $case: "presentMatch", value: true },
                    invertMatch: true,
                  },
                ],
              }),
            ),
            routed("method", prefix("/m", { headers: [header(":method", text("exact", "POST"))] })),
            routed("authority", prefix("/m", { headers: [header(":authority", text("suffix", ".org"))] })),
            routed("scheme", prefix("/s", { headers: [header(":scheme", text("exact", "https"))] })),
            routed(
              "query",
              prefix("/q", {
                queryParameters: [
                  {
                    name: "v",
                    queryParameterMatchSpecifier: { $case: "stringMatch", value: text("exact", "1") },
                  },
                ],
              }),
            ),
            routed(
              "query-present",
              prefix("/q", {
                queryParameters: [
                  { name: "p", queryParameterMatchSpecifier: { $case: "presentMatch", value: true } },
                ],
              }),
            ),
            routed("prefix", prefix("/pre")),
          ],
        },
      ]),
    ],
  }));
  const hosts = ["app.example", "APP.example", "app.example:8080", "app.example:81", "x.example", "x.deep.example", ".example", "app.org", "app.other.org", "app.", "q"]; // biome-ignore format: a list
  for (const name of hosts) await both.same((proxy) => ask(proxy, "hosts", "/", { host: name }));
  for (const name of ["app.example", "app.example:81", "b"]) {
    await both.same((proxy) => ask(proxy, "ports", "/x?y", { host: name }));
  }
  await both.same((proxy) => ask(proxy, "tls", "/x?y=1"));
  await both.same((proxy) => ask(proxy, "tls", "/x?y=1", { "x-forwarded-proto": "https" }));
  const requests: [string, Record<string, string>?, string?][] = [
    ["/exact"], ["/exact?q"], ["/exact/"], ["/exact/x"], ["/fold"], ["/sep"], ["/sep/"], ["/sep/x?y"], ["/separate"],
    ["/re/ab12"], ["/re/ab123"], ["/re/ab12?x"], ["/re/"], ["/h", { "x-one": "1" }], ["/h", { "x-one": "3" }],
    ["/h", { "x-two": "b" }], ["/h", { "x-two": "abc" }], ["/h", { "x-two": "a", "x-three": "1" }], ["/h"],
    ["/m", {}, "POST"], ["/m", { host: "a.org" }], ["/m"], ["/s", { "x-forwarded-proto": "https" }], ["/s"],
    ["/q?v=1"], ["/q?v=2&v=1"], ["/q?a&v=1#f"], ["/q?p"], ["/q?p=&v=3"], ["/q?pp"], ["/prefix"], ["/pre"], ["/pr"],
    ["/a/../pre"], ["/%70re"], ["//pre"], ["/pre/%2e%2e/exact"],
  ]; // biome-ignore format: a list
  for (const [path, headers, method] of requests) {
    await both.same((proxy) => ask(proxy, "routes", path, headers, method));
  }
  const count = hosts.length + 3 + 2 + requests.length;
  await both.same(async (proxy) => (await proxy.logged(count)).slice(0, count));
  await both.same((proxy) => counters(proxy, /_bytes_total$/));
});

test("rewrites, redirects, header changes and direct answers", async (t) => {
  const a = await startBackend(t, "a");
  const substitution = (pattern: string, by: string) => ({ pattern: { regex: pattern }, substitution: by });
  const redirect = (path: string, value: object, more: object = {}) => ({
    match: prefix(path),
    action: { $case: "redirect", value },
    ...more,
  });
  const add = (key: string, value: string, more: object = {}) => ({ header: { key, value }, ...more });
  const both = await startBoth(t, ({ log }) => ({
    clusters: [cluster("a", [a.port])],
    listeners: [
      http("l", log, [
        {
          name: "v",
          domains: ["*"],
          includeRequestAttemptCount: true,
          includeAttemptCountInResponse: true,
          requestHeadersToAdd: [add("x-host", "h"), add("x-both", "host")],
          responseHeadersToAdd: [add("x-resp", "host"), add("x-code", "%RESPONSE_CODE%")],
          responseHeadersToRemove: ["content-type"],
          routes: [
            to("/prefix", "a", { prefixRewrite: "/new" }),
            to({ pathSpecifier: { $case: "path", value: "/whole" } }, "a", { prefixRewrite: "/other" }),
            to({ pathSpecifier: { $case: "pathSeparatedPrefix", value: "/sep" } }, "a", { prefixRewrite: "/s" }),
            to("/slash/", "a", { prefixRewrite: "/" }),
            to("/regex", "a", { regexRewrite: substitution("/regex/([^/]+)/(.*)", "/\\2/in/\\1") }),
            to("/every", "a", { regexRewrite: substitution("a", "b$1") }),
            to("/host", "a", { hostRewriteSpecifier: { $case: "hostRewriteLiteral", value: "new.example" }, appendXForwardedHost: true }),
            to("/from-header", "a", { hostRewriteSpecifier: { $case: "hostRewriteHeader", value: "x-to" } }),
            redirect("/r-host", { hostRedirect: "other.example" }),
            redirect("/r-path", { pathRewriteSpecifier: { $case: "pathRedirect", value: "/there" }, responseCode: 1 }),
            redirect("/r-path-query", { pathRewriteSpecifier: { $case: "pathRedirect", value: "/there?x=1" } }),
            redirect("/r-prefix", { pathRewriteSpecifier: { $case: "prefixRewrite", value: "/p" }, responseCode: 3 }),
            redirect("/r-regex", { pathRewriteSpecifier: { $case: "regexRewrite", value: substitution("^/r-regex/(.*)$", "/\\1") }, responseCode: 4 }),
            redirect("/r-https", { schemeRewriteSpecifier: { $case: "httpsRedirect", value: true }, responseCode: 2 }),
            redirect("/r-port", { portRedirect: 8443, stripQuery: true }),
            redirect("/r-scheme", { schemeRewriteSpecifier: { $case: "schemeRedirect", value: "ftp" } }, { responseHeadersToAdd: [add("x-r", "1")] }),
            { match: prefix("/direct"), action: { $case: "directResponse", value: { status: 418, body: { specifier: { $case: "inlineString", value: "tea" } } } }, responseHeadersToAdd: [add("x-d", "1")] },
            { match: prefix("/nobody"), action: { $case: "directResponse", value: { status: 204 } } },
            to("/headers", "a", {}, {
              requestHeadersToAdd: [
                add("x-both", "route"), add("x-set", "new", { appendAction: 2 }), add("x-absent", "new", { appendAction: 1 }),
                add("x-present", "new", { appendAction: 3 }), add("x-method", "%REQ(:METHOD)% %REQ(x-set)%"),
                add("x-none", "%REQ(x-nowhere)%"), add("x-percent", "100%%"), add("x-proto", "%PROTOCOL%"),
              ],
              requestHeadersToRemove: ["x-remove", "user-agent"],
              responseHeadersToAdd: [add("x-resp", "route"), add("x-resp2", "%REQ(x-set)%")],
            }),
            { match: prefix("/weighted"), action: { $case: "route", value: { clusterSpecifier: { $case: "weightedClusters", value: { clusters: [
              { name: "a", weight: 1, requestHeadersToAdd: [add("x-w", "w")], responseHeadersToAdd: [add("x-resp", "w")], responseHeadersToRemove: ["x-resp"] },
              { name: "nowhere", weight: 0 },
            ] } } } } },
            { match: prefix("/cluster-header"), action: { $case: "route", value: { clusterSpecifier: { $case: "clusterHeader", value: "x-cluster" } } } },
            to("/gone", "nowhere", { clusterNotFoundResponseCode: 1 }),
            to("/", "nowhere"),
          ],
        },
      ]), // biome-ignore format: a table
    ],
  }));
  const requests: [string, Record<string, string>?, string?, string?][] = [
    ["/prefix"], ["/prefix/a?b=c"], ["/prefixed"], ["/whole?x"], ["/sep/x?y"], ["/sep"], ["/slash/a/b"], ["/regex/a/b/c?d/e"],
    ["/every/aaa?a"], ["/host"], ["/host", { "x-forwarded-host": "before" }], ["/from-header", { "x-to": "t.example" }], ["/from-header"],
    ["/r-host/x?y"], ["/r-host", { host: "a:81" }], ["/r-path?q=1"], ["/r-path-query?q=1"], ["/r-prefix/x?y"], ["/r-regex/x?y"],
    ["/r-https/x", { host: "a:80" }], ["/r-https/x", { host: "a:8080" }], ["/r-port?q", { host: "a:1" }], ["/r-scheme"], ["/direct"], ["/direct", {}, "HEAD"], ["/nobody"],
    ["/headers", { "x-set": "old", "x-absent": "old", "x-present": "old", "x-remove": "1", "user-agent": "ua" }], ["/headers"],
    ["/weighted"], ["/cluster-header", { "x-cluster": "a" }], ["/cluster-header", { "x-cluster": "q" }], ["/cluster-header"], ["/gone"], ["/elsewhere"],
    ["/headers", {}, "POST", "body"], ["/headers", {}, "HEAD"], ["/headers?status=503"], ["/headers?status=304"], ["/headers?status=204"], ["/headers?status=404"],
    ["/headers", { "x-envoy-retry-on": "5xx", "x-envoy-upstream-rq-timeout-ms": "1", "x-envoy-expected-rq-timeout-ms": "5", "x-envoy-original-path": "/x", "x-envoy-internal": "true" }],
    ["/headers", { te: "gzip, trailers;q=1", "keep-alive": "5", "proxy-connection": "x", connection: "x-foo", "x-foo": "1" }],
    ["/headers", { "x-forwarded-for": "1.2.3.4, 10.0.0.1", "x-forwarded-proto": "gopher", "x-request-id": "mine" }],
    ["/headers", { "x-forwarded-client-cert": "forged", traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b3: "0" }],
  ]; // biome-ignore format: a list
  for (const [path, headers, method, body] of requests) {
    await both.same((proxy) => ask(proxy, "l", path, headers, method, body));
  }
  await both.same(async (proxy) => (await proxy.logged(requests.length)).slice(0, requests.length));
  await both.same((proxy) => counters(proxy, /_bytes_total$/));
});

test("edge: the client's address, forwarded headers, request ids and via", async (t) => {
  const a = await startBackend(t, "a");
  const routes = [{ name: "v", domains: ["*"], routes: [to("/", "a", { timeout: seconds(0) })] }];
  const both = await startBoth(t, ({ log }) => ({
    clusters: [cluster("a", [a.port])],
    listeners: [
      http("edge", log, routes, { useRemoteAddress: true, via: "weft", alwaysSetRequestIdInResponse: false }),
      http("hops", log, routes, { useRemoteAddress: true, xffNumTrustedHops: 2, appendXForwardedPort: true }),
      http("inner", log, routes, { xffNumTrustedHops: 1, generateRequestId: false, preserveExternalRequestId: true }),
      http("plain", log, routes, { normalizePath: false, serverHeaderTransformation: 2, stripPortMode: { $case: "stripAnyHostPort", value: true } }),
      http("merge", log, routes, { mergeSlashes: true, serverHeaderTransformation: 1, pathWithEscapedSlashesAction: 4, stripTrailingHostDot: true }),
      http("reject", log, routes, { pathWithEscapedSlashesAction: 2, commonHttpProtocolOptions: { headersWithUnderscoresAction: 1 } }),
      http("redirect", log, routes, { pathWithEscapedSlashesAction: 3, commonHttpProtocolOptions: { headersWithUnderscoresAction: 2 } }),
    ], // biome-ignore format: a table
  }));
  const heads: Record<string, string>[] = [
    {},
    { "x-forwarded-for": "1.2.3.4" },
    { "x-forwarded-for": "1.2.3.4, 5.6.7.8,9.9.9.9" },
    { "x-forwarded-for": "garbage" },
    { "x-forwarded-proto": "https", "x-forwarded-port": "1" },
    { "x-envoy-internal": "true", "x-envoy-external-address": "6.6.6.6", "x-envoy-decorator-operation": "x" },
    { via: "1.1 before", x_under: "1", host: "app.example.:81" },
  ];
  for (const listener of ["edge", "hops", "inner", "plain", "merge", "redirect"]) {
    for (const headers of heads) await both.same((proxy) => ask(proxy, listener, "/", headers));
    for (const path of ["//a//b/../c", "/a%2fb%5Cc/%2e%2e", "/a\\b", "/a%7eb?x=%2f//"]) {
      await both.same((proxy) => ask(proxy, listener, path));
    }
  }
  await both.same((proxy) => ask(proxy, "reject", "/a%2fb"));
  await both.same((proxy) => ask(proxy, "reject", "/", { x_under: "1" }));
  // A request that is refused for its path has come as a whole for us, for Envoy not yet.
  await both.same((proxy) =>
    counters(proxy, /_bytes_total$|^http\.reject\.downstream_rq_(response_before|rx_reset)/),
  );
});

test("many requests over one connection, pipelined or not; chunks, HEAD, 100-continue, large bodies", async (t) => {
  const a = await startBackend(t, "a", (request, response) => {
    const { pathname, searchParams } = new URL(request.url!, "http://x");
    response.sendDate = false;
    if (pathname === "/chunks") {
      response.writeHead(200, { "x-a": "1" });
      response.write("one");
      setTimeout(() => {
        response.write("two");
        response.end("three");
      }, 20);
      return true;
    }
    if (pathname === "/large") {
      response.end("x".repeat(Number(searchParams.get("n"))));
      return true;
    }
    if (pathname === "/length") {
      let n = 0;
      request.on("data", (chunk: Buffer) => {
        n += chunk.length;
      });
      request.on("end", () => response.end(String(n)));
      return true;
    }
    if (pathname === "/cookies") {
      response.setHeader("set-cookie", ["a=1", "b=2"]);
      response.end();
      return true;
    }
    return undefined;
  });
  const both = await startBoth(t, ({ log }) => ({
    clusters: [cluster("a", [a.port])],
    listeners: [
      http("l", log, [{ name: "v", domains: ["*"], routes: [to("/", "a")] }]),
      http("old", log, [{ name: "v", domains: ["*"], routes: [to("/", "a")] }], {
        httpProtocolOptions: { acceptHttp10: true, defaultHostForHttp10: "old.example" },
      }),
      http("two", log, [{ name: "v", domains: ["*"], routes: [to("/", "a")] }], {
        commonHttpProtocolOptions: { maxRequestsPerConnection: 2 },
      }),
    ],
  }));
  const talk = (listener: string, pieces: string | string[], options: object = {}) =>
    both.same(async (proxy) =>
      (await exchange(proxy.address(listener), pieces, options)).map((answer) => ({
        ...seen(answer),
        closed: answer.closed,
      })),
    );
  const post = (path: string, chunks: string[], more = "") =>
    `POST ${path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n${more}\r\n${chunks
      .map((chunk) => `${chunk.length.toString(16)}\r\n${chunk}\r\n`)
      .join("")}0\r\n\r\n`;
  await talk("l", get("/1") + get("/2", {}, "POST", "body") + get("/3"), { count: 3 });
  await talk("l", [get("/1"), get("/chunks"), get("/3")], { count: 3 });
  await talk("l", post("/p", ["hello", "world"]));
  await talk("l", [post("/p", ["hello"]).slice(0, 60), post("/p", ["hello"]).slice(60)]);
  await talk("l", get("/h", {}, "HEAD"), { head: true });
  await talk("l", get("/chunks", {}, "HEAD"), { head: true });
  await talk("l", get("/c", { connection: "close" }));
  await talk("l", `${get("/e", { expect: "100-continue", "content-length": "4" }, "POST")}body`, {
    count: 2,
  });
  await talk("l", get("/cookies", { cookie: "a=1; b=2" }));
  await talk("two", get("/1") + get("/2") + get("/3"), { count: 3, patience: 3000 });
  await talk("old", "GET /a HTTP/1.0\r\n\r\n");
  await talk("old", "GET /a HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n");
  await talk("old", "GET /chunks HTTP/1.0\r\nHost: x\r\n\r\n");
  for (const n of [0, 1, 16_384, 3_000_000]) {
    const large = await both.same(async (proxy) => {
      const response = await fetch(`http://127.0.0.1:${proxy.address("l").port}/large?n=${n}`);
      return (await response.text()).length;
    });
    assert.equal(large, n);
    const length = await both.same(async (proxy) => {
      const response = await fetch(`http://127.0.0.1:${proxy.address("l").port}/length`, {
        method: "POST",
        body: "y".repeat(n),
      });
      return response.text();
    });
    assert.equal(length, String(n));
  }
  await both.same((proxy) => counters(proxy, /_bytes_total$/));
});
