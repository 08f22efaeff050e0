/**
 * The one list of fields that are served: analysis, conditions and docs/mesh.md go by it. `true`: served with all below;
 * a text: not served, and why; fields that are not here are unknown to the API. Lists stand for their items.
 */
export type Served = true | string | { readonly [field: string]: Served };

const workloadSelector = { labels: true } as const;
const policySelector = { matchLabels: true } as const;
const notYet = "not served yet";
const requestPrincipals =
  "RequestAuthentication is not served, nobody has a request principal: what is allowed by it is not allowed, what is denied by it is denied to all";

const tlsContext: Served = {
  mode: true,
  clientCertificate: true,
  privateKey: true,
  caCertificates: true,
  credentialName: true,
  subjectAltNames: true,
  sni: true,
  insecureSkipVerify: true,
  caCrl: true,
};

const loadBalancer: Served = {
  simple: true,
  consistentHash: {
    httpHeaderName: true,
    httpCookie: { name: true, path: true, ttl: true, attributes: notYet },
    useSourceIp: true,
    httpQueryParameterName: true,
    ringHash: true,
    maglev: true,
    minimumRingSize: true,
  },
  localityLbSetting: true,
  zoneAwareLbSetting: notYet,
  warmupDurationSecs: true,
  warmup: true,
};

const connectionPool: Served = {
  tcp: {
    maxConnections: true,
    connectTimeout: true,
    tcpKeepalive: true,
    maxConnectionDuration: notYet,
    idleTimeout: true,
  },
  http: {
    http1MaxPendingRequests: true,
    http2MaxRequests: true,
    maxRequestsPerConnection: true,
    maxRetries: true,
    idleTimeout: true,
    h2UpgradePolicy: true,
    useClientProtocol: true,
    maxConcurrentStreams: true,
    http2KeepAlive: notYet,
  },
};

const outlierDetection: Served = {
  consecutiveErrors: true,
  splitExternalLocalOriginErrors: true,
  consecutiveLocalOriginFailures: true,
  consecutiveGatewayErrors: true,
  consecutive5xxErrors: true,
  interval: true,
  baseEjectionTime: true,
  maxEjectionPercent: true,
  minHealthPercent: true,
  outlierDetectionHttpErrorCodes: notYet,
};

const portPolicy = { loadBalancer, connectionPool, outlierDetection, tls: tlsContext } as const;

const trafficPolicy: Served = {
  ...portPolicy,
  portLevelSettings: { port: true, ...portPolicy },
  tunnel: notYet,
  proxyProtocol: notYet,
  retryBudget: notYet,
};

const destination = { host: true, subset: true, port: { number: true } } as const;

const virtualService: Served = {
  hosts: true,
  gateways: true,
  exportTo: true,
  http: {
    name: true,
    match: {
      name: true,
      uri: true,
      scheme: true,
      method: true,
      authority: true,
      headers: true,
      withoutHeaders: true,
      queryParams: true,
      port: true,
      sourceLabels: true,
      sourceNamespace: true,
      gateways: true,
      ignoreUriCase: true,
      statPrefix: "metrics have no prefixes of one's own",
    },
    route: { destination, weight: true, headers: true },
    redirect: true,
    directResponse: true,
    delegate: true,
    rewrite: true,
    timeout: true,
    retries: {
      attempts: true,
      perTryTimeout: true,
      retryOn: true,
      retryRemoteLocalities: true,
      retryIgnorePreviousHosts: true,
      backoff: true,
    },
    fault: {
      delay: {
        fixedDelay: true,
        exponentialDelay: "Envoy has no such delay",
        percent: true,
        percentage: true,
      },
      abort: {
        httpStatus: true,
        grpcStatus: true,
        http2Error: "Istio has not made it either",
        percentage: true,
      },
    },
    mirror: true,
    mirrors: true,
    mirrorPercent: true,
    mirror_percent: true,
    mirrorPercentage: true,
    corsPolicy: true,
    headers: true,
  },
  tls: {
    match: {
      sniHosts: true,
      destinationSubnets: true,
      port: true,
      sourceLabels: true,
      sourceNamespace: true,
      gateways: true,
    },
    route: { destination, weight: true },
  },
  tcp: {
    match: {
      destinationSubnets: true,
      port: true,
      sourceSubnet: "it has no effect in Istio either",
      sourceLabels: true,
      sourceNamespace: true,
      gateways: true,
    },
    route: { destination, weight: true },
  },
};

const captured = "connections are captured, nothing is bound";

const uncheckedClients =
  "not served yet: a server that asks for clients' certificates and has it is not there";

const serverTls: Served = {
  httpsRedirect: true,
  mode: true,
  serverCertificate: "certificates come from Secrets (credentialName)",
  privateKey: "certificates come from Secrets (credentialName)",
  caCertificates: "certificates come from Secrets (credentialName)",
  caCrl: uncheckedClients,
  credentialName: true,
  credentialNames: true,
  caCertCredentialName: true,
  tlsCertificates: "certificates come from Secrets (credentialName)",
  subjectAltNames: true,
  verifyCertificateSpki: uncheckedClients,
  verifyCertificateHash: uncheckedClients,
  minProtocolVersion: true,
  maxProtocolVersion: true,
  cipherSuites: true,
};

const gatewayPort: Served = {
  number: true,
  protocol: true,
  name: true,
  targetPort: "it has no effect in Istio either",
};

