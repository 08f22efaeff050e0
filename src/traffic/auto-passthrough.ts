/**
 * Gateways that hand the mesh's TLS on unopened (AUTO_PASSTHROUGH, Istio's east-west gateways): the server name that a
 * sidecar puts into its handshake, `outbound_.8080_.v1_.catalog.coolapp.svc.cluster.local`, says which upstream it
 * means. Only the mesh's ALPN is let through and only endpoints that speak the mesh's TLS are called, so both ends know
 * each other; the gateway knows neither, so no AuthorizationPolicy is asked there. Source: Istio
 * `pilot/pkg/networking/core/gateway.go`, builtAutoPassthroughFilterChains.
 */
import type { MeshSettings } from "../api/index.ts";
import { type EndpointsSpec, endpointsSpec } from "./endpoints.ts";
import type { FilterChain, Origin, Upstream } from "./model.ts";
import { covers, isHost, upstreamName, upstreamSni } from "./names.ts";
import type { MeshService, Resolution } from "./registry.ts";
import type { MergedRule } from "./rules.ts";
import { tcpHandler, weighted } from "./tcp.ts";

/** Services that such a server is for: a namespace is a name or `*`. */
export type PassedHosts = readonly { namespace: string; host: string }[];

/** How sidecars that call in the mesh's TLS say so. Source: Istio `xds/util`, allIstioMtlsALPNs. */
const passedAlpn = ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];

/** Whether calls to a service may pass. What is outside of the mesh does not speak its TLS. */
export function isPassed(service: MeshService, hosts: PassedHosts): boolean {
  if (service.external || !discoveryOf[service.resolution]) return false;
  return hosts.some(
    ({ namespace, host }) =>
      (namespace === "*" || namespace === service.namespace) && covers(host, service.host),
  );
}

/** A gateway is not where the caller was going: it picks the endpoint itself, also of headless services. */
const discoveryOf: Partial<Record<Resolution, "endpoints" | "static" | "strict-dns">> = {
  service: "endpoints",
  import: "endpoints",
  selected: "endpoints",
  static: "static",
  dns: "strict-dns",
};

/** A service's upstreams once more, named by the server names that lead to them; bytes are handed on as they are. */
export function passedUpstreams(
  service: MeshService,
  upstreams: readonly Upstream[],
  rule: MergedRule | undefined,
): { passed: Upstream[]; endpoints: EndpointsSpec[] } {
  const passed: Upstream[] = [];
  const endpoints: EndpointsSpec[] = [];
  const discovery = discoveryOf[service.resolution];
  for (const upstream of upstreams) {
    const { port: number, subset, balancer, locality } = upstream;
    const port = service.ports.find((each) => each.number === number);
    const name = upstreamSni(number, subset, service.host);
    const isOwn = upstream.name === upstreamName("outbound", number, subset, service.host);
    if (!port || !discovery || !isOwn || !isHost(name.toLowerCase())) continue;
    passed.push({
      ...upstream,
      name,
      endpointsName: name,
      protocol: "tcp",
      discovery,
      endpoints: upstream.endpoints.filter(({ meshTls }) => meshTls),
      balancer: balancer.kind === "passthrough" ? { kind: "least-request", choices: 2 } : balancer,
      tls: { mode: "none" },
    });
    if (discovery !== "endpoints") continue;
    const labels = rule?.subsets.find(({ value }) => value.name === subset)?.value.labels ?? {};
    endpoints.push({
      ...endpointsSpec(service, port, name, subset ? labels : {}, locality?.priorityLabels),
      meshTls: true,
    });
  }
  return { passed, endpoints };
}

/** One chain for each upstream. */
export function passedChains(
  upstreams: readonly Upstream[],
  origins: readonly Origin[],
  mesh: MeshSettings,
): FilterChain[] {
  return upstreams.map(({ name }) => ({
    name,
    match: { serverNames: [name.toLowerCase()], transport: "tls", applicationProtocols: passedAlpn },
    authorization: [],
    handler: tcpHandler([weighted(name, 1)], name, mesh),
    origins,
  }));
}

/** The host in such an upstream's name; undefined for names of another kind. */
export function passedHost(name: string): string | undefined {
  return /^outbound_\.\d+_\.[\w.-]*?_\.(.*)$/.exec(name)?.[1];
}
