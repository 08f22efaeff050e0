/**
 * The lab's backbone. The root network namespace of the lab is a router: it holds the addresses of the API
 * servers, and every node is a network namespace of its own at the end of a veth pair. Everything is routed;
 * there is no bridge.
 */
import type { LabSpec } from "../spec.ts";
import { separation } from "./gateway.ts";
import { ip, localPreference, nodeNamespace, sysctl, uplink } from "./names.ts";
import { quote, type Run } from "./run.ts";

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
    ...(spec.network === "gateway" ? separation(spec) : []),
  ];
  await run(["/bin/sh", "-s"], script.join("\n"));
}
