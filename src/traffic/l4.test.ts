/** tcp and tls routes of VirtualServices: whom they are for, and who is first. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { FilterChain, Listener } from "./model.ts";
import { type TestMesh, testMesh, workload } from "./testing.ts";

function meshWith(...yaml: string[]): TestMesh {
  const mesh = testMesh();
  mesh.apply(
    [
      workload("db", { ip: "10.11.0.20", base: "10.10.5", ports: "[{ name: tcp, port: 5432 }]" }),
      workload("old", { ip: "10.11.0.21", base: "10.10.6", ports: "[{ name: tcp, port: 5432 }]" }),
      workload("new", { ip: "10.11.0.22", base: "10.10.7", ports: "[{ name: tcp, port: 5432 }]" }),
      ...yaml,
    ].join("\n---\n"),
  );
  assert.deepEqual(mesh.bugs, []);
  return mesh;
}

const rules = (spec: string) => `
kind: VirtualService
metadata: { name: rules }
spec: ${spec}`;

const entry = (spec: string) => `
kind: ServiceEntry
metadata: { name: out }
spec: ${spec}`;

const to = (host: string) => `route: [{ destination: { host: ${host} } }]`;

const listenerOf = (mesh: TestMesh, name: string, labels: Record<string, string> = {}): Listener =>
  mesh.config(mesh.connect({ namespace: "coolapp", labels })).listeners.get(name)!;

/** `10.1.0.0/16 → db`, and `else → …` for the rest. */
const leads = (listener: Listener): string[] => {
  const target = ({ handler }: FilterChain) =>
    handler.kind === "tcp"
      ? handler.clusters.map(({ upstream }) => upstream.split("|").pop()!.split(".")[0]).join()
      : "http";
  return [
    ...listener.chains.map(
      (chain) =>
        `${[...(chain.match.destinations ?? []), ...(chain.match.serverNames ?? [])].join(" ")} → ${target(chain)}`,
    ),
    ...(listener.fallback ? [`else → ${target(listener.fallback)}`] : []),
  ];
};

describe("sidecars", () => {
  test("a tcp route for some labels is for clients that have them", () => {
    const mesh = meshWith(
      rules(
        `{ hosts: [db], tcp: [{ match: [{ sourceLabels: { app: report } }], ${to("old")} }, { ${to("new")} }] }`,
      ),
    );
    assert.deepEqual(leads(listenerOf(mesh, "10.11.0.20_5432", { app: "report" })), ["else → old"]);
    assert.deepEqual(leads(listenerOf(mesh, "10.11.0.20_5432", { app: "shop" })), ["else → new"]);
  });

  test("a tcp route for a port is for that port, one for other gateways or namespaces is not for sidecars here", () => {
    const mesh = meshWith(
      rules(
        `{ hosts: [db], tcp: [{ match: [{ port: 1 }, { gateways: [front] }, { sourceNamespace: other }], ${to("old")} }, { match: [{ port: 5432 }], ${to("new")} }] }`,
      ),
    );
    assert.deepEqual(leads(listenerOf(mesh, "10.11.0.20_5432")), ["else → new"]);
  });

  test("of a service's own address, destinationSubnets are known beforehand", () => {
    const mesh = meshWith(
      rules(
        `{ hosts: [db], tcp: [{ match: [{ destinationSubnets: [10.12.0.0/16] }], ${to("old")} }, { match: [{ destinationSubnets: [10.11.0.0/24] }], ${to("new")} }] }`,
      ),
    );
    assert.deepEqual(leads(listenerOf(mesh, "10.11.0.20_5432")), ["else → new"]);
  });

  test("a range of IPv6 with 32 bits is no address to listen at", () => {
    const mesh = meshWith(
      entry(
        "{ hosts: [out.example.com], addresses: ['2001:db8::/32'], resolution: NONE, ports: [{ number: 5432, name: tcp, protocol: TCP }] }",
      ),
    );
    const { listeners } = mesh.config(mesh.connect({ namespace: "coolapp" }));
    assert.ok(![...listeners.keys()].some((name) => name.startsWith("2001:")));
    assert.deepEqual(leads(listeners.get("0.0.0.0_5432")!), [
      "2001:db8::/32 → out",
      "else → PassthroughCluster",
    ]);
  });

  test("of a range, the first route for an address takes it, however narrow a later one is", () => {
    const mesh = meshWith(
      entry(
        "{ hosts: [out.example.com], addresses: [10.20.0.0/16], resolution: NONE, ports: [{ number: 5432, name: tcp, protocol: TCP }] }",
      ),
      rules(
        `{ hosts: [out.example.com], tcp: [{ match: [{ destinationSubnets: [10.20.1.0/24, 192.0.2.1] }], ${to("old")} }, { match: [{ destinationSubnets: [10.20.1.7, 10.20.0.0/17] }], ${to("new")} }] }`,
      ),
    );
    assert.deepEqual(leads(listenerOf(mesh, "0.0.0.0_5432")), [
      "10.20.1.0/24 → old",
      "10.20.0.0/17 → new",
      "10.20.0.0/16 → out",
      "else → PassthroughCluster",
    ]);
  });

  test("of a headless service's pods, those in the range", () => {
    const mesh = meshWith(
      workload("set", {
        ip: "None",
        base: "10.10.11",
        versions: ["v1", "v1"],
        ports: "[{ name: tcp, port: 6379 }]",
      }),
      rules(`{ hosts: [set], tcp: [{ match: [{ destinationSubnets: [10.10.11.2/31] }], ${to("old")} }] }`),
    );
    assert.deepEqual(leads(listenerOf(mesh, "0.0.0.0_6379")), [
      "10.10.11.2/32 → old",
      "10.10.11.1/32 → set",
      "else → PassthroughCluster",
    ]);
  });

  test("of a name without an address, any; a range that is none never matches, and its author is told", () => {
    const mesh = meshWith(
      entry(
        "{ hosts: [out.example.com], resolution: DNS, ports: [{ number: 9000, name: tcp, protocol: TCP }] }",
      ),
      rules(
        `{ hosts: [out.example.com], tcp: [{ match: [{ destinationSubnets: [nonsense] }], ${to("db")} }, { match: [{ destinationSubnets: [192.0.2.0/24], sourceLabels: { app: x } }], ${to("old")} }, { match: [{ destinationSubnets: [192.0.2.0/25] }], ${to("new")} }] }`,
      ),
    );
    assert.deepEqual(leads(listenerOf(mesh, "0.0.0.0_9000")), ["192.0.2.0/25 → new", "else → out"]);
    assert.deepEqual(leads(listenerOf(mesh, "0.0.0.0_9000", { app: "x" })), [
      "192.0.2.0/24 → old",
      "else → out",
    ]);
    assert.deepEqual(
      mesh.findings.get("VirtualService/coolapp/rules")?.map(({ code, origin }) => [code, origin.field]),
      [["WEFT0106", "spec.tcp[0].match[0].destinationSubnets"]],
    );
  });

  test("tls routes by labels and by ranges", () => {
    const mesh = meshWith(
      entry(
        "{ hosts: [a.example.com], addresses: [10.30.0.1], resolution: NONE, ports: [{ number: 443, name: tls, protocol: TLS }] }",
      ),
      rules(
        `{ hosts: [a.example.com], tls: [
          { match: [{ sniHosts: [a.example.com], destinationSubnets: [10.99.0.0/16] }], ${to("db")} },
          { match: [{ sniHosts: [a.example.com], sourceLabels: { app: x } }], ${to("old")} },
          { match: [{ sniHosts: [a.example.com], destinationSubnets: [10.30.0.0/16] }], ${to("new")} }] }`,
      ),
    );
    assert.deepEqual(leads(listenerOf(mesh, "10.30.0.1_443", { app: "x" })), [
      "a.example.com → old",
      "else → a",
    ]);
    assert.deepEqual(leads(listenerOf(mesh, "10.30.0.1_443")), ["a.example.com → new", "else → a"]);
  });
});

