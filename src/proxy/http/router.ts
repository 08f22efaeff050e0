/** The end of a request's way through the proxy: a cluster, a host, tries and tries again, and the answer's way back. */
import type { ClusterLimits, Host, PickContext, UpstreamCluster } from "../contract.ts";
import { type ClusterCounters, clusterCounters, countAnswer, countTry } from "./cluster-counters.ts";
import { Deadline, type DeadlineOwner } from "./deadlines.ts";
import type { Exchange } from "./exchange.ts";
import type { Headers } from "./headers.ts";
import { type Shadow, sendShadows } from "./mirror.ts";
import {
  autoHost,
  changeAnswer,
  introduce,
  prepareHead,
  readAnswer,
  tellTry,
  timeoutOf,
} from "./outgoing-head.ts";
import { pickContext } from "./pick-context.ts";
import { requestTo } from "./pools.ts";
import { RequestBody } from "./request-body.ts";
import { Retries } from "./retries.ts";
import { type ResetReason, retriableReset, retriableResponse } from "./retry-policy.ts";
import type { Forward, Target } from "./route-action.ts";
import type { Route } from "./routes.ts";
import {
  failureAnswer,
  type PendingStream,
  resets,
  type UpstreamEvents,
  type UpstreamStream,
} from "./upstream.ts";

const ROUTE_TIMEOUT = 0;
const TRY_TIMEOUT = 1;

export class Router implements UpstreamEvents, DeadlineOwner {
  readonly #exchange: Exchange;
  readonly #route: Route;
  readonly #forward: Forward;
  #target!: Target;
  #cluster!: UpstreamCluster;
  #limits!: ClusterLimits;
  #counters!: ClusterCounters;

  // The try that is on.
  #pending: PendingStream | undefined;
  #stream: UpstreamStream | undefined;
  #host: Host | undefined;
  #counted = false;
  #tries = 0;
  #retries: Retries | undefined;
  #context: PickContext | undefined;

  /** Undefined: there is no body. */
  #body: RequestBody | undefined;
  /** Mirrors that get the rest of the request too. */
  #shadows: readonly Shadow[] = [];
  #upstreamPaused = false;

  #responding = false;
  #over = false;
  #timeout: Deadline | undefined;
  #tryTimeout: Deadline | undefined;
  #timeoutAfter = 0;
  #wholeAt = 0;

  constructor(exchange: Exchange, route: Route, forward: Forward) {
    this.#exchange = exchange;
    this.#route = route;
    this.#forward = forward;
  }

