/**
 * Faults on purpose, on the backbone: a cut link between two clusters swallows every packet, as a broken cable does.
 * These functions run in the backbone's network namespace.
 */
import type { ClusterSpec, LabSpec } from "../spec.ts";
import { localPreference, uplinksOf } from "./names.ts";
import { CommandError, type Run } from "./run.ts";

/** Cuts what two clusters say to each other: pods, nodes and API servers. No error when it is cut already. */
export async function cutLink(spec: LabSpec, a: string, b: string, run: Run): Promise<void> {
  await healLink(spec, a, b, run);
  await run(["ip", "-batch", "-"], rules(spec, a, b, "add").join("\n"));
}

/** Heals a link that was cut. No error when it is whole. */
export async function healLink(spec: LabSpec, a: string, b: string, run: Run): Promise<void> {
  try {
    await run(["ip", "-force", "-batch", "-"], rules(spec, a, b, "del").join("\n"));
  } catch (error) {
    // -force goes on after a rule that is not there and tells of it at the end.
    if (!(error instanceof CommandError)) throw error;
  }
}

function rules(spec: LabSpec, a: string, b: string, action: "add" | "del"): string[] {
  const [first, second] = [clusterOf(spec, a), clusterOf(spec, b)];
  return [...oneWay(spec, first, second), ...oneWay(spec, second, first)].map(
    (rule) => `rule ${action} ${rule}`,
  );
}

/** What comes in from a node of one cluster and is for an address of the other. */
function oneWay(spec: LabSpec, from: ClusterSpec, to: ClusterSpec): string[] {
  const targets = [
    to.podRange,
    to.balancerRange,
    `${to.apiAddress}/32`,
    ...to.nodes.map(({ address }) => `${address}/32`),
  ];
  return uplinksOf(spec, from).flatMap((link) =>
    targets.map((target) => `pref ${localPreference - 50} iif ${link} to ${target} blackhole`),
  );
}

function clusterOf(spec: LabSpec, name: string): ClusterSpec {
  const cluster = spec.clusters.find((cluster) => cluster.name === name);
  if (!cluster) throw new RangeError(`the lab has no cluster ${name}`);
  return cluster;
}
