/** Laws 3 to 6 for traffic: random histories of its kinds, and what a change evaluates. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { KubeObject } from "../api/index.ts";
import type { Proxy as MeshProxy } from "./model.ts";
import { objectsOf, type TestMesh, testMesh, workload } from "./testing.ts";

/** Objects that histories put and remove; several of one name are versions of one object. */
const pool: KubeObject[] = objectsOf(
  [
    workload("catalog", { versions: ["v1", "v2"] }),
    workload("catalog", { versions: ["v1", "v2", "v2"], sidecar: false }),
    workload("catalog", { versions: ["v1"], ports: "[{ port: 9000 }, { name: http, port: 8080 }]" }),
    workload("db", { ip: "10.11.0.20", base: "10.10.5", ports: "[{ name: tcp, port: 5432 }]" }),
    workload("shop", { namespace: "other", ip: "10.11.0.30", base: "10.10.6" }),
    workload("istio-ingressgateway", {
      namespace: "istio-system",
      ip: "10.11.0.80",
      base: "10.10.7",
      ports: "[{ name: http, port: 80, targetPort: 8080 }, { name: https, port: 443, targetPort: 8443 }]",
    }),
    `
apiVersion: v1
kind: Namespace
metadata: { name: other, labels: { maistra.io/member-of: istio-system } }
---
apiVersion: v1
kind: Namespace
metadata: { name: other }
---
apiVersion: v1
kind: Node
metadata: { name: node-0, labels: { topology.kubernetes.io/region: r1, topology.kubernetes.io/zone: z1 } }
---
apiVersion: v1
kind: Node
metadata: { name: node-1, labels: { topology.kubernetes.io/region: r1, topology.kubernetes.io/zone: z2 } }
---
kind: VirtualService
metadata: { name: catalog, creationTimestamp: "2026-01-01T00:00:00Z" }
spec:
  hosts: [catalog]
  http:
  - match: [{ uri: { prefix: /a }, sourceLabels: { app: shop } }, { headers: { x: { regex: "a(" } } }]
    route: [{ destination: { host: catalog, subset: v2 } }]
  - route: [{ destination: { host: catalog, subset: v1, port: { number: 8080 } }, weight: 70 }, { destination: { host: catalog, subset: v2 }, weight: 30 }]
---
kind: VirtualService
metadata: { name: catalog }
spec: { hosts: [catalog, "x.example.com"], exportTo: ["."], http: [{ route: [{ destination: { host: db } }] }] }
---
kind: VirtualService
metadata: { name: rival, creationTimestamp: "2026-02-01T00:00:00Z" }
spec: { hosts: [catalog.coolapp.svc.cluster.local, "*.example.com"], gateways: [mesh, istio-system/main], http: [{ timeout: 5s, route: [{ destination: { host: shop.other.svc.cluster.local } }] }] }
---
kind: VirtualService
metadata: { name: rival, namespace: other }
spec: { hosts: ["*.coolapp.svc.cluster.local"], http: [{ delegate: { name: part, namespace: coolapp } }] }
---
kind: VirtualService
metadata: { name: part }
spec: { http: [{ fault: { abort: { httpStatus: 500, percentage: { value: 10 } } }, route: [{ destination: { host: catalog } }] }] }
---
kind: DestinationRule
metadata: { name: catalog }
spec:
  host: catalog
  trafficPolicy: { loadBalancer: { consistentHash: { httpHeaderName: x-user } }, outlierDetection: { interval: 1s } }
  subsets: [{ name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 }, trafficPolicy: { tls: { mode: DISABLE } } }]
---
kind: DestinationRule
metadata: { name: catalog }
spec: { host: catalog, exportTo: ["."], subsets: [{ name: v1, labels: { version: v1 } }] }
---
kind: DestinationRule
metadata: { name: mine, namespace: other }
spec: { host: "*.coolapp.svc.cluster.local", subsets: [{ name: v1, labels: { version: v2 } }] }
---
kind: Gateway
metadata: { name: main, namespace: istio-system }
spec: { selector: { app: istio-ingressgateway }, servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: ["*.example.com"], tls: { httpsRedirect: true } }, { port: { number: 443, name: https, protocol: HTTPS }, hosts: ["coolapp/*"], tls: { mode: SIMPLE, credentialName: cert } }] }
---
kind: Gateway
metadata: { name: main, namespace: istio-system }
spec: { selector: { app: istio-ingressgateway }, servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: ["*"] }] }
---
kind: ServiceEntry
metadata: { name: out }
spec: { hosts: [out.example.com, "*.wild.example.com"], resolution: NONE, ports: [{ number: 443, name: tls, protocol: TLS }, { number: 80, name: http, protocol: HTTP }] }
---
kind: ServiceEntry
metadata: { name: out }
spec: { hosts: [out.example.com], exportTo: ["."], resolution: DNS, ports: [{ number: 80, name: http, protocol: HTTP }] }
---
kind: ServiceEntry
metadata: { name: vm, namespace: other }
spec: { hosts: [vm.example.com], location: MESH_INTERNAL, addresses: [240.0.0.1], resolution: STATIC, workloadSelector: { labels: { app: shop } }, ports: [{ number: 9000, name: tcp, protocol: TCP }] }
---
kind: Sidecar
metadata: { name: default }
spec: { egress: [{ hosts: ["./*", "istio-system/*"] }], outboundTrafficPolicy: { mode: REGISTRY_ONLY } }
---
kind: Sidecar
metadata: { name: own }
spec: { workloadSelector: { labels: { app: catalog } }, egress: [{ hosts: ["*/db.coolapp.svc.cluster.local"] }] }
---
kind: PeerAuthentication
metadata: { name: default }
spec: { mtls: { mode: STRICT } }
---
kind: PeerAuthentication
metadata: { name: catalog }
spec: { selector: { matchLabels: { app: catalog } }, mtls: { mode: STRICT }, portLevelMtls: { "8080": { mode: DISABLE } } }
---
kind: PeerAuthentication
metadata: { name: default, namespace: istio-system }
spec: { mtls: { mode: DISABLE } }
---
kind: AuthorizationPolicy
metadata: { name: nothing }
spec: {}
---
kind: AuthorizationPolicy
metadata: { name: some }
spec: { selector: { matchLabels: { app: catalog } }, action: DENY, rules: [{ from: [{ source: { namespaces: [other] } }], to: [{ operation: { methods: [POST] } }] }] }
---
kind: RateLimit
metadata: { name: limits }
spec: { limits: [{ name: all, tokens: 10, interval: 1s }] }
`,
  ].join("\n---\n"),
);

