import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Client, localityFor } from "./locality.ts";
import type { LocalityPolicy, UpstreamEndpoints } from "./model.ts";
import { testMesh, workload } from "./testing.ts";

const endpoint = (address: string, labels?: Record<string, string>) => ({
  address,
  port: 80,
  weight: 1,
  healthy: true,
  draining: false,
  meshTls: false,
  workload: { name: "", namespace: "", service: "", revision: "", cluster: "" },
  ...(labels && { labels }),
});

const endpoints: UpstreamEndpoints = {
  name: "u",
  localities: [
    ["r1", "z1"],
    ["r1", "z2"],
    ["r2", "z1"],
    ["r3", "z1"],
  ].map(([region, zone]) => ({
    region: region!,
    zone: zone!,
    priority: 0,
    weight: 1,
    endpoints: [endpoint(`${region}${zone}`)],
  })),
};

const policy: LocalityPolicy = { failover: true, regions: [], priorityLabels: [], distribute: [] };
const client: Client = { region: "r1", zone: "z1", labels: {} };
const priorities = (of: UpstreamEndpoints) =>
  Object.fromEntries(
    of.localities.flatMap((each) => each.endpoints.map(({ address }) => [address, each.priority])),
  );

describe("a client's locality", () => {
  test("without a policy all endpoints are equal, and the same object", () => {
    assert.equal(localityFor(endpoints, undefined, client), endpoints);
  });

  test("its zone first, then its region, then the rest", () => {
    assert.deepEqual(priorities(localityFor(endpoints, policy, client)), {
      r1z1: 0,
      r1z2: 1,
      r2z1: 2,
      r3z1: 2,
    });
  });

  test("the region to fail over to comes before others", () => {
    const regions = [{ from: "r1", to: "r3" }];
    assert.deepEqual(priorities(localityFor(endpoints, { ...policy, regions }, client)), {
      r1z1: 0,
      r1z2: 1,
      r2z1: 3,
      r3z1: 2,
    });
  });

  test("priorities have no gaps, whatever is there", () => {
    const far = { ...endpoints, localities: endpoints.localities.slice(2) };
    assert.deepEqual(priorities(localityFor(far, policy, client)), { r2z1: 0, r3z1: 0 });
  });

  test("failoverPriority compares labels in their order", () => {
    const labelled: UpstreamEndpoints = {
      name: "u",
      localities: [
        {
          region: "",
          zone: "",
          priority: 0,
          weight: 3,
          endpoints: [
            endpoint("both", { version: "v1", network: "n1" }),
            endpoint("first", { version: "v1", network: "n2" }),
            endpoint("second", { version: "v2", network: "n1" }),
          ],
        },
      ],
    };
    const own: Client = { region: "", zone: "", labels: { version: "v1", network: "n1" } };
    const ordered = localityFor(labelled, { ...policy, priorityLabels: ["version", "network"] }, own);
    assert.deepEqual(priorities(ordered), { both: 0, first: 1, second: 2 });
  });

  test("distribute: shares of the localities named, nothing for the others", () => {
    const distribute = [{ from: "r1/z1/*", to: { "r1/z1/*": 80, "r1/z2/*": 20 } }];
    const { localities } = localityFor(endpoints, { ...policy, distribute }, client);
    assert.deepEqual(
      localities.map(({ region, zone, weight }) => [`${region}/${zone}`, weight]),
      [
        ["r1/z1", 80_000],
        ["r1/z2", 20_000],
      ],
    );
    assert.equal(localityFor(endpoints, { ...policy, distribute }, { ...client, region: "r9" }), endpoints);
  });

  test("nodes say where endpoints are; failover needs outlierDetection, and analysis says so", () => {
    const mesh = testMesh();
    mesh.apply(
      [
        workload("catalog", { versions: ["v1", "v1"] }),
        `
apiVersion: v1
kind: Node
metadata: { name: node-0, labels: { topology.kubernetes.io/region: r1, topology.kubernetes.io/zone: z1 } }
---
apiVersion: v1
kind: Node
metadata: { name: node-1, labels: { topology.kubernetes.io/region: r2, topology.kubernetes.io/zone: z1 } }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: catalog }
spec: { host: catalog, trafficPolicy: { loadBalancer: { localityLbSetting: { enabled: true } } } }`,
      ].join("\n---\n"),
    );
    const name = "outbound|8080||catalog.coolapp.svc.cluster.local";
    const proxy = mesh.connect({ namespace: "coolapp" });
    assert.equal(mesh.config(proxy).upstreams.get(name)?.locality, undefined);
    assert.equal(mesh.findings.get("DestinationRule/coolapp/catalog")?.[0]?.code, "WEFT0906");
    mesh.apply(`
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: catalog }
spec: { host: catalog, trafficPolicy: { outlierDetection: { interval: 1s } } }`);
    const upstream = mesh.config(proxy).upstreams.get(name)!;
    const row = mesh.endpoints.get(upstream.endpointsName)!;
    const seen = localityFor(row, upstream.locality, { region: "r2", zone: "z1", labels: {} });
    assert.deepEqual(priorities(seen), { "10.10.0.1": 1, "10.10.0.2": 0 });
  });
});
