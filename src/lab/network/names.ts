/** How the parts of the backbone are called, and how commands are put for the programs that make them. */
import type { ClusterSpec, LabSpec, NodeSpec } from "../spec.ts";
import { quote } from "./run.ts";

/** Name of a node's network namespace: `/run/netns/<name>`. Node names are unique in a lab. */
export function nodeNamespace(node: Pick<NodeSpec, "name">): string {
  return node.name;
}

/** Preference of the routing rule for addresses of the backbone router itself; 0 unless changed. */
export const localPreference = 100;

/** The router's end of a node's veth pair; `n` counts the nodes of all clusters. */
export function uplink(n: number): string {
  return `node${n}`;
}

/** The router's ends of a cluster's nodes. */
export function uplinksOf(spec: LabSpec, cluster: ClusterSpec): string[] {
  const all = spec.clusters.flatMap((each) => each.nodes.map(() => each));
  return all.flatMap((each, n) => (each === cluster ? [uplink(n)] : []));
}

/** Where `ip netns` keeps the names of network namespaces. */
export function namespaceFile(name: string): string {
  return `/run/netns/${name}`;
}

/** Shell text that hands commands to one `ip` process, in a network namespace when one is named. */
export function ip(namespace: string | undefined, commands: string[]): string {
  const target = namespace === undefined ? "" : `-n ${quote(namespace)} `;
  return `ip ${target}-batch - <<'END'\n${commands.join("\n")}\nEND`;
}

/** Shell text that sets sysctls (`path=value`, below /proc/sys) of a network namespace. */
export function sysctl(namespace: string, settings: string[]): string {
  const writes = settings.map((setting) => {
    const equals = setting.indexOf("=");
    return `echo ${quote(setting.slice(equals + 1))} > ${quote(`/proc/sys/${setting.slice(0, equals)}`)}`;
  });
  return `nsenter --net=${quote(namespaceFile(namespace))} /bin/sh -ec ${quote(writes.join("; "))}`;
}
