/**
 * KEP-1645 and mcs-api v0.5.2, statement by statement, without processes (see in-process.test.ts): what a
 * conformance reviewer would look for beyond the demo. Three clusters, so that "1/3 disagree" means something.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  type Condition,
  endpointSlices,
  events,
  type KubeObject,
  namespaces,
  peerReports,
  type Resource,
  type ServiceExport,
  type ServiceImport,
  secrets,
  serviceExports,
  serviceImports,
  serviceOffers,
  services,
} from "../../../src/api/index.ts";
import { ApiError } from "../../../src/kube/index.ts";
import { derivedName } from "../../../src/services/index.ts";
import { SimulatedWorld } from "../../../src/world/index.ts";
import { Fleet } from "../../support/fleet.ts";
import { importedSlices } from "../../support/imported.ts";

const all = ["c1", "c2", "c3"];

async function fleetOf(...names: string[]): Promise<Fleet> {
  const fleet = await Fleet.start(new SimulatedWorld(1), names);
  for (const name of names) await fleet.startPlane(name);
  await fleet.pass(1);
  return fleet;
}

const importOf = (fleet: Fleet, cluster: string, name: string) =>
  fleet.of(cluster).person.get(serviceImports, `demo/${name}`);

async function conditionOf(
  fleet: Fleet,
  cluster: string,
  name: string,
  type: string,
): Promise<Condition | undefined> {
  const export_ = await fleet.of(cluster).person.get(serviceExports, `demo/${name}`);
  return export_?.status?.conditions?.find((condition) => condition.type === type);
}

async function eventsOn(fleet: Fleet, cluster: string, name: string, namespace = "demo"): Promise<string[]> {
  const { items } = await fleet.of(cluster).person.list(events, { namespace });
  return items
    .filter(({ involvedObject }) => involvedObject.name === name)
    .map(({ type, reason, message }) => `${type} ${reason}: ${message}`);
}

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

describe("conflicts", () => {
  let fleet: Fleet;
  before(async () => {
    fleet = await fleetOf(...all);
  });
  after(() => fleet.close());

  /** Exports a service in one cluster after the other, so that the first is the oldest. */
  async function exportInTurn(name: string, ...specs: Parameters<Fleet["makeService"]>[2][]): Promise<void> {
    for (const [i, spec] of specs.entries()) {
      await fleet.makeService(all[i]!, name, spec);
      await fleet.setEndpoints(all[i]!, name, [`10.${10 + 2 * i}.1.1`], {
        portName: spec?.ports?.[0]?.name ?? "",
      });
      await fleet.exportService(all[i]!, name);
      await fleet.pass(2);
    }
  }

  test("all three authors hear of one that disagrees: winner, counts, an Event each; and again when it ends", async () => {
    await exportInTurn("talk", {}, {}, { clusterIP: "None" });
    const message =
      'Conflicting type. Using "ClusterSetIP" from oldest service export in "c1". 1/3 clusters disagree.';
    const since: (string | undefined)[] = [];
    for (const cluster of all) {
      const conflict = await conditionOf(fleet, cluster, "talk", "Conflict");
      assert.equal(conflict?.status, "True");
      assert.match(conflict.reason, /^TypeConflict/);
      assert.ok(conflict.message.startsWith(message), conflict.message);
      assert.equal((await importOf(fleet, cluster, "talk"))?.spec.type, "ClusterSetIP");
      since.push(conflict.lastTransitionTime);
      const told = await eventsOn(fleet, cluster, "talk");
      assert.ok(
        told.some((line) => line.startsWith(`Warning ExportConflict: ${message}`)),
        told.join("\n"),
      );
    }
    await fleet.unexport("c3", "talk");
    await fleet.pass(2);
    for (const [i, cluster] of ["c1", "c2"].entries()) {
      const conflict = await conditionOf(fleet, cluster, "talk", "Conflict");
      assert.deepEqual([conflict?.status, conflict?.reason], ["False", "NoConflicts"]);
      assert.notEqual(conflict?.lastTransitionTime, since[i], "the status changed");
      const told = await eventsOn(fleet, cluster, "talk");
      assert.ok(told.some((line) => line.startsWith("Normal ExportConflictResolved: ")));
    }
  });

  test("the type follows the oldest export from headless to an address and back, with all that hangs on it", async () => {
    await exportInTurn(
      "turn",
      { clusterIP: "None", ports: [{ name: "http", port: 80 }] },
      {
        ports: [{ name: "http", port: 80 }],
      },
    );
    const name = derivedName({ namespace: "demo", name: "turn" });
    const derived = async () => {
      const { items } = await fleet.of("c3").person.list(services, { namespace: "demo" });
      return items.filter(({ metadata }) => metadata.name === name).length;
    };
    const shape = async () => {
      const import_ = await importOf(fleet, "c3", "turn");
      return [import_?.spec.type, import_?.spec.ips?.length ?? 0, import_?.spec.ipFamilies?.length ?? 0];
    };
    assert.equal(await derived(), 0);
    assert.deepEqual(await shape(), ["Headless", 0, 0]);
    assert.deepEqual(fleet.lookUp("c3", "turn.demo", "A")?.sort(), ["10.10.1.1", "10.12.1.1"]);
    await fleet.unexport("c1", "turn");
    await fleet.pass(2);
    assert.deepEqual(await shape(), ["ClusterSetIP", 1, 1]);
    assert.equal(await derived(), 1);
    const import_ = await importOf(fleet, "c3", "turn");
    assert.deepEqual(fleet.lookUp("c3", "turn.demo", "A"), import_?.spec.ips);
    const [slice] = await importedSlices(fleet.of("c3").person, "turn");
    assert.match(slice?.metadata.labels?.["kubernetes.io/service-name"] ?? "", /^derived-/);
    await fleet.of("c2").person.delete(services, "demo/turn");
    await fleet.pass(1);
    await fleet.makeService("c2", "turn", { clusterIP: "None", ports: [{ name: "http", port: 80 }] });
    await fleet.pass(2);
    assert.deepEqual(await shape(), ["Headless", 0, 0]);
    assert.equal(await derived(), 0);
    assert.deepEqual(fleet.lookUp("c3", "turn.demo", "A"), ["10.12.1.1"]);
  });

  test("a port that two clusters number differently leads only to those that have the number", async () => {
    await exportInTurn(
      "web",
      { ports: [{ name: "http", port: 80, targetPort: 8080 }] },
      { ports: [{ name: "http", port: 81, targetPort: 8080 }] },
      { ports: [{ name: "http", port: 80, targetPort: 8080 }] },
    );
    for (const cluster of all) {
      const sources = (await importedSlices(fleet.of(cluster).person, "web")).map(
        ({ metadata }) => metadata.labels?.["multicluster.kubernetes.io/source-cluster"],
      );
      assert.deepEqual(sources.sort(), ["c1", "c3"]);
    }
  });

  test("a port without a name beside others has one in the derived Service and its slices", async () => {
    await exportInTurn("mix", { ports: [{ port: 80 }] }, { ports: [{ name: "admin", port: 8081 }] });
    const { person } = fleet.of("c3");
    const import_ = await importOf(fleet, "c3", "mix");
    assert.deepEqual(import_?.spec.ports, [
      { port: 80, protocol: "TCP" },
      { name: "admin", port: 8081, protocol: "TCP" },
    ]);
    const { items } = await person.list(services, { namespace: "demo" });
    const derived = items.find(({ spec }) => spec?.clusterIP === import_.spec.ips?.[0]);
    assert.deepEqual(derived?.spec?.ports?.map(({ name, port }) => `${name}:${port}`).sort(), [
      "80-tcp:80",
      "admin:8081",
    ]);
    const slices = await importedSlices(person, "mix");
    assert.deepEqual(
      slices.map(({ ports }) => ports?.map(({ name, port }) => `${name}:${port}`)),
      [[":8080", "80-tcp:8080"], ["admin:8080"]],
    );
    await fleet.unexport("c2", "mix");
    await fleet.pass(2);
    assert.deepEqual((await importOf(fleet, "c3", "mix"))?.spec.ips, import_.spec.ips, "the address stays");
    const [left] = await importedSlices(person, "mix");
    assert.deepEqual(
      left?.ports?.map(({ name }) => name),
      [""],
    );
  });

  test("labels and annotations of the oldest export stand on the import, the metadata's never", async () => {
    const exported = (labels: Record<string, string>) => ({
      metadata: { namespace: "demo", name: "label", labels: { own: "x" }, annotations: { own: "x" } },
      spec: { exportedLabels: labels, exportedAnnotations: { note: JSON.stringify(labels) } },
    });
    for (const [cluster, labels] of [
      ["c1", { team: "a", "example.com/tier": "" }],
      ["c2", { team: "b" }],
    ] as const) {
      await fleet.makeService(cluster, "label");
      await fleet.of(cluster).person.create(serviceExports, exported(labels));
      await fleet.pass(2);
    }
    for (const cluster of all) {
      const { labels, annotations } = (await importOf(fleet, cluster, "label"))!.metadata;
      assert.deepEqual(labels, {
        team: "a",
        "example.com/tier": "",
        "app.kubernetes.io/managed-by": "weft",
      });
      assert.deepEqual(annotations, { note: '{"team":"a","example.com/tier":""}' });
    }
    assert.equal(
      (await conditionOf(fleet, "c2", "label", "Conflict"))?.reason,
      "LabelsConflict,AnnotationsConflict",
    );
  });

  test("a label that no API server would take is told, and harms nobody else", async () => {
    const { person } = fleet.of("c1");
    await fleet.makeService("c1", "odd");
    await person.create(serviceExports, {
      metadata: { namespace: "demo", name: "odd" },
      spec: { exportedLabels: { "not a key": "x" } },
    });
    await fleet.makeService("c2", "odd");
    await fleet.exportService("c2", "odd");
    await fleet.pass(2);
    const valid = await conditionOf(fleet, "c1", "odd", "Valid");
    assert.deepEqual([valid?.status, valid?.reason], ["False", "InvalidLabels"]);
    assert.match(valid?.message ?? "", /spec\.exportedLabels: "not a key"/);
    assert.deepEqual((await importOf(fleet, "c1", "odd"))?.status?.clusters, [{ cluster: "c2" }]);
    assert.deepEqual(await eventsOn(fleet, "c1", "odd"), [`Warning ExportInvalid: ${valid?.message}`]);
  });

  test("affinity and policies of the Service go with it to the derived one", async () => {
    const policies = {
      sessionAffinity: "ClientIP",
      sessionAffinityConfig: { clientIP: { timeoutSeconds: 10 } },
      internalTrafficPolicy: "Local",
      trafficDistribution: "PreferClose",
    };
    await exportInTurn("policies", policies, policies);
    for (const cluster of all) {
      const import_ = await importOf(fleet, cluster, "policies");
      const { items } = await fleet.of(cluster).person.list(services, { namespace: "demo" });
      const derived = items.find(({ spec }) => spec?.clusterIP === import_?.spec.ips?.[0]);
      for (const spec of [import_?.spec, derived?.spec]) {
        assert.deepEqual({ ...spec, ...policies }, spec, `${cluster} has them`);
      }
    }
    assert.equal((await conditionOf(fleet, "c1", "policies", "Conflict"))?.reason, "NoConflicts");
  });

  test("a control plane that restarts tells no author anything twice", async () => {
    const count = async () =>
      (await fleet.of("c1").person.list(events, { namespace: "demo" })).items.reduce(
        (sum, { count = 1 }) => sum + count,
        0,
      );
    const before = await count();
    assert.ok(before > 0);
    fleet.stopPlane("c1");
    await fleet.pass(1);
    await fleet.startPlane("c1");
    await fleet.pass(5);
    assert.equal(await count(), before);
  });
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

