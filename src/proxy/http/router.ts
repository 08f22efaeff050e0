/** The end of a request's way through the proxy: a cluster, a host, tries and tries again, and the answer's way back. */
import type { Timer } from "../../world/index.ts";
import type { ClusterLimits, Host, PickContext, UpstreamCluster } from "../contract.ts";
import { type ClusterCounters, clusterCounters } from "./cluster-counters.ts";
import { Deadline, type DeadlineOwner } from "./deadlines.ts";
import type { Exchange } from "./exchange.ts";
import { grpcTimeout, httpStatusOf } from "./grpc.ts";
import { hashOf } from "./hashing.ts";
import type { Headers } from "./headers.ts";
import { sendShadows } from "./mirror.ts";
import { mutate } from "./mutations.ts";
import { PEER, PEER_ID } from "./peer-metadata.ts";
import { poolFor } from "./pools.ts";
import { backoff, type ResetReason, retriableReset, retriableResponse } from "./retry-policy.ts";
import type { Forward, Target } from "./route-action.ts";
import { portAt } from "./route-action.ts";
import type { Route } from "./routes.ts";
import { type PendingStream, resets, type UpstreamEvents, type UpstreamStream } from "./upstream.ts";

/** Fields that are of one connection only (RFC 9110, 7.6.1). */
const hopByHop = (name: string) =>
  name === "connection" ||
  name === "keep-alive" ||
  name === "proxy-connection" ||
  name === "transfer-encoding" ||
  name === "upgrade";

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
  #retriesLeft = 0;
  #holdsRetry = false;
  #backoff: Timer | undefined;
  #failedHosts: Host[] | undefined;
  #context: PickContext | undefined;

  // The request's body, as long as it may be needed again.
  #body: Buffer[] | undefined;
  #bodyBytes = 0;
  #keepBody = false;
  #headOnly = false;
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
      exchange.addFlag("NC");
      this.#answer(forward.notFoundStatus, "", "cluster_not_found");
      return;
    }
    this.#cluster = cluster;
    this.#counters = clusterCounters(cluster);
    this.#limits = cluster.limits(forward.priority);
    this.#headOnly = end;
    const { retry } = forward;
    this.#retriesLeft = retry && exchange.upgrade === undefined ? retry.attempts : 0;
    this.#keepBody = !end && (this.#retriesLeft > 0 || forward.mirrors.length > 0);
    this.#prepareHead();
    if (end) this.#requestIsWhole();
    this.#try();
  }

  /** What the route changes in the request's head; once, for all tries. */
  #prepareHead(): void {
    const exchange = this.#exchange;
    const { head, manager } = exchange;
    const forward = this.#forward;
    this.#timeoutAfter = forward.timeout;
    if (forward.grpcTimeoutMax !== undefined && exchange.grpc) {
      const wanted = grpcTimeout(head.headers.get("grpc-timeout"));
      if (wanted !== undefined) {
        const most = forward.grpcTimeoutMax;
        this.#timeoutAfter = most > 0 ? Math.min(wanted, most) : wanted;
      }
    }
    if (exchange.upgrade !== undefined) this.#timeoutAfter = 0;
    this.#tellTimeout(0);
    if (this.#route.virtualHost.attemptCountInRequest) head.headers.set("x-envoy-attempt-count", "1");
    if (this.#target.requestHeaders) mutate(head.headers, this.#target.requestHeaders, exchange);
    for (const mutation of this.#route.requestHeaders) mutate(head.headers, mutation, exchange);
    this.#rewriteHost();
    if (forward.prefixRewrite !== "" || forward.regexRewrite) {
      const { path } = head;
      const plain = exchange.plainPath;
      const query = path.slice(plain.length);
      const rewritten = forward.regexRewrite
        ? forward.regexRewrite(plain)
        : forward.prefixRewrite + plain.slice(this.#route.path.matchedLength(plain));
      if (!manager.settings.suppressEnvoyHeaders) head.headers.set("x-envoy-original-path", path);
      head.path = rewritten + query;
    }
  }

  /** How long we will wait for this try, for whoever answers. */
  #tellTimeout(elapsed: number): void {
    const { head, manager } = this.#exchange;
    if (manager.settings.suppressEnvoyHeaders) return;
    const whole = this.#timeoutAfter;
    let expected = this.#forward.retry?.perTryTimeout || whole;
    if (expected <= 0) return;
    // Out of time is 1: 0 would be without end.
    if (whole > 0) expected = elapsed >= whole ? 1 : Math.min(expected, whole - elapsed);
    head.headers.set("x-envoy-expected-rq-timeout-ms", String(Math.floor(expected)));
  }

  #rewriteHost(): void {
    const { head } = this.#exchange;
    const rewrite = this.#forward.hostRewrite;
    const before = head.authority;
    if (this.#target.hostRewrite) head.authority = this.#target.hostRewrite;
    else if (rewrite?.kind === "literal") head.authority = rewrite.host;
    else if (rewrite?.kind === "header") head.authority = head.headers.get(rewrite.name) || before;
    else if (rewrite?.kind === "path") head.authority = rewrite.substitution(this.#exchange.plainPath);
    if (head.authority !== before) this.#hostWas(before);
  }

  #hostWas(before: string): void {
    const { head, manager } = this.#exchange;
    if (this.#forward.appendForwardedHost) head.headers.append("x-forwarded-host", before, ",");
    if (!manager.settings.suppressEnvoyHeaders) head.headers.set("x-envoy-original-host", before);
  }

  // ---------------------------------------------------------------------------------------------- tries

  #try(): void {
    const exchange = this.#exchange;
    const { manager } = exchange;
    this.#tries++;
    this.#counted = false;
    const host = this.#cluster.pick(this.#pickContext());
    if (!host) {
      exchange.addFlag("UH");
      exchange.upstream = undefined;
      this.#counters.none.inc();
      this.#answer(503, "no healthy upstream", "no_healthy_upstream");
      return;
    }
    this.#host = host;
    exchange.upstream = { host };
    this.#introduce(host);
    if (this.#tries > 1) {
      if (this.#route.virtualHost.attemptCountInRequest) {
        exchange.head.headers.set("x-envoy-attempt-count", String(this.#tries));
      }
      this.#tellTimeout(this.#wholeAt > 0 ? manager.world.monotonic() - this.#wholeAt : 0);
    }
    if (this.#forward.hostRewrite?.kind === "auto" && host.hostname) {
      if (this.#tries === 1) this.#hostWas(exchange.head.authority);
      exchange.head.authority = host.hostname;
    }
    const { authority } = exchange.head;
    const port = portAt(authority);
    const pool = poolFor(
      host,
      {
        http2: exchange.protocol === "HTTP/2",
        upgrade: exchange.upgrade !== undefined,
        alpn: exchange.facts.downstream.upstreamAlpn,
      },
      this.#forward.priority,
      manager.deadlines,
    );
    if (exchange.requestEnded) this.#setTryTimeout();
    this.#pending = pool.request(this, {
      priority: this.#forward.priority,
      serverName: port < 0 ? authority : authority.slice(0, port),
      downstream: exchange.facts.downstream,
      upgrade: exchange.upgrade !== undefined,
    });
    if (this.#stream || this.#over) this.#pending = undefined;
  }

  /** Between sidecars: who we are, for the other's metrics. Not to hosts that have no sidecar. */
  #introduce(host: Host): void {
    const { manager, head } = this.#exchange;
    const { ownPeer } = manager;
    if (!ownPeer || manager.inbound) return;
    if (host.secure && host.metadata?.filterMetadata.istio?.workload !== undefined) {
      head.headers.set(PEER_ID, ownPeer.id);
      head.headers.set(PEER, ownPeer.metadata);
    } else {
      head.headers.remove(PEER_ID);
      head.headers.remove(PEER);
    }
  }

  #pickContext(): PickContext {
    if (this.#context) return this.#context;
    const exchange = this.#exchange;
    const context: PickContext = { connection: exchange.facts.downstream };
    if (this.#forward.hash.length > 0) {
      const hash = hashOf(this.#forward.hash, exchange);
      if (hash !== undefined) context.hash = hash;
    }
    const override = exchange.head.headers.get("x-envoy-original-dst-host");
    if (override !== undefined) context.override = override;
    const { retry } = this.#forward;
    if (retry?.avoidPrevious) {
      context.avoid = (host) => this.#failedHosts?.includes(host) ?? false;
      context.attempts = retry.hostSelectionAttempts;
    }
    this.#context = context;
    return context;
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
    host.activeRequests++;
    host.counters.rqTotal++;
    this.#counters.total.inc();
    this.#counters.active.inc();
    const { connection } = stream;
    exchange.upstream = { host, local: connection.local, ...(connection.tls ? { tls: connection.tls } : {}) };
    stream.head(exchange.head, this.#headOnly, exchange.upgrade);
    if (this.#headOnly) return;
    let room = true;
    const body = this.#body;
    if (!this.#keepBody) this.#body = undefined;
    if (body) for (const chunk of body) room = stream.data(chunk);
    if (exchange.requestEnded) stream.end(undefined);
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
    if (reason === "overflow") this.#counters.pendingOverflow.inc();
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
    if (retry && retriableReset(retry.on, reason, started) && this.#again()) return;
    const { words, flag, status, detail } = resets[reason];
    const exchange = this.#exchange;
    exchange.addFlag(flag);
    const retried = this.#tries > 1 ? "retried and the latest reset reason" : "reset reason";
    const cause = transportFailure ? `${detail}|${transportFailure.replace(/ /g, "_")}` : detail;
    if (reason === "per_try_timeout") {
      this.#answer(504, "upstream request timeout", "upstream_per_try_timeout");
      return;
    }
    this.#answer(
      status,
      `upstream connect error or disconnect/reset before headers. ${retried}: ${words}`,
      reason === "overflow"
        ? "upstream_reset_before_response_started{overflow}"
        : `upstream_reset_before_response_started{${cause}}`,
      reason === "overflow" ? (headers) => headers.set("x-envoy-overloaded", "true") : undefined,
    );
  }

  /** Tries again, if that may be. */
  #again(): boolean {
    const { retry } = this.#forward;
    const exchange = this.#exchange;
    if (!retry || this.#over || this.#responding) return false;
    this.#giveRetryBack();
    if (this.#retriesLeft === 0) {
      if (retry.attempts > 0 && this.#tries > retry.attempts) exchange.addFlag("URX");
      this.#counters.retryLimit.inc();
      return false;
    }
    if (!this.#headOnly && !this.#keepBody) return false; // the body is gone
    if (retry.requestHeaders.length > 0 && !retry.requestHeaders.some((test) => test(exchange.head)))
      return false;
    if (!this.#limits.retries.tryAcquire()) {
      exchange.addFlag("UO");
      this.#counters.retryOverflow.inc();
      return false;
    }
    this.#holdsRetry = true;
    this.#retriesLeft--;
    this.#counters.retry.inc();
    if (this.#host) {
      this.#failedHosts ??= [];
      this.#failedHosts.push(this.#host);
    }
    const { world } = exchange.manager;
    this.#backoff = world.after(backoff(retry, this.#tries, world), () => {
      this.#backoff = undefined;
      this.#try();
    });
    return true;
  }

  #giveRetryBack(): void {
    if (!this.#holdsRetry) return;
    this.#holdsRetry = false;
    this.#limits.retries.release();
  }

  // -------------------------------------------------------------------------------------------- request

  onRequestData(chunk: Buffer): void {
    if (this.#over) return;
    this.#bodyBytes += chunk.length;
    const limit = this.#exchange.manager.bufferLimit;
    if (this.#keepBody && this.#bodyBytes > limit) {
      // Too much to hold: this request is not tried again, nor mirrored.
      this.#keepBody = false;
      if (this.#stream) this.#body = undefined;
    }
    if (this.#keepBody || !this.#stream) {
      this.#body ??= [];
      this.#body.push(chunk);
    }
    if (this.#stream) {
      if (!this.#stream.data(chunk)) this.#exchange.writer.pauseRequest();
    } else if (this.#bodyBytes > limit) this.#exchange.writer.pauseRequest();
  }

  onRequestEnd(trailers: Headers | undefined): void {
    if (this.#over) return;
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
    const { mirrors } = this.#forward;
    if (mirrors.length > 0 && (this.#headOnly || this.#keepBody)) {
      sendShadows(mirrors, this.#exchange, this.#body ?? []);
    }
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
    if (status === 100 && !this.#exchange.manager.settings.proxy100) return;
    if (status === 100) this.#exchange.writer.informational(status, headers);
  }

  onResponseHead(status: number, headers: Headers, end: boolean): void {
    const exchange = this.#exchange;
    const { manager } = exchange;
    const host = this.#host!;
    const grpcStatus = exchange.grpc && end ? headers.get("grpc-status") : undefined;
    const counted = grpcStatus === undefined ? status : httpStatusOf(Number(grpcStatus));
    host.reportStatus(counted);
    this.#counters.status(status);
    if (counted >= 500) host.counters.rqError++;
    else host.counters.rqSuccess++;
    const { retry } = this.#forward;
    if (retry && retriableResponse(retry, retry.on, status, headers) && this.#again()) {
      const stream = this.#stream;
      this.#release();
      stream?.reset();
      return;
    }
    this.#giveRetryBack();
    this.#responding = true;
    exchange.responseCode = status;
    this.#tryTimeout?.cancel();
    this.#body = undefined;
    this.#keepBody = false;
    const upgrade = status === 101 ? (headers.get("upgrade") ?? exchange.upgrade) : undefined;
    headers.removeWhere(upgrade === undefined ? hopByHop : (name) => name === "transfer-encoding");
    if (manager.ownPeer && !manager.inbound) {
      headers.remove(PEER_ID);
      headers.remove(PEER);
    }
    const { settings } = manager;
    if (!settings.suppressEnvoyHeaders && this.#wholeAt > 0) {
      const took = manager.world.monotonic() - this.#wholeAt;
      headers.set("x-envoy-upstream-service-time", String(Math.floor(took)));
    }
    this.#changeAnswer(headers);
    exchange.responseCodeDetails = "via_upstream";
    // The end comes by itself, right after this.
    if (end) {
      this.#endWithHead = true;
      this.#head = { status, headers };
      return;
    }
    exchange.respond(status, headers, false, upgrade);
  }

  #endWithHead = false;
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
    if (this.#over || (!this.#responding && !this.#endWithHead)) return;
    if (this.#endWithHead && !trailers)
      exchange.respond(this.#head!.status, this.#head!.headers, true, undefined);
    else exchange.sendEnd(trailers);
  }

  onBug(error: unknown): void {
    this.#exchange.manager.bug(error);
    this.#release();
    this.#end();
    this.#exchange.abort();
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

  #answer(status: number, body: string, details: string, headers?: (answer: Headers) => void): void {
    this.#end();
    this.#exchange.reply({
      status,
      body,
      details,
      headers: (answer) => {
        headers?.(answer);
        this.#changeAnswer(answer);
      },
    });
  }

  /** What the route changes in answers, our own among them. */
  #changeAnswer(headers: Headers): void {
    if (this.#route.virtualHost.attemptCountInResponse && this.#tries > 0) {
      headers.set("x-envoy-attempt-count", String(this.#tries));
    }
    if (this.#target.responseHeaders) mutate(headers, this.#target.responseHeaders, this.#exchange);
    for (const mutation of this.#route.responseHeaders) mutate(headers, mutation, this.#exchange);
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

  /** The whole response was given to the client's side. */
  responseSent(): void {
    const stream = this.#stream;
    this.#release();
    this.#end();
    stream?.reset();
  }

  /** Nobody waits for the answer any more. */
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
    this.#backoff?.cancel();
    this.#giveRetryBack();
    this.#body = undefined;
  }
}
