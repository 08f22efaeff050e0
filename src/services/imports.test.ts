import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { EndpointOffer, Service, ServiceImport, ServiceOffer } from "../api/index.ts";
import { derivedServiceOf, handWrittenFields, serviceImportOf } from "./imports.ts";
import { mergeOffers } from "./merge.ts";
import { importedSlice } from "./slices.ts";

function offer(spec: Partial<ServiceOffer["spec"]> = {}): ServiceOffer {
  return {
    apiVersion: "offer.weft.dev/v1alpha1",
    kind: "ServiceOffer",
    metadata: { namespace: "demo", name: "serve" },
    spec: {
      cluster: "c2",
      type: "ClusterSetIP",
      ports: [{ protocol: "TCP", port: 80 }],
      exportedAt: "2026-01-01T00:00:00Z",
      ...spec,
    },
  };
}

function derived(clusterIPs: string[], ours = true): Service {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: {
      namespace: "demo",
      name: "derived-ovtkn0laet",
      ...(ours && { annotations: { "weft.dev/managed-by": "weft" } }),
    },
    spec: { clusterIP: clusterIPs[0] ?? "", clusterIPs },
  };
}

const import_ = (spec: Partial<ServiceImport["spec"]> = {}, ours = true): ServiceImport => ({
  apiVersion: "multicluster.x-k8s.io/v1beta1",
  kind: "ServiceImport",
  metadata: {
    namespace: "demo",
    name: "serve",
    ...(ours && { labels: { "app.kubernetes.io/managed-by": "weft" } }),
  },
  spec: { type: "ClusterSetIP", ports: [{ protocol: "TCP", port: 80 }], ...spec },
});

describe("the families of an import", () => {
  const cases: [string, string[][], string[], string[], string][] = [
    [
      "endpoints of one family: its address of that family",
      [["IPv4"]],
      ["10.11.0.5", "fd00::5"],
      ["10.11.0.5"],
      "True/Ready",
    ],
    [
      "endpoints of both: both, in the cluster's order",
      [["IPv4", "IPv6"]],
      ["fd00::5", "10.11.0.5"],
      ["fd00::5", "10.11.0.5"],
      "True/Ready",
    ],
    [
      "what all clusters have, where one has less",
      [["IPv4", "IPv6"], ["IPv6"]],
      ["10.11.0.5", "fd00::5"],
      ["fd00::5"],
      "True/Ready",
    ],
    ["none here of those that the endpoints have", [["IPv4"]], ["fd00::5"], [], "False/IPFamilyNotSupported"],
    ["no address yet", [["IPv4"]], [], [], "False/Pending"],
    ["an offer that says nothing is of IPv4", [[]], ["10.11.0.5"], ["10.11.0.5"], "True/Ready"],
  ];
  for (const [what, offered, allocated, shown, ready] of cases) {
    test(what, () => {
      const offers = offered.map((ipFamilies, i) => offer({ cluster: `c${i}`, ipFamilies }));
      const { spec, status } = serviceImportOf(mergeOffers(offers), undefined, derived(allocated));
      assert.deepEqual(spec.ips ?? [], shown);
      assert.deepEqual(
        spec.ipFamilies ?? [],
        shown.map((ip) => (ip.includes(":") ? "IPv6" : "IPv4")),
      );
      const [condition] = status.conditions;
      assert.equal(`${condition?.status}/${condition?.reason}`, ready);
    });
  }

  test("written by hand, they say which addresses are filled in", () => {
    const fields = handWrittenFields(
      import_({ ipFamilies: ["IPv6"] }, false),
      derived(["10.11.0.5", "fd00::5"]),
      true,
    );
    assert.deepEqual(fields?.spec, { ips: ["fd00::5"] });
    assert.equal(fields.status.endpointSliceObjects, "Present");
  });
});

test("the derived Service asks for both families where there are both", () => {
  const spec = derivedServiceOf(import_(), undefined)?.spec;
  assert.equal(spec?.ipFamilyPolicy, "PreferDualStack");
  assert.equal(spec.ipFamilies, undefined);
});

describe("hints for kube-proxy", () => {
  const endpoints: EndpointOffer = {
    apiVersion: "offer.weft.dev/v1alpha1",
    kind: "EndpointOffer",
    metadata: { namespace: "demo", name: "serve-abc" },
    spec: {
      cluster: "c2",
      service: "serve",
      addressType: "IPv4",
      ports: [{ protocol: "TCP", port: 8080 }],
      endpoints: [
        { addresses: ["10.12.0.7"], ready: true, serving: true, terminating: false, zone: "z1" },
        { addresses: ["10.12.0.8"], ready: false, serving: true, terminating: true, zone: "z1" },
        { addresses: ["10.12.0.9"], ready: true, serving: true, terminating: false },
      ],
    },
  };
  const hints = (spec: Partial<ServiceImport["spec"]>) =>
    importedSlice(endpoints, import_(spec), offer(), "c1")?.endpoints.map(
      (endpoint) => (endpoint.hints as { forZones?: { name: string }[] } | undefined)?.forZones?.[0]?.name,
    );

  test("name an endpoint's own zone where traffic is to stay near", () => {
    assert.deepEqual(hints({ trafficDistribution: "PreferClose" }), ["z1", undefined, undefined]);
  });
  test("are not there otherwise", () => {
    assert.deepEqual(hints({}), [undefined, undefined, undefined]);
  });
});
