/** docs/mesh.md says what is served; it says so in the code's words. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { isUpToDate } from "../scripts/docs.ts";

test("docs/mesh.md lists the fields that are served, as the code has them", () => {
  assert.ok(isUpToDate(), "node scripts/docs.ts writes it anew");
});
