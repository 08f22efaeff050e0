import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ScopeConfig } from "./model.ts";
import { type TestMesh, testMesh, workload } from "./testing.ts";

const base = [
  workload("web", { ip: "10.11.0.1", base: "10.10.1" }),
  workload("shop", { namespace: "other", ip: "10.11.0.3", base: "10.10.3" }),
  workload("istio-ingressgateway", {
    namespace: "istio-system",
    ip: "10.11.0.80",
    base: "10.10.7",
    ports:
      "[{ name: http, port: 80, targetPort: 8080 }, { name: https, port: 443, targetPort: 8443 }, { name: tcp, port: 5432, targetPort: 5432 }]",
  }),
].join("---\n");

function meshWith(...yaml: string[]): { mesh: TestMesh; config: () => ScopeConfig } {
  const mesh = testMesh();
  mesh.apply([base, ...yaml].join("\n---\n"));
  const proxy = mesh.connect({
    namespace: "istio-system",
    type: "gateway",
    labels: { app: "istio-ingressgateway", "pod-template-hash": "abc" },
  });
  assert.deepEqual(mesh.bugs, []);
  return { mesh, config: () => mesh.config(proxy) };
}

const gateway = (servers: string, name = "front", created = "") => `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: ${name}${created && `, creationTimestamp: "${created}"`} }
spec: { selector: { app: istio-ingressgateway }, servers: ${servers} }`;

const routes = (name: string, spec: string, namespace = "coolapp", created = "") => `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: ${name}, namespace: ${namespace}${created && `, creationTimestamp: "${created}"`} }
spec: ${spec}`;

const http = "{ port: { number: 80, name: http, protocol: HTTP }, hosts: [";
const toWeb = "http: [{ route: [{ destination: { host: web } }] }]";

