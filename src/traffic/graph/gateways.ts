/** What gateways do. */
import { derive, flatDerive, index, joinPartitions } from "../../collections/index.ts";
import { kubeGatewayRulesOf, serviceOfGateway } from "../gateway-api.ts";
import { type GatewayPart, gatewayParts, partKey } from "../gateway-listeners.ts";
import { byHost } from "../gateway-routes.ts";
import { gatewayStatus, routeStatus } from "../gateway-status.ts";
import type { GatewayRules, Server } from "../gateways.ts";
import type { TrafficInputs } from "../inputs.ts";
import type { Listener, LocalRateLimit, RouteTable, ScopeConfig, Upstream, VirtualHost } from "../model.ts";
import { blackHoleUpstream } from "../names.ts";
import type { MeshService } from "../registry.ts";
import type { Scope } from "../scopes.ts";
import { blackHole } from "../upstreams.ts";
import { selects } from "../workloads.ts";
import type { CallGraph } from "./calls.ts";
import type { GuardGraph } from "./inbound.ts";
import type { MeshGraph } from "./mesh.ts";
import { referenced } from "./outbound.ts";
import type { RuleGraph } from "./rules.ts";
import type { ScopeGraph } from "./scopes.ts";
import type { ServiceGraph } from "./services.ts";

/** `ScopeConfig`s of the scopes `gateway/…`, and what Gateway API's objects are told. */
export function gatewayGraph(
  inputs: TrafficInputs,
  { meshOf, meshFor }: MeshGraph,
  { meshServices, servicesByNamespace, serviceAt }: ServiceGraph,
  { istioGatewayRules, isGrantedTo, httpRouteRules, hostRulesByGateway, hashOf }: RuleGraph,
  { upstreamAt, passedTo }: CallGraph,
  { allScopes }: ScopeGraph,
  { gatewayGuards }: GuardGraph,
) {
  const { engine } = inputs.mesh;
  // What gateways do.
  const kubeGatewayRules = derive(
    inputs.kubeGateways,
    (gateway, read) => {
      const mesh = meshFor(gateway, read);
      if (!mesh) return undefined;
      const namespace = gateway.metadata.namespace ?? "";
      const behind = serviceOfGateway(gateway, mesh);
      return kubeGatewayRulesOf(gateway, {
        service: read.get(meshServices, `${behind.namespace}/${behind.name}`),
        namespaces: () => read.list(inputs.namespaces),
        granted: (secret) =>
          isGrantedTo({ kind: "Gateway", namespace }, { group: "", kind: "Secret", ...secret }, read),
      });
    },
    { name: "kubeGatewayRules" },
  );
  const gatewayRules = joinPartitions<GatewayRules>(engine, { name: "gatewayRules" });
  gatewayRules.add("Gateway", istioGatewayRules);
  gatewayRules.add("KubeGateway", kubeGatewayRules);
  const gatewayScopes = derive(allScopes, (scope) => (scope.kind === "gateway" ? scope : undefined), {
    name: "gatewayScopes",
  });
  const allGatewayParts = flatDerive(
    gatewayScopes,
    (scope, read): GatewayPart[] => {
      const mesh = meshOf(read);
      if (!mesh) return [];
      const bound = read.list(gatewayRules).filter(({ selector }) => selects(selector, scope.labels));
      const services = read
        .all(servicesByNamespace, scope.namespace)
        .filter(({ selector }) => selector && selects(selector, scope.labels));
      return gatewayParts({
        scope: scope.name,
        mesh,
        namespace: scope.namespace,
        labels: scope.labels,
        client: scope.namespace,
        servers: bound.flatMap(({ servers }): readonly Server[] => servers),
        target: (port) => targetOf(services, port, scope),
        rules: (gateway) => read.all(hostRulesByGateway, gateway),
        service: (host) => serviceAt(host, scope.namespace, read),
        hash: hashOf(scope.client, mesh, read, () => {}),
        mention: () => {},
        passed: (hosts) => passedTo(hosts, scope.client, read),
        ...gatewayGuards(scope, mesh, read),
      });
    },
    { name: "gatewayParts", key: partKey },
  );
  const gatewayPartsByScope = index(allGatewayParts, ({ scope }) => scope, { name: "gatewayPartsByScope" });
  const gatewayConfigs = derive(
    gatewayScopes,
    (scope, read): ScopeConfig => {
      const listeners = new Map<string, Listener>();
      const tables = new Map<string, VirtualHost[]>();
      for (const part of read.all(gatewayPartsByScope, scope.name)) {
        if (part.kind === "listener") listeners.set(part.name, part.listener);
        else {
          const hosts = tables.get(part.table) ?? [];
          if (part.host) hosts.push(part.host);
          tables.set(part.table, hosts);
        }
      }
      const routes = new Map<string, RouteTable>();
      const limits = limitsByTable(listeners.values());
      for (const [name, hosts] of tables) {
        const rateLimits = limits.get(name);
        routes.set(name, {
          name,
          virtualHosts: hosts.sort(byHost),
          unknown: "not-found",
          ...(rateLimits && { rateLimits }),
        });
      }
      const upstreams = new Map<string, Upstream>([[blackHoleUpstream, blackHole]]);
      for (const name of referenced(listeners.values(), routes.values())) {
        const upstream = upstreamAt(name, scope.client, read);
        if (upstream) upstreams.set(name, upstream);
      }
      return {
        scope: scope.name,
        listeners,
        routes,
        upstreams,
        secrets: secretsOf(listeners.values(), upstreams.values()),
      };
    },
    { name: "gatewayConfigs" },
  );

  // What Gateway API's objects are told.
  const gatewayStatuses = derive(
    inputs.kubeGateways,
    (gateway, read, key) => {
      const mesh = meshFor(gateway, read);
      if (!mesh) return undefined;
      const behind = serviceOfGateway(gateway, mesh);
      return gatewayStatus(gateway, {
        service: read.get(inputs.services, `${behind.namespace}/${behind.name}`),
        rules: read.get(kubeGatewayRules, key),
        secretProblem: (secret) => {
          if (!inputs.credentials) return undefined;
          const [, full = ""] = secret.split("://");
          if (!full.startsWith(`${mesh.namespace}/`))
            return `Secret ${full}: certificates are read in the mesh's own namespace, ${mesh.namespace}, only`;
          const found = read.get(inputs.credentials, full);
          if (!found) return inputs.allCredentials === false ? undefined : `Secret ${full}: there is none`;
          return found.certificateProblem && `Secret ${full}: ${found.certificateProblem}`;
        },
        routes: (listener) => read.all(hostRulesByGateway, listener),
      });
    },
    { name: "gatewayStatuses" },
  );
  const routeStatuses = derive(
    inputs.httpRoutes,
    (route, read, key) => {
      if (!meshFor(route, read)) return undefined;
      const bound = read.get(httpRouteRules, key);
      return routeStatus(route, {
        gateway: (namespace, name) => read.get(inputs.kubeGateways, `${namespace}/${name}`),
        gatewayRules: (namespace, name) => read.get(kubeGatewayRules, `${namespace}/${name}`),
        rules: bound?.rules,
        problems: bound?.problems ?? [],
      });
    },
    { name: "routeStatuses" },
  );
  return { gatewayRules, gatewayConfigs, gatewayStatuses, routeStatuses };
}

