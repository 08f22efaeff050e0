/** The process that holds a lab's namespaces: `unshare`, which waits for the first process inside them. */
import { readFileSync } from "node:fs";

/**
 * Whether the process is there and is what we started: numbers are used again. One that has ended and waits for
 * its parent does not count: the machine's first process may take seconds for that, or never do it.
 */
export function isHolder(pid: number): boolean {
  try {
    const [, name, state] = /^\d+ \((.*)\) (\w)/s.exec(readFileSync(`/proc/${pid}/stat`, "utf8"))!;
    return name === "unshare" && state !== "Z" && state !== "X";
  } catch {
    return false;
  }
}

/**
 * Kills every process of the lab. The holder ends when the last of them has: so it is not killed itself, but the
 * first process of the pid namespace, with which the kernel ends all others. `holder` is as /proc numbers it here.
 */
export function killLab(holder: number): void {
  try {
    process.kill(firstProcess(holder) ?? holder, "SIGKILL");
  } catch {
    // It has ended.
  }
}

function firstProcess(holder: number): number | undefined {
  try {
    return Number(readFileSync(`/proc/${holder}/task/${holder}/children`, "utf8").split(" ")[0]) || undefined;
  } catch {
    return undefined; // or this kernel does not tell; then `unshare --kill-child` passes the signal on
  }
}
