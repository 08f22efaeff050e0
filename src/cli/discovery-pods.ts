/** Asks the discoveries of a cluster's meshes, through the API server. */
import { discoveryPorts, type Pod, pods, WeftError } from "../api/index.ts";
import { getFromPod } from "../kube/index.ts";
import type { clientOf } from "./contexts.ts";

/** On the pods of every mesh's discovery. */
const selector = "app=istiod,istio=pilot";

export interface DiscoveryAnswer {
  /** `istiod-basic-….istio-system`. */
  discovery: string;
  status: number;
  body: string;
}

/** What each running discovery answers to a GET. Throws NO_DISCOVERY when there is none. */
export async function askDiscoveries(
  { client, credentials, context }: ReturnType<typeof clientOf>,
  path: string,
): Promise<DiscoveryAnswer[]> {
  const { items } = await client.list(pods, { labelSelector: selector });
  const running = items.filter((pod) => pod.status?.phase === "Running" && !pod.metadata.deletionTimestamp);
  if (running.length === 0) throw new WeftError("NO_DISCOVERY", { context });
  return await Promise.all(
    running.map(async ({ metadata }: Pod) => {
      const { name, namespace = "" } = metadata;
      const answer = await getFromPod(
        credentials,
        { namespace, name, port: discoveryPorts.monitoring },
        path,
      );
      return { discovery: `${name}.${namespace}`, ...answer };
    }),
  );
}
