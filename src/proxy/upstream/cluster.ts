/** A cluster at work: its hosts, who is chosen, what may be under way. Changed in place, so that pools stay. */
import {
  Cluster,
  Cluster_DiscoveryType as Discovers,
  Cluster_LbPolicy as LbPolicy,
} from "#protocols/envoy/config/cluster/v3/cluster.ts";
import { type Metadata, TransportSocket } from "#protocols/envoy/config/core/v3/base.ts";
import { UpstreamTlsContext } from "#protocols/envoy/extensions/transport_sockets/tls/v3/tls.ts";
import { HttpProtocolOptions } from "#protocols/envoy/extensions/upstreams/http/v3/http_protocol_options.ts";
import type { Timer, World } from "../../world/index.ts";
import {
  type Address,
  type ClusterLimits,
  type ClusterStats,
  type Host,
  type PickContext,
  type Stats,
  Unservable,
} from "../contract.ts";
import type { Secrets } from "../secrets.ts";
import { TlsMaterial } from "../tls.ts";
import { milliseconds, parseAddress, printAddress } from "../values.ts";
import type { Chooser, Policy } from "./balancers.ts";
import type { Assignment } from "./discovery.ts";
import { EndpointHost, type HostOwner, type UpstreamTransport } from "./host.ts";
import { CircuitBreaking } from "./limits.ts";
import { OutlierDetector } from "./outlier.ts";
import { balance, type LocalityHosts, Turns } from "./sets.ts";

const type = "type.googleapis.com/envoy.extensions";
const httpOptionsKey = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/** Everything of a cluster that can be wrong has been read. */
export interface ReadCluster {
  config: Cluster;
  bytes: Buffer;
  discovers: Discovers;
  policy: Policy;
  httpOptions: HttpProtocolOptions | undefined;
  protocol: "http1" | "http2" | "downstream" | "auto";
}

/** Throws Unservable. */
export function readCluster(bytes: Buffer): ReadCluster {
  const config = Cluster.decode(bytes);
  if (config.clusterDiscoveryType?.$case === "clusterType") {
    throw new Unservable(`cluster type '${config.clusterDiscoveryType.value.name}' is not served`);
  }
  if (config.healthChecks.length > 0) throw new Unservable("active health checks are not served");
  if (config.lbSubsetConfig) throw new Unservable("lb_subset_config is not served");
  if (config.loadBalancingPolicy) throw new Unservable("load_balancing_policy is not served");
  const written = config.loadAssignment?.endpoints ?? [];
  if (
    config.clusterDiscoveryType?.value === Discovers.LOGICAL_DNS &&
    (written.length !== 1 || written[0]!.lbEndpoints.length !== 1)
  ) {
    throw new Unservable(
      "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint",
    );
  }
  const packed = config.typedExtensionProtocolOptions[httpOptionsKey];
  const httpOptions = packed && HttpProtocolOptions.decode(packed.value);
  for (const socket of [
    config.transportSocket,
    ...config.transportSocketMatches.map((m) => m.transportSocket),
  ]) {
    readTransportSocket(socket);
  }
  return {
    config,
    bytes,
    discovers: config.clusterDiscoveryType?.value ?? Discovers.STATIC,
    policy: policyOf(config),
    httpOptions,
    protocol: protocolOf(config, httpOptions),
  };
}

function policyOf(config: Cluster): Policy {
  const settings = config.lbConfig;
  switch (config.lbPolicy) {
    case LbPolicy.ROUND_ROBIN:
    case LbPolicy.CLUSTER_PROVIDED:
      return { kind: "round-robin" };
    case LbPolicy.RANDOM:
      return { kind: "random" };
    case LbPolicy.LEAST_REQUEST: {
      const given = settings?.$case === "leastRequestLbConfig" ? settings.value : undefined;
      return {
        kind: "least-request",
        choices: given?.choiceCount ?? 2,
        bias: given?.activeRequestBias?.defaultValue ?? 1,
      };
    }
    case LbPolicy.RING_HASH: {
      const given = settings?.$case === "ringHashLbConfig" ? settings.value : undefined;
      if (given?.hashFunction) throw new Unservable("ring hash by MurmurHash2 is not served");
      return {
        kind: "ring-hash",
        smallest: given?.minimumRingSize ?? 1024,
        largest: given?.maximumRingSize ?? 8 * 1024 * 1024,
      };
    }
    case LbPolicy.MAGLEV: {
      const given = settings?.$case === "maglevLbConfig" ? settings.value : undefined;
      return { kind: "maglev", tableSize: given?.tableSize ?? 65537 };
    }
    default:
      throw new Unservable(`lb_policy ${config.lbPolicy} is not served`);
  }
}

