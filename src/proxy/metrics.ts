/**
 * Who is at both ends of a connection, as Istio's standard metrics name it, and the metrics of TCP
 * (istio_tcp_connections_opened_total, …_closed_total, istio_tcp_sent_bytes_total, istio_tcp_received_bytes_total;
 * https://istio.io/latest/docs/reference/config/metrics/).
 */
import type {
  Counter,
  Downstream,
  HandlerDeps,
  Host,
  ProxyNode,
  TlsFacts,
  UpstreamCluster,
} from "./contract.ts";

/** A workload as metrics name it; `unknown` for what nobody said. */
export interface Workload {
  workload: string;
  namespace: string;
  canonicalService: string;
  canonicalRevision: string;
  app: string;
  version: string;
  cluster: string;
}

const unknown = "unknown";
export const unknownWorkload: Workload = {
  workload: unknown,
  namespace: unknown,
  canonicalService: unknown,
  canonicalRevision: "latest",
  app: unknown,
  version: unknown,
  cluster: unknown,
};

/** Ourselves, from the node's metadata. */
export function workloadOfNode({ metadata }: ProxyNode): Workload {
  const text = (value: unknown) => (typeof value === "string" && value !== "" ? value : undefined);
  const labels = (metadata.LABELS ?? {}) as Record<string, string>;
  const workload = text(metadata.WORKLOAD_NAME) ?? text(metadata.NAME) ?? unknown;
  const app = labels.app ?? labels["app.kubernetes.io/name"];
  const version = labels.version ?? labels["app.kubernetes.io/version"];
  return {
    workload,
    namespace: text(metadata.NAMESPACE) ?? unknown,
    canonicalService: labels["service.istio.io/canonical-name"] ?? app ?? workload,
    canonicalRevision: labels["service.istio.io/canonical-revision"] ?? version ?? "latest",
    app: app ?? unknown,
    version: version ?? unknown,
    cluster: text(metadata.CLUSTER_ID) ?? unknown,
  };
}

/** An endpoint, from its metadata `istio.workload`: `name;namespace;canonical service;revision;cluster`. */
export function workloadOfHost(host: Host): Workload {
  const packed: unknown = host.metadata?.filterMetadata.istio?.workload;
  if (typeof packed !== "string") return unknownWorkload;
  const [workload, namespace, canonicalService, canonicalRevision, cluster] = packed.split(";");
  return {
    workload: workload || unknown,
    namespace: namespace || unknown,
    canonicalService: canonicalService || unknown,
    canonicalRevision: canonicalRevision || "latest",
    app: canonicalService || unknown,
    version: canonicalRevision || unknown,
    cluster: cluster || unknown,
  };
}

/** The service behind a cluster, from its metadata `istio.services`. */
export function serviceOf(cluster: UpstreamCluster | undefined): {
  host: string;
  name: string;
  namespace: string;
} {
  const services: unknown = cluster?.metadata?.filterMetadata.istio?.services;
  const [first] = Array.isArray(services)
    ? (services as { host?: string; name?: string; namespace?: string }[])
    : [];
  if (first?.host)
    return { host: first.host, name: first.name ?? unknown, namespace: first.namespace ?? unknown };
  const plain = cluster?.name ?? unknown;
  return { host: plain, name: plain, namespace: unknown };
}

/** The labels `source_…` or `destination_…` of a workload, in Istio's order. */
export function workloadLabels(side: "source" | "destination", of: Workload, principal: string | undefined) {
  return {
    [`${side}_workload`]: of.workload,
    [`${side}_workload_namespace`]: of.namespace,
    [`${side}_principal`]: principal || unknown,
    [`${side}_app`]: of.app,
    [`${side}_version`]: of.version,
    [`${side}_canonical_service`]: of.canonicalService,
    [`${side}_canonical_revision`]: of.canonicalRevision,
    [`${side}_cluster`]: of.cluster,
  };
}

