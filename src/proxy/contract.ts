/**
 * What the parts of the embedded proxy ask of each other. The core (`src/proxy/*.ts`) has the configuration, listeners,
 * TLS, TCP, clusters and their hosts; `http/` has everything between a connection that speaks HTTP and a host.
 * Messages are Envoy's (`#protocols`); behaviour is Envoy's where nothing else is said.
 *
 * Who has what: `strings.ts` (StringMatcher, RegexMatcher), `rbac.ts` (the rules of both rbac filters) and
 * `stats.ts` are the core's; the access log's format (`http/access-log.ts`, `compileAccessLog`) is `http/`'s, and
 * the core's tcp_proxy uses it too.
 */
import type { OnReadOpts, Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { AccessLog } from "#protocols/envoy/config/accesslog/v3/accesslog.ts";
import type { Cluster } from "#protocols/envoy/config/cluster/v3/cluster.ts";
import type { Metadata } from "#protocols/envoy/config/core/v3/base.ts";
import type { RouteConfiguration } from "#protocols/envoy/config/route/v3/route.ts";
import type { HttpConnectionManager } from "#protocols/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.ts";
import type { HttpProtocolOptions } from "#protocols/envoy/extensions/upstreams/http/v3/http_protocol_options.ts";
import type { World } from "../world/index.ts";

export interface Address {
  ip: string;
  port: number;
}

/** What is known of the other side's certificate. */
export interface PeerCertificate {
  /** URI SANs (`spiffe://…`), in the certificate's order. */
  uris: readonly string[];
  dns: readonly string[];
  /** RFC 2253: `CN=a,O=b`, as Envoy prints it. */
  subject: string;
  issuer: string;
  serial: string;
  der: Buffer;
  /** SHA-256 of the DER form, lower-case hex. */
  fingerprint: string;
}

export interface TlsFacts {
  /** `TLSv1.3`. */
  version: string;
  cipher: string;
  /** What was negotiated. */
  alpn: string | undefined;
  serverName: string | undefined;
  /** The client's, when it showed one and it was found good. */
  peer: PeerCertificate | undefined;
  /** URI SANs and subject of what we showed. */
  local: { uris: readonly string[]; subject: string } | undefined;
}

/** A connection that a listener took, after its listener filters, filter chain and TLS. */
export interface Downstream {
  /** Counts up from 1 in the process (%CONNECTION_ID%). */
  readonly id: number;
  /**
   * Plain text side: a TLSSocket when we terminate TLS. Paused; nobody listens to it yet. Both halves close by
   * themselves only (`allowHalfOpen`): whoever takes it answers 'end' with `end()`, which may have come
   * already (`readableEnded`). 'error' is the taker's too.
   */
  readonly socket: Socket | TLSSocket;
  /** Bytes that came before everything that `socket` gives; may be empty. */
  readonly head: Buffer;
  /** The peer. */
  readonly remote: Address;
  /** Where it was going: the original destination where connections are redirected, else where we accepted it. */
  readonly local: Address;
  /** `local` is not where we accepted it, but where it was going before it was redirected to us. */
  readonly redirected: boolean;
  /** SNI, by termination or by looking. */
  readonly serverName: string | undefined;
  readonly tls: TlsFacts | undefined;
  readonly listener: string;
  readonly chain: string;
  /** `world.now()` and `world.monotonic()` when it was accepted. */
  readonly startedAt: number;
  readonly startedMonotonic: number;
  /** ALPN that upstream connections offer instead of the cluster's (filter state `envoy.network.application_protocols`). */
  readonly upstreamAlpn: readonly string[] | undefined;
  /** Connection-level bytes so far, for logs. */
  received(): number;
  sent(): number;
  /** Dynamic metadata by namespace, e.g. what a shadow rbac rule said. */
  metadata: Record<string, Record<string, unknown>> | undefined;
}

/** What a filter chain ends in: HTTP, or TCP. One for each chain, over all its connections. */
export interface ConnectionHandler {
  /** Takes the connection over, to its end. Never throws. */
  handle(connection: Downstream): void;
  /** The chain is going: idle connections close, busy ones after what they do (`connection: close`, GOAWAY). */
  drain(): void;
  /** Ends what is left, now. */
  close(): void;
  /** Connections that it has. */
  readonly active: number;
}

/** Thrown while a resource is read: it is refused (NACK) with this message, and the last good one stays. */
export class Unservable extends Error {
  constructor(message: string) {
    super(message);
    this.name = "Unservable";
  }
}

/** What `http/index.ts` gives. Each throws Unservable for what cannot be served. */
export interface HttpRoom {
  /** Once for each version of a route table, shared by all listeners that use it. */
  compileRoutes(config: RouteConfiguration, deps: ProxyDeps): CompiledRoutes;
  /** Inline tables (`route_config`) it compiles itself; by name it asks `deps.routes`. */
  createHttpHandler(hcm: HttpConnectionManager, deps: HandlerDeps): ConnectionHandler;
  compileAccessLog(configs: readonly AccessLog[], deps: ProxyDeps): AccessLogger;
}

/** Opaque to the core; `http/` extends it. */
export interface CompiledRoutes {
  readonly config: RouteConfiguration;
}

export interface Routes {
  /** Follows a table; the same object for the same name. */
  get(name: string): RouteHandle;
}

export interface RouteHandle {
  readonly name: string;
  /** Undefined until it was heard for the first time (listeners wait for that), and when it was taken away. */
  readonly current: CompiledRoutes | undefined;
  /** Called after `current` changed; returns how to stop. Plain readers just read `current` for each request. */
  subscribe(changed: () => void): () => void;
}

export interface ProxyNode {
  id: string;
  cluster: string;
  metadata: Readonly<Record<string, unknown>>;
  locality: { region: string; zone: string; subZone: string };
}

export interface ProxyDeps {
  world: World;
  node: ProxyNode;
  stats: Stats;
  clusters: Clusters;
  routes: Routes;
  /** A file's line writer (`/dev/stdout`); the same for the same path. Batches. */
  logFile(path: string): LogSink;
  /** What the proxy has to say itself. */
  log(level: "debug" | "info" | "warning" | "error", message: string): void;
}

export interface HandlerDeps extends ProxyDeps {
  listener: string;
  chain: string;
  direction: "inbound" | "outbound" | "unspecified";
  /** From the listener: at most this many bytes are held for a slow side. Envoy's default is 1 MiB. */
  bufferLimit: number;
}

// ---------------------------------------------------------------------------------------------- upstream

export interface Clusters {
  /** Undefined: there is none of that name (503, NC). */
  get(name: string): UpstreamCluster | undefined;
  /** An endpoint of any cluster, at this address and whatever port, of which discovery says what workload it is. */
  workloadAt(ip: string): Host | undefined;
}

export interface UpstreamCluster {
  readonly name: string;
  readonly config: Cluster;
  /** From `typed_extension_protocol_options`, when given. */
  readonly httpOptions: HttpProtocolOptions | undefined;
  /** `downstream`: what the client spoke; `auto`: what ALPN says. */
  readonly protocol: "http1" | "http2" | "downstream" | "auto";
  /** With the route's metadata: what the metrics say of the destination (`istio`: services). */
  readonly metadata: Metadata | undefined;
  /** ms. */
  readonly connectTimeout: number;
  /** Requests over one connection at most, 0: any number. */
  readonly maxRequestsPerConnection: number;
  /** ms until an idle pooled connection closes; 0 never. Envoy's default: an hour. */
  readonly idleTimeout: number;
  /** At most this many bytes are held for a slow side. */
  readonly bufferLimit: number;
  /** Chooses a host, or undefined: no healthy upstream (503, UH). Counts nothing. */
  pick(context: PickContext): Host | undefined;
  limits(priority: "default" | "high"): ClusterLimits;
  /** `cluster.<name>.…` */
  readonly stats: ClusterStats;
  /** True once it was taken away or replaced by one that shares no hosts. */
  readonly gone: boolean;
}

export interface PickContext {
  /** `xxhash64` (hash.ts) of what the policies say, combined as Envoy does: 64 bits. Absent: hash balancers choose at random. */
  hash?: bigint;
  /** For ORIGINAL_DST. */
  connection?: Downstream;
  /** For ORIGINAL_DST with `use_http_header`: the value of the header, `10.0.0.1:80`. */
  override?: string;
  /** Asked at most `attempts` times for another (retry_host_predicate, host_selection_retry_max_attempts). */
  avoid?: (host: Host) => boolean;
  attempts?: number;
  tried?: TriedPriorities;
}

/**
 * Tries of one request whose hosts' priorities are to be left alone after every few of them (retry_priority
 * previous_priorities), until none is left.
 */
export interface TriedPriorities {
  every: number;
  hosts: Host[];
  excluded: Set<number>;
}

/** A concurrency limit (circuit breaker). `tryAcquire` false: overflow (UO), counted. */
export interface Limit {
  tryAcquire(): boolean;
  release(): void;
  readonly active: number;
  readonly max: number;
}

export interface ClusterLimits {
  /** The core holds it in `Host.connect` for as long as the connection is open. */
  connections: Limit;
  pendingRequests: Limit;
  requests: Limit;
  /** Follows the retry budget, where there is one. */
  retries: Limit;
}

/** An endpoint. The same object for as long as its address stays in the cluster: pools may hang on it. */
export interface Host {
  readonly cluster: UpstreamCluster;
  /** The address where it listens; for a pipe, ip is the path and port 0. */
  readonly address: Address;
  /** `10.10.0.7:8080`. */
  readonly name: string;
  /** The endpoint's `hostname`, or the name that DNS was asked for (auto_host_rewrite). */
  readonly hostname: string;
  /** The endpoint's metadata (`istio`: workload). May change. */
  readonly metadata: Metadata | undefined;
  readonly locality: { region: string; zone: string; subZone: string };
  readonly priority: number;
  readonly healthy: boolean;
  /** Taken out of the cluster: its pools let go of connections as they become idle. */
  readonly removed: boolean;
  /** Called once when it is removed. */
  onRemoved(call: () => void): void;
  /** Free for `http/`: the host's connection pools. */
  pool: unknown;
  /** Counted up and down by whoever sends requests (least request looks at it); for TCP by connections. */
  activeRequests: number;
  readonly counters: HostCounters;
  /** Whether connections to it are secured with TLS. */
  readonly secure: boolean;
  /**
   * A connection: TCP, and TLS where the cluster (or the match for this endpoint) has it. `done` is called once,
   * never synchronously before `connect` returns. Takes one of `limits.connections` (failure `overflow` otherwise)
   * until the socket closes; counts connects, failures, outlier results (local origin).
   */
  connect(
    options: ConnectOptions,
    done: (result: UpstreamConnection | ConnectFailure) => void,
  ): PendingConnect;
  /** For outlier detection: what the host answered to one request (gRPC's status mapped to HTTP's). */
  reportStatus(status: number): void;
  /** For outlier detection: what became of it on our side, when it did not answer. Connects report themselves. */
  reportLocal(result: "timeout" | "reset" | "success"): void;
}

/** Written to directly by whoever does it; the admin's /clusters shows them. */
export interface HostCounters {
  cxTotal: number;
  cxActive: number;
  cxConnectFail: number;
  rqTotal: number;
  rqSuccess: number;
  rqError: number;
  rqTimeout: number;
}

export interface ConnectOptions {
  priority?: "default" | "high";
  /** Offered instead of what the cluster's TLS context has: `downstream.upstreamAlpn`; a pool is for one such list. */
  alpn?: readonly string[];
  /** For `auto_sni`, `auto_san_validation`: the request's host without its port. */
  serverName?: string;
  /** Where a host without TLS is read into; its socket then tells no `data`. */
  onread?: OnReadOpts;
}

export interface PendingConnect {
  /** Gives it up; `done` is not called any more. */
  cancel(): void;
}

export interface UpstreamConnection {
  ok: true;
  host: Host;
  /** Paused; nobody listens. No Nagle. */
  socket: Socket | TLSSocket;
  /** What TLS negotiated; undefined without TLS or without ALPN. */
  alpn: string | undefined;
  tls: TlsFacts | undefined;
  local: Address;
}

export interface ConnectFailure {
  ok: false;
  host: Host;
  /** `timeout` and `refused` are UF, `overflow` is UO. `tls`: the handshake failed (UF). */
  why: "timeout" | "refused" | "tls" | "overflow";
  /** As Envoy words it in bodies: `delayed connect error: Connection refused`, or empty (logs have `_` for spaces). */
  transportFailure: string;
}

// ---------------------------------------------------------------------------------------- stats and logs

export interface Counter {
  value: number;
  inc(by?: number): void;
}

export interface Gauge {
  value: number;
  inc(by?: number): void;
  dec(by?: number): void;
  set(value: number): void;
}

export interface Histogram {
  /** Milliseconds or bytes. */
  record(value: number): void;
}

export interface Stats {
  /**
   * Envoy's statistics below one prefix: `scope("http.inbound_0.0.0.0_8080", "http", { http_conn_manager_prefix })`
   * has a counter("downstream_rq_total") that /stats shows as `http.inbound_….downstream_rq_total` and Prometheus as
   * `envoy_http_downstream_rq_total{http_conn_manager_prefix="…"}`. The same object for the same name.
   */
  scope(prefix: string, family: string, labels: Readonly<Record<string, string>>): StatsScope;
  /** A metric with labels under its own name: `istio_requests_total`. Keep the object for as long as labels stay. */
  counter(name: string, labels: Readonly<Record<string, string>>): Counter;
  gauge(name: string, labels: Readonly<Record<string, string>>): Gauge;
  /** With Envoy's default buckets (0.5 … 3,600,000). */
  histogram(name: string, labels: Readonly<Record<string, string>>): Histogram;
}

export interface StatsScope {
  counter(name: string): Counter;
  gauge(name: string): Gauge;
  histogram(name: string): Histogram;
}

/** `cluster.<name>.…`: made when first asked for. */
export type ClusterStats = StatsScope;

export interface LogSink {
  /** The line with its newline. */
  write(line: string): void;
}

export interface AccessLogger {
  /** True when nothing would be written: do not gather facts. */
  readonly empty: boolean;
  log(facts: StreamFacts): void;
}

/** What the access log's operators read. What does not apply is undefined and prints as `-`. */
export interface StreamFacts {
  /** ms since the epoch. */
  start: number;
  /** ms. */
  duration: number;
  protocol?: string;
  method?: string;
  path?: string;
  /** HTTP status; 0 for TCP. */
  responseCode: number;
  /** `via_upstream`, `route_not_found` … */
  responseCodeDetails?: string;
  connectionTerminationDetails?: string;
  /** Envoy's short flags: `UF`, `UH`, `NR` … */
  flags: readonly string[];
  bytesReceived: number;
  bytesSent: number;
  /** Heads and framing too: what went over the connection for it. */
  wireBytesReceived?: number;
  wireBytesSent?: number;
  routeName?: string;
  clusterName?: string;
  upstream?: { host?: Host; local?: Address; tls?: TlsFacts; transportFailure?: string };
  downstream: Downstream;
  /** The client as x-forwarded-for says, where that is trusted; else the connection's peer. */
  remote?: Address;
  /** ms from start: the request read whole, the first and last byte of the response sent, … by operator name. */
  times?: Readonly<Record<string, number>>;
  requestHeader?(name: string): string | undefined;
  responseHeader?(name: string): string | undefined;
  responseTrailer?(name: string): string | undefined;
  metadata?: Record<string, Record<string, unknown>>;
}