describe("servers", () => {
  test("hosts are those that server and route have in common; namespaces may be excluded", () => {
    const { config } = meshWith(
      gateway(`[${http}"coolapp/*.example.com", "shop.example.org"] }]`),
      routes("a", `{ hosts: ["*"], gateways: [front], ${toWeb} }`),
      routes("b", `{ hosts: [x.example.com], gateways: [coolapp/front], ${toWeb} }`, "other"),
    );
    assert.deepEqual(
      config()
        .routes.get("http.8080")
        ?.virtualHosts.map(({ domains }) => domains),
      [
        ["shop.example.org", "shop.example.org:*"],
        ["*.example.com", "*.example.com:80"],
      ],
    );
  });

  test("several objects' routes for one host are put together, the oldest first, those for everything last", () => {
    const { config } = meshWith(
      gateway(`[${http}"*"] }]`),
      routes(
        "new",
        `{ hosts: [x.example.com], gateways: [front], http: [{ match: [{ uri: { prefix: /new } }], route: [{ destination: { host: web } }] }] }`,
        "coolapp",
        "2026-03-01T00:00:00Z",
      ),
      routes(
        "old",
        `{ hosts: [x.example.com], gateways: [front], ${toWeb} }`,
        "coolapp",
        "2026-01-01T00:00:00Z",
      ),
      routes(
        "mid",
        `{ hosts: [x.example.com], gateways: [front], http: [{ match: [{ uri: { prefix: /mid } }], route: [{ destination: { host: web } }] }] }`,
        "coolapp",
        "2026-02-01T00:00:00Z",
      ),
    );
    assert.deepEqual(
      config()
        .routes.get("http.8080")
        ?.virtualHosts[0]?.routes.map(({ origins }) => origins[0]!.name),
      ["mid", "new", "old"],
    );
  });

  test("httpsRedirect asks for TLS, routes or not", () => {
    const { config } = meshWith(gateway(`[${http}"x.example.com"], tls: { httpsRedirect: true } }]`));
    const [host] = config().routes.get("http.8080")!.virtualHosts;
    assert.deepEqual([host!.requireTls, host!.routes], [true, []]);
  });

  test("TLS with a credential of the gateway's namespace, chosen by server name; MUTUAL asks the client", () => {
    const { config } = meshWith(
      gateway(`[{ port: { number: 443, name: https, protocol: HTTPS }, hosts: [a.example.com], tls: { mode: SIMPLE, credentialName: a, minProtocolVersion: TLSV1_3 } },
        { port: { number: 443, name: https-b, protocol: HTTPS }, hosts: [b.example.com], tls: { mode: MUTUAL, credentialName: b } }]`),
      routes("a", `{ hosts: [a.example.com], gateways: [front], ${toWeb} }`),
    );
    const { listeners, routes: tables, secrets } = config();
    const listener = listeners.get("0.0.0.0_8443")!;
    assert.deepEqual(listener.inspect, ["tls"]);
    assert.deepEqual(
      listener.chains.map(({ match, tls }) => [
        match.serverNames,
        tls?.certificate,
        tls?.client,
        tls?.minimum,
      ]),
      [
        [["a.example.com"], { secret: "kubernetes://istio-system/a" }, "none", "1.3"],
        [["b.example.com"], { secret: "kubernetes://istio-system/b" }, "required", "1.2"],
      ],
    );
    assert.equal(tables.get("https.443.https.front.coolapp")?.virtualHosts.length, 1);
    assert.deepEqual([...secrets].sort(), [
      "kubernetes://istio-system/a",
      "kubernetes://istio-system/b",
      "kubernetes://istio-system/b-cacert",
    ]);
  });

  test("PASSTHROUGH goes by SNI, TCP by the port", () => {
    const { config } = meshWith(
      gateway(`[{ port: { number: 443, name: tls, protocol: TLS }, hosts: ["*.example.com"], tls: { mode: PASSTHROUGH } },
        { port: { number: 5432, name: tcp, protocol: TCP }, hosts: ["*"] }]`),
      routes(
        "t",
        `{ hosts: ["*"], gateways: [front], tls: [{ match: [{ sniHosts: [a.example.com, a.example.org] }], route: [{ destination: { host: web, port: { number: 8080 } } }] }], tcp: [{ match: [{ port: 5432 }], route: [{ destination: { host: web, port: { number: 8080 } } }] }] }`,
      ),
    );
    const { listeners, upstreams } = config();
    const [tls] = listeners.get("0.0.0.0_8443")!.chains;
    assert.deepEqual([tls!.match.serverNames, tls!.tls], [["a.example.com"], undefined]);
    const [tcp] = listeners.get("0.0.0.0_5432")!.chains;
    assert.deepEqual(tcp!.match, {});
    assert.ok(upstreams.has("outbound|8080||web.coolapp.svc.cluster.local"));
  });

  describe("AUTO_PASSTHROUGH", () => {
    const eastWest = (host: string) =>
      gateway(
        `[{ port: { number: 443, name: tls, protocol: TLS }, hosts: ["${host}"], tls: { mode: AUTO_PASSTHROUGH } }]`,
      );
    const names = (config: ScopeConfig) =>
      (config.listeners.get("0.0.0.0_8443")?.chains ?? []).map(({ match }) => match.serverNames?.join());

    test("one chain for each port and subset of the mesh's services, without routes; endpoints with a sidecar only", () => {
      const { mesh, config } = meshWith(
        eastWest("*.local"),
        workload("mixed", { ip: "10.11.0.4", base: "10.10.4", versions: ["v1", "v2"] }).replace(
          "version: v2, security.istio.io/tlsMode: istio",
          "version: v2",
        ),
        workload("set", { ip: "None", base: "10.10.5", ports: "[{ name: tcp, port: 6379 }]" }),
        `
kind: DestinationRule
metadata: { name: mixed }
spec: { host: mixed, subsets: [{ name: V1, labels: { version: v1 } }, { name: v2, labels: { version: v2 } }] }
---
kind: ServiceEntry
metadata: { name: out }
spec: { hosts: [out.local], resolution: DNS, ports: [{ number: 443, name: tls, protocol: TLS }] }
---
kind: AuthorizationPolicy
metadata: { name: nothing, namespace: istio-system }
spec: {}`,
      );
      assert.deepEqual(names(config()), [
        "outbound_.443_._.istio-ingressgateway.istio-system.svc.cluster.local",
        "outbound_.5432_._.istio-ingressgateway.istio-system.svc.cluster.local",
        "outbound_.6379_._.set.coolapp.svc.cluster.local",
        "outbound_.8080_.v1_.mixed.coolapp.svc.cluster.local",
        "outbound_.8080_._.mixed.coolapp.svc.cluster.local",
        "outbound_.8080_._.shop.other.svc.cluster.local",
        "outbound_.8080_._.web.coolapp.svc.cluster.local",
        "outbound_.8080_.v2_.mixed.coolapp.svc.cluster.local",
        "outbound_.80_._.istio-ingressgateway.istio-system.svc.cluster.local",
      ]);
      const [chain] = config().listeners.get("0.0.0.0_8443")!.chains;
      assert.deepEqual([chain!.match.transport, chain!.match.applicationProtocols?.[0]], ["tls", "istio"]);
      assert.deepEqual([chain!.tls, chain!.authorization], [undefined, []]);
      const addresses = (subset: string) => {
        const { tls, endpointsName } = config().upstreams.get(
          `outbound_.8080_.${subset}_.mixed.coolapp.svc.cluster.local`,
        )!;
        assert.deepEqual(tls, { mode: "none" });
        return mesh.endpoints
          .get(endpointsName)!
          .localities.flatMap(({ endpoints }) => endpoints.map(({ address }) => address));
      };
      assert.deepEqual([addresses(""), addresses("V1"), addresses("v2")], [["10.10.4.1"], ["10.10.4.1"], []]);
      const set = config().upstreams.get("outbound_.6379_._.set.coolapp.svc.cluster.local")!;
      assert.equal(set.discovery, "endpoints", "a gateway was not where the client was going");
      assert.deepEqual(mesh.findings.get("Gateway/coolapp/front"), undefined);
    });

    test("hosts and their namespaces say which services; without any there are no upstreams by server name", () => {
      const { mesh, config } = meshWith(eastWest("other/*.local"));
      assert.deepEqual(names(config()), ["outbound_.8080_._.shop.other.svc.cluster.local"]);
      mesh.remove("Gateway", "coolapp/front");
      assert.deepEqual(config().upstreams.size, 1);
      assert.deepEqual(
        [...mesh.endpoints.entries()].filter(([name]) => name.startsWith("outbound_")),
        [],
      );
    });

    test("what a service exports to others only is not there", () => {
      const { mesh, config } = meshWith(eastWest("*.local"));
      mesh.apply(
        workload("shop", { namespace: "other", ip: "10.11.0.3", base: "10.10.3" }).replace(
          "metadata: { name: shop, namespace: other }\nspec",
          `metadata: { name: shop, namespace: other, annotations: { networking.istio.io/exportTo: "." } }\nspec`,
        ),
      );
      assert.ok(!names(config()).some((name) => name?.includes("shop")));
    });
  });

  test("of two that share a port the older says what is spoken; the other is told", () => {
    const { mesh, config } = meshWith(
      gateway(`[${http}"*"] }]`, "old", "2026-01-01T00:00:00Z"),
      gateway(
        `[{ port: { number: 80, name: tcp, protocol: TCP }, hosts: ["*"] }]`,
        "new",
        "2026-02-01T00:00:00Z",
      ),
    );
    assert.deepEqual([...config().listeners.keys()], ["0.0.0.0_8080"]);
    assert.equal(config().listeners.get("0.0.0.0_8080")?.chains[0]?.handler.kind, "http");
    assert.equal(mesh.findings.get("Gateway/coolapp/new")?.[0]?.code, "WEFT0145");
    assert.equal(mesh.findings.get("Gateway/coolapp/old"), undefined);
  });
});

