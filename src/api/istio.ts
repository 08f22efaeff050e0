/**
 * networking.istio.io: the kinds that people write to route traffic, as istio/api v1.31 has them. Durations are
 * texts as Go prints them (`1.5s`, `2m`). Whoever reads may trust the definition's schema and nothing else: every
 * field may be absent. Versions v1, v1beta1 and v1alpha3 have one shape; we read and write v1.
 */
import { type Condition, type KubeObject, resource } from "./meta.ts";

/** Istio's common status (`meta/v1alpha1/status.proto`); conditions have no reason that must be there. */
export interface IstioStatus {
  conditions?: IstioCondition[];
  validationMessages?: ValidationMessage[];
  /** An integer; Istio prints int64 as text. */
  observedGeneration?: number | string;
}

export type IstioCondition = Pick<Condition, "type" | "status"> &
  Partial<Omit<Condition, "observedGeneration">> & {
    lastProbeTime?: string;
    observedGeneration?: number | string;
  };

/** `analysis/v1alpha1/message.proto`, AnalysisMessageBase. */
export interface ValidationMessage {
  type?: { name?: string; code?: string };
  level?: "UNKNOWN" | "ERROR" | "WARNING" | "INFO";
  documentationUrl?: string;
}

/** Pods of the object's own namespace; none given: all of them. */
export interface WorkloadSelector {
  labels?: Record<string, string>;
}

/** The same, as security.istio.io writes it. */
export interface PolicySelector {
  matchLabels?: Record<string, string>;
}

// ----------------------------------------------------------------------------------------- VirtualService

export interface VirtualService extends KubeObject {
  spec: VirtualServiceSpec;
  status?: IstioStatus;
}

export interface VirtualServiceSpec {
  hosts?: string[];
  /** `mesh` (the default) are the sidecars; others are `namespace/name` or `name`. */
  gateways?: string[];
  http?: HttpRoute[];
  tls?: TlsRoute[];
  tcp?: TcpRoute[];
  /** `.` this namespace, `*` all; or namespaces by name. */
  exportTo?: string[];
}

export interface HttpRoute {
  name?: string;
  match?: HttpMatchRequest[];
  route?: HttpRouteDestination[];
  redirect?: HttpRedirect;
  directResponse?: { status?: number; body?: { string?: string; bytes?: string } };
  delegate?: { name?: string; namespace?: string };
  rewrite?: {
    uri?: string;
    authority?: string;
    uriRegexRewrite?: { match?: string; rewrite?: string };
  };
  timeout?: string;
  retries?: HttpRetry;
  fault?: HttpFaultInjection;
  mirror?: Destination;
  mirrors?: { destination?: Destination; percentage?: Percent }[];
  /** Deprecated for `mirrorPercentage`. */
  mirrorPercent?: number;
  /** Another deprecated spelling, still in Istio's schema. */
  mirror_percent?: number;
  mirrorPercentage?: Percent;
  corsPolicy?: CorsPolicy;
  headers?: HeaderRules;
}

export interface HttpMatchRequest {
  name?: string;
  uri?: StringMatch;
  scheme?: StringMatch;
  method?: StringMatch;
  authority?: StringMatch;
  /** An empty match: the header is there. */
  headers?: Record<string, StringMatch>;
  withoutHeaders?: Record<string, StringMatch>;
  queryParams?: Record<string, StringMatch>;
  port?: number;
  sourceLabels?: Record<string, string>;
  sourceNamespace?: string;
  gateways?: string[];
  ignoreUriCase?: boolean;
  statPrefix?: string;
}

/** One of them. */
export interface StringMatch {
  exact?: string;
  prefix?: string;
  /** RE2, the whole text. */
  regex?: string;
}

export interface Destination {
  host?: string;
  subset?: string;
  port?: PortSelector;
}

export interface PortSelector {
  number?: number;
}

export interface HttpRouteDestination {
  destination?: Destination;
  weight?: number;
  headers?: HeaderRules;
}

export interface RouteDestination {
  destination?: Destination;
  weight?: number;
}

