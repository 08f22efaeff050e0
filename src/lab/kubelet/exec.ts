/** Running a program beside a container's own, in all of its namespaces: `kubectl exec`, probes, hooks. */
import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { lstatSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { systemPath } from "../network/index.ts";
import { programWords } from "./rootfs.ts";
import type { RunningContainer } from "./runtime.ts";

/**
 * The words that run `argv` in a container, with its environment; `variables` are for what that does not set.
 * Undefined when the container does not run.
 */
export function execWords(
  container: RunningContainer,
  argv: readonly string[],
  variables: Record<string, string> = {},
): string[] | undefined {
  if (container.pid === undefined) return undefined;
  const { config } = container.record;
  return [
    "nsenter",
    `--target=${container.pid}`,
    "--mount",
    "--uts",
    "--ipc",
    "--net",
    "--pid",
    "--",
    ...programWords({
      ...config,
      env: [...Object.entries({ ...ownershipOf(container.pid, argv), ...variables }), ...config.env],
      argv: [...argv],
    }),
  ];
}

/**
 * `kubectl cp` runs `tar` as the container's root, which gives files to the users of the archive. In a user namespace
 * with a single id, as an ordinary user's lab without subordinate ids is, there is nobody to give them to: GNU tar
 * is told not to try, or it would fail after it wrote all files.
 */
function ownershipOf(pid: number, argv: readonly string[]): Record<string, string> {
  if (basename(argv[0] ?? "") !== "tar") return {};
  const map = readFileSync(`/proc/${pid}/uid_map`, "utf8");
  return mapsOneId(map) ? { TAR_OPTIONS: "--no-same-owner" } : {};
}

/** Whether a user namespace's `uid_map` (lines of inside, outside, length) has a single id. */
export function mapsOneId(map: string): boolean {
  const lengths = map
    .trim()
    .split("\n")
    .map((line) => Number(line.trim().split(/\s+/)[2]));
  return lengths.length === 1 && lengths[0] === 1;
}

/** Whether PATH leads to a program of that name in the container; paths are not looked at. */
export function findInContainer(container: RunningContainer, program: string): boolean {
  if (program.includes("/")) return true;
  const path = container.record.config.env.findLast(([name]) => name === "PATH")?.[1] ?? "";
  return path.split(":").some((dir) => {
    const found = lstatSync(join(`/proc/${container.pid}/root`, dir, program), { throwIfNoEntry: false });
    return found !== undefined && !found.isDirectory();
  });
}

/** The only child of a process, as nsenter and script have one. */
export async function childOf(pid: number): Promise<number | undefined> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8").catch(() => "");
  return children === "" ? undefined : Number.parseInt(children, 10);
}

/** Signals a program in a container: nsenter, which stands for it here, would not hand the signal on. */
export function killInContainer(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined || child.exitCode !== null) return;
  void childOf(child.pid).then((inner) => {
    try {
      if (inner !== undefined) process.kill(inner, signal);
      else child.kill("SIGKILL");
    } catch {
      // It ended by itself.
    }
  });
}

export interface ExecResult {
  /** Exit code; 128 + signal when it was killed; undefined when time was up. */
  code: number | undefined;
  /** The beginning of what it wrote to standard output and standard error. */
  output: string;
}

const mostOutput = 10 * 1024;

/** Runs a program to its end, or for `timeout` ms. Rejects when the container does not run. */
export async function execInContainer(
  container: RunningContainer,
  argv: readonly string[],
  timeout: number,
): Promise<ExecResult> {
  const child = spawnInContainer(container, argv);
  child.stdin.end();
  let output = "";
  const collect = (chunk: Buffer) => {
    if (output.length < mostOutput) output += chunk.toString();
  };
  child.stdout.on("data", collect);
  child.stderr.on("data", collect);
  return new Promise((resolve, reject) => {
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      killInContainer(child, "SIGKILL");
    }, timeout);
    child.on("error", reject);
    child.on("close", (code) => {
      clearTimeout(timer);
      resolve({ code: timedOut ? undefined : (code ?? 137), output });
    });
  });
}

/** Starts a program with pipes. nsenter passes its exit code on, and signals as 128 + signal. */
export function spawnInContainer(
  container: RunningContainer,
  argv: readonly string[],
  variables?: Record<string, string>,
): ChildProcessWithoutNullStreams {
  const words = execWords(container, argv, variables);
  if (!words) throw new Error(`container ${container.record.name} is not running`);
  return spawn(words[0]!, words.slice(1), { stdio: "pipe", env: { PATH: systemPath } });
}
