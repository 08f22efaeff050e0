/** What the processes of the lab cost, from /proc of the lab's pid namespace. */
import { readdir, readFile } from "node:fs/promises";

/**
 * Proportional set sizes in bytes by group. A process belongs to the group of the nearest process above it that
 * has one: by its pid in `groups`, or, for what runs on after its parent (containers do), by what `groupOf`
 * makes of its command line.
 */
export async function memoryByGroup(
  groups: ReadonlyMap<number, string>,
  groupOf: (commandLine: string) => string | undefined,
): Promise<Map<string, number>> {
  const processes = new Map<number, { parent: number; size: number; group: string | undefined }>();
  const pids = (await readdir("/proc")).filter((entry) => /^\d+$/.test(entry)).map(Number);
  await Promise.all(
    pids.map(async (pid) => {
      try {
        const stat = await readFile(`/proc/${pid}/stat`, "utf8");
        const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
        const rollup = await readFile(`/proc/${pid}/smaps_rollup`, "utf8");
        const size = Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1024;
        const group = groups.get(pid) ?? groupOf(await readFile(`/proc/${pid}/cmdline`, "utf8"));
        processes.set(pid, { parent, size, group });
      } catch {
        // It ended while we looked, or it is a zombie.
      }
    }),
  );
  const sums = new Map<string, number>();
  for (const start of processes.values()) {
    let above: typeof start | undefined = start;
    while (above && above.group === undefined) above = processes.get(above.parent);
    const group = above?.group ?? "";
    sums.set(group, (sums.get(group) ?? 0) + start.size);
  }
  return sums;
}
