/** For tests: a mesh whose objects are written as YAML, as people write them. */
import { parseAllDocuments } from "yaml";
import { type KubeObject, type MeshSettings, memberOfLabel, nameOf, type Secret } from "../api/index.ts";
import { type Bug, derive, Engine, type Source, source } from "../collections/index.ts";
import { SimulatedWorld } from "../world/index.ts";
import { credentialOf } from "./credentials.ts";
import { type Traffic, type TrafficInputs, traffic } from "./index.ts";
import type { Proxy as MeshProxy, ScopeConfig } from "./model.ts";

export const meshSettings: MeshSettings = {
  name: "basic",
  namespace: "istio-system",
  cluster: "c1",
  trustDomain: "cluster.local",
  trustDomainAliases: [],
  clusterDomain: "cluster.local",
  mtls: { mode: "PERMISSIVE", auto: true },
  balancer: "LEAST_REQUEST",
  outboundPolicy: "ALLOW_ANY",
  traceSampling: 1,
  accessLog: true,
  proxy: { implementation: "embedded", image: "weft", resources: {}, concurrency: 0 },
  discoveryHost: "istiod-basic.istio-system.svc",
};

/** Kind → the input it belongs to. */
const inputOf: Record<string, keyof TrafficInputs | "secrets"> = {
  Namespace: "namespaces",
  Service: "services",
  EndpointSlice: "endpointSlices",
  Pod: "pods",
  Node: "nodes",
  ServiceImport: "imports",
  VirtualService: "virtualServices",
  DestinationRule: "destinationRules",
  Gateway: "gateways",
  ServiceEntry: "serviceEntries",
  WorkloadEntry: "workloadEntries",
  Sidecar: "sidecars",
  PeerAuthentication: "peerAuthentications",
  AuthorizationPolicy: "authorizationPolicies",
  RateLimit: "rateLimits",
  HTTPRoute: "httpRoutes",
  ReferenceGrant: "referenceGrants",
  Secret: "secrets",
};

export interface TestMesh extends Traffic {
  engine: Engine;
  bugs: Bug[];
  /** Adds or replaces objects written as YAML; a namespace `coolapp` is what they are in unless they say otherwise. */
  apply(yaml: string): void;
  put(...objects: KubeObject[]): void;
  remove(kind: string, name: string): void;
  set(settings: Partial<MeshSettings>): void;
  connect(proxy: Partial<MeshProxy> & { namespace: string }): MeshProxy;
  disconnect(proxy: MeshProxy): void;
  /** All that a proxy has. */
  config(proxy: MeshProxy): ScopeConfig;
}

export function objectsOf(yaml: string): KubeObject[] {
  return parseAllDocuments(yaml).flatMap((document) => {
    const object = document.toJS() as KubeObject | null;
    if (!object) return [];
    if (object.kind !== "Namespace" && object.kind !== "Node") object.metadata.namespace ??= "coolapp";
    return [object];
  });
}

