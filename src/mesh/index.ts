/**
 * Meshes of this cluster: ServiceMeshControlPlane → discovery, gateways and settings; member rolls → labels on
 * namespaces; and what is told about all of them. Pure: `control.ts` feeds and writes.
 */
import {
  type ClusterRoleBinding,
  type ConfigMap,
  type Deployment,
  gatewayApi,
  type MutatingWebhookConfiguration,
  memberOfLabel,
  type Namespace,
  nameOf,
  peerTrustConfigMap,
  type RoleBinding,
  readPeerTrust,
  rootCertificateConfigMap,
  rootCertificateKey,
  type Service,
  type ServiceAccount,
  type ServiceMeshControlPlane,
  type ServiceMeshMember,
  type ServiceMeshMemberRoll,
  type TrustBundle,
} from "../api/index.ts";
import { type Collection, derive, flatDerive, group, index, joinPartitions } from "../collections/index.ts";
import {
  gatewayAccount,
  gatewayClass,
  gatewayDeployment,
  gatewayService,
  type ProxyTemplate,
} from "./gateways.ts";
import { type Claim, memberFields, meshOfNamespace, rollFields, rollHas, rollName } from "./members.ts";
import {
  discoveryAccount,
  discoveryBinding,
  discoveryClusterBinding,
  discoveryDeployment,
  discoveryService,
  injectionConfig,
  injectionName,
  peerTrustFor,
  settingsConfigMap,
} from "./objects.ts";
import { type Mesh, type MeshEnvironment, meshOf } from "./spec.ts";
import { controlPlaneFields, secondControlPlaneFields } from "./status.ts";

export type { ProxyTemplate } from "./gateways.ts";
export { meshMark } from "./objects.ts";
export { type ControlPlaneForm, formOf, notServed, type ServedField, servedV1, servedV2 } from "./served.ts";
export type { GatewaySpec, Mesh, MeshEnvironment } from "./spec.ts";
export { invalidFields } from "./spec.ts";

/** This cluster, as its API has it. Keyed by `nameOf`. */
export interface MeshInputs extends MeshEnvironment {
  /** Weft's version, for people. */
  version: string;
  template: ProxyTemplate;
  controlPlanes: Collection<ServiceMeshControlPlane>;
  memberRolls: Collection<ServiceMeshMemberRoll>;
  members: Collection<ServiceMeshMember>;
  namespaces: Collection<Namespace>;
  /** Those that are marked as ours are enough. */
  deployments: Collection<Deployment>;
  webhookConfigs: Collection<MutatingWebhookConfiguration>;
  /** All called `istio-ca-root-cert`: what discoveries publish, and our copies. */
  roots: Collection<ConfigMap>;
  /** What peers say of the trust domains of their meshes. */
  peerTrust: Collection<TrustBundle>;
  /** The peers, by cluster, and whether they are heard. */
  peers: Collection<{ cluster: string; state: string }>;
  /** Those that are marked as ours are enough. */
  configMaps: Collection<ConfigMap>;
  /** What whoever writes met, keyed by object. */
  conflicts: Collection<MeshConflict>;
}

/** An object of a mesh, or a member's label, that cannot be as it is to be, because others have it. */
export interface MeshConflict {
  /** `Service istio-system/istio-ingressgateway`. */
  object: string;
  /** The object's namespace or, of a namespace, its own name; empty of what is cluster-wide. */
  namespace: string;
  /** For people. */
  message: string;
}

/** A namespace and the mesh that it is a member of. */
export interface Membership {
  namespace: string;
  /** The mesh's namespace. */
  mesh: string;
  /** The namespace says so already. */
  labelled: boolean;
}

type Fields<T extends (...args: never[]) => unknown> = Collection<ReturnType<T>>;

