/** What all connections of one HttpConnectionManager share. */
import type { World } from "../../world/index.ts";
import type { Counter, Gauge, HandlerDeps, Histogram } from "../contract.ts";
import { Deadlines } from "./deadlines.ts";
import type { Exchange } from "./exchange.ts";
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
  readonly #total: Counter;
  readonly #active: Gauge;
  readonly #time: Histogram;
  readonly #classes: Counter[];
  readonly cxTotal: Counter;
  readonly cxActive: Gauge;
  readonly protocolErrors: Counter;
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
    const stats = deps.stats.scope(`http.${settings.statPrefix}`, "http", {
      envoy_http_conn_manager_prefix: settings.statPrefix,
    });
    this.#total = stats.counter("downstream_rq_total");
    this.#active = stats.gauge("downstream_rq_active");
    this.#time = stats.histogram("downstream_rq_time");
    this.#classes = ["0", "1", "2", "3", "4", "5"].map((n) => stats.counter(`downstream_rq_${n}xx`));
    this.cxTotal = stats.counter("downstream_cx_total");
    this.cxActive = stats.gauge("downstream_cx_active");
    this.protocolErrors = stats.counter("downstream_cx_protocol_error");
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

  requestBegins(): void {
    this.#total.inc();
    this.#active.inc();
  }

  trace(exchange: Exchange): void {
    if (this.settings.tracing) decideTrace(exchange, this.settings.tracing, this.world);
  }

  requestEnds(exchange: Exchange): void {
    this.#active.dec();
    this.#time.record(exchange.duration);
    this.#classes[Math.floor(exchange.responseCode / 100)]?.inc();
    this.#metrics.record(exchange);
    const { accessLog } = this.settings;
    if (!accessLog.empty) accessLog.log(exchange);
  }
}
