/**
 * KEP-1645 and mcs-api v0.5.2, statement by statement, without processes (see in-process.test.ts): what a
 * conformance reviewer would look for beyond the demo. Exports that disagree: conflicts.test.ts.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  endpointSlices,
  type KubeObject,
  namespaces,
  type Resource,
  type ServiceExport,
  type ServiceImport,
  serviceExports,
  serviceImports,
  serviceOffers,
  services,
} from "../../../src/api/index.ts";
import { ApiError } from "../../../src/kube/index.ts";
import { derivedName } from "../../../src/services/index.ts";
import type { Fleet } from "../../support/fleet.ts";
import { importedSlices } from "../../support/imported.ts";
import { conditionOf, fleetOf, importOf } from "./in-process.ts";

describe("the two versions of the API", () => {
  let fleet: Fleet;
  before(async () => {
    fleet = await fleetOf("c1");
  });
  after(() => fleet.close());

  for (const [kind, resource, spec] of [
    [
      "ServiceExport",
      serviceExports,
      { exportedLabels: { team: "a" }, exportedAnnotations: { note: "b, with anything" } },
    ],
    [
      "ServiceImport",
      serviceImports,
      {
        type: "ClusterSetIP",
        ports: [{ name: "http", protocol: "TCP", appProtocol: "kubernetes.io/h2c", port: 80 }],
        ips: ["1.2.3.4"],
        ipFamilies: ["IPv4"],
        sessionAffinity: "ClientIP",
        sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } },
        internalTrafficPolicy: "Local",
        trafficDistribution: "PreferClose",
      },
    ],
  ] as const) {
    for (const [written, read] of [
      ["v1alpha1", "v1beta1"],
      ["v1beta1", "v1alpha1"],
    ] as const) {
      test(`${kind}: what is written as ${written} is read as ${read}, every field of it`, async () => {
        const { person } = fleet.of("c1");
        const name = `${kind.toLowerCase()}-${written}`;
        const as = (version: string) => ({ ...resource, version });
        await person.create(
          as(written) as typeof serviceExports,
          {
            metadata: { namespace: "demo", name },
            spec,
          } as Pick<ServiceExport, "metadata" | "spec">,
        );
        const found = await person.get(as(read) as typeof serviceExports, `demo/${name}`);
        assert.equal(found?.apiVersion, `multicluster.x-k8s.io/${read}`);
        assert.deepEqual(found.spec, spec);
      });
    }
  }

  test("the status that the controller writes is read in both", async () => {
    const { person } = fleet.of("c1");
    await fleet.makeService("c1", "serve");
    await fleet.exportService("c1", "serve");
    await fleet.pass(1);
    for (const version of ["v1alpha1", "v1beta1"]) {
      const import_ = await person.get({ ...serviceImports, version }, "demo/serve");
      assert.deepEqual(import_?.status?.clusters, [{ cluster: "c1" }]);
      assert.equal(import_.status.endpointSliceObjects, "Present");
      const export_ = await person.get({ ...serviceExports, version }, "demo/serve");
      assert.deepEqual(export_?.status?.conditions?.map(({ type }) => type).sort(), [
        "Conflict",
        "Ready",
        "Valid",
      ]);
    }
  });

  const bad: [string, unknown, RegExp][] = [
    ["no ports", { type: "ClusterSetIP" }, /spec\.ports: Required value/],
    ["no type", { ports: [] }, /spec\.type: Required value/],
    [
      "another type",
      { type: "ClusterIP", ports: [] },
      /spec\.type: Unsupported value: "ClusterIP": supported values: "ClusterSetIP", "Headless"/,
    ],
    [
      "three addresses",
      { type: "ClusterSetIP", ports: [], ips: ["1.1.1.1", "2.2.2.2", "3.3.3.3"] },
      /spec\.ips: Too many: 3: must have at most 2 items/,
    ],
    [
      "a port without a number",
      { type: "ClusterSetIP", ports: [{ name: "a" }] },
      /spec\.ports\[0\]\.port: Required value/,
    ],
  ];
  for (const [what, spec, error] of bad) {
    test(`an import with ${what} is refused with the field's path`, async () => {
      await assert.rejects(
        fleet.of("c1").person.create(serviceImports, {
          metadata: { namespace: "demo", name: "bad" },
          spec: spec as ServiceImport["spec"],
        }),
        (thrown: unknown) => {
          assert.ok(thrown instanceof ApiError && thrown.code === 422, String(thrown));
          assert.match(thrown.message, error);
          return true;
        },
      );
    });
  }
});

describe("the life of an export", () => {
  let fleet: Fleet;
  before(async () => {
    fleet = await fleetOf("c1", "c2");
  });
  after(() => fleet.close());

  test("an ExternalName that becomes a ClusterIP is imported, and goes when it is one again", async () => {
    const { person } = fleet.of("c1");
    await fleet.makeService("c1", "shift", { type: "ExternalName", externalName: "example.org" });
    await fleet.exportService("c1", "shift");
    await fleet.pass(1);
    assert.equal((await conditionOf(fleet, "c1", "shift", "Valid"))?.reason, "InvalidServiceType");
    await person.patch(services, "demo/shift", { spec: { type: "ClusterIP", externalName: null } });
    await fleet.pass(2);
    assert.equal((await conditionOf(fleet, "c1", "shift", "Valid"))?.reason, "Valid");
    assert.equal((await importOf(fleet, "c2", "shift"))?.spec.type, "ClusterSetIP");
    await person.patch(services, "demo/shift", {
      spec: { type: "ExternalName", externalName: "example.org", clusterIP: null, clusterIPs: null },
    });
    await fleet.pass(2);
    assert.equal(await importOf(fleet, "c2", "shift"), undefined);
    assert.equal(await conditionOf(fleet, "c1", "shift", "Conflict"), undefined, "it takes no part any more");
  });

  for (const type of ["NodePort", "LoadBalancer"]) {
    test(`a ${type} Service is exported as its ClusterIP part`, async () => {
      const name = type.toLowerCase();
      await fleet.makeService("c1", name, { type, ports: [{ port: 80, nodePort: 30_000 + type.length }] });
      await fleet.exportService("c1", name);
      await fleet.pass(2);
      const import_ = await importOf(fleet, "c2", name);
      assert.equal(import_?.spec.type, "ClusterSetIP");
      assert.deepEqual(import_.spec.ports, [{ port: 80, protocol: "TCP" }]);
    });
  }

  test("a Service without an export of its own adds nothing to another cluster's", async () => {
    await fleet.makeService("c1", "lone");
    await fleet.exportService("c1", "lone");
    await fleet.makeService("c2", "lone");
    await fleet.setEndpoints("c2", "lone", ["10.12.0.99"]);
    await fleet.pass(2);
    assert.deepEqual((await importOf(fleet, "c1", "lone"))?.status?.clusters, [{ cluster: "c1" }]);
    assert.deepEqual(await importedSlices(fleet.of("c1").person, "lone"), []);
  });

  test("a Service's endpoints in two slices are two slices in every cluster", async () => {
    await fleet.makeService("c1", "many");
    const addresses = (from: number, count: number) =>
      Array.from({ length: count }, (_, i) => `10.10.${from}.${i + 1}`);
    await fleet.setEndpoints("c1", "many", addresses(1, 100), { slice: "many-aaaaa" });
    await fleet.setEndpoints("c1", "many", addresses(2, 1), { slice: "many-bbbbb" });
    await fleet.exportService("c1", "many");
    await fleet.pass(2);
    const slices = await importedSlices(fleet.of("c2").person, "many");
    assert.deepEqual(slices.map(({ endpoints }) => endpoints.length).sort(), [1, 100]);
  });

  test("what is terminating or not ready is told as such, and not named", async () => {
    await fleet.makeService("c1", "ends", { clusterIP: "None", ports: [{ name: "http", port: 80 }] });
    await fleet.exportService("c1", "ends");
    await fleet.setEndpoints("c1", "ends", ["10.10.3.1", "10.10.3.2"], { portName: "http" });
    const { person } = fleet.of("c1");
    const slice = (await person.get(endpointSlices, "demo/ends-c1abc"))!;
    slice.endpoints[1]!.conditions = { ready: false, serving: true, terminating: true };
    await person.replace(endpointSlices, slice);
    await fleet.pass(2);
    const [imported] = await importedSlices(fleet.of("c2").person, "ends");
    assert.deepEqual(imported?.endpoints[1]?.conditions, { ready: false, serving: true, terminating: true });
    assert.deepEqual(fleet.lookUp("c2", "ends.demo", "A"), ["10.10.3.1"]);
    await fleet.setEndpoints("c1", "ends", ["10.10.3.1"], { portName: "http", ready: false });
    await fleet.pass(2);
    assert.equal(fleet.lookUp("c2", "ends.demo", "A"), undefined, "none ready: no such name");
  });

  test("names and labels as long as they may be", async () => {
    const name = `a${"b".repeat(61)}c`;
    await fleet.makeService("c1", name, { clusterIP: "None", ports: [{ name: "http", port: 80 }] });
    await fleet.exportService("c1", name);
    await fleet.setEndpoints("c1", name, ["10.10.4.1"], {
      portName: "http",
      slice: `${"s.".repeat(126)}s`,
      hostnames: false,
    });
    await fleet.pass(2);
    const [slice] = await importedSlices(fleet.of("c2").person, name);
    assert.ok((slice?.metadata.name.length ?? 999) <= 253);
    assert.deepEqual(fleet.lookUp("c2", `10-10-4-1.c1.${name}.demo`, "A"), ["10.10.4.1"]);
  });

  test("with its namespace an export goes everywhere, and is back with it", async () => {
    const { person } = fleet.of("c1");
    for (const cluster of ["c1", "c2"]) {
      await fleet.of(cluster).person.create(namespaces, { metadata: { name: "brief" } });
    }
    const make = async () => {
      await person.create(services, {
        metadata: { namespace: "brief", name: "serve" },
        spec: { ports: [{ port: 80 }] },
      });
      await person.create(serviceExports, { metadata: { namespace: "brief", name: "serve" } });
      await fleet.pass(2);
    };
    await make();
    assert.ok(await fleet.of("c2").person.get(serviceImports, "brief/serve"));
    // What the namespace controller does: everything in it is deleted, in no particular order.
    const empty = async () => {
      for (const kind of [
        serviceOffers,
        serviceImports,
        serviceExports,
        services,
      ] as Resource<KubeObject>[]) {
        for (const { metadata } of (await person.list(kind, { namespace: "brief" })).items) {
          await person.delete(kind, `brief/${metadata.name}`);
        }
      }
    };
    await empty();
    await fleet.pass(2);
    assert.equal(await fleet.of("c2").person.get(serviceImports, "brief/serve"), undefined);
    for (const kind of [serviceOffers, serviceImports, services] as Resource<KubeObject>[]) {
      assert.deepEqual((await person.list(kind, { namespace: "brief" })).items, []);
    }
    await make();
    assert.ok(await fleet.of("c2").person.get(serviceImports, "brief/serve"));
  });
});

describe("imports written by hand", () => {
  let fleet: Fleet;
  before(async () => {
    fleet = await fleetOf("c1", "c2");
  });
  after(() => fleet.close());

  test("of type Headless: slices by hand give the names, per pod where the cluster is told; no Service", async () => {
    const { person } = fleet.of("c1");
    await person.create(
      serviceImports,
      { metadata: { namespace: "demo", name: "db" }, spec: { type: "Headless", ports: [{ port: 5432 }] } },
      { manager: "kubectl" },
    );
    await fleet.pass(1);
    assert.equal((await importOf(fleet, "c1", "db"))?.status?.endpointSliceObjects, "Absent");
    await person.create(
      endpointSlices,
      {
        metadata: {
          namespace: "demo",
          name: "db-by-hand",
          labels: {
            "multicluster.kubernetes.io/service-name": "db",
            "multicluster.kubernetes.io/source-cluster": "elsewhere",
          },
        },
        addressType: "IPv4",
        ports: [{ name: "sql", port: 5432, protocol: "TCP" }],
        endpoints: [{ addresses: ["10.99.0.1"], hostname: "db-0" }],
      },
      { manager: "kubectl" },
    );
    await fleet.pass(1);
    assert.deepEqual(fleet.lookUp("c1", "db.demo", "A"), ["10.99.0.1"]);
    assert.deepEqual(fleet.lookUp("c1", "db-0.elsewhere.db.demo", "A"), ["10.99.0.1"]);
    const import_ = await importOf(fleet, "c1", "db");
    assert.equal(import_?.spec.ips, undefined);
    assert.equal(import_?.status?.endpointSliceObjects, "Present");
    assert.equal(import_.status.conditions?.[0]?.status, "True");
    assert.deepEqual((await person.list(services, { namespace: "demo" })).items, []);
  });

  test("un-exporting while one stands changes nothing about it; others go on importing", async () => {
    const { person } = fleet.of("c1");
    await person.create(
      serviceImports,
      {
        metadata: { namespace: "demo", name: "serve" },
        spec: { type: "ClusterSetIP", ports: [{ port: 80 }] },
      },
      { manager: "kubectl" },
    );
    await fleet.makeService("c1", "serve");
    await fleet.exportService("c1", "serve");
    await fleet.pass(2);
    const before = await importOf(fleet, "c1", "serve");
    assert.equal((await conditionOf(fleet, "c1", "serve", "Ready"))?.reason, "Failed");
    assert.deepEqual((await importOf(fleet, "c2", "serve"))?.status?.clusters, [{ cluster: "c1" }]);
    await fleet.unexport("c1", "serve");
    await fleet.pass(2);
    assert.deepEqual(await importOf(fleet, "c1", "serve"), before);
    assert.equal(await importOf(fleet, "c2", "serve"), undefined);
  });

  test("a Service of someone else where the derived one should stand is named in Ready", async () => {
    const { person } = fleet.of("c2");
    const name = derivedName({ namespace: "demo", name: "blocked" });
    await fleet.makeService("c2", name);
    await fleet.makeService("c1", "blocked");
    await fleet.exportService("c1", "blocked");
    await fleet.pass(2);
    const ready = (await importOf(fleet, "c2", "blocked"))?.status?.conditions?.[0];
    assert.deepEqual([ready?.status, ready?.reason], ["False", "Pending"]);
    assert.ok(ready?.message.includes(name), ready?.message);
    await person.delete(services, `demo/${name}`);
    await fleet.pass(2);
    assert.equal((await importOf(fleet, "c2", "blocked"))?.status?.conditions?.[0]?.status, "True");
  });
});
