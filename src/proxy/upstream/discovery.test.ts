import assert from "node:assert/strict";
import { test } from "node:test";
import { Cluster } from "#protocols/envoy/config/cluster/v3/cluster.ts";
import { SimulatedWorld } from "../../world/index.ts";
import { endpoint } from "../testing/resources.ts";
import { type Assignment, followDns } from "./discovery.ts";

function scene(type: 1 | 2, more: object = {}, names = ["a.example"]) {
  const world = new SimulatedWorld(3);
  const records = new Map<string, { address: string; ttl: number }[]>();
  const asked: string[] = [];
  const given: string[][] = [];
  const config = Cluster.fromPartial({
    name: "c",
    clusterDiscoveryType: { $case: "type", value: type },
    loadAssignment: {
      clusterName: "c",
      endpoints: [{ lbEndpoints: names.map((name) => endpoint(name, 80)) }],
    },
    ...more,
  });
  const resolve = async (name: string) => {
    asked.push(name);
    const found = records.get(name);
    if (!found) throw new Error("NXDOMAIN");
    return found;
  };
  const give = ({ priorities }: Assignment) => {
    given.push(
      priorities.flat().flatMap((group) => group.endpoints.map((e) => `${e.address.ip}:${e.address.port}`)),
    );
  };
  return { world, records, asked, given, start: () => followDns(world, config, resolve, give) };
}
const at = (...addresses: string[]) => addresses.map((address) => ({ address, ttl: 30 }));

test("every address of every name is an endpoint, and changes are followed", async () => {
  const { world, records, given, start } = scene(1, {}, ["a.example", "10.0.0.9", "b.example"]);
  records.set("a.example", at("10.0.0.2", "10.0.0.1")).set("b.example", at("10.0.0.3"));
  const following = start();
  await world.advance(0);
  assert.deepEqual(given, [["10.0.0.1:80", "10.0.0.2:80", "10.0.0.9:80", "10.0.0.3:80"]]);
  await world.advance(60_000);
  assert.equal(given.length, 1, "the same answer is no news");
  records.set("a.example", at("10.0.0.4"));
  await world.advance(5_000);
  assert.deepEqual(given.at(-1), ["10.0.0.4:80", "10.0.0.9:80", "10.0.0.3:80"]);
  following.stop();
  records.set("a.example", at("10.0.0.5"));
  await world.advance(60_000);
  assert.equal(given.length, 2);
});

test("a name that cannot be looked up serves nobody, and what was known stays when it fails later", async () => {
  const { world, records, given, start } = scene(1);
  start();
  await world.advance(0);
  assert.deepEqual(given, [[]]);
  records.set("a.example", at("10.0.0.1"));
  await world.advance(5_000);
  assert.deepEqual(given.at(-1), ["10.0.0.1:80"]);
  records.delete("a.example");
  await world.advance(60_000);
  assert.equal(given.length, 2);
});

test("the logical cluster has one address, and keeps it while it is one of the answers", async () => {
  const { world, records, given, start } = scene(2);
  records.set("a.example", at("10.0.0.2", "10.0.0.3"));
  start();
  await world.advance(0);
  records.set("a.example", at("10.0.0.1", "10.0.0.2"));
  await world.advance(60_000);
  assert.deepEqual(given, [["10.0.0.2:80"]]);
  records.set("a.example", at("10.0.0.1"));
  await world.advance(60_000);
  assert.deepEqual(given.at(-1), ["10.0.0.1:80"]);
});

test("names are asked for as often as configured, or as their time to live says", async () => {
  const often = scene(1, { dnsRefreshRate: { seconds: 10, nanos: 0 } });
  often.records.set("a.example", at("10.0.0.1"));
  often.start();
  await often.world.advance(60_000);
  assert.ok(Math.abs(often.asked.length - 7) <= 1, String(often.asked.length));
  const told = scene(1, { respectDnsTtl: true });
  told.records.set("a.example", at("10.0.0.1"));
  told.start();
  await told.world.advance(60_000);
  assert.ok(Math.abs(told.asked.length - 3) <= 1, String(told.asked.length));
});
