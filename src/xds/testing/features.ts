/** A model with everything that the encoders can say, for decoding and for `envoy --mode validate`. */
import type {
  Authorization,
  ChainMatch,
  Endpoint,
  FilterChain,
  HeaderChanges,
  HttpHandler,
  Listener,
  LocalRateLimit,
  Origin,
  Route,
  RouteMatch,
  RouteTable,
  TcpHandler,
  Upstream,
  UpstreamEndpoints,
  UpstreamTls,
  VirtualHost,
} from "../../traffic/index.ts";
import { sdsDirectory, type TlsSecret } from "../encode/index.ts";

export const origins: readonly Origin[] = [
  { kind: "VirtualService", namespace: "coolapp", name: "catalog", field: "spec.http[0]" },
];
export const unchanged: HeaderChanges = { set: [], add: [], remove: [] };
const changed: HeaderChanges = { set: [["x-set", "1"]], add: [["x-add", "2"]], remove: ["x-gone"] };

export function endpoint(address: string, port: number, more: Partial<Endpoint> = {}): Endpoint {
  return {
    address,
    port,
    weight: 1,
    healthy: true,
    draining: false,
    meshTls: false,
    workload: { name: "", namespace: "", service: "", revision: "", cluster: "" },
    ...more,
  };
}

export function upstream(name: string, more: Partial<Upstream> = {}): Upstream {
  return {
    name,
    endpointsName: name,
    host: "",
    port: 0,
    subset: "",
    protocol: "http1",
    discovery: "endpoints",
    endpoints: [],
    balancer: { kind: "least-request", choices: 2 },
    connections: {
      connectTimeout: 10_000,
      maxConnections: 2 ** 32 - 1,
      maxPendingRequests: 2 ** 32 - 1,
      maxRequests: 2 ** 32 - 1,
      maxRetries: 2 ** 32 - 1,
      maxRequestsPerConnection: 0,
      idleTimeout: 0,
    },
    tls: { mode: "none" },
    origins: [],
    ...more,
  };
}

export function endpointsOf(name: string, ...endpoints: Endpoint[]): UpstreamEndpoints {
  return {
    name,
    localities: [{ region: "r1", zone: "z1", priority: 0, weight: endpoints.length, endpoints }],
  };
}

export function forward(...upstreams: string[]): Route["action"] {
  return {
    kind: "forward",
    clusters: upstreams.map((name) => ({
      upstream: name,
      weight: Math.floor(100 / upstreams.length),
      requestHeaders: unchanged,
      responseHeaders: unchanged,
    })),
    timeout: 0,
    mirrors: [],
    hash: [],
  };
}

export const anyPath: RouteMatch = { path: { kind: "prefix", value: "/" }, headers: [], query: [] };

export function route(action: Route["action"], more: Partial<Route> = {}): Route {
  return {
    name: "default",
    match: anyPath,
    action,
    requestHeaders: unchanged,
    responseHeaders: unchanged,
    rateLimits: [],
    origins: [],
    ...more,
  };
}

export function virtualHost(name: string, domains: string[], ...routes: Route[]): VirtualHost {
  return { name, domains, routes, requireTls: false, origins: [] };
}

export function routeTable(
  name: string,
  virtualHosts: VirtualHost[],
  unknown: RouteTable["unknown"] = "not-found",
) {
  return { name, virtualHosts, unknown } satisfies RouteTable;
}

export function httpHandler(routes: string | RouteTable, more: Partial<HttpHandler> = {}): HttpHandler {
  return {
    kind: "http",
    routes,
    statPrefix: "outbound_0.0.0.0_8080",
    clientCertificate: "sanitize",
    useRemoteAddress: false,
    trustedHops: 0,
    websocket: true,
    rateLimits: [],
    accessLog: true,
    traceSampling: 1,
    ...more,
  };
}

export function tcpHandler(...upstreams: string[]): TcpHandler {
  return {
    kind: "tcp",
    statPrefix: upstreams[0] ?? "none",
    clusters: upstreams.map((name) => ({
      upstream: name,
      weight: 1,
      requestHeaders: unchanged,
      responseHeaders: unchanged,
    })),
    idleTimeout: 0,
    accessLog: true,
  };
}

