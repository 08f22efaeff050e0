import type { Counter, Gauge, Histogram, Host, UpstreamCluster } from "../contract.ts";
import { httpStatusOf } from "./grpc.ts";
import type { Headers } from "./headers.ts";

/** A cluster's statistics of requests, found once. */
export interface ClusterCounters {
  total: Counter;
  active: Gauge;
  time: Histogram;
  none: Counter;
  pendingOverflow: Counter;
  retry: Counter;
  retryLimit: Counter;
  retryOverflow: Counter;
  timeout: Counter;
  perTryTimeout: Counter;
  /** Counts an answer. */
  status(code: number): void;
}

const known = new WeakMap<UpstreamCluster, ClusterCounters>();

export function clusterCounters(cluster: UpstreamCluster): ClusterCounters {
  let counters = known.get(cluster);
  if (counters) return counters;
  const { stats } = cluster;
  const completed = stats.counter("upstream_rq_completed");
  const classes: (Counter | undefined)[] = [];
  const codes: (Counter | undefined)[] = [];
  counters = {
    total: stats.counter("upstream_rq_total"),
    active: stats.gauge("upstream_rq_active"),
    time: stats.histogram("upstream_rq_time"),
    none: stats.counter("upstream_cx_none_healthy"),
    pendingOverflow: stats.counter("upstream_rq_pending_overflow"),
    retry: stats.counter("upstream_rq_retry"),
    retryLimit: stats.counter("upstream_rq_retry_limit_exceeded"),
    retryOverflow: stats.counter("upstream_rq_retry_overflow"),
    timeout: stats.counter("upstream_rq_timeout"),
    perTryTimeout: stats.counter("upstream_rq_per_try_timeout"),
    status(code) {
      completed.inc();
      const family = Math.floor(code / 100);
      classes[family] ??= stats.counter(`upstream_rq_${family}xx`);
      classes[family].inc();
      codes[code] ??= stats.counter(`upstream_rq_${code}`);
      codes[code].inc();
    },
  };
  known.set(cluster, counters);
  return counters;
}

/** Counts an answer for its cluster and its host. A gRPC call that fails at once counts as what its status maps to. */
export function countAnswer(
  counters: ClusterCounters,
  host: Host,
  grpc: boolean,
  status: number,
  headers: Headers,
  end: boolean,
): void {
  const grpcStatus = grpc && end ? headers.get("grpc-status") : undefined;
  const counted = grpcStatus === undefined ? status : httpStatusOf(Number(grpcStatus));
  host.reportStatus(counted);
  counters.status(status);
  if (counted >= 500) host.counters.rqError++;
  else host.counters.rqSuccess++;
}
