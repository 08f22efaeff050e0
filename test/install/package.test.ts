/** The npm package, installed from its file where there is nothing else: no checkout, no registry. 30 seconds. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { makePackage } from "../../scripts/package.ts";
import { labUnavailable, root } from "../support/lab.ts";

const reason = spawnSync("npm", ["--version"]).error
  ? "the program 'npm' is not installed"
  : labUnavailable("lab");
if (reason) console.log(`skipped: the npm package: ${reason}`);

describe("the npm package", { skip: reason, timeout: 600_000 }, () => {
  const dir = mkdtempSync(join(tmpdir(), "weft-package-test-"));
  const user = join(dir, "user");
  const installed = join(user, "node_modules/weft");
  const env = {
    // Nothing of this checkout, and the Node that the machine has besides the pinned one, if any.
    PATH: (process.env.PATH ?? "")
      .split(":")
      .filter((path) => !path.startsWith(root))
      .join(":"),
    HOME: user,
    WEFT_HOME: join(user, ".weft"),
    KUBECONFIG: join(user, "kubeconfig"),
  };
  const run = (command: string, ...args: string[]) => {
    const result = spawnSync(command, args, { cwd: user, env, encoding: "utf8" });
    assert.equal(result.status, 0, `${command} ${args.join(" ")}: ${result.error ?? result.stderr}`);
    return result.stdout;
  };
  const weft = (...args: string[]) => run("npx", "--offline", "weft", ...args);

  before(async () => {
    mkdirSync(user);
    const file = await makePackage(dir);
    run("npm", "install", "--offline", "--no-audit", "--no-fund", "--loglevel=error", file);
  });
  after(() => {
    if (existsSync(env.WEFT_HOME))
      spawnSync("npx", ["--offline", "weft", "down", "--purge"], { cwd: user, env });
    rmSync(dir, { recursive: true, force: true });
  });

  test("asks nothing but itself, and says what it is made of", () => {
    assert.deepEqual(
      readdirSync(join(user, "node_modules")).filter((name) => !name.startsWith(".")),
      ["weft"],
    );
    const bom = JSON.parse(readFileSync(join(installed, "sbom.cdx.json"), "utf8")) as {
      components: { name: string; version: string }[];
    };
    assert.ok(bom.components.length > 20);
    for (const { name, version } of bom.components) assert.ok(name && version, name);
    assert.ok(existsSync(join(installed, "LICENSE")));
  });

  test("has no source that Node would refuse below node_modules, and nothing of tests", () => {
    const files = readdirSync(installed, { recursive: true, encoding: "utf8" }).filter(
      (file) => !file.startsWith("node_modules"),
    );
    assert.ok(files.includes("src/cli/main.js"));
    assert.deepEqual(
      files.filter((file) => /\.ts$|\.test\./.test(file)),
      [],
    );
  });

  test("runs a lab with Weft in it: weft up, weft clusters, weft down", () => {
    weft("up");
    const clusters = weft("clusters", "--context", "weft-c1");
    assert.match(clusters, /^c1 +self +Live/m);
    assert.match(clusters, /^c2 +\S+/m);
    weft("check", "--context", "weft-c1");
    weft("down");
    assert.ok(!existsSync(join(env.WEFT_HOME, "lab")));
  });
});
