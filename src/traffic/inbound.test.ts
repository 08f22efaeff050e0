/** What comes in: mTLS modes, authorization, rate limits. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Listener } from "./model.ts";
import { type TestMesh, testMesh, workload } from "./testing.ts";

function meshWith(...yaml: string[]): TestMesh {
  const mesh = testMesh();
  mesh.apply(
    [
      workload("catalog", {
        ports: "[{ name: http, port: 80, targetPort: 8080 }, { name: tcp, port: 9000 }, { port: 7000 }]",
      }),
      ...yaml,
    ].join("\n---\n"),
  );
  return mesh;
}

const inbound = (mesh: TestMesh): Listener => {
  const { listeners } = mesh.config(mesh.connect({ namespace: "coolapp", labels: { app: "catalog" } }));
  assert.deepEqual(mesh.bugs, []);
  return listeners.get("virtualInbound")!;
};

/** `tls istio-http/1.0,… → http` of each chain of a port. */
const chainsOf = (listener: Listener, port: number | undefined): string[] =>
  listener.chains
    .filter(({ match }) => match.destinationPort === port)
    .map(({ match, tls, handler }) =>
      [match.transport, match.applicationProtocols?.[0] ?? "any", tls ? "terminated" : "", handler.kind]
        .filter((part) => part)
        .join(" "),
    );

const peer = (spec: string, name = "default", namespace = "coolapp") => `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: ${name}, namespace: ${namespace} }
spec: ${spec}`;

test("the access log is as the mesh has it, in its format, for HTTP and TCP", () => {
  const mesh = meshWith();
  const logsOf = () =>
    new Set(
      inbound(mesh).chains.map(({ handler }) => JSON.stringify([handler.accessLog, handler.accessLogFormat])),
    );
  assert.deepEqual([...logsOf()], ["[true,null]"]);
  mesh.set({ accessLogFormat: "%REQ(:PATH)%" });
  assert.deepEqual([...logsOf()], ['[true,"%REQ(:PATH)%"]']);
  mesh.set({ accessLog: false });
  assert.deepEqual([...logsOf()], ['[false,"%REQ(:PATH)%"]']);
});

describe("mTLS of inbound connections", () => {
  test("permissive: both, told by ALPN; the application's own TLS passes", () => {
    const listener = inbound(meshWith());
    assert.deepEqual(chainsOf(listener, 8080), [
      "tls istio-peer-exchange terminated http",
      "raw_buffer any http",
    ]);
    assert.deepEqual(chainsOf(listener, 9000), [
      "tls istio-peer-exchange terminated tcp",
      "raw_buffer any tcp",
      "tls any tcp",
    ]);
    assert.deepEqual(chainsOf(listener, 7000), [
      "tls istio-http/1.0 terminated http",
      "tls istio-peer-exchange terminated tcp",
      "raw_buffer http/1.0 http",
      "raw_buffer any tcp",
      "tls any tcp",
    ]);
    assert.deepEqual(chainsOf(listener, undefined), chainsOf(listener, 7000));
  });

  test("strict: nothing plain, on no port", () => {
    const listener = inbound(meshWith(peer("{ mtls: { mode: STRICT } }")));
    assert.deepEqual(chainsOf(listener, 8080), ["tls any terminated http"]);
    assert.deepEqual(chainsOf(listener, undefined), [
      "tls istio-http/1.0 terminated http",
      "tls any terminated tcp",
    ]);
    for (const { tls, match } of listener.chains)
      assert.ok(tls?.client === "required" || match.destinationPort === 15_006);
  });

  test("the workload's over the namespace's over the mesh's; a port's over all", () => {
    const mesh = meshWith(peer("{ mtls: { mode: DISABLE } }", "default", "istio-system"));
    assert.deepEqual(chainsOf(inbound(mesh), 8080), ["raw_buffer any http"]);
    mesh.apply(peer("{ mtls: { mode: STRICT } }"));
    assert.deepEqual(chainsOf(inbound(mesh), 8080), ["tls any terminated http"]);
    mesh.apply(
      peer(
        '{ selector: { matchLabels: { app: catalog } }, mtls: { mode: UNSET }, portLevelMtls: { "8080": { mode: DISABLE } } }',
        "own",
      ),
    );
    assert.deepEqual(chainsOf(inbound(mesh), 8080), ["raw_buffer any http"]);
    assert.equal(chainsOf(inbound(mesh), 9000).length, 1);
    const endpoints = mesh.endpoints.get("outbound|80||catalog.coolapp.svc.cluster.local");
    assert.deepEqual(
      endpoints?.localities.flatMap((each) => each.endpoints.map(({ port, meshTls }) => [port, meshTls])),
      [[8080, false]],
    );
  });

  test("the application is dialled at its own port and address", () => {
    const mesh = meshWith();
    const { upstreams } = mesh.config(mesh.connect({ namespace: "coolapp", labels: { app: "catalog" } }));
    assert.equal(upstreams.get("inbound|8080||")?.discovery, "original-destination");
    assert.equal(upstreams.get("inbound|80||"), undefined);
  });

  test("metrics of the callee name the service, as those of its callers do", () => {
    const mesh = meshWith();
    const { upstreams } = mesh.config(mesh.connect({ namespace: "coolapp", labels: { app: "catalog" } }));
    assert.deepEqual(upstreams.get("inbound|8080||")?.service, {
      host: "catalog.coolapp.svc.cluster.local",
      name: "catalog",
      namespace: "coolapp",
    });
  });
});

