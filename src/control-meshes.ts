/**
 * The meshes' part of the control plane's page: sources → `mesh/` → sinks.
 */
import {
  clusterRoleBindings,
  configMaps,
  deployments,
  gatewayApi,
  type KubeObject,
  managedByLabel,
  meshManager,
  mutatingWebhookConfigurations,
  type Namespace,
  nameOf,
  namespaces,
  type ProxyImplementation,
  type Resource,
  roleBindings,
  rootCertificateConfigMap,
  type Service,
  serviceAccounts,
  serviceMeshControlPlanes,
  serviceMeshMemberRolls,
  serviceMeshMembers,
  services,
  splitName,
  weftVersion,
} from "./api/index.ts";
import type { Peers } from "./clusterset/index.ts";
import { type Collection, type Engine, source } from "./collections/index.ts";
import { proxyContainer, proxyVolumes } from "./injection/index.ts";
import {
  ApiError,
  type FieldSink,
  type FieldSinkOptions,
  fieldSink,
  type KubeClient,
  type ObjectSink,
  type ObjectSinkOptions,
  objectSink,
  type WatchedSource,
  type WatchSourceOptions,
  watchSource,
} from "./kube/index.ts";
import { configMapRow, type MeshConflict, meshes, meshMark } from "./mesh/index.ts";

export interface MeshesOptions {
  engine: Engine;
  client: KubeClient;
  /** The cluster's id. */
  cluster: string;
  /** Of discovery and proxies: the control plane's own. */
  image: string;
  proxy: ProxyImplementation;
  /** All there are. */
  namespaces: Collection<Namespace>;
  services: Collection<Service>;
  peers: Pick<Peers, "trustBundles" | "states">;
  log: (line: string, error?: unknown) => void;
}

export interface MeshesOfCluster {
  /** What can be asked for in `why`, by name. */
  readonly collections: Readonly<Record<string, Collection<unknown>>>;
  /** Adds what writes, in the order in which a mesh needs it. Call what it returns when the lead is over. */
  lead(sinks: Map<string, ObjectSink | FieldSink>): () => void;
  stop(): void;
}

/**
 * A cluster that has not (yet) the kinds of meshes is a member of its clusterset all the same: nobody waits for what is
 * watched here.
 */
