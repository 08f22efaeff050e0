/** What all connections of one HttpConnectionManager share. */
import type { World } from "../../world/index.ts";
import type { HandlerDeps } from "../contract.ts";
import { Deadlines } from "./deadlines.ts";
import type { Exchange } from "./exchange.ts";
import { type ManagerCounters, managerCounters, managerScope } from "./manager-counters.ts";
import { Metrics } from "./metrics.ts";
import { peerMetadata } from "./peer-metadata.ts";
import { requestIds } from "./request-id.ts";
import type { RouteTable } from "./routes.ts";
import type { ManagerSettings } from "./settings.ts";
import { decideTrace } from "./tracing.ts";

export class Manager {
  readonly settings: ManagerSettings;
  readonly deps: HandlerDeps;
  readonly world: World;
  readonly deadlines: Deadlines;
  readonly bufferLimit: number;
  readonly newRequestId: () => string;
  readonly #metrics: Metrics;
  readonly counters: ManagerCounters;
  #dateSecond = Number.NaN;
  #date = "";
  draining = false;
  readonly inbound: boolean;
  readonly outbound: boolean;
  /** What we tell of ourselves to other sidecars; undefined: nothing, we are none. */
  readonly ownPeer: { id: string; metadata: string } | undefined;

  constructor(settings: ManagerSettings, deps: HandlerDeps) {
    this.settings = settings;
    this.deps = deps;
    this.world = deps.world;
    this.bufferLimit = deps.bufferLimit;
    this.deadlines = new Deadlines(deps.world, (error) => this.bug(error));
    this.newRequestId = requestIds(deps.world);
    this.#metrics = new Metrics(deps);
    this.inbound = deps.direction === "inbound";
    this.outbound = deps.direction === "outbound";
    this.ownPeer = peerMetadata(deps.node);
    this.counters = managerCounters(managerScope(deps, settings.statPrefix));
  }

  get exchangesPeers(): boolean {
    return this.ownPeer !== undefined;
  }

  get routes(): RouteTable | undefined {
    return this.settings.routes.current as RouteTable | undefined;
  }

  /** The time as the `date` field has it; made once a second. */
  date(): string {
    const now = this.world.now();
    const second = Math.floor(now / 1000);
    if (second !== this.#dateSecond) {
      this.#dateSecond = second;
      this.#date = new Date(now).toUTCString();
    }
    return this.#date;
  }

  /** Says what should not have happened. */
  bug(error: unknown): void {
    this.deps.log("error", error instanceof Error ? (error.stack ?? error.message) : String(error));
  }

  requestBegins(http2: boolean): void {
    const { counters } = this;
    counters.rqTotal.inc();
    counters.rqActive.inc();
    (http2 ? counters.rqHttp2 : counters.rqHttp1).inc();
  }

  /** Counts the head of a response, interim ones too. */
  answered(status: number): void {
    this.counters.rqCompleted.inc();
    this.counters.rqClasses[Math.floor(status / 100)]?.inc();
  }

  trace(exchange: Exchange): void {
    if (this.settings.tracing) decideTrace(exchange, this.settings.tracing, this.world);
  }

  requestEnds(exchange: Exchange): void {
    const { counters } = this;
    counters.rqActive.dec();
    counters.rqTime.record(exchange.duration);
    if (exchange.responseCode > 0) this.answered(exchange.responseCode);
    this.#metrics.record(exchange);
    const { accessLog } = this.settings;
    if (!accessLog.empty) accessLog.log(exchange);
  }
}
