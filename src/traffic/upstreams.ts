/** A service's upstreams: one for each port, and one for each subset of it. */
import type { ConnectionPoolSettings, MeshSettings } from "../api/index.ts";
import { equal } from "../collections/index.ts";
import { passedUpstreams } from "./auto-passthrough.ts";
import { type EndpointsSpec, endpointsSpec, portOfEntry } from "./endpoints.ts";
import type { Variants } from "./exports.ts";
import type { Endpoint, Origin, Upstream, UpstreamTls } from "./model.ts";
import {
  blackHoleUpstream,
  inboundPassthroughUpstream,
  passthroughUpstream,
  upstreamName,
  upstreamSni,
} from "./names.ts";
import {
  balancerOf,
  connectionLimitsOf,
  localityPolicyOf,
  outliersOf,
  type PortPolicy,
  policyFor,
  tlsOf,
  warmupOf,
} from "./policy.ts";
import { isHttp, isHttp2 } from "./protocol.ts";
import { type MeshPort, type MeshService, nameInMetrics } from "./registry.ts";
import type { MergedRule } from "./rules.ts";
import type { ApplicationEndpoint } from "./sidecars.ts";
import { selects } from "./workloads.ts";

/** What clients of one kind have for one service. */
export interface UpstreamSet {
  upstreams: readonly Upstream[];
  /** Where gateways hand its TLS on unopened: the same once more, by server name. */
  passed?: readonly Upstream[];
  /** Rows of endpoints that all of these need. */
  endpoints: readonly EndpointsSpec[];
}

/** What a service's upstreams are made of besides the service. */
export interface UpstreamContext {
  mesh: MeshSettings;
  rule: MergedRule | undefined;
  identities: readonly string[];
  /** All endpoints of the service speak mTLS: for what picks no endpoint itself. */
  allMesh: boolean;
  /** Some gateway hands its TLS on unopened (AUTO_PASSTHROUGH). */
  isPassed: boolean;
}

/** One for each port, one for each port and subset, one for each port's pods by name. */
export function upstreamsOf(service: MeshService, context: UpstreamContext): UpstreamSet {
  const upstreams: Upstream[] = [];
  const endpoints: EndpointsSpec[] = [];
  for (const port of service.ports) {
    const whole = upstreamOf(service, port, undefined, context);
    upstreams.push(whole.upstream);
    if (whole.endpoints) endpoints.push(whole.endpoints);
    if (hasPodNames(service) && (isHttp(port.protocol) || port.protocol === "auto"))
      upstreams.push(podUpstream(whole.upstream, context.allMesh));
    for (const subset of context.rule?.subsets ?? []) {
      const part = upstreamOf(service, port, subset, context);
      upstreams.push(part.upstream);
      if (part.endpoints) endpoints.push(part.endpoints);
    }
  }
  if (!context.isPassed) return { upstreams, endpoints };
  const more = passedUpstreams(service, upstreams, context.rule);
  return { upstreams, passed: more.passed, endpoints: [...endpoints, ...more.endpoints] };
}

/** Pods behind a headless service have names of their own below its, and clients that call one mean that one. */
export function hasPodNames(service: MeshService): boolean {
  return service.headless && (service.resolution === "service" || service.resolution === "import");
}

/** The host that stands for the pods' names. */
export function podHost(host: string): string {
  return `*.${host}`;
}

/** To the pod whose name was called: where the client was going. */
function podUpstream(whole: Upstream, allMesh: boolean): Upstream {
  const name = upstreamName("outbound", whole.port, "", podHost(whole.host));
  return {
    ...whole,
    name,
    discovery: "original-destination",
    endpointsName: name,
    balancer: { kind: "passthrough" },
    tls: chosenByClient(whole.tls, allMesh),
  };
}

/** An endpoint that the client chose itself has no metadata: all of them speak mTLS, or none is spoken to in it. */
function chosenByClient(tls: UpstreamTls, allMesh: boolean): UpstreamTls {
  if (tls.mode !== "mesh" || !tls.auto) return tls;
  return allMesh ? { ...tls, auto: false } : { mode: "none" };
}