const proxies: (Partial<MeshProxy> & { id: string; namespace: string })[] = [
  {
    id: "sidecar~10.10.0.1~catalog-0.coolapp~x",
    namespace: "coolapp",
    labels: { app: "catalog", version: "v1" },
  },
  { id: "sidecar~10.10.6.1~shop-0.other~x", namespace: "other", labels: { app: "shop", version: "v1" } },
  {
    id: "router~10.10.7.1~istio-ingressgateway-0.istio-system~x",
    type: "gateway",
    namespace: "istio-system",
    labels: { app: "istio-ingressgateway" },
  },
];

/** All rows of the outputs, as plain data. */
function stateOf(mesh: TestMesh): unknown {
  return Object.fromEntries(
    [mesh.scopes, mesh.configs, mesh.endpoints, mesh.findings].map((collection) => [
      collection.name,
      new Map([...collection.entries()].sort(([a], [b]) => (a < b ? -1 : 1)) as [string, unknown][]),
    ]),
  );
}

type Step =
  | { kind: "put" | "remove"; object: number }
  | { kind: "connect"; proxy: number }
  | { kind: "disconnect"; proxy: number };

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({ kind: fc.constant("put" as const), object: fc.nat(pool.length - 1) }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant("remove" as const), object: fc.nat(pool.length - 1) }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant("connect" as const), proxy: fc.nat(proxies.length - 1) }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant("disconnect" as const), proxy: fc.nat(proxies.length - 1) }),
    },
  ),
  { minLength: 5, maxLength: 40 },
);

