import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { Endpoint, EndpointPort, EndpointSlice } from "../../api/index.ts";
import { type EndpointGroup, maxEndpointsPerSlice, planSlices, portsKeyOf } from "./slices.ts";

const ports = (number: number): EndpointPort[] => [{ name: "", port: number, protocol: "TCP" }];

function endpoint(pod: number, ready = true): Endpoint {
  return {
    addresses: [`10.10.${pod >> 8}.${pod & 255}`],
    conditions: { ready },
    targetRef: { kind: "Pod", namespace: "demo", name: `p${pod}`, uid: `u${pod}` },
  };
}

/** Slices as they are kept, with the writes that the last plan cost. */
class Slices {
  list: EndpointSlice[] = [];
  #names = 0;

  apply(groups: EndpointGroup[]): number {
    const plan = planSlices(groups, this.list);
    const removed = new Set(plan.remove);
    const updated = new Map(plan.update.map((one) => [one.slice, one]));
    assert.ok(
      plan.update.every(({ slice }) => !removed.has(slice)),
      "written and removed",
    );
    this.list = this.list
      .filter((slice) => !removed.has(slice))
      .map((slice) => {
        const change = updated.get(slice);
        return change ? { ...slice, ports: change.ports, endpoints: change.endpoints } : slice;
      });
    for (const group of plan.create) {
      this.list.push({
        apiVersion: "discovery.k8s.io/v1",
        kind: "EndpointSlice",
        metadata: { name: `s${this.#names++}` },
        ...group,
      });
    }
    return plan.create.length + plan.update.length + plan.remove.length;
  }
}

function groupsOf(pods: Map<number, { port: number; ready: boolean }>): EndpointGroup[] {
  const groups = new Map<number, EndpointGroup>();
  for (const [pod, { port, ready }] of pods) {
    const group = groups.get(port) ?? { addressType: "IPv4", ports: ports(port), endpoints: [] };
    group.endpoints.push(endpoint(pod, ready));
    groups.set(port, group);
  }
  if (groups.size === 0) return [{ addressType: "IPv4", ports: [], endpoints: [] }];
  return [...groups.values()];
}

describe("EndpointSlices of a Service", () => {
  test("hold every endpoint once, with its own ports, at most a hundred each, whatever happened before", () => {
    const pod = fc.tuple(fc.nat(400), fc.record({ port: fc.constantFrom(80, 8080), ready: fc.boolean() }));
    const state = fc.array(pod, { maxLength: 350 }).map((list) => new Map(list));
    fc.assert(
      fc.property(fc.array(state, { minLength: 1, maxLength: 6 }), (states) => {
        const slices = new Slices();
        for (const pods of states) {
          const groups = groupsOf(pods);
          slices.apply(groups);
          const found = new Map<string, string>();
          for (const slice of slices.list) {
            assert.ok((slice.endpoints ?? []).length <= maxEndpointsPerSlice);
            for (const one of slice.endpoints ?? []) {
              assert.ok(!found.has(one.targetRef!.uid!), "twice");
              found.set(one.targetRef!.uid!, `${portsKeyOf(slice.ports ?? [])} ${one.conditions?.ready}`);
            }
          }
          assert.deepEqual(
            [...found].sort(),
            [...pods]
              .map(([pod, { port, ready }]) => [`u${pod}`, `${portsKeyOf(ports(port))} ${ready}`])
              .sort(),
          );
          assert.ok(slices.list.length >= 1, "a Service with a selector has a slice");
          const empty = slices.list.filter((slice) => (slice.endpoints ?? []).length === 0);
          assert.equal(empty.length, pods.size === 0 ? 1 : 0);
          assert.equal(slices.apply(groups), 0, "a second look writes nothing");
        }
      }),
      { numRuns: 60 },
    );
  });

  test("change by one write when one endpoint comes, goes or changes", () => {
    const slices = new Slices();
    const pods = new Map(Array.from({ length: 250 }, (_, n) => [n, { port: 80, ready: true }]));
    assert.equal(slices.apply(groupsOf(pods)), 3);
    pods.set(7, { port: 80, ready: false });
    assert.equal(slices.apply(groupsOf(pods)), 1);
    pods.delete(120);
    assert.equal(slices.apply(groupsOf(pods)), 1);
    pods.set(900, { port: 80, ready: true });
    assert.equal(slices.apply(groupsOf(pods)), 1);
    assert.equal(slices.list.length, 3);
  });

  test("keep their name when the first endpoint comes and when the last one goes", () => {
    const slices = new Slices();
    const none = new Map<number, { port: number; ready: boolean }>();
    slices.apply(groupsOf(none));
    const [before] = slices.list;
    for (const pods of [new Map([[1, { port: 8080, ready: true }]]), none]) {
      slices.apply(groupsOf(pods));
      assert.deepEqual(
        slices.list.map((slice) => slice.metadata.name),
        [before!.metadata.name],
      );
    }
  });
});
