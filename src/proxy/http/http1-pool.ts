/** All connections to one host in HTTP/1.1, and the requests that wait for one. */
import type { ConnectFailure, Host, PendingConnect, UpstreamConnection } from "../contract.ts";
import { type ClusterCounters, clusterCounters } from "./cluster-counters.ts";
import type { Deadlines } from "./deadlines.ts";
import { type Bearer, guarded } from "./guard.ts";
import { Http1Client } from "./http1-client.ts";
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
  readonly pool: Http1Pool;
  waiting = true;
  constructor(pool: Http1Pool, events: UpstreamEvents, options: StreamOptions) {
    this.pool = pool;
    this.events = events;
    this.options = options;
  }
  cancel(): void {
    this.pool.cancel(this);
  }
}

/** All connections to one host; requests wait here when none is free. */
export class Http1Pool implements Pool, Bearer {
  readonly host: Host;
  readonly deadlines: Deadlines;
  readonly #priority: "default" | "high";
  readonly #alpn: readonly string[] | undefined;
  /** The one used last is used first: the others may become idle. */
  readonly #idle: Http1Client[] = [];
  readonly #clients = new Set<Http1Client>();
  readonly #pending: Pending[] = [];
  readonly #connecting = new Set<PendingConnect>();
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
    this.#alpn = alpn;
    this.#priority = priority;
    this.deadlines = deadlines;
    host.onRemoved(() => this.drain());
  }

  request(events: UpstreamEvents, options: StreamOptions): PendingStream | undefined {
    const client = this.#idle.pop();
    if (client) {
      client.take(events);
      return undefined;
    }
    const { pendingRequests } = this.host.cluster.limits(this.#priority);
    if (!pendingRequests.tryAcquire()) {
      events.onUpstreamFailure("overflow", "");
      return undefined;
    }
    const pending = new Pending(this, events, options);
    this.counters.pendingTotal.inc();
    this.counters.pendingActive.inc();
    this.#pending.push(pending);
    if (this.#connecting.size < this.#pending.length) this.#connect(options);
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
    const attempt = this.host.connect(
      {
        priority: this.#priority,
        serverName: options.serverName,
        ...(this.#alpn ? { alpn: this.#alpn } : {}),
      },
      guarded(this, (result: UpstreamConnection | ConnectFailure) => {
        this.#connecting.delete(attempt);
        if (result.ok || result.why !== "overflow") this.counters.cxHttp1.inc();
        if (result.ok) this.#connected(result);
        else this.#failed(result);
      }),
    );
    this.#connecting.add(attempt);
  }

  #connected(connection: UpstreamConnection): void {
    const client = new Http1Client(this, connection);
    this.#clients.add(client);
    this.free(client);
  }

  #failed(failure: ConnectFailure): void {
    // There is no room for another connection, but those that there are will take what waits.
    if (failure.why === "overflow" && this.#clients.size > 0) return;
    const reason = reasonOfFailure(failure);
    // As Envoy: all that wait fail with it, for they would wait for the same.
    for (const pending of this.#pending.splice(0)) {
      this.#leave(pending);
      this.counters.pendingFailed.inc();
      refuse(pending.events, reason, failure.transportFailure);
    }
  }

  onBug(error: unknown): void {
    this.deadlines.bug(error);
  }

  /** There are requests that wait for a connection. */
  get waiting(): boolean {
    return this.#pending.length > 0;
  }

  /** A connection can take a request. */
  free(client: Http1Client): void {
    const pending = this.#pending.shift();
    if (pending) {
      this.#leave(pending);
      client.take(pending.events);
      return;
    }
    if (this.#draining || this.host.removed) {
      client.close();
      return;
    }
    this.#idle.push(client);
    client.rest();
  }

  /** A connection is no more. */
  gone(client: Http1Client): void {
    this.#clients.delete(client);
    const at = this.#idle.indexOf(client);
    if (at >= 0) this.#idle.splice(at, 1);
    // What waited for it needs another.
    const first = this.#pending[0];
    if (first && this.#connecting.size < this.#pending.length) this.#connect(first.options);
  }

  drain(): void {
    this.#draining = true;
    for (const client of this.#idle.splice(0)) client.close();
  }
}
