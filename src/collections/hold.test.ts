import assert from "node:assert/strict";
import { test } from "node:test";
import { SimulatedWorld } from "../world/index.ts";
import { Engine, holdBack, source } from "./index.ts";

test("rows that something given up on stands behind are pending until it is heard; whoever held back looks again", () => {
  const engine = new Engine({
    world: new SimulatedWorld(1),
    onBug: ({ error }) => {
      throw error;
    },
  });
  const rows = source<{ key: string }>(engine, { name: "rows", key: ({ key }) => key, synced: true });
  const refused = source<{ name: string }>(engine, {
    name: "refused",
    key: ({ name }) => name,
    synced: true,
  });
  const held = holdBack(rows, {
    by: (key) => [...refused.values()].filter(({ name }) => key === undefined || key.startsWith(`${name}/`)),
    changes: refused,
  });
  let looks = 0;
  const end = held.subscribe(() => looks++);
  rows.put({ key: "c2/a" });
  refused.put({ name: "c2" });
  engine.settle();
  assert.deepEqual([...held.keys()], ["c2/a"]);
  assert.deepEqual(
    held.pending("c2/b").map(({ name }) => name),
    ["c2"],
    "an absent row too",
  );
  assert.deepEqual(held.pending("c3/a"), []);
  const before = looks;
  refused.remove("c2");
  engine.settle();
  assert.deepEqual(held.pending(), []);
  assert.equal(looks, before + 1);
  end();
  rows.remove("c2/a");
  engine.settle();
  assert.equal(looks, before + 1);
});
