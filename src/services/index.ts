/**
 * Services across clusters: ServiceExport → ServiceImport → derived Service, EndpointSlices, clusterset names.
 * KEP-1645 as derivations: this page is the specification's table of contents.
 */
import {
  type EndpointOffer,
  type EndpointSlice,
  memberOfLabel,
  type Namespace,
  type Node,
  nameOf,
  type PeerAuthentication,
  type Pod,
  peerPolicyOf,
  regionLabel,
  type Service,
  type ServiceExport,
  type ServiceImport,
  type ServiceOffer,
  type TrustBundle,
} from "../api/index.ts";
import {
  type Collection,
  derive,
  flatDerive,
  group,
  index,
  joinPartitions,
  source,
} from "../collections/index.ts";
import type { DnsRecord, DnsRow } from "../dns/index.ts";
import { conflictCondition, type ExportConditions, readiness } from "./conditions.ts";
import {
  type DesiredImport,
  derivedKey,
  derivedServiceOf,
  handWrittenFields,
  type ImportFields,
  isOurs,
  serviceImportOf,
} from "./imports.ts";
import { type MergedService, mergedKey, mergeOffers } from "./merge.ts";
import { dnsRecords, emptyName, schemaVersion } from "./names.ts";
import { endpointOfferOf, offeredServiceOf, offeredWorkloadOf, serviceOfferOf } from "./offers.ts";
import { handMadeSliceFields, importedSlice, importOf, type SliceFields } from "./slices.ts";

export { type ExportConditions, type ExportNews, exportNews } from "./conditions.ts";
export type { DesiredImport, ImportFields } from "./imports.ts";
export type { MergedService, OfferConflict } from "./merge.ts";
export { mergeOffers } from "./merge.ts";
export { derivedName, importedSliceName } from "./naming.ts";
export { slimPod } from "./offers.ts";
export type { ConflictReason } from "./reasons.ts";
export { importedSliceRow, type SliceFields } from "./slices.ts";

/** This cluster, as its API has it. All keyed `namespace/name`. */
export interface OwnCluster {
  /** The cluster's id (KEP-2149). */
  cluster: string;
  exports: Collection<ServiceExport>;
  services: Collection<Service>;
  endpointSlices: Collection<EndpointSlice>;
  nodes: Collection<Node>;
  /** Those with a sidecar are enough, slimmed by `slimPod`. */
  pods: Collection<Pod>;
  /** What the meshes of this cluster publish: whose trust domain is which. */
  trustBundles: Collection<TrustBundle>;
  /** Which workloads refuse their mesh's mTLS. */
  peerAuthentications: Collection<PeerAuthentication>;
  namespaces: Collection<Namespace>;
}

export interface OwnOffers {
  serviceOffers: Collection<ServiceOffer>;
  endpointOffers: Collection<EndpointOffer>;
}

/** What this cluster offers; published at home, read by the peers. */
export function offers(own: OwnCluster): OwnOffers {
  const { cluster, exports, services, endpointSlices, nodes, pods, trustBundles, namespaces } = own;
  const { peerAuthentications } = own;
  const slicesByService = index(endpointSlices, offeredServiceOf, { name: "slicesByService" });
  const regions = derive(
    nodes,
    (node) => {
      const region = node.metadata.labels?.[regionLabel];
      return region ? { region } : undefined;
    },
    { name: "regions" },
  );
  // Pods of meshes: who they are is told by their mesh's trust domain.
  const trustDomains = group(
    trustBundles,
    ({ metadata }) => metadata.namespace ?? "",
    (root, all) => ({ root, trustDomain: all[0]!.spec.trustDomain }),
    { name: "trustDomains" },
  );
  const meshOfNamespace = derive(
    namespaces,
    ({ metadata: { name, labels } }, read) =>
      read.get(trustDomains, name) ?? read.get(trustDomains, labels?.[memberOfLabel] ?? ""),
    { name: "meshOfNamespace" },
  );
  const peerPolicies = derive(peerAuthentications, peerPolicyOf, { name: "peerPolicies" });
  const peerPoliciesByNamespace = index(peerPolicies, ({ namespace }) => namespace, {
    name: "peerPoliciesByNamespace",
  });
  const offeredWorkloads = derive(
    pods,
    (pod, read) => {
      const { namespace = "" } = pod.metadata;
      const mesh = read.get(meshOfNamespace, namespace);
      if (!mesh) return undefined;
      const own = read.all(peerPoliciesByNamespace, namespace);
      return offeredWorkloadOf(pod, mesh.trustDomain, {
        own,
        root: read.all(peerPoliciesByNamespace, mesh.root),
      });
    },
    { name: "offeredWorkloads" },
  );
  const serviceOffers = derive(
    exports,
    (export_, read, name) => serviceOfferOf(cluster, export_, read.get(services, name)),
    { name: "serviceOffers" },
  );
  const endpointOffers = flatDerive(
    serviceOffers,
    (offer, read, name) =>
      read.all(slicesByService, name).map((slice) =>
        endpointOfferOf(cluster, offer.metadata.name, slice, {
          regionOf: (node) => read.get(regions, node)?.region,
          workloadOf: (pod) => read.get(offeredWorkloads, pod),
        }),
      ),
    { name: "endpointOffers", key: nameOf },
  );
  return { serviceOffers, endpointOffers };
}

