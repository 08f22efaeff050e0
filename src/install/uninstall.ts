/**
 * `weft uninstall`: takes away what installing, joining and the control plane itself wrote, and nothing else. In
 * this order: who writes; what it wrote in other namespaces; definitions; rights; the namespace. Running it again
 * after an interruption goes on where that ended.
 */
import {
  authorizationPolicies,
  type CustomResourceDefinition,
  clusterIdProperty,
  clusterProperties,
  clusterRoleBindings,
  clusterRoles,
  customResourceDefinitions,
  deployments,
  destinationRules,
  endpointSlices,
  fieldManager,
  gatewayApi,
  gateways,
  type KubeObject,
  managedByAnnotation,
  managedByLabel,
  nameOf,
  namespaces,
  peerAuthentications,
  peerLabel,
  pods,
  type Resource,
  rateLimits,
  serviceEntries,
  serviceExports,
  serviceImports,
  serviceMeshControlPlanes,
  serviceMeshMemberRolls,
  serviceMeshMembers,
  services,
  sidecars,
  systemNamespace,
  virtualServices,
} from "../api/index.ts";
import { isNotFound, type KubeClient } from "../kube/index.ts";
import { sleep } from "../world/index.ts";
import { waitFor } from "./apply.ts";
import { comesByItself, contentsOf, type Held } from "./contents.ts";
import { installedDefinitions, isOurDefinition, ownGroup } from "./definitions.ts";
import { unforwardClusterSet } from "./dns.ts";
import { requireNotHelms } from "./install.ts";
import { peersOf } from "./join.ts";
import { controlPlane, installManager } from "./manifests.ts";
import { removeMeshes } from "./uninstall-mesh.ts";

export interface UninstallHooks {
  signal?: AbortSignal;
  onStep?: (step: string) => void;
  /**
   * Whether to take a definition that is not Weft's alone although it has objects, which go with it; kept unless
   * told. Asked before anything is changed.
   */
  takeDefinition?: (name: string, objects: number) => Promise<boolean>;
}

export interface Uninstalled {
  /** What was taken away, for people. */
  removed: string[];
  /** What stays, and why. */
  kept: { what: string; why: string }[];
  /** Clusters that this one had a credential for. They have one for it, which is void now. */
  peers: string[];
}

/** Throws INSTALLED_BY_HELM when it is for Helm to begin. */
export async function uninstall(client: KubeClient, hooks: UninstallHooks = {}): Promise<Uninstalled> {
  const { signal, onStep } = hooks;
  await requireNotHelms(client, signal);
  const result: Uninstalled = { removed: [], kept: [], peers: await peersOf(client, signal) };
  const taken = await decideDefinitions(client, hooks, result);

  onStep?.("control plane");
  await removeControlPlane(client, result, signal);
  onStep?.("DNS");
  result.removed.push(...(await unforwardClusterSet(client, signal)));
  onStep?.("what it wrote");
  await removeMeshes(client, result, signal);
  await removeDerived(client, result, signal);
  await withdrawFields(client, result, signal);
  onStep?.("definitions and access");
  await removeProperty(client, result, signal);
  await removeDefinitions(client, taken, result, signal);
  await removeAccess(client, result, signal);
  onStep?.("namespace");
  await removeNamespace(client, result, signal);
  return result;
}

/** Which definitions go, with questions for those that have objects. */
async function decideDefinitions(
  client: KubeClient,
  { takeDefinition, signal }: UninstallHooks,
  result: Uninstalled,
): Promise<CustomResourceDefinition[]> {
  const taken: CustomResourceDefinition[] = [];
  for (const { found } of await installedDefinitions(client, signal)) {
    if (!found) continue;
    const what = `CustomResourceDefinition ${found.metadata.name}`;
    if (found.spec.group === ownGroup) {
      taken.push(found);
    } else if (!isOurDefinition(found)) {
      result.kept.push({ what, why: "others installed it" });
    } else {
      const objects = (await objectsOf(client, found, signal)).filter((object) => !isWrittenByUs(object));
      if (objects.length === 0 || (await takeDefinition?.(found.metadata.name, objects.length)) === true) {
        taken.push(found);
      } else {
        result.kept.push({ what, why: `it has ${objects.length} object(s)` });
      }
    }
  }
  return taken;
}

