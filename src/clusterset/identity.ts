/** Who we are: the cluster's id in its clusterset (KEP-2149). */
import { clusterIdProperty, clusterProperties } from "../api/index.ts";
import type { KubeClient } from "../kube/index.ts";
import { sleep } from "../world/index.ts";

/** How often an unnamed cluster, or an API that does not answer, is asked again, in milliseconds. */
const retry = 1_000;

/**
 * The value of the ClusterProperty `cluster.clusterset.k8s.io`; waits until there is one. `onWait` hears each
 * time why it is not known yet. Rejects with the signal's reason when aborted.
 */
export async function clusterId(
  client: KubeClient,
  options: { signal?: AbortSignal; onWait?: (reason: unknown) => void } = {},
): Promise<string> {
  const { signal, onWait } = options;
  for (;;) {
    try {
      const property = await client.get(clusterProperties, clusterIdProperty, signal ? { signal } : {});
      if (property?.spec.value) return property.spec.value;
      onWait?.(`the cluster has no ClusterProperty ${clusterIdProperty}`);
    } catch (error) {
      signal?.throwIfAborted();
      onWait?.(error);
    }
    await sleep(client.world, retry, signal);
  }
}
