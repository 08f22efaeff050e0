/**
 * KEP-1645: what becomes of exports that disagree, and who is told. Three clusters, so that "1/3 disagree" means
 * something.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { events, serviceExports, services } from "../../../src/api/index.ts";
import { derivedName } from "../../../src/services/index.ts";
import type { Fleet } from "../../support/fleet.ts";
import { importedSlices } from "../../support/imported.ts";
import { conditionOf, eventsOn, fleetOf, importOf } from "./in-process.ts";

const all = ["c1", "c2", "c3"];

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
