/** What `npm run real` leaves when it is told to end, and when it is stopped or killed: nothing. About 2 minutes. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, globSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, describe, test } from "node:test";
import { eventually } from "../../support/eventually.ts";
import { labUnavailable, root, run } from "../../support/lab.ts";

const reason =
  process.env.WEFT_REAL_NODES === "1" ? labUnavailable() : "it needs real nodes: npm run test:real";
if (reason) console.log(`skipped: what real clusters leave: ${reason}`);

describe("what real clusters leave", { skip: reason, timeout: 480_000 }, () => {
  const dir = mkdtempSync(join(tmpdir(), "weft-real-test-"));
  const home = join(dir, "home");
  const env = { ...process.env, WEFT_HOME: home, KUBECONFIG: join(dir, "kubeconfig") };
  const script = join(root, "scripts/real.ts");
  const real = (...args: string[]) => run(process.execPath, [script, ...args], env, undefined, 240_000);
  const before = groups();

  afterEach(() => real("down"));
  after(() => rmSync(dir, { recursive: true, force: true }));

  /** Control groups of real clusters, whoever's they are. */
  function groups(): string[] {
    return globSync("/sys/fs/cgroup/{,*/,*/*/,*/*/*/}weft-real-*").sort();
  }

  /** Processes that were started with a word of ours, or have one of our directories mounted. */
  function processes(): string[] {
    return readdirSync("/proc").filter((pid) => {
      if (!/^\d+$/.test(pid)) return false;
      try {
        const files = ["cmdline", "mountinfo"].map((file) => readFileSync(`/proc/${pid}/${file}`, "utf8"));
        return files.some((text) => text.includes(home));
      } catch {
        return false; // it has ended
      }
    });
  }

  function assertNothingIsLeft(): void {
    assert.deepEqual(processes(), []);
    assert.deepEqual(groups(), before);
    assert.equal(existsSync(home), false, "the directory");
    assert.equal(existsSync(env.KUBECONFIG), false, "the kubeconfig, which was not there before");
  }

  /** Starts clusters and stops that by a signal once it has said `line`. */
  async function interrupt(line: RegExp, signal: NodeJS.Signals): Promise<void> {
    const child = spawn(process.execPath, [script, "up", "--clusters", "c1"], { env, stdio: "pipe" });
    let said = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      said += text;
      if (line.test(said)) child.kill(signal);
    });
    await once(child, "close");
    assert.match(said, line);
  }

  test("`down` after a start leaves nothing", async () => {
    const up = await real("up", "--clusters", "c1");
    assert.equal(up.status, 0, up.stdout + up.stderr);
    assert.notDeepEqual(processes(), []);
    assert.notDeepEqual(groups(), before);
    assert.equal((await real("down")).stdout, "the clusters are gone\n");
    assertNothingIsLeft();
    assert.equal((await real("down")).stdout, "there were no clusters\n");
  });

  test("a start that is stopped on the way leaves nothing", async () => {
    await interrupt(/c1: node/, "SIGINT");
    assertNothingIsLeft();
  });

  test("a start that is killed takes its processes along, and `down` takes away the rest", async () => {
    await interrupt(/c1: control plane/, "SIGKILL");
    await eventually("the processes are gone", () => processes().length === 0);
    await real("down");
    assertNothingIsLeft();
  });
});
