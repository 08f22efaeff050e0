/** Where the addresses of load balancers lead, on the backbone: each to a node, whose service rules do the rest. */
import type { ClusterSpec, LabSpec } from "../spec.ts";
import { uplinksOf } from "./names.ts";
import type { Run } from "./run.ts";

/**
 * Leads each address of a cluster's `balancerRange` to a node of it (address → node's name); addresses that are not
 * named lead nowhere. In the backbone's network namespace.
 */
export async function leadAddresses(
  spec: LabSpec,
  cluster: ClusterSpec,
  places: ReadonlyMap<string, string>,
  run: Run,
): Promise<void> {
  const listed = await run(["ip", "-j", "route", "show", "root", cluster.balancerRange]);
  const routes = JSON.parse(listed || "[]") as { dst: string; gateway?: string }[];
  const now = new Map(routes.map(({ dst, gateway }) => [dst.replace(/\/32$/, ""), gateway]));
  const uplinks = uplinksOf(spec, cluster);
  const commands = [...now.keys()]
    .filter((address) => !places.has(address))
    .map((to) => `route del ${to}/32`);
  for (const [address, name] of places) {
    const index = cluster.nodes.findIndex((node) => node.name === name);
    const node = cluster.nodes[index];
    if (!node || now.get(address) === node.address) continue;
    commands.push(
      `route replace ${address}/32 via ${node.address} dev ${uplinks[index]} onlink src ${cluster.apiAddress}`,
    );
  }
  if (commands.length > 0) await run(["ip", "-batch", "-"], commands.join("\n"));
}