function protocolOf(config: Cluster, options: HttpProtocolOptions | undefined): ReadCluster["protocol"] {
  const chosen = options?.upstreamProtocolOptions;
  switch (chosen?.$case) {
    case "useDownstreamProtocolConfig":
      return "downstream";
    case "autoConfig":
      return "auto";
    case "explicitHttpConfig":
      switch (chosen.value.protocolConfig?.$case) {
        case "http2ProtocolOptions":
          return "http2";
        case "http3ProtocolOptions":
          throw new Unservable("HTTP/3 is not served");
        default:
          return "http1";
      }
    default:
      if (config.protocolSelection === 1) return "downstream";
      return config.http2ProtocolOptions ? "http2" : "http1";
  }
}

/** Undefined: plain. */
function readTransportSocket(socket: TransportSocket | undefined): UpstreamTlsContext | undefined {
  const any = socket?.configType?.$case === "typedConfig" ? socket.configType.value : undefined;
  switch (any?.typeUrl) {
    case undefined:
    case `${type}.transport_sockets.raw_buffer.v3.RawBuffer`:
      return undefined;
    case `${type}.transport_sockets.tls.v3.UpstreamTlsContext`:
      return UpstreamTlsContext.decode(any.value);
    default:
      throw new Unservable(`transport socket ${any?.typeUrl} is not served`);
  }
}

export interface ClusterDeps {
  world: World;
  stats: Stats & { dropScope?(prefix: string): void };
  secrets: Secrets;
  /** Upstream connections leave by this address. */
  bindAddress: string | undefined;
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
  #transport: UpstreamTransport | undefined;
  #matches: { match: [string, unknown][]; transport: UpstreamTransport | undefined }[] = [];
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
    this.#configure(undefined);
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

  /** Takes a new version of the same kind of discovery. */
  update(read: ReadCluster): void {
    const before = this.#read;
    this.#read = read;
    this.#configure(before);
  }

  #configure(before: ReadCluster | undefined): void {
    const { config, httpOptions } = this.#read;
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
    if (!before || transportKey(before.config) !== transportKey(config)) {
      this.#disposeTransports();
      this.#transport = this.#transportOf(config.transportSocket);
      this.#matches = config.transportSocketMatches.map(({ match, transportSocket }) => ({
        match: Object.entries(match ?? {}),
        transport: this.#transportOf(transportSocket),
      }));
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

  #transportOf(socket: TransportSocket | undefined): UpstreamTransport | undefined {
    const context = readTransportSocket(socket);
    if (!context) return undefined;
    return {
      material: new TlsMaterial(context.commonTlsContext, this.#deps.secrets, "client"),
      sni: context.sni,
    };
  }

  #disposeTransports(): void {
    this.#transport?.material.dispose();
    for (const { transport } of this.#matches) transport?.material.dispose();
  }

  /** The first match of the endpoint's `envoy.transport_socket_match` metadata, else the cluster's own. */
  transportFor(metadata: Metadata | undefined): UpstreamTransport | undefined {
    if (this.#matches.length === 0) return this.#transport;
    const facts = metadata?.filterMetadata["envoy.transport_socket_match"] as
      | Record<string, unknown>
      | undefined;
    for (const { match, transport } of this.#matches) {
      if (match.every(([key, value]) => facts?.[key] === value)) return transport;
    }
    return this.#transport;
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
          if (host) host.facts = facts;
          else host = new EndpointHost(this, facts);
          kept.set(key, host);
          return [host];
        }),
      })),
    );
    const before = this.#hosts;
    this.#hosts = kept;
    for (const [key, host] of before) if (!kept.has(key)) this.#drop(host);
    this.#rebalance();
  }

  #drop(host: EndpointHost): void {
    this.#outliers?.forget(host);
    host.remove();
  }

  #rebalance(): void {
    if (this.gone) return;
    const { config, policy } = this.#read;
    this.#chooser = balance(
      this.#priorities,
      {
        policy,
        localityWeighted:
          config.commonLbConfig?.localityConfigSpecifier?.$case === "localityWeightedLbConfig",
        panicThreshold: config.commonLbConfig?.healthyPanicThreshold?.value ?? 50,
        overprovisioning: this.#assignment.overprovisioning,
      },
      this.world,
      this.#turns,
    );
    this.stats.gauge("membership_total").set(this.#hosts.size);
    let healthy = 0;
    for (const host of this.#hosts.values()) if (host.healthy) healthy++;
    this.stats.gauge("membership_healthy").set(healthy);
  }

  pick(context: PickContext): Host | undefined {
    if (this.#read.discovers === Discovers.ORIGINAL_DST) return this.#pickOriginal(context);
    const chooser = this.#chooser;
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

/** What of the configuration says how connections are secured. */
function transportKey(config: Cluster): string {
  return [config.transportSocket, ...config.transportSocketMatches.map((m) => m.transportSocket)]
    .map((socket) => (socket ? Buffer.from(TransportSocket.encode(socket).finish()).toString("base64") : ""))
    .concat(JSON.stringify(config.transportSocketMatches.map((m) => m.match)))
    .join(" ");
}
