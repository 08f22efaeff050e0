import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Cell, columnProblem, type PrinterColumn, tableFor } from "./index.ts";
import { ago, now, row } from "./testing.ts";

describe("columns of CRDs", () => {
  const object = {
    metadata: { labels: { "example.org/tier": "gold" } },
    spec: { replicas: 3, ratio: 0.5, paused: false, map: { b: "<1>", a: [true] }, word: "hi", none: null },
    status: {
      conditions: [
        { type: "Ready", status: "True", lastTransitionTime: ago(7) },
        { type: "Valid", status: "False" },
      ],
    },
  };
  const cases: [string, PrinterColumn["type"], Cell][] = [
    [".spec.word", "string", "hi"],
    [".spec.replicas", "integer", 3],
    [".spec.replicas", "string", "3"],
    [".spec.ratio", "number", 0.5],
    [".spec.ratio", "integer", 0],
    [".spec.paused", "boolean", false],
    [".spec.word", "boolean", null],
    [".spec.missing.deeper", "string", null],
    [".spec.none", "string", null],
    [".spec.map", "string", '{"a":[true],"b":"\\u003c1\\u003e"}'],
    [".metadata.labels.example\\.org/tier", "string", "gold"],
    [".metadata.labels['example.org/tier']", "string", "gold"],
    ['.status.conditions[?(@.type=="Valid")].status', "string", "False"],
    [".status.conditions[?(@.type=='Ready')].lastTransitionTime", "date", "7s"],
    [".status.conditions[0].type", "string", "Ready"],
    [".status.conditions[-1].type", "string", "Valid"],
    [".status.conditions[*].type", "string", "Ready"],
    [".status.conditions[9].type", "string", null],
    ["nonsense(", "string", null],
  ];
  for (const [jsonPath, type, expected] of cases) {
    test(`${jsonPath} as ${type}`, () => {
      assert.equal(row("example.org", "Widget", object, [{ name: "It", type, jsonPath }]).IT, expected);
    });
  }

  test("a path that is not understood is named", () => {
    assert.equal(columnProblem(".spec.word"), undefined);
    assert.match(columnProblem("nonsense(")!, /unrecognized column definition "nonsense\("/);
  });

  test("priority and format are the CRD's", () => {
    const column = { name: "It", type: "integer", format: "int32", priority: 1, jsonPath: ".a" };
    const { columnDefinitions } = tableFor({ group: "g", version: "v1", kind: "W" }, [column], [], { now });
    assert.equal(columnDefinitions[1]!.priority, 1);
    assert.equal(columnDefinitions[1]!.format, "int32");
  });
});