const policy = (name: string, spec: string, namespace = "coolapp") => `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: ${name}, namespace: ${namespace} }
spec: ${spec}`;

describe("authorization", () => {
  const of = (mesh: TestMesh, port: number) =>
    inbound(mesh)
      .chains.find(({ match }) => match.destinationPort === port)!
      .authorization.map(({ action, policies }) => [
        action,
        policies.map(({ name, rules }) => [name, rules]),
      ]);

  test("an empty spec allows nothing", () => {
    assert.deepEqual(of(meshWith(policy("nothing", "{}")), 8080), [
      ["allow", [["ns[coolapp]-policy[nothing]", []]]],
    ]);
  });

  test("DENY before ALLOW, the root namespace's with the namespace's; other workloads' are not there", () => {
    const mesh = meshWith(
      policy("some", "{ rules: [{}] }"),
      policy(
        "deny",
        "{ action: DENY, rules: [{ from: [{ source: { namespaces: [x] } }] }] }",
        "istio-system",
      ),
      policy("others", "{ selector: { matchLabels: { app: shop } }, rules: [{}] }"),
    );
    assert.deepEqual(of(mesh, 8080), [
      ["deny", [["ns[istio-system]-policy[deny]", [{ from: [{ namespaces: ["x"] }], to: [], when: [] }]]]],
      ["allow", [["ns[coolapp]-policy[some]", [{ from: [], to: [], when: [] }]]]],
    ]);
  });

  test("on TCP a rule that asks for HTTP never allows, and denies by what is left of it", () => {
    const rules =
      "[{ from: [{ source: { namespaces: [x] } }], to: [{ operation: { methods: [GET], ports: ['9000'] } }] }]";
    const mesh = meshWith(
      policy("a", `{ rules: ${rules} }`),
      policy("d", `{ action: DENY, rules: ${rules} }`),
    );
    assert.deepEqual(of(mesh, 9000), [
      [
        "deny",
        [["ns[coolapp]-policy[d]", [{ from: [{ namespaces: ["x"] }], to: [{ ports: ["9000"] }], when: [] }]]],
      ],
      ["allow", [["ns[coolapp]-policy[a]", []]]],
    ]);
  });

  test("principals of our trust domain count in its aliases", () => {
    const mesh = meshWith(
      policy(
        "a",
        "{ rules: [{ from: [{ source: { principals: [cluster.local/ns/x/sa/y, other.org/ns/x/sa/y, '*'] } }] }] }",
      ),
    );
    mesh.set({ trustDomain: "new.org", trustDomainAliases: ["old.org"] });
    const [[, [[, rules]]]] = of(mesh, 8080) as [[string, [[string, unknown]]]];
    assert.deepEqual(rules, [
      {
        from: [
          {
            principals: ["new.org/ns/x/sa/y", "old.org/ns/x/sa/y", "other.org/ns/x/sa/y", "*"],
          },
        ],
        to: [],
        when: [],
      },
    ]);
  });

  test("what is not served or is no address fails closed, and is told", () => {
    const rules = "[{ from: [{ source: { ipBlocks: [nonsense] } }] }]";
    const mesh = meshWith(
      policy("a", `{ rules: ${rules} }`),
      policy("d", `{ action: DENY, rules: ${rules} }`),
    );
    assert.deepEqual(of(mesh, 8080), [
      ["deny", [["ns[coolapp]-policy[d]", [{ from: [{}], to: [], when: [] }]]]],
      ["allow", [["ns[coolapp]-policy[a]", []]]],
    ]);
    assert.equal(mesh.findings.get("AuthorizationPolicy/coolapp/d")?.[0]?.code, "WEFT0106");
  });
});

