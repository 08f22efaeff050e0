/**
 * Outlier detection as Envoy's (source/common/upstream/outlier_detection_impl.cc): a host that fails in a row, or
 * far more than the others, is ejected for a while that grows with each time.
 */
import type { OutlierDetection } from "#protocols/envoy/config/cluster/v3/outlier_detection.ts";
import type { Timer, World } from "../../world/index.ts";
import type { StatsScope } from "../contract.ts";
import { milliseconds } from "../values.ts";

/** What is watched of one host. */
export interface OutlierHost {
  readonly outlier: HostMonitor;
  readonly removed: boolean;
}

/** One host's recent past. */
export class HostMonitor {
  consecutive5xx = 0;
  consecutiveGateway = 0;
  consecutiveLocal = 0;
  ejected = false;
  ejectedAt = 0;
  /** How often in a row; multiplies the time. */
  ejections = 0;
  /** The host's answers of this interval: all, and the good ones. */
  answers = 0;
  successes = 0;
}

interface Settings {
  consecutive5xx: number;
  consecutiveGateway: number;
  consecutiveLocal: number;
  enforce5xx: number;
  enforceGateway: number;
  enforceLocal: number;
  enforceSuccessRate: number;
  enforceFailurePercentage: number;
  successRate: { hosts: number; volume: number; factor: number };
  failurePercentage: { threshold: number; hosts: number; volume: number };
  split: boolean;
  interval: number;
  base: number;
  most: number;
  jitter: number;
  mostPercent: number;
  alwaysOne: boolean;
}

function settingsOf(config: OutlierDetection): Settings {
  const base = milliseconds(config.baseEjectionTime, 30_000);
  return {
    consecutive5xx: config.consecutive5xx ?? 5,
    consecutiveGateway: config.consecutiveGatewayFailure ?? 5,
    consecutiveLocal: config.consecutiveLocalOriginFailure ?? 5,
    enforce5xx: config.enforcingConsecutive5xx ?? 100,
    enforceGateway: config.enforcingConsecutiveGatewayFailure ?? 0,
    enforceLocal: config.enforcingConsecutiveLocalOriginFailure ?? 100,
    enforceSuccessRate: config.enforcingSuccessRate ?? 100,
    enforceFailurePercentage: config.enforcingFailurePercentage ?? 0,
    successRate: {
      hosts: config.successRateMinimumHosts ?? 5,
      volume: config.successRateRequestVolume ?? 100,
      factor: (config.successRateStdevFactor ?? 1900) / 1000,
    },
    failurePercentage: {
      threshold: config.failurePercentageThreshold ?? 85,
      hosts: config.failurePercentageMinimumHosts ?? 5,
      volume: config.failurePercentageRequestVolume ?? 50,
    },
    split: config.splitExternalLocalOriginErrors,
    interval: milliseconds(config.interval, 10_000),
    base,
    most: Math.max(base, milliseconds(config.maxEjectionTime, 300_000)),
    jitter: milliseconds(config.maxEjectionTimeJitter, 0),
    mostPercent: Math.min(100, config.maxEjectionPercent ?? 10),
    alwaysOne: config.alwaysEjectOneHost ?? false,
  };
}

/** Watches the hosts of one cluster. `changed` is called when a host is ejected or comes back. */
export class OutlierDetector<H extends OutlierHost> {
  readonly #world: World;
  readonly #hosts: () => readonly H[];
  readonly #changed: () => void;
  readonly #stats: StatsScope;
  #settings: Settings;
  #timer: Timer | undefined;
  #ejected = 0;

  constructor(options: {
    world: World;
    config: OutlierDetection;
    hosts: () => readonly H[];
    stats: StatsScope;
    changed: () => void;
  }) {
    this.#world = options.world;
    this.#hosts = options.hosts;
    this.#changed = options.changed;
    this.#stats = options.stats;
    this.#settings = settingsOf(options.config);
    this.#arm();
  }

  configure(config: OutlierDetection): void {
    this.#settings = settingsOf(config);
    this.#arm();
  }

