/** Who we are: the cluster's id in its clusterset (KEP-2149). */
import { clusterIdProperty, clusterProperties, isClusterId } from "../api/index.ts";
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
      const id = property?.spec.value;
      if (id && isClusterId(id)) return id;
      onWait?.(
        id
          ? `the ClusterProperty ${clusterIdProperty} says "${id}", which is not one or two DNS labels of 63 characters`
          : `the cluster has no ClusterProperty ${clusterIdProperty}`,
      );
    } catch (error) {
      signal?.throwIfAborted();
      onWait?.(error);
    }
    await sleep(client.world, retry, signal);
  }
}