const source: Served = {
  principals: true,
  notPrincipals: true,
  requestPrincipals,
  notRequestPrincipals: requestPrincipals,
  namespaces: true,
  notNamespaces: true,
  serviceAccounts: true,
  notServiceAccounts: true,
  ipBlocks: true,
  notIpBlocks: true,
  remoteIpBlocks: true,
  notRemoteIpBlocks: true,
  trustDomains: true,
  notTrustDomains: true,
};

const unservedFilter = "not served yet: requests that would pass it get 500";

const httpRouteFilter: Served = {
  type: true,
  requestHeaderModifier: true,
  responseHeaderModifier: true,
  requestMirror: true,
  requestRedirect: true,
  urlRewrite: true,
  cors: true,
  externalAuth: unservedFilter,
  extensionRef: unservedFilter,
};

/** `spec` by kind; Gateway API's Gateway is `KubeGateway`. */
export const served: Readonly<Record<string, Served>> = {
  VirtualService: virtualService,
  DestinationRule: {
    host: true,
    trafficPolicy,
    subsets: { name: true, labels: true, trafficPolicy },
    exportTo: true,
    workloadSelector: policySelector,
  },
  Gateway: {
    selector: true,
    servers: {
      port: gatewayPort,
      bind: true,
      hosts: true,
      tls: serverTls,
      defaultEndpoint: notYet,
      name: true,
    },
  },
  ServiceEntry: {
    hosts: true,
    addresses: true,
    ports: true,
    location: true,
    resolution: true,
    endpoints: {
      address: true,
      ports: true,
      labels: true,
      network: notYet,
      locality: notYet,
      weight: true,
      serviceAccount: notYet,
    },
    workloadSelector,
    exportTo: true,
    subjectAltNames: true,
  },
  Sidecar: {
    workloadSelector,
    ingress: {
      port: gatewayPort,
      bind: captured,
      captureMode: true,
      defaultEndpoint: true,
      tls: "not served yet: it has an effect in Istio only where ENABLE_TLS_ON_SIDECAR_INGRESS is set",
      connectionPool,
    },
    egress: {
      port: { ...gatewayPort, protocol: true },
      bind: captured,
      captureMode: true,
      hosts: true,
    },
    inboundConnectionPool: connectionPool,
    outboundTrafficPolicy: { mode: true, egressProxy: notYet },
  },
  PeerAuthentication: { selector: policySelector, mtls: true, portLevelMtls: true },
  AuthorizationPolicy: {
    selector: policySelector,
    targetRef: true,
    targetRefs: true,
    rules: { from: { source }, to: { operation: true }, when: true },
    action: true,
    provider: "there are no external authorizers yet: what CUSTOM would ask them about is refused",
  },
  RateLimit: {
    selector: policySelector,
    targetRefs: true,
    limits: true,
  },
  HTTPRoute: {
    parentRefs: true,
    hostnames: true,
    rules: {
      name: true,
      matches: true,
      filters: httpRouteFilter,
      backendRefs: {
        group: true,
        kind: true,
        name: true,
        namespace: true,
        port: true,
        weight: true,
        filters: httpRouteFilter,
      },
      timeouts: true,
      retry: true,
      sessionPersistence: notYet,
    },
  },
  KubeGateway: {
    gatewayClassName: true,
    listeners: true,
    addresses: true,
    infrastructure: notYet,
    allowedListeners: notYet,
    backendTLS: notYet,
    tls: {
      frontend:
        "not served yet: listeners that terminate TLS are not there, for they would let in who has no certificate",
      backend: notYet,
    },
    defaultScope: notYet,
  },
};

/** A field that an object uses though it is not served, or that nobody knows. */
export interface Unserved {
  field: string;
  /** Undefined: the API has no such field. */
  why: string | undefined;
}

/** The fields of a spec that have no effect or that nobody knows, with their places. */
export function unservedIn(kind: string, spec: unknown): Unserved[] {
  const tree = served[kind];
  const found: Unserved[] = [];
  if (tree) walk(spec, tree, "spec", found);
  return found;
}

function walk(value: unknown, tree: Served, field: string, found: Unserved[]): void {
  if (tree === true || value === undefined || value === null) return;
  if (Array.isArray(value)) {
    for (const [i, item] of value.entries()) walk(item, tree, `${field}[${i}]`, found);
    return;
  }
  if (typeof tree === "string") {
    found.push({ field, why: tree });
    return;
  }
  if (typeof value !== "object") return;
  for (const [name, item] of Object.entries(value)) {
    const below = tree[name];
    if (below === undefined) found.push({ field: `${field}.${name}`, why: undefined });
    else walk(item, below, `${field}.${name}`, found);
  }
}

/**
 * The list as rows, for the documentation: `http.match.uri` for the match's uri in every route. What is a policy again
 * is named once and then referred to.
 */
export function servedRows(kind: string): { field: string; served: true | string }[] {
  const rows: { field: string; served: true | string }[] = [];
  const shown = new Map<Served, string>();
  const visit = (tree: Served, field: string): void => {
    if (tree === true || typeof tree === "string") {
      rows.push({ field, served: tree });
      return;
    }
    const before = shown.get(tree);
    if (before !== undefined) {
      rows.push({ field: `${field} (as ${before})`, served: true });
      return;
    }
    shown.set(tree, field);
    for (const [name, below] of Object.entries(tree)) visit(below, field ? `${field}.${name}` : name);
  };
  const tree = served[kind];
  if (tree) visit(tree, "");
  return rows;
}
