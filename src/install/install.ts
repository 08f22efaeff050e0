/** `weft install`: applies the manifests and waits until the control plane is ready. */
import {
  clusterIdProperty,
  clusterProperties,
  clusterSetZone,
  configMaps,
  customResourceDefinitions,
  definitions,
  deployments,
  type KubeObject,
  pods,
  type Resource,
  type Service,
  systemNamespace,
  WeftError,
} from "../api/index.ts";
import type { KubeClient, Ref } from "../kube/index.ts";
import { sleep } from "../world/index.ts";
import {
  accessManifests,
  clusterPropertyManifest,
  controlPlane,
  definitionManifests,
  deploymentManifest,
  dnsServiceManifest,
  type InstallOptions,
  installManager,
  type Manifest,
  systemNamespaceManifest,
} from "./manifests.ts";

export interface InstallHooks {
  signal?: AbortSignal;
  /** Called before each step. */
  onStep?: (step: string) => void;
}

/** How long to wait for CRDs and for the Deployment, milliseconds. */
const patience = 60_000;

/**
 * Puts everything but the control plane's Deployment into the cluster; the same call again mends or upgrades it.
 * Throws CLUSTER_NAMED when the cluster has another id already: changing it would be leaving and joining anew.
 */
export async function prepareCluster(
  client: KubeClient,
  options: InstallOptions,
  hooks: InstallHooks = {},
): Promise<void> {
  const { signal } = hooks;
  hooks.onStep?.("definitions and access");
  await apply(client, systemNamespaceManifest(), signal);
  const [service] = await Promise.all([
    apply(client, dnsServiceManifest(), signal),
    ...[...definitionManifests(), ...accessManifests()].map((manifest) => apply(client, manifest, signal)),
  ]);
  await Promise.all([
    forwardClusterSetZone(client, service, signal),
    waitForDefinitions(client, signal).then(() => nameCluster(client, options.name, signal)),
  ]);
}

/** Makes the cluster a member: everything, and the control plane running. */
export async function installOn(
  client: KubeClient,
  options: InstallOptions,
  hooks: InstallHooks = {},
): Promise<void> {
  await prepareCluster(client, options, hooks);
  await deployControlPlane(client, options, hooks);
}

/** Applies the Deployment and waits until it is rolled out. */
export async function deployControlPlane(
  client: KubeClient,
  options: InstallOptions,
  hooks: InstallHooks = {},
): Promise<void> {
  hooks.onStep?.("control plane");
  await apply(client, deploymentManifest(options), hooks.signal);
  await waitForControlPlane(client, hooks.signal);
}

/** Resolves when the Deployment's newest version is available. */
export async function waitForControlPlane(client: KubeClient, signal?: AbortSignal): Promise<void> {
  await waitFor(
    client,
    deployments,
    { namespace: systemNamespace, name: controlPlane },
    ({ metadata, spec, status }) =>
      (status?.observedGeneration ?? 0) >= (metadata.generation ?? 0) &&
      (status?.updatedReplicas ?? 0) >= (spec?.replicas ?? 1) &&
      (status?.availableReplicas ?? 0) >= (spec?.replicas ?? 1),
    () => whyNotAvailable(client),
    signal,
  );
}

/** What the control plane's pods say of themselves. */
async function whyNotAvailable(client: KubeClient): Promise<string> {
  const { items } = await client.list(pods, {
    namespace: systemNamespace,
    labelSelector: `app=${controlPlane}`,
  });
  const says = items.map(({ metadata, status }) => {
    const container = status?.containerStatuses?.[0];
    const { reason, message } = container?.state?.waiting ??
      container?.state?.terminated ?? { reason: "not ready" };
    const last = container?.lastState?.terminated;
    const detail = message ?? last?.message ?? (last && `exit code ${last.exitCode}`);
    return `pod ${metadata.name}: ${[status?.phase, reason, detail].filter(Boolean).join(", ")}`;
  });
  return says.join("; ") || `Deployment ${systemNamespace}/${controlPlane} has no pods`;
}

/** The cluster's id, or undefined when it has none yet. */
export async function clusterName(client: KubeClient, signal?: AbortSignal): Promise<string | undefined> {
  const property = await client.get(clusterProperties, clusterIdProperty, signal ? { signal } : {});
  return property?.spec.value;
}

async function nameCluster(client: KubeClient, name: string, signal: AbortSignal | undefined): Promise<void> {
  const known = await clusterName(client, signal);
  if (known === name) return;
  if (known !== undefined) throw new WeftError("CLUSTER_NAMED", { cluster: client.cluster, known, name });
  await apply(client, clusterPropertyManifest(name), signal);
}

/**
 * Tells the cluster's DNS where `clusterset.local` is answered: `stubDomains` of the ConfigMap
 * `kube-system/kube-dns`. The domains that others put there stay.
 */
async function forwardClusterSetZone(
  client: KubeClient,
  service: Service,
  signal: AbortSignal | undefined,
): Promise<void> {
  const address = service.spec?.clusterIP;
  if (!address) throw new Error(`Service ${service.metadata.name} was given no address`);
  const ref = { namespace: "kube-system", name: "kube-dns" };
  const existing = await client.get(configMaps, ref, signal ? { signal } : {});
  const domains = parseDomains(existing?.data?.stubDomains);
  if (JSON.stringify(domains[clusterSetZone]) === JSON.stringify([address])) return;
  await client.apply(
    configMaps,
    { metadata: ref, data: { stubDomains: JSON.stringify({ ...domains, [clusterSetZone]: [address] }) } },
    { manager: installManager, force: true, ...(signal && { signal }) },
  );
}

function parseDomains(text: string | undefined): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text ?? "{}");
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

async function waitForDefinitions(client: KubeClient, signal: AbortSignal | undefined): Promise<void> {
  await Promise.all(
    definitions.map(({ metadata: { name } }) =>
      waitFor(
        client,
        customResourceDefinitions,
        name,
        ({ status }) =>
          (status?.conditions ?? []).some((c) => c.type === "Established" && c.status === "True"),
        async () => `CustomResourceDefinition ${name} is not established`,
        signal,
      ),
    ),
  );
}

/** Applies one object as ours; takes fields that others manage, for the object is ours as a whole. */
export function apply<T extends KubeObject>(
  client: KubeClient,
  { resource, object }: Manifest<T>,
  signal?: AbortSignal,
): Promise<T> {
  return client.apply(resource, object, { manager: installManager, force: true, ...(signal && { signal }) });
}

/** Asks until `good`; throws INSTALL_STUCK after a minute. */
async function waitFor<T extends KubeObject>(
  client: KubeClient,
  resource: Resource<T>,
  ref: Ref,
  good: (object: T) => boolean,
  reason: () => Promise<string>,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { world } = client;
  const end = world.monotonic() + patience;
  for (let delay = 20; ; delay = Math.min(delay * 1.3, 500)) {
    const object = await client.get(resource, ref, signal ? { signal } : {});
    if (object && good(object)) return;
    if (world.monotonic() > end) {
      throw new WeftError("INSTALL_STUCK", { cluster: client.cluster, reason: await reason() });
    }
    await sleep(world, delay, signal);
  }
}
