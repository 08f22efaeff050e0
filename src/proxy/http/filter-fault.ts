/** Envoy's fault filter: requests are delayed, aborted, or both. */
import type { HTTPFault } from "#protocols/envoy/extensions/filters/http/fault/v3/fault.ts";
import type { Timer, World } from "../../world/index.ts";
import { type Counter, type Gauge, type StatsScope, Unservable } from "../contract.ts";
import { compileHeaderMatcher } from "../rbac.ts";
import { milliseconds } from "../values.ts";
import type { FilteredRequest, HttpFilter } from "./filter.ts";
import { percentOf } from "./percent.ts";
import { headerOf } from "./route-match.ts";

export interface FaultSettings {
  delay: { share: number; milliseconds: number | "header" } | undefined;
  abort: { share: number; status?: number; grpcStatus?: number; header?: boolean } | undefined;
  cluster: string;
  headers: readonly { name: string; test(value: string | undefined): boolean }[];
  maxActive: number;
}

export function compileFault(fault: HTTPFault): FaultSettings {
  if (fault.responseRateLimit) throw new Unservable("fault: response_rate_limit is not served");
  const delay = fault.delay?.faultDelaySecifier;
  const abort = fault.abort?.errorType;
  return {
    delay: delay && {
      share: percentOf(fault.delay?.percentage) ?? 0,
      milliseconds: delay.$case === "fixedDelay" ? milliseconds(delay.value, 0) : "header",
    },
    abort: abort && {
      share: percentOf(fault.abort?.percentage) ?? 0,
      ...(abort.$case === "httpStatus"
        ? { status: abort.value }
        : abort.$case === "grpcStatus"
          ? { grpcStatus: abort.value }
          : { header: true }),
    },
    cluster: fault.upstreamCluster,
    headers: fault.headers.map((matcher) => ({
      name: matcher.name.toLowerCase(),
      test: compileHeaderMatcher(matcher),
    })),
    maxActive: fault.maxActiveFaults ?? Number.POSITIVE_INFINITY,
  };
}

export class FaultFilter implements HttpFilter {
  readonly name: string;
  readonly #world: World;
  readonly #own: FaultSettings;
  readonly #aborted: Counter;
  readonly #delayed: Counter;
  readonly #overflow: Counter;
  readonly #activeGauge: Gauge;
  #active = 0;

  constructor(name: string, own: FaultSettings, world: World, stats: StatsScope) {
    this.#aborted = stats.counter("fault.aborts_injected");
    this.#delayed = stats.counter("fault.delays_injected");
    this.#overflow = stats.counter("fault.faults_overflow");
    this.#activeGauge = stats.gauge("fault.active_faults");
    this.name = name;
    this.#own = own;
    this.#world = world;
  }

  request(request: FilteredRequest): boolean {
    const fault = request.setting(this.name)?.fault ?? this.#own;
    if (!fault.delay && !fault.abort) return true;
    if (fault.cluster && fault.cluster !== request.destination()) return true;
    for (const { name, test } of fault.headers) if (!test(headerOf(request.head, name))) return true;
    const delay = this.#delay(fault, request);
    if (delay === undefined || this.#full(fault)) return this.#abort(fault, request);
    this.#delayed.inc();
    this.#activeGauge.set(++this.#active);
    request.addFlag("DI");
    const timer = request.after(delay, () => {
      request.notes.delete(this);
      this.#activeGauge.set(--this.#active);
      if (this.#abort(fault, request)) request.resume();
    });
    request.notes.set(this, timer);
    return false;
  }

  #delay({ delay }: FaultSettings, { head }: FilteredRequest): number | undefined {
    if (!delay) return undefined;
    let { share } = delay;
    let duration: number;
    if (delay.milliseconds === "header") {
      const text = head.headers.get("x-envoy-fault-delay-request");
      if (text === undefined || !/^\d+$/.test(text)) return undefined;
      duration = Number(text);
      share = Math.min(share, headerShare(head.headers.get("x-envoy-fault-delay-request-percentage"), share));
    } else duration = delay.milliseconds;
    return this.#world.random() < share ? duration : undefined;
  }

  /** False when it answered. */
  #abort(fault: FaultSettings, request: FilteredRequest): boolean {
    const { abort } = fault;
    if (!abort) return true;
    const { headers } = request.head;
    let { status, grpcStatus, share } = abort;
    if (abort.header) {
      const http = headers.get("x-envoy-fault-abort-request");
      const grpc = headers.get("x-envoy-fault-abort-grpc-request");
      if (http !== undefined && /^[2-5]\d\d$/.test(http)) status = Number(http);
      else if (grpc !== undefined && /^\d+$/.test(grpc)) grpcStatus = Number(grpc);
      else return true;
      share = Math.min(share, headerShare(headers.get("x-envoy-fault-abort-request-percentage"), share));
    }
    if (this.#world.random() >= share || this.#full(fault)) return true;
    this.#aborted.inc();
    request.addFlag("FI");
    request.reply({
      // A gRPC status for who speaks plain HTTP is 200 with the text (Envoy).
      status: status ?? 200,
      body: "fault filter abort",
      details: "fault_filter_abort",
      ...(grpcStatus === undefined ? {} : { grpcStatus }),
    });
    return false;
  }

  /** So many are delayed already that there may be no more faults. */
  #full({ maxActive }: FaultSettings): boolean {
    if (this.#active < maxActive) return false;
    this.#overflow.inc();
    return true;
  }

  end(request: FilteredRequest): void {
    const timer = request.notes.get(this) as Timer | undefined;
    if (!timer) return;
    timer.cancel();
    this.#activeGauge.set(--this.#active);
  }
}

function headerShare(text: string | undefined, otherwise: number): number {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) / 100 : otherwise;
}
