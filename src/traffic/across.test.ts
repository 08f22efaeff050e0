/** Endpoints of other clusters: who they are, what subsets and localities make of them. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  clusterLabel,
  type EndpointSlice,
  endpointFactsAnnotation,
  type OfferedEndpoint,
  readEndpointFacts,
  writeEndpointFacts,
} from "../api/index.ts";
import { localityFor } from "./index.ts";
import { type TestMesh, testMesh, workload } from "./testing.ts";

const host = "catalog.coolapp.svc.clusterset.local";
const upstream = `outbound|8080||${host}`;

const far = (version: string, trustDomain = "c2.clusterset.local") => ({
  name: `catalog-${version}`,
  serviceAccount: "catalog",
  trustDomain,
  labels: { app: "catalog", version },
});

function slice(cluster: string, endpoints: Partial<OfferedEndpoint>[]): string {
  const facts = cluster === "c1" ? undefined : writeEndpointFacts(endpoints as OfferedEndpoint[]);
  return JSON.stringify({
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      namespace: "coolapp",
      name: `imported-${cluster}`,
      labels: {
        "multicluster.kubernetes.io/service-name": "catalog",
        "multicluster.kubernetes.io/source-cluster": cluster,
      },
      ...(facts && { annotations: { [endpointFactsAnnotation]: facts } }),
    },
    addressType: "IPv4",
    ports: [{ name: "http", port: 8080, protocol: "TCP" }],
    endpoints: endpoints.map(({ addresses, zone }) => ({ addresses, zone, conditions: { ready: true } })),
  });
}

const rule = (spec: string) => `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: catalog }
spec: { host: ${host}, ${spec} }`;

function meshWith(...yaml: string[]): TestMesh {
  const mesh = testMesh({ trustDomain: "c1.clusterset.local" });
  const node = (i: number) => `
apiVersion: v1
kind: Node
metadata: { name: node-${i}, labels: { topology.kubernetes.io/region: eu, topology.kubernetes.io/zone: eu-${i} } }`;
  const imported = `
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceImport
metadata: { name: catalog }
spec: { type: ClusterSetIP, ips: [10.11.0.77], ports: [{ name: http, port: 8080, protocol: TCP }] }`;
  mesh.apply(
    [
      workload("catalog"),
      node(0),
      imported,
      slice("c1", [{ addresses: ["10.10.0.1"] }]),
      // The address of a pod of ours, too: pods of clusters may have the same.
      slice("c2", [
        { addresses: ["10.12.0.1"], region: "us", zone: "us-1", workload: far("v1") },
        { addresses: ["10.12.0.2"], region: "us", zone: "us-1", workload: far("v2") },
        { addresses: ["10.12.0.3"], zone: "us-1" },
      ]),
      ...yaml,
    ].join("\n---\n"),
  );
  assert.deepEqual(mesh.bugs, []);
  return mesh;
}

const endpointsOf = (mesh: TestMesh, name = upstream) =>
  mesh.endpoints.get(name)!.localities.flatMap(({ endpoints }) => endpoints);
const client = { region: "eu", zone: "eu-0", labels: { [clusterLabel]: "c1" } };

describe("endpoints of other clusters", () => {
  test("who has a sidecar there is called in mTLS, as whom their own trust domain knows", () => {
    const mesh = meshWith();
    assert.deepEqual(
      endpointsOf(mesh).map(({ address, meshTls, workload: { cluster, name } }) => [
        address,
        meshTls,
        cluster,
        name,
      ]),
      [
        ["10.12.0.3", false, "c2", ""],
        ["10.10.0.1", true, "c1", "catalog-0"],
        ["10.12.0.1", true, "c2", "catalog-v1"],
        ["10.12.0.2", true, "c2", "catalog-v2"],
      ],
    );
    const { tls } = mesh.config(mesh.connect({ namespace: "coolapp" })).upstreams.get(upstream)!;
    assert.deepEqual(tls.mode === "mesh" && [tls.auto, tls.identities], [
      true,
      [
        "spiffe://c1.clusterset.local/ns/coolapp/sa/catalog",
        "spiffe://c2.clusterset.local/ns/coolapp/sa/catalog",
      ],
    ]);
  });

  test("who refuses mTLS there is called in plain text, on the ports where it does", () => {
    const workload = (more: object) => ({ ...far("v1"), ...more });
    const mesh = meshWith(
      slice("c2", [
        { addresses: ["10.12.0.1"], workload: workload({ plainText: true }) },
        { addresses: ["10.12.0.2"], workload: workload({ exceptPorts: [8080] }) },
        { addresses: ["10.12.0.3"], workload: workload({ plainText: true, exceptPorts: [8080] }) },
        { addresses: ["10.12.0.4"], workload: workload({ exceptPorts: [9000] }) },
      ]),
      rule("subsets: [{ name: v1, labels: { version: v1 } }]"),
    );
    mesh.remove("EndpointSlice", "coolapp/imported-c1");
    const wanted = [
      ["10.12.0.1", false],
      ["10.12.0.2", false],
      ["10.12.0.3", true],
      ["10.12.0.4", true],
    ];
    for (const name of [upstream, `outbound|8080|v1|${host}`])
      assert.deepEqual(
        endpointsOf(mesh, name).map(({ address, meshTls }) => [address, meshTls]),
        wanted,
      );
  });

  test("an address that is also that of a pod here is not taken for it", () => {
    const mesh = meshWith(slice("c2", [{ addresses: ["10.10.0.1"] }]));
    mesh.remove("EndpointSlice", "coolapp/imported-c1");
    assert.deepEqual(
      endpointsOf(mesh).map(({ meshTls, workload: { name, cluster } }) => [meshTls, name, cluster]),
      [[false, "", "c2"]],
    );
  });

  test("what is written beside a slice and is not of its form counts as nothing said", () => {
    for (const text of [
      "nonsense",
      "[]",
      '{"workloads":[{"name":"x"}],"endpoints":{"10.12.0.1":[0]}}',
      "null",
    ]) {
      const broken = JSON.parse(slice("c2", [{ addresses: ["10.12.0.1"] }])) as EndpointSlice;
      broken.metadata.annotations = { [endpointFactsAnnotation]: text };
      const mesh = meshWith(JSON.stringify(broken));
      assert.ok(endpointsOf(mesh).every(({ meshTls, address }) => meshTls === (address === "10.10.0.1")));
    }
  });

  test("subsets select by labels, and by cluster", () => {
    const mesh = meshWith(
      rule(
        `subsets: [{ name: v2, labels: { version: v2 } }, { name: there, labels: { ${clusterLabel}: c2 } }, { name: here, labels: { ${clusterLabel}: c1 } }]`,
      ),
    );
    const addresses = (subset: string) =>
      endpointsOf(mesh, `outbound|8080|${subset}|${host}`)
        .map(({ address }) => address)
        .sort();
    assert.deepEqual(addresses("v2"), ["10.12.0.2"]);
    assert.deepEqual(addresses("there"), ["10.12.0.1", "10.12.0.2", "10.12.0.3"]);
    assert.deepEqual(addresses("here"), ["10.10.0.1"]);
  });

  const byPriority = (mesh: TestMesh) => {
    const policy = mesh.config(mesh.connect({ namespace: "coolapp" })).upstreams.get(upstream)!.locality;
    return localityFor(mesh.endpoints.get(upstream)!, policy, client)
      .localities.flatMap(({ priority, endpoints }) => endpoints.map(({ address }) => [priority, address]))
      .sort();
  };

  test("where outliers are looked for, those of the own region come first", () => {
    const mesh = meshWith(rule("trafficPolicy: { outlierDetection: { consecutive5xxErrors: 2 } }"));
    assert.deepEqual(byPriority(mesh), [
      [0, "10.10.0.1"],
      [1, "10.12.0.1"],
      [1, "10.12.0.2"],
      [1, "10.12.0.3"],
    ]);
    mesh.remove("EndpointSlice", "coolapp/imported-c1");
    assert.ok(
      byPriority(mesh).every(([priority]) => priority === 0),
      "nobody is near: the far ones are first",
    );
  });

  test("nodes without places: the own cluster first, by failoverPriority", () => {
    const mesh = meshWith(
      rule(
        `trafficPolicy: { outlierDetection: {}, loadBalancer: { localityLbSetting: { failoverPriority: [${clusterLabel}] } } }`,
      ),
    );
    assert.deepEqual(byPriority(mesh)[0], [0, "10.10.0.1"]);
    assert.ok(
      byPriority(mesh)
        .slice(1)
        .every(([priority]) => priority === 1),
    );
  });
});

const seed = Number(process.env.WEFT_SEED ?? Date.now() % 2 ** 31);
console.log(`endpoint facts: WEFT_SEED=${seed}`);

test("what is written about endpoints is read again", () => {
  const text = fc.stringMatching(/^[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?$/);
  const workloads = fc.record(
    {
      name: text,
      serviceAccount: text,
      trustDomain: text,
      labels: fc.dictionary(fc.constantFrom("app", "version", "app.kubernetes.io/name"), text),
    },
    { requiredKeys: ["name", "serviceAccount", "trustDomain"] },
  );
  const endpoint = fc.record(
    { addresses: fc.ipV4().map((address) => [address]), region: text, workload: workloads },
    { requiredKeys: ["addresses"] },
  );
  const endpoints = fc.uniqueArray(endpoint, { selector: ({ addresses }) => addresses[0], maxLength: 20 });
  fc.assert(
    fc.property(endpoints, (all) => {
      const written = writeEndpointFacts(all);
      const read = readEndpointFacts({
        metadata: { name: "x", ...(written && { annotations: { [endpointFactsAnnotation]: written } }) },
      } as EndpointSlice);
      for (const { addresses, ...facts } of all)
        assert.deepEqual({ ...(read.get(addresses[0]!) ?? {}) }, JSON.parse(JSON.stringify(facts)));
    }),
    { seed },
  );
});
