/** docs/architecture.md says which test proves which law: those tests must be there, and no law without one. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { root } from "./support/lab.ts";

const page = readFileSync(join(root, "docs/architecture.md"), "utf8");
const rows = [...page.matchAll(/^\| (\d+|all) \| `([^`]+\.test\.ts)`: (.+) \|$/gm)].map(
  ([, law, file, name]) => ({ law: law!, file: file!, name: name! }),
);

test("every law of the document is proved by a test", () => {
  const laws = [...page.matchAll(/^(\d+)\. \*\*/gm)].map(([, law]) => law!);
  assert.equal(laws.length, 12);
  for (const law of laws)
    assert.ok(
      rows.some((row) => row.law === law),
      `law ${law} has no test`,
    );
});

test("the tests that prove the laws are there under the names that the document gives", () => {
  for (const { file, name } of rows) {
    const source = readFileSync(join(root, file), "utf8");
    assert.ok(source.includes(name), `${file} has no test '${name}'`);
  }
});
