/** Reading what Weft made in a cluster. */
import { type EndpointSlice, endpointSlices } from "../../src/api/index.ts";
import type { KubeClient } from "../../src/kube/index.ts";

/** The imported EndpointSlices of a service, or of all, in the order of their names. */
export async function importedSlices(client: KubeClient, service?: string): Promise<EndpointSlice[]> {
  const key = "multicluster.kubernetes.io/service-name";
  const labelSelector = service === undefined ? key : `${key}=${service}`;
  const { items } = await client.list(endpointSlices, { labelSelector });
  return items.sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
}
