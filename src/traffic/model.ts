/**
 * The routing model: what proxies are to do, in Weft's own words. `traffic/` derives it from the objects that people
 * write, `xds/` turns it into Envoy's. Values are immutable and shared: what did not change is the same object, so it
 * is encoded once. Every part knows its `origins`: which field of which object made it.
 */

/** The field of an object that something was made from; `weft why` and `weft proxy-config` show it. */
export interface Origin {
  kind: string;
  namespace: string;
  name: string;
  /** `spec.http[0].route[1]`; empty for the object as a whole. */
  field: string;
}

/** A proxy as it introduces itself when it connects (the xDS node). */
export interface Proxy {
  /** The node id: `sidecar~10.10.0.7~catalog-v1-x.coolapp~coolapp.svc.cluster.local`, as Istio writes it. */
  id: string;
  type: "sidecar" | "gateway";
  /** `sidecar` and `gateway` read their Service, Gateways and policies by these. */
  namespace: string;
  labels: Readonly<Record<string, string>>;
  addresses: readonly string[];
  serviceAccount: string;
  cluster: string;
  locality: Locality;
}

export interface Locality {
  region: string;
  zone: string;
}

/**
 * What one kind of proxy gets. A proxy has one or more scopes (`outbound/coolapp`, `inbound/coolapp/<workload>`,
 * `gateway/istio-system/<labels>`); proxies of one scope share its configuration, and all scopes share the parts.
 */
export interface ScopeConfig {
  scope: string;
  listeners: ReadonlyMap<string, Listener>;
  routes: ReadonlyMap<string, RouteTable>;
  upstreams: ReadonlyMap<string, Upstream>;
  /** Names of the TLS secrets (gateways' credentials) that the listeners and upstreams use. */
  secrets: ReadonlySet<string>;
}

// ---------------------------------------------------------------------------------------------- listeners

export interface Listener {
  /** `virtualOutbound`, `virtualInbound`, `0.0.0.0_8080`, `10.11.0.9_5432`. */
  name: string;
  direction: "outbound" | "inbound" | "gateway";
  address: string;
  port: number;
  /** False: never bound; it takes connections that `virtualOutbound` hands on by their original destination. */
  bind: boolean;
  /** Connections are redirected here: what counts is where they were going (SO_ORIGINAL_DST). */
  redirected: boolean;
  /** What to look at before a chain is chosen: TLS ClientHello (SNI, ALPN), or the first bytes for HTTP. */
  inspect: readonly ("tls" | "http")[];
  /** How long to wait for first bytes before going on without them, ms. Servers may speak first. */
  inspectTimeout: number;
  chains: readonly FilterChain[];
  /** For connections that match no chain; none: they are closed. */
  fallback?: FilterChain;
  origins: readonly Origin[];
}

export interface FilterChain {
  name: string;
  match: ChainMatch;
  /** Terminates TLS; absent: plain, or passed through as it is. */
  tls?: DownstreamTls;
  authorization: readonly Authorization[];
  handler: HttpHandler | TcpHandler;
  /**
   * What connections from this chain to mesh TLS upstreams offer as ALPN, instead of the upstream's own: on ports whose
   * protocol is found out by looking, one upstream carries HTTP/1, HTTP/2 and TCP, and the other side tells them apart
   * by this. Envoy: network filter set_filter_state with the key `envoy.network.application_protocols`.
   */
  upstreamAlpn?: readonly string[];
  origins: readonly Origin[];
}

/** All that is given must hold; as Envoy's FilterChainMatch, the most specific chain wins. */
export interface ChainMatch {
  destinationPort?: number;
  /** `10.11.0.9/32`. */
  destinations?: readonly string[];
  /** SNI; `*.example.com` matches below. */
  serverNames?: readonly string[];
  transport?: "tls" | "raw_buffer";
  /** ALPN, or what the HTTP inspector found: `http/1.1`, `h2c`; `istio`, `istio-peer-exchange` between sidecars. */
  applicationProtocols?: readonly string[];
}

export interface DownstreamTls {
  /** Our own identity (`default`), or a credential by name. */
  certificate: "identity" | { secret: string };
  /** The client's certificate: not asked for, taken where it comes, or required. */
  client: "none" | "optional" | "required";
  /** Who checks it: the mesh's trust bundles, or the credential's CA. */
  trust: "mesh" | { secret: string };
  /** One of these must be in the client's certificate; none: any will do. */
  subjectAltNames?: readonly string[];
  minimum?: "1.2" | "1.3";
  maximum?: "1.2" | "1.3";
  ciphers?: readonly string[];
  alpn: readonly string[];
}

