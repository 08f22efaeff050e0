import type { Counter, Gauge, HandlerDeps, Histogram, StatsScope } from "../contract.ts";

/** A connection manager's statistics, `http.<stat_prefix>.`, under Envoy's names. */
export interface ManagerCounters {
  rqTotal: Counter;
  rqActive: Gauge;
  rqTime: Histogram;
  rqHttp1: Counter;
  rqHttp2: Counter;
  /** Requests that got a response, and of which class. */
  rqCompleted: Counter;
  /** From 1xx; nothing at 0. */
  rqClasses: readonly (Counter | undefined)[];
  rqRxReset: Counter;
  rqTxReset: Counter;
  rqIdleTimeout: Counter;
  rqTimeout: Counter;
  rqMaxDuration: Counter;
  rqUpgradeRefused: Counter;
  rqPathRefused: Counter;
  rqPathRedirected: Counter;
  rqResponseBeforeEnd: Counter;
  /** Of the router: what came to it, and what it sent nowhere. */
  routed: Counter;
  noRoute: Counter;
  noCluster: Counter;
  directResponse: Counter;
  cxTotal: Counter;
  cxActive: Gauge;
  cxDestroy: Counter;
  cxHttp1: Counter;
  cxHttp1Active: Gauge;
  cxHttp2: Counter;
  cxHttp2Active: Gauge;
  cxSsl: Counter;
  cxSslActive: Gauge;
  cxUpgrades: Counter;
  cxUpgradesActive: Gauge;
  cxMaxRequests: Counter;
  cxProtocolError: Counter;
  cxReceived: Counter;
  cxSent: Counter;
}

/** Where a connection manager and its filters count. */
export function managerScope({ stats }: HandlerDeps, statPrefix: string): StatsScope {
  return stats.scope(`http.${statPrefix}`, "http", { envoy_http_conn_manager_prefix: statPrefix });
}

export function managerCounters(stats: StatsScope): ManagerCounters {
  return {
    rqTotal: stats.counter("downstream_rq_total"),
    rqActive: stats.gauge("downstream_rq_active"),
    rqTime: stats.histogram("downstream_rq_time"),
    rqHttp1: stats.counter("downstream_rq_http1_total"),
    rqHttp2: stats.counter("downstream_rq_http2_total"),
    rqCompleted: stats.counter("downstream_rq_completed"),
    rqClasses: [0, 1, 2, 3, 4, 5].map((n) => (n > 0 ? stats.counter(`downstream_rq_${n}xx`) : undefined)),
    rqRxReset: stats.counter("downstream_rq_rx_reset"),
    rqTxReset: stats.counter("downstream_rq_tx_reset"),
    rqIdleTimeout: stats.counter("downstream_rq_idle_timeout"),
    rqTimeout: stats.counter("downstream_rq_timeout"),
    rqMaxDuration: stats.counter("downstream_rq_max_duration_reached"),
    rqUpgradeRefused: stats.counter("downstream_rq_ws_on_non_ws_route"),
    rqPathRefused: stats.counter("downstream_rq_failed_path_normalization"),
    rqPathRedirected: stats.counter("downstream_rq_redirected_with_normalized_path"),
    rqResponseBeforeEnd: stats.counter("downstream_rq_response_before_rq_complete"),
    routed: stats.counter("rq_total"),
    noRoute: stats.counter("no_route"),
    noCluster: stats.counter("no_cluster"),
    directResponse: stats.counter("rq_direct_response"),
    cxTotal: stats.counter("downstream_cx_total"),
    cxActive: stats.gauge("downstream_cx_active"),
    cxDestroy: stats.counter("downstream_cx_destroy"),
    cxHttp1: stats.counter("downstream_cx_http1_total"),
    cxHttp1Active: stats.gauge("downstream_cx_http1_active"),
    cxHttp2: stats.counter("downstream_cx_http2_total"),
    cxHttp2Active: stats.gauge("downstream_cx_http2_active"),
    cxSsl: stats.counter("downstream_cx_ssl_total"),
    cxSslActive: stats.gauge("downstream_cx_ssl_active"),
    cxUpgrades: stats.counter("downstream_cx_upgrades_total"),
    cxUpgradesActive: stats.gauge("downstream_cx_upgrades_active"),
    cxMaxRequests: stats.counter("downstream_cx_max_requests_reached"),
    cxProtocolError: stats.counter("downstream_cx_protocol_error"),
    cxReceived: stats.counter("downstream_cx_rx_bytes_total"),
    cxSent: stats.counter("downstream_cx_tx_bytes_total"),
  };
}
