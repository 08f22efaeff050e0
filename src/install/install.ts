/** `weft install`: applies the manifests and waits until the control plane is ready. */
import {
  clusterIdProperty,
  clusterProperties,
  customResourceDefinitions,
  definitions,
  deployments,
  isClusterId,
  managedByLabel,
  namespaces,
  pods,
  type Service,
  services,
  systemNamespace,
  WeftError,
} from "../api/index.ts";
import type { KubeClient } from "../kube/index.ts";
import { apply, waitFor } from "./apply.ts";
import { applyDefinitions } from "./definitions.ts";
import { forwardClusterSet } from "./dns.ts";
import {
  accessManifests,
  clusterPropertyManifest,
  controlPlane,
  deploymentManifest,
  dnsService,
  dnsServiceManifest,
  type InstallOptions,
  installManager,
  systemNamespaceManifest,
} from "./manifests.ts";

export interface InstallHooks {
  signal?: AbortSignal;
  /** Called before each step. */
  onStep?: (step: string) => void;
  /** What was found or is left to do, for people. */
  onNote?: (note: string) => void;
}

/**
 * Puts everything but the control plane's Deployment into the cluster; the same call again mends or upgrades it.
 * Throws CLUSTER_ID_INVALID, and CLUSTER_NAMED when the cluster has another id already: changing it would be
 * leaving and joining anew.
 */
export async function prepareCluster(
  client: KubeClient,
  options: InstallOptions,
  hooks: InstallHooks = {},
): Promise<void> {
  const { signal } = hooks;
  if (!isClusterId(options.name)) throw new WeftError("CLUSTER_ID_INVALID", { name: options.name });
  hooks.onStep?.("definitions and access");
  await requireNotHelms(client, signal);
  await makeNamespace(client, signal);
  const [service, plans] = await Promise.all([
    apply(client, dnsServiceManifest(), signal),
    applyDefinitions(client, signal),
    ...accessManifests().map((manifest) => apply(client, manifest, signal)),
  ]);
  for (const { name, action, reason } of plans) {
    const theirs = action === "keep" || (action === "update" && reason !== "Weft installed it");
    if (theirs) hooks.onNote?.(`${action === "keep" ? "kept" : "updated"} the definition ${name}: ${reason}`);
  }
  await Promise.all([
    forwardDns(client, service, options, hooks),
    waitForDefinitions(client, signal).then(() => nameCluster(client, options.name, signal)),
  ]);
}

/** What Helm installed is for Helm to change and to take away. Throws INSTALLED_BY_HELM. */
export async function requireNotHelms(client: KubeClient, signal?: AbortSignal): Promise<void> {
  const ref = { namespace: systemNamespace, name: controlPlane };
  const deployment = await client.get(deployments, ref, signal ? { signal } : {});
  const release = deployment?.metadata.annotations?.["meta.helm.sh/release-name"];
  if (release !== undefined) {
    throw new WeftError("INSTALLED_BY_HELM", { cluster: client.cluster, release });
  }
}

/** A namespace that is there already stays as it is, and stays when Weft goes. */
async function makeNamespace(client: KubeClient, signal: AbortSignal | undefined): Promise<void> {
  const found = await client.get(namespaces, systemNamespace, signal ? { signal } : {});
  if (found && found.metadata.labels?.[managedByLabel] !== installManager) return;
  await apply(client, systemNamespaceManifest(), signal);
}

/**
 * Tells the cluster's DNS where `clusterset.local` is answered; by itself for clusters that Helm installed in.
 * Resolves to false when something is left to do by hand, which `onNote` is told.
 */
export async function forwardDns(
  client: KubeClient,
  known: Service | undefined,
  options: { patchCoreDns?: boolean },
  hooks: InstallHooks = {},
): Promise<boolean> {
  const { signal } = hooks;
  const ref = { namespace: systemNamespace, name: dnsService };
  const service = known ?? (await client.get(services, ref, signal ? { signal } : {}));
  if (!service) throw new WeftError("NOT_INSTALLED", { cluster: client.cluster });
  const address = service.spec?.clusterIP;
  if (!address) throw new Error(`Service ${service.metadata.name} was given no address`);
  const left = await forwardClusterSet(client, address, { ...options, ...(signal && { signal }) });
  if (left) hooks.onNote?.(left);
  return left === undefined;
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
    (found) => {
      const { metadata, spec, status } = found ?? {};
      const wanted = spec?.replicas ?? 1;
      return (
        found !== undefined &&
        (status?.observedGeneration ?? 0) >= (metadata?.generation ?? 0) &&
        (status?.updatedReplicas ?? 0) >= wanted &&
        (status?.availableReplicas ?? 0) >= wanted &&
        (status?.replicas ?? 0) <= (status?.updatedReplicas ?? 0)
      );
    },
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

async function waitForDefinitions(client: KubeClient, signal: AbortSignal | undefined): Promise<void> {
  await Promise.all(
    definitions().map(({ metadata: { name } }) =>
      waitFor(
        client,
        customResourceDefinitions,
        name,
        (found) =>
          (found?.status?.conditions ?? []).some((c) => c.type === "Established" && c.status === "True"),
        async () => `CustomResourceDefinition ${name} is not established`,
        signal,
      ),
    ),
  );
}
