/**
 * What a ServiceMeshControlPlane asks for, whichever form it is written in. Defaults are Maistra's; where its two
 * generations differ, the form decides (a v1 control plane balances round robin, as Istio 1.4 did).
 */
import type { Container, ProxyImplementation, Service, ServiceMeshControlPlane } from "../api/index.ts";
import { accessLogFormatProblem, discoveryName, type MeshSettings } from "../api/index.ts";
import { formOf, notServed, notStarted } from "./served.ts";
import { boolean, given, number, record, text, texts, valueAt } from "./values.ts";

type Resources = NonNullable<Container["resources"]>;
type ServicePort = NonNullable<NonNullable<Service["spec"]>["ports"]>[number];

/** What meshes of this cluster have in common. */
export interface MeshEnvironment {
  /** The cluster's id. */
  cluster: string;
  /** The control plane's own image: discovery and proxies run the same. */
  image: string;
  /** What `weft install --proxy` said. */
  proxy: ProxyImplementation;
  /** `cluster.local`. */
  clusterDomain: string;
}

export interface GatewaySpec {
  /** Of its Deployment and Service: `istio-ingressgateway`. */
  name: string;
  namespace: string;
  type: "ClusterIP" | "NodePort" | "LoadBalancer";
  ports: readonly ServicePort[];
  /** Besides `app` and `istio`. */
  labels: Readonly<Record<string, string>>;
  serviceAnnotations: Readonly<Record<string, string>>;
  loadBalancerIP?: string;
  replicas: number;
  resources?: Resources;
}

export interface Mesh {
  owner: ServiceMeshControlPlane;
  settings: MeshSettings;
  discovery: { replicas: number; resources: Resources };
  gateways: readonly GatewaySpec[];
  /** Fields that ask for what is not served. */
  notServed: readonly string[];
  /** Components that people know to come with this form without being asked for, and that are not served. */
  notStarted: readonly string[];
  /** Fields that cannot be what they say, as `path: why`; the default holds. */
  invalid: readonly string[];
}

/** Requests of a proxy where nobody says: what the embedded one needs when it does little. */
const proxyResources: Resources = {
  requests: { cpu: "10m", memory: "64Mi" },
  limits: { cpu: "2", memory: "1Gi" },
};
const discoveryResources: Resources = { requests: { cpu: "50m", memory: "128Mi" } };

const http2: ServicePort = { name: "http2", port: 80, targetPort: 8080, protocol: "TCP" };
const https: ServicePort = { name: "https", port: 443, targetPort: 8443, protocol: "TCP" };
const status: ServicePort = { name: "status-port", port: 15021, targetPort: 15021, protocol: "TCP" };

/** A mesh as its control plane asks for it. */
export function meshOf(owner: ServiceMeshControlPlane, environment: MeshEnvironment): Mesh {
  const asked = formOf(owner.spec) === "v1" ? readV1(owner) : readV2(owner);
  const { name, namespace = "" } = owner.metadata;
  const trustDomain = asked.trustDomain ?? `${environment.cluster}.clusterset.local`;
  const aliases = asked.trustDomainAliases ?? [];
  const invalid = invalidFields(owner);
  const settings: MeshSettings = {
    name,
    namespace,
    cluster: environment.cluster,
    trustDomain,
    // What people write in policies of Istio means the mesh's own trust domain.
    trustDomainAliases: [...new Set([...aliases, "cluster.local"])].filter((each) => each !== trustDomain),
    clusterDomain: environment.clusterDomain,
    mtls: { mode: asked.mtls ? "STRICT" : "PERMISSIVE", auto: asked.autoMtls ?? true },
    balancer: asked.balancer,
    outboundPolicy: asked.outboundPolicy === "REGISTRY_ONLY" ? "REGISTRY_ONLY" : "ALLOW_ANY",
    traceSampling: Math.min(100, Math.max(0, asked.traceSampling ?? 1)),
    accessLog: asked.accessLog,
    ...(asked.accessLogFormat && invalid.length === 0 && { accessLogFormat: asked.accessLogFormat }),
    ...(asked.trustedProxies !== undefined &&
      asked.trustedProxies >= 1 && { trustedProxies: Math.floor(asked.trustedProxies) }),
    proxy: {
      implementation: environment.proxy,
      image: environment.image,
      resources: asked.proxyResources ?? proxyResources,
      concurrency: asked.concurrency ?? 2,
    },
    discoveryHost: `${discoveryName(name)}.${namespace}.svc`,
  };
  return {
    owner,
    settings,
    discovery: {
      replicas: asked.discoveryReplicas ?? 1,
      resources: asked.discoveryResources ?? discoveryResources,
    },
    gateways: asked.gateways,
    notServed: notServed(owner.spec),
    notStarted: notStarted(owner.spec),
    invalid: invalid.map(({ field, reason }) => `${field}: ${reason}`),
  };
}

