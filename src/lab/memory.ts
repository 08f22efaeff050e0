/** What the processes of the lab cost, from /proc of the lab's pid namespace. */
import { readdir, readFile } from "node:fs/promises";

/**
 * Proportional set sizes in bytes: of each named process itself (`own`), and of everything that runs below it
 * and below no other named one (`below`).
 */
export async function memoryByProcess(
  names: ReadonlyMap<number, string>,
): Promise<{ own: Map<string, number>; below: Map<string, number> }> {
  const parents = new Map<number, number>();
  const sizes = new Map<number, number>();
  const pids = (await readdir("/proc")).filter((entry) => /^\d+$/.test(entry)).map(Number);
  await Promise.all(
    pids.map(async (pid) => {
      try {
        const stat = await readFile(`/proc/${pid}/stat`, "utf8");
        parents.set(pid, Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
        const rollup = await readFile(`/proc/${pid}/smaps_rollup`, "utf8");
        sizes.set(pid, Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1024);
      } catch {
        // It ended while we looked, or it is a zombie.
      }
    }),
  );
  const own = new Map<string, number>();
  const below = new Map<string, number>();
  for (const [pid, size] of sizes) {
    const name = names.get(pid);
    if (name !== undefined) {
      own.set(name, size);
      continue;
    }
    let ancestor = parents.get(pid);
    while (ancestor !== undefined && !names.has(ancestor)) ancestor = parents.get(ancestor);
    // What has lost its parent hangs below the daemon's own parent.
    const owner = ancestor === undefined ? "lab" : names.get(ancestor)!;
    below.set(owner, (below.get(owner) ?? 0) + size);
  }
  return { own, below };
}
