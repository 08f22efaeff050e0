/**
 * VirtualService, DestinationRule, Gateway, policies and their kin become one routing model. This page says what is
 * derived from what; how is in the files beside it.
 */
import { clusterSetZone, type MeshSettings, memberOfLabel, tlsModeLabel } from "../api/index.ts";
import {
  type Collection,
  derive,
  equal,
  flatDerive,
  group,
  index,
  joinPartitions,
  type Read,
} from "../collections/index.ts";
import { type AccessPolicy, accessPolicyOf, authorizationOf } from "./authorization.ts";
import { endpointsOf, identitiesOf } from "./endpoints.ts";
import { isExportedTo, seenBy, type Variants, variants } from "./exports.ts";
import { findingsOf } from "./findings/index.ts";
import { httpRouteRulesOf, isGranted, kubeGatewayRulesOf, serviceOfGateway } from "./gateway-api.ts";
import {
  byHost,
  type GatewayPart,
  type GatewayRules,
  gatewayParts,
  gatewayRulesOf,
  partKey,
  type Server,
} from "./gateways.ts";
import { type InboundPort, inboundConfig } from "./inbound.ts";
import type { Traffic, TrafficInputs } from "./inputs.ts";
import type {
  Listener,
  Proxy as MeshProxy,
  RouteTable,
  ScopeConfig,
  Upstream,
  VirtualHost,
} from "./model.ts";
import { blackHoleUpstream, passthroughUpstream, patternsOf } from "./names.ts";
import {
  type DraftHost,
  type HostContext,
  hostFor,
  hostsOf,
  type ListenerPart,
  listenerParts,
  looseHost,
  outboundListener,
  tableOf,
  virtualOutbound,
} from "./outbound.ts";
import { peerModeOf, peerPolicyOf } from "./peer-authentication.ts";
import { hashPolicyOf, policyFor } from "./policy.ts";
import { isHttp } from "./protocol.ts";
import { rateLimitsOf } from "./rate-limits.ts";
import { entriesOf, importOf, type MeshService, serviceKey, serviceOf } from "./registry.ts";
import { ruleFor, ruleOf } from "./rules.ts";
import { labelText, podOf, type Scope, workloadLabels } from "./scopes.ts";
import { letsThrough, sidecarFor, sidecarRulesOf } from "./sidecars.ts";
import {
  blackHole,
  passthrough,
  type UpstreamSet,
  upstreamsOf,
  withOwnEndpoints,
  withoutSecret,
} from "./upstreams.ts";
import { type HostRules, hostRulesOf, meshGateway, rulesFor } from "./virtual-services.ts";
import {
  type Instances,
  instanceOfEntry,
  instancesOf,
  localityOf,
  selects,
  servicesOfSlice,
  type Workload,
  workloadOf,
} from "./workloads.ts";

export { analyze, inputOf, inputResources } from "./analyze.ts";
export { type Code, codes } from "./findings/index.ts";
export type { Traffic, TrafficInputs } from "./inputs.ts";
export { localityFor } from "./locality.ts";
export * from "./model.ts";
export { type Served, served, servedRows } from "./served.ts";
export { slimPod } from "./workloads.ts";

/** Settings are read under this key, whatever the source's key is. */
const meshKey = "mesh";

