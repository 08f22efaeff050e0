/** What is known of a request while it passes: what filters, log lines and metrics ask for. */
import type { Address, Downstream, StreamFacts } from "../contract.ts";
import { unknownWorkload, type Workload } from "../metrics.ts";
import type { FilterSetting } from "./filter-configs.ts";
import { Headers, type RequestHead } from "./headers.ts";
import type { Manager } from "./manager.ts";
import type { Client, ConnectionFacts } from "./request-headers.ts";
import type { ResponseWriter } from "./response-writer.ts";
import { chooseTarget, type Target } from "./route-action.ts";
import { headerOf } from "./route-match.ts";
import type { Route, RouteTable } from "./routes.ts";

/** The head of what was no request. */
const nothing: RequestHead = { method: "", path: "", authority: "", scheme: "", headers: new Headers() };

export abstract class RequestFacts implements StreamFacts {
  readonly manager: Manager;
  readonly facts: ConnectionFacts;
  readonly begun: number;
  readonly start: number;

  head: RequestHead = nothing;
  plainPath = "";
  /** As the client wrote it. */
  originalPath = "";
  route: Route | undefined;
  #target: Target | undefined;
  protected table: RouteTable | undefined;
  upgrade: string | undefined;
  grpc = false;
  /** Who sent it, where its sidecar says so. */
  peer: Workload = unknownWorkload;
  /** The client, as far as x-forwarded-for is trusted. */
  protected readonly client: Client = { ip: "" };
  #notes: Map<object, unknown> | undefined;

  // What logs and metrics ask for.
  protocol: string;
  responseCode = 0;
  responseCodeDetails: string | undefined;
  connectionTerminationDetails: string | undefined;
  flags: string[] = [];
  bytesReceived = 0;
  bytesSent = 0;
  wireBytesReceived = 0;
  wireBytesSent = 0;
  duration = 0;
  upstream: StreamFacts["upstream"];
  metadata: Record<string, Record<string, unknown>> | undefined;
  times: Record<string, number> = {};
  responseHeaders: Headers | undefined;
  responseTrailers: Headers | undefined;
  routeName: string | undefined;

  constructor(manager: Manager, facts: ConnectionFacts, writer: ResponseWriter) {
    this.manager = manager;
    this.facts = facts;
    this.protocol = writer.protocol;
    this.begun = manager.world.monotonic();
    this.start = manager.world.now();
  }

  get method(): string | undefined {
    return this.head.method || undefined;
  }
  get path(): string | undefined {
    return this.head.path || undefined;
  }
  get downstream(): Downstream {
    return this.facts.downstream;
  }
  get connection(): Downstream {
    return this.facts.downstream;
  }
  get remote(): Address {
    const { remote } = this.facts.downstream;
    return this.client.ip === "" || this.client.ip === remote.ip ? remote : { ip: this.client.ip, port: 0 };
  }
  get remoteIp(): string {
    return this.client.ip || this.facts.downstream.remote.ip;
  }
  get notes(): Map<object, unknown> {
    this.#notes ??= new Map();
    return this.#notes;
  }
  /** Some filter noted something. */
  get noted(): boolean {
    return this.#notes !== undefined;
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

  setting(filter: string): FilterSetting | undefined {
    return this.route ? this.route.filters?.get(filter) : this.table?.filters?.get(filter);
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

  addFlag(flag: string): void {
    if (!this.flags.includes(flag)) this.flags.push(flag);
  }
}
