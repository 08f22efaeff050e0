/** The endpoints of an upstream as Envoy's ClusterLoadAssignment (EDS, and inside of clusters that resolve names). */
import { ClusterLoadAssignment } from "#protocols/envoy/config/endpoint/v3/endpoint.ts";
import type { Endpoint, LocalityEndpoints, UpstreamEndpoints } from "../../traffic/index.ts";
import { encode, encoded, once, socketAddress } from "./pack.ts";

export const encodeEndpoints = once(({ name, localities }: UpstreamEndpoints) =>
  encoded("endpoints", name, encode(ClusterLoadAssignment, assignment(name, localities))),
);

/** What a client gets that asks for the endpoints of an upstream that has none: a cluster waits for an answer. */
export function noEndpoints(name: string) {
  return encoded("endpoints", name, encode(ClusterLoadAssignment, { clusterName: name }));
}

/** Also part of clusters of the types STATIC, STRICT_DNS and LOGICAL_DNS. */
export function assignment(clusterName: string, localities: readonly LocalityEndpoints[]) {
  return { clusterName, endpoints: localities.map(localityOf) };
}

/** All in one locality of no name. */
export function unplaced(clusterName: string, endpoints: readonly Endpoint[]) {
  return { clusterName, endpoints: endpoints.length > 0 ? [{ lbEndpoints: endpoints.map(endpointOf) }] : [] };
}

function localityOf({ region, zone, priority, weight, endpoints }: LocalityEndpoints) {
  const sum = endpoints.reduce((total, endpoint) => total + Math.max(1, endpoint.weight), 0);
  return {
    ...((region || zone) && { locality: { region, zone } }),
    lbEndpoints: endpoints.map(endpointOf),
    // A locality without a weight would get nothing from a balancer that weighs localities.
    loadBalancingWeight: weight > 0 ? weight : Math.max(1, sum),
    priority,
  };
}

/** envoy.config.core.v3.HealthStatus */
const health = { healthy: 1, unhealthy: 2, draining: 3 } as const;

function endpointOf(endpoint: Endpoint) {
  const { workload } = endpoint;
  return {
    hostIdentifier: {
      $case: "endpoint" as const,
      value: {
        address: socketAddress(endpoint.address, endpoint.port),
        ...(endpoint.hostname && { hostname: endpoint.hostname }),
      },
    },
    healthStatus: endpoint.draining ? health.draining : endpoint.healthy ? health.healthy : health.unhealthy,
    loadBalancingWeight: Math.max(1, endpoint.weight),
    metadata: {
      filterMetadata: {
        ...(endpoint.meshTls && { "envoy.transport_socket_match": { tlsMode: "istio" } }),
        ...(workload.name && {
          istio: {
            // Istio's order: workload;namespace;canonical service;canonical revision;cluster.
            workload: [
              workload.name,
              workload.namespace,
              workload.service,
              workload.revision,
              workload.cluster,
            ].join(";"),
          },
        }),
      },
    },
  };
}