test("rate limits of the workload are on its HTTP chains", () => {
  const mesh = meshWith(`
apiVersion: mesh.weft.dev/v1alpha1
kind: RateLimit
metadata: { name: few }
spec: { selector: { matchLabels: { app: catalog } }, limits: [{ name: all, tokens: 10, interval: 1m, burst: 20, match: { path: { prefix: /api }, methods: [GET, POST] }, per: { header: X-User } }] }`);
  const { handler } = inbound(mesh).chains.find(({ match }) => match.destinationPort === 8080)!;
  assert.deepEqual(handler.kind === "http" && handler.rateLimits, [
    {
      name: "coolapp/few/all",
      tokens: 20,
      fill: 10,
      interval: 60_000,
      match: {
        path: { kind: "prefix", value: "/api" },
        headers: [{ name: ":method", match: { kind: "regex", value: "GET|POST" }, invert: false }],
        query: [],
      },
      per: { kind: "header", name: "x-user" },
      origins: [{ kind: "RateLimit", namespace: "coolapp", name: "few", field: "spec.limits[0]" }],
    },
  ]);
});

describe("a Sidecar's ingress", () => {
  const sidecar = (spec: string) => `
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: { name: own }
spec: { workloadSelector: { labels: { app: web } }, ${spec} }`;
  const configOf = (...yaml: string[]) => {
    const mesh = testMesh();
    mesh.apply(
      [
        workload("web", { ports: "[{ name: http, port: 80, targetPort: 8080 }, { name: tcp, port: 9000 }]" }),
        ...yaml,
      ].join("\n---\n"),
    );
    const config = mesh.config(mesh.connect({ namespace: "coolapp", labels: { app: "web", version: "v1" } }));
    assert.deepEqual(mesh.bugs, []);
    return { mesh, config };
  };

  test("its ports take the place of those that services name; the application is where it says", () => {
    const { mesh, config } = configOf(
      sidecar(`ingress: [
        { port: { number: 8080, name: http, protocol: HTTP }, defaultEndpoint: "127.0.0.1:18080" },
        { port: { number: 7000, name: tcp, protocol: TCP }, defaultEndpoint: "0.0.0.0:17000", connectionPool: { tcp: { maxConnections: 3 } } },
        { port: { number: 6000, name: grpc, protocol: GRPC } }],
      inboundConnectionPool: { tcp: { maxConnections: 9 } }`),
    );
    const { chains } = config.listeners.get("virtualInbound")!;
    const ports = new Set(chains.flatMap(({ match }) => match.destinationPort ?? []));
    assert.deepEqual([...ports], [15_006, 8080, 7000, 6000]);
    const upstream = (port: number) => config.upstreams.get(`inbound|${port}||`)!;
    assert.deepEqual(
      [8080, 7000, 6000].map((port) => {
        const { discovery, protocol, originalPort, connections, service, endpoints } = upstream(port);
        const at = endpoints.map((each) => `${each.address}:${each.port}`).join();
        return [discovery, protocol, originalPort, connections.maxConnections, service?.name, at];
      }),
      [
        ["static", "http1", undefined, 9, "web", "127.0.0.1:18080"],
        ["original-destination", "tcp", 17_000, 3, "own", ""],
        ["original-destination", "http2", undefined, 9, "own", ""],
      ],
    );
    assert.equal(config.upstreams.has("inbound|9000||"), false);
    assert.deepEqual(mesh.findings.get("Sidecar/coolapp/own"), undefined);
  });

  test("for others, and without it, services name the ports", () => {
    const { config } = configOf(sidecar("inboundConnectionPool: { tcp: { maxConnections: 4 } }"));
    assert.equal(config.upstreams.get("inbound|9000||")?.connections.maxConnections, 4);
    const others = configOf(
      sidecar("ingress: [{ port: { number: 1, protocol: TCP } }]").replace("app: web", "app: other"),
    ).config;
    assert.ok(others.upstreams.has("inbound|8080||"));
  });

  test("what is no port and no place of the application is not there, and its author is told", () => {
    const { mesh, config } = configOf(
      sidecar(`ingress: [
        { port: { number: 0, protocol: HTTP } },
        { port: { number: 80, protocol: x } },
        { port: { number: 81, protocol: TCP }, defaultEndpoint: "unix:///x" },
        { port: { number: 82, protocol: TCP }, defaultEndpoint: "10.0.0.1:80" },
        { port: { number: 83, protocol: TCP }, captureMode: NONE },
        { port: { number: 83, protocol: TCP } }]`),
    );
    assert.deepEqual(
      [...config.upstreams.keys()].filter((name) => name.startsWith("inbound|")),
      ["inbound|83||"],
    );
    assert.deepEqual(
      mesh.findings.get("Sidecar/coolapp/own")?.map(({ code, origin }) => [code, origin.field]),
      [
        ["WEFT0901", "spec.ingress[4].captureMode"],
        ["WEFT0106", "spec.ingress[0].port.number"],
        ["WEFT0106", "spec.ingress[1].port.protocol"],
        ["WEFT0901", "spec.ingress[2].defaultEndpoint"],
        ["WEFT0106", "spec.ingress[3].defaultEndpoint"],
        ["WEFT0106", "spec.ingress[5].port.number"],
      ],
    );
  });
});