/** Everything about a mesh's traffic, kept up to date. */
export function traffic(inputs: TrafficInputs): Traffic {
  const { engine } = inputs.mesh;
  const settings = flatDerive(inputs.mesh, (mesh) => [mesh], { name: "settings", key: () => meshKey });
  const meshOf = (read: Read): MeshSettings | undefined => read.get(settings, meshKey);

  // Who belongs to the mesh: its own namespace, and those that carry its label.
  const members = derive(
    inputs.namespaces,
    ({ metadata }, read) => {
      const mesh = meshOf(read);
      const { name, labels } = metadata;
      return mesh && (name === mesh.namespace || labels?.[memberOfLabel] === mesh.namespace)
        ? { name }
        : undefined;
    },
    { name: "members" },
  );
  /** The mesh's settings for an object of a member; undefined for others. */
  const meshFor = (object: { metadata: { namespace?: string } }, read: Read): MeshSettings | undefined => {
    const mesh = meshOf(read);
    return mesh && read.get(members, object.metadata.namespace ?? "") ? mesh : undefined;
  };

  // What can be called.
  const registry = joinPartitions<MeshService>(engine, { name: "registry" });
  const meshServices = derive(
    inputs.services,
    (service, read) => {
      const mesh = meshFor(service, read);
      return mesh && serviceOf(service, mesh);
    },
    { name: "meshServices" },
  );
  registry.add("1", meshServices);
  registry.add(
    "2",
    derive(
      inputs.imports,
      (service, read) => (meshFor(service, read) ? importOf(service, clusterSetZone) : undefined),
      { name: "meshImports" },
    ),
  );
  registry.add(
    "3",
    flatDerive(inputs.serviceEntries, (entry, read) => (meshFor(entry, read) ? entriesOf(entry) : []), {
      name: "meshEntries",
      key: serviceKey,
    }),
  );
  const servicesByHost = index(registry, ({ host }) => host, { name: "servicesByHost" });
  const servicesByNamespace = index(meshServices, ({ namespace }) => namespace, {
    name: "servicesByNamespace",
  });

  // Who answers: pods, where they are, what mTLS they take.
  const peerPolicies = derive(
    inputs.peerAuthentications,
    (policy, read) => (meshFor(policy, read) ? peerPolicyOf(policy) : undefined),
    { name: "peerPolicies" },
  );
  const peerPoliciesByNamespace = index(peerPolicies, ({ namespace }) => namespace, {
    name: "peerPoliciesByNamespace",
  });
  const peerModeFor = (
    namespace: string,
    labels: Readonly<Record<string, string>>,
    mesh: MeshSettings,
    read: Read,
  ) =>
    peerModeOf(
      labels,
      read.all(peerPoliciesByNamespace, namespace),
      read.all(peerPoliciesByNamespace, mesh.namespace),
      mesh,
    );
  const workloads = derive(
    inputs.pods,
    (pod, read) => {
      const mesh = meshOf(read);
      return mesh && workloadOf(pod, mesh);
    },
    { name: "workloads" },
  );
  const workloadsByAddress = index(
    workloads,
    ({ addresses, hostNetwork }) => (hostNetwork ? [] : addresses),
    { name: "workloadsByAddress" },
  );
  const localities = derive(inputs.nodes, localityOf, { name: "localities" });
  const mtlsOf = (workload: Workload, mesh: MeshSettings, read: Read) => {
    if (workload.labels[tlsModeLabel] !== "istio") return { meshTls: false, plainPorts: [] };
    const { mode, ports } = peerModeFor(workload.namespace, workload.labels, mesh, read);
    const plainPorts = [...ports].flatMap(([port, each]) => (each === "disable" ? [port] : []));
    return { meshTls: mode !== "disable", plainPorts };
  };
  const identityOf = (mesh: MeshSettings) => (namespace: string, account: string) =>
    `spiffe://${mesh.trustDomain}/ns/${namespace}/sa/${account}`;
  const sliceInstances = derive(
    inputs.endpointSlices,
    (slice, read): Instances | undefined => {
      const mesh = meshFor(slice, read);
      if (!mesh) return undefined;
      const services = servicesOfSlice(slice, mesh, clusterSetZone);
      if (services.length === 0) return undefined;
      return instancesOf(slice, services, {
        pod: (name) => read.get(workloads, name),
        podAt: (address) => read.all(workloadsByAddress, address)[0],
        locality: (node) => read.get(localities, node),
        mtls: (workload) => mtlsOf(workload, mesh, read),
        identity: identityOf(mesh),
      });
    },
    { name: "sliceInstances" },
  );
  // Pods and WorkloadEntries that ServiceEntries select.
  const workloadsByNamespace = index(workloads, ({ namespace }) => namespace, {
    name: "workloadsByNamespace",
  });
  const entriesByNamespace = index(inputs.workloadEntries, ({ metadata }) => metadata.namespace ?? "", {
    name: "workloadEntriesByNamespace",
  });
  const selectedInstances = derive(
    registry,
    (service, read): Instances | undefined => {
      const mesh = meshOf(read);
      if (!mesh || service.resolution !== "selected") return undefined;
      const pods = read
        .all(workloadsByNamespace, service.namespace)
        .filter(({ labels, addresses }) => addresses.length > 0 && selects(service.selector, labels))
        .map((workload) => ({
          address: workload.addresses[0]!,
          locality: read.get(localities, workload.node) ?? { region: "", zone: "" },
          labels: workload.labels,
          weight: 1,
          ...mtlsOf(workload, mesh, read),
          identity: identityOf(mesh)(workload.namespace, workload.serviceAccount),
          workload: workload.workload,
          ports: {},
        }));
      const entries = read
        .all(entriesByNamespace, service.namespace)
        .flatMap((entry) => instanceOfEntry(entry) ?? [])
        .filter(({ labels }) => selects(service.selector, labels));
      return { services: [serviceKey(service)], ports: [], instances: [...pods, ...entries] };
    },
    { name: "selectedInstances" },
  );
  const instances = joinPartitions<Instances>(engine, { name: "instances" });
  instances.add("slices", sliceInstances);
  instances.add("selected", selectedInstances);
  const instancesByService = index(instances, ({ services }) => services, { name: "instancesByService" });
  const identities = group(
    instances,
    ({ services }) => services,
    (_service, slices) => ({
      identities: identitiesOf(slices),
      allMesh: slices.every(({ instances }) => instances.every(({ meshTls }) => meshTls)),
    }),
    { name: "identities" },
  );

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
  const isGrantedTo = (
    from: { kind: string; namespace: string },
    to: { group: string; kind: string; namespace: string; name: string },
    read: Read,
  ) => isGranted(read.all(grantsByNamespace, to.namespace), { group: gatewayGroup, ...from }, to);
  const grantsByNamespace = index(inputs.referenceGrants, ({ metadata }) => metadata.namespace ?? "", {
    name: "grantsByNamespace",
  });
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
  const serviceAt = (host: string, client: string, read: Read): MeshService | undefined => {
    const all = read.all(servicesByHost, host);
    return all.find(({ namespace }) => namespace === client) ?? all[0];
  };
  const hashOf =
    (client: string, mesh: MeshSettings, read: Read, mention: (namespace: string) => void) =>
    (host: string, port: number, subset: string) => {
      const rule = ruleOfHost(host, serviceAt(host, client, read), client, mesh, read, mention);
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
    const candidates = patterns.flatMap((pattern) => read.all(hostRulesByHost, pattern));
    return {
      mesh,
      gateways: sidecarGateways,
      client,
      service: (name) => serviceAt(name, client, read),
      hash: hashOf(client, mesh, read, mention),
      mention,
      rules:
        candidates.length === 0 ? undefined : rulesFor(candidates, host, new Set(patterns), client, mention),
    };
  };

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

  // Which scopes there are.
  const sourceLabels = derive(
    hostRules,
    (object) => {
      const labels = [
        ...object.http.flatMap(({ value }) => value.match ?? []),
        ...object.tls.flatMap(({ match }) => match ?? []),
        ...object.tcp.flatMap(({ match }) => match ?? []),
      ].flatMap(({ sourceLabels }) => Object.entries(sourceLabels ?? {}));
      return labels.length > 0 ? { labels, exports: object.exports } : undefined;
    },
    { name: "sourceLabels" },
  );
  const sidecars = derive(
    inputs.sidecars,
    (sidecar, read) => (meshFor(sidecar, read) ? sidecarRulesOf(sidecar) : undefined),
    { name: "sidecarRules" },
  );
  const sidecarsByNamespace = index(sidecars, ({ namespace }) => namespace, { name: "sidecarsByNamespace" });
  const sidecarOf = (scope: Scope, read: Read) =>
    scope.sidecar === undefined ? undefined : read.get(sidecars, scope.sidecar);
  const proxyScopes = derive(
    inputs.proxies,
    (proxy, read): readonly Scope[] => {
      if (!meshOf(read) || !read.get(members, proxy.namespace)) return [];
      return scopesOfProxy(proxy, read);
    },
    { name: "proxyScopes" },
  );
  const scopesOfProxy = (proxy: MeshProxy, read: Read): Scope[] => {
    const { namespace } = proxy;
    const labels = workloadLabels(proxy.labels);
    const ports = read.get(workloads, `${namespace}/${podOf(proxy)}`)?.ports ?? {};
    if (proxy.type === "gateway")
      return [
        { name: `gateway/${namespace}/${labelText(labels)}`, kind: "gateway", namespace, labels, ports },
      ];
    const asked: Record<string, string> = {};
    for (const { labels: pairs, exports } of read.list(sourceLabels))
      if (isExportedTo(exports, namespace))
        for (const [name, value] of pairs) if (labels[name] === value) asked[name] = value;
    const outbound = workloadLabels(asked);
    const sidecar = sidecarFor(
      proxy.labels,
      read.all(sidecarsByNamespace, namespace),
      read.all(sidecarsByNamespace, meshOf(read)?.namespace ?? ""),
    );
    // What holds for the whole namespace makes no scope of its own.
    const parts = [labelText(outbound), sidecar?.selector ? `sidecar=${sidecar.name}` : ""];
    return [
      {
        name: [`outbound/${namespace}`, ...parts.filter((part) => part)].join("/"),
        kind: "outbound",
        namespace,
        labels: outbound,
        ...(sidecar && { sidecar: sidecar.key }),
        ports: {},
      },
      { name: `inbound/${namespace}/${labelText(labels)}`, kind: "inbound", namespace, labels, ports },
    ];
  };
  const scopes = derive(proxyScopes, (all) => all.map(({ name }) => name), { name: "scopes" });
  const allScopes = flatDerive(proxyScopes, (all) => all, { name: "allScopes", key: ({ name }) => name });

  // What each kind of sidecar does outbound.
  const outboundScopes = derive(allScopes, (scope) => (scope.kind === "outbound" ? scope : undefined), {
    name: "outboundScopes",
  });
  const registryKeys = derive(registry, (service, _read, key) => ({ key, service }), {
    name: "registryKeys",
  });
  /** The registry as a scope sees it: one service for each host. */
  const visibleServices = derive(
    outboundScopes,
    (scope, read) => {
      const seen = new Map<string, string>();
      const sidecar = sidecarOf(scope, read);
      for (const { key, service } of read.list(registryKeys)) {
        if (!isExportedTo(service.exports, scope.namespace)) continue;
        if (!letsThrough(sidecar, service, scope.namespace)) continue;
        if (!seen.has(service.host) || service.namespace === scope.namespace) seen.set(service.host, key);
      }
      return [...seen.values()];
    },
    { name: "visibleServices" },
  );
  const outboundUpstreams = derive(
    outboundScopes,
    (scope, read): ReadonlyMap<string, Upstream> => {
      const upstreams = new Map<string, Upstream>([
        [passthroughUpstream, passthrough],
        [blackHoleUpstream, blackHole],
      ]);
      for (const key of read.get(visibleServices, scope.name) ?? []) {
        const set = read.get(upstreamSets, key);
        if (set)
          for (const upstream of seenBy(set, scope.namespace).upstreams)
            upstreams.set(upstream.name, withoutSecret(upstream));
      }
      // Where routes of narrowed scopes lead is known too, though it cannot be called by its own name.
      if (sidecarOf(scope, read)?.hosts) {
        const listeners = read.all(listenersByScope, scope.name).map(({ listener }) => listener);
        const tables = read.all(tablesByScope, scope.name).map(({ table }) => table);
        for (const name of referenced(listeners, tables)) {
          if (upstreams.has(name)) continue;
          const upstream = upstreamAt(name, scope.namespace, read);
          if (upstream) upstreams.set(name, withoutSecret(upstream));
        }
      }
      return upstreams;
    },
    { name: "outboundUpstreams" },
  );
  const looseFor = (scope: Scope, read: Read): DraftHost[] =>
    read.list(looseHosts).flatMap(({ host, rules, draft }) => {
      const chosen = hostRulesOfHost(host, scope.namespace, read);
      return chosen?.kind === rules.kind && chosen.key === rules.key ? [seenBy(draft, scope.namespace)] : [];
    });
  const outboundTables = flatDerive(
    outboundScopes,
    (scope, read) => {
      const mesh = meshOf(read);
      if (!mesh) return [];
      const tables = new Map<string, VirtualHost[]>();
      const add = (draft: DraftHost) => {
        const hosts = tables.get(draft.table);
        const host = hostFor(draft, scope.labels);
        if (hosts) hosts.push(host);
        else tables.set(draft.table, [host]);
      };
      for (const key of read.get(visibleServices, scope.name) ?? []) {
        const set = read.get(hostSets, key);
        if (set) for (const draft of seenBy(set, scope.namespace)) add(draft);
      }
      for (const draft of looseFor(scope, read)) add(draft);
      const policy = sidecarOf(scope, read)?.policy ?? mesh.outboundPolicy;
      const unknown = policy === "ALLOW_ANY" ? "passthrough" : "block";
      return [...tables].map(([name, hosts]) => ({
        scope: scope.name,
        table: tableOf(name, hosts, unknown),
      }));
    },
    { name: "outboundTables", key: ({ scope, table }) => `${scope}|${table.name}` },
  );
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
  const outboundListeners = flatDerive(
    outboundScopes,
    (scope, read): { scope: string; listener: Listener }[] => {
      const mesh = meshOf(read);
      if (!mesh) return [];
      const policy = sidecarOf(scope, read)?.policy ?? mesh.outboundPolicy;
      const parts = new Map<string, ListenerPart[]>();
      for (const key of read.get(visibleServices, scope.name) ?? []) {
        const set = read.get(listenerSets, key);
        if (!set) continue;
        for (const part of seenBy(set, scope.namespace)) {
          const name = `${part.address}_${part.port}`;
          const others = parts.get(name);
          if (others) others.push(part);
          else parts.set(name, [part]);
        }
      }
      if (looseFor(scope, read).length > 0) {
        const part: ListenerPart = {
          address: "0.0.0.0",
          port: 80,
          http: true,
          chains: [],
          inspect: ["tls", "http"],
        };
        parts.set("0.0.0.0_80", [...(parts.get("0.0.0.0_80") ?? []), part]);
      }
      const listeners = [...parts.values()].map((all) =>
        outboundListener(all[0]!.address, all[0]!.port, all, policy, mesh, scope.labels),
      );
      return [virtualOutbound(policy, mesh), ...listeners].map((listener) => ({
        scope: scope.name,
        listener,
      }));
    },
    { name: "outboundListeners", key: ({ scope, listener }) => `${scope}|${listener.name}` },
  );
  const tablesByScope = index(outboundTables, ({ scope }) => scope, { name: "tablesByScope" });
  const listenersByScope = index(outboundListeners, ({ scope }) => scope, { name: "listenersByScope" });
  const outboundConfigs = derive(
    outboundScopes,
    (scope, read): ScopeConfig => ({
      scope: scope.name,
      listeners: new Map(
        read.all(listenersByScope, scope.name).map(({ listener }) => [listener.name, listener]),
      ),
      routes: new Map(read.all(tablesByScope, scope.name).map(({ table }) => [table.name, table])),
      upstreams: read.get(outboundUpstreams, scope.name) ?? new Map(),
      secrets: new Set(),
    }),
    { name: "outboundConfigs" },
  );

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

  // What gateways do.
  const istioGatewayRules = derive(
    inputs.gateways,
    (gateway, read) => {
      const mesh = meshFor(gateway, read);
      return mesh && gatewayRulesOf(gateway, mesh);
    },
    { name: "istioGatewayRules" },
  );
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
        client: scope.namespace,
        servers: bound.flatMap(({ servers }): readonly Server[] => servers),
        target: (port) => targetOf(services, port, scope),
        rules: (gateway) => read.all(hostRulesByGateway, gateway),
        service: (host) => serviceAt(host, scope.namespace, read),
        hash: hashOf(scope.namespace, mesh, read, () => {}),
        mention: () => {},
        limitsOf: ({ namespace, name }) =>
          rateLimitsOf(
            { labels: {}, targets: new Set([`Gateway/${name}`]) },
            read.all(rateLimitsByNamespace, namespace),
          ),
        ...guards(scope, mesh, read),
      });
    },
    { name: "gatewayParts", key: partKey },
  );
  const gatewayPartsByScope = index(allGatewayParts, ({ scope }) => scope, { name: "gatewayPartsByScope" });
  const upstreamAt = (name: string, client: string, read: Read): Upstream | undefined => {
    if (name === passthroughUpstream) return passthrough;
    if (name === blackHoleUpstream) return blackHole;
    const service = serviceAt(name.slice(name.lastIndexOf("|") + 1), client, read);
    if (!service || !isExportedTo(service.exports, client)) return undefined;
    const set = read.get(upstreamSets, registryKey(service));
    return set && seenBy(set, client).upstreams.find((each) => each.name === name);
  };
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
      for (const [name, hosts] of tables)
        routes.set(name, { name, virtualHosts: hosts.sort(byHost), unknown: "not-found" });
      const upstreams = new Map<string, Upstream>([[blackHoleUpstream, blackHole]]);
      for (const name of referenced(listeners.values(), routes.values())) {
        const upstream = upstreamAt(name, scope.namespace, read);
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

  const configs = derive(
    allScopes,
    (scope, read) => {
      const from = { outbound: outboundConfigs, inbound: inboundConfigs, gateway: gatewayConfigs }[
        scope.kind
      ];
      return read.get(from, scope.name);
    },
    { name: "configs" },
  );
  // What authors are told.
  const routeFindings = derive(
    httpRouteRules,
    ({ problems }) => (problems.length > 0 ? problems : undefined),
    { name: "routeFindings" },
  );
  const findings = findingsOf(inputs, routeFindings, (object, read) => {
    const mesh = meshFor(object, read);
    return (
      mesh && {
        mesh,
        service: (host, client) => {
          for (const pattern of patternsOf(host)) {
            const found = serviceAt(pattern, client, read);
            if (found) return found;
          }
          return undefined;
        },
        rule: (host, service, client) => ruleOfHost(host, service, client, mesh, read, () => {}),
        rulesOf: (host) => read.all(rulesByHost, host),
        virtualService: (key) => {
          const found = read.get(inputs.virtualServices, key);
          return found && { isDelegate: !found.spec?.hosts?.length };
        },
        gateway: (key) => read.get(istioGatewayRules, key),
        winner: (host, client) => hostRulesOfHost(host, client, read),
        pods: (namespace) => read.all(workloadsByNamespace, namespace),
        services: () => read.list(meshServices),
        gateways: () => read.list(istioGatewayRules),
      }
    );
  });

  const collections: Record<string, Collection<unknown>> = {
    ...inputs,
    members,
    registry,
    workloads,
    instances,
    rules,
    upstreamSets,
    endpoints,
    hostRules,
    hostSets,
    scopes,
    gatewayRules,
    configs,
  };
  return {
    scopes,
    configs,
    endpoints,
    findings,
    scopesOf: ({ id }) => scopes.get(id) ?? [],
    collections: new Map(Object.entries(collections)),
  };
}

const gatewayGroup = "gateway.networking.k8s.io";

const sidecarGateways: ReadonlySet<string> = new Set([meshGateway]);

/** The key of a service in the joined registry. */
function registryKey(service: MeshService): string {
  const { kind, namespace, name } = service;
  if (kind === "ServiceEntry") return `3/${serviceKey(service)}`;
  return `${kind === "Service" ? "1" : "2"}/${namespace}/${name}`;
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

/** Names of the upstreams that listeners and routes send to. */
function referenced(listeners: Iterable<Listener>, tables: Iterable<RouteTable>): Set<string> {
  const names = new Set<string>();
  for (const { chains, fallback } of listeners)
    for (const { handler } of fallback ? [...chains, fallback] : chains)
      if (handler.kind === "tcp") for (const { upstream } of handler.clusters) names.add(upstream);
  for (const { virtualHosts } of tables)
    for (const { routes } of virtualHosts)
      for (const { action } of routes) {
        if (action.kind !== "forward") continue;
        for (const { upstream } of action.clusters) names.add(upstream);
        for (const { upstream } of action.mirrors) names.add(upstream);
      }
  return names;
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
