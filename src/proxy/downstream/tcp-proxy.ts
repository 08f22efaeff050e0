/** Envoy's tcp_proxy: bytes between a connection and a host of a cluster, as they come. */
import type { Socket } from "node:net";
import type { TcpProxy } from "#protocols/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.ts";
import type { Timer } from "../../world/index.ts";
import {
  type AccessLogger,
  type ConnectFailure,
  type ConnectionHandler,
  type Downstream,
  type HandlerDeps,
  type Host,
  type PendingConnect,
  type StatsScope,
  Unservable,
  type UpstreamCluster,
  type UpstreamConnection,
} from "../contract.ts";
import { xxhash64 } from "../hash.ts";
import { TcpMetrics, type TcpReport } from "../metrics.ts";
import { milliseconds } from "../values.ts";
import { ReadBuffer } from "./read-buffer.ts";

const defaultIdle = 3_600_000;

export class TcpProxyHandler implements ConnectionHandler {
  readonly deps: HandlerDeps;
  readonly config: TcpProxy;
  readonly stats: StatsScope;
  readonly logger: AccessLogger;
  readonly metrics: TcpMetrics;
  readonly idle: number;
  readonly longest: number;
  readonly connections = new Set<Passage>();
  readonly #clusters: { name: string; upTo: number }[] = [];
  #weight = 0;
  readonly #bySourceIp: boolean;
  readonly #sniCluster: boolean;