export interface Meshes {
  meshes: Collection<Mesh>;
  membership: Collection<Membership>;
  /** Whole objects, keyed by `nameOf`. */
  serviceAccounts: Collection<ServiceAccount>;
  roleBindings: Collection<RoleBinding>;
  clusterRoleBindings: Collection<ClusterRoleBinding>;
  services: Collection<Service>;
  deployments: Collection<Deployment>;
  gatewayClasses: Collection<gatewayApi.GatewayClass>;
  webhookConfigs: Collection<MutatingWebhookConfiguration>;
  /** Settings and roots; `configMapRow` tells the key of one found in the API. */
  configMaps: Collection<ConfigMap>;
  /** Fields on others' objects, keyed as these are. */
  memberLabels: Collection<{
    apiVersion: string;
    kind: string;
    metadata: { name: string; labels: Record<string, string> };
  }>;
  rollFields: Fields<typeof rollFields>;
  memberFields: Fields<typeof memberFields>;
  controlPlaneFields: Fields<typeof controlPlaneFields>;
}

/** The key in `configMaps` of an object that is found. */
export function configMapRow({ metadata }: ConfigMap): string {
  if (metadata.name === rootCertificateConfigMap) return `roots/${metadata.namespace}`;
  const partition = metadata.name === peerTrustConfigMap ? "trust" : "settings";
  return `${partition}/${nameOf({ metadata })}`;
}

