/** The processes of a running lab as this machine's /proc shows them, and programs run beside them. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";

export interface LabProcess {
  /** As this machine numbers it, and as the lab does. */
  pid: number;
  labPid: number;
  command: string[];
  /** Its parent, as this machine numbers it. */
  parent: number;
}

/** The first process of the lab, with which all others end; undefined when there is no lab. */
export function firstProcess(labDir: string): number | undefined {
  try {
    const holder = readFileSync(join(labDir, "lab.pid"), "utf8").trim();
    return Number(readFileSync(`/proc/${holder}/task/${holder}/children`, "utf8").trim().split(" ")[0]);
  } catch {
    return undefined;
  }
}

/** Every process below the first one; also those in pid namespaces of their own (containers). */
export function processesOf(labDir: string): LabProcess[] {
  const first = firstProcess(labDir);
  if (!first) return [];
  const all = new Map<number, LabProcess>();
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const found = look(Number(entry));
    if (found) all.set(found.pid, found);
  }
  const below = (each: LabProcess): boolean => {
    for (let at: LabProcess | undefined = each; at; at = all.get(at.parent))
      if (at.pid === first) return true;
    return false;
  };
  return [...all.values()].filter(below);
}

function look(pid: number): LabProcess | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    if (/^State:\s+[ZX]/m.test(status)) return undefined;
    const numbers = /^NSpid:\s+(.*)$/m.exec(status)![1]!.trim().split(/\s+/).map(Number);
    return {
      pid,
      // The machine's pid namespace, then the lab's, then a container's.
      labPid: numbers[1] ?? pid,
      parent: Number(/^PPid:\s+(\d+)$/m.exec(status)![1]),
      command: readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1),
    };
  } catch {
    return undefined; // it ended while we looked
  }
}

/** The process of a cluster, or of one of its nodes. */
export function clusterProcess(labDir: string, cluster: string): LabProcess | undefined {
  return processesOf(labDir).find(
    ({ command }) =>
      command.some((word) => word.endsWith("/src/lab/cluster.ts")) && command.at(-1) === cluster,
  );
}

export function nodeProcess(labDir: string, node: string): LabProcess | undefined {
  return processesOf(labDir).find(
    ({ command }) => command.some((word) => word.endsWith("/src/lab/node.ts")) && command.at(-1) === node,
  );
}

/** Proportional set size in bytes; 0 when the process is gone. */
export function memoryOf(pid: number): number {
  return rollup(pid, "Pss");
}

/** Resident memory in bytes, shared pages counted whole. */
export function residentOf(pid: number): number {
  return rollup(pid, "Rss");
}

/** Memory in bytes that is this process' alone: no file's, shared with none. */
export function anonymousOf(pid: number): number {
  return rollup(pid, "Anonymous");
}

function rollup(pid: number, what: string): number {
  try {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
    return Number(new RegExp(`^${what}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

/** CPU time used since it began, its ended children's included, in milliseconds; 0 when the process is gone. */
export function cpuOf(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const ticks = [11, 12, 13, 14].reduce((sum, field) => sum + Number(fields[field]), 0);
    return ticks * 10; // 100 ticks a second, on every Linux that Node runs on
  } catch {
    return 0;
  }
}

/** The command that runs a program in the network namespace of a lab's process. */
export function beside(pid: number, ...command: string[]): string[] {
  const user = (of: number | "self") => readlinkSync(`/proc/${of}/ns/user`);
  const enter = user(pid) === user("self") ? [] : ["--user", "--preserve-credentials"];
  return ["nsenter", `--target=${pid}`, ...enter, "--net", ...command];
}
