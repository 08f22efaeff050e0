/** Address ranges of clusters, and whether they overlap. IPv4 and IPv6. */
import { isIP } from "node:net";
import { overlaps } from "../../addresses/index.ts";
import { configMaps, nodes, type Pod, pathOf, pods, type Resource, services } from "../../api/index.ts";
import { isForbidden, isNotFound, type KubeClient } from "../../kube/index.ts";

export interface Ranges {
  /** Of the nodes, `spec.podCIDRs`; where they do not say, the addresses that some pods have. */
  pods: string[];
  /** Whether `pods` are single addresses: then ranges may overlap although these do not. */
  sampled: boolean;
  /** What ServiceCIDRs or kubeadm's configuration say, or single addresses where neither is there. */
  services: string[];
  /** InternalIPs of the nodes. */
  nodes: string[];
}

interface ServiceCidr {
  apiVersion: string;
  kind: string;
  metadata: { name: string };
  spec?: { cidrs?: string[] };
}
const serviceCidrs: Resource<ServiceCidr> = {
  group: "networking.k8s.io",
  version: "v1",
  kind: "ServiceCIDR",
  plural: "servicecidrs",
  namespaced: false,
};

export async function rangesOf(client: KubeClient): Promise<Ranges> {
  const [all, ranges] = await Promise.all([client.list(nodes), serviceRanges(client)]);
  const said = all.items.flatMap(({ spec }) => spec?.podCIDRs ?? (spec?.podCIDR ? [spec.podCIDR] : []));
  return {
    pods: said.length > 0 ? said : await addressesOfPods(client),
    sampled: said.length === 0,
    services: ranges,
    nodes: all.items.flatMap(({ status }) =>
      (status?.addresses ?? []).filter(({ type }) => type === "InternalIP").map(({ address }) => address),
    ),
  };
}

/** Of a part of the pods: ranges that overlap are given out from the same end. */
async function addressesOfPods(client: KubeClient): Promise<string[]> {
  const { items } = await client.json<{ items: Pod[] }>("GET", `${pathOf(pods)}?limit=500`);
  return items
    .filter(({ spec }) => !spec.hostNetwork)
    .flatMap(({ status }) => (status?.podIPs ?? []).flatMap(({ ip }) => (ip ? [ip] : [])));
}

async function serviceRanges(client: KubeClient): Promise<string[]> {
  try {
    const { items } = await client.list(serviceCidrs);
    const cidrs = items.flatMap(({ spec }) => spec?.cidrs ?? []);
    if (cidrs.length > 0) return cidrs;
  } catch (error) {
    // Served since Kubernetes 1.33.
    if (!isNotFound(error) && !isForbidden(error)) throw error;
  }
  const kubeadm = await client
    .get(configMaps, { namespace: "kube-system", name: "kubeadm-config" })
    .catch(() => undefined);
  const subnet = /^\s*serviceSubnet:\s*(\S+)\s*$/m.exec(kubeadm?.data?.ClusterConfiguration ?? "")?.[1];
  if (subnet) return subnet.split(",");
  const { items } = await client.list(services);
  return items.flatMap(({ spec }) => (spec?.clusterIPs ?? []).filter((ip) => isIP(ip) !== 0));
}

/** The first pair of ranges (or addresses) that have an address in common. */
export function firstOverlap(
  some: readonly string[],
  others: readonly string[],
): [string, string] | undefined {
  for (const a of some) for (const b of others) if (overlaps(a, b)) return [a, b];
  return undefined;
}