export interface HeaderRules {
  request?: HeaderOperations;
  response?: HeaderOperations;
}

export interface HeaderOperations {
  set?: Record<string, string>;
  add?: Record<string, string>;
  remove?: string[];
}

export interface HttpRedirect {
  uri?: string;
  authority?: string;
  port?: number;
  derivePort?: "FROM_PROTOCOL_DEFAULT" | "FROM_REQUEST_PORT";
  scheme?: string;
  /** 301 unless given. */
  redirectCode?: number;
  prefixRewrite?: string;
}

export interface HttpRetry {
  attempts?: number;
  perTryTimeout?: string;
  /** Comma-separated words of Envoy, and status codes. */
  retryOn?: string;
  retryRemoteLocalities?: boolean;
  retryIgnorePreviousHosts?: boolean;
  backoff?: string;
}

/** 0 to 100. */
export interface Percent {
  value?: number;
}

export interface HttpFaultInjection {
  delay?: {
    fixedDelay?: string;
    exponentialDelay?: string;
    /** Deprecated for `percentage`. */
    percent?: number;
    percentage?: Percent;
  };
  abort?: {
    httpStatus?: number;
    grpcStatus?: string;
    http2Error?: string;
    percentage?: Percent;
  };
}

export interface CorsPolicy {
  /** Deprecated for `allowOrigins`. */
  allowOrigin?: string[];
  allowOrigins?: StringMatch[];
  allowMethods?: string[];
  allowHeaders?: string[];
  exposeHeaders?: string[];
  maxAge?: string;
  allowCredentials?: boolean;
  unmatchedPreflights?: "UNSPECIFIED" | "FORWARD" | "IGNORE";
}

export interface TlsRoute {
  match?: TlsMatchAttributes[];
  route?: RouteDestination[];
}

export interface TlsMatchAttributes {
  sniHosts?: string[];
  destinationSubnets?: string[];
  port?: number;
  sourceLabels?: Record<string, string>;
  sourceNamespace?: string;
  gateways?: string[];
}

export interface TcpRoute {
  match?: L4MatchAttributes[];
  route?: RouteDestination[];
}

export interface L4MatchAttributes {
  destinationSubnets?: string[];
  port?: number;
  sourceSubnet?: string;
  sourceLabels?: Record<string, string>;
  sourceNamespace?: string;
  gateways?: string[];
}

// ---------------------------------------------------------------------------------------- DestinationRule

export interface DestinationRule extends KubeObject {
  spec: DestinationRuleSpec;
  status?: IstioStatus;
}

export interface DestinationRuleSpec {
  host?: string;
  trafficPolicy?: TrafficPolicy;
  subsets?: Subset[];
  exportTo?: string[];
  /** The clients that it is for. */
  workloadSelector?: PolicySelector;
}

export interface Subset {
  name?: string;
  labels?: Record<string, string>;
  trafficPolicy?: TrafficPolicy;
}

export interface PortTrafficPolicy {
  port?: PortSelector;
  loadBalancer?: LoadBalancerSettings;
  connectionPool?: ConnectionPoolSettings;
  outlierDetection?: OutlierDetectionSettings;
  tls?: ClientTlsSettings;
}

export interface TrafficPolicy {
  loadBalancer?: LoadBalancerSettings;
  connectionPool?: ConnectionPoolSettings;
  outlierDetection?: OutlierDetectionSettings;
  tls?: ClientTlsSettings;
  /** For one port they take the place of all the above. */
  portLevelSettings?: PortTrafficPolicy[];
  tunnel?: { protocol?: string; targetHost?: string; targetPort?: number };
  proxyProtocol?: { version?: "V1" | "V2" };
  retryBudget?: { percent?: number; minRetryConcurrency?: number; budgetInterval?: string };
}

