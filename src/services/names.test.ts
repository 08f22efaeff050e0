import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { EndpointSlice, ServiceImport } from "../api/index.ts";
import { dnsRecords, emptyName } from "./names.ts";

function import_(spec: Partial<ServiceImport["spec"]>, name = "serve"): ServiceImport {
  return {
    apiVersion: "multicluster.x-k8s.io/v1beta1",
    kind: "ServiceImport",
    metadata: { namespace: "demo", name },
    spec: { type: "ClusterSetIP", ports: [], ...spec },
  };
}

function slice(cluster: string | undefined, endpoints: EndpointSlice["endpoints"]): EndpointSlice {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      namespace: "demo",
      name: `serve-${cluster}`,
      ...(cluster && { labels: { "multicluster.kubernetes.io/source-cluster": cluster } }),
    },
    addressType: "IPv4",
    ports: [
      { name: "sql", port: 5432, protocol: "TCP" },
      { name: "", port: 9000, protocol: "UDP" },
    ],
    endpoints,
  };
}

/** Records in the form of a zone file, sorted, each once: what a zone makes of them. */
function zone(of: ServiceImport, ...slices: EndpointSlice[]): string[] {
  const lines = dnsRecords(of, () => slices).map(({ name, ttl, type, data }) => {
    const value = typeof data === "string" ? data : `${data.port} ${data.target}`;
    return `${name.replace(".demo.svc.clusterset.local", "")} ${ttl} ${type} ${value}`;
  });
  return [...new Set(lines)].sort();
}

describe("a ClusterSetIP import", () => {
  test("is found at its addresses, its named ports by SRV", () => {
    const ports = [
      { name: "http", port: 80 },
      { name: "dns", port: 53, protocol: "UDP" as const },
      { port: 8080 },
    ];
    assert.deepEqual(zone(import_({ ips: ["10.11.0.5", "fd00::5"], ports })), [
      "_dns._udp.serve 30 SRV 53 serve.demo.svc.clusterset.local",
      "_dns._udp.serve 4 A 10.11.0.5",
      "_dns._udp.serve 4 AAAA fd00::5",
      "_http._tcp.serve 30 SRV 80 serve.demo.svc.clusterset.local",
      "_http._tcp.serve 4 A 10.11.0.5",
      "_http._tcp.serve 4 AAAA fd00::5",
      "serve 30 SRV 53 serve.demo.svc.clusterset.local",
      "serve 30 SRV 80 serve.demo.svc.clusterset.local",
      "serve 4 A 10.11.0.5",
      "serve 4 AAAA fd00::5",
    ]);
  });

  test("has no name before it has an address", () => {
    assert.deepEqual(zone(import_({ ports: [{ name: "http", port: 80 }] })), []);
  });

  test("whose name is no DNS label has none", () => {
    assert.deepEqual(zone(import_({ ips: ["10.11.0.5"] }, "a.b")), []);
  });
});

describe("a headless import", () => {
  const headless = import_({ type: "Headless" });

  test("is found at its ready endpoints, each of them by its hostname and cluster", () => {
    const endpoints = [
      { addresses: ["10.10.0.7"], hostname: "db-0" },
      { addresses: ["10.10.0.8"], hostname: "db-1", conditions: { ready: false } },
    ];
    assert.deepEqual(zone(headless, slice("c1", endpoints)), [
      "_sql._tcp.serve 4 A 10.10.0.7",
      "_sql._tcp.serve 4 SRV 5432 db-0.c1.serve.demo.svc.clusterset.local",
      "db-0.c1.serve 4 A 10.10.0.7",
      "serve 4 A 10.10.0.7",
      "serve 4 SRV 5432 db-0.c1.serve.demo.svc.clusterset.local",
    ]);
  });

  test("has an SRV record for every ready endpoint and named port, of all clusters", () => {
    const twoPorts = (of: EndpointSlice): EndpointSlice => ({
      ...of,
      ports: [...(of.ports ?? []), { name: "admin", port: 8080, protocol: "TCP" }],
    });
    const pods = ["10.0.0.1", "10.0.0.2"].map((ip, i) => ({ addresses: [ip], hostname: `db-${i}` }));
    const lines = zone(headless, twoPorts(slice("c1", pods)), twoPorts(slice("c2", pods)));
    const named = lines.filter((line) => /^_\w+\._tcp.* SRV /.test(line));
    assert.equal(named.length, 4 * 2);
    assert.equal(new Set(named.map((line) => line.split(" ").at(-1))).size, 4);
    assert.ok(!lines.some((line) => line.includes("_udp")), "the port without a name has none");
  });

  test("of two families has both for every endpoint", () => {
    const six: EndpointSlice = {
      ...slice("c1", [{ addresses: ["fd00::7"], hostname: "db-0" }]),
      addressType: "IPv6",
    };
    const lines = zone(headless, slice("c1", [{ addresses: ["10.10.0.7"], hostname: "db-0" }]), six);
    for (const name of ["serve", "db-0.c1.serve"]) {
      assert.ok(lines.includes(`${name} 4 A 10.10.0.7`) && lines.includes(`${name} 4 AAAA fd00::7`), name);
    }
  });

  test("never has a name that stands for a cluster", () => {
    const lines = zone(headless, slice("c1", [{ addresses: ["10.10.0.7"] }]));
    assert.ok(!lines.some((line) => line.startsWith("c1.serve ")));
  });

  test("names an endpoint without a hostname after its address", () => {
    const records = zone(headless, slice("east.prod", [{ addresses: ["10.10.0.7"] }]));
    assert.ok(
      records.includes("10-10-0-7.east.prod.serve 4 A 10.10.0.7"),
      "a cluster's id may be two labels",
    );
    const six = zone(headless, slice("c1", [{ addresses: ["fd00::"] }]));
    assert.ok(six.includes("fd00--0.c1.serve 4 AAAA fd00::"), "a label does not end in a dash");
  });

  test("with slices of nobody knows which cluster has its common name only", () => {
    assert.deepEqual(zone(headless, slice(undefined, [{ addresses: ["10.10.0.7"], hostname: "db-0" }])), [
      "serve 4 A 10.10.0.7",
    ]);
  });

  test("without a ready endpoint has no name", () => {
    assert.deepEqual(
      zone(headless, slice("c1", [{ addresses: ["10.1.1.1"], conditions: { ready: false } }])),
      [],
    );
  });
});

test("svc and the namespaces that there are exist without a record; nothing else does", () => {
  const exists = (name: string) => name === "demo";
  const names = ["svc", "demo.svc", "other.svc", "pod", "demo.pod", "serve.demo.svc"];
  assert.deepEqual(
    names.filter((name) => emptyName(`${name}.clusterset.local`, exists)),
    ["svc", "demo.svc"],
  );
  assert.equal(emptyName("demo.svc.cluster.local", exists), undefined);
});
