import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  type EndpointSlice,
  type PeerAuthentication,
  type Pod,
  peerPolicyOf,
  type Service,
  type ServiceExport,
} from "../api/index.ts";
import { endpointOfferOf, offeredServiceOf, offeredWorkloadOf, serviceOfferOf } from "./offers.ts";

const export_: ServiceExport = {
  apiVersion: "multicluster.x-k8s.io/v1beta1",
  kind: "ServiceExport",
  metadata: {
    namespace: "demo",
    name: "serve",
    creationTimestamp: "2026-01-01T00:00:00Z",
    labels: { secret: "1" },
  },
};

function service(spec: Service["spec"]): Service {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { namespace: "demo", name: "serve", labels: { secret: "2" }, annotations: { secret: "3" } },
    ...(spec && { spec }),
  };
}

const ports = [{ name: "http", port: 80, targetPort: 8080, nodePort: 30080, protocol: "TCP" }];

describe("the offer of an export", () => {
  test("says what importing needs and nothing else: no target port, node port, label or annotation", () => {
    const offer = serviceOfferOf(
      "c1",
      export_,
      service({ type: "NodePort", clusterIP: "10.11.0.5", selector: { app: "serve" }, ports }),
    );
    assert.deepEqual(offer?.spec, {
      cluster: "c1",
      type: "ClusterSetIP",
      ports: [{ name: "http", protocol: "TCP", port: 80 }],
      exportedAt: "2026-01-01T00:00:00Z",
    });
    assert.deepEqual(offer.metadata, { namespace: "demo", name: "serve" });
  });

  const cases: [string, Service | undefined, string | undefined][] = [
    ["a ClusterIP Service", service({ clusterIP: "10.11.0.5", ports }), "ClusterSetIP"],
    ["a LoadBalancer, as its ClusterIP part", service({ type: "LoadBalancer", ports }), "ClusterSetIP"],
    ["a headless Service", service({ clusterIP: "None", ports }), "Headless"],
    ["an ExternalName: no offer", service({ type: "ExternalName", externalName: "example.org" }), undefined],
    ["no Service: no offer", undefined, undefined],
  ];
  for (const [what, of, type] of cases) {
    test(what, () => assert.equal(serviceOfferOf("c1", export_, of)?.spec.type, type));
  }

  test("an export that is being deleted offers nothing", () => {
    const going = {
      ...export_,
      metadata: { ...export_.metadata, deletionTimestamp: "2026-01-01T00:00:01Z" },
    };
    assert.equal(serviceOfferOf("c1", going, service({ ports })), undefined);
  });

  test("labels and annotations are offered as the export's spec lists them", () => {
    const listed = {
      ...export_,
      spec: { exportedLabels: { team: "a" }, exportedAnnotations: { note: "b" } },
    };
    const offer = serviceOfferOf("c1", listed, service({ ports }));
    assert.deepEqual(offer?.spec.exportedLabels, { team: "a" });
    assert.deepEqual(offer.spec.exportedAnnotations, { note: "b" });
  });

  test("policies are offered as the Service has them", () => {
    const spec = {
      ports,
      ipFamilies: ["IPv4"],
      sessionAffinity: "ClientIP",
      sessionAffinityConfig: { clientIP: { timeoutSeconds: 10 } },
      internalTrafficPolicy: "Local",
      trafficDistribution: "PreferClose",
      publishNotReadyAddresses: true,
    };
    const { ports: _, ...expected } = spec;
    const offer = serviceOfferOf("c1", export_, service(spec));
    assert.deepEqual({ ...expected, ...offer?.spec }, offer?.spec);
  });
});

function slice(over: Partial<EndpointSlice> = {}, labels: Record<string, string> = {}): EndpointSlice {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      namespace: "demo",
      name: "serve-abc",
      labels: { "kubernetes.io/service-name": "serve", ...labels },
    },
    addressType: "IPv4",
    endpoints: [],
    ...over,
  };
}

describe("which slices are offered", () => {
  const cases: [string, EndpointSlice, string | undefined][] = [
    ["the Service's own", slice(), "demo/serve"],
    ["not names outside of Kubernetes", slice({ addressType: "FQDN" }), undefined],
    ["not what was imported", slice({}, { "multicluster.kubernetes.io/service-name": "serve" }), undefined],
    [
      "not what we made",
      slice({}, { "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.weft.dev" }),
      undefined,
    ],
  ];
  for (const [what, of, name] of cases) test(what, () => assert.equal(offeredServiceOf(of), name));
});