export function meshes(inputs: MeshInputs): Meshes {
  const { memberRolls, members, roots, template, version } = inputs;
  const { engine } = inputs.controlPlanes;
  // What is told on a control plane is no reason to look at its mesh again.
  const controlPlanes = derive(inputs.controlPlanes, withoutStatus, { name: "controlPlaneSpecs" });

  // One mesh per namespace: its oldest control plane's.
  const perNamespace = group(
    controlPlanes,
    ({ metadata }) => (metadata.deletionTimestamp ? [] : [metadata.namespace ?? ""]),
    (_namespace, all) =>
      [...all].sort(
        (a, b) =>
          order(a.metadata.creationTimestamp, b.metadata.creationTimestamp) ||
          order(a.metadata.name, b.metadata.name),
      ),
    { name: "controlPlanesOfNamespace" },
  );
  const meshes = derive(
    controlPlanes,
    (owner, read) => {
      const [first] = read.get(perNamespace, owner.metadata.namespace ?? "") ?? [];
      if (first?.metadata.uid !== owner.metadata.uid || first?.metadata.name !== owner.metadata.name)
        return undefined;
      return meshOf(owner, inputs);
    },
    { name: "meshes" },
  );

  // Who is a member of which.
  const living = derive(
    inputs.namespaces,
    ({ apiVersion, kind, metadata: { name, labels, deletionTimestamp } }): Namespace | undefined =>
      deletionTimestamp ? undefined : { apiVersion, kind, metadata: { name, ...(labels && { labels }) } },
    { name: "namespacesForMeshes" },
  );
  const rolls = derive(
    memberRolls,
    (
      { apiVersion, kind, metadata: { name, namespace, creationTimestamp, deletionTimestamp }, spec },
      read,
    ) =>
      name !== rollName || deletionTimestamp || !read.get(perNamespace, namespace ?? "")
        ? undefined
        : {
            apiVersion,
            kind,
            metadata: {
              name,
              ...(namespace && { namespace }),
              ...(creationTimestamp && { creationTimestamp }),
            },
            ...(spec && { spec }),
          },
    { name: "rolls" },
  );
  const membership = derive(
    living,
    (namespace, read, name): Membership | undefined => {
      if (read.get(perNamespace, name)) return undefined;
      const claims: Claim[] = read
        .list(rolls)
        .filter((roll) => rollHas(roll, namespace))
        .map(({ metadata }) => ({
          namespace: name,
          mesh: metadata.namespace ?? "",
          since: metadata.creationTimestamp ?? "",
        }));
      const member = read.get(members, `${name}/${rollName}`);
      const home = member?.metadata.deletionTimestamp ? undefined : member?.spec?.controlPlaneRef;
      if (home && read.get(meshes, `${home.namespace}/${home.name}`)) {
        const since = member?.metadata.creationTimestamp ?? "";
        claims.push({ namespace: name, mesh: home.namespace ?? "", since });
      }
      const mesh = meshOfNamespace(namespace, claims);
      return mesh === undefined
        ? undefined
        : { namespace: name, mesh, labelled: namespace.metadata.labels?.[memberOfLabel] === mesh };
    },
    { name: "membership" },
  );
  const membersOf = index(membership, ({ mesh }) => [mesh], { name: "membersOfMesh" });
  const memberLabels = derive(
    membership,
    ({ namespace, mesh }) => ({
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name: namespace, labels: { [memberOfLabel]: mesh } },
    }),
    { name: "memberLabels" },
  );

  // What a mesh consists of.
  const serviceAccounts = flatDerive(
    meshes,
    (mesh) => [discoveryAccount(mesh), ...mesh.gateways.map((gateway) => gatewayAccount(mesh, gateway))],
    { name: "meshServiceAccounts", key: nameOf },
  );
  const roleBindings = flatDerive(meshes, (mesh) => [discoveryBinding(mesh)], {
    name: "meshRoleBindings",
    key: nameOf,
  });
  const clusterRoleBindings = flatDerive(meshes, (mesh) => [discoveryClusterBinding(mesh)], {
    name: "meshClusterRoleBindings",
    key: nameOf,
  });
  const services = flatDerive(
    meshes,
    (mesh) => [discoveryService(mesh), ...mesh.gateways.map((gateway) => gatewayService(mesh, gateway))],
    { name: "meshServices", key: nameOf },
  );
  const deployments = flatDerive(
    meshes,
    (mesh) => [
      discoveryDeployment(mesh),
      ...mesh.gateways.map((gateway) => gatewayDeployment(mesh, gateway, template)),
    ],
    { name: "meshDeployments", key: nameOf },
  );

  const gatewayClasses = group(
    meshes,
    () => gatewayApi.gatewayClass,
    () => gatewayClass(),
    { name: "meshGatewayClasses" },
  );

  // The roots that discovery publishes, for members and for the webhook. Should it lose them, what stands goes on.
  const settings = flatDerive(meshes, (mesh) => [settingsConfigMap(mesh)], {
    name: "meshSettings",
    key: nameOf,
  });
  // What peers say of theirs; which of it counts is discovery's to say. What one said that cannot be heard stands.
  const peerTrust = flatDerive(
    meshes,
    (mesh, read) => {
      const heard = read.list(inputs.peerTrust).map(({ spec }) => spec);
      const standing = read.get(inputs.configMaps, `${mesh.settings.namespace}/${peerTrustConfigMap}`);
      const before = (standing && readPeerTrust(standing)) ?? [];
      const silent = before.filter(({ cluster }) => {
        const state = read.get(inputs.peers, cluster)?.state;
        const unheard = state !== undefined && state !== "live" && state !== "renamed";
        return unheard && !heard.some((each) => each.cluster === cluster);
      });
      const claims = [...heard, ...silent];
      return claims.length > 0 ? [peerTrustFor(mesh, claims)] : [];
    },
    { name: "meshPeerTrust", key: nameOf },
  );
  const copies = derive(
    membership,
    ({ namespace, mesh }, read): ConfigMap | undefined => {
      const own = read.get(roots, `${namespace}/${rootCertificateConfigMap}`);
      const data = read.get(roots, `${mesh}/${rootCertificateConfigMap}`)?.data ?? own?.data;
      return data && rootsFor(namespace, data);
    },
    { name: "meshRoots" },
  );
  const configMaps = joinPartitions<ConfigMap>(engine, { name: "meshConfigMaps" });
  configMaps.add("settings", settings);
  configMaps.add("roots", copies);
  configMaps.add("trust", peerTrust);
  const webhookConfigs = flatDerive(
    meshes,
    (mesh, read) => {
      const published = read.get(roots, `${mesh.settings.namespace}/${rootCertificateConfigMap}`);
      const pem = published?.data?.[rootCertificateKey];
      const standing = read.get(inputs.webhookConfigs, injectionName(mesh))?.webhooks?.[0]?.clientConfig;
      const caBundle = pem ? Buffer.from(pem).toString("base64") : standing?.caBundle;
      return caBundle ? [injectionConfig(mesh, caBundle)] : [];
    },
    { name: "meshWebhookConfigs", key: nameOf },
  );

  // What is told.
  const conflictsIn = index(inputs.conflicts, ({ namespace }) => namespace, { name: "meshConflictsIn" });
  const rollStatus = derive(
    memberRolls,
    (roll, read) => {
      const home = roll.metadata.namespace ?? "";
      const counts = roll.metadata.name === rollName;
      const named = (roll.spec?.members ?? []).filter((name) => name !== "*");
      const joined = counts ? read.all(membersOf, home).map(({ namespace }) => namespace) : [];
      const wanted = [...new Set([...named, ...joined])].sort().map((name) => {
        const found = read.get(membership, name);
        const exists = read.get(living, name) !== undefined;
        const [conflict] = exists ? read.all(conflictsIn, name) : [];
        return {
          name,
          exists,
          mesh: found?.mesh,
          labelled: counts && found?.labelled === true,
          ...(conflict && { conflict: conflict.message }),
        };
      });
      return rollFields({ roll, controlPlanes: read.get(perNamespace, home) ?? [], wanted });
    },
    { name: "rollFields" },
  );
  const memberStatus = derive(
    members,
    (member, read) => {
      const { namespace, name } = member.spec?.controlPlaneRef ?? {};
      const mesh = read.get(meshes, `${namespace}/${name}`);
      const found = read.get(membership, member.metadata.namespace ?? "");
      return memberFields(member, mesh?.owner, {
        mesh: found?.mesh,
        labelled: found?.labelled === true,
      });
    },
    { name: "memberFields" },
  );
  const controlPlaneStatus = derive(
    controlPlanes,
    (owner, read, key) => {
      if (owner.metadata.deletionTimestamp) return undefined;
      const mesh = read.get(meshes, key);
      if (!mesh) {
        const [first] = read.get(perNamespace, owner.metadata.namespace ?? "") ?? [];
        return secondControlPlaneFields(owner, first?.metadata.name ?? "another");
      }
      const { namespace } = mesh.settings;
      const names = [discoveryDeployment(mesh).metadata.name, ...mesh.gateways.map(({ name }) => name)];
      const components = names.map(
        (name) => [name, read.get(inputs.deployments, `${namespace}/${name}`)] as const,
      );
      const ownNames = [injectionName(mesh), discoveryClusterBinding(mesh).metadata.name];
      const conflicts = [
        ...read.all(conflictsIn, namespace),
        ...read
          .all(conflictsIn, "")
          .filter(({ object }) => ownNames.some((each) => object.endsWith(` ${each}`))),
      ].map(({ message }) => message);
      return controlPlaneFields(mesh, components, conflicts, version);
    },
    { name: "controlPlaneFields" },
  );

  return {
    meshes,
    membership,
    serviceAccounts,
    roleBindings,
    clusterRoleBindings,
    services,
    deployments,
    gatewayClasses,
    webhookConfigs,
    configMaps,
    memberLabels,
    rollFields: rollStatus,
    memberFields: memberStatus,
    controlPlaneFields: controlPlaneStatus,
  };
}

function rootsFor(namespace: string, data: Record<string, string>): ConfigMap {
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: rootCertificateConfigMap, namespace, labels: { "app.kubernetes.io/part-of": "istio" } },
    data,
  };
}

function withoutStatus({
  apiVersion,
  kind,
  metadata,
  spec,
}: ServiceMeshControlPlane): ServiceMeshControlPlane {
  const { name, namespace, uid, generation, creationTimestamp, deletionTimestamp } = metadata;
  return {
    apiVersion,
    kind,
    metadata: {
      name,
      ...(namespace && { namespace }),
      ...(uid && { uid }),
      ...(generation && { generation }),
      ...(creationTimestamp && { creationTimestamp }),
      ...(deletionTimestamp && { deletionTimestamp }),
    },
    ...(spec && { spec }),
  };
}

function order(a = "", b = ""): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
