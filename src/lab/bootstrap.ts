/** What stands in a new cluster besides what its API server brings: as kubeadm leaves it behind. */
import { configMaps } from "../api/index.ts";
import type { KubeClient } from "../kube/index.ts";
import { ensureDnsService } from "./dns/index.ts";
import { apiPort, type ClusterSpec, dnsServiceAddress } from "./spec.ts";

/** What `publishClusterInfo` does, and the Service of the DNS that runs on the lab's nodes. */
export async function bootstrapCluster(client: KubeClient, cluster: ClusterSpec, ca: string): Promise<void> {
  await Promise.all([
    publishClusterInfo(client, cluster, ca),
    ensureDnsService(client, { clusterIP: dnsServiceAddress(cluster), nodes: cluster.nodes }),
  ]);
}

/** `kube-public/cluster-info`: where others reach the API server, and its CA. */
export async function publishClusterInfo(
  client: KubeClient,
  cluster: ClusterSpec,
  ca: string,
): Promise<void> {
  const kubeconfig = [
    "apiVersion: v1",
    "kind: Config",
    "clusters:",
    '- name: ""',
    "  cluster:",
    `    certificate-authority-data: ${Buffer.from(ca).toString("base64")}`,
    `    server: https://${cluster.apiAddress}:${apiPort}`,
    "",
  ].join("\n");
  await client.apply(
    configMaps,
    { metadata: { namespace: "kube-public", name: "cluster-info" }, data: { kubeconfig } },
    { manager: "weft-lab", force: true },
  );
}
