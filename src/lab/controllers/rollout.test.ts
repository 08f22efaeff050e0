import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { Deployment, ReplicaSet } from "../../api/index.ts";
import {
  bounds,
  initialSize,
  isScaling,
  maxReplicasAnnotation,
  rollingStep,
  scaleStep,
  size,
} from "./rollout.ts";

function deployment(
  replicas: number,
  maxSurge: number | string,
  maxUnavailable: number | string,
): Deployment {
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "serve" },
    spec: {
      replicas,
      selector: {},
      template: {},
      strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge, maxUnavailable } },
    },
  };
}

function set(name: string, replicas: number, availableReplicas: number, most?: number): ReplicaSet {
  return {
    apiVersion: "apps/v1",
    kind: "ReplicaSet",
    metadata: {
      name,
      creationTimestamp: `2026-01-01T00:00:0${name.length}Z` as never,
      annotations: most === undefined ? {} : { [maxReplicasAnnotation]: String(most) },
    },
    spec: { replicas, selector: {} },
    status: { replicas, availableReplicas },
  };
}

const limit = fc.oneof(
  fc.nat(4),
  fc.nat(100).map((n) => `${n}%`),
);

describe("a rolling update", () => {
  test("reaches its end from anywhere, never above the surge, never below what must be available", () => {
    fc.assert(
      fc.property(
        fc.nat(12),
        limit,
        limit,
        fc.array(fc.nat(3), { minLength: 1 }),
        (replicas, surge, unavailable, pace) => {
          const target = deployment(replicas, surge, unavailable);
          const most = replicas + bounds(target).surge;
          const least = replicas - bounds(target).unavailable;
          const old = set("a", replicas, replicas);
          let current = set("bb", initialSize(target, [old]), 0);
          let before = old;
          for (let step = 0; step < 500; step++) {
            if (
              size(current) === replicas &&
              size(before) === 0 &&
              current.status!.availableReplicas === replicas
            )
              return;
            for (const { set: scaled, to } of rollingStep(target, current, [before])) {
              // Pods that go are the unavailable ones first; new ones are not available yet.
              const left = Math.min(scaled.status!.availableReplicas!, to);
              if (scaled === current) current = set("bb", to, left);
              else before = set("a", to, left);
            }
            assert.ok(size(current) + size(before) <= most, "too many");
            const available = current.status!.availableReplicas! + before.status!.availableReplicas!;
            assert.ok(available >= Math.min(least, replicas), `${available} available of at least ${least}`);
            const more = Math.max(step % 5 === 0 ? 1 : 0, pace[step % pace.length]!);
            current = set(
              "bb",
              size(current),
              Math.min(size(current), current.status!.availableReplicas! + more),
            );
          }
          assert.fail("does not end");
        },
      ),
      { numRuns: 500 },
    );
  });

  test("takes pods that never became available first", () => {
    const steps = rollingStep(deployment(4, 1, 0), set("bb", 1, 0), [set("a", 4, 2)]);
    assert.deepEqual(steps, []);
    const broken = rollingStep(deployment(4, 1, 2), set("bb", 1, 0), [set("a", 4, 2)]);
    assert.deepEqual(
      broken.map(({ to }) => to),
      [2],
    );
  });
});

describe("scaling", () => {
  test("in the middle of a rollout is shared out in proportion, and adds up", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 30 }),
        fc.integer({ min: 1, max: 30 }),
        fc.nat(60),
        (a, b, replicas) => {
          const target = deployment(replicas, "25%", "25%");
          const old = set("a", a, a, a + b);
          const current = set("bb", b, 0, a + b);
          const sizes = new Map([old, current].map((one) => [one, size(one)]));
          for (const { set: scaled, to } of scaleStep(target, current, [old])) sizes.set(scaled, to);
          const sum = [...sizes.values()].reduce((one, other) => one + other, 0);
          assert.ok([...sizes.values()].every((one) => one >= 0));
          assert.equal(sum, replicas > 0 ? replicas + bounds(target).surge : 0);
        },
      ),
    );
  });

  test("is seen by the count that the ReplicaSets were last scaled to", () => {
    const one = set("a", 2, 2);
    one.metadata.annotations!["deployment.kubernetes.io/desired-replicas"] = "2";
    assert.equal(isScaling(deployment(2, 1, 1), [one]), false);
    assert.equal(isScaling(deployment(3, 1, 1), [one]), true);
    assert.deepEqual(
      scaleStep(deployment(3, 1, 1), one, []).map(({ to }) => to),
      [3],
    );
  });
});

describe("bounds", () => {
  for (const [replicas, surge, unavailable, expected] of [
    [10, "25%", "25%", { surge: 3, unavailable: 2 }],
    [1, "25%", "25%", { surge: 1, unavailable: 0 }],
    [4, 0, 0, { surge: 0, unavailable: 1 }],
    [4, 0, "10%", { surge: 0, unavailable: 1 }],
    [2, 1, 5, { surge: 1, unavailable: 2 }],
  ] as const) {
    test(`${replicas} replicas, surge ${surge}, unavailable ${unavailable}`, () => {
      assert.deepEqual(bounds(deployment(replicas, surge, unavailable)), expected);
    });
  }
});
