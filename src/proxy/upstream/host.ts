/** An endpoint, and how connections to it are made. */
import { connect as connectTcp, isIP, isIPv6, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import type { Metadata } from "#protocols/envoy/config/core/v3/base.ts";
import type { World } from "../../world/index.ts";
import type {
  Address,
  ConnectFailure,
  ConnectOptions,
  Host,
  HostCounters,
  PendingConnect,
  TlsFacts,
  UpstreamCluster,
  UpstreamConnection,
} from "../contract.ts";
import { factsOf, judgePeer, type TlsMaterial } from "../tls.ts";
import { plainIp, printAddress } from "../values.ts";
import { HostMonitor } from "./outlier.ts";

/** How a transport socket secures; undefined: it does not. */
export interface UpstreamTransport {
  material: TlsMaterial;
  sni: string;
}

/** What an endpoint's cluster does for it. */
export interface HostOwner extends UpstreamCluster {
  readonly world: World;
  readonly localAddress: string | undefined;
  readonly keepalive: { enabled: boolean; delay: number };
  transportFor(metadata: Metadata | undefined): UpstreamTransport | undefined;
  readonly sniFollowsHost: { sni: boolean; san: boolean };
  outcome(host: EndpointHost, result: number | "success" | "connect-failed" | "timeout" | "reset"): void;
}

/** What discovery says of an endpoint; may change while it is the same host. */
export interface EndpointFacts {
  address: Address;
  hostname: string;
  metadata: Metadata | undefined;
  weight: number;
  health: "healthy" | "degraded" | "unhealthy";
  locality: { region: string; zone: string; subZone: string };
  priority: number;
}

const failureTexts: Readonly<Record<string, string>> = {
  ECONNREFUSED: "Connection refused",
  EHOSTUNREACH: "No route to host",
  ENETUNREACH: "Network is unreachable",
  ETIMEDOUT: "Connection timed out",
  ECONNRESET: "Connection reset by peer",
  EADDRNOTAVAIL: "Cannot assign requested address",
};

export class EndpointHost implements Host {
  readonly cluster: HostOwner;
  readonly address: Address;
  readonly name: string;
  readonly hashKey: string;
  readonly since: number;
  readonly outlier = new HostMonitor();
  readonly counters: HostCounters = {
    cxTotal: 0,
    cxActive: 0,
    cxConnectFail: 0,
    rqTotal: 0,
    rqSuccess: 0,
    rqError: 0,
    rqTimeout: 0,
  };
  facts: EndpointFacts;
  pool: unknown = undefined;
  activeRequests = 0;
  removed = false;
  #onRemoved: (() => void)[] | undefined;

  constructor(cluster: HostOwner, facts: EndpointFacts) {
    this.cluster = cluster;
    this.facts = facts;
    this.address = facts.address;
    this.name = printAddress(facts.address);
    this.hashKey = this.name;
    this.since = cluster.world.monotonic();
  }

  get hostname(): string {
    return this.facts.hostname;
  }
  get metadata(): Metadata | undefined {
    return this.facts.metadata;
  }
  get locality(): EndpointFacts["locality"] {
    return this.facts.locality;
  }
  get priority(): number {
    return this.facts.priority;
  }
  get weight(): number {
    return this.facts.weight;
  }
  /** What the balancers go by: what discovery says, unless it is ejected. */
  get health(): EndpointFacts["health"] {
    return this.outlier.ejected ? "unhealthy" : this.facts.health;
  }
  get healthy(): boolean {
    return this.health === "healthy";
  }
  get secure(): boolean {
    return this.cluster.transportFor(this.facts.metadata) !== undefined;
  }

  onRemoved(call: () => void): void {
    if (this.removed) call();
    else {
      this.#onRemoved ??= [];
      this.#onRemoved.push(call);
    }
  }

  /** Its cluster let go of it. */
  remove(): void {
    if (this.removed) return;
    this.removed = true;
    for (const call of this.#onRemoved ?? []) call();
    this.#onRemoved = undefined;
  }

  reportStatus(status: number): void {
    this.cluster.outcome(this, status);
  }

  reportLocal(result: "timeout" | "reset" | "success"): void {
    this.cluster.outcome(this, result);
  }

  connect(
    options: ConnectOptions,
    done: (result: UpstreamConnection | ConnectFailure) => void,
  ): PendingConnect {
    const { cluster } = this;
    const { world, stats } = cluster;
    const limit = cluster.limits(options.priority ?? "default").connections;
    let over = false;
    if (!limit.tryAcquire()) {
      queueMicrotask(() => {
        if (!over) done({ ok: false, host: this, why: "overflow", transportFailure: "" });
      });
      return { cancel: () => (over = true) };
    }
    this.counters.cxTotal++;
    this.counters.cxActive++;
    stats.counter("upstream_cx_total").inc();
    stats.gauge("upstream_cx_active").inc();
    const transport = cluster.transportFor(this.facts.metadata);
    const released = () => {
      limit.release();
      this.counters.cxActive--;
      stats.gauge("upstream_cx_active").dec();
      stats.counter("upstream_cx_destroy").inc();
    };
    let socket: Socket | TLSSocket | undefined;
    const fail = (why: ConnectFailure["why"], transportFailure: string) => {
      if (over) return;
      over = true;
      timer.cancel();
      socket?.destroy();
      this.counters.cxConnectFail++;
      stats.counter("upstream_cx_connect_fail").inc();
      if (why === "timeout") stats.counter("upstream_cx_connect_timeout").inc();
      cluster.outcome(this, why === "timeout" ? "timeout" : "connect-failed");
      done({ ok: false, host: this, why, transportFailure });
    };
    const timer = world.after(cluster.connectTimeout, () => fail("timeout", ""));
    const material = transport?.material.current;
    if (transport && !material) {
      // No certificate yet, or a broken one: nobody is called in plain text instead.
      queueMicrotask(() => {
        released();
        fail("tls", "TLS error: Secret is not supplied by SDS");
      });
      return {
        cancel: () => {
          over = true;
          timer.cancel();
        },
      };
    }
    const began = world.monotonic();
    const target = this.address.ip.startsWith("/")
      ? { path: this.address.ip }
      : {
          host: this.address.ip,
          port: this.address.port,
          // An address of the other family cannot be left by.
          ...(cluster.localAddress && isIPv6(cluster.localAddress) === isIPv6(this.address.ip)
            ? { localAddress: cluster.localAddress }
            : {}),
        };
    const onread = transport ? undefined : options.onread;
    const tcp = connectTcp({ ...target, noDelay: true, allowHalfOpen: true, ...(onread && { onread }) });
    socket = tcp;
    tcp.once("close", released);
    const onError = (error: NodeJS.ErrnoException) =>
      fail("refused", `delayed connect error: ${failureTexts[error.code ?? ""] ?? error.message}`);
    tcp.on("error", onError);
    const succeed = (ready: Socket | TLSSocket, tls: TlsFacts | undefined) => {
      if (over) return;
      over = true;
      timer.cancel();
      stats.histogram("upstream_cx_connect_ms").record(world.monotonic() - began);
      ready.off("error", onError);
      const local = { ip: plainIp(tcp.localAddress ?? ""), port: tcp.localPort ?? 0 };
      done({ ok: true, host: this, socket: ready, alpn: tls?.alpn, tls, local });
    };
    tcp.once("connect", () => {
      if (over) return;
      const { enabled, delay } = cluster.keepalive;
      if (enabled) tcp.setKeepAlive(true, delay);
      if (!transport || !material) return succeed(tcp, undefined);
      const { sni, san } = cluster.sniFollowsHost;
      const serverName =
        sni && options.serverName && !isIP(options.serverName) ? options.serverName : transport.sni;
      const offered = options.alpn ?? transport.material.alpn;
      const tls = connectTls({
        socket: tcp,
        secureContext: material.context,
        servername: serverName,
        ...(offered.length > 0 ? { ALPNProtocols: [...offered] } : {}),
        rejectUnauthorized: false,
        checkServerIdentity: () => undefined,
      });
      socket = tls;
      const onTlsError = (error: NodeJS.ErrnoException) => {
        stats.counter("ssl.connection_error").inc();
        fail("tls", `TLS error: ${error.code ?? error.message}`);
      };
      tls.once("error", onTlsError);
      tls.once("close", () => fail("tls", "TLS error: connection closed"));
      tls.once("secureConnect", () => {
        const judged = judgePeer(tls, material.trust, true);
        if ("problem" in judged) {
          stats
            .counter(/SAN list$/.test(judged.problem) ? "ssl.fail_verify_san" : "ssl.fail_verify_error")
            .inc();
          return fail("tls", `TLS error: ${judged.problem}`);
        }
        if (san && options.serverName && !covers(judged.peer?.dns ?? [], options.serverName)) {
          stats.counter("ssl.fail_verify_san").inc();
          return fail("tls", "TLS error: CERTIFICATE_VERIFY_FAILED:verify cert failed: verify SAN list");
        }
        tls.off("error", onTlsError);
        stats.counter("ssl.handshake").inc();
        succeed(tls, factsOf(tls, judged.peer, material.local, serverName || undefined));
      });
    });
    return {
      cancel: () => {
        if (over) return;
        over = true;
        timer.cancel();
        socket?.on("error", () => undefined);
        socket?.destroy();
        tcp.destroy();
      },
    };
  }
}

/** A certificate's DNS names against the one that was asked for. */
function covers(names: readonly string[], wanted: string): boolean {
  const lower = wanted.toLowerCase();
  const parent = lower.slice(lower.indexOf("."));
  return names.some((name) => {
    const one = name.toLowerCase();
    return one === lower || (one.startsWith("*.") && one.slice(1) === parent);
  });
}
