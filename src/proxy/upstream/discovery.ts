/** Where a cluster's endpoints come from: its own list, EDS, or DNS. */
import type { LookupAddress } from "node:dns";
import { isIP } from "node:net";
import {
  type Cluster,
  Cluster_DiscoveryType,
  Cluster_DnsLookupFamily,
} from "#protocols/envoy/config/cluster/v3/cluster.ts";
import { HealthStatus } from "#protocols/envoy/config/core/v3/health_check.ts";
import { ClusterLoadAssignment } from "#protocols/envoy/config/endpoint/v3/endpoint.ts";
import type { Timer, World } from "../../world/index.ts";
import { type AdsClient, type Apply, typeUrls } from "../ads.ts";
import { Unservable } from "../contract.ts";
import { addressOf, messageOf, milliseconds } from "../values.ts";
import type { EndpointFacts } from "./host.ts";

/** The endpoints of a cluster by priority and locality. */
export interface Assignment {
  priorities: { weight: number; endpoints: EndpointFacts[] }[][];
  /** 140 by default. */
  overprovisioning: number;
}

/** Gives assignments, the first as soon as it can; `give` is not called after `stop`. */
export interface Discovery {
  stop(): void;
}

const healthOf = (status: HealthStatus): EndpointFacts["health"] =>
  status === HealthStatus.UNHEALTHY || status === HealthStatus.DRAINING || status === HealthStatus.TIMEOUT
    ? "unhealthy"
    : status === HealthStatus.DEGRADED
      ? "degraded"
      : "healthy";

/** Reads a ClusterLoadAssignment. Throws Unservable. */
export function readAssignment(message: ClusterLoadAssignment | undefined): Assignment {
  const priorities: Assignment["priorities"] = [];
  for (const group of message?.endpoints ?? []) {
    const locality = {
      region: group.locality?.region ?? "",
      zone: group.locality?.zone ?? "",
      subZone: group.locality?.subZone ?? "",
    };
    const endpoints = group.lbEndpoints.map((endpoint): EndpointFacts => {
      if (endpoint.hostIdentifier?.$case !== "endpoint")
        throw new Unservable("named endpoints are not served");
      const { address, hostname } = endpoint.hostIdentifier.value;
      return {
        address: addressOf(address),
        hostname,
        metadata: endpoint.metadata,
        weight: endpoint.loadBalancingWeight ?? 1,
        health: healthOf(endpoint.healthStatus),
        locality,
        priority: group.priority,
      };
    });
    while (priorities.length <= group.priority) priorities.push([]);
    priorities[group.priority]!.push({ weight: group.loadBalancingWeight ?? 0, endpoints });
  }
  return { priorities, overprovisioning: message?.policy?.overprovisioningFactor ?? 140 };
}

// ---------------------------------------------------------------------------------------------------- EDS

interface Watched {
  current: Assignment | undefined;
  watchers: Set<(assignment: Assignment) => void>;
}

/** EDS for all clusters: what was heard of a name is kept while anybody follows it. */
export class EndpointDiscovery {
  readonly #ads: AdsClient | undefined;
  readonly #names = new Map<string, Watched>();