async function objectsOf(
  client: KubeClient,
  { spec }: CustomResourceDefinition,
  signal: AbortSignal | undefined,
): Promise<KubeObject[]> {
  const version = spec.versions.find(({ served }) => served)?.name;
  if (!version) return [];
  const { group, names, scope } = spec;
  const { plural, kind } = names;
  const resource: Resource = { group, version, kind, plural, namespaced: scope === "Namespaced" };
  return (await client.list(resource, signal ? { signal } : {})).items;
}

/** Whole objects of ours: the control plane's (law 8) and the installer's. */
function isWrittenByUs({ metadata }: KubeObject): boolean {
  const by = metadata.labels?.[managedByLabel];
  return (
    by === fieldManager ||
    by === installManager ||
    metadata.annotations?.[managedByAnnotation] === fieldManager
  );
}

/** Nobody writes after this. */
async function removeControlPlane(
  client: KubeClient,
  result: Uninstalled,
  signal: AbortSignal | undefined,
): Promise<void> {
  const ref = { namespace: systemNamespace, name: controlPlane };
  const options = signal ? { signal } : {};
  if (await client.delete(deployments, ref, { ...options, propagationPolicy: "Foreground" })) {
    result.removed.push(`Deployment ${systemNamespace}/${controlPlane}`);
  }
  const gone = (object: KubeObject | undefined) => object === undefined;
  await waitFor(client, deployments, ref, gone, async () => "the Deployment does not go", signal);
  const selection = { namespace: systemNamespace, labelSelector: `app=${controlPlane}`, ...options };
  const end = client.world.monotonic() + 60_000;
  while ((await client.list(pods, selection)).items.length > 0) {
    if (client.world.monotonic() > end) {
      // Of a node that is away. Its rights go now, so it cannot write any more.
      result.kept.push({ what: "pods of the control plane", why: "they do not end; is their node there?" });
      return;
    }
    await sleep(client.world, 200, signal);
  }
}

/** Imports, derived Services and imported slices, in the order in which they depend on each other. */
async function removeDerived(
  client: KubeClient,
  result: Uninstalled,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const resource of [serviceImports, endpointSlices, services] as Resource[]) {
    const ours = (await listed(client, resource, signal)).filter(
      ({ metadata, ...object }) =>
        metadata.namespace !== systemNamespace &&
        isWrittenByUs({ ...object, metadata }) &&
        metadata.labels?.[managedByLabel] !== installManager,
    );
    for (const { metadata } of ours) {
      const options = { ...(metadata.uid && { uid: metadata.uid }), ...(signal && { signal }) };
      await client.delete(resource, nameOf({ metadata }), options);
    }
    if (ours.length > 0) result.removed.push(`${ours.length} ${resource.plural}`);
  }
}

/** Kinds of others' objects that the control plane and discoveries write fields on. */
const withOurFields: readonly Resource[] = [
  serviceExports,
  serviceImports,
  endpointSlices,
  namespaces,
  serviceMeshMemberRolls,
  serviceMeshMembers,
  serviceMeshControlPlanes,
  virtualServices,
  destinationRules,
  gateways,
  serviceEntries,
  sidecars,
  peerAuthentications,
  authorizationPolicies,
  rateLimits,
  gatewayApi.gatewayClasses,
  gatewayApi.gateways,
  gatewayApi.httpRoutes,
];

/** Fields on objects of others, taken back by each manager that wrote some. */
async function withdrawFields(
  client: KubeClient,
  result: Uninstalled,
  signal: AbortSignal | undefined,
): Promise<void> {
  let objects = 0;
  for (const resource of withOurFields) {
    for (const { metadata } of await listed(client, resource, signal)) {
      const entries = (metadata.managedFields ?? []).filter(
        ({ manager, operation }) =>
          operation === "Apply" && manager?.startsWith(`${fieldManager}-`) && manager !== installManager,
      );
      const { namespace, name, uid } = metadata;
      const nothing = { metadata: { ...(namespace && { namespace }), name, ...(uid && { uid }) } };
      for (const { manager, subresource } of entries) {
        try {
          await client.apply(resource, nothing, {
            manager: manager!,
            ...(subresource && { subresource }),
            ...(signal && { signal }),
          });
        } catch (error) {
          if (!isNotFound(error)) throw error;
        }
      }
      if (entries.length > 0) objects++;
    }
  }
  if (objects > 0) result.removed.push(`fields on ${objects} objects of others`);
}

