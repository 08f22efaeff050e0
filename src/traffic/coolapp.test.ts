/** The steps of seed 002 as the routing model has them. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Forward, RouteTable } from "./model.ts";
import { testMesh, workload } from "./testing.ts";

const apps = [
  workload("catalog", { versions: ["v1", "v2"], ip: "10.11.0.9" }),
  workload("partner", { ip: "10.11.0.10", base: "10.10.1" }),
  workload("gateway", { ip: "10.11.0.11", base: "10.10.2" }),
].join("---\n");

const ingress = `
apiVersion: v1
kind: Service
metadata: { name: istio-ingressgateway, namespace: istio-system }
spec:
  clusterIP: 10.11.0.80
  clusterIPs: ["10.11.0.80"]
  selector: { istio: ingressgateway }
  ports: [{ name: http2, port: 80, targetPort: 8080 }, { name: https, port: 443, targetPort: 8443 }]
---
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata: { name: ingress-gateway }
spec:
  selector: { istio: ingressgateway }
  servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: ["*"] }]
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: { name: ingress-gateway }
spec:
  hosts: ["*"]
  gateways: [ingress-gateway]
  http: [{ match: [{ uri: { exact: / } }], route: [{ destination: { host: gateway, port: { number: 8080 } } }] }]
`;

const catalogRoute = (route: string) => `
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: { name: catalog }
spec: { hosts: [catalog], http: [{ route: ${route} }] }
`;

const subsets = `
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: { name: catalog }
spec:
  host: catalog
  subsets: [{ name: version-v1, labels: { version: v1 } }, { name: version-v2, labels: { version: v2 } }]
`;

const host = "catalog.coolapp.svc.cluster.local";

function forwardsOf(table: RouteTable | undefined, name = `${host}:8080`): string[] {
  const found = table?.virtualHosts.find((each) => each.name === name);
  return (found?.routes ?? []).flatMap(({ action }) =>
    (action as Forward).clusters.map(({ upstream, weight }) => `${upstream} ${weight}`),
  );
}

describe("seed 002", () => {
  test("a proxy whose namespace leaves the mesh is told nothing more: no row, not an empty one", () => {
    const mesh = testMesh();
    mesh.apply(apps);
    const partner = mesh.connect({ namespace: "coolapp", labels: { app: "partner" } });
    assert.equal(mesh.scopesOf(partner).length, 2);
    mesh.apply("apiVersion: v1\nkind: Namespace\nmetadata: { name: coolapp }\n");
    assert.equal(mesh.scopes.get(partner.id), undefined);
  });

  test("a member's sidecar reaches every service by its names; ready pods stand behind it", () => {
    const mesh = testMesh({ balancer: "ROUND_ROBIN" });
    mesh.apply(apps);
    const partner = mesh.connect({ namespace: "coolapp", labels: { app: "partner" } });
    assert.deepEqual(mesh.scopesOf(partner), ["outbound/coolapp", "inbound/coolapp/app=partner"]);
    const { listeners, routes, upstreams } = mesh.config(partner);
    assert.deepEqual([...listeners.keys()].sort(), ["0.0.0.0_8080", "virtualInbound", "virtualOutbound"]);
    const table = routes.get("8080")!;
    assert.equal(table.unknown, "passthrough");
    assert.deepEqual(table.virtualHosts.find(({ name }) => name === `${host}:8080`)?.domains, [
      host,
      `${host}:8080`,
      "catalog.coolapp.svc",
      "catalog.coolapp.svc:8080",
      "catalog.coolapp",
      "catalog.coolapp:8080",
      "catalog",
      "catalog:8080",
      "10.11.0.9",
      "10.11.0.9:8080",
    ]);
    assert.deepEqual(forwardsOf(table), [`outbound|8080||${host} 1`]);
    const upstream = upstreams.get(`outbound|8080||${host}`)!;
    assert.deepEqual(upstream.balancer, { kind: "round-robin" });
    assert.equal(upstream.discovery, "endpoints");
    assert.deepEqual(upstream.tls, {
      mode: "mesh",
      auto: true,
      sni: `outbound_.8080_._.${host}`,
      identities: ["spiffe://cluster.local/ns/coolapp/sa/catalog"],
      alpn: ["istio-http/1.1", "istio", "http/1.1"],
    });
    assert.ok(upstreams.get("inbound|8080||"));
    const endpoints = mesh.endpoints.get(upstream.endpointsName)!;
    assert.deepEqual(
      endpoints.localities.flatMap(({ endpoints }) =>
        endpoints.map(({ address, port, meshTls }) => `${address}:${port} ${meshTls}`),
      ),
      ["10.10.0.1:8080 true", "10.10.0.2:8080 true"],
    );
    assert.deepEqual(mesh.bugs, []);
  });

  test("the ingress gateway listens where its Service sends, and knows the bound routes", () => {
    const mesh = testMesh();
    mesh.apply(`${apps}---${ingress}`);
    const gateway = mesh.connect({
      id: "router~10.0.0.9~istio-ingressgateway-x.istio-system~istio-system.svc.cluster.local",
      namespace: "istio-system",
      type: "gateway",
      labels: { istio: "ingressgateway", app: "istio-ingressgateway", "pod-template-hash": "x" },
    });
    const { listeners, routes, upstreams } = mesh.config(gateway);
    assert.deepEqual([...listeners.keys()], ["0.0.0.0_8080"]);
    assert.equal(listeners.get("0.0.0.0_8080")?.port, 8080);
    const table = routes.get("http.8080")!;
    assert.equal(table.unknown, "not-found");
    assert.deepEqual(table.virtualHosts[0]?.domains, ["*"]);
    const [route] = table.virtualHosts[0]!.routes;
    assert.deepEqual(route!.match.path, { kind: "exact", value: "/" });
    const name = "outbound|8080||gateway.coolapp.svc.cluster.local";
    assert.deepEqual((route!.action as Forward).clusters[0]?.upstream, name);
    assert.deepEqual([...upstreams.keys()].sort(), ["BlackHoleCluster", name]);
    assert.deepEqual(route!.origins, [
      { kind: "VirtualService", namespace: "coolapp", name: "ingress-gateway", field: "spec.http[0]" },
    ]);
    assert.deepEqual(mesh.bugs, []);
  });

  test("a subset that nobody defines has a route and no upstream; defined, it has its pods", () => {
    const mesh = testMesh();
    mesh.apply(
      `${apps}---${catalogRoute("[{ destination: { host: catalog, subset: version-v2 }, weight: 100 }]")}`,
    );
    const partner = mesh.connect({ namespace: "coolapp", labels: { app: "partner" } });
    const v2 = `outbound|8080|version-v2|${host}`;
    assert.deepEqual(forwardsOf(mesh.config(partner).routes.get("8080")), [`${v2} 1`]);
    assert.equal(mesh.config(partner).upstreams.get(v2), undefined);
    assert.deepEqual(mesh.findings.get("VirtualService/coolapp/catalog"), [
      {
        code: "WEFT0101",
        level: "error",
        origin: {
          kind: "VirtualService",
          namespace: "coolapp",
          name: "catalog",
          field: "spec.http[0].route[0].destination.subset",
        },
        message: `Referenced subset not found: "version-v2": no DestinationRule for the host "${host}" defines it, so requests get 503`,
      },
    ]);
    mesh.apply(subsets);
    assert.equal(mesh.findings.size, 0);
    const upstream = mesh.config(partner).upstreams.get(v2)!;
    assert.deepEqual(
      mesh.endpoints
        .get(upstream.endpointsName)
        ?.localities.flatMap(({ endpoints }) => endpoints)
        .map((e) => e.address),
      ["10.10.0.2"],
    );
    mesh.apply(
      catalogRoute(
        "[{ destination: { host: catalog, subset: version-v1 }, weight: 70 }, { destination: { host: catalog, subset: version-v2 }, weight: 30 }]",
      ),
    );
    assert.deepEqual(forwardsOf(mesh.config(partner).routes.get("8080")), [
      `outbound|8080|version-v1|${host} 70`,
      `${v2} 30`,
    ]);
    assert.deepEqual(mesh.bugs, []);
  });
});
