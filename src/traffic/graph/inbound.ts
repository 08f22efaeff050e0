/** Who may come in, and how much; what each workload does with it. */
import type { MeshSettings } from "../../api/index.ts";
import { derive, index, type Read } from "../../collections/index.ts";
import {
  type AccessPolicy,
  accessPolicyOf,
  authorizationOf,
  policiesFor,
  targetedPolicies,
} from "../authorization.ts";
import { hostsOnSharedPort, serversGateway } from "../gateway-hosts.ts";
import type { Server } from "../gateways.ts";
import { type InboundPort, inboundConfig } from "../inbound.ts";
import type { TrafficInputs } from "../inputs.ts";
import type { ScopeConfig } from "../model.ts";
import { limitWithin, rateLimitsOf } from "../rate-limits.ts";
import { type MeshService, nameInMetrics } from "../registry.ts";
import type { Scope } from "../scopes.ts";
import type { SidecarRules } from "../sidecars.ts";
import type { HostRules } from "../virtual-services.ts";
import { selects } from "../workloads.ts";
import type { InstanceGraph } from "./instances.ts";
import type { MeshGraph } from "./mesh.ts";
import type { ScopeGraph } from "./scopes.ts";
import type { ServiceGraph } from "./services.ts";

/** Authorization and rate limits of a scope. */
export function guardGraph(
  inputs: TrafficInputs,
  { meshFor }: MeshGraph,
  { servicesByNamespace }: ServiceGraph,
) {
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
  /** The policies that hold for all that comes into a pod of the scope. */
  const policiesOf = (scope: Scope, mesh: MeshSettings, read: Read) => {
    const services = read
      .all(servicesByNamespace, scope.namespace)
      .filter(({ kind, selector }) => kind === "Service" && selector && selects(selector, scope.labels));
    return policiesFor(
      { namespace: scope.namespace, labels: scope.labels, services: services.map(({ name }) => name) },
      read.all<AccessPolicy>(accessPoliciesByNamespace, scope.namespace),
      read.all<AccessPolicy>(accessPoliciesByNamespace, mesh.namespace),
      mesh,
    );
  };
  const limitsOf = (scope: Scope, read: Read) =>
    rateLimitsOf({ labels: scope.labels }, read.all(rateLimitsByNamespace, scope.namespace));

  /** What an application's connections are held to. */
  const guards = (scope: Scope, mesh: MeshSettings, read: Read) => {
    const policies = policiesOf(scope, mesh, read);
    return {
      http: authorizationOf(policies, mesh, false),
      tcp: authorizationOf(policies, mesh, true),
      rateLimits: limitsOf(scope, read),
    };
  };
  /**
   * What a gateway's are held to: by its pods, and by the Gateways whose servers are behind one filter chain. A rate
   * limit is there for all routes together, for that is what its author counts.
   */
  const gatewayGuards = (scope: Scope, mesh: MeshSettings, read: Read) => {
    const policies = policiesOf(scope, mesh, read);
    const limits = limitsOf(scope, read);
    return {
      guard: (servers: readonly Server[], rules: (gateway: string) => readonly HostRules[], tcp: boolean) => {
        const gateways = new Map(servers.map((server) => [serversGateway(server), server]));
        const applied = [...policies];
        const rateLimits = [...limits];
        for (const [key, { kind, namespace, name }] of gateways) {
          const within = gateways.size > 1 ? hostsOnSharedPort(key, servers, rules) : undefined;
          applied.push(
            ...targetedPolicies(read.all<AccessPolicy>(accessPoliciesByNamespace, namespace), {
              kind,
              name,
            }).map((policy) => ({ policy, ...(within && { within }) })),
          );
          const own = rateLimitsOf(
            { labels: {}, targets: new Set([`Gateway/${name}`]) },
            read.all(rateLimitsByNamespace, namespace),
          );
          rateLimits.push(...(within ? own.map((limit) => limitWithin(limit, within)) : own));
        }
        return { authorization: authorizationOf(applied, mesh, tcp), rateLimits };
      },
    };
  };

  return { guards, gatewayGuards };
}

/** What it hands on. */
export type GuardGraph = ReturnType<typeof guardGraph>;

/** `ScopeConfig`s of the scopes `inbound/…`. */
export function inboundGraph(
  { meshOf }: MeshGraph,
  { servicesByNamespace }: ServiceGraph,
  { peerModeFor }: InstanceGraph,
  { allScopes, sidecarOf }: ScopeGraph,
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
        ports: portsOf(services, scope, sidecarOf(scope, read)),
        peers: peerModeFor(scope.namespace, scope.labels, mesh, read),
        ...guards(scope, mesh, read),
      });
    },
    { name: "inboundConfigs" },
  );

  return inboundConfigs;
}

/**
 * A Sidecar's ingress takes the place of what services name. For metrics it is that service all the same; where there is
 * none, Istio takes the Sidecar's name.
 */
function portsOf(
  services: readonly MeshService[],
  scope: Scope,
  sidecar: SidecarRules | undefined,
): InboundPort[] {
  const named = inboundPorts(services, scope);
  const pool = sidecar?.inboundPool;
  if (!sidecar?.ingress) return pool ? named.map((port) => ({ ...port, pool })) : named;
  const { namespace, name, ingress } = sidecar;
  return ingress.map(({ port, protocol, endpoint, pool: own = pool, field }): InboundPort => {
    const known = named.find(({ number }) => number === port);
    return {
      number: port,
      protocol,
      service: known?.service ?? { host: `${name}.${namespace}`, name, namespace },
      servicePort: known?.servicePort ?? port,
      origin: { kind: "Sidecar", namespace, name, field },
      ...(endpoint && { endpoint }),
      ...(own && { pool: own }),
    };
  });
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
        service: nameInMetrics(service),
        servicePort: port.number,
        origin: service.origin,
      });
    }
  return [...ports.values()];
}
