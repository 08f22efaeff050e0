import assert from "node:assert/strict";
import { test } from "node:test";
import { age, table } from "./table.ts";

test("tables have kubectl's columns", () => {
  assert.equal(
    table(
      ["NAME", "AGE"],
      [
        ["weft-c1", "5s"],
        ["c", undefined],
      ],
    ),
    ["NAME      AGE", "weft-c1   5s", "c         <none>"].join("\n"),
  );
});

test("ages are written as kubectl writes them", () => {
  const minute = 60;
  const hour = 3600;
  const day = 24 * hour;
  for (const [seconds, text] of [
    [0, "0s"],
    [119, "119s"],
    [120, "2m"],
    [125, "2m5s"],
    [10 * minute, "10m"],
    [179 * minute, "179m"],
    [3 * hour, "3h"],
    [3 * hour + minute, "3h1m"],
    [8 * hour, "8h"],
    [47 * hour, "47h"],
    [2 * day, "2d"],
    [2 * day + hour, "2d1h"],
    [8 * day, "8d"],
    [800 * day, "2y70d"],
    [-5, "0s"],
  ] as const) {
    assert.equal(age(seconds), text);
  }
});
