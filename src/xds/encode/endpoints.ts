/**
 * The endpoints of an upstream as Envoy's ClusterLoadAssignment (EDS, and inside of clusters that resolve names). They
 * change all the time, so messages are made whole here: there is nothing to fill in before they are encoded.
 */
import { ClusterLoadAssignment } from "#protocols/envoy/config/endpoint/v3/endpoint.ts";
import type {
  LbEndpoint,
  LocalityLbEndpoints,
} from "#protocols/envoy/config/endpoint/v3/endpoint_components.ts";
import type { Endpoint, LocalityEndpoints, UpstreamEndpoints } from "../../traffic/index.ts";
import { encoded, encodeWhole, once, socketAddress } from "./pack.ts";

export const encodeEndpoints = once(({ name, localities }: UpstreamEndpoints) =>
  assignment(name, localities),
);

/** What a client gets that asks for the endpoints of an upstream that has none: a cluster waits for an answer. */
export function noEndpoints(name: string) {
  return assignment(name, []);
}

function assignment(clusterName: string, localities: readonly LocalityEndpoints[]) {
  const message = { clusterName, endpoints: localities.map(localityOf), namedEndpoints: {} };
  return encoded("endpoints", clusterName, encodeWhole(ClusterLoadAssignment, message));
}

/** All in one locality of no name: part of clusters of the types STATIC, STRICT_DNS and LOGICAL_DNS. */
export function unplaced(clusterName: string, endpoints: readonly Endpoint[]) {
  return { clusterName, endpoints: endpoints.length > 0 ? [{ lbEndpoints: endpoints.map(endpointOf) }] : [] };
}

function localityOf({ region, zone, priority, weight, endpoints }: LocalityEndpoints): LocalityLbEndpoints {
  const sum = endpoints.reduce((total, endpoint) => total + Math.max(1, endpoint.weight), 0);
  return {
    locality: region || zone ? { region, zone, subZone: "" } : undefined,
    lbEndpoints: endpoints.map(endpointOf),
    // A locality without a weight would get nothing from a balancer that weighs localities.
    loadBalancingWeight: weight > 0 ? weight : Math.max(1, sum),
    priority,
  };
}

/** envoy.config.core.v3.HealthStatus */
const health = { healthy: 1, unhealthy: 2, draining: 3 } as const;

function endpointOf(endpoint: Endpoint): LbEndpoint {
  const address = socketAddress(endpoint.address, endpoint.port);
  const value = { address, hostname: endpoint.hostname ?? "", additionalAddresses: [] };
  return {
    hostIdentifier: { $case: "endpoint", value },
    healthStatus: endpoint.draining ? health.draining : endpoint.healthy ? health.healthy : health.unhealthy,
    loadBalancingWeight: Math.max(1, endpoint.weight),
    metadata: { filterMetadata: factsOf(endpoint), typedFilterMetadata: {} },
  };
}

/** What Istio's filters and transport sockets read of an endpoint. */
function factsOf({ meshTls, workload }: Pick<Endpoint, "meshTls" | "workload">) {
  const facts: Record<string, Record<string, string>> = {};
  if (meshTls) facts["envoy.transport_socket_match"] = { tlsMode: "istio" };
  if (workload.name) {
    const { name, namespace, service, revision, cluster } = workload;
    // Istio's order.
    facts.istio = { workload: [name, namespace, service, revision, cluster].join(";") };
  }
  return facts;
}
