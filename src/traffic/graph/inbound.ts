/** Who may come in, and how much; what each workload does with it. */
import type { MeshSettings } from "../../api/index.ts";
import { derive, index, type Read } from "../../collections/index.ts";
import { type AccessPolicy, accessPolicyOf, authorizationOf } from "../authorization.ts";
import { type InboundPort, inboundConfig } from "../inbound.ts";
import type { TrafficInputs } from "../inputs.ts";
import type { ScopeConfig } from "../model.ts";
import { rateLimitsOf } from "../rate-limits.ts";
import type { MeshService } from "../registry.ts";
import type { Scope } from "../scopes.ts";
import { selects } from "../workloads.ts";
import type { InstanceGraph } from "./instances.ts";
import type { MeshGraph } from "./mesh.ts";
import type { ScopeGraph } from "./scopes.ts";
import type { ServiceGraph } from "./services.ts";

/** Authorization and rate limits of a scope. */
export function guardGraph(inputs: TrafficInputs, { meshFor }: MeshGraph) {
  // Who may come in, and how much.
  const accessPolicies = derive(
    inputs.authorizationPolicies,
    (policy, read) => (meshFor(policy, read) ? accessPolicyOf(policy) : undefined),
    { name: "accessPolicies" },
  );
  const accessPoliciesByNamespace = index(accessPolicies, ({ namespace }) => namespace, {
    name: "accessPoliciesByNamespace",
  });
  const rateLimitsByNamespace = index(inputs.rateLimits, ({ metadata }) => metadata.namespace ?? "", {
    name: "rateLimitsByNamespace",
  });
  const guards = (scope: Scope, mesh: MeshSettings, read: Read) => {
    const own = read.all<AccessPolicy>(accessPoliciesByNamespace, scope.namespace);
    const root = read.all<AccessPolicy>(accessPoliciesByNamespace, mesh.namespace);
    const workload = { namespace: scope.namespace, labels: scope.labels };
    return {
      http: authorizationOf(workload, own, root, mesh, false),
      tcp: authorizationOf(workload, own, root, mesh, true),
      rateLimits: rateLimitsOf(workload, read.all(rateLimitsByNamespace, scope.namespace)),
    };
  };

  return { guards, rateLimitsByNamespace };
}

/** What it hands on. */
export type GuardGraph = ReturnType<typeof guardGraph>;

/** `ScopeConfig`s of the scopes `inbound/…`. */
export function inboundGraph(
  { meshOf }: MeshGraph,
  { servicesByNamespace }: ServiceGraph,
  { peerModeFor }: InstanceGraph,
  { allScopes }: ScopeGraph,
  { guards }: GuardGraph,
) {
  // What each workload does inbound.
  const inboundConfigs = derive(
    allScopes,
    (scope, read): ScopeConfig | undefined => {
      const mesh = meshOf(read);
      if (!mesh || scope.kind !== "inbound") return undefined;
      const services = read
        .all(servicesByNamespace, scope.namespace)
        .filter(({ selector }) => selector && selects(selector, scope.labels));
      return inboundConfig({
        scope: scope.name,
        mesh,
        ports: inboundPorts(services, scope),
        peers: peerModeFor(scope.namespace, scope.labels, mesh, read),
        ...guards(scope, mesh, read),
      });
    },
    { name: "inboundConfigs" },
  );

  return inboundConfigs;
}

/** The workload's ports that services name; of two that name one port the first counts. */
function inboundPorts(services: readonly MeshService[], scope: Scope): InboundPort[] {
  const ports = new Map<number, InboundPort>();
  for (const service of services)
    for (const port of service.ports) {
      const number = typeof port.target === "number" ? port.target : scope.ports[port.target];
      if (number === undefined || ports.has(number)) continue;
      ports.set(number, {
        number,
        protocol: port.protocol,
        host: service.host,
        servicePort: port.number,
        origin: service.origin,
      });
    }
  return [...ports.values()];
}
