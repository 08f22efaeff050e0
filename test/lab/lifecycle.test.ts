/**
 * `weft up` and `weft down` as a person meets them: what stands after `up`, and that nothing of a lab stays
 * behind, however it ends.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import type { LabStatus } from "../../src/lab/index.ts";
import { eventually } from "../support/eventually.ts";
import { labUnavailable, type Result, root, run, tableRows } from "../support/lab.ts";

const bin = join(root, "bin/weft");
const reason = labUnavailable();
if (reason) console.log(`skipped: the lab's lifecycle: ${reason}`);

describe("the lab's lifecycle", { skip: reason, timeout: 240_000 }, () => {
  let home: string;
  let kubeconfig: string;
  let env: NodeJS.ProcessEnv;
  const weft = (...args: string[]): Promise<Result> => run(bin, args, env);

  beforeEach(() => {
    home = mkdtempSync(join(tmpdir(), "weft-test-"));
    kubeconfig = join(home, "kubeconfig");
    env = { ...process.env, WEFT_HOME: join(home, "weft"), KUBECONFIG: kubeconfig };
  });
  afterEach(async () => {
    await weft("down");
    rmSync(home, { recursive: true, force: true });
  });

  /** The lab's pid namespace, as /proc names it; every process of the lab is in it. */
  function labNamespace(): string | undefined {
    try {
      const holder = readFileSync(join(home, "weft/lab/lab.pid"), "utf8").trim();
      const child = readFileSync(`/proc/${holder}/task/${holder}/children`, "utf8").trim().split(" ")[0];
      return readlinkSync(`/proc/${child}/ns/pid`);
    } catch {
      return undefined;
    }
  }

  function processesIn(namespace: string): string[] {
    return readdirSync("/proc").filter((pid) => {
      try {
        return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/ns/pid`) === namespace;
      } catch {
        return false;
      }
    });
  }

  async function nothingIsLeft(namespace: string | undefined): Promise<void> {
    if (namespace) {
      await eventually("the lab's processes are gone", () => processesIn(namespace).length === 0, 5_000);
    }
    assert.deepEqual(existsSync(home) ? readdirSync(home) : [], [], "files are left");
    assert.equal(readFileSync("/proc/mounts", "utf8").includes("weft-"), false, "mounts are left");
  }

  test("up starts clusters that kubectl reaches, a second up says so, down leaves nothing", async () => {
    const up = await weft("up");
    assert.equal(up.status, 0, up.stderr);
    const namespace = labNamespace();
    assert.ok(namespace);
    for (const cluster of ["c1", "c2"]) {
      const pods = await run("kubectl", ["--context", `weft-${cluster}`, "get", "pods", "-A"], env);
      const rows = tableRows(pods.stdout);
      const [row] = rows.filter(({ NAMESPACE }) => NAMESPACE === "weft-system");
      assert.deepEqual([row?.READY, row?.STATUS, row?.RESTARTS], ["1/1", "Running", "0"], pods.stdout);
    }
    const status = JSON.parse((await weft("status", "-o", "json")).stdout) as LabStatus;
    assert.deepEqual(
      status.clusters.map(({ name, state, context, nodes }) => ({ name, state, context, nodes })),
      [
        { name: "c1", state: "running", context: "weft-c1", nodes: ["c1-control-plane"] },
        { name: "c2", state: "running", context: "weft-c2", nodes: ["c2-control-plane"] },
      ],
    );
    assert.ok(status.memory > 0);

    const again = await weft("up");
    assert.equal(again.status, 1);
    assert.equal(
      again.stderr,
      "error: the lab is already running (c1, c2)\n  fix: 'weft status' shows it, 'weft down' ends it\n",
    );

    // The tour starts its own lab; it does not end one that it did not start.
    const tour = await weft("tour");
    assert.deepEqual([tour.status, tour.stderr], [1, again.stderr]);
    assert.equal((await weft("status")).status, 0);

    assert.equal((await weft("down")).status, 0);
    await nothingIsLeft(namespace);
    const gone = await weft("status");
    assert.deepEqual([gone.status, gone.stderr.split("\n")[0]], [1, "error: no lab is running"]);
  });

  test("contexts go into a person's kubeconfig and come out of it again", async () => {
    const before = [
      "# mine",
      "apiVersion: v1",
      "kind: Config",
      "clusters:",
      "- cluster:",
      "    server: https://mine.example",
      "  name: mine",
      "contexts:",
      "- context:",
      "    cluster: mine",
      "    user: me",
      "  name: mine",
      "current-context: mine",
      "users:",
      "- name: me",
      "  user:",
      "    token: secret",
      "",
    ].join("\n");
    writeFileSync(kubeconfig, before);
    const up = await weft("up", "--clusters", "east");
    assert.equal(up.status, 0, up.stderr);
    const contexts = await run("kubectl", ["config", "get-contexts", "-o", "name"], env);
    assert.deepEqual(contexts.stdout.trim().split("\n").sort(), ["mine", "weft-east"]);
    assert.equal((await weft("down")).status, 0);
    assert.equal(readFileSync(kubeconfig, "utf8"), before);
    rmSync(kubeconfig);
  });

  for (const delay of [50, 300, 700, 1500]) {
    for (const signal of ["SIGINT", "SIGKILL"] as const) {
      test(`${signal} ${delay} ms after the start of up leaves nothing`, async () => {
        const { child, ended } = begin("up");
        await new Promise((resolve) => setTimeout(resolve, delay)); // a moment of an unknown kind, on purpose
        const namespace = labNamespace();
        child.kill(signal);
        const status = await ended;
        // It was up before the signal came: then it is a lab like any other.
        if (status === 0) assert.equal((await weft("down")).status, 0);
        await eventually("the directory is gone", () => !existsSync(join(home, "weft/lab/lab.sock")), 5_000);
        if (signal === "SIGKILL") await weft("down"); // what only a next command can take away: files
        await nothingIsLeft(namespace);
      });
    }
  }

  test("Ctrl-C in npm start, pressed twice: nothing is left when the prompt is back", async () => {
    // A group of its own stands for the terminal's: Ctrl-C goes to npm, to its shell and to what that runs.
    const child = spawn("npm", ["start"], { cwd: root, env, stdio: "ignore", detached: true });
    const ended = new Promise((resolve) => child.on("exit", resolve));
    await eventually("the lab is up", () => existsSync(kubeconfig), 60_000);
    const namespace = labNamespace();
    assert.ok(namespace);
    process.kill(-child.pid!, "SIGINT");
    await new Promise((resolve) => setTimeout(resolve, 150)); // while it takes the lab down
    process.kill(-child.pid!, "SIGINT");
    await ended;
    assert.deepEqual(processesIn(namespace), []);
    assert.equal(existsSync(`${kubeconfig}.lock`), false);
    await nothingIsLeft(namespace);
  });

  test("down ends the lab also while something writes into its directory", async () => {
    const up = await weft("up", "--clusters", "c1");
    assert.equal(up.status, 0, up.stderr);
    const namespace = labNamespace()!;
    // As a node does that is still at work: it makes its directories again.
    const writer = (async () => {
      while (processesIn(namespace).length > 0) {
        for (let i = 0; i < 100; i++) {
          for (const at of ["nodes", "nodes/n", "nodes/n/pods"]) {
            mkdirSync(join(home, "weft/lab/c1", at), { recursive: true });
            writeFileSync(join(home, "weft/lab/c1", at, "x"), "");
          }
        }
        await new Promise((resolve) => setImmediate(resolve));
      }
    })().catch(() => {}); // it was taken away between two of these
    const down = await weft("down");
    await writer;
    assert.deepEqual([down.status, down.stderr], [0, ""]);
    assert.deepEqual(processesIn(namespace), []);
  });

  test("a port that is in use is named, and nothing is left behind", async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    const up = await weft("up", "--port", String(port));
    server.close();
    assert.deepEqual(
      [up.status, up.stderr],
      [1, `error: port ${port} on 127.0.0.1 is in use\n  fix: free it, or choose another with --port\n`],
    );
    await nothingIsLeft(undefined);
  });

  test("a port that only administrators may use is named as such", async () => {
    // Whoever is root only in a user namespace is nobody special on the machine's network.
    const up = await run("unshare", ["--user", "--map-root-user", bin, "up", "--port", "1023"], env);
    assert.deepEqual(
      [up.status, up.stderr.split("\n")[0]],
      [1, "error: this user may not listen on port 1023 of 127.0.0.1"],
    );
    await nothingIsLeft(undefined);
  });

  test("user namespaces that are switched off are named, and nothing is left behind", async () => {
    // The limit can be set to 0 inside a user namespace, for that namespace alone.
    const script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"';
    const up = await run("unshare", ["--user", "--map-root-user", "sh", "-c", script, "sh", bin, "up"], env);
    assert.equal(up.status, 1);
    assert.match(
      up.stderr,
      /^error: this machine does not let this user make namespaces: .*max_user_namespaces/,
    );
    assert.match(up.stderr, /\n {2}fix: sudo sysctl user\.max_user_namespaces=\d+\n$/);
    await nothingIsLeft(undefined);
  });

  test("a lab whose daemon was killed is gone, and the next up takes its traces away", async () => {
    const up = await weft("up", "--clusters", "c1");
    assert.equal(up.status, 0, up.stderr);
    const namespace = labNamespace();
    process.kill(Number(readFileSync(join(home, "weft/lab/lab.pid"), "utf8")), "SIGKILL");
    await eventually("the lab's processes are gone", () => processesIn(namespace!).length === 0, 5_000);
    assert.equal((await weft("status")).status, 1);
    const again = await weft("up", "--clusters", "c1");
    assert.equal(again.status, 0, again.stderr);
    assert.equal((await weft("down")).status, 0);
    await nothingIsLeft(namespace);
  });

  function begin(...args: string[]): { child: ChildProcess; ended: Promise<number | null> } {
    const child = spawn(process.execPath, [bin, ...args], { env, stdio: "ignore" });
    return { child, ended: new Promise((resolve) => child.on("exit", resolve)) };
  }
});
