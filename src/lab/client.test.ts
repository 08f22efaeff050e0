import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { eventually } from "../../test/support/eventually.ts";
import { endLab } from "./client.ts";
import { LabState } from "./state.ts";

test("a lab whose holder has ended is gone, also where nobody asks how it ended", {
  timeout: 20_000,
}, async () => {
  const home = mkdtempSync(join(tmpdir(), "weft-test-"));
  const state = new LabState(join(home, "lab"));
  mkdirSync(state.dir);
  // `sleep` takes the place of the shell and never asks how the shell's child ended.
  const parent = spawn("sh", [
    "-c",
    "(sleep 0.1; exec unshare --version >/dev/null) & echo $!; exec sleep 60",
  ]);
  try {
    const [text] = (await once(parent.stdout, "data")) as [Buffer];
    const pid = Number(text);
    const ended = () => readFileSync(`/proc/${pid}/stat`, "utf8").includes("(unshare) Z");
    await eventually("the holder has ended", ended);
    writeFileSync(state.pidFile, `${pid}\n`);
    assert.equal(await endLab(state), false);
  } finally {
    parent.kill("SIGKILL");
    rmSync(home, { recursive: true, force: true });
  }
});
