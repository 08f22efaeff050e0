/** One request and its response: from the connection it came on, through the filters, to the router and back. */
import type { Timer } from "../../world/index.ts";
import { localAnswer, tellOfUs } from "./answers.ts";
import { Deadline, type DeadlineOwner } from "./deadlines.ts";
import type { FilteredRequest, LocalReply } from "./filter.ts";
import { isGrpc } from "./grpc.ts";
import { guarded } from "./guard.ts";
import type { Headers, RequestHead } from "./headers.ts";
import type { Manager } from "./manager.ts";
import { mutate } from "./mutations.ts";
import { takePeer } from "./peer-metadata.ts";
import { RequestFacts } from "./request-facts.ts";
import { type ConnectionFacts, prepareRequest } from "./request-headers.ts";
import type { ResponseWriter } from "./response-writer.ts";
import { withoutQuery } from "./route-match.ts";
import { Router } from "./router.ts";
import { answerOperation, tellOperation } from "./tracing.ts";

const IDLE = 0;
const MAX_DURATION = 1;
const REQUEST_TIMEOUT = 2;

export class Exchange extends RequestFacts implements FilteredRequest, DeadlineOwner {
  readonly writer: ResponseWriter;
  router: Router | undefined;
  /** All of the request has come. */
  requestEnded = false;
  #filter = 0;
  #held: Buffer[] | undefined;
  #trailers: Headers | undefined;
  #cookies: string[] | undefined;
  #askedForPeer = false;
  #operation: string | undefined;
  #responded = false;
  #ended = false;
  #writing = false;
  #idle: Deadline | undefined;
  #duration: Deadline | undefined;
  #whole: Deadline | undefined;
  #lastActive = 0;
  #idleTimeout = 0;

  constructor(manager: Manager, facts: ConnectionFacts, writer: ResponseWriter) {
    super(manager, facts, writer);
    this.writer = writer;
    manager.requestBegins(writer.protocol === "HTTP/2");
  }

  // --------------------------------------------------------------------------------------------- request

  /**
   * The head has come. `authority` is "" when the request says so, undefined when it has none (RFC 9112 3.2: refused).
   */
  begin(head: RequestHead, authority: string | undefined, end: boolean, upgrade: string | undefined): void {
    const { manager } = this;
    const { settings } = manager;
    this.head = head;
    this.requestEnded = end;
    this.#lastActive = this.begun;
    if (end) this.#requestIsWhole();
    if (authority === undefined) {
      this.writer.closeAfter();
      this.reply({ status: 400, body: "", details: "missing_host_header" });
      return;
    }
    this.#watch();
    this.grpc = isGrpc(head.headers.get("content-type"));
    if (upgrade !== undefined) {
      const allowed = settings.upgrades.get(upgrade.toLowerCase());
      if (upgrade.toLowerCase() === "h2c") {
        head.headers.remove("upgrade");
        head.headers.remove("http2-settings");
      } else if (allowed === true) {
        this.upgrade = upgrade;
        manager.counters.cxUpgrades.inc();
        manager.counters.cxUpgradesActive.inc();
      } else {
        manager.counters.rqUpgradeRefused.inc();
        this.writer.closeAfter();
        this.reply({ status: 403, body: "", details: "upgrade_failed" });
        return;
      }
    }
    this.originalPath = head.path;
    const refused = prepareRequest(
      head,
      this.upgrade,
      this.facts,
      settings,
      manager.newRequestId,
      this.client,
    );
    if (refused) {
      if (refused.status === 400) this.writer.closeAfter();
      if (refused.details === "path_normalization_failed") {
        const { rqPathRefused, rqPathRedirected } = manager.counters;
        (refused.status === 400 ? rqPathRefused : rqPathRedirected).inc();
      }
      const location = "location" in refused ? refused.location : undefined;
      this.reply({
        status: refused.status,
        body: "",
        details: refused.details,
        ...(location === undefined ? {} : { headers: (answer: Headers) => answer.set("location", location) }),
      });
      return;
    }
    manager.trace(this);
    if (manager.inbound) {
      const peer = takePeer(
        head.headers,
        manager.exchangesPeers && this.facts.downstream.tls?.peer !== undefined,
      );
      this.#askedForPeer = peer !== undefined;
      if (peer) this.peer = peer;
    }
    this.plainPath = withoutQuery(head.path);
    if (!this.#findRoute()) return;
    if (settings.tracing) {
      this.#operation = tellOperation(head.headers, this.route?.operation ?? "", manager.outbound);
    }
    this.#runFilters();
  }

  /** An answer to what could not be read as a request. */
  refuse(status: number, body: string, details: string, flags: readonly string[] = ["DPE"]): void {
    this.requestEnded = true;
    for (const flag of flags) this.addFlag(flag);
    this.reply({ status, body, details });
  }

  #findRoute(): boolean {
    const table = this.manager.routes;
    this.table = table;
    const { head } = this;
    const host = table?.virtualHost(head.authority);
    if (table && host) {
      if (host.requireTls !== "none" && head.headers.get("x-forwarded-proto") !== "https") {
        this.manager.counters.routed.inc();
        this.manager.counters.directResponse.inc();
        const location = `https://${head.authority}${head.path}`;
        this.reply({
          status: 301,
          body: "",
          details: "direct_response",
          headers: (answer) => answer.set("location", location),
        });
        return false;
      }
      this.route = table.match(host, {
        head,
        path: this.plainPath,
        presented: this.facts.downstream.tls?.peer !== undefined,
      });
    }
    this.routeName = this.route?.name;
    const action = this.route?.action;
    if (action?.kind === "forward") {
      if (action.idleTimeout !== undefined) this.#idleTimeout = action.idleTimeout;
      if (this.upgrade !== undefined && action.upgrades.get(this.upgrade.toLowerCase()) === false) {
        this.manager.counters.rqUpgradeRefused.inc();
        this.writer.closeAfter();
        this.reply({ status: 403, body: "", details: "upgrade_failed" });
        return false;
      }
    }
    return true;
  }

