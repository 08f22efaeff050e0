/** Circuit breakers: how much may be under way to a cluster at once (Envoy's CircuitBreakers.Thresholds). */
import type {
  CircuitBreakers,
  CircuitBreakers_Thresholds,
} from "#protocols/envoy/config/cluster/v3/circuit_breaker.ts";
import { RoutingPriority } from "#protocols/envoy/config/core/v3/base.ts";
import type { ClusterLimits, Counter, Gauge, Limit, StatsScope } from "../contract.ts";

class ActiveLimit implements Limit {
  active = 0;
  readonly #most: () => number;
  readonly #overflow: () => Counter;
  #open: Gauge | undefined;

  constructor(most: () => number, overflow: () => Counter, open: Gauge | undefined) {
    this.#most = most;
    this.#overflow = overflow;
    this.#open = open;
  }

  get max(): number {
    return this.#most();
  }

  tryAcquire(): boolean {
    const most = this.#most();
    if (this.active >= most) {
      this.#overflow().inc();
      return false;
    }
    this.active++;
    if (this.#open && this.active >= most) this.#open.set(1);
    return true;
  }

  release(): void {
    this.active--;
    if (this.#open && this.active < this.#most()) this.#open.set(0);
  }
}

/** The limits of a cluster for both priorities; what is under way stays counted when the thresholds change. */
export class CircuitBreaking {
  readonly #thresholds: {
    default: CircuitBreakers_Thresholds | undefined;
    high: CircuitBreakers_Thresholds | undefined;
  } = { default: undefined, high: undefined };
  readonly default: ClusterLimits;
  readonly high: ClusterLimits;

  constructor(stats: StatsScope) {
    this.default = this.#limits("default", stats);
    this.high = this.#limits("high", stats);
  }

  configure(breakers: CircuitBreakers | undefined): void {
    const of = (priority: RoutingPriority) =>
      breakers?.thresholds.find((threshold) => threshold.priority === priority);
    this.#thresholds.default = of(RoutingPriority.DEFAULT);
    this.#thresholds.high = of(RoutingPriority.HIGH);
  }

  #limits(priority: "default" | "high", stats: StatsScope): ClusterLimits {
    const given = () => this.#thresholds[priority];
    const make = (most: () => number, overflow: string, open: string) =>
      new ActiveLimit(
        most,
        () => stats.counter(overflow),
        priority === "default" ? stats.gauge(`circuit_breakers.default.${open}`) : undefined,
      );
    const connections = make(() => given()?.maxConnections ?? 1024, "upstream_cx_overflow", "cx_open");
    const pendingRequests = make(
      () => given()?.maxPendingRequests ?? 1024,
      "upstream_rq_pending_overflow",
      "rq_pending_open",
    );
    const requests = make(() => given()?.maxRequests ?? 1024, "upstream_rq_active_overflow", "rq_open");
    const retries = make(
      () => {
        const budget = given()?.retryBudget;
        if (!budget) return given()?.maxRetries ?? 3;
        const share = budget.budgetPercent?.value ?? 20;
        const underWay = requests.active + pendingRequests.active;
        return Math.max(budget.minRetryConcurrency ?? 3, Math.floor((underWay * share) / 100));
      },
      "upstream_rq_retry_overflow",
      "rq_retry_open",
    );
    return { connections, pendingRequests, requests, retries };
  }
}
