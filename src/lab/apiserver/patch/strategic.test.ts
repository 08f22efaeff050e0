import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { builtinSchema } from "../schema/index.ts";
import { strategicMergePatch } from "./index.ts";

const podSchema = builtinSchema("", "v1", "Pod")!;

const pod = () => ({
  metadata: { labels: { a: "1" }, finalizers: ["x"] },
  spec: {
    containers: [
      { name: "app", image: "app:1", env: [{ name: "A", value: "1" }], args: ["x"] },
      { name: "side", image: "side:1" },
    ],
    volumes: [{ name: "data", emptyDir: {} }],
  },
});

const patched = (patch: object) => strategicMergePatch(podSchema, pod(), patch);
const containers = (patch: object) => (patched({ spec: patch }) as ReturnType<typeof pod>).spec.containers;

describe("strategic merge patch", () => {
  test("merges lists of named things by their names, new ones before those that it does not name", () => {
    const after = containers({
      containers: [{ name: "app", image: "app:2", env: [{ name: "B", value: "2" }] }, { name: "new" }],
    });
    assert.deepEqual(after, [
      {
        name: "app",
        image: "app:2",
        env: [
          { name: "B", value: "2" },
          { name: "A", value: "1" },
        ],
        args: ["x"],
      },
      { name: "new" },
      { name: "side", image: "side:1" },
    ]);
  });

  test("replaces lists that have no key, and removes with null", () => {
    const [app] = containers({ containers: [{ name: "app", args: ["y"], image: null }] });
    assert.deepEqual(app, { name: "app", env: [{ name: "A", value: "1" }], args: ["y"] });
  });

  test("adds to lists of primitives what is not there", () => {
    const after = patched({ metadata: { finalizers: ["y", "x"] } }) as ReturnType<typeof pod>;
    assert.deepEqual(after.metadata.finalizers, ["y", "x"]);
  });

  test("$patch: delete removes an item, $patch: replace a list or a map", () => {
    assert.deepEqual(
      containers({ containers: [{ name: "side", $patch: "delete" }] }).map((c) => c.name),
      ["app"],
    );
    assert.deepEqual(containers({ containers: [{ $patch: "replace" }, { name: "only" }] }), [
      { name: "only" },
    ]);
    assert.deepEqual(
      (patched({ metadata: { labels: { $patch: "replace", b: "2" } } }) as ReturnType<typeof pod>).metadata
        .labels,
      { b: "2" },
    );
  });

  test("$deleteFromPrimitiveList takes values out", () => {
    const after = patched({ metadata: { "$deleteFromPrimitiveList/finalizers": ["x"] } }) as ReturnType<
      typeof pod
    >;
    assert.deepEqual(after.metadata.finalizers, []);
  });

  test("$setElementOrder puts items in order and leaves those of others where they stood", () => {
    const names = (order: string[], list: object[] = []) =>
      containers({ "$setElementOrder/containers": order.map((name) => ({ name })), containers: list }).map(
        (c) => c.name,
      );
    assert.deepEqual(names(["side", "app"]), ["side", "app"]);
    assert.deepEqual(names(["new", "app"], [{ name: "new" }]), ["new", "app", "side"]);
  });

  test("$retainKeys drops what it does not name: one kind of volume gives way to another", () => {
    const after = patched({
      spec: { volumes: [{ name: "data", $retainKeys: ["name", "hostPath"], hostPath: { path: "/x" } }] },
    }) as ReturnType<typeof pod>;
    assert.deepEqual(after.spec.volumes, [{ name: "data", hostPath: { path: "/x" } }]);
  });

  test("refuses an item without its key and an unknown directive", () => {
    assert.throws(
      () => containers({ containers: [{ image: "x" }] }),
      /does not contain declared merge key: name/,
    );
    assert.throws(() => patched({ $patch: "dance" }), /unknown patch type: dance in map/);
  });

  test("no directive is ever stored", () => {
    const after = patched({
      spec: { containers: [{ name: "n", env: [{ $patch: "delete", name: "x" }, { name: "y" }] }] },
    });
    assert.ok(!JSON.stringify(after).includes("$"));
  });
});

type Item = { name: string; image?: string };

/** What merging by name means, said as plainly as possible. */
function naive(live: Item[], patch: (Item & { $patch?: string })[]): Item[] {
  const out = live.map((item) => ({ ...item }));
  for (const { $patch, ...item } of patch) {
    const at = out.findIndex((other) => other.name === item.name);
    if ($patch === "delete") {
      if (at >= 0) out.splice(at, 1);
    } else if (at >= 0) out[at] = { ...out[at]!, ...item };
    else out.push(item);
  }
  return out;
}

test("a patch of containers does what the naive model does", () => {
  const item = fc.record(
    { name: fc.constantFrom("a", "b", "c", "d"), image: fc.constantFrom("1", "2") },
    { requiredKeys: ["name"] },
  );
  const list = fc.uniqueArray(item, { selector: (of) => of.name });
  const patchItem = fc.oneof(
    item,
    fc.record({ name: fc.constantFrom("a", "b", "c"), $patch: fc.constant("delete") }),
  );
  fc.assert(
    fc.property(list, fc.uniqueArray(patchItem, { selector: (of) => of.name }), (live, patch) => {
      const after = strategicMergePatch(
        podSchema,
        { spec: { containers: live } },
        { spec: { containers: patch } },
      );
      const byName = (items: Item[]) => items.toSorted((a, b) => (a.name < b.name ? -1 : 1));
      assert.deepEqual(byName(after.spec.containers), byName(naive(live, patch)));
    }),
  );
});
