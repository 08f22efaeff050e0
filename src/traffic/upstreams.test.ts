/** DestinationRules, ServiceEntries and Sidecars, in what clients have for a host. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ScopeConfig, Upstream } from "./model.ts";
import { type TestMesh, testMesh, workload } from "./testing.ts";

const host = "catalog.coolapp.svc.cluster.local";

function meshWith(...yaml: string[]): TestMesh {
  const mesh = testMesh();
  mesh.apply([workload("catalog", { versions: ["v1", "v2"] }), ...yaml].join("\n---\n"));
  return mesh;
}

const configOf = (
  mesh: TestMesh,
  namespace = "coolapp",
  labels: Record<string, string> = {},
): ScopeConfig => {
  const config = mesh.config(mesh.connect({ id: `sidecar~1~x.${namespace}~`, namespace, labels }));
  assert.deepEqual(mesh.bugs, []);
  return config;
};

const rule = (spec: string, namespace = "coolapp", name = "catalog") => `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: ${name}, namespace: ${namespace} }
spec: ${spec}`;

const upstream = (mesh: TestMesh, subset = "", namespace = "coolapp"): Upstream =>
  configOf(mesh, namespace).upstreams.get(`outbound|8080|${subset}|${host}`)!;

describe("trafficPolicy", () => {
  test("balancers, with the mesh's where nothing is said", () => {
    const balancer = (settings: string) =>
      upstream(meshWith(rule(`{ host: catalog, trafficPolicy: { loadBalancer: ${settings} } }`))).balancer;
    assert.deepEqual(balancer("{}"), { kind: "least-request", choices: 2 });
    assert.deepEqual(balancer("{ simple: ROUND_ROBIN }"), { kind: "round-robin" });
    assert.deepEqual(balancer("{ simple: RANDOM }"), { kind: "random" });
    assert.deepEqual(balancer("{ consistentHash: { useSourceIp: true } }"), {
      kind: "ring-hash",
      minimumRingSize: 1_024,
    });
    assert.deepEqual(balancer("{ consistentHash: { httpHeaderName: x, maglev: {} } }"), {
      kind: "maglev",
      tableSize: 65_537,
    });
  });

  test("a hashed upstream's routes say what is hashed", () => {
    const mesh = meshWith(
      rule(
        "{ host: catalog, trafficPolicy: { loadBalancer: { consistentHash: { httpCookie: { name: c, ttl: 60s } } } } }",
      ),
    );
    const { action } = configOf(mesh).routes.get("8080")!.virtualHosts[0]!.routes[0]!;
    assert.deepEqual(action.kind === "forward" && action.hash, [
      { kind: "cookie", name: "c", path: "", ttl: 60_000 },
    ]);
  });

  test("connection pools and outliers, in the model's units", () => {
    const { connections, outliers } = upstream(
      meshWith(
        rule(
          "{ host: catalog, trafficPolicy: { connectionPool: { tcp: { maxConnections: 7, connectTimeout: 250ms }, http: { http1MaxPendingRequests: 3, http2MaxRequests: 9, maxRequestsPerConnection: 1, maxRetries: 2, idleTimeout: 5s } }, outlierDetection: { consecutive5xxErrors: 2, interval: 1s, baseEjectionTime: 3m, maxEjectionPercent: 100 } } }",
        ),
      ),
    );
    assert.deepEqual(connections, {
      connectTimeout: 250,
      maxConnections: 7,
      maxPendingRequests: 3,
      maxRequests: 9,
      maxRetries: 2,
      maxRequestsPerConnection: 1,
      idleTimeout: 5_000,
    });
    assert.deepEqual(outliers, {
      consecutive5xx: 2,
      consecutiveGatewayErrors: 0,
      consecutiveLocalErrors: 5,
      splitLocalErrors: false,
      interval: 1_000,
      baseEjection: 180_000,
      maxEjectionPercent: 100,
      minHealthPercent: 0,
    });
  });

  test("a port's settings take the place of all others; a subset's lie over the host's", () => {
    const mesh = meshWith(
      rule(
        "{ host: catalog, trafficPolicy: { loadBalancer: { simple: RANDOM }, outlierDetection: { interval: 1s }, portLevelSettings: [{ port: { number: 8080 }, connectionPool: { tcp: { maxConnections: 1 } } }] }, subsets: [{ name: v1, labels: { version: v1 }, trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN } } }] }",
      ),
    );
    const whole = upstream(mesh);
    assert.deepEqual(
      [whole.balancer.kind, whole.outliers, whole.connections.maxConnections],
      ["least-request", undefined, 1],
    );
    const v1 = upstream(mesh, "v1");
    assert.deepEqual([v1.balancer.kind, v1.connections.maxConnections], ["round-robin", 1]);
  });

  test("TLS modes", () => {
    const tls = (settings: string) =>
      upstream(meshWith(rule(`{ host: catalog, trafficPolicy: { tls: ${settings} } }`))).tls;
    assert.deepEqual(tls("{ mode: DISABLE }"), { mode: "none" });
    assert.deepEqual(tls("{ mode: SIMPLE, sni: x.example.com, caCertificates: /ca.pem }"), {
      mode: "simple",
      sni: "x.example.com",
      ca: "/ca.pem",
      subjectAltNames: [],
      insecure: false,
    });
    const revoked = tls("{ mode: SIMPLE, caCertificates: /ca.pem, caCrl: /crl.pem }");
    assert.equal(revoked.mode === "simple" && revoked.crl, "/crl.pem");
    const idle = meshWith(
      rule(
        "{ host: catalog, trafficPolicy: { tls: { mode: SIMPLE, insecureSkipVerify: true, caCrl: /crl.pem } } }",
      ),
    );
    assert.deepEqual(
      idle.findings.get("DestinationRule/coolapp/catalog")?.map(({ code, origin }) => [code, origin.field]),
      [["WEFT0901", "spec.trafficPolicy.tls.caCrl"]],
    );
    const mutual = tls("{ mode: ISTIO_MUTUAL }");
    assert.ok(mutual.mode === "mesh" && !mutual.auto);
  });

  test("without auto mTLS nothing is encrypted that nobody asked for", () => {
    const mesh = meshWith();
    mesh.set({ mtls: { mode: "PERMISSIVE", auto: false } });
    assert.deepEqual(upstream(mesh).tls, { mode: "none" });
  });
});

describe("which DestinationRule", () => {
  test("the client's namespace's, before the service's, before the root's", () => {
    const mesh = meshWith(
      rule(`{ host: ${host}, trafficPolicy: { loadBalancer: { simple: RANDOM } } }`, "istio-system"),
    );
    const kinds = () => ["coolapp", "other"].map((each) => upstream(mesh, "", each).balancer.kind);
    assert.deepEqual(kinds(), ["random", "random"]);
    mesh.apply(rule("{ host: catalog, trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN } } }"));
    assert.deepEqual(kinds(), ["round-robin", "round-robin"]);
    mesh.apply(
      rule(
        `{ host: "*.coolapp.svc.cluster.local", trafficPolicy: { loadBalancer: { consistentHash: { useSourceIp: true } } } }`,
        "other",
      ),
    );
    assert.deepEqual(kinds(), ["round-robin", "ring-hash"]);
  });

  test("one with a workloadSelector is for those workloads of its namespace alone, and takes the place of all others", () => {
    const own = (name: string, spec: string, created: string) =>
      rule(spec, "coolapp", name).replace("namespace:", `creationTimestamp: "${created}", namespace:`);
    const mesh = meshWith(
      rule(
        "{ host: catalog, trafficPolicy: { loadBalancer: { simple: RANDOM } }, subsets: [{ name: v1, labels: { version: v1 } }] }",
      ),
      own(
        "front",
        "{ host: catalog, workloadSelector: { matchLabels: { app: front } }, trafficPolicy: { loadBalancer: { consistentHash: { httpHeaderName: x-user } } }, subsets: [{ name: v1, labels: { version: v2 } }, { name: v2, labels: { version: v2 } }] }",
        "2026-01-01T00:00:00Z",
      ),
      own(
        "tier",
        "{ host: '*.coolapp.svc.cluster.local', workloadSelector: { matchLabels: { tier: web } }, trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN } } }",
        "2026-02-01T00:00:00Z",
      ),
      workload("front", { ip: "10.11.0.60", base: "10.10.14" }),
      `
kind: VirtualService
metadata: { name: v }
spec: { hosts: [catalog], http: [{ route: [{ destination: { host: catalog, subset: v2 } }] }] }`,
    );
    const of = (labels: Record<string, string>, namespace = "coolapp") => {
      const { upstreams, routes } = configOf(mesh, namespace, labels);
      const subset = (name: string) =>
        mesh.endpoints
          .get(upstreams.get(`outbound|8080|${name}|${host}`)?.endpointsName ?? "")
          ?.localities.flatMap(({ endpoints }) => endpoints.map(({ address }) => address));
      const { action } = routes.get("8080")!.virtualHosts.find(({ name }) => name.startsWith("catalog"))!
        .routes[0]!;
      const { kind } = upstreams.get(`outbound|8080||${host}`)!.balancer;
      return [kind, subset("v1"), subset("v2"), action.kind === "forward" && action.hash.length];
    };
    const some = ["10.10.0.2"];
    assert.deepEqual(of({}), ["random", ["10.10.0.1"], undefined, 0]);
    assert.deepEqual(of({ app: "front" }), ["ring-hash", some, some, 1]);
    assert.deepEqual(of({ app: "front", tier: "web" }), ["ring-hash", some, some, 1]);
    assert.deepEqual(of({ tier: "web" }), ["round-robin", undefined, undefined, 0]);
    assert.deepEqual(of({ app: "front" }, "other"), ["random", ["10.10.0.1"], undefined, 0]);
    assert.equal(mesh.findings.get("VirtualService/coolapp/v"), undefined);
    assert.equal(mesh.findings.get("DestinationRule/coolapp/front"), undefined);
    assert.deepEqual(
      mesh.findings.get("DestinationRule/coolapp/tier")?.map(({ code }) => code),
      ["WEFT0127"],
    );
    mesh.remove("DestinationRule", "coolapp/front");
    assert.deepEqual(of({ app: "front", tier: "web" }), ["round-robin", undefined, undefined, 0]);
  });

  test("exportTo: '.' is for its own namespace", () => {
    const mesh = meshWith(
      rule(`{ host: catalog, exportTo: ["."], subsets: [{ name: v1, labels: { version: v1 } }] }`),
    );
    assert.ok(upstream(mesh, "v1"));
    assert.equal(upstream(mesh, "v1", "other"), undefined);
  });

  test("rules of one namespace are put together: the older one's policy, everybody's subsets", () => {
    const mesh = meshWith(
      `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: a, creationTimestamp: "2026-01-01T00:00:00Z" }
spec: { host: catalog, trafficPolicy: { loadBalancer: { simple: RANDOM } }, subsets: [{ name: v1, labels: { version: v1 } }] }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: b, creationTimestamp: "2026-02-01T00:00:00Z" }
spec: { host: catalog, trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN } }, subsets: [{ name: v1, labels: { version: v2 } }, { name: v2, labels: { version: v2 } }] }`,
    );
    assert.equal(upstream(mesh).balancer.kind, "random");
    const addresses = (subset: string) =>
      mesh.endpoints
        .get(upstream(mesh, subset).endpointsName)!
        .localities.flatMap(({ endpoints }) => endpoints.map(({ address }) => address));
    assert.deepEqual([addresses("v1"), addresses("v2")], [["10.10.0.1"], ["10.10.0.2"]]);
    assert.deepEqual(
      mesh.findings.get("DestinationRule/coolapp/b")?.map(({ code }) => code),
      ["WEFT0908", "WEFT0909"],
    );
  });

  test("clients of a namespace with another idea of a subset have endpoints of their own", () => {
    const mesh = meshWith(
      rule("{ host: catalog, subsets: [{ name: v, labels: { version: v1 } }] }"),
      rule(`{ host: ${host}, subsets: [{ name: v, labels: { version: v2 } }] }`, "other"),
    );
    const [ours, theirs] = [upstream(mesh, "v"), upstream(mesh, "v", "other")];
    assert.equal(ours.name, theirs.name);
    const addresses = (of: Upstream) =>
      mesh.endpoints
        .get(of.endpointsName)
        ?.localities.flatMap((each) => each.endpoints.map((e) => e.address));
    assert.deepEqual([addresses(ours), addresses(theirs)], [["10.10.0.1"], ["10.10.0.2"]]);
  });
});

const entry = (spec: string) => `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: out }
spec: ${spec}`;

describe("ServiceEntry", () => {
  test("DNS: the host itself, or the endpoints written", () => {
    const config = configOf(
      meshWith(
        entry(
          "{ hosts: [api.example.com], resolution: DNS, ports: [{ number: 443, name: https, protocol: HTTPS }, { number: 80, name: http, protocol: HTTP, targetPort: 8080 }] }",
        ),
      ),
    );
    const plain = config.upstreams.get("outbound|80||api.example.com")!;
    assert.equal(plain.discovery, "strict-dns");
    assert.deepEqual(
      plain.endpoints.map(({ address, port }) => [address, port]),
      [["api.example.com", 8080]],
    );
    assert.deepEqual(plain.tls, { mode: "none" });
    // In metrics its name is the host, and its namespace that of the ServiceEntry, not parts of the host.
    assert.deepEqual(plain.service, {
      host: "api.example.com",
      name: "api.example.com",
      namespace: "coolapp",
    });
    assert.deepEqual(config.routes.get("80")?.virtualHosts[0]?.domains, [
      "api.example.com",
      "api.example.com:80",
    ]);
    const [chain] = config.listeners.get("0.0.0.0_443")!.chains;
    assert.deepEqual(chain!.match, { serverNames: ["api.example.com"], transport: "tls" });
  });

  test("STATIC with addresses of its own; what is no address is left out and told", () => {
    const mesh = meshWith(
      entry(
        "{ hosts: [db.example.com], addresses: [240.0.0.1, nonsense], location: MESH_INTERNAL, resolution: STATIC, ports: [{ number: 5432, name: tcp, protocol: TCP }], endpoints: [{ address: 192.0.2.1, ports: { tcp: 6432 }, weight: 3 }, { address: not-an-address }] }",
      ),
    );
    const config = configOf(mesh);
    const found = config.upstreams.get("outbound|5432||db.example.com")!;
    assert.equal(found.discovery, "static");
    assert.deepEqual(
      found.endpoints.map(({ address, port, weight }) => [address, port, weight]),
      [["192.0.2.1", 6432, 3]],
    );
    assert.ok(config.listeners.get("240.0.0.1_5432"));
    assert.deepEqual(
      mesh.findings.get("ServiceEntry/coolapp/out")?.map(({ code, origin }) => [code, origin.field]),
      [
        ["WEFT0106", "spec.endpoints[1].address"],
        ["WEFT0106", "spec.addresses[1]"],
      ],
    );
  });

  test("NONE with a wildcard: passed on to where the client was going; a range is told by the destination", () => {
    const config = configOf(
      meshWith(
        entry(
          `{ hosts: ["*.example.com"], addresses: [192.0.2.0/24], resolution: NONE, ports: [{ number: 80, name: http, protocol: HTTP }, { number: 9000, name: tcp, protocol: TCP }] }`,
        ),
      ),
    );
    assert.equal(config.upstreams.get("outbound|80||*.example.com")?.discovery, "original-destination");
    assert.deepEqual(config.routes.get("80")?.virtualHosts[0]?.domains, [
      "*.example.com",
      "*.example.com:80",
    ]);
    assert.deepEqual(config.listeners.get("0.0.0.0_9000")?.chains[0]?.match, {
      destinations: ["192.0.2.0/24"],
    });
  });

  test("a workloadSelector takes pods and WorkloadEntries of the namespace", () => {
    const mesh = meshWith(
      entry(
        "{ hosts: [vm.example.com], location: MESH_INTERNAL, resolution: STATIC, workloadSelector: { labels: { app: catalog } }, ports: [{ number: 80, name: http, protocol: HTTP, targetPort: 8080 }] }",
      ),
      `
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: { name: vm }
spec: { address: 192.0.2.9, labels: { app: catalog }, ports: { http: 9090 } }`,
    );
    const found = configOf(mesh).upstreams.get("outbound|80||vm.example.com")!;
    assert.deepEqual(
      mesh.endpoints
        .get(found.endpointsName)!
        .localities.flatMap(({ endpoints }) => endpoints.map(({ address, port }) => `${address}:${port}`))
        .sort(),
      ["10.10.0.1:8080", "10.10.0.2:8080", "192.0.2.9:9090"],
    );
  });
});

describe("Sidecar", () => {
  const sidecar = (name: string, spec: string, namespace = "coolapp") => `
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: { name: ${name}, namespace: ${namespace} }
spec: ${spec}`;
  const shop = workload("shop", { namespace: "other", ip: "10.11.0.30", base: "10.10.6" });
  const hostsOf = (config: ScopeConfig) =>
    [...config.upstreams.values()].flatMap(({ host }) => (host ? [host.split(".")[0]!] : [])).sort();

  test("its egress hosts are all that its namespace's workloads know", () => {
    const mesh = meshWith(shop, sidecar("default", '{ egress: [{ hosts: ["./*"] }] }'));
    assert.deepEqual(hostsOf(configOf(mesh)), ["catalog"]);
    assert.deepEqual(hostsOf(configOf(mesh, "other")), ["catalog", "shop"]);
  });

  test("one with a selector is for those workloads, and makes a scope of its own", () => {
    const mesh = meshWith(
      shop,
      sidecar("own", '{ workloadSelector: { labels: { app: x } }, egress: [{ hosts: ["other/*"] }] }'),
    );
    const config = configOf(mesh, "coolapp", { app: "x" });
    assert.match(config.scope, /^outbound\/coolapp\/sidecar=own /);
    assert.deepEqual(hostsOf(config), ["shop"]);
    assert.deepEqual(hostsOf(configOf(mesh)), ["catalog", "shop"]);
  });

  test("where its routes lead is known though it is not called by name", () => {
    const mesh = meshWith(
      shop,
      sidecar("default", '{ egress: [{ hosts: ["./*"] }] }'),
      `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: catalog }
spec: { hosts: [catalog], http: [{ route: [{ destination: { host: shop.other.svc.cluster.local } }] }] }`,
    );
    const config = configOf(mesh);
    assert.ok(config.upstreams.get("outbound|8080||shop.other.svc.cluster.local"));
    assert.equal(config.routes.get("8080")?.virtualHosts.length, 1);
  });

  test("hosts for a port are all that is known on it; on others what is said of all", () => {
    const mesh = meshWith(
      workload("two", {
        ports: "[{ name: http, port: 8080 }, { name: tcp, port: 5432 }]",
        ip: "10.11.0.50",
        base: "10.10.12",
      }),
      workload("shop", { namespace: "other", ip: "10.11.0.51", base: "10.10.13" }),
      sidecar(
        "default",
        "{ egress: [{ port: { number: 8080, protocol: HTTP, name: http }, hosts: ['other/*'] }, { hosts: ['./*'] }] }",
      ),
    );
    const config = configOf(mesh);
    assert.deepEqual(
      config.routes.get("8080")?.virtualHosts.map(({ name }) => name),
      ["shop.other.svc.cluster.local:8080"],
    );
    assert.deepEqual(
      [...config.upstreams.keys()].filter((name) => name.startsWith("outbound|")),
      ["outbound|5432||two.coolapp.svc.cluster.local", "outbound|8080||shop.other.svc.cluster.local"],
    );
    assert.deepEqual([...config.listeners.keys()].sort(), [
      "0.0.0.0_8080",
      "10.11.0.50_5432",
      "virtualInbound",
      "virtualOutbound",
    ]);
    assert.equal(mesh.findings.get("Sidecar/coolapp/default"), undefined);
  });

  test("REGISTRY_ONLY: hosts and ports that nobody declared are refused", () => {
    const mesh = meshWith(sidecar("default", "{ outboundTrafficPolicy: { mode: REGISTRY_ONLY } }"));
    const config = configOf(mesh);
    assert.equal(config.routes.get("8080")?.unknown, "block");
    const { fallback } = config.listeners.get("virtualOutbound")!;
    assert.deepEqual(
      fallback?.handler.kind === "tcp" && fallback.handler.clusters.map((each) => each.upstream),
      ["BlackHoleCluster"],
    );
    assert.equal(configOf(mesh, "other").routes.get("8080")?.unknown, "passthrough");
  });
});

describe("ports", () => {
  test("a port whose protocol nobody says is looked at: HTTP by a table of its own, else TCP, with ALPN to tell", () => {
    const config = configOf(
      meshWith(workload("raw", { ports: "[{ port: 9000 }]", ip: "10.11.0.40", base: "10.10.8" })),
    );
    const listener = config.listeners.get("10.11.0.40_9000")!;
    assert.deepEqual(listener.inspect, ["tls", "http"]);
    assert.deepEqual(
      listener.chains.map(({ match, upstreamAlpn }) => [match.applicationProtocols, upstreamAlpn?.[0]]),
      [
        [["http/1.0", "http/1.1"], "istio-http/1.1"],
        [["h2c"], "istio-h2"],
      ],
    );
    assert.deepEqual(listener.fallback?.upstreamAlpn, ["istio-peer-exchange", "istio"]);
    assert.deepEqual(config.routes.get("raw.coolapp.svc.cluster.local:9000")?.virtualHosts[0]?.domains, [
      "*",
    ]);
  });

  test("TCP goes by the service's address; headless TCP by the pods'", () => {
    const mesh = meshWith(
      workload("db", { ports: "[{ name: tcp-db, port: 5432 }]", ip: "10.11.0.41", base: "10.10.9" }),
      workload("set", {
        ports: "[{ name: tcp-db, port: 6379 }]",
        ip: "None",
        base: "10.10.10",
        versions: ["v1", "v1"],
      }),
    );
    const config = configOf(mesh);
    assert.deepEqual(config.listeners.get("10.11.0.41_5432")?.inspect, []);
    assert.deepEqual(config.listeners.get("0.0.0.0_6379")?.chains[0]?.match.destinations, [
      "10.10.10.1/32",
      "10.10.10.2/32",
    ]);
    const set = config.upstreams.get("outbound|6379||set.coolapp.svc.cluster.local")!;
    assert.equal(set.discovery, "original-destination");
    assert.ok(set.tls.mode === "mesh" && !set.tls.auto);
  });

  test("a pod of a headless service is called by its own name, in mTLS, whatever rules there are for the service", () => {
    const mesh = meshWith(
      workload("set", { ip: "None", base: "10.10.10", versions: ["v1", "v1"] }),
      `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: set }
spec: { hosts: [set], http: [{ route: [{ destination: { host: catalog } }] }] }`,
    );
    const config = configOf(mesh);
    const hosts = config.routes.get("8080")!.virtualHosts;
    const pods = hosts.find(({ name }) => name === "*.set.coolapp.svc.cluster.local:8080")!;
    assert.deepEqual(pods.domains, [
      "*.set.coolapp.svc.cluster.local",
      "*.set.coolapp.svc.cluster.local:8080",
      "*.set.coolapp.svc",
      "*.set.coolapp.svc:8080",
      "*.set.coolapp",
      "*.set.coolapp:8080",
      "*.set",
      "*.set:8080",
    ]);
    const { action } = pods.routes[0]!;
    const name = "outbound|8080||*.set.coolapp.svc.cluster.local";
    assert.deepEqual(action.kind === "forward" && action.clusters.map(({ upstream }) => upstream), [name]);
    const chosen = config.upstreams.get(name)!;
    assert.equal(chosen.discovery, "original-destination");
    assert.ok(chosen.tls.mode === "mesh" && !chosen.tls.auto);
    const service = hosts.find((each) => each.name === "set.coolapp.svc.cluster.local:8080")!.routes[0]!
      .action;
    assert.deepEqual(service.kind === "forward" && service.clusters[0]!.upstream, `outbound|8080||${host}`);
    assert.equal(
      config.upstreams.get("outbound|8080||set.coolapp.svc.cluster.local")?.discovery,
      "endpoints",
    );
  });

  test("tls routes go by SNI", () => {
    const mesh = meshWith(
      entry(
        "{ hosts: [a.example.com], resolution: DNS, ports: [{ number: 443, name: tls, protocol: TLS }] }",
      ),
      `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: a }
spec: { hosts: [a.example.com], tls: [{ match: [{ port: 443, sniHosts: [a.example.com] }], route: [{ destination: { host: catalog, port: { number: 8080 } } }] }] }`,
    );
    const [chain] = configOf(mesh).listeners.get("0.0.0.0_443")!.chains;
    assert.deepEqual(chain!.match, { serverNames: ["a.example.com"], transport: "tls" });
    assert.deepEqual(
      chain!.handler.kind === "tcp" && chain!.handler.clusters[0]!.upstream,
      `outbound|8080||${host}`,
    );
  });
});
