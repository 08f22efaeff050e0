/** A cluster at work: its hosts, who is chosen, what may be under way. Changed in place, so that pools stay. */
import { isIP } from "node:net";
import {
  type Cluster,
  Cluster_DiscoveryType as Discovers,
} from "#protocols/envoy/config/cluster/v3/cluster.ts";
import type { Metadata, TransportSocket } from "#protocols/envoy/config/core/v3/base.ts";
import type { HttpProtocolOptions } from "#protocols/envoy/extensions/upstreams/http/v3/http_protocol_options.ts";
import type { Timer, World } from "../../world/index.ts";
import type {
  Address,
  ClusterLimits,
  ClusterStats,
  Host,
  PickContext,
  Stats,
  TriedPriorities,
} from "../contract.ts";
import type { Secrets } from "../secrets.ts";
import { TlsMaterial } from "../tls.ts";
import { milliseconds, parseAddress, printAddress } from "../values.ts";
import type { Chooser } from "./balancers.ts";
import type { Assignment } from "./discovery.ts";
import { EndpointHost, type HostOwner, type UpstreamTransport } from "./host.ts";
import { CircuitBreaking } from "./limits.ts";
import { OutlierDetector } from "./outlier.ts";
import { type ReadCluster, readTransportSocket, transportKey } from "./read.ts";
import { type BalanceSettings, balance, balanceWithout, type LocalityHosts, Turns } from "./sets.ts";

export interface ClusterDeps {
  world: World;
  stats: Stats & { dropScope?(prefix: string): void };
  secrets: Secrets;
  /** Upstream connections leave by this address. */
  bindAddress: string | undefined;
}

interface Transports {
  own: UpstreamTransport | undefined;
  matches: { match: [string, unknown][]; transport: UpstreamTransport | undefined }[];
}

/** Unused hosts of ORIGINAL_DST clusters go after this, ms (Envoy's cleanup_interval). */
const cleanup = 5_000;

export class ManagedCluster implements HostOwner {
  readonly name: string;
  readonly world: World;
  readonly stats: ClusterStats;
  gone = false;
  #read: ReadCluster;
  readonly #deps: ClusterDeps;
  readonly #breaking: CircuitBreaking;
  #outliers: OutlierDetector<EndpointHost> | undefined;
  #assignment: Assignment = { priorities: [], overprovisioning: 140 };
  #hosts = new Map<string, EndpointHost>();
  #priorities: LocalityHosts<EndpointHost>[][] = [];
  #chooser: Chooser<EndpointHost> | undefined;
  readonly #turns: Turns;
  #transports: Transports = { own: undefined, matches: [] };
  #cleanup: Timer | undefined;
  /** ORIGINAL_DST: hosts that nothing was sent to since the last cleaning. */
  #idle = new Set<EndpointHost>();

  constructor(read: ReadCluster, deps: ClusterDeps) {
    this.name = read.config.name;
    this.world = deps.world;
    this.#deps = deps;
    this.#read = read;
    const shown = read.config.altStatName || this.name;
    this.stats = deps.stats.scope(`cluster.${shown}`, "cluster", { cluster_name: shown });
    this.#breaking = new CircuitBreaking(this.stats);
    this.#turns = new Turns(deps.world);
    this.#configure(undefined, read);
  }

  get config(): Cluster {
    return this.#read.config;
  }
  get read(): ReadCluster {
    return this.#read;
  }
  get httpOptions(): HttpProtocolOptions | undefined {
    return this.#read.httpOptions;
  }
  get protocol(): ReadCluster["protocol"] {
    return this.#read.protocol;
  }
  get metadata(): Metadata | undefined {
    return this.config.metadata;
  }
  // Read for each request: computed when the configuration changes.
  connectTimeout = 5_000;
  maxRequestsPerConnection = 0;
  idleTimeout = 3_600_000;
  bufferLimit = 1024 * 1024;
  localAddress: string | undefined;
  keepalive = { enabled: false, delay: 0 };
  sniFollowsHost = { sni: false, san: false };

  limits(priority: "default" | "high"): ClusterLimits {
    return this.#breaking[priority];
  }