export function chain(
  name: string,
  handler: HttpHandler | TcpHandler,
  match: ChainMatch = {},
  more: Partial<FilterChain> = {},
): FilterChain {
  return { name, match, authorization: [], handler, origins: [], ...more };
}

export function listener(name: string, port: number, chains: FilterChain[], more: Partial<Listener> = {}) {
  return {
    name,
    direction: "outbound",
    address: "0.0.0.0",
    port,
    bind: true,
    redirected: false,
    inspect: [],
    inspectTimeout: 0,
    chains,
    origins: [],
    ...more,
  } satisfies Listener;
}

const exact = (value: string) => ({ kind: "exact", value }) as const;

const limit: LocalRateLimit = { name: "calm", tokens: 5, fill: 5, interval: 60_000, origins: [] };
const limits: LocalRateLimit[] = [
  limit,
  { ...limit, name: "by-header", per: { kind: "header", name: "x-user" } },
  { ...limit, name: "by-client", per: { kind: "client-identity" } },
  {
    ...limit,
    name: "some",
    match: {
      path: { kind: "path-prefix", value: "/api" },
      headers: [{ name: ":method", match: exact("POST"), invert: false }],
      query: [{ name: "q", match: { kind: "present" }, invert: false }],
    },
    per: { kind: "header", name: "x-user" },
  },
];

const matches: RouteMatch[] = [
  { ...anyPath, path: { kind: "exact", value: "/a", ignoreCase: true } },
  { ...anyPath, path: { kind: "regex", value: "/items/\\d+", ignoreCase: true } },
  { ...anyPath, path: { kind: "suffix", value: ".png" } },
  { ...anyPath, path: { kind: "contains", value: "?" } },
  { ...anyPath, path: { kind: "present" } },
  { ...anyPath, path: { kind: "path-prefix", value: "/v1/" } },
  { ...anyPath, path: { kind: "path-prefix", value: "/" } },
  {
    path: { kind: "prefix", value: "/", ignoreCase: true },
    headers: [
      { name: ":method", match: exact("GET"), invert: false },
      { name: ":authority", match: { kind: "prefix", value: "a" }, invert: false },
      { name: "x-a", match: { kind: "suffix", value: "z", ignoreCase: true }, invert: true },
      { name: "x-b", match: { kind: "regex", value: "a+b*" }, invert: false },
      { name: "x-c", match: { kind: "contains", value: "c" }, invert: false },
      { name: "x-d", match: { kind: "present" }, invert: true },
    ],
    query: [
      { name: "q", match: exact("1"), invert: false },
      { name: "r", match: { kind: "present" }, invert: false },
      { name: "s", match: { kind: "regex", value: ".*" }, invert: false },
    ],
  },
];

const rewrites: NonNullable<Extract<Route["action"], { kind: "forward" }>["rewrite"]>[] = [
  { path: { prefix: "/new" }, authority: "elsewhere" },
  { path: { full: "/only\\1" } },
  { path: { regex: "^/(.*)$", substitution: "/x/\\1" } },
];

/** The route of the full retinue. */
const rich = route(
  {
    kind: "forward",
    clusters: [
      {
        upstream: "outbound|8080|v1|catalog.coolapp.svc.cluster.local",
        weight: 70,
        requestHeaders: changed,
        responseHeaders: changed,
      },
      {
        upstream: "outbound|8080|v2|catalog.coolapp.svc.cluster.local",
        weight: 30,
        requestHeaders: unchanged,
        responseHeaders: unchanged,
      },
    ],
    timeout: 1_500,
    idleTimeout: 60_000,
    retries: {
      attempts: 2,
      perTryTimeout: 500,
      on: ["connect-failure", "refused-stream", "unavailable", "cancelled", "retriable-status-codes", "5xx"],
      statusCodes: [503],
      backoff: { base: 25, max: 250 },
      avoidPrevious: true,
      otherLocalities: true,
      hostSelectionAttempts: 5,
    },
    mirrors: [{ upstream: "outbound|8080||mirror.coolapp.svc.cluster.local", percent: 12.5 }],
    hash: [
      { kind: "header", name: "x-user" },
      { kind: "cookie", name: "session", path: "/", ttl: 0 },
      { kind: "query", name: "user" },
      { kind: "source-ip" },
    ],
  },
  {
    name: "rich",
    requestHeaders: changed,
    responseHeaders: changed,
    fault: { delay: { percent: 0.5, milliseconds: 7_000 }, abort: { percent: 10, status: 418 } },
    cors: {
      origins: [exact("https://example.com"), { kind: "regex", value: "https://.*" }],
      methods: ["GET", "POST"],
      headers: ["x-a"],
      exposed: ["x-b"],
      maxAge: 86_400,
      credentials: true,
      forwardUnmatchedPreflights: false,
    },
    rateLimits: [limit],
    origins,
  },
);