export function meshesOf(options: MeshesOptions): MeshesOfCluster {
  const { engine, client, cluster, image, proxy, peers, log } = options;
  const watched: WatchedSource<KubeObject>[] = [];
  const watch = <T extends KubeObject>(resource: Resource<T>, more: WatchSourceOptions<T> = {}) => {
    const fed = watchSource(engine, client, resource, { name: `${resource.plural} of meshes`, ...more });
    watched.push(fed as unknown as WatchedSource<KubeObject>);
    return fed;
  };

  // What there is …
  const marked = { labelSelector: `${managedByLabel}=${meshManager}` };
  const ours = {
    serviceAccounts: watch(serviceAccounts, marked),
    roleBindings: watch(roleBindings, marked),
    clusterRoleBindings: watch(clusterRoleBindings, marked),
    deployments: watch(deployments, marked),
    configMaps: watch(configMaps, marked),
    webhookConfigs: watch(mutatingWebhookConfigurations, marked),
    gatewayClasses: watch(gatewayApi.gatewayClasses, marked),
  };
  const theirs = {
    controlPlanes: watch(serviceMeshControlPlanes),
    memberRolls: watch(serviceMeshMemberRolls),
    members: watch(serviceMeshMembers),
  };
  const roots = watch(configMaps, {
    name: "roots of meshes",
    fieldSelector: `metadata.name=${rootCertificateConfigMap}`,
  });
  const conflicts = source<MeshConflict>(engine, {
    name: "meshConflicts",
    key: ({ object }) => object,
    synced: true,
  });

  // … what is to be …
  const made = meshes({
    cluster,
    image,
    proxy,
    clusterDomain: "cluster.local",
    version: weftVersion,
    template: { container: proxyContainer, volumes: proxyVolumes },
    ...theirs,
    namespaces: options.namespaces,
    deployments: ours.deployments,
    webhookConfigs: ours.webhookConfigs,
    configMaps: ours.configMaps,
    roots,
    conflicts,
    peerTrust: peers.trustBundles,
    peers: peers.states,
  });

  // … and, while we lead, into the API. What is in the way is told on the control plane.
  const onError = (kind: string) => (name: string, error: unknown) => log(`writing ${kind} ${name}`, error);
  const conflictsOf =
    ({ kind, namespaced }: Resource) =>
    (name: string, conflict: { message: string } | undefined) => {
      const object = `${kind} ${name}`;
      const namespace = namespaced ? (splitName(name).namespace ?? "") : kind === "Namespace" ? name : "";
      if (conflict) log(`warning: ${conflict.message}`);
      if (conflict) conflicts.put({ object, namespace, message: conflict.message });
      else conflicts.remove(object);
    };
  const lead = (sinks: Map<string, ObjectSink | FieldSink>) => {
    const objects = <T extends KubeObject>(
      resource: Resource<T>,
      desired: ObjectSinkOptions<T>["desired"],
      observed: Collection<T>,
      rowKey: (object: T) => string = nameOf,
    ) => {
      // What the API refuses is refused for good, until something else is wanted.
      const refused = (name: string) => `${resource.kind} ${name} (refused)`;
      const sink = objectSink({
        client,
        resource,
        desired,
        observed,
        rowKey,
        manager: meshManager,
        mark: meshMark,
        onConflict: conflictsOf(resource),
        onError: (name, error) => {
          onError(resource.kind)(name, error);
          if (!(error instanceof ApiError) || error.code !== 422) return;
          const namespace = splitName(name).namespace ?? "";
          conflicts.put({ object: refused(name), namespace, message: error.status.message ?? error.message });
        },
      });
      sinks.set(`${resource.plural} of meshes`, sink);
      return desired.subscribe((changes) => {
        for (const { before, after } of changes)
          for (const row of [before, after]) if (row) conflicts.remove(refused(nameOf(row)));
      });
    };
    const fields = <T extends KubeObject>(
      manager: string,
      resource: Resource<T>,
      desired: FieldSinkOptions<T>["desired"],
      observed: Collection<T>,
      more: Pick<FieldSinkOptions<T>, "onConflict"> = {},
    ) => {
      const common = { client, resource, desired, observed, manager, rowKey: nameOf };
      sinks.set(manager, fieldSink({ ...common, ...more, onError: onError(resource.kind) }));
    };
    const unfollow = [
      objects(serviceAccounts, made.serviceAccounts, ours.serviceAccounts),
      objects(roleBindings, made.roleBindings, ours.roleBindings),
      objects(clusterRoleBindings, made.clusterRoleBindings, ours.clusterRoleBindings),
      objects(configMaps, made.configMaps, ours.configMaps, configMapRow),
      objects(services, made.services, options.services),
      objects(deployments, made.deployments, ours.deployments),
      objects(mutatingWebhookConfigurations, made.webhookConfigs, ours.webhookConfigs),
      objects(gatewayApi.gatewayClasses, made.gatewayClasses, ours.gatewayClasses),
    ];
    fields("weft-members", namespaces, made.memberLabels, options.namespaces, {
      onConflict: conflictsOf(namespaces),
    });
    fields("weft-rolls", serviceMeshMemberRolls, made.rollFields, theirs.memberRolls);
    fields("weft-memberships", serviceMeshMembers, made.memberFields, theirs.members);
    fields("weft-meshes", serviceMeshControlPlanes, made.controlPlaneFields, theirs.controlPlanes);
    return () => {
      for (const end of unfollow) end();
      // Whoever leads next finds them anew.
      conflicts.replace([]);
    };
  };
  return {
    collections: { meshes: made.meshes, memberships: made.membership },
    lead,
    stop: () => {
      for (const { reflection } of watched) reflection.stop();
    },
  };
}