/** Fields of a control plane that cannot be what they say; the default holds. */
export function invalidFields(owner: ServiceMeshControlPlane): { field: string; reason: string }[] {
  const form = formOf(owner.spec);
  const { accessLogFormat } = form === "v1" ? readV1(owner) : readV2(owner);
  const reason = accessLogFormat && accessLogFormatProblem(accessLogFormat);
  return reason ? [{ field: formatFields[form], reason }] : [];
}

/** Where the two forms have the format of the access log. */
const formatFields = {
  v1: "spec.istio.global.proxy.accessLogFormat",
  v2: "spec.proxy.accessLogging.file.format",
};

interface Asked {
  mtls: boolean;
  autoMtls?: boolean;
  trustDomain?: string;
  trustDomainAliases?: string[];
  balancer: MeshSettings["balancer"];
  outboundPolicy?: string;
  traceSampling?: number;
  accessLog: boolean;
  accessLogFormat?: string;
  trustedProxies?: number;
  proxyResources?: Resources;
  concurrency?: number;
  discoveryReplicas?: number;
  discoveryResources?: Resources;
  gateways: GatewaySpec[];
}

/** Below a mesh config, wherever a form has it. Source: istio/api `mesh/v1alpha1/proxy.proto`, Topology. */
const trustedProxies = ["defaultConfig", "gatewayTopology", "numTrustedProxies"] as const;

function readV1({ spec, metadata }: ServiceMeshControlPlane): Asked {
  const at = (...path: string[]) => valueAt(spec?.istio, ...path);
  const mtls = at("global", "mtls");
  const all = record(at("gateways"));
  const names = new Set(["istio-ingressgateway", "istio-egressgateway"]);
  for (const [name, value] of Object.entries(all)) {
    if (valueAt(value, "enabled") === true) names.add(name);
  }
  const gateways = [...names]
    .filter((name) => all.enabled !== false && valueAt(all[name], "enabled") !== false)
    .map((name): GatewaySpec => {
      const of = (...path: string[]) => valueAt(all[name], ...path);
      const loadBalancerIP = text(of("loadBalancerIP"));
      const resources = resourcesOf(of("resources"));
      return {
        name,
        namespace: metadata.namespace ?? "",
        type: serviceType(of("type"), name === "istio-egressgateway" ? "ClusterIP" : "LoadBalancer"),
        ports: portsOf(of("ports")) ?? usualPorts(name === "istio-egressgateway"),
        labels: textRecord(of("labels")),
        serviceAnnotations: textRecord(of("serviceAnnotations")),
        replicas: number(of("replicaCount")) ?? 1,
        ...(loadBalancerIP && { loadBalancerIP }),
        ...(resources && { resources }),
      };
    });
  return {
    mtls: boolean(mtls) ?? boolean(valueAt(mtls, "enabled")) ?? false,
    balancer: "ROUND_ROBIN",
    accessLog: text(at("global", "proxy", "accessLogFile")) !== undefined,
    gateways,
    ...given({
      autoMtls: boolean(valueAt(mtls, "auto")),
      trustDomain: text(at("global", "trustDomain")),
      trustDomainAliases: texts(at("global", "trustDomainAliases")),
      outboundPolicy: text(at("global", "outboundTrafficPolicy", "mode")),
      traceSampling: number(at("pilot", "traceSampling")),
      accessLogFormat: text(at("global", "proxy", "accessLogFormat")),
      trustedProxies: number(at("meshConfig", ...trustedProxies)),
      proxyResources: resourcesOf(at("global", "proxy", "resources")),
      concurrency: number(at("global", "proxy", "concurrency")),
      discoveryReplicas: number(at("pilot", "replicaCount")),
      discoveryResources: resourcesOf(at("pilot", "resources")),
    }),
  };
}

