/**
 * VirtualService, DestinationRule, Gateway, policies and their kin become one routing model. This page says what is made
 * of what: each part of the graph derives collections from those of the parts before it.
 */
import { type Collection, derive } from "../collections/index.ts";
import { findingsOf } from "./findings/index.ts";
import { callGraph } from "./graph/calls.ts";
import { gatewayGraph } from "./graph/gateways.ts";
import { guardGraph, inboundGraph } from "./graph/inbound.ts";
import { instanceGraph } from "./graph/instances.ts";
import { meshGraph } from "./graph/mesh.ts";
import { outboundGraph } from "./graph/outbound.ts";
import { ruleGraph } from "./graph/rules.ts";
import { scopeGraph } from "./graph/scopes.ts";
import { serviceGraph } from "./graph/services.ts";
import type { Traffic, TrafficInputs } from "./inputs.ts";
import { patternsOf } from "./names.ts";

export { analyze, inputOf, inputResources } from "./analyze.ts";
export { type Credential, credentialOf, credentialTexts } from "./credentials.ts";
export { type Code, codes, finding } from "./findings/index.ts";
export type { Traffic, TrafficInputs } from "./inputs.ts";
export { localityFor } from "./locality.ts";
export * from "./model.ts";
export { type Reason, reasons } from "./reasons.ts";
export { type Served, served, servedRows } from "./served.ts";
export { type Standing, standingIn } from "./standing.ts";
export { slimPod } from "./workloads.ts";

/** Everything about a mesh's traffic, kept up to date. */
export function traffic(inputs: TrafficInputs): Traffic {
  // Who belongs to the mesh, what can be called there, who answers, and what people say about it …
  const mesh = meshGraph(inputs);
  const services = serviceGraph(inputs, mesh);
  const instances = instanceGraph(inputs, mesh, services);
  const rules = ruleGraph(inputs, mesh, services);

  // … what that makes of a call to each service, for every kind of client …
  const calls = callGraph(mesh, services, instances, rules);

  // … and what each kind of proxy that is there does with it.
  const scopes = scopeGraph(inputs, mesh, instances, rules);
  const guards = guardGraph(inputs, mesh, services);
  const gateways = gatewayGraph(inputs, mesh, services, rules, calls, scopes, guards);
  const byKind = {
    outbound: outboundGraph(mesh, services, rules, calls, scopes),
    inbound: inboundGraph(mesh, services, instances, scopes, guards),
    gateway: gateways.gatewayConfigs,
  };
  const configs = derive(scopes.allScopes, ({ kind, name }, read) => read.get(byKind[kind], name), {
    name: "configs",
  });

  // What authors are told.
  const routeFindings = derive(
    rules.httpRouteRules,
    ({ problems }) => (problems.length > 0 ? problems : undefined),
    { name: "routeFindings" },
  );
  const findings = findingsOf(inputs, routeFindings, gateways.gatewayStatuses, (object, read) => {
    const settings = mesh.meshFor(object, read);
    return (
      settings && {
        mesh: settings,
        service: (host, client) => {
          for (const pattern of patternsOf(host)) {
            const found = services.serviceAt(pattern, client, read);
            if (found) return found;
          }
          return undefined;
        },
        rule: (host, service, client) => rules.ruleOfHost(host, service, client, settings, read, () => {}),
        rulesOf: (host) => read.all(rules.rulesByHost, host),
        virtualService: (key) => {
          const found = read.get(inputs.virtualServices, key);
          return found && { isDelegate: !found.spec?.hosts?.length };
        },
        gateway: (key) => read.get(rules.istioGatewayRules, key),
        winner: (host, client) => rules.hostRulesOfHost(host, client, read),
        target: (namespace, { kind, name }) =>
          kind === "Service"
            ? read.get(services.meshServices, `${namespace}/${name}`) !== undefined
            : read.get(gateways.gatewayRules, `${kind}/${namespace}/${name}`) !== undefined,
        ...(inputs.credentials && {
          credentials: {
            all: inputs.allCredentials ?? true,
            get: (name) => read.get(inputs.credentials!, name),
            reached: (time) => read.reached(time),
          },
        }),
        pods: (namespace) => read.all(instances.workloadsByNamespace, namespace),
        services: () => read.list(services.meshServices),
        gateways: () => read.list(rules.istioGatewayRules),
      }
    );
  });

  const { allCredentials, ...given } = inputs;
  const collections: Record<string, Collection<unknown>> = {
    ...given,
    members: mesh.members,
    registry: services.registry,
    workloads: instances.workloads,
    instances: instances.instances,
    rules: rules.rules,
    hostRules: rules.hostRules,
    gatewayRules: gateways.gatewayRules,
    upstreamSets: calls.upstreamSets,
    hostSets: calls.hostSets,
    endpoints: calls.endpoints,
    scopes: scopes.scopes,
    configs,
    findings,
  };
  return {
    scopes: scopes.scopes,
    configs,
    endpoints: calls.endpoints,
    findings,
    gatewayStatuses: gateways.gatewayStatuses,
    routeStatuses: gateways.routeStatuses,
    scopesOf: ({ id }) => scopes.scopes.get(id) ?? [],
    collections: new Map(Object.entries(collections)),
  };
}
