/** Faults on purpose: what `weft cluster`, `weft node` and `weft link` have in common. */
import { WeftError } from "../api/index.ts";
import { askLab, type LabRequest, LabState, type LabStatus, labStatus } from "../lab/index.ts";
import { realWorld, sleep } from "../world/index.ts";

/** The running lab. Throws LAB_NOT_RUNNING. */
export async function runningLab(): Promise<LabStatus> {
  const status = await labStatus(new LabState());
  if (!status) throw new WeftError("LAB_NOT_RUNNING");
  return status;
}

/** Throws CLUSTER_UNKNOWN. */
export function requireCluster({ clusters }: LabStatus, name: string): void {
  const known = clusters.map((cluster) => cluster.name);
  if (!known.includes(name)) throw new WeftError("CLUSTER_UNKNOWN", { name, known: known.join(", ") });
}

/** Throws NODE_UNKNOWN. */
export function requireNode(status: LabStatus, name: string): LabStatus {
  const known = status.clusters.flatMap(({ nodes }) => nodes);
  if (!known.includes(name)) throw new WeftError("NODE_UNKNOWN", { name, known: known.join(", ") });
  return status;
}

/** Has the lab's daemon do something. */
export async function order(request: LabRequest): Promise<void> {
  const answer = await askLab(new LabState(), request);
  if ("error" in answer) throw new Error(answer.error);
}

/** How long processes may take to come up, in milliseconds. */
const patience = 60_000;

/** Waits until the named processes of the lab run. */
export async function untilRunning(names: readonly string[]): Promise<void> {
  const world = realWorld();
  const end = world.monotonic() + patience;
  for (;;) {
    const { processes } = await runningLab();
    const waiting = names.filter((name) => processes.find((each) => each.name === name)?.state !== "running");
    if (waiting.length === 0) return;
    if (world.monotonic() > end) throw new Error(`${waiting.join(", ")} did not come up within a minute`);
    await sleep(world, 100);
  }
}
