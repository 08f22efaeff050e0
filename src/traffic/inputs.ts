/** What the routing model is derived from, and what comes out of it. */
import type {
  AuthorizationPolicy,
  DestinationRule,
  EndpointSlice,
  Gateway,
  gatewayApi,
  MeshSettings,
  Namespace,
  Node,
  PeerAuthentication,
  Pod,
  RateLimit,
  Service,
  ServiceEntry,
  ServiceImport,
  Sidecar,
  VirtualService,
  WorkloadEntry,
} from "../api/index.ts";
import type { Collection } from "../collections/index.ts";
import type { Credential } from "./credentials.ts";
import type { Finding, Proxy as MeshProxy, ScopeConfig, UpstreamEndpoints } from "./model.ts";

/**
 * All keyed as `nameOf` has it, unless said otherwise. Objects outside of the mesh may be among them: what counts is
 * decided here, by the members' label.
 */
export interface TrafficInputs {
  /** One row, the mesh's settings. None: nothing is derived. */
  mesh: Collection<MeshSettings>;
  /** The proxies that are connected, by their id. */
  proxies: Collection<MeshProxy>;
  namespaces: Collection<Namespace>;
  services: Collection<Service>;
  endpointSlices: Collection<EndpointSlice>;
  /** Slimmed by `slimPod`, or whole. */
  pods: Collection<Pod>;
  /** Only labels are read. */
  nodes: Collection<Node>;
  imports: Collection<ServiceImport>;
  virtualServices: Collection<VirtualService>;
  destinationRules: Collection<DestinationRule>;
  gateways: Collection<Gateway>;
  serviceEntries: Collection<ServiceEntry>;
  workloadEntries: Collection<WorkloadEntry>;
  sidecars: Collection<Sidecar>;
  peerAuthentications: Collection<PeerAuthentication>;
  authorizationPolicies: Collection<AuthorizationPolicy>;
  rateLimits: Collection<RateLimit>;
  kubeGateways: Collection<gatewayApi.Gateway>;
  httpRoutes: Collection<gatewayApi.HTTPRoute>;
  referenceGrants: Collection<gatewayApi.ReferenceGrant>;
  /** What Secrets of the mesh's namespace are good for (`credentialOf`). Absent: nothing is said of Secrets. */
  credentials?: Collection<Credential>;
  /** False: there may be other Secrets than those of `credentials`, so nobody is told that one is missing. */
  allCredentials?: boolean;
}

/** What comes out. */
export interface Traffic {
  /**
   * The names of each proxy's scopes, by the proxy's id. What a proxy is to have is the union of their configurations;
   * names of resources do not clash. It may change while a proxy is connected.
   */
  scopes: Collection<readonly string[]>;
  /** By scope; for every scope that a connected proxy is in. */
  configs: Collection<ScopeConfig>;
  /** By `Upstream.endpointsName`. */
  endpoints: Collection<UpstreamEndpoints>;
  /** By `Kind/namespace/name`. */
  findings: Collection<readonly Finding[]>;
  /** `status` of Gateway API's Gateways that are ours, by `namespace/name`. */
  gatewayStatuses: Collection<gatewayApi.GatewayStatus>;
  /** `status` of HTTPRoutes for the parents that are ours. */
  routeStatuses: Collection<{ parents: gatewayApi.RouteParentStatus[] }>;
  /** The settled state of `scopes`. */
  scopesOf(proxy: Pick<MeshProxy, "id">): readonly string[];
  /** Every collection, by name, for `why`. */
  collections: ReadonlyMap<string, Collection<unknown>>;
}
