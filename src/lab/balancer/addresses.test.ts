import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { nameOf, type Service } from "../../api/index.ts";
import { contains } from "../network/index.ts";
import { addressOf, assignAddresses, isBalanced } from "./addresses.ts";

const range = "172.19.0.0/28";
const service = (
  name: string,
  more: { asks?: string; has?: string; type?: string; class?: string; age?: number } = {},
) =>
  ({
    apiVersion: "v1",
    kind: "Service",
    metadata: { namespace: "default", name, creationTimestamp: new Date(more.age ?? 0).toISOString() },
    spec: {
      type: more.type ?? "LoadBalancer",
      ...(more.asks && { loadBalancerIP: more.asks }),
      ...(more.class && { loadBalancerClass: more.class }),
    },
    status: { loadBalancer: more.has ? { ingress: [{ ip: more.has }] } : {} },
  }) as Service;

test("Services keep the address that they have, and others get the first that is free", () => {
  const assigned = assignAddresses(
    [service("new"), service("old", { has: "172.19.0.1" }), service("far", { has: "172.19.0.9" })],
    range,
  );
  assert.deepEqual(Object.fromEntries(assigned), {
    "default/old": "172.19.0.1",
    "default/far": "172.19.0.9",
    "default/new": "172.19.0.2",
  });
});

test("an address that is asked for is given where it can be, to the older of two", () => {
  const assigned = assignAddresses(
    [
      service("young", { asks: "172.19.0.5", age: 2_000 }),
      service("old", { asks: "172.19.0.5", age: 1_000 }),
      service("outside", { asks: "10.0.0.1", age: 3_000 }),
      service("broken", { asks: "nothing", age: 4_000 }),
    ],
    range,
  );
  assert.equal(assigned.get("default/old"), "172.19.0.5");
  assert.equal(assigned.get("default/young"), "172.19.0.1");
  assert.equal(assigned.get("default/outside"), "172.19.0.2");
  assert.equal(assigned.get("default/broken"), "172.19.0.3");
});

test("other types and other classes get none", () => {
  const assigned = assignAddresses(
    [service("node", { type: "NodePort", has: "172.19.0.1" }), service("other", { class: "example.com/lb" })],
    range,
  );
  assert.equal(assigned.size, 0);
});

test("whatever Services say, addresses are of the range, nobody shares one, and who has one that is nobody else's keeps it", () => {
  const address = fc.option(
    fc.integer({ min: 0, max: 20 }).map((n) => `172.19.0.${n}`),
    { nil: undefined },
  );
  fc.assert(
    fc.property(
      fc.uniqueArray(
        fc.record({ name: fc.stringMatching(/^[a-z]{1,3}$/), has: address, asks: address, age: fc.nat(5) }),
        { selector: ({ name }) => name, maxLength: 20 },
      ),
      (list) => {
        const services = list.map(({ name, has, asks, age }) =>
          service(name, { ...(has && { has }), ...(asks && { asks }), age: age * 1000 }),
        );
        const assigned = assignAddresses(services, range);
        const given = [...assigned.values()];
        assert.equal(new Set(given).size, given.length);
        for (const one of given) {
          assert.ok(contains(range, one), one);
          assert.notEqual(one, "172.19.0.0");
        }
        const balanced = services.filter(isBalanced);
        assert.equal(assigned.size >= Math.min(balanced.length, 14), true);
        for (const one of balanced) {
          const has = addressOf(one);
          if (!has || !contains(range, has) || has === "172.19.0.0" || one.spec?.loadBalancerIP) continue;
          const rivals = balanced.filter(
            (other) => other !== one && [addressOf(other), other.spec?.loadBalancerIP].includes(has),
          );
          if (rivals.length === 0) assert.equal(assigned.get(nameOf(one)), has);
        }
        assert.deepEqual(assignAddresses(services.toReversed(), range), assigned);
      },
    ),
  );
});
