/**
 * An upstream's endpoints as a client in some place is to see them. Source: Istio
 * `pilot/pkg/networking/core/loadbalancer/loadbalancer.go`.
 */
import type { Endpoint, Locality, LocalityEndpoints, LocalityPolicy, UpstreamEndpoints } from "./model.ts";

/** Who is to see the endpoints. */
export interface Client extends Locality {
  labels: Readonly<Record<string, string>>;
}

/** Pure: the same arguments, an equal result; without a policy the endpoints themselves. */
export function localityFor(
  endpoints: UpstreamEndpoints,
  policy: LocalityPolicy | undefined,
  client: Client,
): UpstreamEndpoints {
  if (!policy) return endpoints;
  if (policy.distribute.length > 0) return distribute(endpoints, policy, client);
  if (!policy.failover) return endpoints;
  if (policy.priorityLabels.length > 0) return byLabels(endpoints, policy, client);
  return {
    ...endpoints,
    localities: compact(
      endpoints.localities.map((each) => ({ ...each, priority: distance(each, policy, client) })),
    ),
  };
}

/** 0: the same zone; 1: the same region; 2: the region to fail over to; 3: elsewhere. */
function distance(to: Locality, policy: LocalityPolicy, from: Locality): number {
  if (to.region === from.region) return to.zone === from.zone ? 0 : 1;
  return policy.regions.some((each) => each.from === from.region && each.to === to.region) ? 2 : 3;
}

/** Priorities must not have gaps: Envoy refuses them. */
function compact(localities: readonly LocalityEndpoints[]): LocalityEndpoints[] {
  const levels = [...new Set(localities.map(({ priority }) => priority))].sort((a, b) => a - b);
  return localities.map((each) => ({ ...each, priority: levels.indexOf(each.priority) }));
}

/** The more of the labels, in their order, an endpoint has in common with the client, the sooner its turn. */
function byLabels(endpoints: UpstreamEndpoints, policy: LocalityPolicy, client: Client): UpstreamEndpoints {
  const groups = new Map<string, LocalityEndpoints & { endpoints: Endpoint[] }>();
  for (const locality of endpoints.localities) {
    for (const endpoint of locality.endpoints) {
      let common = 0;
      for (const label of policy.priorityLabels) {
        const [name = "", value] = label.split("=");
        const wanted = value ?? labelOf(name, client, client.labels);
        if (wanted !== labelOf(name, locality, endpoint.labels ?? {})) break;
        common++;
      }
      const priority = policy.priorityLabels.length - common;
      const key = `${priority}/${locality.region}/${locality.zone}`;
      let group = groups.get(key);
      if (!group) {
        group = { ...locality, priority, weight: 0, endpoints: [] };
        groups.set(key, group);
      }
      group.weight += endpoint.weight;
      group.endpoints.push(endpoint);
    }
  }
  return { ...endpoints, localities: compact([...groups.values()]) };
}

function labelOf(name: string, locality: Locality, labels: Readonly<Record<string, string>>): string {
  if (name === "topology.kubernetes.io/region") return locality.region;
  if (name === "topology.kubernetes.io/zone") return locality.zone;
  return labels[name] ?? "";
}

/** Shares for the first rule whose `from` covers the client; localities that it does not name get nothing. */
function distribute(endpoints: UpstreamEndpoints, policy: LocalityPolicy, client: Client): UpstreamEndpoints {
  const rule = policy.distribute.find(({ from }) => matches(from, client));
  if (!rule) return endpoints;
  const shares = Object.entries(rule.to);
  const localities: LocalityEndpoints[] = [];
  const left = new Set(endpoints.localities);
  for (const [pattern, share] of shares) {
    const mine = [...left].filter((locality) => matches(pattern, locality));
    const total = mine.reduce((sum, { weight }) => sum + weight, 0);
    for (const locality of mine) {
      left.delete(locality);
      // Whole numbers that keep the proportions inside of a share.
      if (share > 0)
        localities.push({
          ...locality,
          priority: 0,
          weight: Math.max(1, Math.round((share * 1_000 * locality.weight) / total)),
        });
    }
  }
  return { ...endpoints, localities };
}

/** `region/zone/*`, `region/*`, `*`. */
function matches(pattern: string, { region, zone }: Locality): boolean {
  const [wantedRegion = "*", wantedZone = "*"] = pattern.split("/");
  return (wantedRegion === "*" || wantedRegion === region) && (wantedZone === "*" || wantedZone === zone);
}
