/** What a call to each service meets, for every kind of client: upstreams, endpoints, virtual hosts, listeners. */
import { derive, equal, flatDerive, type Read } from "../../collections/index.ts";
import { isPassed, type PassedHosts, passedHost } from "../auto-passthrough.ts";
import { endpointsOf } from "../endpoints.ts";
import { isExportedTo, namespaceOf, seenBy, type Variants, variants } from "../exports.ts";
import { type DraftHost, hostsOf, looseHost } from "../hosts.ts";
import type { Upstream } from "../model.ts";
import { blackHoleUpstream, passthroughUpstream, patternsOf } from "../names.ts";
import { type ListenerPart, listenerParts } from "../outbound.ts";
import { isHttp } from "../protocol.ts";
import { serviceKey } from "../registry.ts";
import { blackHole, passthrough, type UpstreamSet, upstreamsOf, withOwnEndpoints } from "../upstreams.ts";
import { meshGateway } from "../virtual-services.ts";
import type { InstanceGraph } from "./instances.ts";
import type { MeshGraph } from "./mesh.ts";
import type { RuleGraph } from "./rules.ts";
import { registryKey, type ServiceGraph } from "./services.ts";

/** Per service: upstreams, rows of endpoints, virtual hosts, listeners. */
export function callGraph(
  { meshOf }: MeshGraph,
  { registry, servicesByHost, serviceAt }: ServiceGraph,
  { instancesByService, identities }: InstanceGraph,
  { ruleOfHost, hostRules, hostContext, passedHosts }: RuleGraph,
) {
  // Upstreams of each service, and their endpoints.
  const upstreamSets = derive(
    registry,
    (service, read): Variants<UpstreamSet> | undefined => {
      const mesh = meshOf(read);
      if (!mesh) return undefined;
      const facts = read.get(identities, serviceKey(service));
      return withOwnEndpoints(
        variants((client, mention) => {
          const rule = ruleOfHost(service.host, service, client, mesh, read, mention);
          return upstreamsOf(service, {
            mesh,
            rule,
            identities: facts?.identities ?? [],
            allMesh: facts?.allMesh ?? false,
            isPassed: read.list(passedHosts).some((hosts) => isPassed(service, hosts)),
          });
        }, equal),
      );
    },
    { name: "upstreamSets" },
  );
  const endpointSpecs = flatDerive(
    upstreamSets,
    ({ rest, byNamespace }) => [rest, ...byNamespace.values()].flatMap(({ endpoints }) => endpoints),
    { name: "endpointSpecs", key: ({ name }) => name },
  );
  const endpoints = derive(
    endpointSpecs,
    (spec, read) => endpointsOf(spec, read.all(instancesByService, spec.service)),
    { name: "endpoints" },
  );

  // What sidecars do with calls to each service.
  const hostSets = derive(
    registry,
    (service, read): Variants<readonly DraftHost[]> | undefined => {
      const mesh = meshOf(read);
      if (!mesh) return undefined;
      return variants<readonly DraftHost[]>((client, mention) => {
        mention(service.namespace); // there it has a short name
        return hostsOf(service, hostContext(service.host, client, mesh, read, mention));
      }, equal);
    },
    { name: "hostSets" },
  );
  const listenerSets = derive(
    registry,
    (service, read): Variants<readonly ListenerPart[]> | undefined => {
      const mesh = meshOf(read);
      if (!mesh) return undefined;
      const chosenByClient = service.headless && service.ports.some(({ protocol }) => !isHttp(protocol));
      const addresses = chosenByClient
        ? read
            .all(instancesByService, serviceKey(service))
            .flatMap(({ instances }) => instances.map(({ address }) => address))
            .sort()
        : [];
      return variants<readonly ListenerPart[]>(
        (client, mention) =>
          listenerParts(service, { ...hostContext(service.host, client, mesh, read, mention), addresses }),
        equal,
      );
    },
    { name: "listenerSets" },
  );
  // Hosts that only a VirtualService knows.
  const looseHosts = flatDerive(
    hostRules,
    (object, read) => {
      const mesh = meshOf(read);
      if (!mesh || !object.gateways.includes(meshGateway)) return [];
      return object.hosts.flatMap((host) => {
        if (host === "*" || read.all(servicesByHost, host).length > 0) return [];
        if (
          host.startsWith("*") &&
          read.list(registry).some((service) => patternsOf(service.host).includes(host))
        )
          return [];
        const draft = variants(
          (client, mention) => looseHost(host, object, hostContext(host, client, mesh, read, mention)),
          equal,
        );
        return [{ host, rules: object, draft }];
      });
    },
    { name: "looseHosts", key: ({ host, rules }) => `${host}|${rules.key}` },
  );

  /** An upstream by name, as clients of a namespace have it. */
  const upstreamAt = (name: string, client: string, read: Read): Upstream | undefined => {
    if (name === passthroughUpstream) return passthrough;
    if (name === blackHoleUpstream) return blackHole;
    const host = passedHost(name) ?? name.slice(name.lastIndexOf("|") + 1);
    const namespace = namespaceOf(client);
    const service = serviceAt(host, namespace, read);
    if (!service || !isExportedTo(service.exports, namespace)) return undefined;
    const set = read.get(upstreamSets, registryKey(service));
    if (!set) return undefined;
    const { upstreams, passed = [] } = seenBy(set, client);
    return upstreams.find((each) => each.name === name) ?? passed.find((each) => each.name === name);
  };
  const passedServices = derive(
    upstreamSets,
    ({ rest }, read, key) => (rest.passed ? read.get(registry, key) : undefined),
    { name: "passedServices" },
  );
  /** What a gateway of some namespace hands on unopened, in an order that does not depend on who came first. */
  const passedTo = (hosts: PassedHosts, client: string, read: Read): Upstream[] => {
    const upstreams = new Map<string, Upstream>();
    for (const service of read.list(passedServices)) {
      const key = registryKey(service);
      // Of several services of one host it is the one that clients of the namespace call.
      const called = serviceAt(service.host, namespaceOf(client), read);
      if (!called || registryKey(called) !== key) continue;
      if (!isPassed(service, hosts) || !isExportedTo(service.exports, namespaceOf(client))) continue;
      const set = read.get(upstreamSets, key);
      for (const each of (set && seenBy(set, client).passed) ?? []) upstreams.set(each.name, each);
    }
    return [...upstreams.keys()].sort().map((name) => upstreams.get(name)!);
  };
  return { upstreamSets, endpoints, hostSets, listenerSets, looseHosts, upstreamAt, passedTo };
}

/** What it hands on. */
export type CallGraph = ReturnType<typeof callGraph>;