/** All objects of a kind; none where the cluster does not know the kind. */
async function listed(
  client: KubeClient,
  resource: Resource,
  signal: AbortSignal | undefined,
): Promise<KubeObject[]> {
  try {
    return (await client.list(resource, signal ? { signal } : {})).items;
  } catch (error) {
    if (isNotFound(error)) return [];
    throw error;
  }
}

/** The cluster's name, where it was we who gave it. */
async function removeProperty(
  client: KubeClient,
  result: Uninstalled,
  signal: AbortSignal | undefined,
): Promise<void> {
  const options = signal ? { signal } : {};
  const property = await client.get(clusterProperties, clusterIdProperty, options);
  if (!property) return;
  const what = `ClusterProperty ${clusterIdProperty}`;
  if (!isWrittenByUs(property)) {
    result.kept.push({ what, why: "others wrote it" });
  } else {
    await client.delete(clusterProperties, clusterIdProperty, options);
    result.removed.push(what);
  }
}

async function removeDefinitions(
  client: KubeClient,
  taken: readonly CustomResourceDefinition[],
  result: Uninstalled,
  signal: AbortSignal | undefined,
): Promise<void> {
  await Promise.all(
    taken.map(async ({ metadata: { name } }) => {
      await client.delete(customResourceDefinitions, name, signal ? { signal } : {});
      const gone = (object: KubeObject | undefined) => object === undefined;
      const reason = async () => `CustomResourceDefinition ${name} does not go: an object has a finalizer`;
      await waitFor(client, customResourceDefinitions, name, gone, reason, signal);
      result.removed.push(`CustomResourceDefinition ${name}`);
    }),
  );
}

async function removeAccess(
  client: KubeClient,
  result: Uninstalled,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const resource of [clusterRoleBindings, clusterRoles] as Resource[]) {
    const labelSelector = `${managedByLabel}=${installManager}`;
    const { items } = await client.list(resource, { labelSelector, ...(signal && { signal }) });
    for (const { metadata } of items) {
      await client.delete(resource, metadata.name, signal ? { signal } : {});
      result.removed.push(`${resource.kind} ${metadata.name}`);
    }
  }
}

/** The namespace, when we made it and nobody put anything into it; otherwise what is ours of what it holds. */
async function removeNamespace(
  client: KubeClient,
  result: Uninstalled,
  signal: AbortSignal | undefined,
): Promise<void> {
  const options = signal ? { signal } : {};
  const namespace = await client.get(namespaces, systemNamespace, options);
  if (!namespace) return;
  const what = `Namespace ${systemNamespace}`;
  const held = (await contentsOf(client, systemNamespace, signal)).filter((each) => !comesByItself(each));
  const foreign = held.filter((each) => !isOursInside(each));
  const made = namespace.metadata.labels?.[managedByLabel] === installManager;
  if (made && foreign.length === 0) {
    await client.delete(namespaces, systemNamespace, options);
    const gone = (object: KubeObject | undefined) => object === undefined;
    const reason = async () => `Namespace ${systemNamespace} does not go: something in it has a finalizer`;
    await waitFor(client, namespaces, systemNamespace, gone, reason, signal);
    result.removed.push(what);
    return;
  }
  for (const { resource, metadata } of held.filter(isOursInside)) {
    await client.delete(resource, { namespace: systemNamespace, name: metadata.name }, options);
    result.removed.push(`${resource.kind} ${systemNamespace}/${metadata.name}`);
  }
  const names = foreign.slice(0, 5).map(({ resource, metadata }) => `${resource.kind} ${metadata.name}`);
  const more = foreign.length > 5 ? `, and ${foreign.length - 5} more` : "";
  result.kept.push({
    what,
    why: foreign.length > 0 ? `it holds ${names.join(", ")}${more}` : "it was there before Weft",
  });
}

/** In our own namespace: by label, as a peer's credential, or written by one of our field managers. */
function isOursInside({ metadata }: Held): boolean {
  const managers = (metadata.managedFields ?? []).map(({ manager }) => manager ?? "");
  return (
    isWrittenByUs({ apiVersion: "", kind: "", metadata }) ||
    metadata.labels?.[peerLabel] !== undefined ||
    managers.some((manager) => manager === installManager || manager === fieldManager)
  );
}
