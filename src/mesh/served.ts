/**
 * Which fields of a ServiceMeshControlPlane have an effect. Everything else that asks for something is named in the
 * condition `NotServedYet`, never passed over in silence. docs/mesh.md prints these lists; a test holds them together.
 */
import type { ServiceMeshControlPlane } from "../api/index.ts";
import { number, record } from "./values.ts";

export interface ServedField {
  /** Below `spec`; `*` is any one name, a last `**` everything below. */
  path: string;
  /** What it does, for docs/mesh.md. */
  effect: string;
  /** Only these values are served. */
  values?: readonly unknown[];
  /** Only numbers are (Helm values may hold them as texts). */
  number?: true;
}

const anyGateway = "istio.gateways.*";
const booleans = [true, false];
const serviceTypes = ["ClusterIP", "NodePort", "LoadBalancer"];

export const servedV1: readonly ServedField[] = [
  { path: "version", effect: "v1.x: the v1 form" },
  { path: "template", effect: "none: there is one template", values: ["default", "maistra"] },
  { path: "profiles", effect: "none: there is one profile" },
  {
    path: "istio.global.mtls",
    effect: "true: STRICT, false: PERMISSIVE for the whole mesh",
    values: booleans,
  },
  { path: "istio.global.mtls.enabled", effect: "as `istio.global.mtls`", values: booleans },
  {
    path: "istio.global.mtls.auto",
    effect: "mTLS to endpoints that can, without a DestinationRule",
    values: booleans,
  },
  { path: "istio.global.disablePolicyChecks", effect: "none: there is no Mixer", values: [true] },
  { path: "istio.global.trustDomain", effect: "the mesh's trust domain" },
  { path: "istio.global.trustDomainAliases", effect: "trust domains that count as ours in policies" },
  {
    path: "istio.global.outboundTrafficPolicy.mode",
    effect: "what becomes of calls to unknown hosts",
    values: ["ALLOW_ANY", "REGISTRY_ONLY"],
  },
  { path: "istio.global.proxy.resources.**", effect: "resources of proxies, in sidecars and gateways" },
  { path: "istio.global.proxy.concurrency", effect: "threads of Envoy", number: true },
  { path: "istio.global.proxy.accessLogFile", effect: "an access log", values: ["/dev/stdout", ""] },
  { path: "istio.global.proxy.accessLogFormat", effect: "the access log's format" },
  {
    path: "istio.meshConfig.defaultConfig.gatewayTopology.numTrustedProxies",
    effect: "proxies in front of gateways whose X-Forwarded-For is believed",
  },
  { path: "istio.pilot.traceSampling", effect: "percent of requests that are traced", number: true },
  { path: "istio.pilot.replicaCount", effect: "replicas of discovery", number: true },
  { path: "istio.pilot.resources.**", effect: "resources of discovery" },
  { path: "istio.gateways.enabled", effect: "false: no gateways" },
  { path: `${anyGateway}.enabled`, effect: "whether there is this gateway", values: booleans },
  { path: `${anyGateway}.type`, effect: "type of its Service", values: serviceTypes },
  { path: `${anyGateway}.ports`, effect: "ports of its Service" },
  { path: `${anyGateway}.labels.**`, effect: "labels of its pods, for Gateways to select" },
  { path: `${anyGateway}.serviceAnnotations.**`, effect: "annotations of its Service" },
  { path: `${anyGateway}.loadBalancerIP`, effect: "wish for an address of its Service" },
  { path: `${anyGateway}.replicaCount`, effect: "replicas", number: true },
  { path: `${anyGateway}.resources.**`, effect: "resources" },
];

const gatewayV2 = (at: string): ServedField[] => [
  { path: `${at}.enabled`, effect: "whether there is this gateway" },
  { path: `${at}.service.type`, effect: "type of its Service", values: serviceTypes },
  { path: `${at}.service.ports`, effect: "ports of its Service" },
  { path: `${at}.service.loadBalancerIP`, effect: "wish for an address of its Service" },
  { path: `${at}.service.metadata.labels.**`, effect: "labels of its Service and pods" },
  { path: `${at}.service.metadata.annotations.**`, effect: "annotations of its Service" },
  { path: `${at}.runtime.deployment.replicas`, effect: "replicas" },
  { path: `${at}.runtime.container.resources.**`, effect: "resources" },
];

