/** Speaks to the running lab's daemon over its control socket. */
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { WeftError } from "../api/index.ts";
import { type LabAnswer, type LabRequest, type LabStatus, readLines, writeLine } from "./protocol.ts";
import type { LabState } from "./state.ts";

/** Sends one request. Throws LAB_NOT_RUNNING when nobody listens. */
export function askLab(state: LabState, request: LabRequest): Promise<LabAnswer> {
  return new Promise((resolve, reject) => {
    const socket = connect(state.socket);
    socket.on("connect", () => writeLine(socket, request));
    readLines(socket, (answer) => {
      resolve(answer as LabAnswer);
      socket.destroy();
    });
    socket.on("error", (error) => reject(new WeftError("LAB_NOT_RUNNING", {}, error)));
    socket.on("close", () => reject(new WeftError("LAB_NOT_RUNNING")));
  });
}

/** The lab's state, or undefined when none runs. */
export async function labStatus(state: LabState): Promise<LabStatus | undefined> {
  try {
    const answer = await askLab(state, { do: "status" });
    if ("error" in answer) throw new Error(answer.error);
    return answer.status;
  } catch (error) {
    if (error instanceof WeftError && error.code === "LAB_NOT_RUNNING") return undefined;
    throw error;
  }
}

/**
 * Ends the lab and waits until its last process is gone. False when none ran. Its directory is taken away, or, with
 * `keep`, stays for the next start.
 */
export async function endLab(state: LabState, keep = false): Promise<boolean> {
  const pid = holder(state);
  const ended = await new Promise<boolean>((resolve) => {
    const socket = connect(state.socket);
    let connected = false;
    socket.on("connect", () => {
      connected = true;
      writeLine(socket, { do: "down", keep } satisfies LabRequest);
    });
    socket.on("error", () => {});
    // The daemon holds the connection until it dies, and with it every process of the lab.
    socket.on("close", () => resolve(connected));
    socket.resume();
  });
  // A daemon that does not listen any more cannot end itself.
  if (!ended && pid !== undefined) process.kill(pid, "SIGKILL");
  // The daemon is gone; the process that holds the namespaces follows when the kernel has ended the others.
  while (pid !== undefined && isHolder(pid)) await new Promise((resolve) => setTimeout(resolve, 2));
  if (keep) state.keep();
  else state.remove();
  return ended;
}

/** The process that holds the lab's namespaces. */
function holder(state: LabState): number | undefined {
  try {
    const pid = Number(readFileSync(state.pidFile, "utf8"));
    return isHolder(pid) ? pid : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Whether the process is there and is what we started: numbers are used again. One that has ended and waits for
 * its parent does not count: the machine's first process may take seconds for that, or never do it.
 */
function isHolder(pid: number): boolean {
  try {
    const [, name, state] = /^\d+ \((.*)\) (\w)/s.exec(readFileSync(`/proc/${pid}/stat`, "utf8"))!;
    return name === "unshare" && state !== "Z" && state !== "X";
  } catch {
    return false;
  }
}
