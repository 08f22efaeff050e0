import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { ServiceMeshControlPlane } from "../api/index.ts";
import { selectorOf } from "./gateways.ts";
import { formOf, notServed } from "./served.ts";
import { meshOf } from "./spec.ts";
import { controlPlaneFields } from "./status.ts";

const environment = {
  cluster: "c1",
  image: "weft/control-plane:test",
  proxy: "embedded",
  clusterDomain: "cluster.local",
} as const;

const mesh = (spec: unknown) =>
  meshOf(
    {
      apiVersion: "maistra.io/v2",
      kind: "ServiceMeshControlPlane",
      metadata: { namespace: "istio-system", name: "basic", uid: "1" },
      spec: spec as NonNullable<ServiceMeshControlPlane["spec"]>,
    },
    environment,
  );
const settings = (spec: unknown) => mesh(spec).settings;
const gateways = (spec: unknown) => mesh(spec).gateways.map(({ name }) => name);
const unserved = (spec: unknown) => notServed(spec as NonNullable<ServiceMeshControlPlane["spec"]>);

describe("the form of a control plane", () => {
  for (const [spec, form] of [
    [undefined, "v2"],
    [{}, "v2"],
    [{ version: "v2.5" }, "v2"],
    [{ version: "v1.1" }, "v1"],
    [{ istio: {} }, "v1"],
    [{ threeScale: { enabled: false } }, "v1"],
    [{ template: "default" }, "v1"],
    [{ profiles: ["default"] }, "v2"],
  ] as const) {
    test(`of ${JSON.stringify(spec)} is ${form}`, () => {
      assert.equal(formOf(spec as ServiceMeshControlPlane["spec"]), form);
    });
  }
});

test("proxies in front of gateways are believed as far as the control plane says", () => {
  const meshConfig = (numTrustedProxies: unknown) => ({
    meshConfig: { defaultConfig: { gatewayTopology: { numTrustedProxies } } },
  });
  assert.equal(mesh({ istio: meshConfig(2) }).settings.trustedProxies, 2);
  assert.equal(mesh({ techPreview: meshConfig(1) }).settings.trustedProxies, 1);
  assert.deepEqual(
    [mesh({ techPreview: meshConfig(1) }).notServed, mesh({ istio: meshConfig(1) }).notServed],
    [[], []],
  );
  for (const nothing of [0, -1, "many", undefined])
    assert.equal("trustedProxies" in mesh({ istio: meshConfig(nothing) }).settings, false);
});

test("a format of the access log that proxies would refuse is told of, and the default holds", () => {
  const v2 = (format: string) => ({ proxy: { accessLogging: { file: { name: "/dev/stdout", format } } } });
  const good = mesh(v2("%REQ(:METHOD)% 100%%"));
  assert.deepEqual([good.settings.accessLogFormat, good.invalid], ["%REQ(:METHOD)% 100%%", []]);
  const bad = mesh(v2("%METHOD%"));
  assert.deepEqual(
    [bad.settings.accessLog, bad.settings.accessLogFormat, bad.invalid],
    [true, undefined, ["spec.proxy.accessLogging.file.format: the operator %METHOD% is not served"]],
  );
  const old = mesh({
    istio: { global: { proxy: { accessLogFile: "/dev/stdout", accessLogFormat: "100%" } } },
  });
  assert.match(old.invalid.join(), /^spec\.istio\.global\.proxy\.accessLogFormat: "%" is no operator/);
  const { status } = controlPlaneFields(bad, [], [], "1");
  assert.deepEqual(status.conditions?.at(-1), {
    type: "InvalidFields",
    status: "True",
    reason: "FieldsWithoutEffect",
    message: `These fields cannot be read, their defaults hold: ${bad.invalid[0]}`,
  });
});

