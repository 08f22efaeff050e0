/**
 * Latency on the links between clusters, made by the kernel's `netem` on the backbone. What goes to a node waits at
 * the router's end of the node's veth pair, in the band of the cluster that it comes from.
 */
import type { ClusterSpec, LabSpec, LinkSpec } from "../spec.ts";
import { uplinksOf } from "./names.ts";
import { CommandError, type Run } from "./run.ts";

/** The kernel's `prio` has 16 bands; the first is for what does not wait. */
const mostDelays = 15;

/**
 * Gives every link of the lab the latency that `links` says, and the others none. In the backbone's network
 * namespace. Throws CommandError where the kernel has no `netem`.
 */
export async function setLatencies(spec: LabSpec, links: readonly LinkSpec[], run: Run): Promise<void> {
  const { tc, nft } = latencyCommands(spec, links);
  // -force goes on after a link that has none and tells of it at the end.
  await run(["tc", "-force", "-batch", "-"], clear(spec).join("\n")).catch((error: unknown) => {
    if (!(error instanceof CommandError)) throw error;
  });
  if (tc.length > 0) await run(["tc", "-batch", "-"], tc.join("\n"));
  await run(["nft", "-f", "-"], nft);
}

const clear = (spec: LabSpec) =>
  spec.clusters.flatMap((cluster) => uplinksOf(spec, cluster)).map((link) => `qdisc del dev ${link} root`);

/** The input of `tc -batch` and of `nft -f`. */
export function latencyCommands(spec: LabSpec, links: readonly LinkSpec[]): { tc: string[]; nft: string } {
  const tc: string[] = [];
  const rules: string[] = [];
  for (const to of spec.clusters) {
    // An API server is the router's own address: what a node says to it passes no veth pair on its way, so its
    // answer waits for both ways.
    const waits = spec.clusters.flatMap((from) => {
      const latency = latencyOf(links, from, to);
      if (latency === 0) return [];
      const nodes = [from.podRange, ...from.nodes.map(({ address }) => address)];
      return [
        { sources: nodes, delay: latency },
        { sources: [from.apiAddress], delay: 2 * latency },
      ];
    });
    const delays = [...new Set(waits.map(({ delay }) => delay))];
    if (delays.length === 0) continue;
    if (delays.length > mostDelays) throw new RangeError(`too many different latencies to ${to.name}`);
    for (const link of uplinksOf(spec, to)) {
      const map = Array.from({ length: 16 }, () => 0).join(" ");
      tc.push(`qdisc add dev ${link} root handle 1: prio bands ${delays.length + 1} priomap ${map}`);
      for (const [i, delay] of delays.entries()) {
        tc.push(`qdisc add dev ${link} parent 1:${hex(i + 2)} netem delay ${delay * 1000}us limit 100000`);
      }
      for (const { sources, delay } of waits) {
        const band = hex(delays.indexOf(delay) + 2);
        rules.push(`oifname "${link}" ip saddr { ${sources.join(", ")} } meta priority set 1:${band}`);
      }
    }
  }
  const nft = `table ip weft-latency {
  chain postrouting {
    type filter hook postrouting priority mangle;
  }
}
flush table ip weft-latency
${rules.map((rule) => `add rule ip weft-latency postrouting ${rule}\n`).join("")}`;
  return { tc, nft };
}

/** `tc` and `nft` read the numbers of classes as hexadecimal. */
const hex = (value: number) => value.toString(16);

function latencyOf(links: readonly LinkSpec[], a: ClusterSpec, b: ClusterSpec): number {
  const ends = [a.name, b.name];
  if (a === b) return 0;
  return links.find(({ between }) => between.every((end) => ends.includes(end)))?.latency ?? 0;
}