export interface TcpReport {
  /** `tls`: of the connection to it. */
  connected(host: Host, tls: TlsFacts | undefined): void;
  closed(summary: { received: number; sent: number; flags: readonly string[] }): void;
}

/** Reports of one chain's TCP connections. */
export class TcpMetrics {
  readonly #deps: HandlerDeps;
  readonly #self: Workload;
  /** Metrics by their labels: connections of the same ends share them. */
  readonly #known = new Map<string, { opened: Counter; closed: Counter; sent: Counter; received: Counter }>();

  constructor(deps: HandlerDeps) {
    this.#deps = deps;
    this.#self = workloadOfNode(deps.node);
  }

  opened(connection: Downstream): TcpReport {
    const inbound = this.#deps.direction === "inbound";
    // Once: at the end discovery may know another at this address, or nobody.
    const source = inbound ? this.#clientOf(connection, connection.tls?.peer?.uris[0]) : this.#self;
    let host: Host | undefined;
    let secured = inbound ? connection.tls : undefined;
    return {
      connected: (to, tls) => {
        host = to;
        if (!inbound) secured = tls;
        this.#metrics(source, host, secured, "-").opened.inc();
      },
      closed: ({ received, sent, flags }) => {
        const metrics = this.#metrics(source, host, secured, flags.join(",") || "-");
        if (!host) metrics.opened.inc();
        metrics.closed.inc();
        metrics.sent.inc(sent);
        metrics.received.inc(received);
      },
    };
  }

  /** `tls`: of the connection between the two sidecars. */
  #metrics(source: Workload, host: Host | undefined, tls: TlsFacts | undefined, flags: string) {
    const inbound = this.#deps.direction === "inbound";
    const peer = tls?.peer?.uris[0];
    const own = tls?.local?.uris[0];
    const key = `${peer ?? ""} ${own ?? ""} ${source.workload} ${host ? `${host.cluster.name} ${host.name}` : ""} ${flags}`;
    const known = this.#known.get(key);
    if (known) return known;
    const service = serviceOf(host?.cluster);
    const labels = {
      reporter: inbound ? "destination" : "source",
      ...workloadLabels("source", source, inbound ? peer : own),
      ...workloadLabels(
        "destination",
        inbound ? this.#self : host ? workloadOfHost(host) : unknownWorkload,
        inbound ? own : peer,
      ),
      destination_service: service.host,
      destination_service_name: service.name,
      destination_service_namespace: service.namespace,
      request_protocol: "tcp",
      response_flags: flags,
      connection_security_policy: inbound ? (peer ? "mutual_tls" : "none") : unknown,
    };
    const { stats } = this.#deps;
    const made = {
      opened: stats.counter("istio_tcp_connections_opened_total", labels),
      closed: stats.counter("istio_tcp_connections_closed_total", labels),
      sent: stats.counter("istio_tcp_sent_bytes_total", labels),
      received: stats.counter("istio_tcp_received_bytes_total", labels),
    };
    this.#known.set(key, made);
    return made;
  }

  /**
   * Who is at the other end of a connection that came in: what discovery says of the endpoint at its address, if its
   * certificate is of the same namespace; else what the certificate says. Istio's proxies tell each other within the
   * connection (ALPN `istio-peer-exchange`), which Envoy without Istio's filters does not do.
   */
  #clientOf(connection: Downstream, peer: string | undefined): Workload {
    const certified = ofPrincipal(peer);
    if (peer === undefined) return certified;
    const host = this.#deps.clusters.workloadAt(connection.remote.ip);
    const told = host && workloadOfHost(host);
    return told?.namespace === certified.namespace ? told : certified;
  }
}

/** All that a certificate says of a workload: its namespace and service account. */
function ofPrincipal(principal: string | undefined): Workload {
  const match = /^spiffe:\/\/[^/]+\/ns\/([^/]+)\/sa\//.exec(principal ?? "");
  return match ? { ...unknownWorkload, namespace: match[1]! } : unknownWorkload;
}
