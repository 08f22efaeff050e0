import assert from "node:assert/strict";
import { test } from "node:test";
import { SimulatedWorld } from "../world/index.ts";
import { statusPart } from "./wanted.ts";

test("conditions of items have the time of their last change too: a listener's by name, a parent's by place", async () => {
  const world = new SimulatedWorld(1);
  const row = (status: string) => ({
    metadata: { namespace: "a", name: "b" },
    status: {
      listeners: [
        { name: "http", conditions: [{ type: "Accepted", status: "True" }] },
        { name: "https", conditions: [{ type: "Accepted", status }] },
      ],
      parents: [{ conditions: [{ type: "Accepted", status }] }],
      addresses: [{ value: "10.0.0.1" }],
    },
  });
  type Row = { status: { listeners: { conditions: { lastTransitionTime: string }[] }[]; parents: object[] } };
  const part = (status: string, current: object) =>
    statusPart(
      world,
      row(status) as never,
      { metadata: { name: "b" }, ...current } as never,
    ) as unknown as Row;
  const first = part("True", {});
  await world.advance(60_000);
  assert.deepEqual(part("True", first), first, "nothing changes by itself");
  const reversed = { status: { ...first.status, listeners: [...first.status.listeners].reverse() } };
  const second = part("False", reversed);
  assert.deepEqual(second.status.listeners[0], first.status.listeners[0]);
  assert.notEqual(
    second.status.listeners[1]!.conditions[0]!.lastTransitionTime,
    first.status.listeners[1]!.conditions[0]!.lastTransitionTime,
  );
  assert.notDeepEqual(second.status.parents, first.status.parents);
});