export const servedV2: readonly ServedField[] = [
  { path: "version", effect: "none: there is one version" },
  { path: "profiles", effect: "none: there is one profile" },
  { path: "mode", effect: "MultiTenant: members only", values: ["MultiTenant"] },
  { path: "cluster.name", effect: "none: the cluster's name is that of its clusterset" },
  { path: "security.dataPlane.mtls", effect: "true: STRICT, false: PERMISSIVE for the whole mesh" },
  { path: "security.dataPlane.automtls", effect: "mTLS to endpoints that can, without a DestinationRule" },
  { path: "security.controlPlane.mtls", effect: "always on", values: [true] },
  { path: "security.trust.domain", effect: "the mesh's trust domain" },
  { path: "security.trust.additionalDomains", effect: "trust domains that count as ours in policies" },
  { path: "security.certificateAuthority.type", effect: "discovery signs", values: ["Istiod"] },
  { path: "security.identity.type", effect: "tokens for the audience istio-ca", values: ["ThirdParty"] },
  {
    path: "proxy.networking.trafficControl.outbound.policy",
    effect: "what becomes of calls to unknown hosts",
    values: ["ALLOW_ANY", "REGISTRY_ONLY"],
  },
  { path: "proxy.runtime.container.resources.**", effect: "resources of proxies, in sidecars and gateways" },
  { path: "proxy.concurrency", effect: "threads of Envoy" },
  { path: "proxy.accessLogging.file.name", effect: "an access log", values: ["/dev/stdout"] },
  { path: "proxy.accessLogging.file.format", effect: "the access log's format" },
  { path: "proxy.accessLogging.file.encoding", effect: "the access log is text", values: ["TEXT"] },
  {
    path: "techPreview.meshConfig.defaultConfig.gatewayTopology.numTrustedProxies",
    effect: "proxies in front of gateways whose X-Forwarded-For is believed",
  },
  { path: "tracing.sampling", effect: "share of requests that are traced, in hundredths of a percent" },
  { path: "tracing.type", effect: "no tracer", values: ["None"] },
  { path: "telemetry.type", effect: "no telemetry besides the proxies' metrics", values: ["None"] },
  { path: "policy.type", effect: "by discovery", values: ["None", "Istiod"] },
  { path: "runtime.components.pilot.deployment.replicas", effect: "replicas of discovery" },
  { path: "runtime.components.pilot.container.resources.**", effect: "resources of discovery" },
  { path: "gateways.enabled", effect: "false: no gateways" },
  ...gatewayV2("gateways.ingress"),
  ...gatewayV2("gateways.egress"),
  ...gatewayV2("gateways.additionalIngress.*"),
  ...gatewayV2("gateways.additionalEgress.*"),
];

export type ControlPlaneForm = "v1" | "v2";

/**
 * Which form a control plane is written in. Objects are stored without a conversion, so apiVersion does not tell; the
 * fields do. An empty spec is of the v2 form.
 */
export function formOf(spec: ServiceMeshControlPlane["spec"] = {}): ControlPlaneForm {
  const v1 =
    "istio" in spec || "threeScale" in spec || "template" in spec || /^v1(\.|$)/.test(spec.version ?? "");
  return v1 ? "v1" : "v2";
}

/** Parts of which nothing is served and whose own parts are things by themselves: each is named. */
const namedOneByOne: ReadonlySet<string> = new Set(["addons", "istio.mixer"]);

/**
 * The fields that ask for something that is not served, as paths from the object's root; of a part of which nothing is
 * served only the top (or what `namedOneByOne` says). A field that says `false` or nothing asks for nothing, unless `values` says otherwise.
 */
export function notServed(spec: ServiceMeshControlPlane["spec"] = {}): string[] {
  const form = formOf(spec);
  const served = (form === "v1" ? servedV1 : servedV2).map((field) => ({
    ...field,
    steps: field.path.split("."),
  }));
  const found = new Set<string>();
  const visit = (value: unknown, at: readonly string[]) => {
    const field = served.find(({ steps }) => matches(steps, at));
    if (field) {
      const listed = !field.values || field.values.includes(value) || isObject(value);
      const counted = !field.number || asksNothing(value) || number(value) !== undefined;
      if (!listed || !counted) found.add(textOf(at));
      if (field.path.endsWith("**") || !isObject(value)) return;
    }
    if (isObject(value)) {
      if (value.enabled === false && !served.some(({ steps }) => leads(steps, at))) return;
      for (const [key, child] of Object.entries(value)) visit(child, [...at, key]);
      return;
    }
    if (asksNothing(value)) return;
    // The highest part below which nothing is served names all of it.
    let top = 1;
    const goesOn = (path: readonly string[]) =>
      namedOneByOne.has(path.join(".")) || served.some(({ steps }) => leads(steps, path));
    while (top < at.length && goesOn(at.slice(0, top))) top++;
    found.add(textOf(at.slice(0, top)));
  };
  for (const [key, value] of Object.entries(spec)) visit(value, [key]);
  return [...found].sort();
}

/**
 * What comes with a control plane of the v1 form that does not say otherwise, and is not there either. Source: the
 * template `maistra` of OpenShift Service Mesh 1.1, and the pods that seed 002 shows.
 */
const v1Components = ["grafana", "kiali", "mixer", "prometheus", "tracing"];

/** Of these what the control plane does not speak of; what it speaks of is in `notServed`. */
export function notStarted(spec: ServiceMeshControlPlane["spec"] = {}): string[] {
  if (formOf(spec) !== "v1") return [];
  return v1Components.filter((name) => record(spec.istio)[name] === undefined);
}

const textOf = (path: readonly string[]) => ["spec", ...path].join(".");

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function asksNothing(value: unknown): boolean {
  return (
    value === undefined || value === null || value === false || (Array.isArray(value) && value.length === 0)
  );
}

/** Whether the pattern is for this path. */
function matches(steps: readonly string[], at: readonly string[]): boolean {
  if (steps.at(-1) === "**")
    return (
      at.length >= steps.length - 1 && steps.slice(0, -1).every((step, i) => step === "*" || step === at[i])
    );
  return steps.length === at.length && steps.every((step, i) => step === "*" || step === at[i]);
}

/** Whether the pattern is for something below this path, or for it. */
function leads(steps: readonly string[], at: readonly string[]): boolean {
  return steps.length >= at.length && at.every((step, i) => steps[i] === "*" || steps[i] === step);
}
