/** What `weft uninstall` takes of meshes: what the control plane and discoveries made of ServiceMeshControlPlanes. */
import {
  clusterRoleBindings,
  configMaps,
  deployments,
  discoveryManager,
  gatewayApi,
  type KubeObject,
  leases,
  managedByLabel,
  meshLabel,
  meshManager,
  mutatingWebhookConfigurations,
  nameOf,
  pods,
  type Resource,
  roleBindings,
  secrets,
  serviceAccounts,
  services,
  tlsModeLabel,
} from "../api/index.ts";
import { isNotFound, type KubeClient } from "../kube/index.ts";
import { sleep } from "../world/index.ts";
import type { Uninstalled } from "./uninstall.ts";

/** The type of the Secret with a mesh's authority (`identity/`). */
const authorityType = "weft.dev/ca";
/** A discovery's Lease is called this and the mesh's name. */
const leasePrefix = "weft-discovery-";

/**
 * Takes meshes away, once the control plane is gone. The webhooks first, for without a discovery no pod could be made;
 * then the programs, so that nobody writes any more; then the rest. Sidecars stay as long as their pods: they are named.
 */
export async function removeMeshes(
  client: KubeClient,
  result: Uninstalled,
  signal: AbortSignal | undefined,
): Promise<void> {
  const options = signal ? { signal } : {};
  const take = async (resource: Resource, which: (object: KubeObject) => boolean, select: object = {}) => {
    const found = (await client.list(resource, { ...select, ...options })).items.filter(which);
    for (const { metadata } of found)
      await client.delete(resource, nameOf({ metadata }), {
        ...(metadata.uid && { uid: metadata.uid }),
        ...options,
      });
    if (found.length > 0) result.removed.push(`${found.length} ${resource.plural} of meshes`);
  };
  const all = () => true;
  const marked = { labelSelector: `${managedByLabel}=${meshManager}` };
  await take(mutatingWebhookConfigurations, all, marked);
  await take(deployments, all, marked);
  const programs = { labelSelector: meshLabel, ...options };
  const end = client.world.monotonic() + 60_000;
  while ((await client.list(pods, programs)).items.length > 0) {
    if (client.world.monotonic() > end) {
      result.kept.push({ what: "pods of meshes", why: "they do not end; is their node there?" });
      break;
    }
    await sleep(client.world, 200, signal);
  }
  for (const resource of [clusterRoleBindings, roleBindings, services, serviceAccounts, configMaps]) {
    await take(resource as Resource, all, marked);
  }
  // Not every cluster has the Gateway API.
  await take(gatewayApi.gatewayClasses, all, marked).catch((error: unknown) => {
    if (!isNotFound(error)) throw error;
  });
  await take(configMaps, all, { labelSelector: `${managedByLabel}=${discoveryManager}` });
  await take(secrets, all, { fieldSelector: `type=${authorityType}` });
  await take(leases, ({ metadata }) => metadata.name.startsWith(leasePrefix));
  const left = await client.list(pods, { labelSelector: `${tlsModeLabel}=istio`, ...options });
  if (left.items.length > 0) {
    const why = "a sidecar goes with its pod: restart their workloads";
    result.kept.push({ what: `sidecars in ${left.items.length} pods`, why });
  }
}
