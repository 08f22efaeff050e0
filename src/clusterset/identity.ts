/** Who we are: the cluster's id in its clusterset (KEP-2149). */
import { type ClusterProperty, clusterIdProperty, clusterProperties, isClusterId } from "../api/index.ts";
import { type KubeClient, reflect } from "../kube/index.ts";
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

/**
 * Calls `renamed` once, when the ClusterProperty names another id than `known`. All that we derive is told under our id,
 * so who is called begins anew under the other one. A property that goes, or says what is no id, changes nothing;
 * `onRefused` hears of the latter.
 */
export function watchClusterId(
  client: KubeClient,
  known: string,
  options: {
    renamed: (id: string) => void;
    onRefused?: (value: string) => void;
    signal?: AbortSignal;
  },
): void {
  const { renamed, onRefused, signal } = options;
  const ended = new AbortController();
  const see = ({ metadata, spec }: ClusterProperty) => {
    if (ended.signal.aborted || metadata.name !== clusterIdProperty || spec.value === known) return;
    if (!isClusterId(spec.value)) {
      onRefused?.(spec.value);
      return;
    }
    ended.abort();
    renamed(spec.value);
  };
  reflect(
    client,
    clusterProperties,
    { replace: (found) => found.forEach(see), put: see, remove: () => {} },
    {
      fieldSelector: `metadata.name=${clusterIdProperty}`,
      signal: signal ? AbortSignal.any([signal, ended.signal]) : ended.signal,
    },
  );
}