export interface HttpHandler {
  kind: "http";
  /** The name of a route table, or the table itself (inbound). */
  routes: string | RouteTable;
  statPrefix: string;
  /** What goes into x-forwarded-client-cert: `sanitize` at gateways, `append` behind mTLS. */
  clientCertificate: "sanitize" | "append-forward" | "sanitize-set" | "forward-only" | "always-forward-only";
  /** Trust x-forwarded-for of the peer before us: hops, 0 none. */
  useRemoteAddress: boolean;
  trustedHops: number;
  websocket: boolean;
  rateLimits: readonly LocalRateLimit[];
  accessLog: boolean;
  /** In Envoy's words; absent: Istio's default. */
  accessLogFormat?: string;
  /** Share of requests that are traced when nobody decided before, in percent. */
  traceSampling: number;
}

export interface TcpHandler {
  kind: "tcp";
  statPrefix: string;
  clusters: readonly WeightedUpstream[];
  /** Close when nothing flows for this long, ms; 0 never. */
  idleTimeout: number;
  accessLog: boolean;
  /** In Envoy's words; absent: Istio's default. */
  accessLogFormat?: string;
}

// ------------------------------------------------------------------------------------------------- routes

export interface RouteTable {
  /** The port (`8080`) for sidecars, `http.8080` for gateways. */
  name: string;
  virtualHosts: readonly VirtualHost[];
  /** Hosts that match none: passed through as they are, or refused with 502. */
  unknown: "passthrough" | "block" | "not-found";
  /** Of the handler that it is for: what they tell requests apart by is read from routes. */
  rateLimits?: readonly LocalRateLimit[];
}

export interface VirtualHost {
  /** `catalog.coolapp.svc.cluster.local:8080`. */
  name: string;
  /** As Envoy's: exact, `*.suffix`, `prefix.*`, `*`. */
  domains: readonly string[];
  routes: readonly Route[];
  /** Plain requests are sent to https. */
  requireTls: boolean;
  origins: readonly Origin[];
}

export interface Route {
  name: string;
  match: RouteMatch;
  action: Forward | Redirect | DirectResponse;
  requestHeaders: HeaderChanges;
  responseHeaders: HeaderChanges;
  fault?: Fault;
  cors?: Cors;
  rateLimits: readonly LocalRateLimit[];
  origins: readonly Origin[];
}

export type StringMatch =
  | { kind: "exact" | "prefix" | "suffix" | "contains"; value: string; ignoreCase?: boolean }
  /** RE2 syntax, the whole text. */
  | { kind: "regex"; value: string; ignoreCase?: boolean }
  | { kind: "present" };

export interface RouteMatch {
  path: StringMatch | { kind: "path-prefix"; value: string };
  headers: readonly NamedMatch[];
  query: readonly NamedMatch[];
}

/** Of a header (`:method`, `:authority` and `:scheme` among them) or a query parameter. */
export interface NamedMatch {
  name: string;
  match: StringMatch;
  /** The route matches when this does not. */
  invert: boolean;
}

export interface Forward {
  kind: "forward";
  clusters: readonly WeightedUpstream[];
  /** ms, over all tries; 0 none. */
  timeout: number;
  /** Close streams idle for this long, ms; absent: the handler's. */
  idleTimeout?: number;
  retries?: Retries;
  rewrite?: {
    path?: { prefix: string } | { full: string } | { regex: string; substitution: string };
    authority?: string;
  };
  mirrors: readonly { upstream: string; percent: number }[];
  /** What the hash balancers hash, in this order. */
  hash: readonly HashPolicy[];
}

export interface WeightedUpstream {
  upstream: string;
  weight: number;
  requestHeaders: HeaderChanges;
  responseHeaders: HeaderChanges;
}

export interface HeaderChanges {
  set: readonly (readonly [name: string, value: string])[];
  add: readonly (readonly [name: string, value: string])[];
  remove: readonly string[];
}