/** What the clusters of the set offer, this one among them, keyed `cluster/namespace/name`; and our own API. */
export interface ClusterSet extends OwnCluster {
  imports: Collection<ServiceImport>;
  /** This cluster's offers as its API has them. */
  published: Collection<ServiceOffer>;
  allServiceOffers: Collection<ServiceOffer>;
  allEndpointOffers: Collection<EndpointOffer>;
}

export interface Imported {
  /** What all offers of a service add up to. */
  merged: Collection<MergedService>;
  imports: Collection<DesiredImport>;
  derivedServices: Collection<Service>;
  /** Keyed as the offers are: `importedSliceRow` tells the key of a slice found in the API. */
  slices: Collection<EndpointSlice>;
  /** Valid and Ready of ServiceExports: known from this cluster alone. */
  readiness: Collection<ExportConditions>;
  /** Conflict of ServiceExports: known when all clusters have been heard. */
  conflicts: Collection<ExportConditions>;
  /** What we fill in on ServiceImports and EndpointSlices that others wrote. */
  importFields: Collection<ImportFields>;
  sliceFields: Collection<SliceFields>;
  /** The zone clusterset.local: the records of each import. */
  names: Collection<DnsRow>;
  /** The zone's names that have no records; for `ZoneOptions.computed`. */
  emptyName(name: string): readonly DnsRecord[] | undefined;
}

/** What the offers of all clusters mean in this one. */
export function imported(set: ClusterSet): Imported {
  const { cluster, exports, services, endpointSlices, namespaces, imports: inApi, published } = set;

  // Every cluster's offers of a service: what they add up to.
  const merged = group(set.allServiceOffers, mergedKey, (_name, all) => mergeOffers(all), { name: "merged" });

  // One import per service, in every cluster that has the namespace.
  const livingNamespaces = derive(
    namespaces,
    ({ metadata }) => (metadata.deletionTimestamp ? undefined : { name: metadata.name }),
    { name: "livingNamespaces" },
  );
  const imports = derive(
    merged,
    (service, read, name) =>
      read.get(livingNamespaces, service.namespace) &&
      serviceImportOf(service, read.get(inApi, name), read.get(services, derivedKey(service))),
    { name: "imports" },
  );

  // Any import in the API, ours or written by hand: how it is reached from here.
  const derivedServices = derive(
    inApi,
    (import_, read) =>
      read.get(livingNamespaces, import_.metadata.namespace ?? "") &&
      derivedServiceOf(import_, read.get(services, derivedKey(import_.metadata))),
    { name: "derivedServices" },
  );
  const slices = derive(
    set.allEndpointOffers,
    (offer, read) => {
      const { namespace = "" } = offer.metadata;
      if (!read.get(livingNamespaces, namespace)) return undefined;
      const name = `${namespace}/${offer.spec.service}`;
      const service = read.get(set.allServiceOffers, `${offer.spec.cluster}/${name}`);
      return importedSlice(offer, read.get(inApi, name), service, cluster);
    },
    { name: "importedSlices" },
  );

  // What authors are told, and what we fill in for them.
  const exportReadiness = derive(
    exports,
    (export_, read, name) =>
      readiness(export_, read.get(services, name), read.get(published, name), read.get(inApi, name)),
    { name: "exportReadiness" },
  );
  const conflicts = derive(
    exports,
    (export_, read, name) => conflictCondition(export_, read.get(merged, name), cluster),
    { name: "exportConflicts" },
  );
  const slicesByImport = index(endpointSlices, importOf, { name: "slicesByImport" });
  const importFields = derive(
    inApi,
    (import_, read, name) =>
      isOurs(import_)
        ? undefined
        : handWrittenFields(
            import_,
            read.get(services, derivedKey(import_.metadata)),
            read.all(slicesByImport, name).length > 0,
          ),
    { name: "importFields" },
  );
  const sliceFields = derive(
    endpointSlices,
    (slice, read) => {
      const name = importOf(slice);
      return name === undefined ? undefined : handMadeSliceFields(slice, read.get(inApi, name));
    },
    { name: "sliceFields" },
  );

  // The names of the clusterset, from what stands in the API.
  const records = derive(
    inApi,
    (import_, read, name): DnsRow | undefined => {
      const made = dnsRecords(import_, () => read.all(slicesByImport, name));
      return made.length > 0 ? made : undefined;
    },
    { name: "records" },
  );
  const constants = source<DnsRow>(inApi.engine, {
    name: "constantRecords",
    key: () => "dns-version",
    synced: true,
  });
  constants.put(schemaVersion);
  const names = joinPartitions<DnsRow>(inApi.engine, { name: "names" });
  names.add("zone", constants);
  names.add("imports", records);

  return {
    merged,
    imports,
    derivedServices,
    slices,
    readiness: exportReadiness,
    conflicts,
    importFields,
    sliceFields,
    names,
    emptyName: (name) => emptyName(name, (namespace) => namespaces.has(namespace)),
  };
}
