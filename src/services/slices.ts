/** The endpoints behind an import: EndpointSlices that we make from offers, and those that people made. */
import {
  apiVersionOf,
  type EndpointOffer,
  type EndpointPort,
  type EndpointSlice,
  endpointFactsAnnotation,
  endpointSlices,
  mcsServiceNameLabel,
  mcsSourceClusterLabel,
  offerAnnotation,
  type ServiceImport,
  type ServiceOffer,
  serviceNameLabel,
  sliceManagedByLabel,
  sliceManager,
  writeEndpointFacts,
} from "../api/index.ts";
import { derivedPortName, isOurs } from "./imports.ts";
import { derivedName, importedSliceName } from "./naming.ts";

/**
 * The EndpointSlice that imports one offer into this cluster, or undefined while nothing of ours stands here
 * for the service. It depends on the import as the API has it, not on other clusters' offers: so what one
 * cluster offers is not held up by another that has not been heard (law 7).
 *
 * @param import_ the ServiceImport of that name in this cluster
 * @param service the same cluster's offer of the service itself
 * @param own this cluster's id
 */
export function importedSlice(
  offer: EndpointOffer,
  import_: ServiceImport | undefined,
  service: ServiceOffer | undefined,
  own: string,
): EndpointSlice | undefined {
  if (!import_ || !isOurs(import_) || import_.metadata.deletionTimestamp || !service) return undefined;
  const { namespace = "", name } = offer.metadata;
  const { cluster, addressType, endpoints } = offer.spec;
  const ports = portsFor(import_, service, offer);
  if (ports.length === 0 && offer.spec.ports.length > 0) return undefined;
  // Our own pods are known here anyway.
  const facts = cluster === own ? undefined : writeEndpointFacts(endpoints);
  const near = import_.spec.type === "ClusterSetIP" && import_.spec.trafficDistribution !== undefined;
  return {
    apiVersion: apiVersionOf(endpointSlices),
    kind: endpointSlices.kind,
    metadata: {
      namespace,
      name: importedSliceName(cluster, name),
      labels: {
        [mcsServiceNameLabel]: offer.spec.service,
        [mcsSourceClusterLabel]: cluster,
        [sliceManagedByLabel]: sliceManager,
        // A headless import has no derived Service, but a slice that names none stops kube-proxy and CoreDNS.
        [serviceNameLabel]: derivedName({ namespace, name: offer.spec.service }),
      },
      annotations: { [offerAnnotation]: name, ...(facts && { [endpointFactsAnnotation]: facts }) },
    },
    addressType,
    ports,
    endpoints: endpoints.map((endpoint) => ({
      addresses: endpoint.addresses,
      conditions: {
        ready: endpoint.ready,
        serving: endpoint.serving,
        terminating: endpoint.terminating,
      },
      ...(endpoint.hostname && { hostname: endpoint.hostname }),
      // Node names mean something only in their own cluster; another's may be the name of one of ours.
      ...(endpoint.nodeName && cluster === own && { nodeName: endpoint.nodeName }),
      ...(endpoint.zone && { zone: endpoint.zone }),
      // kube-proxy keeps traffic near by hints alone, which for slices of its own the EndpointSlice controller sets.
      ...(near && endpoint.zone && endpoint.ready && { hints: { forZones: [{ name: endpoint.zone }] } }),
    })),
  };
}

/**
 * An endpoint's ports under the names that they have in the import, where clusters may have named them
 * differently. A port of the import is served only by clusters whose Service has that very protocol and number
 * (KEP-1645 "Service Port"). Headless services are reached by the endpoints' own ports.
 */
function portsFor(import_: ServiceImport, service: ServiceOffer, offer: EndpointOffer): EndpointPort[] {
  if (import_.spec.type === "Headless") return offer.spec.ports.map(slicePort);
  return offer.spec.ports.flatMap((port) => {
    const exposed = service.spec.ports.find((other) => (other.name ?? "") === (port.name ?? ""));
    const merged =
      exposed &&
      import_.spec.ports.find(
        (other) => (other.protocol ?? "TCP") === exposed.protocol && other.port === exposed.port,
      );
    if (!merged) return [];
    const { name: _, ...rest } = port;
    // Where the derived Service has a name for a port that the import has none for, each finds its own.
    const names = new Set([merged.name || undefined, derivedPortName(merged, import_.spec.ports)]);
    return [...names].map((name) => slicePort({ ...rest, ...(name && { name }) }));
  });
}

/** The API server stores the empty name rather than none. */
function slicePort(port: EndpointOffer["spec"]["ports"][number]): EndpointPort {
  const { name = "", protocol, port: number, appProtocol } = port;
  return { name, protocol, port: number, ...(appProtocol && { appProtocol }) };
}

/** The row of the imported slices that makes a slice found in the API: how the sink knows whom it depends on. */
export function importedSliceRow(slice: EndpointSlice): string | undefined {
  const { namespace, labels, annotations } = slice.metadata;
  const cluster = labels?.[mcsSourceClusterLabel];
  const offer = annotations?.[offerAnnotation];
  return cluster && offer ? `${cluster}/${namespace}/${offer}` : undefined;
}

/** The ServiceImport that a slice belongs to, as `namespace/name`. */
export function importOf(slice: EndpointSlice): string | undefined {
  const name = slice.metadata.labels?.[mcsServiceNameLabel];
  return name ? `${slice.metadata.namespace}/${name}` : undefined;
}

/** The field that we fill in on EndpointSlices that someone else made for an import. */
export interface SliceFields {
  metadata: { namespace: string; name: string; labels: Record<string, string> };
}

/** Ties a slice made by hand to the derived Service of its import. */
export function handMadeSliceFields(
  slice: EndpointSlice,
  import_: ServiceImport | undefined,
): SliceFields | undefined {
  if (isOurs(slice) || !import_ || import_.spec.type !== "ClusterSetIP") return undefined;
  const { namespace = "", name } = slice.metadata;
  const service = derivedName({ namespace, name: import_.metadata.name });
  return { metadata: { namespace, name, labels: { [serviceNameLabel]: service } } };
}