  /** `end`: there is no body. */
  begin(end: boolean): void {
    const exchange = this.#exchange;
    const { manager } = exchange;
    const forward = this.#forward;
    const target = exchange.target()!;
    this.#target = target;
    const name = exchange.destination();
    const cluster = manager.deps.clusters.get(name);
    if (!cluster) {
      manager.counters.noCluster.inc();
      exchange.addFlag("NC");
      this.#reply(forward.notFoundStatus, "", "cluster_not_found");
      return;
    }
    this.#cluster = cluster;
    this.#counters = clusterCounters(cluster);
    this.#limits = cluster.limits(forward.priority);
    const { retry } = forward;
    if (retry) {
      this.#retries = new Retries(retry, exchange, this.#limits, this.#counters, () => this.#try());
    }
    if (!end) {
      const kept = this.#retries !== undefined && this.#retries.left > 0;
      this.#body = new RequestBody(manager.bufferLimit, kept);
    }
    // A connection that becomes another protocol's has no end to wait for; what we would wait is told nevertheless.
    this.#timeoutAfter = exchange.upgrade === undefined ? timeoutOf(exchange, forward) : 0;
    prepareHead(exchange, this.#route, forward, target);
    if (forward.mirrors.length > 0 && exchange.upgrade === undefined) {
      this.#shadows = sendShadows(forward.mirrors, exchange, end, this.#timeoutAfter);
    }
    if (end) this.#requestIsWhole();
    this.#try();
  }

  // ---------------------------------------------------------------------------------------------- tries

  #try(): void {
    const exchange = this.#exchange;
    this.#tries++;
    this.#counted = false;
    this.#context ??= pickContext(exchange, this.#forward, this.#retries);
    const host = this.#cluster.pick(this.#context);
    if (!host) {
      exchange.addFlag("UH");
      exchange.upstream = undefined;
      this.#answer(503, "no healthy upstream", "no_healthy_upstream");
      return;
    }
    this.#host = host;
    exchange.upstream = { host };
    introduce(exchange, host);
    if (this.#tries > 1) {
      tellTry(exchange, this.#route, this.#forward, this.#tries, this.#timeoutAfter, this.#sinceWhole() ?? 0);
    }
    autoHost(exchange, this.#forward, host, this.#tries);
    if (exchange.requestEnded) this.#setTryTimeout();
    const upgrade = exchange.upgrade !== undefined;
    this.#pending = requestTo(host, this.#forward.priority, exchange, exchange.head.authority, upgrade, this);
    if (this.#stream || this.#over) this.#pending = undefined;
  }

  onUpstreamReady(stream: UpstreamStream): void {
    this.#pending = undefined;
    if (!this.#limits.requests.tryAcquire()) {
      stream.reset();
      this.onUpstreamFailure("overflow", "");
      return;
    }
    const exchange = this.#exchange;
    const host = this.#host!;
    this.#stream = stream;
    this.#counted = true;
    countTry(this.#counters, host);
    const { connection } = stream;
    exchange.upstream = { host, local: connection.local, ...(connection.tls ? { tls: connection.tls } : {}) };
    const body = this.#body;
    stream.head(exchange.head, body === undefined, exchange.upgrade);
    if (!body) return;
    let room = true;
    for (const chunk of body.take()) room = stream.data(chunk);
    if (exchange.requestEnded) stream.end(body.trailers);
    else if (room) exchange.writer.resumeRequest();
  }

  /** The try is over, whatever way: what it held is given back. */
  #release(): void {
    this.#tryTimeout?.cancel();
    this.#pending = undefined;
    this.#stream = undefined;
    this.#upstreamPaused = false;
    if (!this.#counted) return;
    this.#counted = false;
    this.#host!.activeRequests--;
    this.#limits.requests.release();
    this.#counters.active.dec();
  }

  onUpstreamFailure(reason: ResetReason, transportFailure: string): void {
    this.#release();
    const exchange = this.#exchange;
    exchange.upstream = { ...exchange.upstream, transportFailure };
    this.#host!.counters.rqError++;
    this.#failed(reason, transportFailure, false);
  }

  onUpstreamReset(reason: ResetReason): void {
    this.#release();
    this.#host!.counters.rqError++;
    this.#host!.reportLocal("reset");
    if (this.#responding) {
      this.#cutOff(reason);
      return;
    }
    this.#failed(reason, "", true);
  }

  #failed(reason: ResetReason, transportFailure: string, started: boolean): void {
    const { retry } = this.#forward;
    if (retry && retriableReset(retry.on, reason, started)) {
      if (this.#again()) return;
    } else this.#retries?.isOver();
    this.#exchange.addFlag(resets[reason].flag);
    const { status, body, details } = failureAnswer(reason, transportFailure, this.#tries > 1);
    this.#answer(
      status,
      body,
      details,
      reason === "overflow" ? (headers) => headers.set("x-envoy-overloaded", "true") : undefined,
    );
  }

  /** Tries again, if that may be. */
  #again(): boolean {
    if (!this.#retries || this.#over || this.#responding) return false;
    if (this.#body?.abandoned) return false;
    return this.#retries.again(this.#tries, this.#host);
  }

  // -------------------------------------------------------------------------------------------- request

  onRequestData(chunk: Buffer): void {
    if (this.#over) return;
    for (const shadow of this.#shadows) shadow.data(chunk);
    const stream = this.#stream;
    const body = this.#body;
    if (body?.add(chunk, stream !== undefined)) this.#counters.abandoned.inc();
    if (stream) {
      if (!stream.data(chunk)) this.#exchange.writer.pauseRequest();
    } else if (body?.full) this.#exchange.writer.pauseRequest();
  }

  onRequestEnd(trailers: Headers | undefined): void {
    if (this.#over) return;
    if (this.#body) this.#body.trailers = trailers;
    for (const shadow of this.#shadows) shadow.end(trailers);
    this.#shadows = [];
    this.#stream?.end(trailers);
    this.#requestIsWhole();
    if (!this.#responding && (this.#stream || this.#pending)) this.#setTryTimeout();
  }

  #requestIsWhole(): void {
    const { manager } = this.#exchange;
    const now = manager.world.monotonic();
    this.#wholeAt = now;
    if (this.#timeoutAfter > 0 && !this.#responding) {
      this.#timeout = new Deadline(this, ROUTE_TIMEOUT);
      manager.deadlines.set(this.#timeout, this.#timeoutAfter, now);
    }
  }

  /** ms since the request was whole. */
  #sinceWhole(): number | undefined {
    return this.#wholeAt > 0 ? this.#exchange.manager.world.monotonic() - this.#wholeAt : undefined;
  }

  #setTryTimeout(): void {
    const after = this.#forward.retry?.perTryTimeout ?? 0;
    if (after === 0 || this.#exchange.upgrade !== undefined) return;
    this.#tryTimeout ??= new Deadline(this, TRY_TIMEOUT);
    this.#exchange.manager.deadlines.set(this.#tryTimeout, after);
  }

  onUpstreamDrain(): void {
    this.#exchange.writer.resumeRequest();
  }

  // ------------------------------------------------------------------------------------------- response

  onInformational(status: number, headers: Headers): void {
    const { manager, writer } = this.#exchange;
    this.#counters.status(status);
    if (status !== 100 || !manager.settings.proxy100) return;
    manager.answered(status);
    writer.informational(status, headers);
  }

  onResponseHead(status: number, headers: Headers, end: boolean): void {
    const exchange = this.#exchange;
    countAnswer(this.#host!, exchange.grpc, status, headers, end);
    const { retry } = this.#forward;
    if (retry && retriableResponse(retry, retry.on, status, headers)) {
      if (this.#again()) {
        const stream = this.#stream;
        this.#counters.retried(status);
        this.#release();
        // What is whole needs no reset: its connection is good for another request.
        if (!end) stream?.reset();
        return;
      }
    } else this.#retries?.isOver();
    this.#counters.status(status);
    this.#retries?.giveBack();
    this.#responding = true;
    exchange.responseCode = status;
    this.#tryTimeout?.cancel();
    this.#body?.drop();
    const upgrade = readAnswer(exchange, status, headers, this.#sinceWhole());
    changeAnswer(exchange, this.#route, this.#target, headers, this.#tries);
    exchange.responseCodeDetails = "via_upstream";
    // The end comes by itself, right after this.
    if (end) {
      this.#head = { status, headers };
      return;
    }
    exchange.respond(status, headers, false, upgrade);
  }

  #head: { status: number; headers: Headers } | undefined;

  onResponseData(chunk: Buffer): void {
    if (this.#exchange.sendData(chunk)) return;
    const stream = this.#stream;
    if (!stream) return;
    this.#upstreamPaused = true;
    stream.pause();
  }

  onResponseEnd(trailers: Headers | undefined): void {
    const exchange = this.#exchange;
    if (this.#counted) this.#counters.time.record(exchange.manager.world.monotonic() - exchange.begun);
    this.#release();
    if (this.#over || (!this.#responding && !this.#head)) return;
    if (this.#head && !trailers) exchange.respond(this.#head.status, this.#head.headers, true, undefined);
    else exchange.sendEnd(trailers);
  }

  onBug(error: unknown): void {
    const exchange = this.#exchange;
    exchange.manager.bug(error);
    this.abandon();
    exchange.abort();
  }

  onDownstreamDrain(): void {
    if (!this.#upstreamPaused) return;
    this.#upstreamPaused = false;
    this.#stream?.resume();
  }

  // ---------------------------------------------------------------------------------------------- ends

  onDeadline(kind: number): void {
    if (this.#over) return;
    const exchange = this.#exchange;
    const stream = this.#stream;
    this.#host?.reportLocal("timeout");
    if (this.#host) this.#host.counters.rqTimeout++;
    if (kind === TRY_TIMEOUT) {
      this.#counters.perTryTimeout.inc();
      const started = stream !== undefined;
      this.#pending?.cancel();
      this.#release();
      stream?.reset();
      this.#failed("per_try_timeout", "", started);
      return;
    }
    this.#counters.timeout.inc();
    this.#pending?.cancel();
    this.#release();
    stream?.reset();
    exchange.addFlag("UT");
    if (this.#responding) {
      exchange.responseCodeDetails = "response_timeout";
      this.#end();
      exchange.abort();
      return;
    }
    this.#answer(504, "upstream request timeout", "response_timeout");
  }

  /** An answer in the upstream's place: for Envoy it is one of the cluster's. */
  #answer(status: number, body: string, details: string, headers?: (answer: Headers) => void): void {
    this.#counters.status(status);
    this.#reply(status, body, details, headers);
  }

  #reply(status: number, body: string, details: string, headers?: (answer: Headers) => void): void {
    this.#end();
    this.#exchange.reply({
      status,
      body,
      details,
      headers: (answer) => {
        headers?.(answer);
        changeAnswer(this.#exchange, this.#route, this.#target, answer, this.#tries);
      },
    });
  }

  /** The response broke off after it was begun. */
  #cutOff(reason: ResetReason): void {
    const exchange = this.#exchange;
    const { flag, detail } = resets[reason];
    exchange.addFlag(flag);
    exchange.responseCodeDetails = `upstream_reset_after_response_started{${detail}}`;
    this.#end();
    exchange.abort();
  }

  /** Nobody waits for more of the answer: it was given to the client's side, or that is gone. */
  abandon(): void {
    if (this.#over) return;
    const stream = this.#stream;
    this.#pending?.cancel();
    this.#release();
    this.#end();
    stream?.reset();
  }

  #end(): void {
    this.#over = true;
    this.#timeout?.cancel();
    this.#tryTimeout?.cancel();
    this.#retries?.stop();
    this.#body?.drop();
    // Of a request that was cut short there is no more to show.
    for (const shadow of this.#shadows) shadow.cancel();
    this.#shadows = [];
  }
}