  #runFilters(): void {
    const { filters } = this.manager.settings;
    while (this.#filter < filters.length) {
      const filter = filters[this.#filter++]!;
      if (this.route?.filters?.get(filter.name)?.disabled) continue;
      if (!filter.request(this)) {
        return;
      }
    }
    this.#routeIt();
  }

  resume(): void {
    if (this.#ended || this.#responded) return;
    this.#runFilters();
  }

  #routeIt(): void {
    const { route } = this;
    const { counters } = this.manager;
    counters.routed.inc();
    if (!route) {
      counters.noRoute.inc();
      this.addFlag("NR");
      this.reply({ status: 404, body: "", details: "route_not_found" });
      return;
    }
    const { action } = route;
    if (action.kind === "forward") {
      this.router = new Router(this, route, action);
      const held = this.#held;
      this.#held = undefined;
      this.router.begin(this.requestEnded && !held);
      if (held) {
        for (const chunk of held) if (!this.#ended) this.router.onRequestData(chunk);
        if (this.requestEnded && !this.#ended) this.router.onRequestEnd(this.#trailers);
        else this.writer.resumeRequest();
      }
      return;
    }
    counters.directResponse.inc();
    const location = action.kind === "redirect" ? action.location(this.head, route.path) : undefined;
    this.#respondDirectly(action.status, action.kind === "direct" ? action.body : undefined, location);
  }

  #respondDirectly(status: number, body: Buffer | undefined, location: string | undefined): void {
    this.reply({
      status,
      body: body ?? "",
      details: "direct_response",
      headers: (answer) => {
        if (location !== undefined) answer.flat.unshift("location", location);
        for (const mutation of this.route!.responseHeaders) mutate(answer, mutation, this);
      },
    });
  }

  onRequestData(chunk: Buffer): void {
    this.bytesReceived += chunk.length;
    this.#lastActive = this.manager.world.monotonic();
    if (this.#ended) return;
    if (this.router) this.router.onRequestData(chunk);
    else if (!this.#responded) {
      this.#held ??= [];
      this.#held.push(chunk);
      if (this.bytesReceived > this.manager.bufferLimit) this.writer.pauseRequest();
    }
  }

  onRequestEnd(trailers: Headers | undefined): void {
    this.requestEnded = true;
    this.#requestIsWhole();
    if (this.#ended) return;
    if (this.router) this.router.onRequestEnd(trailers);
    else {
      this.#held ??= [];
      this.#trailers = trailers;
    }
    if (this.#responded && !this.#writing) this.#finish();
  }

  #requestIsWhole(): void {
    this.#whole?.cancel();
    this.times.REQUEST_DURATION = this.manager.world.monotonic() - this.begun;
  }

  /** The client has gone, or cut its request short. */
  onDownstreamReset(details = "downstream_remote_disconnect"): void {
    if (this.#ended) return;
    this.manager.counters.rqRxReset.inc();
    this.addFlag("DC");
    this.responseCodeDetails ??= details;
    this.router?.abandon();
    this.#finish();
  }

  onDownstreamDrain(): void {
    this.router?.onDownstreamDrain();
  }

  // -------------------------------------------------------------------------------------------- response

  /** A cookie that the response sets (hash policies). */
  setCookie(cookie: string): void {
    this.#cookies ??= [];
    this.#cookies.push(cookie);
  }

  reply(answer: LocalReply): void {
    if (this.#responded) {
      // Too late for an answer: what was begun is cut off.
      this.abort();
      return;
    }
    this.responseCodeDetails = answer.details || undefined;
    const { status, headers, body } = localAnswer(answer, this.grpc);
    const end = body.length === 0 || this.grpc || this.head.method === "HEAD";
    this.respond(status, headers, end, undefined);
    if (!end) {
      this.sendData(body);
      this.sendEnd(undefined);
    }
  }

  /** The head of the response, from upstream or our own, through the filters. */
  respond(status: number, headers: Headers, end: boolean, upgrade: string | undefined): void {
    if (this.#ended) return;
    const { settings } = this.manager;
    this.#responded = true;
    this.#writing = true;
    const { filters } = settings;
    for (let i = filters.length - 1; i >= 0; i--) filters[i]!.response?.(this, headers, status);
    if (this.#cookies) for (const cookie of this.#cookies) headers.add("set-cookie", cookie);
    tellOfUs(headers, this.manager, this.#askedForPeer);
    if (settings.tracing) answerOperation(headers, this.#operation, this.manager.outbound);
    if (settings.requestIdInResponse) {
      const id = this.head.headers.get("x-request-id");
      if (id !== undefined) headers.set("x-request-id", id);
    }
    this.responseCode = status;
    this.responseHeaders = headers;
    this.times.RESPONSE_DURATION = this.manager.world.monotonic() - this.begun;
    this.writer.head(status, headers, end, upgrade);
    if (end) this.sendEnd(undefined, true);
  }

  sendData(chunk: Buffer): boolean {
    if (this.#ended) return true;
    this.bytesSent += chunk.length;
    this.#lastActive = this.manager.world.monotonic();
    return this.writer.data(chunk);
  }

  sendEnd(trailers: Headers | undefined, withHead = false): void {
    if (this.#ended) return;
    this.responseTrailers = trailers;
    this.wireBytesSent = this.writer.sent(true);
    this.#writing = false;
    // The writer is told last: it may go on with the next request at once.
    this.router?.abandon();
    this.#finish();
    this.writer.end(withHead ? undefined : trailers);
  }

  /** The response cannot be brought to its end. */
  abort(): void {
    if (this.#ended) return;
    const { counters } = this.manager;
    counters.rqTxReset.inc();
    if (this.requestEnded) counters.rqRxReset.inc();
    this.router?.abandon();
    this.#finish();
    this.writer.reset();
  }

  #finish(): void {
    if (this.#ended) return;
    this.#ended = true;
    const { counters } = this.manager;
    if (this.upgrade !== undefined) counters.cxUpgradesActive.dec();
    if (this.#responded && !this.requestEnded) {
      // The rest of it is not wanted: for Envoy that is a reset.
      counters.rqResponseBeforeEnd.inc();
      counters.rqRxReset.inc();
    }
    this.#idle?.cancel();
    this.#duration?.cancel();
    this.#whole?.cancel();
    if (this.noted) for (const filter of this.manager.settings.filters) filter.end?.(this);
    this.duration = this.manager.world.monotonic() - this.begun;
    this.wireBytesReceived = this.writer.received + this.bytesReceived;
    if (this.wireBytesSent === 0) this.wireBytesSent = this.writer.sent(false);
    this.manager.requestEnds(this);
  }

  onBug(error: unknown): void {
    this.manager.bug(error);
    this.abort();
  }

  /** Later, unless the timer is cancelled. */
  after(delay: number, act: () => void): Timer {
    return this.manager.world.after(delay, guarded(this, act));
  }

  get ended(): boolean {
    return this.#ended;
  }

  // -------------------------------------------------------------------------------------------- deadlines

  #watch(): void {
    const { settings, deadlines } = this.manager;
    this.#idleTimeout = settings.streamIdleTimeout;
    if (this.#idleTimeout > 0) {
      this.#idle = new Deadline(this, IDLE);
      deadlines.set(this.#idle, this.#idleTimeout, this.begun);
    }
    if (settings.maxStreamDuration > 0) {
      this.#duration = new Deadline(this, MAX_DURATION);
      deadlines.set(this.#duration, settings.maxStreamDuration, this.begun);
    }
    if (settings.requestTimeout > 0 && !this.requestEnded) {
      this.#whole = new Deadline(this, REQUEST_TIMEOUT);
      deadlines.set(this.#whole, settings.requestTimeout, this.begun);
    }
  }

  onDeadline(kind: number): void {
    if (this.#ended) return;
    if (kind === IDLE) {
      const now = this.manager.world.monotonic();
      const left = this.#idleTimeout === 0 ? 0 : this.#lastActive + this.#idleTimeout - now;
      if (this.#idleTimeout === 0) return;
      if (left > 0.5) {
        this.manager.deadlines.set(this.#idle!, Math.ceil(left), now);
        return;
      }
      this.manager.counters.rqIdleTimeout.inc();
      this.addFlag("SI");
      this.router?.abandon();
      if (this.#responded) this.abort();
      else {
        if (!this.requestEnded) this.writer.closeAfter();
        // A request that is not whole: 408; one whose answer does not come: 504 (Envoy).
        const status = this.requestEnded ? 504 : 408;
        this.reply({ status, body: "stream timeout", details: "stream_idle_timeout" });
      }
      return;
    }
    this.router?.abandon();
    if (kind === REQUEST_TIMEOUT) {
      this.manager.counters.rqTimeout.inc();
      this.writer.closeAfter();
      this.reply({ status: 408, body: "request timeout", details: "request_overall_timeout" });
      return;
    }
    this.manager.counters.rqMaxDuration.inc();
    if (this.#responded) this.abort();
    else this.reply({ status: 408, body: "", details: "max_duration_timeout" });
  }
}