describe("v1", () => {
  test("mtls is a boolean or an object", () => {
    const mode = (mtls: unknown) => settings({ istio: { global: { mtls } } }).mtls;
    assert.deepEqual(mode(true), { mode: "STRICT", auto: true });
    assert.deepEqual(mode(false), { mode: "PERMISSIVE", auto: true });
    assert.deepEqual(mode({ enabled: true }), { mode: "STRICT", auto: true });
    assert.deepEqual(mode({ enabled: false, auto: false }), { mode: "PERMISSIVE", auto: false });
    assert.deepEqual(mode("yes"), { mode: "PERMISSIVE", auto: true });
  });

  test("gateways: the two that there always are, others when they are enabled, none when told", () => {
    const of = (values: unknown) => gateways({ istio: { gateways: values } });
    assert.deepEqual(of(undefined), ["istio-ingressgateway", "istio-egressgateway"]);
    assert.deepEqual(of({ enabled: false }), []);
    assert.deepEqual(of({ "istio-egressgateway": { enabled: false }, shop: { enabled: true }, other: {} }), [
      "istio-ingressgateway",
      "shop",
    ]);
  });

  test("ports below 1024 are moved up, as in Istio's charts; quantities may be numbers", () => {
    const [gateway] = mesh({
      istio: {
        gateways: {
          "istio-ingressgateway": {
            type: "NodePort",
            ports: [
              { port: 80, name: "http2" },
              { port: 9000, targetPort: 9001, nodePort: 30900 },
              { name: "bad" },
            ],
            resources: { requests: { cpu: 1 }, limits: "much" },
          },
        },
      },
    }).gateways;
    assert.equal(gateway!.type, "NodePort");
    assert.deepEqual(
      gateway!.ports.map(({ name, port, targetPort, nodePort }) => [name, port, targetPort, nodePort]),
      [
        ["http2", 80, 8080, undefined],
        ["port-9000", 9000, 9001, 30900],
      ],
    );
    assert.deepEqual(gateway!.resources, { requests: { cpu: "1" } });
  });

  test("a gateway may be selected as another one is, and its Service has its own pods all the same", () => {
    const [ingress, shop] = mesh({
      istio: {
        gateways: {
          "istio-egressgateway": { enabled: false },
          shop: { enabled: true, labels: { istio: "ingressgateway" } },
        },
      },
    }).gateways.map(selectorOf);
    assert.deepEqual(ingress, { app: "istio-ingressgateway", istio: "ingressgateway" });
    assert.deepEqual(shop, { app: "shop", istio: "ingressgateway", "mesh.weft.dev/gateway": "shop" });
  });

  test("a share of traces is a percentage, at most all", () => {
    const sampling = (traceSampling: unknown) =>
      settings({ istio: { pilot: { traceSampling } } }).traceSampling;
    assert.deepEqual([100, "50.5", 1000, -1, "many"].map(sampling), [100, 50.5, 100, 0, 1]);
  });
});

describe("fields that are not served", () => {
  for (const [what, spec, expected] of [
    ["nothing", {}, []],
    [
      "what is switched off",
      { istio: { kiali: { enabled: false, user: "a" }, tracing: { enabled: false } } },
      [],
    ],
    ["all of a part at once", { istio: { kiali: { dashboard: { user: "a" } } } }, ["spec.istio.kiali"]],
    [
      "only the field where its neighbours are served",
      { istio: { pilot: { env: { A: "b" }, traceSampling: 1 } } },
      ["spec.istio.pilot.env"],
    ],
    [
      "an autoscaler",
      { istio: { gateways: { "istio-ingressgateway": { autoscaleEnabled: true } } } },
      ["spec.istio.gateways.istio-ingressgateway.autoscaleEnabled"],
    ],
    [
      "what is no boolean or number where it has to be one",
      { istio: { global: { mtls: "yes" }, pilot: { traceSampling: "many", replicaCount: "2" } } },
      ["spec.istio.global.mtls", "spec.istio.pilot.traceSampling"],
    ],
    [
      "each of the add-ons, and of Mixer's parts",
      { addons: { kiali: { enabled: true }, grafana: { enabled: true, config: {} } } },
      ["spec.addons.grafana", "spec.addons.kiali"],
    ],
    ["a value that is not served", { mode: "ClusterWide" }, ["spec.mode"]],
    ["a value that is", { mode: "MultiTenant", security: { controlPlane: { mtls: true } } }, []],
    [
      "what may not be switched off",
      { security: { controlPlane: { mtls: false } } },
      ["spec.security.controlPlane.mtls"],
    ],
    [
      "policy checks, which v1 asks for by false",
      { istio: { global: { disablePolicyChecks: false } } },
      ["spec.istio.global.disablePolicyChecks"],
    ],
    ["mtls in either spelling", { istio: { global: { mtls: { enabled: true, auto: true } } } }, []],
    ["what a v1 field is in v2", { istio: {}, gateways: { ingress: { enabled: true } } }, ["spec.gateways"]],
    [
      "gateways elsewhere",
      { gateways: { ingress: { namespace: "edge" } } },
      ["spec.gateways.ingress.namespace"],
    ],
    ["a misspelt field", { sercurity: { dataPlane: { mtls: true } } }, ["spec.sercurity"]],
  ] as const) {
    test(`${what}: ${JSON.stringify(spec)}`, () => assert.deepEqual(unserved(spec), expected));
  }
});

test("whatever a control plane says, it is a mesh with settings that can be read (law 6)", () => {
  const json = fc.jsonValue({ maxDepth: 5 }) as fc.Arbitrary<unknown>;
  const keys = fc.constantFrom(
    "istio",
    "gateways",
    "global",
    "mtls",
    "ingress",
    "service",
    "ports",
    "resources",
    "security",
  );
  const nested = fc.letrec<{ node: unknown }>((tie) => ({
    node: fc.oneof({ maxDepth: 6 }, json, fc.dictionary(keys, tie("node"), { maxKeys: 4 })),
  })).node;
  fc.assert(
    fc.property(fc.dictionary(keys, nested, { maxKeys: 4 }), (spec) => {
      const found = mesh(spec);
      assert.deepEqual(JSON.parse(JSON.stringify(found.settings)), found.settings);
      assert.ok(["STRICT", "PERMISSIVE"].includes(found.settings.mtls.mode));
      for (const { ports, replicas } of found.gateways) {
        assert.ok(Number.isFinite(replicas));
        for (const { port, targetPort } of ports)
          assert.ok(Number.isFinite(port) && Number.isFinite(targetPort));
      }
      for (const path of found.notServed) assert.match(path, /^spec\./);
    }),
  );
});
