/** For tests: objects of all kinds that get into each other's way, and proxies that see them. */
import type { KubeObject } from "../api/index.ts";
import type { Proxy as MeshProxy } from "./model.ts";
import { objectsOf, workload } from "./testing.ts";

/** Objects that histories put and remove; several of one name are versions of one object. */
export const pool: KubeObject[] = objectsOf(
  [
    workload("catalog", { versions: ["v1", "v2"] }),
    workload("catalog", { versions: ["v1", "v2", "v2"], sidecar: false }),
    workload("catalog", { versions: ["v1"], ports: "[{ port: 9000 }, { name: http, port: 8080 }]" }),
    workload("db", { ip: "10.11.0.20", base: "10.10.5", ports: "[{ name: tcp, port: 5432 }]" }),
    workload("set", {
      ip: "None",
      base: "10.10.11",
      ports: "[{ name: http, port: 8080 }, { name: tcp, port: 6379 }, { name: x, port: 7000 }]",
    }),
    workload("shop", { namespace: "other", ip: "10.11.0.30", base: "10.10.6" }),
    workload("istio-ingressgateway", {
      namespace: "istio-system",
      ip: "10.11.0.80",
      base: "10.10.7",
      ports: "[{ name: http, port: 80, targetPort: 8080 }, { name: https, port: 443, targetPort: 8443 }]",
    }),
    `
apiVersion: v1
kind: Namespace
metadata: { name: other, labels: { maistra.io/member-of: istio-system } }
---
apiVersion: v1
kind: Namespace
metadata: { name: other }
---
apiVersion: v1
kind: Node
metadata: { name: node-0, labels: { topology.kubernetes.io/region: r1, topology.kubernetes.io/zone: z1 } }
---
apiVersion: v1
kind: Node
metadata: { name: node-1, labels: { topology.kubernetes.io/region: r1, topology.kubernetes.io/zone: z2 } }
---
kind: VirtualService
metadata: { name: catalog, creationTimestamp: "2026-01-01T00:00:00Z" }
spec:
  hosts: [catalog]
  http:
  - match: [{ uri: { prefix: /a }, sourceLabels: { app: shop } }, { headers: { x: { regex: "a(" } } }]
    route: [{ destination: { host: catalog, subset: v2 } }]
  - route: [{ destination: { host: catalog, subset: v1, port: { number: 8080 } }, weight: 70 }, { destination: { host: catalog, subset: v2 }, weight: 30 }]
---
kind: VirtualService
metadata: { name: catalog }
spec: { hosts: [catalog, "x.example.com"], exportTo: ["."], http: [{ route: [{ destination: { host: db } }] }] }
---
kind: VirtualService
metadata: { name: rival, creationTimestamp: "2026-02-01T00:00:00Z" }
spec: { hosts: [catalog.coolapp.svc.cluster.local, "*.example.com"], gateways: [mesh, istio-system/main], http: [{ timeout: 5s, route: [{ destination: { host: shop.other.svc.cluster.local } }] }] }
---
kind: VirtualService
metadata: { name: rival, namespace: other }
spec: { hosts: ["*.coolapp.svc.cluster.local"], http: [{ delegate: { name: part, namespace: coolapp } }] }
---
kind: VirtualService
metadata: { name: part }
spec: { http: [{ fault: { abort: { httpStatus: 500, percentage: { value: 10 } } }, route: [{ destination: { host: catalog } }] }] }
---
kind: VirtualService
metadata: { name: l4 }
spec:
  hosts: [db, set, vm.example.com, out.example.com]
  gateways: [mesh, istio-system/main]
  tcp:
  - { match: [{ port: 5432, sourceLabels: { app: shop } }, { destinationSubnets: [10.10.11.1, 240.0.0.0/8] }], route: [{ destination: { host: catalog, port: { number: 8080 } } }] }
  - { match: [{ destinationSubnets: [10.0.0.0/8], sourceNamespace: other }], route: [{ destination: { host: db } }] }
  tls: [{ match: [{ sniHosts: [out.example.com], destinationSubnets: [240.0.0.0/8], sourceLabels: { app: catalog } }], route: [{ destination: { host: db } }] }]
---
kind: DestinationRule
metadata: { name: catalog }
spec:
  host: catalog
  trafficPolicy: { loadBalancer: { consistentHash: { httpHeaderName: x-user } }, outlierDetection: { interval: 1s } }
  subsets: [{ name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 }, trafficPolicy: { tls: { mode: DISABLE } } }]
---
kind: DestinationRule
metadata: { name: catalog }
spec: { host: catalog, exportTo: ["."], subsets: [{ name: v1, labels: { version: v1 } }] }
---
kind: DestinationRule
metadata: { name: some }
spec: { host: catalog, workloadSelector: { matchLabels: { app: catalog } }, trafficPolicy: { loadBalancer: { consistentHash: { useSourceIp: true } } }, subsets: [{ name: v1, labels: { version: v2 } }] }
---
kind: DestinationRule
metadata: { name: gate, namespace: istio-system }
spec: { host: catalog.coolapp.svc.cluster.local, workloadSelector: { matchLabels: { app: istio-ingressgateway } }, subsets: [{ name: v1, labels: { version: v2 } }, { name: v2, labels: { version: v1 } }] }
---
kind: DestinationRule
metadata: { name: mine, namespace: other }
spec: { host: "*.coolapp.svc.cluster.local", subsets: [{ name: v1, labels: { version: v2 } }] }
---
kind: Gateway
metadata: { name: main, namespace: istio-system }
spec: { selector: { app: istio-ingressgateway }, servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: ["*.example.com"], tls: { httpsRedirect: true } }, { port: { number: 443, name: https, protocol: HTTPS }, hosts: ["coolapp/*"], tls: { mode: SIMPLE, credentialName: cert } }] }
---
kind: Gateway
metadata: { name: main, namespace: istio-system }
spec: { selector: { app: istio-ingressgateway }, servers: [{ port: { number: 80, name: http, protocol: HTTP }, hosts: ["*"] }] }
---
kind: Gateway
metadata: { name: east-west }
spec: { selector: { app: istio-ingressgateway }, servers: [{ port: { number: 15443, name: tls, protocol: TLS }, hosts: ["*.local", "other/*"], tls: { mode: AUTO_PASSTHROUGH } }] }
---
kind: ServiceEntry
metadata: { name: out }
spec: { hosts: [out.example.com, "*.wild.example.com"], resolution: NONE, ports: [{ number: 443, name: tls, protocol: TLS }, { number: 80, name: http, protocol: HTTP }] }
---
kind: ServiceEntry
metadata: { name: out }
spec: { hosts: [out.example.com], exportTo: ["."], resolution: DNS, ports: [{ number: 80, name: http, protocol: HTTP }] }
---
kind: ServiceEntry
metadata: { name: vm, namespace: other }
spec: { hosts: [vm.example.com], location: MESH_INTERNAL, addresses: [240.0.0.1], resolution: STATIC, workloadSelector: { labels: { app: shop } }, ports: [{ number: 9000, name: tcp, protocol: TCP }] }
---
kind: Sidecar
metadata: { name: default }
spec: { egress: [{ hosts: ["./*", "istio-system/*"] }], outboundTrafficPolicy: { mode: REGISTRY_ONLY } }
---
kind: Sidecar
metadata: { name: own }
spec: { workloadSelector: { labels: { app: catalog } }, egress: [{ hosts: ["*/db.coolapp.svc.cluster.local"] }, { port: { number: 8080, name: http, protocol: HTTP }, hosts: ["./catalog.coolapp.svc.cluster.local", "other/*"] }], ingress: [{ port: { number: 8080, name: http, protocol: HTTP }, defaultEndpoint: "127.0.0.1:18080", connectionPool: { tcp: { maxConnections: 5 } } }, { port: { number: 9000, name: tcp, protocol: TCP }, defaultEndpoint: "0.0.0.0:19000" }, { port: { number: 9001, name: grpc, protocol: GRPC } }] }
---
kind: PeerAuthentication
metadata: { name: default }
spec: { mtls: { mode: STRICT } }
---
kind: PeerAuthentication
metadata: { name: catalog }
spec: { selector: { matchLabels: { app: catalog } }, mtls: { mode: STRICT }, portLevelMtls: { "8080": { mode: DISABLE } } }
---
kind: PeerAuthentication
metadata: { name: default, namespace: istio-system }
spec: { mtls: { mode: DISABLE } }
---
kind: AuthorizationPolicy
metadata: { name: nothing }
spec: {}
---
kind: AuthorizationPolicy
metadata: { name: some }
spec: { selector: { matchLabels: { app: catalog } }, action: DENY, rules: [{ from: [{ source: { namespaces: [other] } }], to: [{ operation: { methods: [POST] } }] }] }
---
kind: RateLimit
metadata: { name: limits }
spec: { limits: [{ name: all, tokens: 10, interval: 1s }] }
`,
  ].join("\n---\n"),
);

