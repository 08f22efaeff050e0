/** The rules that people write about hosts: DestinationRules, VirtualServices, HTTPRoutes. */
import type { MeshSettings } from "../../api/index.ts";
import { derive, index, joinPartitions, type Read } from "../../collections/index.ts";
import { namespaceOf } from "../exports.ts";
import { httpRouteRulesOf, isGranted } from "../gateway-api.ts";
import { gatewayRulesOf, isAutoPassthrough } from "../gateways.ts";
import type { HostContext } from "../hosts.ts";
import type { TrafficInputs } from "../inputs.ts";
import { patternsOf } from "../names.ts";
import { hashPolicyOf, policyFor } from "../policy.ts";
import type { MeshService } from "../registry.ts";
import { ruleFor, ruleOf } from "../rules.ts";
import { type HostRules, hostRulesOf, meshGateway, rulesFor } from "../virtual-services.ts";
import type { MeshGraph } from "./mesh.ts";
import type { ServiceGraph } from "./services.ts";

/** Rules by host and by gateway, and what they mean for a client. */
export function ruleGraph(
  inputs: TrafficInputs,
  { meshFor, members }: MeshGraph,
  { serviceAt }: ServiceGraph,
) {
  const { engine } = inputs.mesh;
  // DestinationRules, by host.
  const rules = derive(
    inputs.destinationRules,
    (rule, read) => {
      const mesh = meshFor(rule, read);
      return mesh && ruleOf(rule, mesh);
    },
    { name: "rules" },
  );
  const rulesByHost = index(rules, ({ host }) => host, { name: "rulesByHost" });
  const ruleOfHost = (
    host: string,
    service: MeshService | undefined,
    client: string,
    mesh: MeshSettings,
    read: Read,
    mention: (namespace: string) => void,
  ) =>
    ruleFor(
      patternsOf(host).flatMap((pattern) => read.all(rulesByHost, pattern)),
      client,
      service?.namespace ?? "",
      mesh.namespace,
      mention,
    );

  // Gateways, and the hosts for which some of them hand TLS on unopened.
  const istioGatewayRules = derive(
    inputs.gateways,
    (gateway, read) => {
      const mesh = meshFor(gateway, read);
      return mesh && gatewayRulesOf(gateway, mesh);
    },
    { name: "istioGatewayRules" },
  );
  const passedHosts = derive(
    istioGatewayRules,
    ({ servers }) => {
      const hosts = servers.filter(isAutoPassthrough).flatMap((server) => server.hosts);
      return hosts.length > 0 ? hosts : undefined;
    },
    { name: "passedHosts" },
  );

  // What namespaces let others refer to.
  const grantsByNamespace = index(inputs.referenceGrants, ({ metadata }) => metadata.namespace ?? "", {
    name: "grantsByNamespace",
  });
  const isGrantedTo = (
    from: { kind: string; namespace: string },
    to: { group: string; kind: string; namespace: string; name: string },
    read: Read,
  ) => isGranted(read.all(grantsByNamespace, to.namespace), { group: gatewayGroup, ...from }, to);
  // VirtualServices, by host and by gateway.
  const virtualServiceRules = derive(
    inputs.virtualServices,
    (object, read) => {
      const mesh = meshFor(object, read);
      if (!mesh) return undefined;
      return hostRulesOf(object, mesh, (namespace, name) =>
        read.get(members, namespace) ? read.get(inputs.virtualServices, `${namespace}/${name}`) : undefined,
      );
    },
    { name: "virtualServiceRules" },
  );
  // Gateway API's routes are rules of the same kind.
  const httpRouteRules = derive(
    inputs.httpRoutes,
    (route, read) => {
      const mesh = meshFor(route, read);
      if (!mesh) return undefined;
      const namespace = route.metadata.namespace ?? "";
      return httpRouteRulesOf(route, {
        mesh,
        gateway: (of, name) =>
          read.get(members, of) ? read.get(inputs.kubeGateways, `${of}/${name}`) : undefined,
        service: (host) => serviceAt(host, namespace, read),
        granted: (to) => isGrantedTo({ kind: "HTTPRoute", namespace }, to, read),
      });
    },
    { name: "httpRouteRules" },
  );
  const hostRules = joinPartitions<HostRules>(engine, { name: "hostRules" });
  hostRules.add("VirtualService", virtualServiceRules);
  hostRules.add(
    "HTTPRoute",
    derive(httpRouteRules, ({ rules }) => rules, { name: "boundHttpRoutes" }),
  );
  const hostRulesByHost = index(
    hostRules,
    ({ hosts, gateways }) => (gateways.includes(meshGateway) ? [...new Set(hosts)] : []),
    { name: "hostRulesByHost" },
  );
  const hostRulesByGateway = index(
    hostRules,
    ({ gateways }) => gateways.filter((gateway) => gateway !== meshGateway),
    { name: "hostRulesByGateway" },
  );
  const hashOf =
    (client: string, mesh: MeshSettings, read: Read, mention: (namespace: string) => void) =>
    (host: string, port: number, subset: string) => {
      const service = serviceAt(host, namespaceOf(client), read);
      const rule = ruleOfHost(host, service, client, mesh, read, mention);
      if (!rule) return [];
      const part = rule.subsets.find(({ value }) => value.name === subset)?.value.trafficPolicy;
      return hashPolicyOf(policyFor(rule.policy?.value, part, port).loadBalancer);
    };
  const hostContext = (
    host: string,
    client: string,
    mesh: MeshSettings,
    read: Read,
    mention: (namespace: string) => void,
  ): HostContext => {
    const patterns = patternsOf(host);
    const namespace = namespaceOf(client);
    const candidates = patterns.flatMap((pattern) => read.all(hostRulesByHost, pattern));
    return {
      mesh,
      gateways: sidecarGateways,
      client: namespace,
      service: (name) => serviceAt(name, namespace, read),
      hash: hashOf(client, mesh, read, mention),
      mention,
      rules:
        candidates.length === 0
          ? undefined
          : rulesFor(candidates, host, new Set(patterns), namespace, mention),
    };
  };

  /** Who speaks for a host. */
  const hostRulesOfHost = (host: string, client: string, read: Read): HostRules | undefined => {
    const patterns = patternsOf(host);
    return rulesFor(
      patterns.flatMap((pattern) => read.all(hostRulesByHost, pattern)),
      host,
      new Set(patterns),
      client,
      () => {},
    );
  };
  return {
    rules,
    rulesByHost,
    ruleOfHost,
    istioGatewayRules,
    passedHosts,
    isGrantedTo,
    httpRouteRules,
    hostRules,
    hostRulesByGateway,
    hostRulesOfHost,
    hashOf,
    hostContext,
  };
}

/** What it hands on. */
export type RuleGraph = ReturnType<typeof ruleGraph>;

const gatewayGroup = "gateway.networking.k8s.io";

const sidecarGateways: ReadonlySet<string> = new Set([meshGateway]);