  /** Stops watching; whoever is ejected comes back. */
  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    let any = false;
    for (const { outlier } of this.#hosts()) {
      any ||= outlier.ejected;
      outlier.ejected = false;
    }
    this.#ejected = 0;
    if (any) this.#changed();
  }

  /** A host went away: it does not count among the ejected any more. */
  forget(host: H): void {
    if (host.outlier.ejected) {
      host.outlier.ejected = false;
      this.#ejected--;
      this.#stats.gauge("outlier_detection.ejections_active").dec();
    }
  }

  /** An answer, or what counts as one. */
  status(host: H, status: number): void {
    const { outlier } = host;
    outlier.answers++;
    if (status < 500) {
      outlier.successes++;
      outlier.consecutive5xx = 0;
      outlier.consecutiveGateway = 0;
      return;
    }
    if (status >= 502 && status <= 504) {
      if (++outlier.consecutiveGateway === this.#settings.consecutiveGateway) {
        this.#judge(host, "consecutive_gateway_failure", this.#settings.enforceGateway);
        outlier.consecutiveGateway = 0;
      }
    } else outlier.consecutiveGateway = 0;
    if (++outlier.consecutive5xx === this.#settings.consecutive5xx) {
      this.#judge(host, "consecutive_5xx", this.#settings.enforce5xx);
      outlier.consecutive5xx = 0;
    }
  }

  /** What happened on our side: connects that fail or are too slow, resets. Success: connected (TCP), or answered. */
  local(host: H, result: "success" | "connect-failed" | "timeout" | "reset"): void {
    if (!this.#settings.split) {
      // Without the split they count as answers: 503, or 504 for a timeout; a mere connect is no answer.
      if (result !== "success") this.status(host, result === "timeout" ? 504 : 503);
      return;
    }
    const { outlier } = host;
    if (result === "success") {
      outlier.consecutiveLocal = 0;
    } else if (++outlier.consecutiveLocal === this.#settings.consecutiveLocal) {
      this.#judge(host, "consecutive_local_origin_failure", this.#settings.enforceLocal);
      outlier.consecutiveLocal = 0;
    }
  }

  #judge(host: H, why: string, enforce: number): void {
    this.#stats.counter(`outlier_detection.ejections_detected_${why}`).inc();
    if (host.outlier.ejected) return;
    if (this.#world.random() * 100 >= enforce) return;
    // With it they must not be too many, though one may be let pass.
    const share = (100 * (this.#ejected + 1)) / this.#hosts().length;
    if (share > this.#settings.mostPercent && !(this.#settings.alwaysOne && this.#ejected === 0)) {
      this.#stats.counter("outlier_detection.ejections_overflow").inc();
      return;
    }
    const { outlier } = host;
    outlier.ejected = true;
    outlier.ejectedAt = this.#world.monotonic();
    outlier.ejections++;
    this.#ejected++;
    this.#stats.counter(`outlier_detection.ejections_enforced_${why}`).inc();
    this.#stats.counter("outlier_detection.ejections_enforced_total").inc();
    this.#stats.gauge("outlier_detection.ejections_active").inc();
    this.#changed();
  }

  #arm(): void {
    this.#timer?.cancel();
    this.#timer = this.#world.after(this.#settings.interval, () => {
      this.#sweep();
      this.#arm();
    });
  }

  /** Every interval: who has been away long enough comes back; rates are compared and start anew. */
  #sweep(): void {
    const { base, most, jitter } = this.#settings;
    const now = this.#world.monotonic();
    let changed = false;
    for (const host of this.#hosts()) {
      const { outlier } = host;
      if (outlier.ejected) {
        const away = Math.min(base * outlier.ejections, most) + (jitter ? this.#world.random() * jitter : 0);
        if (now - outlier.ejectedAt >= away) {
          outlier.ejected = false;
          outlier.consecutive5xx = 0;
          outlier.consecutiveGateway = 0;
          outlier.consecutiveLocal = 0;
          this.#ejected--;
          this.#stats.gauge("outlier_detection.ejections_active").dec();
          changed = true;
        }
      } else if (outlier.ejections > 0) {
        // Each quiet interval takes one back.
        outlier.ejections--;
      }
    }
    this.#compareRates();
    for (const { outlier } of this.#hosts()) {
      outlier.answers = 0;
      outlier.successes = 0;
    }
    if (changed) this.#changed();
  }

  #compareRates(): void {
    const { successRate, failurePercentage, enforceSuccessRate, enforceFailurePercentage } = this.#settings;
    const rates = (volume: number) =>
      this.#hosts()
        .filter(({ outlier }) => !outlier.ejected && outlier.answers >= Math.max(1, volume))
        .map((host) => ({ host, rate: (100 * host.outlier.successes) / host.outlier.answers }));
    const busy = rates(successRate.volume);
    if (busy.length >= successRate.hosts && busy.length > 0) {
      const mean = busy.reduce((sum, { rate }) => sum + rate, 0) / busy.length;
      const variance = busy.reduce((sum, { rate }) => sum + (rate - mean) ** 2, 0) / busy.length;
      const threshold = mean - successRate.factor * Math.sqrt(variance);
      for (const { host, rate } of busy)
        if (rate < threshold) this.#judge(host, "success_rate", enforceSuccessRate);
    }
    if (enforceFailurePercentage > 0) {
      const judged = rates(failurePercentage.volume);
      if (judged.length < failurePercentage.hosts) return;
      for (const { host, rate } of judged) {
        if (100 - rate >= failurePercentage.threshold) {
          this.#judge(host, "failure_percentage", enforceFailurePercentage);
        }
      }
    }
  }
}