function readV2({ spec = {}, metadata }: ServiceMeshControlPlane): Asked {
  const { security, proxy, tracing, gateways: asked, runtime } = spec;
  const pilot = runtime?.components?.pilot;
  const home = metadata.namespace ?? "";
  const gateway = (name: string, egress: boolean, of: unknown): GatewaySpec[] => {
    if (valueAt(of, "enabled") === false || asked?.enabled === false) return [];
    const at = (...path: string[]) => valueAt(of, ...path);
    const loadBalancerIP = text(at("service", "loadBalancerIP"));
    const resources = resourcesOf(at("runtime", "container", "resources"));
    return [
      {
        name,
        namespace: home,
        type: serviceType(at("service", "type"), egress ? "ClusterIP" : "LoadBalancer"),
        ports: portsOf(at("service", "ports")) ?? usualPorts(egress),
        labels: textRecord(at("service", "metadata", "labels")),
        serviceAnnotations: textRecord(at("service", "metadata", "annotations")),
        replicas: number(at("runtime", "deployment", "replicas")) ?? 1,
        ...(loadBalancerIP && { loadBalancerIP }),
        ...(resources && { resources }),
      },
    ];
  };
  const more = (of: unknown, egress: boolean) =>
    Object.entries(record(of)).flatMap(([name, value]) => gateway(name, egress, value));
  const sampling = number(tracing?.sampling);
  return {
    mtls: boolean(security?.dataPlane?.mtls) ?? false,
    balancer: "LEAST_REQUEST",
    accessLog: text(proxy?.accessLogging?.file?.name) !== undefined,
    gateways: [
      ...gateway("istio-ingressgateway", false, asked?.ingress),
      ...gateway("istio-egressgateway", true, asked?.egress),
      ...more(asked?.additionalIngress, false),
      ...more(asked?.additionalEgress, true),
    ],
    ...given({
      autoMtls: boolean(security?.dataPlane?.automtls),
      trustDomain: text(security?.trust?.domain),
      trustDomainAliases: texts(security?.trust?.additionalDomains),
      outboundPolicy: text(proxy?.networking?.trafficControl?.outbound?.policy),
      traceSampling: sampling === undefined ? undefined : sampling / 100,
      accessLogFormat: text(proxy?.accessLogging?.file?.format),
      trustedProxies: number(valueAt(spec.techPreview, "meshConfig", ...trustedProxies)),
      proxyResources: resourcesOf(proxy?.runtime?.container?.resources),
      concurrency: number(proxy?.concurrency),
      discoveryReplicas: number(pilot?.deployment?.replicas),
      discoveryResources: resourcesOf(pilot?.container?.resources),
    }),
  };
}

function usualPorts(egress: boolean): ServicePort[] {
  return egress ? [http2, https] : [status, http2, https];
}

function serviceType(value: unknown, usual: GatewaySpec["type"]): GatewaySpec["type"] {
  return value === "ClusterIP" || value === "NodePort" || value === "LoadBalancer" ? value : usual;
}

/** Requests and limits with quantities as Kubernetes takes them; nothing where it is not that. */
function resourcesOf(value: unknown): Resources | undefined {
  const part = (name: "requests" | "limits") => {
    const quantities = Object.entries(record(valueAt(value, name))).filter(
      ([, quantity]) => typeof quantity === "string" || typeof quantity === "number",
    );
    return quantities.length > 0
      ? Object.fromEntries(quantities.map(([key, quantity]) => [key, String(quantity)]))
      : undefined;
  };
  const found = given({ requests: part("requests"), limits: part("limits") });
  return Object.keys(found).length > 0 ? found : undefined;
}

function portsOf(value: unknown): ServicePort[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const ports = value.flatMap((each: unknown): ServicePort[] => {
    const port = number(valueAt(each, "port"));
    if (port === undefined || !Number.isInteger(port)) return [];
    const target = valueAt(each, "targetPort");
    const nodePort = number(valueAt(each, "nodePort"));
    return [
      {
        name: text(valueAt(each, "name")) ?? `port-${port}`,
        port,
        // Ports below 1024 need a right that proxies do not have: as in Istio's charts they are moved.
        targetPort: number(target) ?? (port < 1024 ? port + 8000 : port),
        protocol: "TCP",
        ...(nodePort !== undefined && { nodePort }),
      },
    ];
  });
  return ports.length > 0 ? ports : undefined;
}

function textRecord(value: unknown): Record<string, string> {
  return Object.fromEntries(
    Object.entries(record(value)).filter((entry): entry is [string, string] => typeof entry[1] === "string"),
  );
}