export function testMesh(settings: Partial<MeshSettings> = {}): TestMesh {
  const world = new SimulatedWorld(1);
  const bugs: Bug[] = [];
  const engine = new Engine({ world, onBug: (bug) => bugs.push(bug) });
  const sources = new Map<string, Source<KubeObject>>();
  const input = <T>(name: string): Source<T & {}> => {
    const made = source<KubeObject>(engine, { name, key: nameOf, synced: true });
    sources.set(name, made);
    return made as unknown as Source<T & {}>;
  };
  const mesh = source<MeshSettings>(engine, { name: "mesh", key: () => "mesh", synced: true });
  const proxies = source<MeshProxy>(engine, { name: "proxies", key: ({ id }) => id, synced: true });
  const inputs: TrafficInputs = {
    mesh,
    proxies,
    namespaces: input("namespaces"),
    services: input("services"),
    endpointSlices: input("endpointSlices"),
    pods: input("pods"),
    nodes: input("nodes"),
    imports: input("imports"),
    virtualServices: input("virtualServices"),
    destinationRules: input("destinationRules"),
    gateways: input("gateways"),
    serviceEntries: input("serviceEntries"),
    workloadEntries: input("workloadEntries"),
    sidecars: input("sidecars"),
    peerAuthentications: input("peerAuthentications"),
    authorizationPolicies: input("authorizationPolicies"),
    rateLimits: input("rateLimits"),
    kubeGateways: input("kubeGateways"),
    httpRoutes: input("httpRoutes"),
    referenceGrants: input("referenceGrants"),
    credentials: derive(input<Secret>("secrets"), credentialOf, { name: "credentials" }),
  };
  let current = { ...meshSettings, ...settings };
  mesh.put(current);
  const made = traffic(inputs);
  const sourceOf = (object: Pick<KubeObject, "kind" | "apiVersion">) => {
    const kube = object.kind === "Gateway" && object.apiVersion?.startsWith("gateway.networking.k8s.io");
    const name = kube ? "kubeGateways" : inputOf[object.kind];
    const found = name && sources.get(name);
    if (!found) throw new Error(`no input for ${object.kind}`);
    return found;
  };
  const put = (...objects: KubeObject[]) => {
    for (const object of objects) sourceOf(object).put(object);
    engine.settle();
  };
  put(
    ...objectsOf(`
apiVersion: v1
kind: Namespace
metadata: { name: istio-system }
---
apiVersion: v1
kind: Namespace
metadata: { name: coolapp, labels: { ${memberOfLabel}: istio-system } }
---
apiVersion: v1
kind: Namespace
metadata: { name: other, labels: { ${memberOfLabel}: istio-system } }
`),
  );
  return {
    ...made,
    engine,
    bugs,
    put,
    apply: (yaml) => put(...objectsOf(yaml)),
    remove(kind, name) {
      sourceOf({ kind, apiVersion: "" }).remove(name);
      engine.settle();
    },
    set(change) {
      current = { ...current, ...change };
      mesh.put(current);
      engine.settle();
    },
    connect(given) {
      const { namespace } = given;
      const proxy: MeshProxy = {
        id: `sidecar~10.0.0.1~client.${namespace}~${namespace}.svc.cluster.local`,
        type: "sidecar",
        labels: {},
        addresses: ["10.0.0.1"],
        serviceAccount: "default",
        cluster: "c1",
        locality: { region: "", zone: "" },
        ...given,
      };
      proxies.put(proxy);
      engine.settle();
      return proxy;
    },
    disconnect(proxy) {
      proxies.remove(proxy.id);
      engine.settle();
    },
    config(proxy) {
      const all = made.scopesOf(proxy).map((scope) => made.configs.get(scope));
      const merged = {
        scope: made.scopesOf(proxy).join(" "),
        listeners: new Map(all.flatMap((each) => [...(each?.listeners ?? [])])),
        routes: new Map(all.flatMap((each) => [...(each?.routes ?? [])])),
        upstreams: new Map(all.flatMap((each) => [...(each?.upstreams ?? [])])),
        secrets: new Set(all.flatMap((each) => [...(each?.secrets ?? [])])),
      };
      return merged;
    },
  };
}

/** A Service with its pods and their slice: `version` of each pod, in order. */
export function workload(
  name: string,
  options: {
    namespace?: string;
    ports?: string;
    ip?: string;
    versions?: string[];
    sidecar?: boolean;
    base?: string;
  } = {},
): string {
  const {
    namespace = "coolapp",
    ports = "[{ name: http, port: 8080 }]",
    ip = "10.11.0.9",
    versions = ["v1"],
    sidecar = true,
    base = "10.10.0",
  } = options;
  // A slice has the pods' ports.
  const portList = ports.replace(/port: *\d+, *targetPort: *(\d+)/g, "port: $1");
  const pods = versions.map(
    (version, i) => `
apiVersion: v1
kind: Pod
metadata:
  name: ${name}-${i}
  namespace: ${namespace}
  labels: { app: ${name}, version: ${version}${sidecar ? ", security.istio.io/tlsMode: istio" : ""} }
spec: { serviceAccountName: ${name}, nodeName: node-${i % 2}, containers: [] }
status: { podIP: ${base}.${i + 1} }
---`,
  );
  return `${pods.join("")}
apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: ${namespace} }
spec: { clusterIP: ${ip}, clusterIPs: ["${ip}"], selector: { app: ${name} }, ports: ${ports} }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: ${name}-x, namespace: ${namespace}, labels: { kubernetes.io/service-name: ${name} } }
addressType: IPv4
endpoints:
${versions
  .map(
    (_, i) =>
      `- { addresses: ["${base}.${i + 1}"], nodeName: node-${i % 2}, conditions: { ready: true }, targetRef: { kind: Pod, name: ${name}-${i}, namespace: ${namespace} } }`,
  )
  .join("\n")}
ports: ${portList}
`;
}