  constructor(ads: AdsClient | undefined, fixed: readonly ClusterLoadAssignment[] = []) {
    this.#ads = ads;
    for (const message of fixed) {
      this.#names.set(message.clusterName, { current: readAssignment(message), watchers: new Set() });
    }
    ads?.serve(typeUrls.endpoints, this.#apply);
  }

  follow(name: string, give: (assignment: Assignment) => void): Discovery {
    let watched = this.#names.get(name);
    if (!watched) {
      watched = { current: undefined, watchers: new Set() };
      this.#names.set(name, watched);
    }
    if (watched.watchers.size === 0) this.#ads?.subscribe(typeUrls.endpoints, name);
    const entry = watched;
    const mine = (assignment: Assignment) => give(assignment);
    entry.watchers.add(mine);
    if (entry.current) mine(entry.current);
    return {
      stop: () => {
        if (!entry.watchers.delete(mine) || entry.watchers.size > 0 || !this.#ads) return;
        this.#ads.unsubscribe(typeUrls.endpoints, name);
        this.#names.delete(name);
      },
    };
  }

  // What is removed stays: its cluster's going away is what counts (as in Envoy).
  readonly #apply: Apply = (changed) => {
    const rejections: { name: string; reason: string }[] = [];
    for (const { name, bytes } of changed) {
      const watched = this.#names.get(name);
      if (!watched) continue;
      try {
        watched.current = readAssignment(ClusterLoadAssignment.decode(bytes));
      } catch (error) {
        rejections.push({ name, reason: messageOf(error) });
        continue;
      }
      for (const watcher of [...watched.watchers]) watcher(watched.current);
    }
    return rejections;
  };
}

// ---------------------------------------------------------------------------------------------------- DNS

/** Looks a name up: addresses with their time to live in seconds. Rejects when there is no such name. */
export type Resolve = (
  name: string,
  family: "v4" | "v6" | "any",
) => Promise<readonly { address: string; ttl: number }[]>;

/** By DNS with TTLs; names that only the hosts file knows come from there. */
export function systemResolver(): Resolve {
  return async (name, family) => {
    const { promises, lookup } = await import("node:dns");
    const asked: Promise<{ address: string; ttl: number }[]>[] = [];
    if (family !== "v6") asked.push(promises.resolve4(name, { ttl: true }));
    if (family !== "v4") asked.push(promises.resolve6(name, { ttl: true }));
    const answers = await Promise.allSettled(asked);
    const found = answers.flatMap((answer) => (answer.status === "fulfilled" ? answer.value : []));
    if (found.length > 0) return found;
    // The search list of /etc/resolv.conf and /etc/hosts are getaddrinfo's business.
    const looked = await new Promise<LookupAddress[]>((resolve, reject) =>
      lookup(name, { all: true, family: family === "v4" ? 4 : family === "v6" ? 6 : 0 }, (error, list) =>
        error ? reject(error) : resolve(list),
      ),
    );
    return looked.map(({ address }) => ({ address, ttl: 5 }));
  };
}

/** STRICT_DNS: every address of every name is an endpoint. LOGICAL_DNS: one endpoint, the first address. */
export function followDns(
  world: World,
  config: Cluster,
  resolve: Resolve,
  give: (assignment: Assignment) => void,
): Discovery {
  const template = readAssignment(config.loadAssignment);
  const logical =
    config.clusterDiscoveryType?.$case === "type" &&
    config.clusterDiscoveryType.value === Cluster_DiscoveryType.LOGICAL_DNS;
  const refresh = milliseconds(config.dnsRefreshRate, 5_000);
  const afterFailure = milliseconds(config.dnsFailureRefreshRate?.baseInterval, refresh);
  const family =
    config.dnsLookupFamily === Cluster_DnsLookupFamily.V4_ONLY
      ? "v4"
      : config.dnsLookupFamily === Cluster_DnsLookupFamily.V6_ONLY
        ? "v6"
        : "any";
  const names = [
    ...new Set(
      template.priorities.flat().flatMap(({ endpoints }) => endpoints.map(({ address }) => address.ip)),
    ),
  ].filter((name) => isIP(name) === 0);
  const answers = new Map<string, readonly string[]>();
  const heard = new Set<string>();
  const timers = new Map<string, Timer>();
  let stopped = false;

  const publish = () => {
    if (stopped || heard.size < names.length) return;
    give({
      ...template,
      priorities: template.priorities.map((groups) =>
        groups.map(({ weight, endpoints }) => ({
          weight,
          endpoints: endpoints.flatMap((endpoint) => {
            const { ip, port } = endpoint.address;
            const found = isIP(ip) ? [ip] : (answers.get(ip) ?? []);
            return found.map((address) => ({
              ...endpoint,
              address: { ip: address, port },
              hostname: endpoint.hostname || ip,
            }));
          }),
        })),
      ),
    });
  };
  const ask = (name: string) => {
    const again = (delay: number) => {
      if (!stopped)
        timers.set(
          name,
          world.after(Math.max(delay, 100), () => ask(name)),
        );
    };
    resolve(name, family).then(
      (found) => {
        const list = [...new Set(found.map(({ address }) => address))].sort();
        const before = answers.get(name);
        // One of many: stay with the address we had while it is still an answer.
        const kept = before?.find((address) => list.includes(address));
        answers.set(name, logical && kept !== undefined ? [kept] : logical ? list.slice(0, 1) : list);
        const first = !heard.has(name);
        heard.add(name);
        if (first || before?.join() !== answers.get(name)!.join()) publish();
        const ttl = Math.min(...found.map((answer) => answer.ttl)) * 1000;
        again(config.respectDnsTtl && Number.isFinite(ttl) ? Math.max(ttl, 1000) : refresh);
      },
      () => {
        // What was known of it stays.
        const first = !heard.has(name);
        heard.add(name);
        if (first) publish();
        again(afterFailure);
      },
    );
  };
  if (names.length === 0) queueMicrotask(publish);
  for (const name of names) ask(name);
  return {
    stop() {
      stopped = true;
      for (const timer of timers.values()) timer.cancel();
    },
  };
}