export const catalog = "outbound|8080||catalog.coolapp.svc.cluster.local";

export const table = routeTable("8080", [
  virtualHost(
    "catalog.coolapp.svc.cluster.local:8080",
    ["catalog", "catalog:8080", "catalog.coolapp.svc.cluster.local", "*.catalog.example", "prefix.*"],
    rich,
    ...matches.map((match) => route(forward(catalog), { match })),
    ...rewrites.map((rewrite) =>
      route({ ...(forward(catalog) as Extract<Route["action"], { kind: "forward" }>), rewrite }),
    ),
    route(
      {
        ...(forward(catalog) as Extract<Route["action"], { kind: "forward" }>),
        rewrite: { path: { prefix: "/" } },
      },
      { match: { ...anyPath, path: { kind: "path-prefix", value: "/v1" } } },
    ),
    route({
      kind: "redirect",
      status: 308,
      scheme: "https",
      authority: "new.example",
      port: 8443,
      path: { full: "/x" },
    }),
    route({ kind: "redirect", status: 302, path: { prefix: "/y" } }),
    route({ kind: "respond", status: 418, body: "short and stout" }),
    route({ kind: "respond", status: 204 }),
    route(forward(), { fault: { abort: { percent: 100, grpcStatus: 14 } } }),
  ),
  { ...virtualHost("secure", ["secure.example"], route(forward(catalog))), requireTls: true },
]);

export const tables: RouteTable[] = [
  table,
  routeTable("empty", []),
  routeTable("outside", [], "passthrough"),
  routeTable("closed", [virtualHost("a", ["a.example"], route(forward(catalog)))], "block"),
  routeTable("all", [virtualHost("all", ["*"], route(forward(catalog)))], "passthrough"),
];

export const authorization: Authorization[] = [
  {
    action: "deny",
    policies: [
      {
        name: "ns[coolapp]-policy[deny]",
        origins: [],
        rules: [
          {
            from: [
              {
                principals: ["cluster.local/ns/a/sa/b", "*/ns/c/sa/d", "cluster.local/*", "*"],
                notNamespaces: ["x", "y*"],
              },
            ],
            to: [{ methods: ["GET"], notPaths: ["/open/*"], ports: ["8080"] }],
            when: [],
            within: { hosts: ["*.example.com", "a.example.com:*"], notHosts: ["b.example.com"] },
          },
        ],
      },
    ],
  },
  {
    action: "allow",
    policies: [
      {
        name: "ns[coolapp]-policy[allow]",
        origins: [],
        rules: [
          { from: [], to: [], when: [] },
          {
            from: [
              {
                serviceAccounts: ["coolapp/gateway"],
                ipBlocks: ["10.0.0.0/8"],
                notRemoteIpBlocks: ["1.2.3.4"],
                trustDomains: ["c2.clusterset.local", "*.example.org"],
                notTrustDomains: ["evil.org"],
              },
            ],
            to: [
              { hosts: ["*.example", "a"], paths: ["/a/{*}/b/{**}"] },
              { notPorts: ["1"], notMethods: ["PUT"], notHosts: ["b"] },
            ],
            when: [
              { key: "request.headers[x-a]", values: ["a*"], notValues: ["ab"] },
              { key: "source.ip", values: ["10.0.0.1"] },
              { key: "remote.ip", notValues: ["10.0.0.0/24"] },
              { key: "source.namespace", values: ["a"] },
              { key: "source.principal", values: ["*"] },
              { key: "source.serviceAccount", values: ["a/b"] },
              { key: "destination.ip", values: ["10.0.0.1"] },
              { key: "destination.port", values: ["80"] },
              { key: "connection.sni", values: ["*.example"] },
              { key: "request.auth.claims[iss]", values: ["x"] },
            ],
          },
        ],
      },
      { name: "nothing", origins: [], rules: [] },
    ],
  },
  { action: "audit", policies: [] },
];

