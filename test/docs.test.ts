/** docs/mesh.md says what is served; it says so in the code's words. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { isUpToDate } from "../scripts/docs.ts";
import { weftVersion } from "../src/api/index.ts";

test("docs/mesh.md lists the fields that are served, as the code has them", () => {
  assert.ok(isUpToDate(), "node scripts/docs.ts writes it anew");
});

test("meshes, peers and people are told the version of package.json", () => {
  const text = readFileSync(new URL("../package.json", import.meta.url), "utf8");
  assert.equal(weftVersion, (JSON.parse(text) as { version: string }).version);
});
