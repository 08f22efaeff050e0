/**
 * gateway.networking.k8s.io v1 (Gateway API 1.5 and later). Its names are also Istio's, so the door hands these out
 * together, as `gatewayApi`: `gatewayApi.Gateway`, `gatewayApi.httpRoutes`.
 */
import { type Condition, type KubeObject, type LabelSelector, resource } from "./meta.ts";

export interface GatewayClass extends KubeObject {
  spec: {
    /** Immutable. Ours is `weft.dev/gateway-controller`. */
    controllerName: string;
    description?: string;
    parametersRef?: { group: string; kind: string; name: string; namespace?: string };
  };
  status?: { conditions?: Condition[]; supportedFeatures?: { name: string }[] };
}

export interface Gateway extends KubeObject {
  spec: {
    gatewayClassName: string;
    listeners: Listener[];
    /** `IPAddress` or `Hostname`; the Service of the gateway where type is `Hostname` of one in the cluster. */
    addresses?: { type?: string; value?: string }[];
    infrastructure?: {
      labels?: Record<string, string>;
      annotations?: Record<string, string>;
      parametersRef?: { group: string; kind: string; name: string };
    };
    /** `frontend`: which certificates clients have to show. Not served. */
    tls?: { frontend?: Record<string, unknown>; backend?: Record<string, unknown> };
  };
  status?: GatewayStatus;
}

export interface GatewayStatus {
  addresses?: { type?: string; value: string }[];
  conditions?: Condition[];
  listeners?: {
    name: string;
    supportedKinds?: { group?: string; kind: string }[];
    attachedRoutes: number;
    conditions: Condition[];
  }[];
}

export interface Listener {
  name: string;
  hostname?: string;
  port: number;
  protocol: "HTTP" | "HTTPS" | "TLS" | "TCP" | "UDP" | (string & {});
  tls?: {
    mode?: "Terminate" | "Passthrough";
    certificateRefs?: SecretReference[];
    options?: Record<string, string>;
  };
  allowedRoutes?: {
    namespaces?: { from?: "All" | "Selector" | "Same" | "None"; selector?: LabelSelector };
    kinds?: { group?: string; kind: string }[];
  };
}

export interface SecretReference {
  group?: string;
  kind?: string;
  name: string;
  namespace?: string;
}

/** A Gateway, or (for the mesh, GAMMA) a Service. */
export interface ParentReference {
  group?: string;
  kind?: string;
  namespace?: string;
  name: string;
  sectionName?: string;
  port?: number;
}

export interface HTTPRoute extends KubeObject {
  spec: {
    parentRefs?: ParentReference[];
    hostnames?: string[];
    rules?: HTTPRouteRule[];
  };
  status?: { parents: RouteParentStatus[] };
}

export interface RouteParentStatus {
  parentRef: ParentReference;
  controllerName: string;
  conditions?: Condition[];
}

export interface HTTPRouteRule {
  name?: string;
  matches?: HTTPRouteMatch[];
  filters?: HTTPRouteFilter[];
  backendRefs?: HTTPBackendRef[];
  timeouts?: { request?: string; backendRequest?: string };
  retry?: { codes?: number[]; attempts?: number; backoff?: string };
  sessionPersistence?: Record<string, unknown>;
}

export interface HTTPRouteMatch {
  path?: { type?: "Exact" | "PathPrefix" | "RegularExpression"; value?: string };
  headers?: NamedValueMatch[];
  queryParams?: NamedValueMatch[];
  method?: string;
}

export interface NamedValueMatch {
  type?: "Exact" | "RegularExpression";
  name: string;
  value: string;
}

export interface HTTPBackendRef extends BackendReference {
  weight?: number;
  filters?: HTTPRouteFilter[];
}

/** A Service unless said otherwise; `multicluster.x-k8s.io` ServiceImport (GEP-1748). */
export interface BackendReference {
  group?: string;
  kind?: string;
  name: string;
  namespace?: string;
  port?: number;
}

export type HTTPRouteFilterType =
  | "RequestHeaderModifier"
  | "ResponseHeaderModifier"
  | "RequestMirror"
  | "RequestRedirect"
  | "URLRewrite"
  | "CORS"
  | "ExternalAuth"
  | "ExtensionRef";

export interface HTTPRouteFilter {
  type: HTTPRouteFilterType;
  requestHeaderModifier?: HeaderModifier;
  responseHeaderModifier?: HeaderModifier;
  requestMirror?: {
    backendRef: BackendReference;
    percent?: number;
    fraction?: { numerator: number; denominator?: number };
  };
  requestRedirect?: {
    scheme?: string;
    hostname?: string;
    path?: PathModifier;
    port?: number;
    statusCode?: number;
  };
  urlRewrite?: { hostname?: string; path?: PathModifier };
  cors?: {
    allowOrigins?: string[];
    allowCredentials?: boolean;
    allowMethods?: string[];
    allowHeaders?: string[];
    exposeHeaders?: string[];
    maxAge?: number;
  };
  externalAuth?: Record<string, unknown>;
  extensionRef?: { group: string; kind: string; name: string };
}

export interface HeaderModifier {
  set?: { name: string; value: string }[];
  add?: { name: string; value: string }[];
  remove?: string[];
}

export interface PathModifier {
  type: "ReplaceFullPath" | "ReplacePrefixMatch";
  replaceFullPath?: string;
  replacePrefixMatch?: string;
}

/** Lets objects of other namespaces refer to those of its own. */
export interface ReferenceGrant extends KubeObject {
  spec: {
    from: { group: string; kind: string; namespace: string }[];
    to: { group: string; kind: string; name?: string }[];
  };
}

const group = "gateway.networking.k8s.io";

export const gatewayClasses = resource<GatewayClass>(
  group,
  "v1",
  "GatewayClass",
  "gatewayclasses",
  "Cluster",
);
export const gateways = resource<Gateway>(group, "v1", "Gateway", "gateways");
export const httpRoutes = resource<HTTPRoute>(group, "v1", "HTTPRoute", "httproutes");
export const referenceGrants = resource<ReferenceGrant>(group, "v1", "ReferenceGrant", "referencegrants");

/** `spec.controllerName` of the GatewayClass `weft`, which is ours to serve. */
export const gatewayController = "weft.dev/gateway-controller";
/** The GatewayClass that Gateways name to be served by a mesh's gateways. */
export const gatewayClass = "weft";
