/** HTTP routes: what is written, and the model's route that it becomes. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Forward, Route } from "./model.ts";
import { testMesh, workload } from "./testing.ts";

const host = "catalog.coolapp.svc.cluster.local";

/** The routes that a sidecar of coolapp has for catalog with these `http` entries. */
function routesOf(
  http: string,
  labels: Record<string, string> = {},
  namespace = "coolapp",
): readonly Route[] {
  const mesh = testMesh();
  mesh.apply(workload("catalog"));
  mesh.apply(workload("other", { ip: "10.11.0.10", base: "10.10.1" }));
  mesh.apply(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: catalog }
spec: { hosts: [catalog], http: ${http} }
`);
  const client = mesh.connect({ namespace, labels });
  assert.deepEqual(mesh.bugs, []);
  return mesh
    .config(client)
    .routes.get("8080")!
    .virtualHosts.find(({ name }) => name === `${host}:8080`)!.routes;
}

const to = "route: [{ destination: { host: catalog } }]";
const only = (http: string): Route => {
  const routes = routesOf(http);
  assert.equal(routes.length, 1);
  return routes[0]!;
};
const forward = (http: string): Forward => only(http).action as Forward;

describe("matches", () => {
  for (const [written, path] of [
    ["{ uri: { exact: /a } }", { kind: "exact", value: "/a" }],
    ["{ uri: { prefix: /a } }", { kind: "prefix", value: "/a" }],
    ["{ uri: { regex: '/a[0-9]+' } }", { kind: "regex", value: "/a[0-9]+" }],
    ["{ uri: { exact: /A }, ignoreUriCase: true }", { kind: "exact", value: "/A", ignoreCase: true }],
    ["{ name: all }", { kind: "prefix", value: "/" }],
  ] as const)
    test(`the path of ${written}`, () => {
      assert.deepEqual(only(`[{ match: [${written}], ${to} }]`).match.path, path);
    });

  test("method, scheme, authority, headers, their absence and query parameters", () => {
    const { match } = only(
      `[{ match: [{ method: { exact: GET }, scheme: { exact: https }, authority: { prefix: www }, headers: { X-User: { exact: a }, x-any: {} }, withoutHeaders: { x-no: { prefix: b } }, queryParams: { q: { regex: "[a-z]" } } }], ${to} }]`,
    );
    assert.deepEqual(match.headers, [
      { name: ":scheme", match: { kind: "exact", value: "https" }, invert: false },
      { name: ":method", match: { kind: "exact", value: "GET" }, invert: false },
      { name: ":authority", match: { kind: "prefix", value: "www" }, invert: false },
      { name: "x-user", match: { kind: "exact", value: "a" }, invert: false },
      { name: "x-any", match: { kind: "present" }, invert: false },
      { name: "x-no", match: { kind: "prefix", value: "b" }, invert: true },
    ]);
    assert.deepEqual(match.query, [{ name: "q", match: { kind: "regex", value: "[a-z]" }, invert: false }]);
  });

  test("each match is a route; those of other ports, gateways and namespaces are not there", () => {
    const http = `[{ match: [{ uri: { prefix: /a } }, { port: 9999 }, { gateways: [front] }, { sourceNamespace: other, uri: { prefix: /o } }], ${to} }, { ${to} }]`;
    const paths = (namespace: string) =>
      routesOf(http, {}, namespace).map(({ match }) => ("value" in match.path ? match.path.value : ""));
    assert.deepEqual(paths("coolapp"), ["/a", "/"]);
    assert.deepEqual(paths("other"), ["/a", "/o", "/"]);
  });

  test("routes for clients with labels are theirs alone", () => {
    const http = `[{ match: [{ sourceLabels: { app: shop } }], route: [{ destination: { host: other } }] }, { ${to} }]`;
    const upstreams = (labels: Record<string, string>) =>
      routesOf(http, labels).map(({ action }) => (action as Forward).clusters[0]!.upstream);
    assert.deepEqual(upstreams({ app: "shop" }), [
      "outbound|8080||other.coolapp.svc.cluster.local",
      `outbound|8080||${host}`,
    ]);
    assert.deepEqual(upstreams({ app: "else" }), [`outbound|8080||${host}`]);
  });

  test("what stands after a route that takes everything is left out", () => {
    assert.equal(routesOf(`[{ ${to} }, { match: [{ uri: { prefix: /a } }], ${to} }]`).length, 1);
  });

  test("a match that RE2 does not take never matches; the other routes stand", () => {
    const routes = routesOf(`[{ match: [{ uri: { regex: "a(?=b)" } }], ${to} }, { ${to} }]`);
    assert.deepEqual(
      routes.map(({ match }) => match.path),
      [{ kind: "prefix", value: "/" }],
    );
  });
});

describe("actions", () => {
  test("Istio's defaults: two retries, no timeout", () => {
    const { timeout, retries } = forward(`[{ ${to} }]`);
    assert.equal(timeout, 0);
    assert.deepEqual(retries, {
      attempts: 2,
      perTryTimeout: 0,
      on: ["connect-failure", "refused-stream", "unavailable", "cancelled", "retriable-status-codes"],
      statusCodes: [],
      backoff: { base: 25, max: 250 },
      avoidPrevious: true,
      hostSelectionAttempts: 5,
    });
  });

  test("timeout and retries as written; attempts: 0 is none", () => {
    const { timeout, retries } = forward(
      `[{ timeout: 1.5s, retries: { attempts: 3, perTryTimeout: 300ms, retryOn: "5xx,429", backoff: 10ms }, ${to} }]`,
    );
    assert.equal(timeout, 1_500);
    assert.equal(retries?.attempts, 3);
    assert.equal(retries?.perTryTimeout, 300);
    assert.deepEqual(retries?.on, ["5xx", "retriable-status-codes"]);
    assert.deepEqual(retries?.statusCodes, [429]);
    assert.deepEqual(retries?.backoff, { base: 10, max: 100 });
    assert.equal(retries?.otherLocalities, undefined);
    const far = forward(`[{ retries: { attempts: 3, retryRemoteLocalities: true }, ${to} }]`);
    assert.equal(far.retries?.otherLocalities, true);
    assert.equal(forward(`[{ retries: { attempts: 0 }, ${to} }]`).retries, undefined);
  });

  test("rewrites: of the prefix, of the whole path where that was matched, by expression; of the authority", () => {
    const path = (http: string) => forward(http).rewrite?.path;
    assert.deepEqual(path(`[{ match: [{ uri: { prefix: /a } }], rewrite: { uri: /b }, ${to} }]`), {
      prefix: "/b",
    });
    assert.deepEqual(path(`[{ match: [{ uri: { exact: /a } }], rewrite: { uri: /b }, ${to} }]`), {
      full: "/b",
    });
    assert.deepEqual(
      path(`[{ rewrite: { uriRegexRewrite: { match: "/v([0-9])", rewrite: '/\\1' } }, ${to} }]`),
      { regex: "/v([0-9])", substitution: "/\\1" },
    );
    assert.equal(
      forward(`[{ rewrite: { authority: x.example.com }, ${to} }]`).rewrite?.authority,
      "x.example.com",
    );
    assert.equal(
      forward(`[{ headers: { request: { set: { Host: y.example.com } } }, ${to} }]`).rewrite?.authority,
      "y.example.com",
    );
  });

  test("redirects and direct responses", () => {
    assert.deepEqual(
      only("[{ redirect: { uri: /x, authority: a.example.com, scheme: https, redirectCode: 302 } }]").action,
      {
        kind: "redirect",
        status: 302,
        scheme: "https",
        authority: "a.example.com",
        path: { full: "/x" },
      },
    );
    assert.deepEqual(only("[{ redirect: { derivePort: FROM_REQUEST_PORT } }]").action, {
      kind: "redirect",
      status: 301,
      port: 8080,
    });
    assert.deepEqual(only("[{ directResponse: { status: 418, body: { string: tea } } }]").action, {
      kind: "respond",
      status: 418,
      body: "tea",
    });
  });

  test("headers of the route and of each destination", () => {
    const route = only(
      "[{ headers: { request: { set: { x-a: '1' } }, response: { remove: [x-b] } }, route: [{ destination: { host: catalog }, weight: 1, headers: { request: { add: { x-c: '2' } } } }, { destination: { host: other }, weight: 3 }] }]",
    );
    assert.deepEqual(route.requestHeaders, { set: [["x-a", "1"]], add: [], remove: [] });
    assert.deepEqual(route.responseHeaders, { set: [], add: [], remove: ["x-b"] });
    const { clusters } = route.action as Forward;
    assert.deepEqual(clusters[0]!.requestHeaders.add, [["x-c", "2"]]);
    assert.deepEqual(
      clusters.map(({ weight }) => weight),
      [1, 3],
    );
  });

  test("faults, mirrors, CORS", () => {
    const route = only(
      `[{ fault: { delay: { fixedDelay: 2s, percentage: { value: 12.5 } }, abort: { grpcStatus: UNAVAILABLE, percentage: { value: 50 } } }, mirror: { host: other }, mirrorPercentage: { value: 30 }, mirrors: [{ destination: { host: other, subset: v2 } }], corsPolicy: { allowOrigins: [{ exact: "https://a.example.com" }], allowMethods: [GET], maxAge: 24h, allowCredentials: true }, ${to} }]`,
    );
    assert.deepEqual(route.fault, {
      delay: { percent: 12.5, milliseconds: 2_000 },
      abort: { percent: 50, grpcStatus: 14 },
    });
    assert.deepEqual((route.action as Forward).mirrors, [
      { upstream: "outbound|8080|v2|other.coolapp.svc.cluster.local", percent: 100 },
      { upstream: "outbound|8080||other.coolapp.svc.cluster.local", percent: 30 },
    ]);
    assert.deepEqual(route.cors, {
      origins: [{ kind: "exact", value: "https://a.example.com" }],
      methods: ["GET"],
      headers: [],
      exposed: [],
      maxAge: 86_400,
      credentials: true,
      forwardUnmatchedPreflights: true,
    });
  });

  for (const [what, http] of [
    ["two actions", `{ redirect: { uri: /x }, ${to} }`],
    ["none", "{ timeout: 1s }"],
    [
      "no weight anywhere",
      "{ route: [{ destination: { host: catalog } }, { destination: { host: other } }] }",
    ],
    ["a status that is none", "{ directResponse: { status: 42 } }"],
    ["a header's name with a space", `{ headers: { request: { set: { "x y": z } } }, ${to} }`],
    ["a header's value with a line break", `{ headers: { request: { set: { x: "a\\r\\nb: c" } } }, ${to} }`],
    ["a duration that is none", `{ timeout: soon, ${to} }`],
  ] as const)
    test(`a route with ${what} answers 503 and sends nothing anywhere`, () => {
      const { action, requestHeaders } = only(`[${http}]`);
      assert.deepEqual(action, { kind: "respond", status: 503 });
      assert.deepEqual(requestHeaders.set, []);
    });

  test("a delegate's routes are narrowed by its root's match", () => {
    const mesh = testMesh();
    mesh.apply(workload("catalog"));
    mesh.apply(`
kind: VirtualService
apiVersion: networking.istio.io/v1
metadata: { name: root }
spec: { hosts: [catalog], http: [{ match: [{ uri: { prefix: /api } }], delegate: { name: part, namespace: other } }, { ${to} }] }
---
kind: VirtualService
apiVersion: networking.istio.io/v1
metadata: { name: part, namespace: other }
spec: { http: [{ match: [{ uri: { prefix: /api/v1 } }, { uri: { prefix: /else } }], timeout: 1s, route: [{ destination: { host: ${host} } }] }] }
`);
    const client = mesh.connect({ namespace: "coolapp" });
    const routes = mesh.config(client).routes.get("8080")!.virtualHosts[0]!.routes;
    assert.deepEqual(
      routes.map(({ match: { path }, origins }) => ["value" in path && path.value, origins[0]!.name]),
      [
        ["/api/v1", "part"],
        ["/", "root"],
      ],
    );
  });

  test("what a root asks of requests holds for its delegate: a delegate cannot widen it", () => {
    const merged = (root: string, part: string) => {
      const mesh = testMesh();
      mesh.apply(workload("catalog"));
      mesh.apply(`
kind: VirtualService
apiVersion: networking.istio.io/v1
metadata: { name: root }
spec: { hosts: [catalog], http: [{ match: [${root}], delegate: { name: part, namespace: other } }] }
---
kind: VirtualService
apiVersion: networking.istio.io/v1
metadata: { name: part, namespace: other }
spec: { http: [{ match: [${part}], route: [{ destination: { host: ${host} } }] }] }
`);
      const client = mesh.connect({ namespace: "coolapp" });
      const routes = mesh.config(client).routes.get("8080")!.virtualHosts[0]?.routes ?? [];
      return routes
        .filter(({ origins }) => origins.some(({ name }) => name === "part"))
        .map(({ match: { path, headers } }) => [
          "value" in path ? path.value : "",
          ...headers.map(
            ({ name, match, invert }) => `${invert ? "not " : ""}${name} ${JSON.stringify(match)}`,
          ),
        ]);
    };
    const gone: string[][] = [];
    // Another value of the same header, method or parameter: both can never be.
    assert.deepEqual(
      merged("{ headers: { team: { exact: a } } }", "{ headers: { team: { exact: b } } }"),
      gone,
    );
    assert.deepEqual(
      merged("{ queryParams: { v: { exact: a } } }", "{ queryParams: { v: { exact: b } } }"),
      gone,
    );
    assert.deepEqual(merged("{ method: { exact: GET } }", "{ method: { exact: POST } }"), gone);
    assert.deepEqual(merged("{ uri: { exact: /a } }", "{ uri: { prefix: / } }"), gone);
    // Without a header of the root's stays without it, whatever the delegate's own are.
    assert.deepEqual(merged("{ withoutHeaders: { a: { exact: x } } }", "{ withoutHeaders: { b: {} } }"), [
      ["/", 'not a {"kind":"exact","value":"x"}', 'not b {"kind":"present"}'],
    ]);
    // What is narrower counts, whoever says it.
    assert.deepEqual(merged("{ headers: { team: { prefix: a } } }", "{ headers: { team: { exact: ab } } }"), [
      ["/", 'team {"kind":"exact","value":"ab"}'],
    ]);
    assert.deepEqual(merged("{ headers: { team: { exact: a } } }", "{ headers: { team: {} } }"), [
      ["/", 'team {"kind":"exact","value":"a"}'],
    ]);
    assert.deepEqual(merged("{ sourceLabels: { app: a } }", "{ sourceLabels: { version: v1 } }"), gone);
  });
});

describe("several VirtualServices", () => {
  const service = (name: string, timeout: string, more = "", created = "") => `
kind: VirtualService
apiVersion: networking.istio.io/v1
metadata: { name: ${name}${created && `, creationTimestamp: "${created}"`} }
spec: { ${more || "hosts: [catalog]"}, http: [{ timeout: ${timeout}, ${to} }] }
`;
  const timeoutOf = (...objects: string[]) => {
    const mesh = testMesh();
    mesh.apply([workload("catalog"), ...objects].join("---\n"));
    const client = mesh.connect({ namespace: "coolapp" });
    const { action } = mesh.config(client).routes.get("8080")!.virtualHosts[0]!.routes[0]!;
    return { timeout: (action as Forward).timeout, mesh };
  };

  test("the oldest speaks for a host; the other is told", () => {
    const { timeout, mesh } = timeoutOf(
      service("a", "1s", "", "2026-02-01T00:00:00Z"),
      service("b", "2s", "", "2026-01-01T00:00:00Z"),
    );
    assert.equal(timeout, 2_000);
    const [finding] = mesh.findings.get("VirtualService/coolapp/a") ?? [];
    assert.equal(finding?.code, "WEFT0109");
    assert.match(finding!.message, /VirtualService coolapp\/b/);
    assert.equal(mesh.findings.get("VirtualService/coolapp/b"), undefined);
  });

  test("a host of its own comes before one with a wildcard, whatever their ages", () => {
    const { timeout } = timeoutOf(
      service("a", "1s", 'hosts: ["*.coolapp.svc.cluster.local"]', "2026-01-01T00:00:00Z"),
      service("b", "2s", "", "2026-02-01T00:00:00Z"),
    );
    assert.equal(timeout, 2_000);
  });

  test("exportTo: one for this namespace comes before those for everybody, and others do not see it", () => {
    const mesh = testMesh();
    mesh.apply(
      [
        workload("catalog"),
        service("a", "1s", "", "2026-01-01T00:00:00Z"),
        service("b", "2s", 'hosts: [catalog], exportTo: ["."]', "2026-02-01T00:00:00Z"),
      ].join("---\n"),
    );
    const timeout = (namespace: string) => {
      const client = mesh.connect({ id: `sidecar~1~x.${namespace}~`, namespace });
      const { action } = mesh.config(client).routes.get("8080")!.virtualHosts[0]!.routes[0]!;
      return (action as Forward).timeout;
    };
    assert.equal(timeout("coolapp"), 2_000);
    assert.equal(timeout("other"), 1_000);
  });

  test("a host that only a VirtualService knows is called on port 80", () => {
    const mesh = testMesh();
    mesh.apply([workload("catalog"), service("a", "1s", "hosts: [www.example.com]")].join("---\n"));
    const client = mesh.connect({ namespace: "coolapp" });
    assert.deepEqual(mesh.config(client).routes.get("80")?.virtualHosts[0]?.domains, [
      "www.example.com",
      "www.example.com:80",
    ]);
  });
});