export interface LoadBalancerSettings {
  simple?: "UNSPECIFIED" | "LEAST_CONN" | "RANDOM" | "PASSTHROUGH" | "ROUND_ROBIN" | "LEAST_REQUEST";
  consistentHash?: ConsistentHash;
  localityLbSetting?: LocalityLoadBalancerSetting;
  zoneAwareLbSetting?: {
    enabled?: boolean;
    failover?: { from?: string; to?: string }[];
    failoverPriority?: string[];
    minClusterSize?: number;
  };
  /** Deprecated for `warmup`. */
  warmupDurationSecs?: string;
  warmup?: { duration?: string; minimumPercent?: number; aggression?: number };
}

export interface ConsistentHash {
  httpHeaderName?: string;
  httpCookie?: {
    name?: string;
    path?: string;
    ttl?: string;
    attributes?: { name?: string; value?: string }[];
  };
  useSourceIp?: boolean;
  httpQueryParameterName?: string;
  ringHash?: { minimumRingSize?: number };
  maglev?: { tableSize?: number };
  /** Deprecated for `ringHash`. */
  minimumRingSize?: number;
}

export interface LocalityLoadBalancerSetting {
  /** `region/zone/*` → shares in percent that sum up to 100. */
  distribute?: { from?: string; to?: Record<string, number> }[];
  /** Region → region. */
  failover?: { from?: string; to?: string }[];
  failoverPriority?: string[];
  enabled?: boolean;
}

export interface ConnectionPoolSettings {
  tcp?: {
    maxConnections?: number;
    connectTimeout?: string;
    tcpKeepalive?: { probes?: number; time?: string; interval?: string };
    maxConnectionDuration?: string;
    idleTimeout?: string;
  };
  http?: {
    http1MaxPendingRequests?: number;
    http2MaxRequests?: number;
    maxRequestsPerConnection?: number;
    maxRetries?: number;
    idleTimeout?: string;
    h2UpgradePolicy?: "DEFAULT" | "DO_NOT_UPGRADE" | "UPGRADE";
    useClientProtocol?: boolean;
    maxConcurrentStreams?: number;
    http2KeepAlive?: { interval?: string; timeout?: string };
  };
}

export interface OutlierDetectionSettings {
  /** Deprecated for `consecutive5xxErrors`. */
  consecutiveErrors?: number;
  splitExternalLocalOriginErrors?: boolean;
  consecutiveLocalOriginFailures?: number;
  consecutiveGatewayErrors?: number;
  consecutive5xxErrors?: number;
  interval?: string;
  baseEjectionTime?: string;
  maxEjectionPercent?: number;
  minHealthPercent?: number;
  outlierDetectionHttpErrorCodes?: number[];
}

export interface ClientTlsSettings {
  mode?: "DISABLE" | "SIMPLE" | "MUTUAL" | "ISTIO_MUTUAL";
  /** Files in the proxy's container. */
  clientCertificate?: string;
  privateKey?: string;
  caCertificates?: string;
  /** A Secret instead of files. */
  credentialName?: string;
  subjectAltNames?: string[];
  sni?: string;
  insecureSkipVerify?: boolean;
  caCrl?: string;
}

// ------------------------------------------------------------------------------------------------ Gateway

export interface Gateway extends KubeObject {
  spec: GatewaySpec;
  status?: IstioStatus;
}

export interface GatewaySpec {
  servers?: GatewayServer[];
  /** Labels of the gateway's pods, in all namespaces of the mesh. */
  selector?: Record<string, string>;
}

export interface GatewayServer {
  port?: GatewayPort;
  bind?: string;
  /** `host` or `namespace/host`; `*` and `.` as namespace. */
  hosts?: string[];
  tls?: ServerTlsSettings;
  defaultEndpoint?: string;
  name?: string;
}

export interface GatewayPort {
  number?: number;
  /** HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, TCP, TLS. */
  protocol?: string;
  name?: string;
  /** Deprecated and without effect. */
  targetPort?: number;
}

export type TlsProtocol = "TLS_AUTO" | "TLSV1_0" | "TLSV1_1" | "TLSV1_2" | "TLSV1_3";

