import assert from "node:assert/strict";
import { test } from "node:test";
import { strangeAnnotation, strangeLabel } from "./labels.ts";

const long = (length: number) => "a".repeat(length);

test("labels are what an API server takes", () => {
  const good: Record<string, string>[] = [
    { a: "" },
    { "example.com/Some_name.x": "V-1" },
    { [`${long(253)}/${long(63)}`]: long(63) },
    {},
  ];
  for (const labels of good) assert.equal(strangeLabel(labels), undefined);
  const bad: Record<string, string>[] = [
    { "": "x" },
    { "a b": "x" },
    { "a/b/c": "x" },
    { "Example.com/a": "x" },
    { [long(64)]: "x" },
    { [`${long(254)}/a`]: "x" },
    { a: "no spaces" },
    { a: long(64) },
    { a: "-a" },
  ];
  for (const labels of bad)
    assert.match(strangeLabel(labels, "spec.exportedLabels") ?? "", /^spec\.exportedLabels/);
});

test("annotations may say anything, under keys of the same kind, up to 256 KiB", () => {
  assert.equal(strangeAnnotation({ "Example.com/a": "any thing\n", b: long(200_000) }), undefined);
  assert.match(strangeAnnotation({ "a b": "x" }) ?? "", /not the key of an annotation/);
  assert.match(strangeAnnotation({ a: long(200_000), b: long(70_000) }) ?? "", /at most 262144 bytes/);
});