  get hosts(): readonly EndpointHost[] {
    return [...this.#hosts.values()];
  }

  /** The first at this address of which discovery says what workload it is. */
  workloadAt(ip: string): EndpointHost | undefined {
    for (const host of this.#hosts.values()) {
      if (host.address.ip === ip && host.metadata?.filterMetadata.istio?.workload !== undefined) return host;
    }
    return undefined;
  }

  /** Takes a new version of the same kind of discovery. */
  update(read: ReadCluster): void {
    this.#configure(this.#read, read);
  }

  /** Throws before anything has changed. */
  #configure(before: ReadCluster | undefined, read: ReadCluster): void {
    const { config, httpOptions } = read;
    const secured =
      before && transportKey(before.config) === transportKey(config)
        ? undefined
        : this.#makeTransports(config);
    this.#read = read;
    const common = httpOptions?.commonHttpProtocolOptions ?? config.commonHttpProtocolOptions;
    this.connectTimeout = milliseconds(config.connectTimeout, 5_000);
    this.maxRequestsPerConnection = common?.maxRequestsPerConnection ?? config.maxRequestsPerConnection ?? 0;
    this.idleTimeout = milliseconds(common?.idleTimeout, 3_600_000);
    this.bufferLimit = config.perConnectionBufferLimitBytes ?? 1024 * 1024;
    this.localAddress = config.upstreamBindConfig?.sourceAddress?.address ?? this.#deps.bindAddress;
    const keepalive = config.upstreamConnectionOptions?.tcpKeepalive;
    this.keepalive = { enabled: keepalive !== undefined, delay: (keepalive?.keepaliveTime ?? 7200) * 1000 };
    const upstream = httpOptions?.upstreamHttpProtocolOptions ?? config.upstreamHttpProtocolOptions;
    this.sniFollowsHost = { sni: upstream?.autoSni ?? false, san: upstream?.autoSanValidation ?? false };
    this.#breaking.configure(config.circuitBreakers);
    if (secured) {
      this.#disposeTransports();
      this.#transports = secured;
      // Connections that were secured in another way are not for us any more.
      for (const host of this.#hosts.values()) this.#drop(host);
      this.#hosts.clear();
    }
    if (config.outlierDetection) {
      if (this.#outliers) this.#outliers.configure(config.outlierDetection);
      else {
        this.#outliers = new OutlierDetector({
          world: this.world,
          config: config.outlierDetection,
          hosts: () => this.hosts,
          stats: this.stats,
          changed: () => this.#rebalance(),
        });
      }
    } else {
      this.#outliers?.stop();
      this.#outliers = undefined;
    }
    if (this.#read.discovers === Discovers.ORIGINAL_DST) this.#armCleanup();
    else this.assign(this.#assignment);
  }

  #makeTransports(config: Cluster): Transports {
    const made: UpstreamTransport[] = [];
    const of = (socket: TransportSocket | undefined) => {
      const context = readTransportSocket(socket);
      if (!context) return undefined;
      const material = new TlsMaterial(context.commonTlsContext, this.#deps.secrets, "client");
      // RFC 6066 has no addresses as server names.
      const transport = { material, sni: isIP(context.sni) ? "" : context.sni };
      made.push(transport);
      return transport;
    };
    try {
      return {
        own: of(config.transportSocket),
        matches: config.transportSocketMatches.map(({ match, transportSocket }) => ({
          match: Object.entries(match ?? {}),
          transport: of(transportSocket),
        })),
      };
    } catch (error) {
      for (const { material } of made) material.dispose();
      throw error;
    }
  }

  #disposeTransports(): void {
    this.#transports.own?.material.dispose();
    for (const { transport } of this.#transports.matches) transport?.material.dispose();
  }

  /** The first match of the endpoint's `envoy.transport_socket_match` metadata, else the cluster's own. */
  transportFor(metadata: Metadata | undefined): UpstreamTransport | undefined {
    const { own, matches } = this.#transports;
    if (matches.length === 0) return own;
    const facts = metadata?.filterMetadata["envoy.transport_socket_match"] as
      | Record<string, unknown>
      | undefined;
    for (const { match, transport } of matches) {
      if (match.every(([key, value]) => facts?.[key] === value)) return transport;
    }
    return own;
  }

  /** New endpoints: who was here already stays the same host. */
  assign(assignment: Assignment): void {
    this.#assignment = assignment;
    const kept = new Map<string, EndpointHost>();
    this.#priorities = assignment.priorities.map((groups) =>
      groups.map(({ weight, endpoints }) => ({
        weight,
        hosts: endpoints.flatMap((facts) => {
          const key = printAddress(facts.address);
          if (kept.has(key)) return []; // named twice
          let host = this.#hosts.get(key);
          // Secured in another way from now on, it is another host.
          if (host && this.transportFor(host.facts.metadata) === this.transportFor(facts.metadata)) {
            host.facts = facts;
          } else host = new EndpointHost(this, facts);
          kept.set(key, host);
          return [host];
        }),
      })),
    );
    const before = this.#hosts;
    this.#hosts = kept;
    for (const [key, host] of before) if (kept.get(key) !== host) this.#drop(host);
    this.#rebalance();
  }

  #drop(host: EndpointHost): void {
    this.#outliers?.forget(host);
    host.remove();
  }

