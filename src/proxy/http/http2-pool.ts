/** The connections to one host in HTTP/2, and the requests that wait for room on one. */
import type { ConnectFailure, Host, PendingConnect, UpstreamConnection } from "../contract.ts";
import { type ClusterCounters, clusterCounters } from "./cluster-counters.ts";
import type { Deadlines } from "./deadlines.ts";
import { type Bearer, guarded } from "./guard.ts";
import { Http2Client } from "./http2-client.ts";
import {
  type PendingStream,
  type Pool,
  reasonOfFailure,
  refuse,
  type StreamOptions,
  type UpstreamEvents,
} from "./upstream.ts";

class Pending implements PendingStream {
  readonly events: UpstreamEvents;
  readonly options: StreamOptions;
  readonly #pool: Http2Pool;
  waiting = true;
  constructor(pool: Http2Pool, events: UpstreamEvents, options: StreamOptions) {
    this.#pool = pool;
    this.events = events;
    this.options = options;
  }
  cancel(): void {
    this.#pool.cancel(this);
  }
}

export class Http2Pool implements Pool, Bearer {
  readonly host: Host;
  readonly deadlines: Deadlines;
  readonly #priority: "default" | "high";
  readonly #alpn: readonly string[] | undefined;
  readonly #sessions: Http2Client[] = [];
  readonly #pending: Pending[] = [];
  #connecting: PendingConnect | undefined;
  readonly counters: ClusterCounters;
  #draining = false;

  constructor(
    host: Host,
    priority: "default" | "high",
    deadlines: Deadlines,
    alpn: readonly string[] | undefined,
  ) {
    this.host = host;
    this.counters = clusterCounters(host.cluster);
    this.#priority = priority;
    this.deadlines = deadlines;
    this.#alpn = alpn;
    host.onRemoved(() => this.drain());
  }

  request(events: UpstreamEvents, options: StreamOptions): PendingStream | undefined {
    const session = this.#sessions.find((one) => one.room);
    if (session) {
      session.take(events);
      return undefined;
    }
    if (!this.host.cluster.limits(this.#priority).pendingRequests.tryAcquire()) {
      events.onUpstreamFailure("overflow", "");
      return undefined;
    }
    const pending = new Pending(this, events, options);
    this.counters.pendingTotal.inc();
    this.counters.pendingActive.inc();
    this.#pending.push(pending);
    this.#connect(options);
    return pending;
  }

  cancel(pending: Pending): void {
    if (!pending.waiting) return;
    this.counters.cancelled.inc();
    this.#leave(pending);
    this.#pending.splice(this.#pending.indexOf(pending), 1);
  }

  #leave(pending: Pending): void {
    pending.waiting = false;
    this.counters.pendingActive.dec();
    this.host.cluster.limits(this.#priority).pendingRequests.release();
  }

  #connect(options: StreamOptions): void {
    if (this.#connecting) return;
    this.#connecting = this.host.connect(
      {
        priority: this.#priority,
        serverName: options.serverName,
        ...(this.#alpn ? { alpn: this.#alpn } : {}),
      },
      guarded(this, (result: UpstreamConnection | ConnectFailure) => {
        this.#connecting = undefined;
        if (result.ok || result.why !== "overflow") this.counters.cxHttp2.inc();
        if (result.ok) {
          const client = new Http2Client(this, result);
          this.#sessions.push(client);
          this.serve();
          return;
        }
        if (result.why === "overflow" && this.#sessions.length > 0) return;
        for (const pending of this.#pending.splice(0)) {
          this.#leave(pending);
          this.counters.pendingFailed.inc();
          refuse(pending.events, reasonOfFailure(result), result.transportFailure);
        }
      }),
    );
  }

  onBug(error: unknown): void {
    this.deadlines.bug(error);
  }

  /** What waits goes where there is room. */
  serve(): void {
    while (this.#pending.length > 0) {
      const session = this.#sessions.find((one) => one.room);
      if (!session) {
        this.#connect(this.#pending[0]!.options);
        return;
      }
      const pending = this.#pending.shift()!;
      this.#leave(pending);
      session.take(pending.events);
    }
    if (this.#draining || this.host.removed) for (const session of [...this.#sessions]) session.drain();
  }

  gone(session: Http2Client): void {
    const at = this.#sessions.indexOf(session);
    if (at >= 0) this.#sessions.splice(at, 1);
    if (this.#pending.length > 0) this.serve();
  }

  drain(): void {
    this.#draining = true;
    for (const session of [...this.#sessions]) session.drain();
  }
}
