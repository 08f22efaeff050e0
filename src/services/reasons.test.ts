import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { exportReasons, importReasons } from "./reasons.ts";

const page = readFileSync(new URL("../../docs/mcs.md", import.meta.url), "utf8");

test("docs/mcs.md has one row for each condition, status and reason that there is", () => {
  const rows = [...page.matchAll(/^\| (Service\w+) \| (\w+) \| (True|False) \| (\w+) \| .+ \|$/gm)];
  const expected = Object.entries({ ServiceExport: exportReasons, ServiceImport: importReasons }).flatMap(
    ([kind, conditions]) =>
      Object.entries(conditions).flatMap(([type, statuses]) =>
        Object.entries(statuses).flatMap(([status, reasons]) =>
          (reasons as readonly string[]).map((reason) => [kind, type, status, reason]),
        ),
      ),
  );
  assert.deepEqual(
    rows.map(([, ...row]) => row),
    expected,
  );
});
