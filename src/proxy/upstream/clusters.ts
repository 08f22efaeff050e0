/** All clusters (CDS): new ones serve when they are warm, changed ones change in place where they can. */
import { Cluster_DiscoveryType as Discovers } from "#protocols/envoy/config/cluster/v3/cluster.ts";
import type { Timer } from "../../world/index.ts";
import type { Apply } from "../ads.ts";
import type { Clusters, Host, UpstreamCluster } from "../contract.ts";
import { messageOf, milliseconds } from "../values.ts";
import { type ClusterDeps, ManagedCluster } from "./cluster.ts";
import {
  type Assignment,
  type Discovery,
  type EndpointDiscovery,
  followDns,
  type Resolve,
  readAssignment,
} from "./discovery.ts";
import { type ReadCluster, readCluster } from "./read.ts";

interface Entry {
  cluster: ManagedCluster;
  discovery: Discovery | undefined;
  warm: boolean;
  /** An EDS cluster that hears nothing serves without endpoints after this. */
  patience: Timer | undefined;
}

/** Envoy's initial_fetch_timeout, ms. */
const fetchTimeout = 15_000;

/** So many answers of `workloadAt` are remembered. */
const addressesAtMost = 10_000;

export class ClusterManager implements Clusters {
  readonly #deps: ClusterDeps & { endpoints: EndpointDiscovery; resolve: Resolve };
  readonly #active = new Map<string, Entry>();
  readonly #warming = new Map<string, Entry>();
  /** Who was asked for by address; undefined: nobody, as things are now. */
  readonly #byAddress = new Map<string, Host | undefined>();
  #heard = false;
  readonly #waiting: (() => void)[] = [];
  /** Resolves when the first response is here and everything in it is warm. */
  readonly ready: Promise<void>;

  constructor(deps: ClusterDeps & { endpoints: EndpointDiscovery; resolve: Resolve }) {
    this.#deps = deps;
    this.ready = new Promise((resolve) => this.#waiting.push(resolve));
  }

  get(name: string): UpstreamCluster | undefined {
    return this.#active.get(name)?.cluster;
  }

  workloadAt(ip: string): Host | undefined {
    const known = this.#byAddress.get(ip);
    if (known ? !known.removed : this.#byAddress.has(ip)) return known;
    if (this.#byAddress.size >= addressesAtMost) this.#byAddress.clear();
    let found: Host | undefined;
    for (const { cluster } of this.#active.values()) {
      found = cluster.workloadAt(ip);
      if (found) break;
    }
    this.#byAddress.set(ip, found);
    return found;
  }

  /** There are other endpoints: those that nobody was at may be there now. */
  #moved(): void {
    if (this.#byAddress.size > 0) this.#byAddress.clear();
  }

  /** For the admin. */
  list(): { cluster: ManagedCluster; warming: boolean }[] {
    return [
      ...[...this.#active.values()].map(({ cluster }) => ({ cluster, warming: false })),
      ...[...this.#warming.values()].map(({ cluster }) => ({ cluster, warming: true })),
    ].sort((a, b) => (a.cluster.name < b.cluster.name ? -1 : 1));
  }

  readonly apply: Apply = (changed, removed) => {
    const rejections: { name: string; reason: string }[] = [];
    for (const { name, bytes } of changed) {
      try {
        const read = readCluster(bytes);
        if (read.config.name !== name) throw new Error(`it calls itself '${read.config.name}'`);
        this.#put(read);
      } catch (error) {
        rejections.push({ name, reason: messageOf(error) });
      }
    }
    for (const name of removed) this.#remove(name);
    this.#heard = true;
    this.#settle();
    return rejections;
  };

  #put(read: ReadCluster): void {
    const { name } = read.config;
    const newest = this.#warming.get(name) ?? this.#active.get(name);
    if (newest) {
      const { cluster } = newest;
      if (cluster.read.bytes.equals(read.bytes)) return;
      if (sameDiscovery(cluster.read, read)) {
        // In place: hosts and their pools stay.
        cluster.update(read);
        if (byItself(read)) {
          newest.discovery?.stop();
          newest.discovery = this.#follow(newest, read);
        }
        return;
      }
    }
    // Everything that can be wrong must be so before anything changes.
    if (read.discovers !== Discovers.ORIGINAL_DST) readAssignment(read.config.loadAssignment);
    const entry: Entry = {
      cluster: new ManagedCluster(read, this.#deps),
      discovery: undefined,
      warm: false,
      patience: undefined,
    };
    const overtaken = this.#warming.get(name);
    if (overtaken) this.#dispose(overtaken, true);
    this.#warming.set(name, entry);
    if (read.discovers === Discovers.EDS) {
      const limit = milliseconds(read.config.edsClusterConfig?.edsConfig?.initialFetchTimeout, fetchTimeout);
      if (limit > 0) entry.patience = this.#deps.world.after(limit, () => this.#warm(entry));
    }
    entry.discovery = this.#follow(entry, read);
  }

  #follow(entry: Entry, read: ReadCluster): Discovery | undefined {
    const { config, discovers } = read;
    const give = (assignment: Assignment) => {
      entry.cluster.assign(assignment);
      this.#moved();
      this.#warm(entry);
    };
    switch (discovers) {
      case Discovers.EDS:
        return this.#deps.endpoints.follow(config.edsClusterConfig?.serviceName || config.name, give);
      case Discovers.STRICT_DNS:
      case Discovers.LOGICAL_DNS:
        return followDns(this.#deps.world, config, this.#deps.resolve, give);
      case Discovers.STATIC:
        give(readAssignment(config.loadAssignment));
        return undefined;
      case Discovers.ORIGINAL_DST:
        this.#warm(entry);
        return undefined;
    }
  }

  #warm(entry: Entry): void {
    entry.patience?.cancel();
    if (entry.warm) return;
    entry.warm = true;
    const { name } = entry.cluster;
    if (this.#warming.get(name) !== entry) return;
    this.#warming.delete(name);
    const old = this.#active.get(name);
    this.#active.set(name, entry);
    this.#moved();
    if (old) this.#dispose(old, true);
    this.#settle();
  }

  #remove(name: string): void {
    for (const map of [this.#warming, this.#active]) {
      const entry = map.get(name);
      map.delete(name);
      if (entry) this.#dispose(entry);
    }
  }

  #dispose(entry: Entry, replaced = false): void {
    entry.patience?.cancel();
    entry.discovery?.stop();
    entry.cluster.dispose(replaced);
  }

  #settle(): void {
    if (!this.#heard || this.#warming.size > 0) return;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  stop(): void {
    for (const name of [...this.#warming.keys(), ...this.#active.keys()]) this.#remove(name);
  }
}

/** Its endpoints are written in it. */
const byItself = (read: ReadCluster) =>
  read.discovers === Discovers.STATIC ||
  read.discovers === Discovers.STRICT_DNS ||
  read.discovers === Discovers.LOGICAL_DNS;

function sameDiscovery(a: ReadCluster, b: ReadCluster): boolean {
  return (
    a.discovers === b.discovers &&
    (a.config.altStatName || a.config.name) === (b.config.altStatName || b.config.name) &&
    (a.config.edsClusterConfig?.serviceName ?? "") === (b.config.edsClusterConfig?.serviceName ?? "")
  );
}
