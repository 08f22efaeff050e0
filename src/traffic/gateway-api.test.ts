import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Forward, VirtualHost } from "./model.ts";
import { type TestMesh, testMesh, workload } from "./testing.ts";

const base = [
  workload("web", { ip: "10.11.0.1", base: "10.10.1" }),
  workload("api", { ip: "10.11.0.2", base: "10.10.2" }),
  workload("shop", { namespace: "other", ip: "10.11.0.3", base: "10.10.3" }),
  workload("istio-ingressgateway", {
    namespace: "istio-system",
    ip: "10.11.0.80",
    base: "10.10.7",
    ports: "[{ name: http, port: 80, targetPort: 8080 }, { name: https, port: 443, targetPort: 8443 }]",
  }),
  `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: front }
spec:
  gatewayClassName: weft
  listeners:
  - { name: http, port: 80, protocol: HTTP, hostname: "*.example.com" }
  - { name: https, port: 443, protocol: HTTPS, tls: { certificateRefs: [{ name: cert }] }, allowedRoutes: { namespaces: { from: All } } }
`,
].join("---\n");

function gatewayMesh(): { mesh: TestMesh; hosts: (table: string) => readonly VirtualHost[] } {
  const mesh = testMesh();
  mesh.apply(base);
  const gateway = mesh.connect({
    namespace: "istio-system",
    type: "gateway",
    labels: { app: "istio-ingressgateway" },
  });
  return { mesh, hosts: (table) => mesh.config(gateway).routes.get(table)?.virtualHosts ?? [] };
}

const route = (name: string, spec: string, namespace = "coolapp") => `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: ${name}, namespace: ${namespace} }
spec: ${spec}
`;

const upstreamsOf = (host: VirtualHost | undefined) =>
  (host?.routes ?? []).map(({ action }) =>
    action.kind === "forward" ? action.clusters.map(({ upstream }) => upstream).join() : action.kind,
  );

