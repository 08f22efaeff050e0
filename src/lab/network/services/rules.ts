/**
 * From a Service and its EndpointSlices to the nftables rules of one node: pure functions.
 * Source: pkg/proxy/topology.go (which endpoints), pkg/proxy/nftables/proxier.go (how traffic is sent there).
 */
import type { Endpoint, EndpointSlice, Service, ServicePort } from "../../../api/index.ts";

/** The node that the rules are for. */
export interface NodePlace {
  name: string;
  /** `topology.kubernetes.io/zone`, when the node has one. */
  zone: string | undefined;
}

/** What one Service wants in the table. Names are those of nftables objects in the table. */
export interface Rules {
  /** Chain → its rules. */
  chains: Map<string, string[]>;
  /** Sets that remember which clients stick to an endpoint. */
  affinities: Set<string>;
  /** `address . port` over UDP → the endpoints that its flows may be at. */
  flows: Map<string, string[]>;
  /** `set key` → verdict for maps, empty for sets. */
  elements: Map<string, string>;
}

/** The maps and sets that Services put elements into. */
export const sets = {
  /** ClusterIPs, where their traffic goes. */
  clusterIps: "cluster-ips",
  /** Addresses from outside: externalIPs and those of load balancers. */
  externalIps: "external-ips",
  nodePorts: "node-ports",
  /** Addresses that are to be refused, because nothing stands behind them. */
  refused: "refused",
  /** Addresses that are to be ignored, because nothing stands behind them on this node. */
  ignored: "ignored",
  /** Which generation the UDP flows to an address are of: their conntrack zone. */
  flows: "udp-flows",
  /** This node's endpoints, as `address . address`: a pod that reaches itself. */
  hairpin: "hairpin",
} as const;

/** An endpoint of one port. */
interface Target {
  address: string;
  port: number;
}

interface Candidate extends Target {
  ready: boolean;
  serving: boolean;
  terminating: boolean;
  nodeName: string | undefined;
  zone: string | undefined;
}

const defaultAffinitySeconds = 10_800;

/** Whether the Service has an address that rules could be for. */
function isProxied(service: Service): boolean {
  const { type, clusterIP } = service.spec ?? {};
  return type !== "ExternalName" && clusterIP !== undefined && clusterIP !== "" && clusterIP !== "None";
}

/** The rules of one Service on one node. */
export function rulesOf(service: Service, slices: Iterable<EndpointSlice>, node: NodePlace): Rules {
  const rules: Rules = { chains: new Map(), affinities: new Set(), flows: new Map(), elements: new Map() };
  if (!isProxied(service)) return rules;
  const list = [...slices].filter((slice) => slice.addressType === "IPv4");
  for (const port of service.spec?.ports ?? []) portRules(rules, service, port, list, node);
  return rules;
}

function portRules(
  rules: Rules,
  service: Service,
  port: ServicePort,
  slices: EndpointSlice[],
  node: NodePlace,
): void {
  const spec = service.spec!;
  const protocol = (port.protocol ?? "TCP").toLowerCase();
  const id = `${service.metadata.namespace}/${service.metadata.name}/${protocol}/${port.port}`;
  const candidates = candidatesOf(slices, port);
  const everywhere = chooseEverywhere(candidates, spec.trafficDistribution, node);
  const here = chooseHere(candidates, node);
  const balance = (scope: "cluster" | "local", targets: Target[]): string => {
    const chain = `${scope}/${id}`;
    if (!rules.chains.has(chain)) addBalancer(rules, chain, id, protocol, targets, service);
    return chain;
  };

  const internalLocal = spec.internalTrafficPolicy === "Local";
  const internal = internalLocal ? here : everywhere;
  for (const address of clusterIpsOf(service)) {
    const key = `${address} . ${protocol} . ${port.port}`;
    if (internal.length > 0) {
      const chain = balance(internalLocal ? "local" : "cluster", internal);
      rules.elements.set(`${sets.clusterIps} ${key}`, `goto ${chain}`);
      flow(address, internal);
    } else if (everywhere.length > 0) {
      rules.elements.set(`${sets.ignored} ${key}`, "");
    }
    // Without any endpoint there is nothing to add: what stays addressed to the service range is refused.
  }

  const outside = externalIpsOf(service);
  const nodePort = spec.type === "NodePort" || spec.type === "LoadBalancer" ? port.nodePort : undefined;
  if (outside.length > 0 || nodePort) {
    const external = externalChain();
    for (const address of outside) {
      const key = `${address} . ${protocol} . ${port.port}`;
      if (external) {
        rules.elements.set(`${sets.externalIps} ${key}`, `goto ${external}`);
        flow(address, spec.externalTrafficPolicy === "Local" ? here : everywhere);
      } else rules.elements.set(`${everywhere.length > 0 ? sets.ignored : sets.refused} ${key}`, "");
    }
    if (nodePort && external) {
      rules.elements.set(`${sets.nodePorts} ${protocol} . ${nodePort}`, `goto ${external}`);
    }
  }
  for (const { address, nodeName } of candidates) {
    if (nodeName === node.name) rules.elements.set(`${sets.hairpin} ${address} . ${address}`, "");
  }

  function flow(address: string, targets: Target[]): void {
    if (protocol !== "udp") return;
    const ends = targets.map((one) => `${one.address}:${one.port}`);
    rules.flows.set(`${address} . ${port.port}`, ends);
  }

  /** Where traffic from outside enters, or undefined when there is nowhere to send it. */
  function externalChain(): string | undefined {
    const chain = `external/${id}`;
    if (spec.externalTrafficPolicy === "Local") {
      if (here.length === 0) return undefined;
      rules.chains.set(chain, [`goto ${balance("local", here)}`]);
    } else {
      if (everywhere.length === 0) return undefined;
      // The endpoint may be on another node: its answer has to come back through here.
      rules.chains.set(chain, ["jump mark-for-masquerade", `goto ${balance("cluster", everywhere)}`]);
    }
    return chain;
  }
}

