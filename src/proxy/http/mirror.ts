/** Requests sent a second time to look at, not to answer (request_mirror_policies). */
import type { ClusterLimits, Host, UpstreamCluster } from "../contract.ts";
import { type ClusterCounters, clusterCounters, countAnswer, countTry } from "./cluster-counters.ts";
import { Deadline, type DeadlineOwner } from "./deadlines.ts";
import type { Exchange } from "./exchange.ts";
import type { Headers, RequestHead } from "./headers.ts";
import type { Manager } from "./manager.ts";
import { requestTo } from "./pools.ts";
import { ownAddress } from "./request-headers.ts";
import type { ResetReason } from "./retry-policy.ts";
import { type Mirror, portAt } from "./route-action.ts";
import { type PendingStream, resets, type UpstreamEvents, type UpstreamStream } from "./upstream.ts";

/**
 * Begins a copy of the request for every mirror that its share chooses. `end`: there is no body; else those that are
 * returned are to be given it as it comes. `timeout`: ms from when the request is whole, 0 for none. What comes back is
 * read and forgotten.
 */
export function sendShadows(
  mirrors: readonly Mirror[],
  exchange: Exchange,
  end: boolean,
  timeout: number,
): readonly Shadow[] {
  const { manager } = exchange;
  const shadows: Shadow[] = [];
  for (const mirror of mirrors) {
    if (mirror.share < 1 && manager.world.random() >= mirror.share) continue;
    const name = mirror.cluster || exchange.head.headers.get(mirror.clusterHeader) || "";
    const cluster = manager.deps.clusters.get(name);
    if (!cluster) continue;
    const counters = clusterCounters(cluster);
    const host = cluster.pick({ connection: exchange.facts.downstream });
    if (!host) {
      counters.status(503);
      continue;
    }
    const head: RequestHead = { ...exchange.head, headers: exchange.head.headers.copy() };
    if (!mirror.keepHost) head.authority = shadowed(head.authority);
    // As of a client within, which is us (Envoy's AsyncClient).
    head.headers.set("x-envoy-internal", "true");
    head.headers.append("x-forwarded-for", ownAddress(), ",");
    const shadow = new Shadow(exchange, cluster, host, head, timeout);
    shadow.begin(exchange, end);
    shadows.push(shadow);
  }
  return end ? [] : shadows;
}

/** `a.example:80` → `a.example-shadow:80`. */
function shadowed(authority: string): string {
  const port = portAt(authority);
  return port < 0 ? `${authority}-shadow` : `${authority.slice(0, port)}-shadow${authority.slice(port)}`;
}

/**
 * One copy. It never holds the request up: a mirror that is behind by more than the buffer limit is given up, where
 * Envoy has the request wait for it.
 */
export class Shadow implements UpstreamEvents, DeadlineOwner {
  readonly #manager: Manager;
  readonly #grpc: boolean;
  readonly #host: Host;
  readonly #head: RequestHead;
  readonly #limits: ClusterLimits;
  readonly #counters: ClusterCounters;
  readonly #timeoutAfter: number;
  readonly #begun: number;
  #timeout: Deadline | undefined;
  #pending: PendingStream | undefined;
  #stream: UpstreamStream | undefined;
  #counted = false;
  #over = false;
  /** What came before there was a connection. */
  #held: Buffer[] = [];
  #heldBytes = 0;
  #whole = false;
  #trailers: Headers | undefined;
  #bodiless = false;

  constructor(exchange: Exchange, cluster: UpstreamCluster, host: Host, head: RequestHead, timeout: number) {
    const { manager } = exchange;
    this.#manager = manager;
    this.#grpc = exchange.grpc;
    this.#host = host;
    this.#head = head;
    this.#limits = cluster.limits("default");
    this.#counters = clusterCounters(cluster);
    this.#timeoutAfter = timeout;
    this.#begun = manager.world.monotonic();
  }

  begin(exchange: Exchange, end: boolean): void {
    this.#bodiless = end;
    if (end) this.#isWhole();
    const pending = requestTo(this.#host, "default", exchange, this.#head.authority, false, this);
    if (!this.#stream && !this.#over) this.#pending = pending;
  }

  // --------------------------------------------------------------------------------------------- request

  data(chunk: Buffer): void {
    if (this.#over) return;
    const stream = this.#stream;
    if ((stream ? stream.queued : this.#heldBytes) > this.#manager.bufferLimit) {
      this.cancel();
      return;
    }
    if (stream) stream.data(chunk);
    else {
      this.#held.push(chunk);
      this.#heldBytes += chunk.length;
    }
  }

  end(trailers: Headers | undefined): void {
    if (this.#over) return;
    this.#trailers = trailers;
    this.#isWhole();
    this.#stream?.end(trailers);
  }

  #isWhole(): void {
    this.#whole = true;
    if (this.#timeoutAfter === 0) return;
    this.#timeout = new Deadline(this, 0);
    this.#manager.deadlines.set(this.#timeout, this.#timeoutAfter);
  }

  /** Gives it up. */
  cancel(): void {
    if (this.#over) return;
    const stream = this.#stream;
    this.#pending?.cancel();
    this.#end();
    stream?.reset();
  }

  // ------------------------------------------------------------------------------------------- the host

  onUpstreamReady(stream: UpstreamStream): void {
    this.#pending = undefined;
    if (!this.#limits.requests.tryAcquire()) {
      stream.reset();
      this.onUpstreamFailure("overflow");
      return;
    }
    this.#stream = stream;
    this.#counted = true;
    countTry(this.#counters, this.#host);
    stream.head(this.#head, this.#bodiless, undefined);
    if (this.#bodiless) return;
    for (const chunk of this.#held) stream.data(chunk);
    this.#held = [];
    if (this.#whole) stream.end(this.#trailers);
  }

  onUpstreamFailure(reason: ResetReason): void {
    this.#host.counters.rqError++;
    this.#failed(reason);
  }

  onUpstreamReset(reason: ResetReason): void {
    this.#host.counters.rqError++;
    this.#host.reportLocal("reset");
    this.#failed(reason);
  }

  #failed(reason: ResetReason): void {
    this.#counters.status(resets[reason].status);
    this.#end();
  }

  onInformational(): void {}

  onResponseHead(status: number, headers: Headers, end: boolean): void {
    countAnswer(this.#host, this.#grpc, status, headers, end);
    this.#counters.status(status);
  }

  onResponseData(): void {}

  onResponseEnd(): void {
    this.#counters.time.record(this.#manager.world.monotonic() - this.#begun);
    this.#end();
  }

  onUpstreamDrain(): void {}

  onDeadline(): void {
    if (this.#over) return;
    this.#counters.timeout.inc();
    this.#counters.status(504);
    this.#host.counters.rqTimeout++;
    this.#host.reportLocal("timeout");
    this.cancel();
  }

  onBug(error: unknown): void {
    this.#manager.bug(error);
    this.cancel();
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#timeout?.cancel();
    this.#pending = undefined;
    this.#stream = undefined;
    this.#held = [];
    if (!this.#counted) return;
    this.#host.activeRequests--;
    this.#limits.requests.release();
    this.#counters.active.dec();
  }
}