export const proxies: (Partial<MeshProxy> & { id: string; namespace: string })[] = [
  {
    id: "sidecar~10.10.0.1~catalog-0.coolapp~x",
    namespace: "coolapp",
    labels: { app: "catalog", version: "v1" },
  },
  { id: "sidecar~10.10.6.1~shop-0.other~x", namespace: "other", labels: { app: "shop", version: "v1" } },
  {
    id: "router~10.10.7.1~istio-ingressgateway-0.istio-system~x",
    type: "gateway",
    namespace: "istio-system",
    labels: { app: "istio-ingressgateway" },
  },
];

/** Objects that an API server or a careless file may let through, each with something that Envoy would refuse. */
export const hostile: KubeObject[] = objectsOf(`
kind: VirtualService
metadata: { name: hosts }
spec: { hosts: ["a b", "*.*.example.com", "foo*bar", "UPPER.Example.com", "x:y", "", "[::1]", "*", "catalog"], http: [{ route: [{ destination: { host: catalog } }] }] }
---
kind: VirtualService
metadata: { name: numbers }
spec:
  hosts: [db.coolapp.svc.cluster.local, nums.example.com]
  http:
  - { match: [{ port: 70000 }, { uri: { exact: "" } }, { uri: { exact: "no-slash" } }, { uri: { prefix: "no-slash" } }], timeout: -1s, route: [{ destination: { host: db, port: { number: 99999 } }, weight: -1 }] }
  - { match: [{ uri: { prefix: /a } }], timeout: 0.0000001s, retries: { attempts: 100, perTryTimeout: 0s, retryOn: "nonsense,5xx,99999", backoff: 0s }, route: [{ destination: { host: db }, weight: 4294967295 }, { destination: { host: catalog }, weight: 4294967295 }] }
  - { match: [{ uri: { prefix: /b } }], fault: { delay: { fixedDelay: 0s, percentage: { value: 1000 } }, abort: { httpStatus: 99, percentage: { value: -1 } } }, route: [{ destination: { host: db } }] }
  - { match: [{ uri: { prefix: /c } }], fault: { delay: { fixedDelay: 0s, percentage: { value: 50 } }, abort: { httpStatus: 600 } }, route: [{ destination: { host: db } }] }
  - { match: [{ uri: { prefix: /d } }], redirect: { uri: "/a\\r\\nx: y", authority: "a\\nb", port: 70000, scheme: "java script" } }
  - { match: [{ uri: { prefix: /e } }], redirect: { redirectCode: 200 } }
  - { match: [{ uri: { prefix: /f } }], directResponse: { status: 1000, body: { string: x } } }
  - { match: [{ uri: { prefix: /g } }], rewrite: { uri: "/x\\r\\n", authority: "a\\r\\nb: c", uriRegexRewrite: { match: "(", rewrite: "\\\\9" } }, route: [{ destination: { host: db } }] }
  - { match: [{ uri: { prefix: /g2 } }], rewrite: { uriRegexRewrite: { match: "a(b)", rewrite: "\\\\9" } }, route: [{ destination: { host: db } }] }
  - { match: [{ uri: { prefix: /h } }], headers: { request: { set: { ":path": "/x", "x y": z, "": e, ":authority": q }, add: { "x": "%NOT_A_COMMAND%" }, remove: [":method", host, ""] }, response: { set: { ":status": "200", x: "100%" } } }, route: [{ destination: { host: db } }] }
  - { match: [{ uri: { prefix: /i } }], corsPolicy: { allowOrigins: [{ regex: "(" }, {}], maxAge: -1s }, route: [{ destination: { host: db } }] }
  - { match: [{ uri: { prefix: /j } }], mirror: { host: "" }, mirrorPercentage: { value: 0.00001 }, route: [{ destination: { host: db } }] }
  - { match: [{ uri: { prefix: /k } }], mirrors: [{ destination: { host: nobody } }], route: [{ destination: { host: nobody } }] }
  - { match: [{ uri: { prefix: /w } }], route: [{ destination: { host: db }, weight: 4294967295 }, { destination: { host: catalog }, weight: 2 }] }
  - { match: [{ headers: { ":method": { exact: GET }, "": { exact: a }, "bad name": { exact: b } } }, { method: { regex: "" } }, { queryParams: { "": { exact: a }, q: { exact: "" } } }, { headers: { x: { prefix: "" } } }, { headers: { x: { regex: "" } } }, { headers: { x: { exact: "a\\r\\nb" } } }, { withoutHeaders: { x: {} } }], route: [{ destination: { host: db } }] }
---
kind: VirtualService
metadata: { name: tls }
spec:
  hosts: [out.example.com]
  gateways: [mesh, istio-system/main]
  tls: [{ match: [{ sniHosts: ["*", "a b", "*.*", "f*o", "out.example.com", "out.example.com"], destinationSubnets: [nonsense] }], route: [{ destination: { host: db } }] }, { route: [] }]
  tcp: [{ match: [{ port: 99999 }], route: [] }, { match: [{ destinationSubnets: [nonsense, "1.2.3.4/99", "::/0", "0.0.0.0/0", "10.0.0.1/8"], sourceLabels: {} }], route: [{ destination: { host: db } }] }, { route: [{ destination: { host: db }, weight: 0 }, { destination: { host: catalog }, weight: 0 }] }]
---
kind: DestinationRule
metadata: { name: numbers }
spec:
  host: db
  trafficPolicy:
    connectionPool: { tcp: { maxConnections: -1, connectTimeout: 0s, tcpKeepalive: { probes: -5, time: 1ms, interval: -1s }, idleTimeout: -1s }, http: { http1MaxPendingRequests: -1, maxRequestsPerConnection: -1, maxRetries: -1, idleTimeout: 0s, maxConcurrentStreams: -1 } }
    outlierDetection: { consecutive5xxErrors: -1, consecutiveGatewayErrors: -1, interval: 0s, baseEjectionTime: -1s, maxEjectionPercent: 1000, minHealthPercent: -5 }
    loadBalancer: { consistentHash: { httpCookie: { name: "", ttl: -1s }, ringHash: { minimumRingSize: 99999999999 } }, warmup: { duration: 0s, minimumPercent: 1000, aggression: -1 } }
    tls: { mode: MUTUAL, sni: "a\\nb", subjectAltNames: [""] }
  subsets: [{ name: "a|b c", labels: { version: v1 } }, { labels: {} }, { name: m, trafficPolicy: { loadBalancer: { consistentHash: { httpHeaderName: "bad name", maglev: { tableSize: 10 } }, warmup: { duration: 10s, minimumPercent: 200, aggression: 0 } } } }, { name: c, trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN, warmup: { duration: 10s, minimumPercent: -3, aggression: 0.5 } }, tls: { mode: SIMPLE } } }]
---
kind: ServiceEntry
metadata: { name: numbers }
spec: { hosts: ["a b", "*", "*.*", "x.example.com"], addresses: [1.2.3.4/99, "10.0.0.0/8", "fd00::1"], resolution: STATIC, location: MESH_INTERNAL, ports: [{ number: 0, name: a, protocol: HTTP }, { number: 70000, name: b, protocol: TCP }, { number: 81, name: http, protocol: HTTP }, { number: 9443, name: tls, protocol: TLS }, { number: 9000, name: tcp, protocol: TCP }], endpoints: [{ address: 192.0.2.1, ports: { http: 0, tcp: 99999 }, weight: 0 }, { address: "unix:///x" }, { address: host.example.com }] }
---
kind: ServiceEntry
metadata: { name: names }
spec: { hosts: ["y.example.com"], resolution: DNS, ports: [{ number: 82, name: http, protocol: HTTP }], endpoints: [{ address: "not a name" }, { address: "a.example.com", weight: 4294967295 }, { address: "b.example.com", weight: 4294967295 }] }
---
kind: ServiceEntry
metadata: { name: robin }
spec: { hosts: ["z.example.com"], resolution: DNS_ROUND_ROBIN, ports: [{ number: 82, name: http, protocol: HTTP }], endpoints: [{ address: "a.example.com" }, { address: "b.example.com" }] }
---
kind: Gateway
metadata: { name: odd, namespace: istio-system }
spec:
  selector: { app: istio-ingressgateway }
  servers:
  - { port: { number: 0, name: a, protocol: HTTP }, hosts: ["*"] }
  - { port: { number: 99999, name: a, protocol: HTTP }, hosts: ["*"] }
  - { port: { number: 8443, name: b, protocol: HTTPS }, hosts: ["a b", "*.*.com", "", "x/"], tls: { mode: SIMPLE, credentialName: "", cipherSuites: [NOT-A-CIPHER], minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2 } }
  - { port: { number: 8444, name: c, protocol: TLS }, hosts: ["*", "./out.example.com"], tls: { mode: PASSTHROUGH } }
  - { port: { number: 8445, name: d, protocol: TCP }, hosts: ["*"] }
  - { port: { number: 8446, name: e, protocol: HTTPS }, hosts: ["*"], tls: { mode: ISTIO_MUTUAL } }
  - { port: { number: 8447, name: f, protocol: HTTPS }, hosts: ["f.example.com"], tls: { mode: MUTUAL, credentialName: c } }
  - { port: { number: 8448, name: g, protocol: HTTP }, bind: nonsense, hosts: ["*"] }
---
kind: Sidecar
metadata: { name: own }
spec: { workloadSelector: { labels: { app: catalog } }, inboundConnectionPool: { tcp: { connectTimeout: 0s, maxConnections: -1 } }, egress: [{ port: { number: 99999, protocol: x }, hosts: [nonsense, "./*"] }], ingress: [{ port: { number: 0, protocol: HTTP } }, { port: { number: 80, protocol: x } }, { port: { number: 81, protocol: TCP }, defaultEndpoint: "unix:///x" }, { port: { number: 82, protocol: TCP }, defaultEndpoint: "10.0.0.1:80" }, { port: { number: 83, protocol: TCP }, defaultEndpoint: "[::1]:80" }, { port: { number: 83, protocol: HTTP }, defaultEndpoint: "[::]:81" }, {}] }
---
kind: PeerAuthentication
metadata: { name: odd }
spec: { selector: { matchLabels: { app: catalog } }, portLevelMtls: { "99999": { mode: STRICT }, "x": { mode: STRICT }, "7777": { mode: STRICT } } }
---
kind: AuthorizationPolicy
metadata: { name: odd }
spec: { action: DENY, rules: [{ from: [{ source: { ipBlocks: [1.2.3.4/99, x], principals: ["", "*", "a*", "*b"], namespaces: ["*", "a*"], notRemoteIpBlocks: [y], requestPrincipals: [z], serviceAccounts: [a, b/c] } }], to: [{ operation: { ports: ["99999", a], methods: ["", "*"], paths: ["", "/a*", "*", "*/b", "/{*}", "/a/{**}/b"], hosts: ["*.com", "a b"] } }], when: [{ key: nonsense, values: [a] }, { key: "request.headers[]", values: [a] }, { key: "source.ip", values: [x] }, { key: "destination.port", values: [x, "80"] }, { key: "connection.sni", values: ["*"] }, { key: "request.headers[x]" }, { key: "source.namespace", values: ["a*"] }, { key: "destination.ip", notValues: [x] }, { key: "request.regex.headers[x]", values: ["("] }] }] }
---
kind: RateLimit
metadata: { name: odd }
spec: { limits: [{ name: "", tokens: 0, interval: 1s }, { name: a, tokens: 1, interval: 1ms }, { name: b, tokens: 4294967296, burst: -1, interval: 1000000h }, { name: c, tokens: 1, interval: 1s, match: { path: { regex: "(" } } }, { name: d, tokens: 1, interval: 1s, match: { headers: { "bad name": { exact: a } }, methods: ["", "G T"] }, per: { header: "bad name" } }, { name: d, tokens: 1.5, interval: 1s }] }
`);
