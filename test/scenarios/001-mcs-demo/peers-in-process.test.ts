/** Peers that fall silent, refuse us, come back or are taken away, without processes (see in-process.test.ts). */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  clusterProperties,
  peerReports,
  secrets,
  serviceExports,
  serviceImports,
  serviceOffers,
  services,
} from "../../../src/api/index.ts";
import type { Fleet } from "../../support/fleet.ts";
import { importedSlices } from "../../support/imported.ts";
import { bothServe, eventsOn, fleetOf, imported, importOf } from "./in-process.ts";

const all = ["c1", "c2", "c3"];

describe("peers that go", () => {
  const both = ["serve c1 10.10.0.7", "serve c2 10.12.0.7"];
  const alone = ["serve c1 10.10.0.7"];
  let fleet: Fleet;
  before(async () => {
    fleet = await bothServe();
    await fleet.pass(20);
    assert.deepEqual(await imported(fleet, "c1"), both);
  });
  after(() => fleet.close());
  const peer = (cluster: string, name: string) =>
    (fleet.of(cluster).plane?.collections.get("peers")?.get(name) as { state: string } | undefined)?.state;

  test("a stopped control plane changes nothing for anyone", async () => {
    assert.equal(peer("c1", "c2"), "live");
    fleet.stopPlane("c2");
    await fleet.pass(120);
    assert.equal(peer("c1", "c2"), "stale");
    assert.deepEqual(await imported(fleet, "c1"), both);
    await fleet.startPlane("c2");
    await fleet.pass(15);
    assert.equal(peer("c1", "c2"), "live");
  });

  test("a dead cluster's endpoints stand for 30 s, then they are withdrawn; they come back with it", async () => {
    fleet.isolate("c2");
    await fleet.pass(18);
    assert.equal(peer("c1", "c2"), "stale");
    assert.deepEqual(await imported(fleet, "c1"), both);
    await fleet.pass(20);
    assert.equal(peer("c1", "c2"), "lost");
    assert.deepEqual(await imported(fleet, "c1"), alone);
    assert.deepEqual(await imported(fleet, "c2"), ["serve c2 10.12.0.7"], "it, too, goes on alone");
    fleet.rejoin("c2");
    await fleet.pass(30);
    assert.equal(peer("c1", "c2"), "live");
    assert.deepEqual(await imported(fleet, "c1"), both);
    assert.deepEqual(await imported(fleet, "c2"), both);
  });

  test("a control plane that restarts beside a dead peer keeps what it had, then withdraws", async () => {
    fleet.isolate("c2");
    fleet.stopPlane("c1");
    await fleet.pass(1);
    const plane = await fleet.startPlane("c1");
    await fleet.pass(15);
    assert.ok(plane.ready, "the dead peer does not keep it from being ready");
    assert.deepEqual(await imported(fleet, "c1"), both);
    await fleet.setEndpoints("c1", "serve", ["10.10.0.8"]);
    await fleet.pass(1);
    assert.deepEqual(
      await imported(fleet, "c1"),
      ["serve c1 10.10.0.8", "serve c2 10.12.0.7"],
      "c1's own are not held up",
    );
    await fleet.pass(25);
    assert.deepEqual(await imported(fleet, "c1"), ["serve c1 10.10.0.8"]);
    fleet.rejoin("c2");
    await fleet.pass(30);
    assert.deepEqual(await imported(fleet, "c1"), ["serve c1 10.10.0.8", "serve c2 10.12.0.7"]);
  });

  test("how far behind the view of a peer is shows when its network grows slow", async () => {
    const lag = () => fleet.of("c1").plane!.lags.get("c2")!;
    await fleet.pass(30);
    assert.ok(lag() < 5, `${lag()} ms`);
    fleet.weather.latency = 8_000;
    let worst = 0;
    for (let second = 0; second < 60; second++) {
      await fleet.pass(1);
      worst = Math.max(worst, lag());
    }
    fleet.weather.latency = 0;
    assert.ok(worst > 500 && worst < 16_000, `${worst} ms`);
    await fleet.pass(30);
    assert.ok(lag() < 5, `${lag()} ms`);
  });

  test("a peer says itself how long it may be silent, and its report says when it was last seen", async () => {
    const { peerReports, weftVersion } = await import("../../../src/api/index.ts");
    const report = async () => (await fleet.of("c1").person.get(peerReports, "weft-system/c2"))!.status!;
    fleet.stopPlane("c2");
    await fleet.startPlane("c2", { lease: 6 });
    await fleet.pass(4);
    const { conditions, ...live } = await report();
    assert.deepEqual(
      [conditions?.[0]?.reason, live],
      ["Live", { leaseDurationSeconds: 6, version: weftVersion }],
    );
    const cut = fleet.world.now();
    fleet.isolate("c2");
    await fleet.pass(4);
    assert.deepEqual(await imported(fleet, "c1"), ["serve c1 10.10.0.8", "serve c2 10.12.0.7"]);
    await fleet.pass(5);
    assert.equal(peer("c1", "c2"), "lost");
    assert.deepEqual(await imported(fleet, "c1"), ["serve c1 10.10.0.8"]);
    const { lastHeartbeatTime } = await report();
    const age = cut - Date.parse(lastHeartbeatTime!);
    assert.ok(age > -1000 && age < 4000, `${age}`);
    // The next control plane knows it from the report of the one before.
    fleet.stopPlane("c1");
    await fleet.startPlane("c1");
    await fleet.pass(2);
    fleet.rejoin("c2");
    await fleet.pass(20);
    fleet.isolate("c2");
    await fleet.pass(1);
    fleet.stopPlane("c1");
    await fleet.startPlane("c1");
    await fleet.pass(4);
    assert.deepEqual(await imported(fleet, "c1"), ["serve c1 10.10.0.8", "serve c2 10.12.0.7"]);
    await fleet.pass(16);
    assert.deepEqual(await imported(fleet, "c1"), ["serve c1 10.10.0.8"]);
    fleet.rejoin("c2");
    fleet.stopPlane("c2");
    await fleet.startPlane("c2");
    await fleet.pass(20);
    assert.equal(peer("c1", "c2"), "live");
    assert.equal((await report()).leaseDurationSeconds, 30);
    assert.deepEqual(await imported(fleet, "c1"), ["serve c1 10.10.0.8", "serve c2 10.12.0.7"]);
  });

  test("a Secret that goes takes the peer's traces along; it may come back", async () => {
    const { person } = fleet.of("c1");
    const { secrets } = await import("../../../src/api/index.ts");
    await person.delete(secrets, "weft-system/weft-peer-c2");
    await fleet.pass(2);
    assert.deepEqual(await imported(fleet, "c1"), ["serve c1 10.10.0.8"]);
    await fleet.introduce("c1", "c2");
    await fleet.pass(3);
    assert.deepEqual(await imported(fleet, "c1"), ["serve c1 10.10.0.8", "serve c2 10.12.0.7"]);
  });

  test("a changed Secret takes over when it works, and not before", async () => {
    await fleet.introduce("c1", "c2", "nowhere");
    await fleet.pass(5);
    await fleet.setEndpoints("c2", "serve", ["10.12.0.70"]);
    await fleet.pass(2);
    assert.deepEqual(await imported(fleet, "c1"), ["serve c1 10.10.0.8", "serve c2 10.12.0.70"]);
    await fleet.introduce("c1", "c2");
    await fleet.setEndpoints("c2", "serve", ["10.12.0.71"]);
    await fleet.pass(3);
    assert.deepEqual(await imported(fleet, "c1"), ["serve c1 10.10.0.8", "serve c2 10.12.0.71"]);
  });

  test("a peer that is called otherwise now is said to be so, with what to do; and again by its name when it is", async () => {
    const { person } = fleet.of("c2");
    const reachable = async () => {
      const report = await fleet.of("c1").person.get(peerReports, "weft-system/c2");
      return report?.status?.conditions?.find(({ type }) => type === "Reachable");
    };
    const rename = async (value: string) => {
      fleet.stopPlane("c2");
      await person.patch(clusterProperties, "cluster.clusterset.k8s.io", { spec: { value } });
      await fleet.startPlane("c2", { id: value });
      await fleet.pass(15);
    };
    assert.equal((await reachable())?.reason, "Live");
    await rename("west-2");
    const said = await reachable();
    assert.deepEqual([said?.status, said?.reason], ["False", "Renamed"]);
    assert.match(said?.message ?? "", /calls itself 'west-2' now; 'weft join' of both/);
    assert.equal(fleet.of("c1").log.filter((line) => line.includes("PeerRenamed")).length, 1);
    await rename("c2");
    assert.deepEqual([(await reachable())?.status, (await reachable())?.reason], ["True", "Live"]);
  });

  test("a peer that speaks in another's name is not heard", async () => {
    const { person } = fleet.of("c2");
    await fleet.of("c1").person.create(services, {
      metadata: { namespace: "demo", name: "bank" },
      spec: { ports: [{ port: 80 }] },
    });
    fleet.stopPlane("c2");
    await person.create(serviceOffers, {
      metadata: { namespace: "demo", name: "bank" },
      spec: {
        cluster: "c1",
        type: "ClusterSetIP",
        ports: [{ protocol: "TCP", port: 80 }],
        exportedAt: "2020-01-01T00:00:00Z",
      },
    });
    await fleet.pass(3);
    assert.equal(await fleet.of("c1").person.get(serviceImports, "demo/bank"), undefined);
    assert.ok(fleet.of("c1").log.some((line) => line.includes("ForeignOffer")));
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
