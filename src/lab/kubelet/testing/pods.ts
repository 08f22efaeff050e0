/** Pods for tests, and how they are. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Pod } from "../../../api/index.ts";
import type { Harness } from "./harness.ts";

export const running = (pod: Pod | undefined) => pod?.status?.phase === "Running";
export const ready = (pod: Pod | undefined) =>
  pod?.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;
/** The status of the first container. */
export const main = (pod: Pod | undefined) => pod?.status?.containerStatuses?.[0];
/** A container that runs a shell command and dies on SIGTERM. */
export const shell = (command: string, more: Partial<Pod["spec"]["containers"][0]> = {}) => ({
  name: "main",
  image: "busybox:1.36",
  command: ["/bin/sh", "-c", `trap 'exit 0' TERM; ${command}`],
  ...more,
});
/** A shell command that does nothing until it is told to end. */
export const idle = "while :; do sleep 0.1; done";

/** The first process of the pod's only container, as the lab sees it. */
export async function findProcess(h: Harness, uid: string): Promise<{ pid: number }> {
  const containers = join(h.stateDir, "run/containers");
  for (const id of readdirSync(containers)) {
    const record = JSON.parse(readFileSync(join(containers, id, "container.json"), "utf8")) as {
      pod: { uid: string };
    };
    if (record.pod.uid === uid)
      return { pid: Number.parseInt(readFileSync(join(containers, id, "started"), "utf8"), 10) };
  }
  throw new Error(`no container of ${uid}`);
}
