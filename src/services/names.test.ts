import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { EndpointSlice, ServiceImport } from "../api/index.ts";
import { dnsRecords } from "./names.ts";

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

/** Records in the form of a zone file. */
function zone(of: ServiceImport, ...slices: EndpointSlice[]): string[] {
  return dnsRecords(of, () => slices).map(({ name, ttl, type, data }) => {
    const value = typeof data === "string" ? data : `${data.port} ${data.target}`;
    return `${name} ${ttl} ${type} ${value}`;
  });
}

describe("a ClusterSetIP import", () => {
  test("is found at its addresses, its named ports by SRV", () => {
    const ports = [
      { name: "http", port: 80 },
      { name: "dns", port: 53, protocol: "UDP" as const },
      { port: 8080 },
    ];
    assert.deepEqual(zone(import_({ ips: ["10.11.0.5", "fd00::5"], ports })), [
      "serve.demo.svc.clusterset.local 4 A 10.11.0.5",
      "serve.demo.svc.clusterset.local 4 AAAA fd00::5",
      "_http._tcp.serve.demo.svc.clusterset.local 30 SRV 80 serve.demo.svc.clusterset.local",
      "_dns._udp.serve.demo.svc.clusterset.local 30 SRV 53 serve.demo.svc.clusterset.local",
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
      "serve.demo.svc.clusterset.local 4 A 10.10.0.7",
      "db-0.c1.serve.demo.svc.clusterset.local 4 A 10.10.0.7",
      "_sql._tcp.serve.demo.svc.clusterset.local 30 SRV 5432 db-0.c1.serve.demo.svc.clusterset.local",
    ]);
  });

  test("names an endpoint without a hostname after its address", () => {
    const records = zone(headless, slice("east.prod", [{ addresses: ["10.10.0.7"] }]));
    assert.equal(records[1], "10-10-0-7.east.prod.serve.demo.svc.clusterset.local 4 A 10.10.0.7");
    const six = zone(headless, slice("c1", [{ addresses: ["fd00::"] }]));
    assert.match(six[1] ?? "", /^fd00--0\.c1\./, "a label does not end in a dash");
  });

  test("with slices of nobody knows which cluster has its common name only", () => {
    assert.deepEqual(zone(headless, slice(undefined, [{ addresses: ["10.10.0.7"], hostname: "db-0" }])), [
      "serve.demo.svc.clusterset.local 4 A 10.10.0.7",
    ]);
  });

  test("without a ready endpoint has no name", () => {
    assert.deepEqual(
      zone(headless, slice("c1", [{ addresses: ["10.1.1.1"], conditions: { ready: false } }])),
      [],
    );
  });
});