const meshTls = {
  certificate: "identity",
  client: "required",
  trust: "mesh",
  alpn: ["istio-peer-exchange", "istio", "http/1.1", "h2"],
} as const;

const inboundRoutes = routeTable("inbound|8080||", [
  virtualHost("inbound|http|8080", ["*"], route(forward("inbound|8080||"), { rateLimits: [limit] })),
]);

export const listeners: Listener[] = [
  listener("virtualOutbound", 15001, [], {
    redirected: true,
    fallback: chain("virtualOutbound-catchall-tcp", tcpHandler("PassthroughCluster")),
  }),
  listener(
    "0.0.0.0_8080",
    8080,
    [
      chain(
        "http",
        httpHandler("8080"),
        { transport: "raw_buffer", applicationProtocols: ["http/1.1", "h2c"] },
        { upstreamAlpn: ["istio", "http/1.1"] },
      ),
    ],
    {
      bind: false,
      inspect: ["tls", "http"],
      inspectTimeout: 0,
      fallback: chain("tcp", tcpHandler("PassthroughCluster")),
    },
  ),
  listener(
    "10.11.0.9_5432",
    5432,
    [chain("weighted", tcpHandler("a", "b"), { destinations: ["10.11.0.9/32", "10.11.0.10"] })],
    { bind: false, address: "10.11.0.9" },
  ),
  listener(
    "virtualInbound",
    15006,
    [
      chain(
        "mtls",
        httpHandler(inboundRoutes, { clientCertificate: "append-forward", rateLimits: limits }),
        {
          destinationPort: 8080,
          transport: "tls",
          applicationProtocols: ["istio", "istio-http/1.1"],
        },
        { tls: meshTls, authorization },
      ),
      chain(
        "plain",
        httpHandler(inboundRoutes, {
          useRemoteAddress: true,
          trustedHops: 1,
          accessLogFormat: "%START_TIME% %REQ(:PATH)% %RESPONSE_CODE%",
        }),
        {
          destinationPort: 8080,
          transport: "raw_buffer",
        },
      ),
      chain(
        "tcp",
        tcpHandler("inbound|9000||"),
        { destinationPort: 9000, transport: "tls" },
        {
          tls: {
            ...meshTls,
            client: "optional",
            minimum: "1.2",
            maximum: "1.3",
            ciphers: ["ECDHE-ECDSA-AES128-GCM-SHA256"],
          },
          authorization,
        },
      ),
    ],
    {
      direction: "inbound",
      redirected: true,
      inspect: ["tls", "http"],
      inspectTimeout: 100,
      fallback: chain("virtualInbound-catchall", tcpHandler("InboundPassthroughCluster")),
    },
  ),
  listener(
    "0.0.0.0_8443",
    8443,
    [
      chain(
        "simple",
        httpHandler("https.443"),
        { serverNames: ["shop.example"] },
        {
          tls: {
            certificate: { secret: "kubernetes://istio-system/shop" },
            client: "none",
            trust: "mesh",
            alpn: ["h2", "http/1.1"],
          },
        },
      ),
      chain(
        "mutual",
        httpHandler("https.443", { clientCertificate: "sanitize-set" }),
        { serverNames: ["*.pay.example"] },
        {
          tls: {
            certificate: { secret: "kubernetes://istio-system/pay" },
            client: "required",
            trust: { secret: "kubernetes://istio-system/pay-cacert" },
            alpn: ["h2"],
          },
        },
      ),
      chain("passthrough", tcpHandler("outbound|443||db.coolapp.svc.cluster.local"), {
        serverNames: ["db.example"],
      }),
    ],
    { direction: "gateway", inspect: ["tls"] },
  ),
];

const meshUpstream = (auto: boolean): UpstreamTls => ({
  mode: "mesh",
  auto,
  sni: "outbound_.8080_._.catalog.coolapp.svc.cluster.local",
  identities: ["spiffe://cluster.local/ns/coolapp/sa/catalog"],
  alpn: ["istio"],
});
const outside = {
  mode: "simple",
  sni: "api.example",
  subjectAltNames: [],
  insecure: false,
  ca: `${sdsDirectory}/ca.pem`,
} as const;

