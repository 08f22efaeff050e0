/** One request and its response: from the connection it came on, through the filters, to the router and back. */
import type { Address, Downstream, StreamFacts } from "../contract.ts";
import { unknownWorkload, type Workload } from "../metrics.ts";
import { Deadline, type DeadlineOwner } from "./deadlines.ts";
import type { FilteredRequest, LocalReply } from "./filter.ts";
import type { FilterSetting } from "./filter-configs.ts";
import { grpcMessage, grpcStatusOf, isGrpc } from "./grpc.ts";
import { Headers, type RequestHead } from "./headers.ts";
import type { Manager } from "./manager.ts";
import { mutate } from "./mutations.ts";
import { PEER, PEER_ID, readPeer } from "./peer-metadata.ts";
import { type Client, type ConnectionFacts, prepareRequest } from "./request-headers.ts";
import { chooseTarget, type Target } from "./route-action.ts";
import { headerOf, withoutQuery } from "./route-match.ts";
import { Router } from "./router.ts";
import type { Route, RouteTable } from "./routes.ts";
import { answerOperation, tellOperation } from "./tracing.ts";

/** The side of a connection (or HTTP/2 stream) that a response is written to. */
export interface ResponseWriter {
  readonly protocol: "HTTP/1.0" | "HTTP/1.1" | "HTTP/2";
  /** `upgrade`: the connection is another protocol's from here on. */
  head(status: number, headers: Headers, end: boolean, upgrade: string | undefined): void;
  informational(status: number, headers: Headers): void;
  /** False: it is full, wait for the drain. */
  data(chunk: Buffer): boolean;
  end(trailers: Headers | undefined): void;
  /** Cuts the response short. */
  reset(): void;
  pauseRequest(): void;
  resumeRequest(): void;
  /** After this response nothing more is read from the connection. */
  closeAfter(): void;
}

/** The head of what was no request. */
const nothing: RequestHead = { method: "", path: "", authority: "", scheme: "", headers: new Headers() };

const IDLE = 0;
const MAX_DURATION = 1;
const REQUEST_TIMEOUT = 2;

export class Exchange implements StreamFacts, FilteredRequest, DeadlineOwner {
  readonly manager: Manager;
  readonly facts: ConnectionFacts;
  readonly writer: ResponseWriter;
  readonly begun: number;
  readonly start: number;

  head: RequestHead = nothing;
  plainPath = "";
  #originalPath = "";
  route: Route | undefined;
  #target: Target | undefined;
  #table: RouteTable | undefined;
  router: Router | undefined;
  upgrade: string | undefined;
  grpc = false;
  /** Who sent it, where its sidecar says so. */
  peer: Workload = unknownWorkload;
  /** All of the request has come. */
  requestEnded = false;
  #filter = 0;
  #held: Buffer[] | undefined;
  #trailers: Headers | undefined;
  #client: Client = { ip: "" };
  #notes: Map<object, unknown> | undefined;
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

  // What logs and metrics ask for.
  protocol: string;
  responseCode = 0;
  responseCodeDetails: string | undefined;
  connectionTerminationDetails: string | undefined;
  flags: string[] = [];
  bytesReceived = 0;
  bytesSent = 0;
  duration = 0;
  upstream: StreamFacts["upstream"];
  metadata: Record<string, Record<string, unknown>> | undefined;
  times: Record<string, number> = {};
  responseHeaders: Headers | undefined;
  responseTrailers: Headers | undefined;
  #routeName: string | undefined;

  constructor(manager: Manager, facts: ConnectionFacts, writer: ResponseWriter) {
    this.manager = manager;
    this.facts = facts;
    this.writer = writer;
    this.protocol = writer.protocol;
    this.begun = manager.world.monotonic();
    this.start = manager.world.now();
    manager.requestBegins();
  }

  // ----------------------------------------------------------------------------------------- StreamFacts

