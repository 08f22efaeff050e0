/**
 * The lab's backbone. The root network namespace of the lab is a router: it holds the addresses of the API
 * servers, and every node is a network namespace of its own at the end of a veth pair. Everything is routed;
 * there is no bridge.
 */
import type { LabSpec, NodeSpec } from "../spec.ts";
import { quote, type Run } from "./run.ts";

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

/** Where `ip netns` keeps the names of network namespaces. */
export function namespaceFile(name: string): string {
  return `/run/netns/${name}`;
}

/**
 * Makes the backbone in the network namespace of the caller, which must be the lab's root namespace with
 * CAP_NET_ADMIN in its own user and mount namespaces. A tmpfs hides the machine's /run/netns.
 */
export async function setUpBackbone(spec: LabSpec, run: Run): Promise<void> {
  const nodes = spec.clusters.flatMap((cluster) => cluster.nodes.map((node) => ({ cluster, node })));
  const root = [
    "link set lo up",
    // Makes room for rules before the delivery to our own addresses (faults.ts).
    `rule add pref ${localPreference} lookup local`,
    "rule del pref 0",
    ...spec.clusters.map(({ apiAddress }) => `addr add ${apiAddress}/32 dev lo`),
  ];
  const perNode: string[] = [];
  nodes.forEach(({ cluster, node }, n) => {
    const link = uplink(n);
    const name = nodeNamespace(node);
    root.push(
      `link add ${link} type veth peer name eth0 netns ${name}`,
      `link set ${link} up`,
      `route add ${node.address}/32 dev ${link} src ${cluster.apiAddress}`,
      `route add ${node.podRange} via ${node.address} dev ${link} onlink src ${cluster.apiAddress}`,
    );
    perNode.push(
      ip(name, [
        "link set lo up",
        `addr add ${node.address}/32 dev eth0`,
        "link set eth0 up",
        `route add ${cluster.apiAddress}/32 dev eth0 src ${node.address}`,
        `route add default via ${cluster.apiAddress} dev eth0 src ${node.address}`,
        // What is for this node's pods and has no pod goes nowhere, not back to the router.
        `route add unreachable ${node.podRange}`,
      ]),
      sysctl(name, [
        "net/ipv4/ip_forward=1",
        "net/ipv4/ip_unprivileged_port_start=0",
        "net/ipv4/ping_group_range=0 0",
      ]),
    );
  });
  const script = [
    "set -e",
    "mkdir -p /run/netns",
    "mount -t tmpfs -o mode=755 weft-netns /run/netns",
    ...nodes.map(({ node }) => `ip netns add ${quote(nodeNamespace(node))}`),
    ip(undefined, root),
    "echo 1 > /proc/sys/net/ipv4/ip_forward",
    ...perNode,
  ];
  await run(["/bin/sh", "-s"], script.join("\n"));
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