  /** Throws Unservable. `sniCluster`: the SNI names the cluster (envoy.filters.network.sni_cluster). */
  constructor(config: TcpProxy, deps: HandlerDeps, logger: AccessLogger, sniCluster: boolean) {
    this.config = config;
    this.deps = deps;
    this.logger = logger;
    this.#sniCluster = sniCluster;
    if (config.tunnelingConfig) throw new Unservable("tcp_proxy: tunneling_config is not served");
    if (config.onDemand) throw new Unservable("tcp_proxy: on_demand is not served");
    const specifier = config.clusterSpecifier;
    if (specifier?.$case === "cluster") this.#clusters.push({ name: specifier.value, upTo: ++this.#weight });
    for (const { name, weight } of specifier?.$case === "weightedClusters" ? specifier.value.clusters : []) {
      this.#weight += weight;
      this.#clusters.push({ name, upTo: this.#weight });
    }
    if (this.#clusters.length === 0) throw new Unservable("tcp_proxy: no cluster is given");
    this.#bySourceIp = config.hashPolicy.some(({ policySpecifier }) => policySpecifier?.$case === "sourceIp");
    this.idle = milliseconds(config.idleTimeout, defaultIdle);
    this.longest = milliseconds(config.maxDownstreamConnectionDuration, 0);
    this.stats = deps.stats.scope(`tcp.${config.statPrefix}`, "tcp", { tcp_prefix: config.statPrefix });
    this.metrics = new TcpMetrics(deps);
  }

  get active(): number {
    return this.connections.size;
  }

  handle(connection: Downstream): void {
    this.connections.add(new Passage(this, connection));
  }

  clusterFor(connection: Downstream): string {
    if (this.#sniCluster && connection.serverName) return connection.serverName;
    if (this.#clusters.length === 1) return this.#clusters[0]!.name;
    const point = Math.floor(this.deps.world.random() * this.#weight);
    return this.#clusters.find(({ upTo }) => point < upTo)!.name;
  }

  hashFor(connection: Downstream): bigint | undefined {
    return this.#bySourceIp ? xxhash64(connection.remote.ip) : undefined;
  }

  /** TCP knows no way to say that it is going: connections stay until they end or are closed. */
  drain(): void {}

  close(): void {
    for (const passage of [...this.connections]) passage.end("LocalClose");
  }
}

/** One connection with its other half. */
class Passage {
  readonly #handler: TcpProxyHandler;
  readonly #connection: Downstream;
  readonly #clusterName: string;
  #upstream: Socket | undefined;
  #established: UpstreamConnection | undefined;
  #pending: PendingConnect | undefined;
  #host: Host | undefined;
  /** There is a cluster of that name. */
  #known = false;
  #attempts = 0;
  #received = 0;
  #sent = 0;
  readonly #flags: string[] = [];
  #transportFailure = "";
  #idle: Timer | undefined;
  #longest: Timer | undefined;
  /** When something flowed last, on the monotonic clock. */
  #last: number;
  #over = false;
  readonly #report: TcpReport;
  /** The host is not read until what it sent has gone on. */
  #held = false;
  /** What is counted of bytes that the host sent. */
  #countBack: (bytes: number) => void = () => undefined;

  constructor(handler: TcpProxyHandler, connection: Downstream) {
    this.#handler = handler;
    this.#connection = connection;
    const { stats, deps } = handler;
    stats.counter("downstream_cx_total").inc();
    stats.gauge("downstream_cx_active").inc();
    this.#last = deps.world.monotonic();
    this.#clusterName = handler.clusterFor(connection);
    this.#report = handler.metrics.opened(connection);
    connection.socket.on("error", () => this.end("DownstreamReset"));
    connection.socket.on("close", () => this.end("DownstreamClose"));
    if (handler.longest > 0) {
      this.#longest = deps.world.after(handler.longest, () => {
        this.#flags.push("DT");
        this.end("MaxDuration");
      });
    }
    this.#connect();
  }

  #connect(): void {
    const { deps, stats, config } = this.#handler;
    const cluster = deps.clusters.get(this.#clusterName);
    if (!cluster) {
      stats.counter("downstream_cx_no_route").inc();
      this.#giveUp("NC");
      return;
    }
    this.#known = true;
    if (this.#attempts++ >= (config.maxConnectAttempts ?? 1)) {
      cluster.stats.counter("upstream_cx_connect_attempts_exceeded").inc();
      this.#flags.push("URX");
      this.end("UpstreamConnect");
      return;
    }
    const host = cluster.pick({
      hash: this.#handler.hashFor(this.#connection),
      connection: this.#connection,
    });
    if (!host) {
      this.#giveUp("UH");
      return;
    }
    this.#host = host;
    // A connection counts as a request of its cluster, as in Envoy; one that there is no room for does not.
    const { stats: counted } = cluster;
    const waiting = counted.gauge("upstream_rq_pending_active");
    const waited = counted.counter("upstream_rq_pending_total");
    waiting.inc();
    const { upstreamAlpn } = this.#connection;
    const read = new ReadBuffer();
    const onread = {
      buffer: read.next,
      callback: (count: number, buffer: Uint8Array) => {
        const goOn = this.#back(Buffer.from(buffer.buffer, buffer.byteOffset, count));
        if (this.#connection.socket.writableLength > 0) read.giveAway();
        read.filled(count);
        return goOn;
      },
    };
    const attempt = host.connect({ ...(upstreamAlpn ? { alpn: upstreamAlpn } : {}), onread }, (result) => {
      this.#pending = undefined;
      waiting.dec();
      if (result.ok || result.why !== "overflow") waited.inc();
      if (result.ok) {
        counted.counter("upstream_rq_total").inc();
        counted.gauge("upstream_rq_active").inc();
        this.#flow(result, cluster);
        return;
      }
      if (result.why !== "overflow") counted.counter("upstream_rq_pending_failure_eject").inc();
      this.#failed(result);
    });
    this.#pending = {
      cancel() {
        waiting.dec();
        waited.inc();
        counted.counter("upstream_rq_cancelled").inc();
        attempt.cancel();
      },
    };
  }

  #giveUp(flag: string): void {
    this.#flags.push(flag);
    // The caller is still putting us into its set.
    queueMicrotask(() => this.end("NoUpstream"));
  }

  #failed({ why, transportFailure }: ConnectFailure): void {
    this.#transportFailure = transportFailure;
    if (why === "overflow") {
      this.#host = undefined;
      this.#flags.push("UO");
      this.end("Overflow");
      return;
    }
    if (!this.#flags.includes("UF")) this.#flags.push("UF");
    this.#connect();
  }

  #flow(established: UpstreamConnection, cluster: UpstreamCluster): void {
    const { deps, stats, idle } = this.#handler;
    const down = this.#connection.socket;
    const up = established.socket;
    this.#established = established;
    this.#upstream = up;
    established.host.activeRequests++;
    established.host.reportLocal("success");
    up.on("error", () => this.end("UpstreamReset"));
    up.on("close", () => this.#upstreamClosed());
    const received = stats.counter("downstream_cx_rx_bytes_total");
    const sent = stats.counter("downstream_cx_tx_bytes_total");
    const upReceived = cluster.stats.counter("upstream_cx_rx_bytes_total");
    const upSent = cluster.stats.counter("upstream_cx_tx_bytes_total");
    const { world } = deps;
    const watched = idle > 0;
    const forth = (chunk: Buffer) => {
      this.#received += chunk.length;
      received.value += chunk.length;
      upSent.value += chunk.length;
      if (watched) this.#last = world.monotonic();
      if (!up.write(chunk)) down.pause();
    };
    down.on("data", forth);
    this.#countBack = (bytes) => {
      this.#sent += bytes;
      sent.value += bytes;
      upReceived.value += bytes;
      if (watched) this.#last = world.monotonic();
    };
    down.on("end", () => up.end());
    // With TLS; without, what comes is read into a buffer of ours.
    up.on("data", (chunk: Buffer) => {
      if (!this.#back(chunk)) up.pause();
    });
    up.on("end", () => down.end());
    up.on("drain", () => down.resume());
    this.#report.connected(established.host, established.tls);
    if (this.#connection.head.length > 0) forth(this.#connection.head);
    // Its end may have been seen while its first bytes were looked at.
    if (down.readableEnded) up.end();
    down.resume();
    up.resume();
    if (watched) this.#watchIdle(idle);
  }

  /** Bytes from the host go on to the client; false: no more of them until they went. */
  #back(bytes: Buffer): boolean {
    if (this.#over) return false;
    const down = this.#connection.socket;
    this.#countBack(bytes.length);
    down.write(bytes, this.#written);
    this.#held = down.writableNeedDrain;
    return !this.#held;
  }

  readonly #written = (): void => {
    if (!this.#held || this.#over || this.#connection.socket.writableLength > 0) return;
    this.#held = false;
    this.#upstream?.resume();
  };

  #watchIdle(after: number): void {
    const { world } = this.#handler.deps;
    this.#idle = world.after(after, () => {
      const left = this.#last + this.#handler.idle - world.monotonic();
      if (left > 0) {
        this.#watchIdle(left);
        return;
      }
      this.#handler.stats.counter("idle_timeout").inc();
      this.#flags.push("SI");
      this.end("IdleTimeout");
    });
  }

