import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { OutlierDetection } from "#protocols/envoy/config/cluster/v3/outlier_detection.ts";
import { SimulatedWorld } from "../../world/index.ts";
import { Registry } from "../stats.ts";
import { HostMonitor, OutlierDetector } from "./outlier.ts";

const seconds = (value: number) => ({ seconds: value, nanos: 0 });
type Settings = Parameters<typeof OutlierDetection.fromPartial>[0];

class Watched {
  readonly outlier = new HostMonitor();
  removed = false;
}

describe("outlier detection", () => {
  let world: SimulatedWorld;
  let hosts: Watched[];
  let stats: Registry;
  let changes: number;
  beforeEach(() => {
    world = new SimulatedWorld(1);
    hosts = Array.from({ length: 10 }, () => new Watched());
    stats = new Registry();
    changes = 0;
  });
  const detector = (settings: Settings) =>
    new OutlierDetector({
      world,
      config: OutlierDetection.fromPartial(settings),
      hosts: () => hosts,
      stats: stats.scope("cluster.c", "cluster", { cluster_name: "c" }),
      changed: () => {
        changes++;
      },
    });
  const ejected = () => hosts.flatMap((host, i) => (host.outlier.ejected ? [i] : []));
  const fail = (watch: OutlierDetector<Watched>, host: number, times: number, status = 500) => {
    for (let i = 0; i < times; i++) watch.status(hosts[host]!, status);
  };

  test("five 5xx in a row eject, four and a success do not", () => {
    const watch = detector({});
    fail(watch, 0, 4);
    watch.status(hosts[0]!, 200);
    fail(watch, 0, 4);
    assert.deepEqual(ejected(), []);
    fail(watch, 0, 1);
    assert.deepEqual(ejected(), [0]);
    assert.equal(changes, 1);
  });

  test("it comes back after its time, which grows each time and shrinks with each quiet spell", async () => {
    const watch = detector({ interval: seconds(10), baseEjectionTime: seconds(30) });
    /** How long it is away, in the resolution of the interval. */
    const away = async () => {
      fail(watch, 0, 5);
      assert.deepEqual(ejected(), [0]);
      let passed = 0;
      for (; ejected().length > 0; passed += 10) await world.advance(10_000);
      return passed;
    };
    assert.equal(await away(), 30);
    assert.equal(await away(), 60);
    assert.equal(await away(), 90);
    await world.advance(90_000);
    assert.ok((await away()) < 90);
  });

  test("no longer than the longest time", async () => {
    const watch = detector({ baseEjectionTime: seconds(30), maxEjectionTime: seconds(45) });
    for (let i = 0; i < 4; i++) {
      fail(watch, 0, 5);
      await world.advance(50_000);
      assert.deepEqual(ejected(), []);
    }
  });

  test("no more than the share that may be ejected", () => {
    const watch = detector({ maxEjectionPercent: 20 });
    for (let i = 0; i < 10; i++) fail(watch, i, 5);
    assert.deepEqual(ejected(), [0, 1]);
    assert.match(stats.text(), /ejections_overflow: 8/);
  });

  test("of few none is ejected by the default share of a tenth, or one always", () => {
    hosts = hosts.slice(0, 3);
    const watch = detector({});
    for (let i = 0; i < 3; i++) fail(watch, i, 5);
    assert.deepEqual(ejected(), []);
    const always = detector({ alwaysEjectOneHost: true });
    for (let i = 0; i < 3; i++) fail(always, i, 5);
    assert.deepEqual(ejected(), [0]);
  });

  test("gateway errors count apart from other 5xx when that is asked for", () => {
    const watch = detector({
      consecutiveGatewayFailure: 3,
      enforcingConsecutiveGatewayFailure: 100,
      enforcingConsecutive5xx: 0,
      maxEjectionPercent: 100,
    });
    fail(watch, 0, 20, 500);
    fail(watch, 1, 2, 503);
    fail(watch, 1, 1, 500);
    fail(watch, 1, 2, 502);
    assert.deepEqual(ejected(), []);
    fail(watch, 1, 1, 504);
    assert.deepEqual(ejected(), [1]);
  });

  test("failures on our side are answers of 503 and 504, unless they are split off", () => {
    const joined = detector({ maxEjectionPercent: 100 });
    for (let i = 0; i < 5; i++) joined.local(hosts[0]!, i % 2 ? "timeout" : "connect-failed");
    assert.deepEqual(ejected(), [0]);
    const split = detector({
      splitExternalLocalOriginErrors: true,
      consecutiveLocalOriginFailure: 2,
      maxEjectionPercent: 100,
    });
    split.local(hosts[1]!, "reset");
    split.local(hosts[1]!, "success");
    split.local(hosts[1]!, "reset");
    assert.deepEqual(ejected(), [0]);
    split.local(hosts[1]!, "reset");
    assert.deepEqual(ejected(), [0, 1]);
  });

  test("whose success rate is far below the others' is ejected at the interval's end", async () => {
    const watch = detector({ interval: seconds(10), consecutive5xx: 1000 });
    for (const [i, host] of hosts.entries()) {
      for (let n = 0; n < 100; n++) watch.status(host, i === 3 && n % 2 === 0 ? 500 : 200);
    }
    assert.deepEqual(ejected(), []);
    await world.advance(10_000);
    assert.deepEqual(ejected(), [3]);
  });

  test("a host that leaves counts no more, and stopping brings all back", () => {
    const watch = detector({ maxEjectionPercent: 10 });
    fail(watch, 0, 5);
    fail(watch, 1, 5);
    assert.deepEqual(ejected(), [0]);
    watch.forget(hosts[0]!);
    hosts[0] = new Watched();
    fail(watch, 1, 5);
    assert.deepEqual(ejected(), [1]);
    watch.stop();
    assert.deepEqual(ejected(), []);
  });
});
