/** The bundle that pods run: named after the sources, made once, and it runs. 2 seconds. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, utimesSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { podBundle } from "./bundle.ts";

const checkout = fileURLToPath(new URL("../../..", import.meta.url));
const root = mkdtempSync(join(tmpdir(), "weft-bundle-"));
for (const part of ["src", "deploy/image", "package.json", "package-lock.json"]) {
  cpSync(join(checkout, part), join(root, part), { recursive: true, preserveTimestamps: true });
}
mkdirSync(join(root, "build"));
symlinkSync(join(checkout, "node_modules"), join(root, "node_modules"));
symlinkSync(join(checkout, "build/protocols"), join(root, "build/protocols"));
after(() => rmSync(root, { recursive: true }));

const now = Date.now();
const day = 24 * 3600 * 1000;

test("the bundle is made once for the same sources, runs, and goes when no lab wanted it for a week", async () => {
  const first = podBundle(root, now);
  assert.ok(first);
  await first.ready;
  const files = readdirSync(join(root, first.path));
  assert.ok(files.includes("main.js"));
  assert.ok(readdirSync(join(root, first.path, "compiled")).length > 0, "with code that is compiled");
  const answer = spawnSync(process.execPath, [join(root, first.path, "main.js"), "proxy", "--help"], {
    encoding: "utf8",
  });
  assert.match(answer.stdout, /sidecar or gateway/, answer.stderr);

  assert.equal(podBundle(root, now + day)?.path, first.path, "the same sources");
  utimesSync(join(root, "src/cli/proxy.ts"), now / 1000, now / 1000 + 5);
  const second = podBundle(root, now + 7 * day);
  assert.ok(second && second.path !== first.path, "other sources");
  await second.ready;
  assert.deepEqual(readdirSync(join(root, "build/pods")).length, 2, "labs of older sources keep theirs");
  await podBundle(root, now + 9 * day)?.ready;
  assert.ok(!readdirSync(join(root, "build/pods")).includes(first.path.split("/").at(-1)!));
});

test("where there are no sources, or no esbuild, there is none", () => {
  assert.equal(podBundle(join(root, "src"), now), undefined);
});