describe("what a gateway has", () => {
  test("only the upstreams that its routes lead to, with Secrets for those that ask for one", () => {
    const { config } = meshWith(
      gateway(`[${http}"*"] }]`),
      routes(
        "a",
        `{ hosts: [x.example.com], gateways: [front], http: [{ route: [{ destination: { host: shop.other.svc.cluster.local } }] }] }`,
      ),
      `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: shop, namespace: other }
spec: { host: shop, trafficPolicy: { tls: { mode: SIMPLE, credentialName: ca } } }`,
    );
    const { upstreams, secrets } = config();
    assert.deepEqual([...upstreams.keys()].sort(), [
      "BlackHoleCluster",
      "outbound|8080||shop.other.svc.cluster.local",
    ]);
    assert.deepEqual([...secrets], ["kubernetes://istio-system/ca"]);
  });

  test("a sidecar never has a Secret", () => {
    const { mesh } = meshWith(`
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: web }
spec: { host: web, trafficPolicy: { tls: { mode: SIMPLE, credentialName: ca } } }`);
    const config = mesh.config(mesh.connect({ namespace: "coolapp" }));
    const { tls } = config.upstreams.get("outbound|8080||web.coolapp.svc.cluster.local")!;
    assert.ok(tls.mode === "simple" && tls.secret === undefined);
    assert.equal(config.secrets.size, 0);
  });

  test("names that clients' certificates must have are asked for; checks that are not served keep the server away", () => {
    const tls = (more: string) =>
      gateway(
        `[{ port: { number: 443, name: https, protocol: HTTPS }, hosts: [a.example.com], tls: { mode: MUTUAL, credentialName: cert, ${more} } }]`,
      );
    const chains = (more: string) =>
      [...meshWith(tls(more)).config().listeners.values()].flatMap((listener) => listener.chains);
    assert.deepEqual(chains("subjectAltNames: [client.example.com]")[0]?.tls?.subjectAltNames, [
      "client.example.com",
    ]);
    for (const check of ["verifyCertificateSpki: [x]", "verifyCertificateHash: [x]", "caCrl: /etc/crl"]) {
      const { mesh, config } = meshWith(tls(check));
      assert.equal(config().listeners.size, 0, check);
      assert.deepEqual(
        mesh.findings.get("Gateway/coolapp/front")?.map(({ code }) => code),
        ["WEFT0101", "WEFT0901"],
      );
    }
  });

  test("of X-Forwarded-For gateways believe as many entries as there are proxies in front of them", () => {
    const { mesh, config } = meshWith(
      gateway(`[${http}"*"] }]`),
      routes("a", `{ hosts: ["*"], gateways: [front], ${toWeb} }`),
    );
    const hops = () => {
      const [chain] = config().listeners.get("0.0.0.0_8080")!.chains;
      return chain!.handler.kind === "http" && chain!.handler.trustedHops;
    };
    assert.equal(hops(), 0);
    mesh.set({ trustedProxies: 2 });
    assert.equal(hops(), 2);
  });

  const limit = (target: string) => `
apiVersion: mesh.weft.dev/v1alpha1
kind: RateLimit
metadata: { name: r }
spec: { targetRefs: [{ kind: Gateway, name: ${target} }], limits: [{ name: all, tokens: 5, interval: 1s }] }`;
  const limitsOf = (config: ScopeConfig) => {
    const [chain] = config.listeners.get("0.0.0.0_8080")!.chains;
    return chain!.handler.kind === "http" ? chain!.handler.rateLimits : [];
  };

  test("a limit that targets a Gateway is one bucket for all of its routes", () => {
    const { config } = meshWith(
      gateway(`[${http}"a.example.com", "b.example.com"] }]`),
      routes("a", `{ hosts: [a.example.com], gateways: [front], ${toWeb} }`),
      routes("b", `{ hosts: [b.example.com], gateways: [front], ${toWeb} }`),
      limit("front"),
    );
    assert.deepEqual(
      limitsOf(config()).map(({ name, match }) => [name, match]),
      [["coolapp/r/all", undefined]],
    );
    const table = config().routes.get("http.8080")!;
    assert.equal(table.rateLimits, limitsOf(config()), "routes say what limits count by");
    for (const { routes } of table.virtualHosts)
      for (const each of routes) assert.deepEqual(each.rateLimits, []);
  });

  test("on a port that Gateways share it counts requests to the target's hosts", () => {
    const { config } = meshWith(
      gateway(`[${http}"*.example.com"] }]`, "front"),
      gateway(`[${http}"b.example.com"] }]`, "back"),
      routes("a", `{ hosts: ["*.example.com"], gateways: [front], ${toWeb} }`),
      routes("b", `{ hosts: [b.example.com], gateways: [back], ${toWeb} }`),
      limit("front"),
    );
    const [only] = limitsOf(config());
    const counts = (authority: string) =>
      only!.match!.headers.every(({ name, match, invert }) => {
        assert.equal(name, ":authority");
        assert.ok(match.kind === "regex" && match.ignoreCase);
        return new RegExp(`^(?:${match.value})$`, "i").test(authority) !== invert;
      });
    const asked = [
      "a.example.com",
      "A.EXAMPLE.COM:80",
      "b.example.com",
      "b.example.com:8080",
      "aexample.com",
    ];
    assert.deepEqual(asked.filter(counts), ["a.example.com", "A.EXAMPLE.COM:80"]);
  });
});