/**
 * The same subset may have other labels for clients of some namespace: then its endpoints have a row of their own, named
 * after the first such namespace.
 */
export function withOwnEndpoints({ rest, byNamespace }: Variants<UpstreamSet>): Variants<UpstreamSet> {
  if (byNamespace.size === 0) return { rest, byNamespace };
  const first = new Map(rest.endpoints.map((spec) => [spec.name, spec]));
  const renamed = new Map<string, UpstreamSet>();
  for (const namespace of [...byNamespace.keys()].sort()) {
    const set = byNamespace.get(namespace)!;
    const own = new Map<string, EndpointsSpec>();
    for (const spec of set.endpoints) {
      const known = first.get(spec.name);
      if (!known) first.set(spec.name, spec);
      else if (!equal(known, spec)) own.set(spec.name, { ...spec, name: `${spec.name}@${namespace}` });
    }
    const withOwn = (upstream: Upstream) => {
      const spec = own.get(upstream.endpointsName);
      return spec ? { ...upstream, endpointsName: spec.name } : upstream;
    };
    renamed.set(
      namespace,
      own.size === 0
        ? set
        : {
            upstreams: set.upstreams.map(withOwn),
            ...(set.passed && { passed: set.passed.map(withOwn) }),
            endpoints: set.endpoints.map((spec) => own.get(spec.name) ?? spec),
          },
    );
  }
  return { rest, byNamespace: renamed };
}

function upstreamOf(
  service: MeshService,
  port: MeshPort,
  subset: MergedRule["subsets"][number] | undefined,
  { mesh, rule, identities, allMesh }: UpstreamContext,
): { upstream: Upstream; endpoints: EndpointsSpec | undefined } {
  const subsetName = subset?.value.name ?? "";
  const labels = subset?.value.labels ?? {};
  const policy = policyFor(rule?.policy?.value, subset?.value.trafficPolicy, port.number);
  const name = upstreamName("outbound", port.number, subsetName, service.host);
  const balancer = balancerOf(policy.loadBalancer, mesh);
  const discovery = discoveryOf(service, port, balancer.kind === "passthrough");
  const locality = localityPolicyOf(policy);
  const protocol = upstreamProtocol(port, policy);
  const warmup = warmupOf(policy.loadBalancer);
  const outliers = outliersOf(policy.outlierDetection);
  const tls = tlsOf(policy.tls, {
    mesh,
    protocol,
    sni: upstreamSni(port.number, subsetName, service.host),
    host: service.host,
    identities,
    external: service.external,
    subjectAltNames: service.subjectAltNames,
  });
  const origins: Origin[] = [{ ...service.origin }];
  if (rule?.policy && Object.keys(policy).length > 0) origins.push(rule.policy.origin);
  if (subset) origins.push(subset.origin);
  const upstream: Upstream = {
    name,
    host: service.host,
    service: nameInMetrics(service),
    port: port.number,
    subset: subsetName,
    protocol,
    discovery,
    endpointsName: name,
    endpoints:
      discovery === "static" || discovery === "strict-dns" || discovery === "logical-dns"
        ? writtenEndpoints(service, port, labels)
        : [],
    balancer,
    ...(locality && { locality }),
    ...(warmup && { warmup }),
    connections: connectionLimitsOf(policy.connectionPool),
    ...(outliers && { outliers }),
    tls: discovery === "original-destination" ? chosenByClient(tls, allMesh) : tls,
    origins,
  };
  return {
    upstream,
    endpoints:
      discovery === "endpoints"
        ? endpointsSpec(service, port, name, labels, locality?.priorityLabels)
        : undefined,
  };
}

function discoveryOf(service: MeshService, port: MeshPort, passthrough: boolean): Upstream["discovery"] {
  switch (service.resolution) {
    case "dns":
      return "strict-dns";
    case "dns-round-robin":
      return "logical-dns";
    case "static":
      return "static";
    case "none":
      return "original-destination";
    default:
      // A headless Service's client has chosen a pod by DNS; HTTP is balanced all the same, as Istio does.
      return passthrough || (service.headless && !isHttp(port.protocol))
        ? "original-destination"
        : "endpoints";
  }
}