describe("gateways", () => {
  const gateway = (servers: string) => `
${workload("front", { namespace: "istio-system", ip: "10.11.0.80", base: "10.10.9", ports: "[{ name: tcp, port: 5432 }, { name: tls, port: 443 }, { name: http, port: 80 }]" })}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: front }
spec: { selector: { app: front }, servers: ${servers} }`;
  const tcp = "[{ port: { number: 5432, name: tcp, protocol: TCP }, hosts: ['*'] }]";
  const listener = (mesh: TestMesh, name: string): Listener | undefined =>
    mesh
      .config(mesh.connect({ namespace: "istio-system", type: "gateway", labels: { app: "front" } }))
      .listeners.get(name);

  test("tcp routes by port, labels of the gateway's pods, namespace and range, the first first", () => {
    const mesh = meshWith(
      gateway(tcp),
      rules(
        `{ hosts: ["*"], gateways: [front, mesh], tcp: [
          { match: [{ port: 1 }, { sourceLabels: { app: other } }, { gateways: [mesh] }, { sourceNamespace: other }], ${to("db")} },
          { match: [{ destinationSubnets: [10.10.9.0/24], sourceLabels: { app: front } }], ${to("old")} },
          { match: [{ port: 5432, sourceNamespace: istio-system }], ${to("new")} }] }`,
      ),
    );
    assert.deepEqual(leads(listener(mesh, "0.0.0.0_5432")!), ["10.10.9.0/24 → old", " → new"]);
  });

  test("a gateway with no route that is for it has no listener there", () => {
    const mesh = meshWith(
      gateway(tcp),
      rules(
        `{ hosts: ["*"], gateways: [front], tcp: [{ match: [{ sourceLabels: { app: other } }], ${to("db")} }] }`,
      ),
    );
    assert.equal(listener(mesh, "0.0.0.0_5432"), undefined);
  });

  test("tls routes by labels, gateway and range", () => {
    const mesh = meshWith(
      gateway(
        "[{ port: { number: 443, name: tls, protocol: TLS }, hosts: ['*'], tls: { mode: PASSTHROUGH } }]",
      ),
      rules(
        `{ hosts: ["*"], gateways: [front, mesh], tls: [
          { match: [{ sniHosts: [a.example.com], sourceLabels: { app: other } }, { sniHosts: [a.example.com], gateways: [mesh] }, { sniHosts: [a.example.com], destinationSubnets: [nonsense] }], ${to("db")} },
          { match: [{ sniHosts: [a.example.com], sourceLabels: { app: front } }], ${to("new")} }] }`,
      ),
    );
    assert.deepEqual(leads(listener(mesh, "0.0.0.0_443")!), ["a.example.com → new"]);
  });

  test("HTTP routes for clients with labels are for gateways that have them", () => {
    const mesh = meshWith(
      gateway("[{ port: { number: 80, name: http, protocol: HTTP }, hosts: ['*'] }]"),
      rules(
        `{ hosts: [x.example.com], gateways: [front], http: [{ match: [{ sourceLabels: { app: other } }], ${to("db")} }, { match: [{ sourceLabels: { app: front } }], ${to("new")} }] }`,
      ),
    );
    const config = mesh.config(
      mesh.connect({ namespace: "istio-system", type: "gateway", labels: { app: "front" } }),
    );
    assert.deepEqual(
      config.routes.get("http.80")?.virtualHosts[0]?.routes.map(({ origins }) => origins[0]?.field),
      ["spec.http[1]"],
    );
  });
});