describe("a peer that refuses us", () => {
  let fleet: Fleet;
  before(async () => {
    fleet = await fleetOf(...all);
    for (const [i, cluster] of all.entries()) {
      await fleet.makeService(cluster, "serve", i === 1 ? { ports: [{ port: 81 }] } : {});
      await fleet.setEndpoints(cluster, "serve", [`10.${10 + 2 * i}.0.7`]);
      await fleet.exportService(cluster, "serve");
      await fleet.pass(2);
    }
    await fleet.makeService("c2", "only");
    await fleet.setEndpoints("c2", "only", ["10.12.0.9"]);
    await fleet.exportService("c2", "only");
    await fleet.pass(3);
    fleet.stopPlane("c1");
    fleet.refuse("c1", "c2");
    await fleet.startPlane("c1");
    await fleet.pass(2);
  });
  after(() => fleet.close());

  const reachable = async () => {
    const report = await fleet.of("c1").person.get(peerReports, "weft-system/c2");
    return report?.status?.conditions?.find(({ type }) => type === "Reachable");
  };
  const everything = async () => {
    const { person } = fleet.of("c1");
    const imports = (await person.list(serviceImports)).items.map(({ metadata, spec, status }) => [
      metadata.name,
      spec,
      status,
    ]);
    const conflict = (await person.get(serviceExports, "demo/serve"))?.status;
    const slices = (await importedSlices(person)).map(({ metadata, endpoints }) => [
      metadata.name,
      endpoints,
    ]);
    return JSON.parse(JSON.stringify({ imports, conflict, slices })) as unknown;
  };

  test("from our very start: at first everything waits for it", async () => {
    await fleet.makeService("c3", "fresh");
    await fleet.exportService("c3", "fresh");
    await fleet.pass(5);
    assert.equal(await importOf(fleet, "c1", "fresh"), undefined);
    assert.match((await reachable())?.message ?? "", /refuses us/);
  });

  test("after its lease it is said to refuse us, new things go on, and what came from it stands", async () => {
    const before = await everything();
    await fleet.pass(30);
    assert.ok(await importOf(fleet, "c1", "fresh"), "what c3 exports is imported");
    await fleet.of("c3").person.delete(serviceExports, "demo/fresh");
    await fleet.pass(2);
    assert.equal(await importOf(fleet, "c1", "fresh"), undefined);
    assert.deepEqual(await everything(), before, "serve and only are as they were");
    assert.deepEqual([(await reachable())?.status, (await reachable())?.reason], ["Unknown", "Refused"]);
    const told = await eventsOn(fleet, "c1", "weft-peer-c2", "weft-system");
    assert.match(told.join("\n"), /^Warning PeerRefused: c2 refuses us: /);
  });

  test("the endpoints of others behind a shared import change meanwhile", async () => {
    await fleet.setEndpoints("c3", "serve", ["10.14.0.8"]);
    await fleet.pass(1);
    const slices = await importedSlices(fleet.of("c1").person, "serve");
    const addresses = slices.flatMap(({ endpoints }) => endpoints.flatMap(({ addresses }) => addresses));
    assert.ok(addresses.includes("10.14.0.8"), addresses.join());
  });

  test("should its API fall silent, its endpoints go with its lease as any dead peer's", async () => {
    fleet.cut("c1", "c2");
    await fleet.pass(20);
    assert.ok(await importOf(fleet, "c1", "only"), "not before");
    await fleet.pass(40);
    assert.equal(await importOf(fleet, "c1", "only"), undefined);
    assert.deepEqual((await importOf(fleet, "c1", "serve"))?.status?.clusters, [
      { cluster: "c1" },
      { cluster: "c3" },
    ]);
    fleet.heal("c1", "c2");
  });

  test("once it takes us again all is as if nothing had been", async () => {
    fleet.refuse("c1", "c2", false);
    await fleet.pass(30);
    assert.ok(await importOf(fleet, "c1", "only"));
    assert.deepEqual(
      (await importOf(fleet, "c1", "serve"))?.status?.clusters?.map(({ cluster }) => cluster),
      all,
    );
    assert.equal((await reachable())?.reason, "Live");
  });

  test("a Secret that goes lets go of what it held", async () => {
    fleet.stopPlane("c1");
    fleet.refuse("c1", "c2");
    await fleet.startPlane("c1");
    await fleet.pass(40);
    assert.ok(await importOf(fleet, "c1", "only"));
    await fleet.of("c1").person.delete(secrets, "weft-system/weft-peer-c2");
    await fleet.pass(3);
    assert.equal(await importOf(fleet, "c1", "only"), undefined);
  });

  test("a good connection is not disturbed by a changed Secret that is refused", async () => {
    fleet.refuse("c1", "c2", false);
    await fleet.introduce("c1", "c2");
    await fleet.pass(5);
    assert.ok(await importOf(fleet, "c1", "only"));
    await fleet.introduce("c1", "c2", "nowhere");
    await fleet.pass(90);
    assert.ok(await importOf(fleet, "c1", "only"));
    assert.equal((await reachable())?.reason, "Live");
  });
});
