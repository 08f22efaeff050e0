import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { labUnavailable } from "../../test/support/lab.ts";
import { endLab } from "./client.ts";
import { launchLab } from "./launch.ts";
import { freePorts } from "./preflight.ts";
import { defaultCluster } from "./spec.ts";
import { LabState } from "./state.ts";

let home: string;
let state: LabState;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "weft-test-"));
  state = new LabState(join(home, "lab"));
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

async function until(what: () => boolean): Promise<void> {
  while (!what()) await new Promise((resolve) => setTimeout(resolve, 2));
}

test("a lab whose holder has ended is gone, also where nobody asks how it ended", {
  timeout: 20_000,
}, async () => {
  mkdirSync(state.dir);
  // `sleep` takes the place of the shell and never asks how the shell's child ended.
  const parent = spawn("sh", ["-c", "unshare --fork cat <&3 >/dev/null & echo $!; exec sleep 60"], {
    stdio: ["ignore", "pipe", "inherit", "pipe"],
  });
  try {
    const [text] = (await once(parent.stdout!, "data")) as [Buffer];
    const stat = (pid: unknown) => readFileSync(`/proc/${pid}/stat`, "utf8");
    await until(() => stat(parent.pid).includes("(sleep)"));
    (parent.stdio[3] as NodeJS.WritableStream).end();
    await until(() => stat(Number(text)).includes("(unshare) Z"));
    writeFileSync(state.pidFile, String(text));
    assert.equal(await endLab(state), false);
  } finally {
    parent.kill("SIGKILL");
  }
});

const reason = labUnavailable();
test("when a start is given up, the last process is gone before anybody goes on", {
  skip: reason,
  timeout: 60_000,
}, async () => {
  for (const delay of [0, 20, 100, 200, 300]) {
    const ports = await freePorts([undefined]);
    const clusters = [defaultCluster("c1", 0)];
    const started = new Date().toISOString();
    state.create({
      spec: { clusters },
      ports: { c1: ports[0]! },
      launcher: process.pid,
      kubeconfig: "",
      started,
    });
    const launch = launchLab(state);
    const holder = readFileSync(state.pidFile, "utf8").trim();
    const inside = () => readFileSync(`/proc/${holder}/task/${holder}/children`, "utf8").trim();
    await until(() => inside() !== "");
    const namespace = readlinkSync(`/proc/${inside()}/ns/pid`);
    launch.ready("backbone").catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, delay)); // another moment of the start each time
    await launch.kill();
    const left = readdirSync("/proc").filter((pid) => /^\d+$/.test(pid) && isIn(pid, namespace));
    assert.deepEqual(left, [], `after ${delay} ms`);
    state.remove();
  }
});

function isIn(pid: string, namespace: string): boolean {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`) === namespace;
  } catch {
    return false;
  }
}