export const upstreams: Upstream[] = [
  upstream(catalog, {
    host: "catalog.coolapp.svc.cluster.local",
    service: { host: "catalog.coolapp.svc.cluster.local", name: "catalog", namespace: "coolapp" },
    port: 8080,
    tls: meshUpstream(true),
    protocol: "auto",
  }),
  upstream("outbound|8080|v1|catalog.coolapp.svc.cluster.local", {
    tls: meshUpstream(false),
    protocol: "http2",
    origins: [{ ...origins[0]!, kind: "DestinationRule" }],
  }),
  upstream("outbound|8080|v2|catalog.coolapp.svc.cluster.local", {
    balancer: { kind: "ring-hash", minimumRingSize: 1024 },
    connections: {
      ...upstream("").connections,
      connectTimeout: 250,
      maxConnections: 1,
      idleTimeout: 1000,
      maxRequestsPerConnection: 1,
      maxConcurrentStreams: 10,
      keepalive: { probes: 3, time: 10_000, interval: 500 },
    },
    outliers: {
      consecutive5xx: 5,
      consecutiveGatewayErrors: 3,
      consecutiveLocalErrors: 2,
      splitLocalErrors: true,
      interval: 10_000,
      baseEjection: 30_000,
      maxEjectionPercent: 100,
      minHealthPercent: 50,
    },
  }),
  upstream("slow", {
    balancer: { kind: "round-robin" },
    warmup: { milliseconds: 30_000, minimumPercent: 10, aggression: 1.5 },
    endpointsName: "another",
  }),
  upstream("maglev", { balancer: { kind: "maglev", tableSize: 65537 } }),
  upstream("random", { balancer: { kind: "random" }, protocol: "http2" }),
  upstream("PassthroughCluster", {
    discovery: "original-destination",
    protocol: "auto",
    balancer: { kind: "passthrough" },
  }),
  upstream("InboundPassthroughCluster", {
    discovery: "original-destination",
    protocol: "tcp",
    balancer: { kind: "passthrough" },
  }),
  upstream("BlackHoleCluster", { discovery: "none", protocol: "tcp", balancer: { kind: "round-robin" } }),
  upstream("inbound|8080||", {
    discovery: "static",
    endpoints: [endpoint("10.10.0.7", 8080)],
    balancer: { kind: "round-robin" },
  }),
  upstream("outbound|443||api.example", {
    discovery: "strict-dns",
    endpoints: [endpoint("api.example", 443, { hostname: "api.example" })],
    tls: outside,
  }),
  upstream("outbound|444||api.example", {
    discovery: "logical-dns",
    endpoints: [endpoint("api.example", 444)],
    tls: {
      ...outside,
      sni: "",
      mode: "mutual",
      certificate: `${sdsDirectory}/cert.pem`,
      key: `${sdsDirectory}/key.pem`,
      insecure: true,
    },
  }),
  upstream("outbound|445||api.example", {
    tls: {
      ...outside,
      mode: "mutual",
      secret: "kubernetes://coolapp/client",
      subjectAltNames: ["api.example", "spiffe://a/b"],
    },
  }),
];

export const endpoints: UpstreamEndpoints[] = [
  endpointsOf(
    catalog,
    endpoint("10.10.0.7", 8080, {
      meshTls: true,
      weight: 3,
      workload: {
        name: "catalog-v1",
        namespace: "coolapp",
        service: "catalog",
        revision: "v1",
        cluster: "c1",
      },
    }),
    endpoint("10.10.0.8", 8080, { healthy: false, weight: 0 }),
    endpoint("10.10.0.9", 8080, { draining: true, hostname: "pod-0" }),
  ),
  { name: "none", localities: [] },
  {
    name: "localities",
    localities: [
      { region: "r1", zone: "z1", priority: 0, weight: 0, endpoints: [endpoint("10.10.0.1", 1)] },
      { region: "r2", zone: "", priority: 1, weight: 7, endpoints: [endpoint("10.12.0.1", 1)] },
    ],
  },
];

/** The PEM texts are nobody's: decoding looks at the shape only. */
export const secrets: TlsSecret[] = [
  { name: "kubernetes://istio-system/shop", certificate: "CERTIFICATE", key: "KEY" },
  { name: "kubernetes://istio-system/pay-cacert", ca: "CA", crl: "CRL" },
];