/** `http`: HTTP/1.1 to the endpoints, unless the rule upgrades. Source: Istio `setH2Options`, `h2UpgradePolicy`. */
function upstreamProtocol(port: MeshPort, policy: PortPolicy): Upstream["protocol"] {
  const http = policy.connectionPool?.http;
  if (isHttp2(port.protocol)) return "http2";
  if (isHttp(port.protocol)) {
    if (http?.useClientProtocol) return "auto";
    return http?.h2UpgradePolicy === "UPGRADE" ? "http2" : "http1";
  }
  return port.protocol === "auto" ? "auto" : "tcp";
}

function writtenEndpoints(
  service: MeshService,
  port: MeshPort,
  labels: Readonly<Record<string, string>>,
): Endpoint[] {
  return service.endpoints
    .filter((each) => selects(labels, each.labels))
    .map((each) => ({
      address: each.address,
      port: portOfEntry(each, port) ?? port.number,
      weight: each.weight,
      healthy: true,
      draining: false,
      meshTls: each.labels["security.istio.io/tlsMode"] === "istio",
      workload: { name: "", namespace: service.namespace, service: service.name, revision: "", cluster: "" },
    }));
}

const plain: Pick<
  Upstream,
  "host" | "port" | "subset" | "protocol" | "endpoints" | "balancer" | "connections" | "tls" | "origins"
> = {
  host: "",
  port: 0,
  subset: "",
  protocol: "auto",
  endpoints: [],
  balancer: { kind: "passthrough" },
  connections: connectionLimitsOf(undefined),
  tls: { mode: "none" },
  origins: [],
};

/** Where connections go that nobody has a rule for: to where they were going. */
export const passthrough: Upstream = {
  ...plain,
  name: passthroughUpstream,
  discovery: "original-destination",
  endpointsName: passthroughUpstream,
};

/** Nowhere. */
export const blackHole: Upstream = {
  ...plain,
  name: blackHoleUpstream,
  discovery: "none",
  balancer: { kind: "round-robin" },
  endpointsName: blackHoleUpstream,
};

/** To ports of the workload that no service names. */
export const inboundPassthrough: Upstream = {
  ...plain,
  name: inboundPassthroughUpstream,
  discovery: "original-destination",
  endpointsName: inboundPassthroughUpstream,
};

const noSecrets = new WeakMap<Upstream, Upstream>();

/** As sidecars have it: Secrets go to gateways only, so what they trust is the system's roots or files of their own. */
export function withoutSecret(upstream: Upstream): Upstream {
  const { tls } = upstream;
  if ((tls.mode !== "simple" && tls.mode !== "mutual") || !tls.secret) return upstream;
  let made = noSecrets.get(upstream);
  if (!made) {
    const { secret: _, ...rest } = tls;
    made = { ...upstream, tls: rest };
    noSecrets.set(upstream, made);
  }
  return made;
}

/** The workload's own port: dialled at the address that the connection was sent to, unless a Sidecar says where. */
export function inboundUpstream(
  port: number,
  protocol: Upstream["protocol"],
  service: NonNullable<Upstream["service"]>,
  origins: readonly Origin[],
  { endpoint, pool }: { endpoint?: ApplicationEndpoint; pool?: ConnectionPoolSettings } = {},
): Upstream {
  const name = upstreamName("inbound", port, "", "");
  const common: Upstream = {
    ...plain,
    name,
    service,
    port,
    protocol,
    discovery: "original-destination",
    endpointsName: name,
    ...(pool && { connections: connectionLimitsOf(pool) }),
    origins,
  };
  if (!endpoint?.address)
    return endpoint && endpoint.port !== port ? { ...common, originalPort: endpoint.port } : common;
  return {
    ...common,
    discovery: "static",
    balancer: { kind: "round-robin" },
    endpoints: [
      {
        address: endpoint.address,
        port: endpoint.port,
        weight: 1,
        healthy: true,
        draining: false,
        meshTls: false,
        workload: { name: "", namespace: "", service: "", revision: "", cluster: "" },
      },
    ],
  };
}
