import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { jsonPatch, mergePatch, PatchError } from "./index.ts";

const document = { spec: { replicas: 1, list: ["a", "b"], "a/b": { "c~d": 1 } } };

describe("JSON patch", () => {
  const cases: [string, object[], object][] = [
    ["adds a member", [{ op: "add", path: "/spec/x", value: 1 }], { x: 1 }],
    ["replaces", [{ op: "replace", path: "/spec/replicas", value: 2 }], { replicas: 2 }],
    ["inserts into a list", [{ op: "add", path: "/spec/list/1", value: "x" }], { list: ["a", "x", "b"] }],
    ["appends to a list", [{ op: "add", path: "/spec/list/-", value: "x" }], { list: ["a", "b", "x"] }],
    ["counts from the end", [{ op: "replace", path: "/spec/list/-1", value: "x" }], { list: ["a", "x"] }],
    ["knows escapes", [{ op: "replace", path: "/spec/a~1b/c~0d", value: 2 }], { "a/b": { "c~d": 2 } }],
    ["moves", [{ op: "move", from: "/spec/list/0", path: "/spec/first" }], { first: "a", list: ["b"] }],
    ["copies", [{ op: "copy", from: "/spec/list", path: "/spec/again" }], { again: ["a", "b"] }],
    ["tests", [{ op: "test", path: "/spec/list", value: ["a", "b"] }], {}],
  ];
  for (const [name, ops, changed] of cases) {
    test(name, () => assert.deepEqual(jsonPatch(document, ops), { spec: { ...document.spec, ...changed } }));
  }

  const refused: [object, string][] = [
    [
      { op: "add", path: "/status/x/y", value: 1 },
      'add operation does not apply: doc is missing path: "/status/x/y": missing value',
    ],
    [
      { op: "remove", path: "/spec/x" },
      "error in remove for path: '/spec/x': Unable to remove nonexistent key: x: missing value",
    ],
    [
      { op: "remove", path: "/nope/x" },
      'remove operation does not apply: doc is missing path: "/nope/x": missing value',
    ],
    [
      { op: "replace", path: "/spec/list/9", value: 1 },
      "replace operation does not apply: doc is missing key: /spec/list/9: missing value",
    ],
    [{ op: "test", path: "/spec/replicas", value: 2 }, "testing value /spec/replicas failed: test failed"],
    [
      { op: "add", path: "/spec/list/9", value: 1 },
      "error in add for path: '/spec/list/9': Unable to access invalid index: 9: invalid index referenced",
    ],
    [{ op: "dance", path: "/spec" }, "Unexpected kind: dance"],
  ];
  for (const [op, message] of refused) {
    test(`refuses ${JSON.stringify(op)}`, () => {
      assert.throws(() => jsonPatch(document, [op]), { name: "PatchError", code: 422, message });
    });
  }

  test("leaves the original alone, also where it fails half way", () => {
    const before = structuredClone(document);
    assert.throws(
      () =>
        jsonPatch(document, [
          { op: "remove", path: "/spec/list/0" },
          { op: "remove", path: "/no" },
        ]),
      PatchError,
    );
    assert.deepEqual(document, before);
  });

  test("cannot make more of a document than there is memory", () => {
    // Each copy doubles it: 60 of them ended the API server once.
    const doubling = Array.from({ length: 60 }, (_, i) => ({
      op: "copy",
      from: "/data",
      path: `/data/c${i}`,
    }));
    assert.throws(() => jsonPatch({ data: { x: "y".repeat(1000) } }, doubling), {
      code: 422,
      message:
        /^Unable to complete the copy, the accumulated size increase of copy is \d+, exceeding the limit/,
    });
    assert.throws(() => jsonPatch({}, Array(10_001).fill({ op: "add", path: "/x", value: 1 })), {
      code: 413,
    });
  });

  test("cannot reach a prototype", () => {
    const ops = [{ op: "add", path: "/__proto__/polluted", value: true }];
    assert.throws(() => jsonPatch({}, ops), PatchError);
    assert.throws(
      () => jsonPatch({}, [{ op: "add", path: "/constructor/prototype/polluted", value: true }]),
      PatchError,
    );
    assert.equal(({} as { polluted?: boolean }).polluted, undefined);
  });
});

describe("JSON merge patch", () => {
  test("follows the examples of RFC 7386", () => {
    const examples: [object, object, object][] = [
      [{ a: "b" }, { a: "c" }, { a: "c" }],
      [{ a: "b" }, { b: "c" }, { a: "b", b: "c" }],
      [{ a: "b" }, { a: null }, {}],
      [{ a: "b", b: "c" }, { a: null }, { b: "c" }],
      [{ a: ["b"] }, { a: "c" }, { a: "c" }],
      [{ a: "c" }, { a: ["b"] }, { a: ["b"] }],
      [{ a: { b: "c" } }, { a: { b: "d", c: null } }, { a: { b: "d" } }],
      [{ a: [{ b: "c" }] }, { a: [1] }, { a: [1] }],
      [{ e: null }, { a: 1 }, { e: null, a: 1 }],
      [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
    ];
    for (const [target, patch, result] of examples) assert.deepEqual(mergePatch(target, patch), result);
  });

  test("refuses what is no object", () => {
    assert.throws(() => mergePatch({}, ["a"]), { code: 400, message: "Invalid JSON Patch" });
  });

  test("applied twice is applied once, and changes no prototype", () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.string(), fc.jsonValue()),
        fc.dictionary(fc.string(), fc.jsonValue()),
        (target, patch) => {
          const once = mergePatch(target, patch);
          assert.deepEqual(mergePatch(once, patch), once);
          assert.equal(Object.getPrototypeOf(once), Object.prototype);
        },
      ),
    );
  });
});