  get #balanceSettings(): BalanceSettings {
    const { config, policy } = this.#read;
    return {
      policy,
      localityWeighted: config.commonLbConfig?.localityConfigSpecifier?.$case === "localityWeightedLbConfig",
      panicThreshold: config.commonLbConfig?.healthyPanicThreshold?.value ?? 50,
      overprovisioning: this.#assignment.overprovisioning,
    };
  }

  #rebalance(): void {
    if (this.gone) return;
    this.#chooser = balance(this.#priorities, this.#balanceSettings, this.world, this.#turns);
    this.stats.gauge("membership_total").set(this.#hosts.size);
    let healthy = 0;
    for (const host of this.#hosts.values()) if (host.healthy) healthy++;
    this.stats.gauge("membership_healthy").set(healthy);
  }

  pick(context: PickContext): Host | undefined {
    if (this.#read.discovers === Discovers.ORIGINAL_DST) return this.#pickOriginal(context);
    const chooser = context.tried ? this.#chooserFor(context.tried) : this.#chooser;
    let host = chooser?.choose(context.hash);
    if (host && context.avoid) {
      for (let left = context.attempts ?? 1; left > 0 && host && context.avoid(host); left--) {
        // A hash finds the same again and again: then the turn is left to chance.
        host = chooser!.choose(undefined) ?? host;
      }
    }
    if (!host) this.stats.counter("upstream_cx_none_healthy").inc();
    return host;
  }

  /** Source: Envoy `source/extensions/retry/priority/previous_priorities`. */
  #chooserFor(tried: TriedPriorities): Chooser<EndpointHost> | undefined {
    const { hosts, every, excluded } = tried;
    if (hosts.length < every) return this.#chooser;
    if (hosts.length % every === 0) for (const { priority } of hosts) excluded.add(priority);
    const found = balanceWithout(this.#priorities, this.#balanceSettings, this.world, this.#turns, excluded);
    if (found) return found;
    // None is left: from the beginning.
    excluded.clear();
    hosts.length = 0;
    return this.#chooser;
  }

  #pickOriginal({ connection, override }: PickContext): Host | undefined {
    const settings =
      this.config.lbConfig?.$case === "originalDstLbConfig" ? this.config.lbConfig.value : undefined;
    let address: Address | undefined;
    if (settings?.useHttpHeader && override !== undefined) address = parseAddress(override);
    else if (connection?.redirected) address = connection.local;
    if (!address) {
      this.stats.counter("upstream_cx_none_healthy").inc();
      return undefined;
    }
    if (settings?.upstreamPortOverride) address = { ip: address.ip, port: settings.upstreamPortOverride };
    const key = printAddress(address);
    let host = this.#hosts.get(key);
    if (!host) {
      host = new EndpointHost(this, {
        address,
        hostname: "",
        metadata: undefined,
        weight: 1,
        health: "healthy",
        locality: { region: "", zone: "", subZone: "" },
        priority: 0,
      });
      this.#hosts.set(key, host);
      this.stats.gauge("membership_total").set(this.#hosts.size);
      this.stats.gauge("membership_healthy").set(this.#hosts.size);
    }
    this.#idle.delete(host);
    return host;
  }

  #armCleanup(): void {
    this.#cleanup?.cancel();
    this.#cleanup = this.world.after(milliseconds(this.config.cleanupInterval, cleanup), () => {
      const idle = new Set<EndpointHost>();
      for (const [key, host] of this.#hosts) {
        if (host.counters.cxActive > 0 || host.activeRequests > 0) continue;
        if (this.#idle.has(host)) {
          this.#hosts.delete(key);
          host.remove();
        } else idle.add(host);
      }
      this.#idle = idle;
      this.#armCleanup();
    });
  }

  outcome(host: EndpointHost, result: number | "success" | "connect-failed" | "timeout" | "reset"): void {
    if (!this.#outliers || host.removed) return;
    if (typeof result === "number") this.#outliers.status(host, result);
    else this.#outliers.local(host, result);
  }

  /** It was taken away, or replaced by another of its name: hosts let go of what they have. */
  dispose(replaced = false): void {
    this.gone = true;
    this.#cleanup?.cancel();
    this.#outliers?.stop();
    this.#disposeTransports();
    for (const host of this.#hosts.values()) host.remove();
    this.#hosts.clear();
    this.#chooser = undefined;
    if (!replaced) this.#deps.stats.dropScope?.(`cluster.${this.config.altStatName || this.name}`);
  }
}