test("an endpoint is offered with its readiness, name and place; unknown conditions count as Kubernetes says", () => {
  const offer = endpointOfferOf(
    "c1",
    "serve",
    slice({
      ports: [{ name: "", port: 8080, protocol: "TCP" }, { name: "any" }],
      endpoints: [
        { addresses: ["10.10.0.7"], nodeName: "n1", zone: "z1", hostname: "serve-0" },
        { addresses: ["10.10.0.8"], conditions: { ready: false, serving: true, terminating: true } },
        { addresses: ["10.10.0.9"], conditions: { ready: false } },
      ],
    }),
    { regionOf: (node) => (node === "n1" ? "r1" : undefined), workloadOf: () => undefined },
  );
  assert.deepEqual(offer.spec, {
    cluster: "c1",
    service: "serve",
    addressType: "IPv4",
    ports: [{ protocol: "TCP", port: 8080 }],
    endpoints: [
      {
        addresses: ["10.10.0.7"],
        ready: true,
        serving: true,
        terminating: false,
        hostname: "serve-0",
        nodeName: "n1",
        region: "r1",
        zone: "z1",
      },
      { addresses: ["10.10.0.8"], ready: false, serving: true, terminating: true },
      { addresses: ["10.10.0.9"], ready: false, serving: false, terminating: false },
    ],
  });
});

describe("who is behind an endpoint", () => {
  const pod = (labels: Record<string, string>): Pod =>
    ({
      metadata: {
        namespace: "demo",
        name: "serve-v1-77d946bb4c-lxrpq",
        labels: { "pod-template-hash": "77d946bb4c", ...labels },
        annotations: { secret: "1" },
        ownerReferences: [{ kind: "ReplicaSet", name: "serve-v1-77d946bb4c", controller: true }],
      },
      spec: { serviceAccountName: "serve", containers: [{ name: "serve", env: [{ name: "SECRET" }] }] },
    }) as unknown as Pod;
  const nobody = { own: [], root: [] };
  const inMesh = { "security.istio.io/tlsMode": "istio" };

  test("is offered with what subsets select on, and no other label", () => {
    const labels = {
      app: "serve",
      version: "v1",
      "app.kubernetes.io/name": "serve",
      "app.kubernetes.io/managed-by": "Helm",
      "service.istio.io/canonical-revision": "v1",
      team: "secret",
    };
    assert.deepEqual(offeredWorkloadOf(pod({ ...labels, ...inMesh }), "c1.clusterset.local", nobody), {
      name: "serve-v1",
      serviceAccount: "serve",
      trustDomain: "c1.clusterset.local",
      labels: {
        app: "serve",
        "app.kubernetes.io/name": "serve",
        "service.istio.io/canonical-revision": "v1",
        version: "v1",
      },
    });
  });

  test("is not offered where it does not speak its mesh's mTLS", () => {
    assert.equal(offeredWorkloadOf(pod({ app: "serve" }), "c1.clusterset.local", nobody), undefined);
  });

  test("says whether and where it refuses mTLS: by workload before namespace before mesh, by port before all", () => {
    const policy = (spec: object, namespace = "demo", created = "2026-01-01") =>
      peerPolicyOf({
        metadata: { namespace, name: "p", creationTimestamp: created },
        spec,
      } as unknown as PeerAuthentication)!;
    const selector = { matchLabels: { app: "serve" } };
    const of = (own: object[], root: object[] = []) => {
      const { plainText, exceptPorts } = offeredWorkloadOf(pod({ app: "serve", ...inMesh }), "c1", {
        own: own.map((spec) => policy(spec)),
        root: root.map((spec) => policy(spec, "istio-system")),
      })!;
      return [plainText, exceptPorts];
    };
    const disable = { mtls: { mode: "DISABLE" } };
    const strict = { mtls: { mode: "STRICT" } };
    assert.deepEqual(of([]), [undefined, undefined]);
    assert.deepEqual(of([strict]), [undefined, undefined]);
    assert.deepEqual(of([disable]), [true, undefined]);
    assert.deepEqual(of([], [disable]), [true, undefined]);
    assert.deepEqual(of([strict], [disable]), [undefined, undefined]);
    assert.deepEqual(of([strict, { ...disable, selector }]), [true, undefined]);
    assert.deepEqual(of([{ ...disable, selector: { matchLabels: { app: "other" } } }]), [
      undefined,
      undefined,
    ]);
    const ports = { 9000: disable.mtls, 8000: disable.mtls, 7000: strict.mtls };
    assert.deepEqual(of([{ selector, portLevelMtls: ports }]), [undefined, [8000, 9000]]);
    assert.deepEqual(of([{ ...disable, selector, portLevelMtls: ports }]), [true, [7000]]);
  });

  test("is told of the pod that the slice names", () => {
    const [endpoint] = endpointOfferOf(
      "c1",
      "serve",
      slice({
        endpoints: [
          { addresses: ["10.10.0.7"], targetRef: { kind: "Pod", name: "serve-0", namespace: "demo" } },
        ],
      }),
      {
        regionOf: () => undefined,
        workloadOf: (name) => ({ name, serviceAccount: "serve", trustDomain: "c1" }),
      },
    ).spec.endpoints;
    assert.deepEqual(endpoint?.workload, {
      name: "demo/serve-0",
      serviceAccount: "serve",
      trustDomain: "c1",
    });
  });
});