/** The rules that pick one of the targets, each with the same probability. */
function addBalancer(
  rules: Rules,
  chain: string,
  id: string,
  protocol: string,
  targets: Target[],
  service: Service,
): void {
  if (service.spec?.sessionAffinity !== "ClientIP") {
    rules.chains.set(chain, [`meta l4proto ${protocol} ${dnat(targets)}`]);
    return;
  }
  const seconds = service.spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? defaultAffinitySeconds;
  const endpoints = targets.map((target) => {
    const name = `${id}/${target.address}/${target.port}`;
    rules.affinities.add(`affinity/${name}`);
    rules.chains.set(`endpoint/${name}`, [
      `update @affinity/${name} { ip saddr timeout ${seconds}s }`,
      `meta l4proto ${protocol} ${dnat([target])}`,
    ]);
    return name;
  });
  const pick = endpoints.map((name, n) => `${n} : goto endpoint/${name}`).join(", ");
  rules.chains.set(chain, [
    ...endpoints.map((name) => `ip saddr @affinity/${name} goto endpoint/${name}`),
    `numgen random mod ${endpoints.length} vmap { ${pick} }`,
  ]);
}

function dnat(targets: Target[]): string {
  const [first] = targets;
  if (targets.length === 1) return `dnat ip to ${first!.address}:${first!.port}`;
  const choices = targets.map(({ address, port }, n) => `${n} : ${address} . ${port}`).join(", ");
  return `dnat ip to numgen random mod ${targets.length} map { ${choices} }`;
}

/** All endpoints of a Service's port, each address and port once, in a stable order. */
function candidatesOf(slices: EndpointSlice[], port: ServicePort): Candidate[] {
  const found = new Map<string, Candidate>();
  for (const slice of slices) {
    const number = (slice.ports ?? []).find(
      (one) => (one.name ?? "") === (port.name ?? "") && (one.protocol ?? "TCP") === (port.protocol ?? "TCP"),
    )?.port;
    if (number === undefined) continue;
    for (const endpoint of slice.endpoints ?? []) {
      const address = endpoint.addresses[0];
      if (address === undefined || !isAddress(address)) continue;
      const candidate = { address, port: number, ...stateOf(endpoint) };
      const key = `${address}:${number}`;
      const known = found.get(key);
      // While an endpoint moves from slice to slice it is in both: the better news counts.
      if (!known || (candidate.ready && !known.ready)) found.set(key, candidate);
    }
  }
  return [...found.keys()].sort().map((key) => found.get(key)!);
}

/** Slices are written by many: only what is an IPv4 address may get into a rule. */
function isAddress(text: string): boolean {
  const parts = text.split(".");
  return parts.length === 4 && parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256);
}

/** An absent condition is as good as true, `terminating` excepted (discovery/v1 EndpointConditions). */
function stateOf(endpoint: Endpoint): Omit<Candidate, keyof Target> {
  const { ready = true, serving = ready, terminating = false } = endpoint.conditions ?? {};
  return { ready, serving, terminating, nodeName: endpoint.nodeName, zone: endpoint.zone };
}

/** Ready endpoints; if there is none, those that still serve while they end (KEP-1669). */
function usable(candidates: Candidate[]): Candidate[] {
  const ready = candidates.filter((one) => one.ready);
  return ready.length > 0 ? ready : candidates.filter((one) => one.serving && one.terminating);
}

/**
 * The endpoints for traffic that may go anywhere: those near the node, where the Service wants that and there are
 * any (KEP-4444, KEP-3015), else all.
 */
function chooseEverywhere(
  candidates: Candidate[],
  distribution: string | undefined,
  node: NodePlace,
): Candidate[] {
  const all = usable(candidates);
  if (distribution === "PreferSameNode") {
    const same = all.filter((one) => one.nodeName === node.name);
    if (same.length > 0) return same;
  }
  if (distribution !== undefined && node.zone !== undefined) {
    const near = all.filter((one) => one.zone === node.zone);
    if (near.length > 0) return near;
  }
  return all;
}

/** The endpoints on the node itself, for the policies that allow no others (KEP-2086). */
function chooseHere(candidates: Candidate[], node: NodePlace): Candidate[] {
  return usable(candidates.filter((one) => one.nodeName === node.name));
}

function clusterIpsOf(service: Service): string[] {
  const { clusterIP, clusterIPs } = service.spec!;
  return [...new Set([clusterIP!, ...(clusterIPs ?? [])])].filter(isAddress);
}

function externalIpsOf(service: Service): string[] {
  const ingress = service.spec?.type === "LoadBalancer" ? (service.status?.loadBalancer?.ingress ?? []) : [];
  return [...(service.spec?.externalIPs ?? []), ...ingress.map((one) => one.ip ?? "")].filter(isAddress);
}