export interface Retries {
  attempts: number;
  /** ms per try; 0: the route's timeout alone. */
  perTryTimeout: number;
  /** Envoy's words: `connect-failure`, `refused-stream`, `unavailable`, `cancelled`, `retriable-status-codes`, `5xx` … */
  on: readonly string[];
  statusCodes: readonly number[];
  backoff: { base: number; max: number };
  /** Choose another host than those that failed. */
  avoidPrevious: boolean;
  hostSelectionAttempts: number;
  /** After two failures look in other localities (priorities) than those. */
  otherLocalities?: boolean;
}

export interface Redirect {
  kind: "redirect";
  status: number;
  scheme?: string;
  authority?: string;
  port?: number;
  path?: { full: string } | { prefix: string };
}

export interface DirectResponse {
  kind: "respond";
  status: number;
  body?: string;
}

export interface Fault {
  delay?: { percent: number; milliseconds: number };
  abort?: { percent: number; status: number } | { percent: number; grpcStatus: number };
}

export interface Cors {
  origins: readonly StringMatch[];
  methods: readonly string[];
  headers: readonly string[];
  exposed: readonly string[];
  /** Seconds. */
  maxAge?: number;
  credentials?: boolean;
  forwardUnmatchedPreflights: boolean;
}

export type HashPolicy =
  | { kind: "header" | "query"; name: string }
  | { kind: "cookie"; name: string; path: string; ttl?: number }
  | { kind: "source-ip" };

/** A token bucket at each proxy. Answers 429 with Retry-After when empty. */
export interface LocalRateLimit {
  name: string;
  /** The bucket's size. */
  tokens: number;
  /** The requests that it is for; absent: all. */
  match?: RouteMatch;
  /** Tokens added per interval, and the interval, ms. */
  fill: number;
  interval: number;
  /** A bucket for each value of this (and one for requests that have none), or one for all. */
  per?: { kind: "header"; name: string } | { kind: "client-identity" };
  origins: readonly Origin[];
}

// ---------------------------------------------------------------------------------------------- upstreams

export interface Upstream {
  /** `outbound|8080|version-v1|catalog.coolapp.svc.cluster.local`, `inbound|8080||`, `PassthroughCluster` … */
  name: string;
  /** The host and port that clients call; empty for what is no service. */
  host: string;
  /** The service as metrics name it (Istio's metadata `istio.services`); absent for what is no service. */
  service?: { host: string; name: string; namespace: string };
  port: number;
  subset: string;
  /** The protocol spoken to the endpoints: `auto` is what the client spoke. */
  protocol: "http1" | "http2" | "auto" | "tcp";
  discovery: "endpoints" | "strict-dns" | "logical-dns" | "original-destination" | "static" | "none";
  /**
   * For discovery `endpoints`: the row of `Traffic.endpoints` (EDS service name). It is `name`, unless clients of some
   * namespace see another DestinationRule with other labels under the same subset's name.
   */
  endpointsName: string;
  /** For `original-destination`: the port, where it is not the one that the connection was going to. */
  originalPort?: number;
  /** For `strict-dns`, `logical-dns` and `static`; those of `endpoints` come by themselves. */
  endpoints: readonly Endpoint[];
  balancer: Balancer;
  /** How the client's own locality orders the endpoints: see `localityFor`. */
  locality?: LocalityPolicy;
  /** New endpoints get their share little by little (Envoy's slow start). */
  warmup?: { milliseconds: number; minimumPercent: number; aggression: number };
  connections: ConnectionLimits;
  outliers?: OutlierDetection;
  tls: UpstreamTls;
  origins: readonly Origin[];
}

export type Balancer =
  | { kind: "round-robin" | "random" | "passthrough" }
  | { kind: "least-request"; choices: number }
  | { kind: "ring-hash"; minimumRingSize: number }
  | { kind: "maglev"; tableSize: number };

/** `localityLbSetting` with what it needs besides (Istio `networking/v1/destination_rule.proto`). */
export interface LocalityPolicy {
  /** Endpoints near the client come first, others when those fail. Only where outliers are looked for. */
  failover: boolean;
  /** Region → the region to go to before all others. */
  regions: readonly { from: string; to: string }[];
  /** Labels whose values, compared in this order, say how near an endpoint is. */
  priorityLabels: readonly string[];
  /** `region/zone/*` → shares in percent. Takes the place of failover. */
  distribute: readonly { from: string; to: Readonly<Record<string, number>> }[];
}