  /** Both halves of the upstream are closed: what is still to be written downstream goes out, then it ends. */
  #upstreamClosed(): void {
    if (this.#over) return;
    const down = this.#connection.socket;
    if (down.writableFinished || down.destroyed) this.end("UpstreamClose");
    else down.end(() => this.end("UpstreamClose"));
  }

  end(why: string): void {
    if (this.#over) return;
    this.#over = true;
    const { stats, deps, logger, connections } = this.#handler;
    this.#idle?.cancel();
    this.#longest?.cancel();
    this.#pending?.cancel();
    const { socket } = this.#connection;
    socket.destroy();
    const up = this.#upstream;
    // What the client sent before it left still arrives.
    if (up && !up.destroyed) {
      if (up.writableLength > 0 && why === "DownstreamClose") up.end(() => up.destroy());
      else up.destroy();
    }
    if (this.#established) {
      const { host } = this.#established;
      host.activeRequests--;
      host.cluster.stats.gauge("upstream_rq_active").dec();
    }
    connections.delete(this);
    stats.gauge("downstream_cx_active").dec();
    this.#report.closed({ received: this.#received, sent: this.#sent, flags: this.#flags });
    if (logger.empty) return;
    logger.log({
      start: this.#connection.startedAt,
      duration: deps.world.monotonic() - this.#connection.startedMonotonic,
      responseCode: 0,
      flags: this.#flags,
      bytesReceived: this.#received,
      bytesSent: this.#sent,
      ...(this.#known ? { clusterName: this.#clusterName } : {}),
      downstream: this.#connection,
      ...(this.#host
        ? {
            upstream: {
              host: this.#host,
              ...(this.#established ? { local: this.#established.local, tls: this.#established.tls } : {}),
              ...(this.#transportFailure ? { transportFailure: this.#transportFailure } : {}),
            },
          }
        : {}),
    });
  }
}
