import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { type ErrorCode, errorTable, WeftError } from "../src/api/index.ts";

const page = readFileSync(new URL("../docs/errors.md", import.meta.url), "utf8");

test("docs/errors.md has one section for each error, with what it says and what to do", () => {
  const sections = [...page.matchAll(/^## ([A-Z_]+)\n\n {4}error: (.*)\n {6}fix: (.*)\n\n(.+)$/gm)];
  assert.deepEqual(
    sections.map(([, code, says, fix]) => [code, says, fix]),
    Object.entries(errorTable).map(([code, { says, fix }]) => [code, says, fix]),
  );
});

test("every name in a text is filled in from the error's values", () => {
  for (const code of Object.keys(errorTable) as ErrorCode[]) {
    const { says, fix } = errorTable[code];
    const names = [...`${says} ${fix}`.matchAll(/\{(\w+)\}/g)].map(([, name]) => name!);
    const error = new WeftError(code, Object.fromEntries(names.map((name) => [name, `<${name}>`])));
    assert.ok(!/\{\w+\}/.test(error.message + error.fix), `${error.message} ${error.fix}`);
    for (const name of names) assert.ok(`${error.message} ${error.fix}`.includes(`<${name}>`));
  }
});
