import type { Counter, Gauge, Histogram, Host, StatsScope, UpstreamCluster } from "../contract.ts";
import { httpStatusOf } from "./grpc.ts";
import type { Headers } from "./headers.ts";

/** A cluster's statistics of requests, found once. */
export interface ClusterCounters {
  total: Counter;
  active: Gauge;
  time: Histogram;
  /** Requests that had to wait for a connection. */
  pendingTotal: Counter;
  pendingActive: Gauge;
  /** Those whose connection did not come about. */
  pendingFailed: Counter;
  /** Those that were given up while they waited. */
  cancelled: Counter;
  retry: Counter;
  retryBackoff: Counter;
  retryLimit: Counter;
  retrySuccess: Counter;
  /** Requests whose body was too long to be tried again. */
  abandoned: Counter;
  /** Streams of HTTP/2 that the host, or we, broke off. */
  rxReset: Counter;
  txReset: Counter;
  cxHttp1: Counter;
  cxHttp2: Counter;
  cxProtocolError: Counter;
  cxReceived: Counter;
  cxSent: Counter;
  timeout: Counter;
  perTryTimeout: Counter;
  /** Counts an answer to a client, the proxy's own among them. */
  status(code: number): void;
  /** Counts an answer that was not passed on, for the request was tried again. */
  retried(code: number): void;
}

const known = new WeakMap<UpstreamCluster, ClusterCounters>();

export function clusterCounters(cluster: UpstreamCluster): ClusterCounters {
  let counters = known.get(cluster);
  if (counters) return counters;
  const { stats } = cluster;
  counters = {
    total: stats.counter("upstream_rq_total"),
    active: stats.gauge("upstream_rq_active"),
    time: stats.histogram("upstream_rq_time"),
    pendingTotal: stats.counter("upstream_rq_pending_total"),
    pendingActive: stats.gauge("upstream_rq_pending_active"),
    pendingFailed: stats.counter("upstream_rq_pending_failure_eject"),
    cancelled: stats.counter("upstream_rq_cancelled"),
    retry: stats.counter("upstream_rq_retry"),
    retryBackoff: stats.counter("upstream_rq_retry_backoff_exponential"),
    retryLimit: stats.counter("upstream_rq_retry_limit_exceeded"),
    retrySuccess: stats.counter("upstream_rq_retry_success"),
    abandoned: stats.counter("retry_or_shadow_abandoned"),
    rxReset: stats.counter("upstream_rq_rx_reset"),
    txReset: stats.counter("upstream_rq_tx_reset"),
    cxHttp1: stats.counter("upstream_cx_http1_total"),
    cxHttp2: stats.counter("upstream_cx_http2_total"),
    cxProtocolError: stats.counter("upstream_cx_protocol_error"),
    cxReceived: stats.counter("upstream_cx_rx_bytes_total"),
    cxSent: stats.counter("upstream_cx_tx_bytes_total"),
    timeout: stats.counter("upstream_rq_timeout"),
    perTryTimeout: stats.counter("upstream_rq_per_try_timeout"),
    status: byCode(stats, ""),
    retried: byCode(stats, "retry."),
  };
  known.set(cluster, counters);
  return counters;
}

function byCode(stats: StatsScope, prefix: string): (code: number) => void {
  let completed: Counter | undefined;
  const classes: (Counter | undefined)[] = [];
  const codes: (Counter | undefined)[] = [];
  return (code) => {
    completed ??= stats.counter(`${prefix}upstream_rq_completed`);
    completed.inc();
    if (code < 100 || code > 599) {
      stats.counter(`${prefix}upstream_rq_unknown`).inc();
      return;
    }
    const family = Math.floor(code / 100);
    classes[family] ??= stats.counter(`${prefix}upstream_rq_${family}xx`);
    classes[family].inc();
    codes[code] ??= stats.counter(`${prefix}upstream_rq_${code}`);
    codes[code].inc();
  };
}

/** Counts a request that is sent to a host. */
export function countTry(counters: ClusterCounters, host: Host): void {
  host.activeRequests++;
  host.counters.rqTotal++;
  counters.total.inc();
  counters.active.inc();
}

/** Counts an answer for its host. A gRPC call that fails at once counts as what its status maps to. */
export function countAnswer(host: Host, grpc: boolean, status: number, headers: Headers, end: boolean): void {
  const grpcStatus = grpc && end ? headers.get("grpc-status") : undefined;
  const counted = grpcStatus === undefined ? status : httpStatusOf(Number(grpcStatus));
  host.reportStatus(counted);
  if (counted >= 500) host.counters.rqError++;
  else host.counters.rqSuccess++;
}
