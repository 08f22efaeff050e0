/**
 * Istio's standard metrics of requests: istio_requests_total, istio_request_duration_milliseconds, istio_request_bytes,
 * istio_response_bytes (https://istio.io/latest/docs/reference/config/metrics/). Labels are put together once for each
 * combination; counting a request finds them by a few comparisons.
 */
import type { Counter, HandlerDeps, Histogram, Host } from "../contract.ts";
import {
  serviceOf,
  unknownWorkload,
  type Workload,
  workloadLabels,
  workloadOfHost,
  workloadOfNode,
} from "../metrics.ts";
import type { Exchange } from "./exchange.ts";

interface Entry {
  status: number;
  flags: string;
  source: Workload;
  peer: string | undefined;
  grpcStatus: string | undefined;
  grpc: boolean;
  requests: Counter;
  duration: Histogram;
  received: Histogram;
  sent: Histogram;
}

/** The metrics of one destination: nearly always the last ones are wanted again. */
class Destination {
  last: Entry | undefined;
  readonly entries = new Map<string, Entry>();
}

/** Combinations of labels for one destination at most; what comes after is counted with the flags left out. */
const ENTRIES_AT_MOST = 2000;

export class Metrics {
  readonly #deps: HandlerDeps;
  readonly #self: Workload;
  readonly #inbound: boolean;
  readonly #hosts = new WeakMap<Host, Destination>();
  readonly #nowhere = new Destination();

  constructor(deps: HandlerDeps) {
    this.#deps = deps;
    this.#self = workloadOfNode(deps.node);
    this.#inbound = deps.direction === "inbound";
  }

  record(exchange: Exchange): void {
    const host = exchange.upstream?.host;
    let destination: Destination | undefined;
    if (!host) destination = this.#nowhere;
    else {
      destination = this.#hosts.get(host);
      if (!destination) {
        destination = new Destination();
        this.#hosts.set(host, destination);
      }
    }
    const status = exchange.responseCode;
    const { flags: list } = exchange;
    const flags = list.length === 0 ? "-" : list.join(",");
    const source = this.#inbound ? exchange.peer : this.#self;
    const peer = this.#inbound
      ? exchange.facts.downstream.tls?.peer?.uris[0]
      : exchange.upstream?.tls?.peer?.uris[0];
    const grpcStatus = exchange.grpc
      ? (exchange.responseTrailers?.get("grpc-status") ?? exchange.responseHeaders?.get("grpc-status"))
      : undefined;
    const { last } = destination;
    const entry =
      last &&
      last.status === status &&
      last.source === source &&
      last.flags === flags &&
      last.peer === peer &&
      last.grpc === exchange.grpc &&
      last.grpcStatus === grpcStatus
        ? last
        : this.#entry(destination, exchange, { status, flags, source, peer, grpcStatus });
    destination.last = entry;
    entry.requests.inc();
    entry.duration.record(exchange.duration);
    entry.received.record(exchange.wireBytesReceived);
    entry.sent.record(exchange.wireBytesSent);
  }

  #entry(
    destination: Destination,
    exchange: Exchange,
    found: Pick<Entry, "status" | "flags" | "source" | "peer" | "grpcStatus">,
  ): Entry {
    const { source, peer, grpcStatus } = found;
    const host = exchange.upstream?.host;
    const cluster = host?.cluster ?? this.#deps.clusters.get(exchange.destination());
    const service = cluster ? serviceOf(cluster) : { host: "unknown", name: "unknown", namespace: "unknown" };
    let { status, flags } = found;
    if (destination.entries.size >= ENTRIES_AT_MOST) {
      flags = "-";
      status = Math.floor(status / 100) * 100;
    }
    const key = [
      status,
      flags,
      source.workload,
      source.namespace,
      source.canonicalService,
      source.canonicalRevision,
      source.cluster,
      source.app,
      source.version,
      peer,
      exchange.grpc,
      grpcStatus,
      service.host,
    ].join("\0");
    const known = destination.entries.get(key);
    if (known) return known;
    const inbound = this.#inbound;
    const { downstream } = exchange.facts;
    const shown = inbound ? downstream.tls?.local?.uris[0] : exchange.upstream?.tls?.local?.uris[0];
    const labels = {
      reporter: inbound ? "destination" : "source",
      ...workloadLabels("source", source, inbound ? peer : shown),
      ...workloadLabels(
        "destination",
        inbound ? this.#self : host ? workloadOfHost(host) : unknownWorkload,
        inbound ? shown : peer,
      ),
      destination_service: service.host,
      destination_service_name: service.name,
      destination_service_namespace: service.namespace,
      request_protocol: exchange.grpc ? "grpc" : "http",
      response_code: String(status),
      ...(exchange.grpc ? { grpc_response_status: grpcStatus ?? "" } : {}),
      response_flags: flags,
      connection_security_policy: inbound ? (peer ? "mutual_tls" : "none") : "unknown",
    };
    const { stats } = this.#deps;
    const entry: Entry = {
      ...found,
      grpc: exchange.grpc,
      requests: stats.counter("istio_requests_total", labels),
      duration: stats.histogram("istio_request_duration_milliseconds", labels),
      received: stats.histogram("istio_request_bytes", labels),
      sent: stats.histogram("istio_response_bytes", labels),
    };
    destination.entries.set(key, entry);
    return entry;
  }
}