export interface ConnectionLimits {
  /** ms. */
  connectTimeout: number;
  maxConnections: number;
  maxPendingRequests: number;
  maxRequests: number;
  maxRetries: number;
  /** 0: as many as come. */
  maxRequestsPerConnection: number;
  /** ms; an idle connection of the pool is closed. */
  idleTimeout: number;
  maxConcurrentStreams?: number;
  keepalive?: { probes?: number; time?: number; interval?: number };
}

export interface OutlierDetection {
  consecutive5xx: number;
  /** 0: not looked at. */
  consecutiveGatewayErrors: number;
  consecutiveLocalErrors: number;
  splitLocalErrors: boolean;
  /** ms. */
  interval: number;
  baseEjection: number;
  maxEjectionPercent: number;
  minHealthPercent: number;
}

export type UpstreamTls =
  | { mode: "none" }
  /** mTLS with our identity where the endpoint has a sidecar (`auto`), or always. */
  | { mode: "mesh"; auto: boolean; sni: string; identities: readonly string[]; alpn: readonly string[] }
  | {
      mode: "simple" | "mutual";
      sni: string;
      secret?: string;
      /** Files in the proxy's container. */
      certificate?: string;
      key?: string;
      ca?: string;
      /** Certificates that are revoked (CRL). */
      crl?: string;
      subjectAltNames: readonly string[];
      insecure: boolean;
    };

/** The endpoints of one upstream (EDS). */
export interface UpstreamEndpoints {
  /** The upstream's name. */
  name: string;
  localities: readonly LocalityEndpoints[];
}

export interface LocalityEndpoints extends Locality {
  /** 0 is first; a client's own locality may change it (see `localityFor`). */
  priority: number;
  weight: number;
  endpoints: readonly Endpoint[];
}

export interface Endpoint {
  /** An address, or a name for DNS. */
  address: string;
  port: number;
  weight: number;
  healthy: boolean;
  draining: boolean;
  /** It has a sidecar that speaks the mesh's mTLS. */
  meshTls: boolean;
  /** Who it is, for metrics: the workload, its namespace, its canonical service and revision, its cluster. */
  workload: { name: string; namespace: string; service: string; revision: string; cluster: string };
  /** Where an upstream's `locality.priorityLabels` ask for them: the values of those labels. */
  labels?: Readonly<Record<string, string>>;
  hostname?: string;
}

// --------------------------------------------------------------------------------------------- security

/** AuthorizationPolicies of one action that apply to a workload; DENY before ALLOW (Istio's order). */
export interface Authorization {
  action: "deny" | "allow" | "audit";
  policies: readonly { name: string; rules: readonly AuthorizationRule[]; origins: readonly Origin[] }[];
}

/** Sources, operations and conditions: one of each list must match; an empty list matches all. */
export interface AuthorizationRule {
  from: readonly SourceMatch[];
  to: readonly OperationMatch[];
  when: readonly ConditionMatch[];
  /** This must hold besides: a gateway's hosts, on a listener that it shares with others. HTTP only. */
  within?: OperationMatch;
}

/** All that is given must match; of a list one entry; `not…` none. Values are exact, `prefix*`, `*suffix` or `*`. */
export interface SourceMatch {
  principals?: readonly string[];
  notPrincipals?: readonly string[];
  namespaces?: readonly string[];
  notNamespaces?: readonly string[];
  serviceAccounts?: readonly string[];
  notServiceAccounts?: readonly string[];
  ipBlocks?: readonly string[];
  notIpBlocks?: readonly string[];
  remoteIpBlocks?: readonly string[];
  notRemoteIpBlocks?: readonly string[];
  trustDomains?: readonly string[];
  notTrustDomains?: readonly string[];
}

export interface OperationMatch {
  hosts?: readonly string[];
  notHosts?: readonly string[];
  ports?: readonly string[];
  notPorts?: readonly string[];
  methods?: readonly string[];
  notMethods?: readonly string[];
  paths?: readonly string[];
  notPaths?: readonly string[];
}

export interface ConditionMatch {
  /** `request.headers[x]`, `source.ip`, `destination.port`, `connection.sni` … */
  key: string;
  values?: readonly string[];
  notValues?: readonly string[];
}

// ----------------------------------------------------------------------------------------------- messages

/** What is wrong with an object, or not served: a condition on it, a line of `weft analyze`. */
export interface Finding {
  code: string;
  level: "error" | "warning" | "info";
  origin: Origin;
  message: string;
}