describe("the laws, for traffic", () => {
  test("law 3: after any history it holds what a fresh engine makes of the same objects", () => {
    fc.assert(
      fc.property(steps, (history) => {
        const mesh = testMesh();
        const objects = new Map<string, KubeObject>();
        const connected = new Set<number>();
        for (const step of history) {
          if ("object" in step) {
            const object = pool[step.object]!;
            const { namespace, name } = object.metadata;
            const key = namespace ? `${namespace}/${name}` : name;
            if (step.kind === "put") mesh.put(object);
            else mesh.remove(object.kind, key);
            if (step.kind === "put") objects.set(`${object.kind} ${key}`, object);
            else objects.delete(`${object.kind} ${key}`);
            if (step.kind === "remove" && object.kind === "Namespace") mesh.put(object);
            if (step.kind === "remove" && object.kind === "Namespace")
              objects.set(`${object.kind} ${key}`, object);
          } else if (step.kind === "connect") {
            mesh.connect(proxies[step.proxy]!);
            connected.add(step.proxy);
          } else {
            mesh.disconnect({ id: proxies[step.proxy]!.id } as Parameters<TestMesh["disconnect"]>[0]);
            connected.delete(step.proxy);
          }
        }
        const fresh = testMesh();
        fresh.put(...objects.values());
        for (const i of connected) fresh.connect(proxies[i]!);
        assert.deepEqual(mesh.bugs, []);
        assert.deepEqual(stateOf(mesh), stateOf(fresh));
      }),
      {
        numRuns: Number(process.env.WEFT_RUNS ?? 60),
        ...(process.env.FC_SEED && { seed: Number(process.env.FC_SEED) }),
      },
    );
  });

  test("every upstream of a config that has endpoints has its row; names in a table are not taken twice", () => {
    fc.assert(
      fc.property(fc.subarray(pool), (objects) => {
        const mesh = testMesh();
        mesh.put(...objects);
        for (const proxy of proxies) mesh.connect(proxy);
        for (const config of mesh.configs.values()) {
          for (const upstream of config.upstreams.values())
            if (upstream.discovery === "endpoints")
              assert.ok(mesh.endpoints.get(upstream.endpointsName), upstream.endpointsName);
          for (const table of config.routes.values()) {
            const domains = table.virtualHosts.flatMap((host) => host.domains);
            assert.equal(new Set(domains).size, domains.length);
          }
          const asked = new Set<string>();
          for (const listener of config.listeners.values()) {
            const matches = listener.chains.map(({ match }) => JSON.stringify(match));
            assert.equal(new Set(matches).size, matches.length, listener.name);
            for (const { handler } of listener.chains)
              if (handler.kind === "http" && typeof handler.routes === "string") {
                assert.ok(config.routes.has(handler.routes), `${listener.name} ${handler.routes}`);
                asked.add(handler.routes);
              }
          }
          assert.deepEqual([...asked].sort(), [...config.routes.keys()].sort());
        }
      }),
      { numRuns: 60 },
    );
  });

  test("law 4: an endpoint's change evaluates its slice, its service and its upstreams' rows, whatever else there is", () => {
    const evaluatedWith = (services: number): number => {
      const mesh = testMesh();
      for (let i = 0; i < services; i++) {
        const base = `10.12.${i}`;
        mesh.apply(workload(`s${i}`, { base, ip: `10.11.1.${i}`, versions: ["v1", "v2"] }));
      }
      mesh.apply(`
kind: DestinationRule
metadata: { name: s0 }
spec: { host: s0, subsets: [{ name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 } }] }`);
      for (const proxy of proxies) mesh.connect(proxy);
      const slice = objectsOf(workload("s0", { base: "10.12.0", versions: ["v1", "v2"] })).at(-1)!;
      const before = mesh.engine.work.evaluated;
      const changes: string[] = [];
      mesh.endpoints.subscribe((all) => changes.push(...all.map(({ key }) => key)));
      mesh.configs.subscribe((all) => changes.push(...all.map(({ key }) => key)));
      const changed = structuredClone(slice) as KubeObject & {
        endpoints: { conditions: { ready: boolean } }[];
      };
      changed.endpoints[1]!.conditions.ready = false;
      mesh.put(changed);
      assert.deepEqual(changes.sort(), [
        "outbound|8080|v2|s0.coolapp.svc.cluster.local",
        "outbound|8080||s0.coolapp.svc.cluster.local",
      ]);
      return mesh.engine.work.evaluated - before;
    };
    const few = evaluatedWith(2);
    assert.equal(evaluatedWith(40), few);
    assert.ok(few <= 9, `${few} evaluations`);
  });

  test("law 4: a VirtualService's change keeps every other virtual host, listener and upstream as the same object", () => {
    const mesh = testMesh();
    for (const name of ["a", "b", "c"])
      mesh.apply(
        workload(name, { base: `10.12.${name.charCodeAt(0)}`, ip: `10.11.2.${name.charCodeAt(0)}` }),
      );
    const client = mesh.connect(proxies[0]!);
    const before = mesh.config(client);
    mesh.apply(`
kind: VirtualService
metadata: { name: b }
spec: { hosts: [b], http: [{ timeout: 3s, route: [{ destination: { host: c } }] }] }`);
    const after = mesh.config(client);
    const hosts = (config: typeof before) => config.routes.get("8080")!.virtualHosts;
    for (const [i, host] of hosts(before).entries())
      assert.equal(hosts(after)[i] === host, host.name !== "b.coolapp.svc.cluster.local:8080", host.name);
    for (const [name, listener] of before.listeners) assert.equal(after.listeners.get(name), listener);
    for (const [name, upstream] of before.upstreams) assert.equal(after.upstreams.get(name), upstream);
  });
});