/** Where a gateway's process listens for a server's port: what its Service sends there. */
function targetOf(services: readonly MeshService[], port: number, scope: Scope): number {
  for (const service of services)
    for (const each of service.ports) {
      if (each.number !== port) continue;
      const target = typeof each.target === "number" ? each.target : scope.ports[each.target];
      if (target !== undefined) return target;
    }
  return port;
}

/** The limits in front of each table: its routes tell them what they count by. */
function limitsByTable(listeners: Iterable<Listener>): Map<string, readonly LocalRateLimit[]> {
  const limits = new Map<string, readonly LocalRateLimit[]>();
  for (const { chains } of listeners)
    for (const { handler } of chains)
      if (handler.kind === "http" && typeof handler.routes === "string" && handler.rateLimits.length > 0)
        limits.set(handler.routes, handler.rateLimits);
  return limits;
}

function secretsOf(listeners: Iterable<Listener>, upstreams: Iterable<Upstream>): Set<string> {
  const secrets = new Set<string>();
  for (const { chains } of listeners)
    for (const { tls } of chains) {
      if (tls && typeof tls.certificate === "object") secrets.add(tls.certificate.secret);
      if (tls && typeof tls.trust === "object") secrets.add(tls.trust.secret);
    }
  for (const { tls } of upstreams)
    if ((tls.mode === "simple" || tls.mode === "mutual") && tls.secret) secrets.add(tls.secret);
  return secrets;
}