  get method(): string | undefined {
    return this.head.method || undefined;
  }
  get path(): string | undefined {
    return this.head.path || undefined;
  }
  get routeName(): string | undefined {
    return this.#routeName;
  }
  get downstream(): Downstream {
    return this.facts.downstream;
  }
  get connection(): Downstream {
    return this.facts.downstream;
  }
  get remote(): Address {
    const { remote } = this.facts.downstream;
    return this.#client.ip === "" || this.#client.ip === remote.ip
      ? remote
      : { ip: this.#client.ip, port: 0 };
  }
  get remoteIp(): string {
    return this.#client.ip || this.facts.downstream.remote.ip;
  }
  get notes(): Map<object, unknown> {
    this.#notes ??= new Map();
    return this.#notes;
  }
  get clusterName(): string | undefined {
    const name = this.destination();
    return name && this.manager.deps.clusters.get(name) ? name : undefined;
  }
  requestHeader(name: string): string | undefined {
    return this.head === nothing ? undefined : headerOf(this.head, name) || undefined;
  }
  responseHeader(name: string): string | undefined {
    if (name === ":status") return String(this.responseCode);
    return this.responseHeaders?.joined(name);
  }
  responseTrailer(name: string): string | undefined {
    return this.responseTrailers?.joined(name);
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
      } else if (allowed === true) this.upgrade = upgrade;
      else {
        this.writer.closeAfter();
        this.reply({ status: 403, body: "", details: "upgrade_failed" });
        return;
      }
    }
    this.#originalPath = head.path;
    const refused = prepareRequest(
      head,
      this.upgrade,
      this.facts,
      settings,
      manager.newRequestId,
      this.#client,
    );
    if (refused) {
      if (refused.status === 400) this.writer.closeAfter();
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
    if (manager.exchangesPeers && manager.inbound) {
      const told = head.headers.get(PEER);
      if (told !== undefined) {
        this.#askedForPeer = true;
        this.peer = readPeer(told);
        head.headers.remove(PEER);
        head.headers.remove(PEER_ID);
      }
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
    this.#table = table;
    const { head } = this;
    const host = table?.virtualHost(head.authority);
    if (table && host) {
      if (host.requireTls !== "none" && head.headers.get("x-forwarded-proto") !== "https") {
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
    this.#routeName = this.route?.name;
    const action = this.route?.action;
    if (action?.kind === "forward") {
      if (action.idleTimeout !== undefined) this.#idleTimeout = action.idleTimeout;
      if (this.upgrade !== undefined && action.upgrades.get(this.upgrade.toLowerCase()) === false) {
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
    if (!route) {
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
    this.addFlag("DC");
    this.responseCodeDetails ??= details;
    this.router?.abandon();
    this.#finish();
  }

  onDownstreamDrain(): void {
    this.router?.onDownstreamDrain();
  }

  // -------------------------------------------------------------------------------------------- response

  setting(filter: string): FilterSetting | undefined {
    return this.route ? this.route.filters?.get(filter) : this.#table?.filters?.get(filter);
  }

  target(): Target | undefined {
    const action = this.route?.action;
    if (action?.kind !== "forward") return undefined;
    this.#target ??= chooseTarget(action, this.manager.world);
    return this.#target;
  }

  destination(): string {
    const target = this.target();
    if (!target) return "";
    return target.cluster || (target.clusterHeader && this.requestHeader(target.clusterHeader)) || "";
  }

  /** A cookie that the response sets (hash policies). */
  setCookie(cookie: string): void {
    this.#cookies ??= [];
    this.#cookies.push(cookie);
  }

  addFlag(flag: string): void {
    if (!this.flags.includes(flag)) this.flags.push(flag);
  }

  reply(answer: LocalReply): void {
    if (this.#responded) {
      // Too late for an answer: what was begun is cut off.
      this.abort();
      return;
    }
    this.responseCodeDetails = answer.details || undefined;
    const headers = new Headers();
    const body = typeof answer.body === "string" ? Buffer.from(answer.body) : answer.body;
    if (this.grpc) {
      headers.add("content-type", "application/grpc");
      answer.headers?.(headers);
      headers.set("grpc-status", String(answer.grpcStatus ?? grpcStatusOf(answer.status)));
      if (body.length > 0) headers.set("grpc-message", grpcMessage(body.toString("utf8")));
      this.respond(200, headers, true, undefined);
      return;
    }
    answer.headers?.(headers);
    if (body.length > 0) {
      headers.set("content-length", String(body.length));
      if (!headers.has("content-type")) headers.add("content-type", "text/plain");
    }
    const end = body.length === 0 || this.head.method === "HEAD";
    this.respond(answer.status, headers, end, undefined);
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
    if (!headers.has("date")) headers.add("date", this.manager.date());
    if (settings.serverHeader === "overwrite") {
      headers.remove("server");
      headers.add("server", settings.serverName);
    } else if (settings.serverHeader === "append-if-absent" && !headers.has("server")) {
      headers.add("server", settings.serverName);
    }
    if (settings.via) headers.append("via", settings.via, ", ");
    const { ownPeer } = this.manager;
    if (this.#askedForPeer && ownPeer) {
      headers.set(PEER_ID, ownPeer.id);
      headers.set(PEER, ownPeer.metadata);
    }
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
    this.#writing = false;
    // The writer is told last: it may go on with the next request at once.
    this.router?.responseSent();
    this.#finish();
    if (!withHead) this.writer.end(trailers);
    else this.writer.end(undefined);
  }

  /** The response cannot be brought to its end. */
  abort(): void {
    if (this.#ended) return;
    this.router?.abandon();
    this.#finish();
    this.writer.reset();
  }

  #finish(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#idle?.cancel();
    this.#duration?.cancel();
    this.#whole?.cancel();
    if (this.#notes) for (const filter of this.manager.settings.filters) filter.end?.(this);
    this.duration = this.manager.world.monotonic() - this.begun;
    this.manager.requestEnds(this);
  }

  get ended(): boolean {
    return this.#ended;
  }

  get originalPath(): string {
    return this.#originalPath;
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
      this.writer.closeAfter();
      this.reply({ status: 408, body: "request timeout", details: "request_overall_timeout" });
    } else if (this.#responded) this.abort();
    else this.reply({ status: 408, body: "", details: "max_duration_timeout" });
  }
}