export interface ServerTlsSettings {
  httpsRedirect?: boolean;
  mode?: "PASSTHROUGH" | "SIMPLE" | "MUTUAL" | "AUTO_PASSTHROUGH" | "ISTIO_MUTUAL" | "OPTIONAL_MUTUAL";
  /** Files in the gateway's container. */
  serverCertificate?: string;
  privateKey?: string;
  caCertificates?: string;
  caCrl?: string;
  /** A Secret in the gateway's namespace. */
  credentialName?: string;
  credentialNames?: string[];
  caCertCredentialName?: string;
  tlsCertificates?: { serverCertificate?: string; privateKey?: string; caCertificates?: string }[];
  subjectAltNames?: string[];
  verifyCertificateSpki?: string[];
  verifyCertificateHash?: string[];
  minProtocolVersion?: TlsProtocol;
  maxProtocolVersion?: TlsProtocol;
  cipherSuites?: string[];
}

// ------------------------------------------------------------------------------- ServiceEntry and its like

export interface ServiceEntry extends KubeObject {
  spec: ServiceEntrySpec;
  status?: IstioStatus & { addresses?: { value?: string; host?: string }[] };
}

export interface ServiceEntrySpec {
  hosts?: string[];
  addresses?: string[];
  ports?: ServiceEntryPort[];
  location?: "MESH_EXTERNAL" | "MESH_INTERNAL";
  resolution?: "NONE" | "STATIC" | "DNS" | "DNS_ROUND_ROBIN" | "DYNAMIC_DNS";
  endpoints?: WorkloadEntrySpec[];
  workloadSelector?: WorkloadSelector;
  exportTo?: string[];
  subjectAltNames?: string[];
}

export interface ServiceEntryPort {
  number?: number;
  protocol?: string;
  name?: string;
  targetPort?: number;
}

export interface WorkloadEntry extends KubeObject {
  spec: WorkloadEntrySpec;
  status?: IstioStatus;
}

export interface WorkloadEntrySpec {
  /** An address, a DNS name, or `unix:///path`. */
  address?: string;
  ports?: Record<string, number>;
  labels?: Record<string, string>;
  network?: string;
  /** `region/zone/subzone`. */
  locality?: string;
  weight?: number;
  serviceAccount?: string;
}

// ------------------------------------------------------------------------------------------------ Sidecar

export interface Sidecar extends KubeObject {
  spec: SidecarSpec;
  status?: IstioStatus;
}

export interface SidecarSpec {
  workloadSelector?: WorkloadSelector;
  ingress?: IngressListener[];
  egress?: EgressListener[];
  inboundConnectionPool?: ConnectionPoolSettings;
  outboundTrafficPolicy?: OutboundTrafficPolicy;
}

export interface OutboundTrafficPolicy {
  mode?: "REGISTRY_ONLY" | "ALLOW_ANY";
  egressProxy?: Destination;
}

export interface IngressListener {
  port?: GatewayPort;
  bind?: string;
  captureMode?: "DEFAULT" | "IPTABLES" | "NONE";
  defaultEndpoint?: string;
  tls?: ServerTlsSettings;
  connectionPool?: ConnectionPoolSettings;
}

export interface EgressListener {
  port?: GatewayPort;
  bind?: string;
  captureMode?: "DEFAULT" | "IPTABLES" | "NONE";
  /** `namespace/host`; namespace may be `*`, `.` or `~`. */
  hosts?: string[];
}

// ---------------------------------------------------------------------------------------------- resources

/** Versions in which these kinds are served; of one shape. */
export const istioVersions = ["v1", "v1beta1", "v1alpha3"] as const;

const networking = "networking.istio.io";

export const virtualServices = resource<VirtualService>(
  networking,
  "v1",
  "VirtualService",
  "virtualservices",
);
export const destinationRules = resource<DestinationRule>(
  networking,
  "v1",
  "DestinationRule",
  "destinationrules",
);
export const gateways = resource<Gateway>(networking, "v1", "Gateway", "gateways");
export const serviceEntries = resource<ServiceEntry>(networking, "v1", "ServiceEntry", "serviceentries");
export const workloadEntries = resource<WorkloadEntry>(networking, "v1", "WorkloadEntry", "workloadentries");
export const sidecars = resource<Sidecar>(networking, "v1", "Sidecar", "sidecars");
