/** The tries of one request after its first. */
import type { Timer } from "../../world/index.ts";
import type { ClusterLimits, Host, TriedPriorities } from "../contract.ts";
import type { ClusterCounters } from "./cluster-counters.ts";
import type { Exchange } from "./exchange.ts";
import { backoff, type Retry } from "./retry-policy.ts";

export class Retries {
  readonly #policy: Retry;
  readonly #exchange: Exchange;
  readonly #limits: ClusterLimits;
  readonly #counters: ClusterCounters;
  readonly #begin: () => void;
  #holds = false;
  /** There was another try since this was last looked at. */
  #tried = false;
  #backoff: Timer | undefined;
  left: number;
  /** Where it failed. */
  readonly hosts: Host[] = [];
  readonly tried: TriedPriorities | undefined;

  /** `begin` begins another try; what it throws is the exchange's. */
  constructor(
    policy: Retry,
    exchange: Exchange,
    limits: ClusterLimits,
    counters: ClusterCounters,
    begin: () => void,
  ) {
    this.#policy = policy;
    this.#exchange = exchange;
    this.#limits = limits;
    this.#counters = counters;
    this.#begin = begin;
    if (policy.priorityUpdate > 0)
      this.tried = { every: policy.priorityUpdate, hosts: [], excluded: new Set() };
    // A connection that is to become another protocol's is not begun twice.
    this.left = exchange.upgrade === undefined ? policy.attempts : 0;
  }

  /** Begins the next try after a while; false when it may not be. `tries`: how many there were. */
  again(tries: number, host: Host | undefined): boolean {
    const exchange = this.#exchange;
    const policy = this.#policy;
    this.giveBack();
    this.#tried = false;
    const { requestHeaders } = policy;
    if (requestHeaders.length > 0 && !requestHeaders.some((test) => test(exchange.head))) return false;
    if (this.left === 0) {
      if (policy.attempts > 0 && tries > policy.attempts) exchange.addFlag("URX");
      this.#counters.retryLimit.inc();
      return false;
    }
    if (!this.#limits.retries.tryAcquire()) {
      exchange.addFlag("UO");
      return false;
    }
    this.#holds = true;
    this.#tried = true;
    this.left--;
    this.#counters.retry.inc();
    this.#counters.retryBackoff.inc();
    if (host) {
      this.hosts.push(host);
      this.tried?.hosts.push(host);
    }
    this.#backoff = exchange.after(backoff(policy, tries, exchange.manager.world), this.#begin);
    return true;
  }

  /** The last try ended in a way that is not to be tried again: whatever it was, for Envoy trying again helped. */
  isOver(): void {
    if (!this.#tried) return;
    this.#tried = false;
    this.#counters.retrySuccess.inc();
  }

  /** The try that was begun is over: its place among the cluster's retries is another's. */
  giveBack(): void {
    if (!this.#holds) return;
    this.#holds = false;
    this.#limits.retries.release();
  }

  stop(): void {
    this.#backoff?.cancel();
    this.giveBack();
  }
}
