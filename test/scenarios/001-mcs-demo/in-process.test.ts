/**
 * Seed 001 without processes: API servers, control planes and a network in this process under a simulated clock
 * (law 12). EndpointSlices, which controllers would write, are put by hand.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  type EndpointSlice,
  endpointSlices,
  serviceExports,
  serviceImports,
  serviceOffers,
  services,
} from "../../../src/api/index.ts";
import type { Fleet } from "../../support/fleet.ts";
import { bothServe, fleetOf, imported, label, texts } from "./in-process.ts";

describe("two clusters export the same service", () => {
  let fleet: Fleet;
  before(async () => {
    fleet = await bothServe();
    await fleet.pass(2);
  });
  after(() => fleet.close());

  test("each publishes an offer at home", async () => {
    const offer = await fleet.of("c2").person.get(serviceOffers, "demo/serve");
    assert.equal(offer?.spec.cluster, "c2");
    assert.equal(
      await fleet
        .of("c1")
        .person.get(serviceOffers, "demo/serve")
        .then((o) => o?.spec.cluster),
      "c1",
    );
  });

  test("an import with the address of the derived Service stands in both", async () => {
    for (const cluster of ["c1", "c2"]) {
      const { person } = fleet.of(cluster);
      const service = await person.get(services, "demo/derived-ovtkn0laet");
      assert.ok(service?.spec?.clusterIP, `${cluster} has the derived Service`);
      assert.deepEqual(
        service.spec.ports?.map(({ port, protocol }) => `${port}/${protocol}`),
        ["80/TCP"],
      );
      const import_ = await person.get(serviceImports, "demo/serve");
      assert.deepEqual(import_?.spec.ips, [service.spec.clusterIP]);
      assert.equal(import_.spec.type, "ClusterSetIP");
      assert.deepEqual(import_.status?.clusters, [{ cluster: "c1" }, { cluster: "c2" }]);
      assert.equal(import_.status?.endpointSliceObjects, "Present");
      assert.deepEqual(texts(import_.status?.conditions), ["Ready=True/Ready"]);
      assert.ok(import_.status?.conditions?.[0]?.lastTransitionTime);
    }
  });

  test("a slice per cluster stands behind the derived Service, in both", async () => {
    for (const cluster of ["c1", "c2"]) {
      assert.deepEqual(await imported(fleet, cluster), ["serve c1 10.10.0.7", "serve c2 10.12.0.7"]);
      const slice = await fleet.of(cluster).person.get(endpointSlices, "demo/imported-serve-c2abc.c2");
      assert.equal(slice?.metadata.labels?.["kubernetes.io/service-name"], "derived-ovtkn0laet");
      assert.equal(
        slice.metadata.labels?.["endpointslice.kubernetes.io/managed-by"],
        "endpointslice-controller.weft.dev",
      );
      assert.equal(slice.endpoints[0]?.nodeName, cluster === "c2" ? "c2-control-plane" : undefined);
    }
  });

  test("both authors are told that all is well", async () => {
    for (const cluster of ["c1", "c2"]) {
      const export_ = await fleet.of(cluster).person.get(serviceExports, "demo/serve");
      assert.deepEqual(texts(export_?.status?.conditions), [
        "Conflict=False/NoConflicts",
        "Ready=True/Ready",
        "Valid=True/Valid",
      ]);
    }
  });

  test("the name is answered with the import's address", async () => {
    const import_ = await fleet.of("c1").person.get(serviceImports, "demo/serve");
    assert.deepEqual(fleet.lookUp("c1", "serve.demo", "A"), import_?.spec.ips);
    assert.equal(fleet.lookUp("c1", "c2.serve.demo", "A"), undefined);
    assert.deepEqual(
      fleet
        .of("c1")
        .plane?.zones.find("dns-version.clusterset.local")
        ?.sets?.("TXT")
        .map(({ data }) => data),
      ["1.0.0"],
    );
  });

  test("why tells what an imported slice is made from", () => {
    const tree = fleet.of("c1").plane?.why("slices", "c2/demo/serve-c2abc");
    const text = JSON.stringify(tree);
    assert.match(text, /allEndpointOffers/);
    assert.match(text, /endpointoffers of c2/);
  });

  test("scaling in one cluster reaches the other; nothing else is written", async () => {
    const writes = () =>
      JSON.stringify([...fleet.of("c1").plane!.sinks].map(([name, { writes }]) => [name, writes]));
    await fleet.setEndpoints("c2", "serve", ["10.12.0.7", "10.12.0.8"]);
    await fleet.pass(1);
    assert.deepEqual(await imported(fleet, "c1"), ["serve c1 10.10.0.7", "serve c2 10.12.0.7,10.12.0.8"]);
    const settled = writes();
    await fleet.pass(30);
    assert.equal(writes(), settled, "a settled cluster writes nothing but its heartbeat");
  });

  test("what is deleted by mistake comes back, with the same address", async () => {
    const { person } = fleet.of("c1");
    const address = (await person.get(services, "demo/derived-ovtkn0laet"))?.spec?.clusterIP;
    await person.delete(services, "demo/derived-ovtkn0laet");
    await person.delete(endpointSlices, "demo/imported-serve-c2abc.c2");
    await fleet.pass(2);
    assert.equal((await person.get(services, "demo/derived-ovtkn0laet"))?.spec?.clusterIP, address);
    assert.ok(await person.get(endpointSlices, "demo/imported-serve-c2abc.c2"));
    await person.delete(serviceImports, "demo/serve");
    await fleet.pass(2);
    assert.deepEqual((await person.get(serviceImports, "demo/serve"))?.spec.ips, [address]);
    assert.equal((await person.get(services, "demo/derived-ovtkn0laet"))?.spec?.clusterIP, address);
    assert.equal((await imported(fleet, "c1")).length, 2);
  });

  test("a control plane that restarts writes nothing", async () => {
    fleet.stopPlane("c1");
    await fleet.pass(5);
    const plane = await fleet.startPlane("c1");
    await fleet.pass(5);
    assert.ok(plane.ready);
    for (const [name, { writes }] of plane.sinks) {
      for (const [kind, count] of Object.entries(writes)) assert.equal(count, 0, `${name} ${kind}`);
    }
  });

  test("un-exporting in one cluster leaves the other's endpoints; in both, no trace", async () => {
    await fleet.unexport("c2", "serve");
    await fleet.pass(2);
    for (const cluster of ["c1", "c2"]) {
      assert.deepEqual(await imported(fleet, cluster), ["serve c1 10.10.0.7"]);
    }
    await fleet.unexport("c1", "serve");
    await fleet.pass(2);
    for (const cluster of ["c1", "c2"]) {
      const { person } = fleet.of(cluster);
      assert.deepEqual(await imported(fleet, cluster), []);
      assert.equal(await person.get(serviceImports, "demo/serve"), undefined);
      assert.equal(await person.get(services, "demo/derived-ovtkn0laet"), undefined);
      assert.equal(await person.get(serviceOffers, "demo/serve"), undefined);
      assert.equal(fleet.lookUp(cluster, "serve.demo", "A"), undefined);
      assert.ok(await person.get(services, "demo/serve"), "the Service itself is not ours to delete");
    }
  });
});

describe("exports that cannot be, or do not agree", () => {
  let fleet: Fleet;
  before(async () => {
    fleet = await fleetOf("c1", "c2");
  });
  after(() => fleet.close());

  test("a missing Service, and one of type ExternalName, are named in Valid; mending them is enough", async () => {
    const { person } = fleet.of("c1");
    await fleet.makeService("c1", "outside", { type: "ExternalName", externalName: "example.org" });
    await fleet.exportService("c1", "outside");
    await fleet.exportService("c1", "missing");
    await fleet.pass(1);
    const conditions = async (name: string) =>
      texts((await person.get(serviceExports, `demo/${name}`))?.status?.conditions);
    assert.deepEqual(await conditions("outside"), ["Ready=False/Pending", "Valid=False/InvalidServiceType"]);
    assert.deepEqual(await conditions("missing"), ["Ready=False/Pending", "Valid=False/NoService"]);
    assert.equal(await person.get(serviceImports, "demo/outside"), undefined);
    await fleet.makeService("c1", "missing");
    await fleet.pass(1);
    assert.deepEqual(await conditions("missing"), [
      "Conflict=False/NoConflicts",
      "Ready=True/Ready",
      "Valid=True/Valid",
    ]);
  });

  test("a conflict is told to both, and the older export counts", async () => {
    await fleet.makeService("c2", "pair", { ports: [{ port: 80 }] });
    await fleet.exportService("c2", "pair");
    await fleet.pass(2);
    await fleet.makeService("c1", "pair", {
      ports: [
        { port: 81, name: "http" },
        { port: 8080, name: "admin" },
      ],
      sessionAffinity: "ClientIP",
    });
    await fleet.exportService("c1", "pair");
    await fleet.pass(2);
    for (const cluster of ["c1", "c2"]) {
      const { person } = fleet.of(cluster);
      const export_ = await person.get(serviceExports, "demo/pair");
      const conflict = export_?.status?.conditions?.find(({ type }) => type === "Conflict");
      assert.equal(
        conflict?.reason,
        "PortConflict,SessionAffinityConflict,SessionAffinityConfigConflict",
        cluster,
      );
      assert.match(conflict.message, /from oldest service export in "c2". 1\/2 clusters disagree/);
      const import_ = await person.get(serviceImports, "demo/pair");
      assert.deepEqual(
        import_?.spec.ports.map(({ name = "", port }) => `${name}:${port}`),
        [":80", "http:81", "admin:8080"],
      );
      assert.equal(import_.spec.sessionAffinity, "None");
    }
    await fleet.unexport("c1", "pair");
    await fleet.pass(2);
    const left = await fleet.of("c2").person.get(serviceExports, "demo/pair");
    assert.deepEqual(texts(left?.status?.conditions).slice(0, 1), ["Conflict=False/NoConflicts"]);
  });

  test("traffic to a port goes only to clusters whose Service has it", async () => {
    await fleet.makeService("c1", "ports", { ports: [{ port: 80, name: "http" }] });
    await fleet.makeService("c2", "ports", {
      ports: [
        { port: 80, name: "web" },
        { port: 443, name: "https" },
      ],
    });
    await fleet.setEndpoints("c1", "ports", ["10.10.0.9"], { portName: "http" });
    await fleet.setEndpoints("c2", "ports", ["10.12.0.9"], { portName: "web" });
    await fleet.exportService("c1", "ports");
    await fleet.pass(2);
    await fleet.exportService("c2", "ports");
    await fleet.pass(2);
    const slice = await fleet.of("c1").person.get(endpointSlices, "demo/imported-ports-c2abc.c2");
    assert.deepEqual(
      slice?.ports?.map(({ name, port }) => `${name}:${port}`),
      ["http:8080"],
      "c2 calls it web, the import http",
    );
  });

  test("a headless service is reached by name", async () => {
    for (const cluster of ["c1", "c2"]) {
      await fleet.makeService(cluster, "db", { clusterIP: "None", ports: [{ port: 5432, name: "sql" }] });
      await fleet.exportService(cluster, "db");
    }
    await fleet.setEndpoints("c1", "db", ["10.10.0.20"], { portName: "sql", port: 5432, hostnames: true });
    await fleet.setEndpoints("c2", "db", ["10.12.0.20"], { portName: "sql", port: 5432, hostnames: true });
    await fleet.pass(2);
    const import_ = await fleet.of("c1").person.get(serviceImports, "demo/db");
    assert.equal(import_?.spec.type, "Headless");
    assert.equal(import_.spec.ips, undefined);
    assert.deepEqual(fleet.lookUp("c1", "db.demo", "A")?.sort(), ["10.10.0.20", "10.12.0.20"]);
    assert.deepEqual(fleet.lookUp("c1", "db-0.c2.db.demo", "A"), ["10.12.0.20"]);
    assert.deepEqual(fleet.lookUp("c1", "_sql._tcp.db.demo", "SRV")?.sort(), [
      "5432 db-0.c1.db.demo.svc.clusterset.local",
      "5432 db-0.c2.db.demo.svc.clusterset.local",
    ]);
    assert.deepEqual(fleet.lookUp("c1", "c2.db.demo", "A") ?? [], [], "reserved by the specification");
    await fleet.setEndpoints("c2", "db", ["10.12.0.20"], { portName: "sql", port: 5432, ready: false });
    await fleet.pass(1);
    assert.deepEqual(fleet.lookUp("c1", "db.demo", "A"), ["10.10.0.20"], "only what is ready");
  });

  test("a service is imported only where its namespace is, and as soon as it is", async () => {
    const { person } = fleet.of("c2");
    const { namespaces } = await import("../../../src/api/index.ts");
    await person.create(namespaces, { metadata: { name: "other" } });
    await person.create(services, {
      metadata: { namespace: "other", name: "lone" },
      spec: { ports: [{ port: 80 }] },
    });
    await person.create(serviceExports, { metadata: { namespace: "other", name: "lone" } });
    await fleet.pass(2);
    assert.ok(await person.get(serviceImports, "other/lone"));
    assert.equal(await fleet.of("c1").person.get(serviceImports, "other/lone"), undefined);
    await fleet.of("c1").person.create(namespaces, { metadata: { name: "other" } });
    await fleet.pass(2);
    assert.ok(await fleet.of("c1").person.get(serviceImports, "other/lone"));
  });
});

describe("the manual way", () => {
  let fleet: Fleet;
  before(async () => {
    fleet = await fleetOf("c1");
  });
  after(() => fleet.close());

  const bySomeone = { manager: "kubectl" };

  test("an import and slices written by hand get their derived Service, address and label", async () => {
    const { person } = fleet.of("c1");
    await person.create(
      serviceImports,
      {
        metadata: { namespace: "demo", name: "serve" },
        spec: { type: "ClusterSetIP", ports: [{ protocol: "TCP", port: 80 }] },
      },
      bySomeone,
    );
    await person.create(
      endpointSlices,
      {
        metadata: {
          namespace: "demo",
          name: "imported-serve-jlj65",
          labels: { [label.service]: "serve" },
        },
        addressType: "IPv4",
        ports: [{ name: "", port: 8080, protocol: "TCP" }],
        endpoints: [{ addresses: ["10.12.0.7"] }],
      } as Omit<EndpointSlice, "apiVersion" | "kind">,
      bySomeone,
    );
    await fleet.pass(2);
    const service = await person.get(services, "demo/derived-ovtkn0laet");
    const import_ = await person.get(serviceImports, "demo/serve");
    assert.ok(service?.spec?.clusterIP);
    assert.deepEqual(import_?.spec.ips, [service.spec.clusterIP]);
    const slice = await person.get(endpointSlices, "demo/imported-serve-jlj65");
    assert.deepEqual(slice?.metadata.labels, {
      [label.service]: "serve",
      "kubernetes.io/service-name": "derived-ovtkn0laet",
    });
    assert.deepEqual(fleet.lookUp("c1", "serve.demo", "A"), import_.spec.ips);
  });

  test("a given address is left alone and not put into the derived Service", async () => {
    const { person } = fleet.of("c1");
    await person.create(
      serviceImports,
      {
        metadata: { namespace: "demo", name: "serve-with-vip" },
        spec: { type: "ClusterSetIP", ports: [{ protocol: "TCP", port: 80 }], ips: ["1.2.3.4"] },
      },
      bySomeone,
    );
    await fleet.pass(2);
    const service = await person.get(services, "demo/derived-3jail2m1qh");
    assert.match(service?.spec?.clusterIP ?? "", /^10\.11\./);
    assert.deepEqual((await person.get(serviceImports, "demo/serve-with-vip"))?.spec.ips, ["1.2.3.4"]);
    await person.delete(services, "demo/derived-3jail2m1qh");
    await fleet.pass(2);
    assert.match((await person.get(services, "demo/derived-3jail2m1qh"))?.spec?.clusterIP ?? "", /^10\.11\./);
  });

  test("an export of that name does not touch it; its author is told", async () => {
    const { person } = fleet.of("c1");
    const before = await person.get(serviceImports, "demo/serve");
    await fleet.makeService("c1", "serve");
    await fleet.setEndpoints("c1", "serve", ["10.10.0.7"]);
    await fleet.exportService("c1", "serve");
    await fleet.pass(2);
    assert.deepEqual((await person.get(serviceImports, "demo/serve"))?.spec, before?.spec);
    const export_ = await person.get(serviceExports, "demo/serve");
    const ready = export_?.status?.conditions?.find(({ type }) => type === "Ready");
    assert.equal(`${ready?.status} ${ready?.reason}`, "False Failed");
    const { events } = await import("../../../src/api/index.ts");
    const { items } = await person.list(events, { namespace: "demo" });
    assert.deepEqual(
      items.map(({ reason, involvedObject }) => `${reason} ${involvedObject.kind}/${involvedObject.name}`),
      ["ImportBlocked ServiceExport/serve"],
    );
    await person.delete(serviceImports, "demo/serve");
    await fleet.pass(2);
    const ours = await person.get(serviceImports, "demo/serve");
    assert.deepEqual(ours?.status?.clusters, [{ cluster: "c1" }], "once it is gone ours takes its place");
  });

  test("deleting the import takes back the derived Service and the label, and nothing else", async () => {
    const { person } = fleet.of("c1");
    await fleet.unexport("c1", "serve");
    await fleet.pass(2);
    assert.equal(await person.get(services, "demo/derived-ovtkn0laet"), undefined);
    const slice = await person.get(endpointSlices, "demo/imported-serve-jlj65");
    assert.deepEqual(slice?.metadata.labels, { [label.service]: "serve" });
  });
});
