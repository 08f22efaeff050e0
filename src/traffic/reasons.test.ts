import assert from "node:assert/strict";
import { test } from "node:test";
import { type Reason, reasons } from "./reasons.ts";
import { type TestMesh, testMesh, workload } from "./testing.ts";

const rules = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: catalog }
spec:
  hosts: [catalog]
  http:
  - match: [{ uri: { prefix: /a }, headers: { who: { exact: me } } }]
    route:
    - { destination: { host: catalog, subset: v1 }, weight: 70 }
    - { destination: { host: catalog, subset: v3 }, weight: 30 }
  - redirect: { uri: /a }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: catalog }
spec:
  host: catalog
  trafficPolicy: { loadBalancer: { simple: RANDOM } }
  subsets: [{ name: v1, labels: { version: v1 } }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: nobody }
spec: { selector: { matchLabels: { app: partner } } }
---
apiVersion: mesh.weft.dev/v1alpha1
kind: RateLimit
metadata: { name: few }
spec: { selector: { matchLabels: { app: partner } }, limits: [{ name: all, tokens: 5, interval: 1m }] }
`;

function meshWithRules(): TestMesh {
  const mesh = testMesh();
  mesh.apply(workload("catalog"));
  mesh.apply(workload("partner", { ip: "10.11.0.10", base: "10.10.1" }));
  mesh.apply(workload("db", { ip: "10.11.0.12", base: "10.10.3", ports: "[{ name: tcp, port: 5432 }]" }));
  // On a port of its own its routes are a table of its own, whatever it is called.
  mesh.apply(
    workload("front", { ip: "10.11.0.13", base: "10.10.4", ports: "[{ name: status, port: 15021 }]" }),
  );
  mesh.apply(rules);
  return mesh;
}

function why(mesh: TestMesh, host?: string): string[] {
  const proxy = mesh.connect({ namespace: "coolapp", labels: { app: "partner" } });
  const configs = mesh.scopesOf(proxy).flatMap((scope) => mesh.configs.get(scope) ?? []);
  return reasons(configs, host).map(line);
}

function line({ part, name, match, does, origins }: Reason): string {
  const made = origins.map((each) => `${each.kind}/${each.name} ${each.field}`.trim()).join(", ");
  return `${part} ${name} [${match}] ${does} <- ${made}`;
}

const host = "catalog.coolapp.svc.cluster.local";

test("of calls to a host: routes and upstreams with the fields that made them, and what is missing", () => {
  const mesh = meshWithRules();
  const expected = [
    `route 8080 ${host}:8080 [/a* who=me] outbound|8080|v1|${host} (70), outbound|8080|v3|${host} (30); there is no outbound|8080|v3|${host} <- VirtualService/catalog spec.http[0], Service/catalog`,
    `route 8080 ${host}:8080 [/*] redirects 301 <- VirtualService/catalog spec.http[1], Service/catalog`,
    `upstream outbound|8080||${host} [] random, TLS mesh <- Service/catalog, DestinationRule/catalog spec.trafficPolicy`,
    `upstream outbound|8080|v1|${host} [] random, TLS mesh <- Service/catalog, DestinationRule/catalog spec.trafficPolicy, DestinationRule/catalog spec.subsets[0]`,
  ];
  for (const name of ["catalog", "catalog:8080", "Catalog.coolapp", host])
    assert.deepEqual(why(mesh, name), expected);
  assert.deepEqual(why(mesh, "nobody.example"), []);
});

test("of calls over TCP the connection and its upstream", () => {
  const upstream = "outbound|5432||db.coolapp.svc.cluster.local";
  assert.deepEqual(why(meshWithRules(), "db:5432"), [
    `connection 10.11.0.12_5432 [] ${upstream} <- Service/db`,
    `upstream ${upstream} [] least-request, TLS mesh <- Service/db`,
  ]);
});

test("of all that a proxy does also what is asked of its own workload; every part has a reason", () => {
  const mesh = meshWithRules();
  const all = why(mesh);
  for (const own of [
    "policy ns[coolapp]-policy[nobody] [port 8080 TLS] allows nobody <- AuthorizationPolicy/nobody spec.rules",
    "limit coolapp/few/all [port 8080 TLS] 5 requests in 60s <- RateLimit/few spec.limits[0]",
    "upstream inbound|8080|| [] passthrough, plain <- Service/partner",
  ])
    assert.ok(all.includes(own), `${own}\nis not in\n${all.join("\n")}`);
  assert.ok(all.every((each) => !each.endsWith("<- ")));
});
