/** Service kube-system/kube-dns: the one address at which all pods of a cluster find its DNS. */
import { endpointSlices, serviceNameLabel, services, sliceManagedByLabel } from "../../api/index.ts";
import type { KubeClient } from "../../kube/index.ts";

export const dnsServiceNamespace = "kube-system";
export const dnsServiceName = "kube-dns";

const manager = "dns.lab.weft.dev";

export interface DnsServiceOptions {
  /** The tenth address of the service range. */
  clusterIP: string;
  /** Every node runs the DNS, at its own address. */
  nodes: readonly { name: string; address: string }[];
  /** What the nodes' DNS listens on; 53 unless told. */
  port?: number;
}

/**
 * Makes the Service, without a selector, and an EndpointSlice for each node, and takes away the slices of nodes
 * that are no more. Does nothing where all is as it should be; may be called at every start.
 */
export async function ensureDnsService(client: KubeClient, options: DnsServiceOptions): Promise<void> {
  const { clusterIP, nodes, port = 53 } = options;
  const namespace = dnsServiceNamespace;
  const labels = {
    "k8s-app": "kube-dns",
    "kubernetes.io/cluster-service": "true",
    "kubernetes.io/name": "CoreDNS",
  };
  const ports = [
    { name: "dns", port: 53, protocol: "UDP" },
    { name: "dns-tcp", port: 53, protocol: "TCP" },
  ] as const;
  const write = { fieldManager: manager, force: true };
  await client.apply(
    services,
    {
      metadata: { name: dnsServiceName, namespace, labels },
      spec: { type: "ClusterIP", clusterIP, ports: ports.map((each) => ({ ...each, targetPort: port })) },
    },
    write,
  );
  const mine = { labelSelector: `${sliceManagedByLabel}=${manager}`, namespace };
  const before = await client.list(endpointSlices, mine);
  const wanted = new Set(nodes.map(({ name }) => sliceName(name)));
  for (const { name, address } of nodes) {
    await client.apply(
      endpointSlices,
      {
        metadata: {
          name: sliceName(name),
          namespace,
          labels: { ...labels, [serviceNameLabel]: dnsServiceName, [sliceManagedByLabel]: manager },
        },
        addressType: address.includes(":") ? "IPv6" : "IPv4",
        ports: ports.map((each) => ({ ...each, port })),
        endpoints: [
          {
            addresses: [address],
            nodeName: name,
            conditions: { ready: true, serving: true, terminating: false },
          },
        ],
      },
      write,
    );
  }
  for (const { metadata } of before.items) {
    if (!wanted.has(metadata.name)) await client.delete(endpointSlices, { namespace, name: metadata.name });
  }
}

function sliceName(node: string): string {
  return `${dnsServiceName}-${node}`;
}