describe("Gateway API", () => {
  test("listeners that are to ask for clients' certificates are not there: nobody would ask", () => {
    const mesh = testMesh();
    mesh.apply(
      [
        base,
        `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: front }
spec:
  gatewayClassName: weft
  tls: { frontend: { default: { validation: { caCertificateRefs: [{ group: "", kind: ConfigMap, name: ca }] } } } }
  listeners:
  - { name: http, port: 80, protocol: HTTP }
  - { name: https, port: 443, protocol: HTTPS, tls: { certificateRefs: [{ name: cert }] } }`,
      ].join("\n---\n"),
    );
    const labels = { app: "istio-ingressgateway" };
    const proxy = mesh.connect({ namespace: "istio-system", type: "gateway", labels });
    assert.deepEqual([...mesh.config(proxy).listeners.keys()], ["0.0.0.0_8080"]);
    const { conditions } = mesh.gatewayStatuses.get("coolapp/front")!.listeners![1]!;
    assert.deepEqual(
      conditions.map(({ type, status }) => [type, status]),
      [
        ["Accepted", "True"],
        ["ResolvedRefs", "True"],
        ["Programmed", "False"],
      ],
    );
    const [found] = mesh.findings.get("KubeGateway/coolapp/front")!;
    assert.deepEqual([found?.code, found?.origin.field], ["WEFT0901", "spec.tls.frontend"]);
  });

  test("a rule with a filter that is not served answers 500: it may be there to keep somebody out", () => {
    const { mesh, hosts } = gatewayMesh();
    const rule = (filter: string, more = "") =>
      route(
        "a",
        `{ parentRefs: [{ name: front, sectionName: http }], hostnames: [www.example.com], rules: [{ filters: [${filter}], backendRefs: [{ name: web, port: 8080 ${more}}] }] }`,
      );
    const only = () => hosts("http.8080")[0]?.routes[0]?.action;
    mesh.apply(rule(""));
    assert.equal(only()?.kind, "forward");
    const extension = "{ type: ExtensionRef, extensionRef: { group: example.com, kind: Auth, name: a } }";
    for (const filter of ["{ type: ExternalAuth, externalAuth: { protocol: HTTP } }", extension]) {
      mesh.apply(rule(filter));
      assert.deepEqual(only(), { kind: "respond", status: 500 });
      assert.ok(mesh.findings.get("HTTPRoute/coolapp/a")?.some(({ code }) => code === "WEFT0901"));
    }
    mesh.apply(rule("", `, filters: [${extension}]`));
    assert.deepEqual(only(), { kind: "respond", status: 500 });
  });

  test("routes of several objects for one host stand in the order of Gateway API's precedence", () => {
    const { mesh, hosts } = gatewayMesh();
    mesh.apply(
      route(
        "a",
        "{ parentRefs: [{ name: front, sectionName: http }], hostnames: [www.example.com], rules: [{ backendRefs: [{ name: web, port: 8080 }] }] }",
      ),
    );
    mesh.apply(
      route(
        "b",
        `{ parentRefs: [{ name: front, sectionName: http }], hostnames: [www.example.com], rules: [
          { matches: [{ path: { value: /api } }, { path: { value: /api/v1 }, method: GET }, { path: { type: Exact, value: / } }], backendRefs: [{ name: api, port: 8080 }] }] }`,
      ),
    );
    const [host] = hosts("http.8080");
    assert.deepEqual(host?.domains, ["www.example.com", "www.example.com:*"]);
    assert.deepEqual(
      host?.routes.map(({ match }) => match.path),
      [
        { kind: "exact", value: "/" },
        { kind: "path-prefix", value: "/api/v1" },
        { kind: "path-prefix", value: "/api" },
        { kind: "prefix", value: "/" },
      ],
    );
    assert.deepEqual(upstreamsOf(host).at(-1), "outbound|8080||web.coolapp.svc.cluster.local");
    assert.deepEqual(mesh.bugs, []);
  });

  test("a backend in another namespace needs a ReferenceGrant; without it 500 and a finding", () => {
    const { mesh, hosts } = gatewayMesh();
    mesh.apply(
      route(
        "r",
        "{ parentRefs: [{ name: front, sectionName: http }], hostnames: [www.example.com], rules: [{ backendRefs: [{ name: shop, namespace: other, port: 8080 }] }] }",
      ),
    );
    assert.deepEqual(hosts("http.8080")[0]?.routes[0]?.action, { kind: "respond", status: 500 });
    assert.match(mesh.findings.get("HTTPRoute/coolapp/r")?.[0]?.message ?? "", /no ReferenceGrant/);
    mesh.apply(`
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: { name: g, namespace: other }
spec: { from: [{ group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: coolapp }], to: [{ group: "", kind: Service }] }
`);
    assert.deepEqual(upstreamsOf(hosts("http.8080")[0]), ["outbound|8080||shop.other.svc.cluster.local"]);
    assert.equal(mesh.findings.get("HTTPRoute/coolapp/r"), undefined);
  });

  test("a ServiceImport is a backend (GEP-1748)", () => {
    const { mesh, hosts } = gatewayMesh();
    mesh.apply(`
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceImport
metadata: { name: serve }
spec: { type: ClusterSetIP, ips: [10.11.9.9], ports: [{ port: 80, name: http, protocol: TCP }] }
`);
    mesh.apply(
      route(
        "r",
        "{ parentRefs: [{ name: front }], hostnames: [www.example.com], rules: [{ backendRefs: [{ group: multicluster.x-k8s.io, kind: ServiceImport, name: serve, port: 80 }] }] }",
      ),
    );
    assert.deepEqual(upstreamsOf(hosts("http.8080")[0]), ["outbound|80||serve.coolapp.svc.clusterset.local"]);
  });

  test("a listener takes routes of the namespaces that it allows", () => {
    const { mesh, hosts } = gatewayMesh();
    mesh.apply(
      route(
        "theirs",
        "{ parentRefs: [{ name: front, namespace: coolapp }], hostnames: [shop.example.com], rules: [{ backendRefs: [{ name: shop, port: 8080 }] }] }",
        "other",
      ),
    );
    assert.deepEqual(hosts("http.8080"), []);
    const tls = hosts("https.443.https.front.coolapp");
    assert.deepEqual(upstreamsOf(tls[0]), ["outbound|8080||shop.other.svc.cluster.local"]);
  });

  test("filters: headers, redirect, rewrite, mirror; timeouts and retries", () => {
    const { mesh, hosts } = gatewayMesh();
    mesh.apply(
      route(
        "r",
        `{ parentRefs: [{ name: front, sectionName: http }], hostnames: [www.example.com], rules: [
        { matches: [{ path: { value: /old } }], filters: [{ type: RequestRedirect, requestRedirect: { scheme: https, path: { type: ReplacePrefixMatch, replacePrefixMatch: /new } } }] },
        { matches: [{ path: { value: /strip } }],
          filters: [
            { type: URLRewrite, urlRewrite: { hostname: inner.example.com, path: { type: ReplacePrefixMatch, replacePrefixMatch: / } } },
            { type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: x-a, value: b }], remove: [x-c] } },
            { type: RequestMirror, requestMirror: { backendRef: { name: api, port: 8080 }, percent: 10 } }],
          timeouts: { request: 5s, backendRequest: 2s }, retry: { attempts: 3, codes: [503] },
          backendRefs: [{ name: web, port: 8080, weight: 9 }, { name: api, port: 8080, weight: 1 }] }] }`,
      ),
    );
    const [strip, old] = hosts("http.8080")[0]!.routes;
    assert.deepEqual(old!.action, {
      kind: "redirect",
      status: 302,
      scheme: "https",
      port: 443,
      path: { prefix: "/new" },
    });
    const forward = strip!.action as Forward;
    assert.deepEqual(forward.rewrite, {
      path: { regex: "^/strip/*", substitution: "/" },
      authority: "inner.example.com",
    });
    assert.deepEqual(strip!.requestHeaders, { set: [["x-a", "b"]], add: [], remove: ["x-c"] });
    assert.deepEqual(forward.mirrors, [
      { upstream: "outbound|8080||api.coolapp.svc.cluster.local", percent: 10 },
    ]);
    assert.deepEqual(
      [forward.timeout, forward.retries?.perTryTimeout, forward.retries?.attempts],
      [5_000, 2_000, 3],
    );
    assert.deepEqual(forward.retries?.statusCodes, [503]);
    assert.deepEqual(
      forward.clusters.map(({ weight }) => weight),
      [9, 1],
    );
  });

  test("a route whose parent is a Service is for the mesh's sidecars", () => {
    const { mesh } = gatewayMesh();
    mesh.apply(
      route(
        "r",
        "{ parentRefs: [{ group: '', kind: Service, name: web, port: 8080 }], rules: [{ backendRefs: [{ name: api, port: 8080 }] }] }",
      ),
    );
    const client = mesh.connect({ namespace: "coolapp", labels: { app: "api" } });
    const host = mesh
      .config(client)
      .routes.get("8080")
      ?.virtualHosts.find(({ name }) => name === "web.coolapp.svc.cluster.local:8080");
    assert.deepEqual(upstreamsOf(host), ["outbound|8080||api.coolapp.svc.cluster.local"]);
  });

  test("a Gateway is told whether it is served, and how many routes each listener has", () => {
    const { mesh } = gatewayMesh();
    mesh.apply(
      route(
        "r",
        "{ parentRefs: [{ name: front, sectionName: http }], hostnames: [www.example.com], rules: [{ backendRefs: [{ name: web, port: 8080 }] }] }",
      ),
    );
    const status = mesh.gatewayStatuses.get("coolapp/front")!;
    assert.deepEqual(
      status.conditions?.map(({ type, status }) => [type, status]),
      [
        ["Accepted", "True"],
        ["Programmed", "True"],
      ],
    );
    assert.deepEqual(
      status.listeners?.map(({ name, attachedRoutes, conditions }) => [
        name,
        attachedRoutes,
        conditions.map(({ status }) => status),
      ]),
      [
        ["http", 1, ["True", "True", "True"]],
        ["https", 0, ["True", "False", "False"]],
      ],
    );
    // Discovery reads the Secrets of its own namespace, and a Gateway that names another's has no certificate.
    assert.match(
      status.listeners![1]!.conditions.find(({ type }) => type === "ResolvedRefs")!.message,
      /Secret coolapp\/cert: certificates are read in the mesh's own namespace, istio-system, only/,
    );
    assert.deepEqual(
      mesh.findings.get("KubeGateway/coolapp/front")?.map(({ code, origin }) => [code, origin.field]),
      [["WEFT0106", "spec.listeners[1].tls.certificateRefs"]],
    );
  });

  test("fields that are not served are named in the status of a Gateway and of a route", () => {
    const { mesh } = gatewayMesh();
    mesh.apply(`
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: more }
spec:
  gatewayClassName: weft
  infrastructure: { labels: { a: b } }
  listeners: [{ name: http, port: 80, protocol: HTTP }]`);
    const rule =
      "{ filters: [{ type: ExtensionRef, extensionRef: { group: a.example, kind: A, name: a } }], backendRefs: [{ name: web, port: 8080 }] }";
    mesh.apply(route("r", `{ parentRefs: [{ name: more }], rules: [${rule}] }`));
    const told = (conditions: readonly { type: string; message?: string }[] | undefined) =>
      conditions?.filter(({ type }) => type === "weft.dev/NotServedYet").map(({ message }) => message);
    assert.deepEqual(told(mesh.gatewayStatuses.get("coolapp/more")?.conditions), [
      "spec.infrastructure: not served yet",
    ]);
    assert.deepEqual(told(mesh.routeStatuses.get("coolapp/r")?.parents[0]?.conditions), [
      "spec.rules[0].filters[0].extensionRef: not served yet: requests that would pass it get 500",
    ]);
  });

  test("a Gateway of another class is another controller's: it is said in analysis and nowhere else", () => {
    const mesh = testMesh();
    mesh.apply(`
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: theirs }
spec:
  gatewayClassName: istio
  infrastructure: { labels: { a: b } }
  listeners: [{ name: http, port: 80, protocol: HTTP }]`);
    assert.equal(mesh.gatewayStatuses.get("coolapp/theirs"), undefined);
    assert.deepEqual(
      mesh.findings.get("KubeGateway/coolapp/theirs")?.map(({ code, level }) => [code, level]),
      [["WEFT0911", "info"]],
    );
  });

  test("a route is told by each parent why it is not taken", () => {
    const { mesh } = gatewayMesh();
    const spec = (parent: string, host: string, backend = "web") =>
      `{ parentRefs: [{ name: front, namespace: coolapp, ${parent} }], hostnames: [${host}], rules: [{ backendRefs: [{ name: ${backend}, namespace: coolapp, port: 8080 }] }] }`;
    const said = (name: string, namespace = "coolapp") =>
      mesh.routeStatuses
        .get(`${namespace}/${name}`)
        ?.parents[0]?.conditions?.map(({ type, status, reason }) => `${type} ${status} ${reason}`);
    mesh.apply(route("good", spec("sectionName: http", "www.example.com")));
    assert.deepEqual(said("good"), ["Accepted True Accepted", "ResolvedRefs True ResolvedRefs"]);
    mesh.apply(route("host", spec("sectionName: http", "www.example.org")));
    assert.equal(said("host")?.[0], "Accepted False NoMatchingListenerHostname");
    mesh.apply(route("section", spec("sectionName: nobody", "www.example.com")));
    assert.equal(said("section")?.[0], "Accepted False NoMatchingParent");
    mesh.apply(route("theirs", spec("sectionName: http", "www.example.com"), "other"));
    assert.deepEqual(said("theirs", "other"), [
      "Accepted False NotAllowedByListeners",
      "ResolvedRefs False RefNotPermitted",
    ]);
    mesh.apply(route("backend", spec("sectionName: http", "www.example.com", "nobody")));
    assert.equal(said("backend")?.[1], "ResolvedRefs False BackendNotFound");
  });
});
