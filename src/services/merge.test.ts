import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { OfferedPort, ServiceOffer } from "../api/index.ts";
import { mergeOffers } from "./merge.ts";

const http: OfferedPort = { name: "http", protocol: "TCP", port: 80 };

function offer(cluster: string, spec: Partial<ServiceOffer["spec"]> = {}): ServiceOffer {
  return {
    apiVersion: "offer.weft.dev/v1alpha1",
    kind: "ServiceOffer",
    metadata: { namespace: "demo", name: "serve" },
    spec: { cluster, type: "ClusterSetIP", ports: [http], exportedAt: "2026-01-01T00:00:00Z", ...spec },
  };
}

const later = { exportedAt: "2026-01-01T00:00:01Z" };

describe("merging offers", () => {
  test("clusters that agree have no conflict", () => {
    const merged = mergeOffers([offer("c2"), offer("c1")]);
    assert.deepEqual(merged.conflicts, []);
    assert.deepEqual(merged.clusters, ["c1", "c2"]);
    assert.deepEqual(merged.ports, [http]);
  });

  const cases: {
    says: string;
    older: Partial<ServiceOffer["spec"]>;
    newer: Partial<ServiceOffer["spec"]>;
    conflicts: string[];
    gives: Record<string, unknown>;
  }[] = [
    {
      says: "of two types the oldest counts",
      older: { type: "Headless" },
      newer: {},
      conflicts: [
        'TypeConflict: Conflicting type. Using "Headless" from oldest service export in "c9". 1/2 clusters disagree.',
      ],
      gives: { type: "Headless" },
    },
    {
      says: "ports are united",
      older: {},
      newer: { ports: [http, { name: "admin", protocol: "TCP", port: 8080 }] },
      conflicts: [
        'PortConflict: Conflicting ports. Using http 80/TCP, admin 8080/TCP, merged with precedence to the oldest service export in "c9". 1/2 clusters disagree.',
      ],
      gives: { ports: [http, { name: "admin", protocol: "TCP", port: 8080 }] },
    },
    {
      says: "of two ports of one name the oldest export's counts",
      older: {},
      newer: { ports: [{ ...http, port: 81 }] },
      conflicts: [
        'PortConflict: Conflicting ports. Using http 80/TCP, merged with precedence to the oldest service export in "c9". 1/2 clusters disagree.',
      ],
      gives: { ports: [http] },
    },
    {
      says: "of two names of one port the oldest export's counts",
      older: { ports: [{ protocol: "TCP", port: 80 }] },
      newer: {},
      conflicts: [
        'PortConflict: Conflicting ports. Using 80/TCP, merged with precedence to the oldest service export in "c9". 1/2 clusters disagree.',
      ],
      gives: { ports: [{ protocol: "TCP", port: 80 }] },
    },
    {
      says: "an unnamed port conflicts with another unnamed port",
      older: { ports: [{ protocol: "TCP", port: 80 }] },
      newer: { ports: [{ protocol: "TCP", port: 81 }] },
      conflicts: [
        'PortConflict: Conflicting ports. Using 80/TCP, merged with precedence to the oldest service export in "c9". 1/2 clusters disagree.',
      ],
      gives: { ports: [{ protocol: "TCP", port: 80 }] },
    },
    {
      says: "the same number over TCP and UDP is two ports",
      older: { ports: [{ name: "dns", protocol: "UDP", port: 53 }] },
      newer: { ports: [{ name: "dns-tcp", protocol: "TCP", port: 53 }] },
      conflicts: [
        'PortConflict: Conflicting ports. Using dns 53/UDP, dns-tcp 53/TCP, merged with precedence to the oldest service export in "c9". 1/2 clusters disagree.',
      ],
      gives: {},
    },
    {
      says: "ports in another order are the same ports",
      older: { ports: [http, { name: "admin", protocol: "TCP", port: 8080 }] },
      newer: { ports: [{ name: "admin", protocol: "TCP", port: 8080 }, http] },
      conflicts: [],
      gives: {},
    },
    {
      says: "of two affinities the oldest counts",
      older: { sessionAffinity: "ClientIP", sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } } },
      newer: { sessionAffinity: "None" },
      conflicts: [
        'SessionAffinityConflict: Conflicting sessionAffinity. Using "ClientIP" from oldest service export in "c9". 1/2 clusters disagree.',
        'SessionAffinityConfigConflict: Conflicting sessionAffinityConfig. Using {"clientIP":{"timeoutSeconds":60}} from oldest service export in "c9". 1/2 clusters disagree.',
      ],
      gives: { sessionAffinity: "ClientIP", sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } } },
    },
    {
      says: "no affinity given is None",
      older: {},
      newer: { sessionAffinity: "None" },
      conflicts: [],
      gives: { sessionAffinity: "None" },
    },
    {
      says: "affinity means nothing for a headless service",
      older: { type: "Headless", sessionAffinity: "ClientIP" },
      newer: { type: "Headless" },
      conflicts: [],
      gives: { sessionAffinity: undefined },
    },
    {
      says: "labels are the oldest export's as a whole",
      older: { exportedLabels: { a: "1" } },
      newer: { exportedLabels: { a: "1", b: "2" } },
      conflicts: [
        'LabelsConflict: Conflicting exportedLabels. Using {"a":"1"} from oldest service export in "c9". 1/2 clusters disagree.',
      ],
      gives: { labels: { a: "1" } },
    },
    {
      says: "annotations are the oldest export's as a whole",
      older: {},
      newer: { exportedAnnotations: { b: "2" } },
      conflicts: [
        'AnnotationsConflict: Conflicting exportedAnnotations. Using {} from oldest service export in "c9". 1/2 clusters disagree.',
      ],
      gives: { annotations: {} },
    },
    {
      says: "of two traffic policies the oldest counts",
      older: { internalTrafficPolicy: "Cluster" },
      newer: { internalTrafficPolicy: "Local", trafficDistribution: "PreferClose" },
      conflicts: [
        'InternalTrafficPolicyConflict: Conflicting internalTrafficPolicy. Using "Cluster" from oldest service export in "c9". 1/2 clusters disagree.',
        'TrafficDistributionConflict: Conflicting trafficDistribution. Using none from oldest service export in "c9". 1/2 clusters disagree.',
      ],
      gives: { internalTrafficPolicy: "Cluster", trafficDistribution: undefined },
    },
    {
      says: "families that all have are no conflict",
      older: { ipFamilies: ["IPv4", "IPv6"] },
      newer: { ipFamilies: ["IPv4"] },
      conflicts: [],
      gives: { ipFamilies: ["IPv4"] },
    },
    {
      says: "families that leave a cluster out are a conflict",
      older: { ipFamilies: ["IPv4"] },
      newer: { ipFamilies: ["IPv6"] },
      conflicts: [
        'IPFamilyConflict: Conflicting ipFamilies. Using ["IPv4"] from oldest service export in "c9". 1/2 clusters disagree.',
      ],
      gives: { ipFamilies: ["IPv4"] },
    },
  ];
  for (const { says, older, newer, conflicts, gives } of cases) {
    test(says, () => {
      // The older export is in the cluster whose name comes last: age counts, not the name.
      const merged = mergeOffers([offer("c1", { ...newer, ...later }), offer("c9", older)]);
      assert.deepEqual(
        merged.conflicts.map(({ reason, message }) => `${reason}: ${message}`),
        conflicts,
      );
      for (const [field, value] of Object.entries(gives)) {
        assert.deepEqual((merged as unknown as Record<string, unknown>)[field], value, field);
      }
    });
  }

  test("exports of the same second are ranked by their clusters' names", () => {
    const merged = mergeOffers([offer("b", { type: "Headless" }), offer("a")]);
    assert.equal(merged.type, "ClusterSetIP");
  });

  const aPort = fc.record({
    name: fc.constantFrom("", "a", "b", "c"),
    protocol: fc.constantFrom("TCP" as const, "UDP" as const),
    port: fc.integer({ min: 1, max: 4 }),
  });
  const anOffer = fc.record(
    {
      type: fc.constantFrom("ClusterSetIP" as const, "Headless" as const),
      ports: fc.array(aPort, { maxLength: 4 }),
      exportedAt: fc.constantFrom("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", "2025-12-31T23:59:59Z"),
      sessionAffinity: fc.constantFrom("None" as const, "ClientIP" as const),
      exportedLabels: fc.constantFrom<Record<string, string>>({}, { a: "1" }, { a: "2" }),
      ipFamilies: fc.constantFrom<string[]>(["IPv4"], ["IPv6"], ["IPv4", "IPv6"]),
    },
    { noNullPrototype: true },
  );
  const offersOfClusters = fc
    .array(anOffer, { minLength: 1, maxLength: 5 })
    .map((specs) => specs.map((spec, i) => offer(`c${i}`, spec)));

  test("the order in which offers are heard makes no difference", () => {
    fc.assert(
      fc.property(
        offersOfClusters.chain((all) =>
          fc.tuple(fc.constant(all), fc.shuffledSubarray(all, { minLength: all.length })),
        ),
        ([all, shuffled]) => assert.deepEqual(mergeOffers(shuffled), mergeOffers(all)),
      ),
    );
  });

  test("names of ports, and protocols with numbers, are unique; no port is invented", () => {
    fc.assert(
      fc.property(offersOfClusters, (all) => {
        const { ports } = mergeOffers(all);
        assert.equal(new Set(ports.map(({ name }) => name ?? "")).size, ports.length);
        assert.equal(new Set(ports.map(({ protocol, port }) => `${protocol}${port}`)).size, ports.length);
        const offered = all.flatMap(({ spec }) => spec.ports);
        for (const port of ports) assert.ok(offered.includes(port));
      }),
    );
  });

  test("there is a conflict exactly when the clusters do not all offer the same", () => {
    fc.assert(
      fc.property(anOffer, anOffer, (a, b) => {
        const alone = mergeOffers([offer("c1", a), offer("c2", { ...a, exportedAt: b.exportedAt })]);
        assert.deepEqual(alone.conflicts, []);
        const { conflicts } = mergeOffers([offer("c1", a), offer("c2", b)]);
        if (a.type !== b.type) assert.ok(conflicts.some(({ reason }) => reason === "TypeConflict"));
        assert.equal(new Set(conflicts.map(({ reason }) => reason)).size, conflicts.length);
        assert.match(
          conflicts.map(({ reason }) => reason).join(",") || "NoConflicts",
          /^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$/,
        );
      }),
    );
  });
});
