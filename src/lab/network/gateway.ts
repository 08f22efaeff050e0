/**
 * The network `gateway`: clusters whose pods cannot reach each other, as where pod addresses are private to each
 * cluster. What is left between two clusters are the API servers and the nodes, and a pod that calls them is
 * seen under its node's address.
 */
import type { ClusterSpec, LabSpec, NodeSpec } from "../spec.ts";
import { ip, localPreference, namespaceFile, nodeNamespace, uplinksOf } from "./names.ts";
import { quote } from "./run.ts";

/** Preference of the backbone's rules that keep clusters apart; those of cut links come before. */
const preference = localPreference - 20;

/** Shell text that separates the clusters of a backbone that stands. */
export function separation(spec: LabSpec): string[] {
  const rules = spec.clusters.flatMap((from) =>
    spec.clusters
      .filter((to) => to !== from)
      .flatMap((to) =>
        uplinksOf(spec, from).map(
          (link) => `rule add pref ${preference} iif ${link} to ${to.podRange} unreachable`,
        ),
      ),
  );
  const translations = spec.clusters.flatMap((cluster) =>
    cluster.nodes.map(
      (node) =>
        `nsenter --net=${quote(namespaceFile(nodeNamespace(node)))} nft -f - <<'END'\n${translation(cluster, node)}\nEND`,
    ),
  );
  return [...(rules.length > 0 ? [ip(undefined, rules)] : []), ...translations];
}

/** Pods that leave their cluster do so with the address of their node, so that answers find back. */
function translation({ podRange, apiAddress, nodes }: ClusterSpec, node: NodeSpec): string {
  const inside = [podRange, apiAddress, ...nodes.map(({ address }) => address)].join(", ");
  return `table ip weft-gateway {
  chain postrouting {
    type nat hook postrouting priority srcnat;
    oifname "eth0" ip saddr ${podRange} ip daddr != { ${inside} } snat to ${node.address}
  }
}`;
}
