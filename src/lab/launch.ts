/** Starts a lab's daemon in namespaces of its own and follows it until the lab stands. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import { delimiter } from "node:path";
import { fileURLToPath } from "node:url";
import { WeftError } from "../api/index.ts";
import { systemPath } from "./network/index.ts";
import { namespaceOptions, namespaceTrouble } from "./preflight.ts";
import { type LabEvent, type LabOrder, readLines, writeLine } from "./protocol.ts";
import type { LabState } from "./state.ts";

/** A lab that is coming up. Until `release` it lives only as long as this process. */
export interface Launch {
  /** Resolves when `name` (`backbone`, a cluster, a node) was ready once; rejects when the lab ends before. */
  ready(name: string): Promise<void>;
  /** Lets the clusters start: their keys are written. */
  start(): void;
  /** From here on the lab stays when this process ends. */
  release(): void;
  /** Ends the lab at once, every process of it. Resolves when they are gone. */
  kill(): Promise<void>;
}

/** The lab's directory must have been written. Trouble with namespaces is diagnosed when the start fails. */
export function launchLab(state: LabState): Launch {
  const log = openSync(state.log, "a", 0o600);
  const daemon = fileURLToPath(new URL("daemon.ts", import.meta.url));
  // A shell is pid 1: it reaps what orphans leave, which Node would not.
  const command = [
    "sh",
    "-c",
    '"$@"; exit $?',
    "weft-lab",
    process.execPath,
    ...daemonFlags,
    daemon,
    state.dir,
  ];
  const child = spawn("unshare", [...namespaceOptions, ...command], {
    detached: true,
    stdio: ["ignore", log, log, "pipe"],
    env: environment(),
    cwd: "/",
  });
  closeSync(log);
  if (child.pid) writeFileSync(state.pidFile, `${child.pid}\n`);
  child.unref();
  const channel = child.stdio[3] as Socket;
  const seen = new Set<string>();
  const waiting = new Map<string, { resolve: () => void; reject: (error: Error) => void }[]>();
  let ended: Error | undefined;
  const fail = (error: Error) => {
    ended ??= error;
    for (const list of waiting.values()) for (const { reject } of list) reject(ended);
    waiting.clear();
  };
  let lastFailure = "";
  const failures = new Map<string, number>();
  readLines(channel, (value) => {
    const event = value as LabEvent;
    if ("failed" in event) {
      lastFailure = event.failed;
      const { process: name } = event;
      if (name === undefined || seen.has(name)) return;
      failures.set(name, (failures.get(name) ?? 0) + 1);
      if (failures.get(name) === maxFailures) {
        fail(new WeftError("LAB_FAILED", { reason: lastFailure, log: state.failedLog }));
      }
      return;
    }
    seen.add(event.ready);
    for (const { resolve } of waiting.get(event.ready) ?? []) resolve();
    waiting.delete(event.ready);
  });
  channel.on("error", () => {});
  const order = (order: LabOrder["order"]) => writeLine(channel, { order } satisfies LabOrder);
  const exit = new Promise<void>((resolve) => {
    child.on("error", (error) => {
      fail(new WeftError("LAB_FAILED", { reason: error.message, log: state.failedLog }, error));
      resolve();
    });
    child.on("exit", () => {
      const trouble = seen.size === 0 && !lastFailure ? namespaceTrouble() : undefined;
      const reason = lastFailure || lastLine(state.log) || "its daemon ended";
      fail(trouble ?? new WeftError("LAB_FAILED", { reason, log: state.failedLog }));
      resolve();
    });
  });
  return {
    ready: (name) =>
      new Promise((resolve, reject) => {
        if (seen.has(name)) return resolve();
        if (ended) return reject(ended);
        const list = waiting.get(name) ?? [];
        list.push({ resolve, reject });
        waiting.set(name, list);
      }),
    start: () => order("start"),
    release() {
      order("release");
      channel.end();
    },
    async kill() {
      // Otherwise this process may end before it hears of the end, and leaves what it was about to take away.
      child.ref();
      killTree(child);
      await exit;
    },
  };
}

/** A process that ended so often before it was ever ready will not be. */
const maxFailures = 4;
const daemonFlags = ["--max-semi-space-size=1", "--v8-pool-size=1"];

/**
 * Ends pid 1 of the lab, which takes the rest; unshare waits for it, so that it ends last of all. Before there is a
 * pid 1 there is only unshare.
 */
function killTree(child: ChildProcess): void {
  try {
    const first = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8").trim();
    if (first) process.kill(Number(first), "SIGKILL");
    else child.kill("SIGKILL");
  } catch {
    child.kill("SIGKILL"); // it is gone, or is ended with what it holds (--kill-child)
  }
}

/** What the lab's processes inherit: no more than they need. */
function environment(): NodeJS.ProcessEnv {
  const kept: NodeJS.ProcessEnv = {};
  for (const name of ["HOME", "LANG", "TZ", "NODE_COMPILE_CACHE", "WEFT_HOME", "WEFT_DEBUG", "WEFT_FSYNC"]) {
    if (process.env[name] !== undefined) kept[name] = process.env[name];
  }
  const path = [...new Set(`${process.env.PATH ?? ""}${delimiter}${systemPath}`.split(delimiter))];
  return { ...kept, PATH: path.filter(Boolean).join(delimiter) };
}

function lastLine(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8").trim().split("\n").at(-1);
  } catch {
    return undefined;
  }
}
