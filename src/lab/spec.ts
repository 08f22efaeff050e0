/** What a lab consists of, with every default filled in. Made by `cli/` from flags or a lab file. */
import type { ProxyImplementation } from "../api/index.ts";

/** What servers and nodes say they are: the Kubernetes release that they follow. */
export const kubernetesVersion = "v1.36.3+weft";

export interface LabSpec {
  clusters: ClusterSpec[];
  /**
   * `flat` (when left out): pods reach each other in all clusters. `gateway`: a pod reaches only the API servers
   * and the nodes of other clusters, and is seen there under its own node's address.
   */
  network?: "flat" | "gateway";
  /** Only those that differ from a link without latency. */
  links?: LinkSpec[];
  /** What meshes run in sidecars and gateways; the embedded proxy when left out. */
  mesh?: { proxy: ProxyImplementation };
  /** Images of this lab alone; they come before those that the user added. */
  images?: { name: string; command?: string[] }[];
}

/** What connects two clusters. */
export interface LinkSpec {
  between: [string, string];
  /** Milliseconds that a packet takes more, each way. */
  latency: number;
}

export interface ClusterSpec {
  /** DNS label; contexts in the kubeconfig are called `weft-<name>`. */
  name: string;
  /** Pods of the whole cluster, e.g. `10.10.0.0/16`. */
  podRange: string;
  /** ClusterIPs, e.g. `10.11.0.0/16`. The first address is the API server's, the tenth the cluster DNS's. */
  serviceRange: string;
  /** Addresses of Services of type LoadBalancer, e.g. `172.19.0.0/24`; known in the whole lab. */
  balancerRange: string;
  /** Address of the API server on the lab's backbone; pods, nodes and peers reach it at port 6443. */
  apiAddress: string;
  /** DNS domain of the cluster's own services. */
  clusterDomain: string;
  /** Port of the API server on 127.0.0.1; any free one when left out. */
  hostPort?: number;
  /**
   * The program, with its first arguments, that is the cluster's API server and controllers; it is given the
   * lab's directory and the cluster's name, as `cluster.ts` is, which is what runs when this is left out.
   */
  controlPlane?: string[];
  nodes: NodeSpec[];
}

export interface NodeSpec {
  name: string;
  /** InternalIP on the lab's backbone. */
  address: string;
  /** Part of the cluster's pod range, e.g. `10.10.0.0/24`. */
  podRange: string;
  /** Labels beyond those that every node has (region and zone among them). */
  labels: Record<string, string>;
}

/** Where a cluster's API server listens on its backbone address. */
export const apiPort = 6443;

/**
 * The ranges of the i-th cluster (from 0): pods 10.(10+2i), services 10.(11+2i), load balancers 172.19.i, backbone
 * 172.18.i.
 */
export function defaultCluster(name: string, index: number, nodeCount = 1): ClusterSpec {
  const pods = 10 + 2 * index;
  return {
    name,
    podRange: `10.${pods}.0.0/16`,
    serviceRange: `10.${pods + 1}.0.0/16`,
    balancerRange: `172.19.${index}.0/24`,
    apiAddress: `172.18.${index}.1`,
    clusterDomain: "cluster.local",
    nodes: Array.from({ length: nodeCount }, (_, n) => ({
      name: n === 0 ? `${name}-control-plane` : `${name}-worker${n === 1 ? "" : n}`,
      address: `172.18.${index}.${2 + n}`,
      podRange: `10.${pods}.${n}.0/24`,
      labels: {},
    })),
  };
}

/** Whether a cluster may have this name: it becomes part of names of nodes, contexts, directories and DNS. */
export function isClusterName(name: string): boolean {
  return /^[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?$/.test(name) && !reservedNames.includes(name);
}
/** What else goes by a name in a lab. */
export const reservedNames = ["lab", "backbone", "relay"];

/** Splits a cluster's pod range among its nodes: /24s, or smaller where they are too many. Undefined when there is no room. */
export function nodeRanges(podRange: string, count: number): string[] | undefined {
  const bits = Number(podRange.split("/")[1]);
  const least = bits + Math.ceil(Math.log2(count));
  const each = Math.max(24, least);
  if (each > 28) return undefined;
  return Array.from({ length: count }, (_, n) => `${nthAddress(podRange, n * 2 ** (32 - each))}/${each}`);
}

/** Milliseconds of `50ms`, `1.5s` or `200us`; undefined for anything else, and for more than a minute. */
export function parseLatency(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(us|ms|s)$/.exec(text);
  const latency =
    Number(match?.[1]) * { us: 0.001, ms: 1, s: 1000 }[(match?.[2] ?? "ms") as "us" | "ms" | "s"];
  return latency <= 60_000 ? latency : undefined;
}

/** The n-th address of an IPv4 range, counted from its network address (0). `nthAddress("10.11.0.0/16", 10)` is 10.11.0.10. */
export function nthAddress(range: string, n: number): string {
  const base = range
    .split("/")[0]!
    .split(".")
    .reduce((sum, part) => sum * 256 + Number(part), 0);
  return [24, 16, 8, 0].map((shift) => ((base + n) >>> shift) & 255).join(".");
}

/** ClusterIP of the Service `default/kubernetes`. */
export const apiServiceAddress = (cluster: Pick<ClusterSpec, "serviceRange">) =>
  nthAddress(cluster.serviceRange, 1);

/** ClusterIP of the Service `kube-system/kube-dns`: the resolver that pods are given. */
export const dnsServiceAddress = (cluster: Pick<ClusterSpec, "serviceRange">) =>
  nthAddress(cluster.serviceRange, 10);
