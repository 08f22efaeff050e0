/** What each kind of sidecar does outbound. */
import { derive, flatDerive, index, type Read } from "../../collections/index.ts";
import { isExportedTo, seenBy } from "../exports.ts";
import { type DraftHost, hostFor, tableOf } from "../hosts.ts";
import type { Listener, RouteTable, ScopeConfig, Upstream, VirtualHost } from "../model.ts";
import { blackHoleUpstream, passthroughUpstream } from "../names.ts";
import { type ListenerPart, outboundListener, virtualOutbound } from "../outbound.ts";
import type { Scope } from "../scopes.ts";
import { goesByPort, letsThrough, letsThroughOn } from "../sidecars.ts";
import { blackHole, passthrough, withoutSecret } from "../upstreams.ts";
import type { CallGraph } from "./calls.ts";
import type { MeshGraph } from "./mesh.ts";
import type { RuleGraph } from "./rules.ts";
import type { ScopeGraph } from "./scopes.ts";
import type { ServiceGraph } from "./services.ts";

/** `ScopeConfig`s of the scopes `outbound/…`. */
export function outboundGraph(
  { meshOf }: MeshGraph,
  { registry }: ServiceGraph,
  { hostRulesOfHost }: RuleGraph,
  { upstreamSets, hostSets, listenerSets, looseHosts, upstreamAt }: CallGraph,
  { allScopes, sidecarOf }: ScopeGraph,
) {
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
  /** For services that a scope knows: whether it knows this port of them. */
  const portsOf = (scope: Scope, read: Read): ((key: string, port: number) => boolean) => {
    const sidecar = sidecarOf(scope, read);
    if (!sidecar || !goesByPort(sidecar)) return () => true;
    return (key, port) => {
      const service = read.get(registry, key);
      return service !== undefined && letsThroughOn(sidecar, service, port, scope.namespace);
    };
  };
  const outboundUpstreams = derive(
    outboundScopes,
    (scope, read): ReadonlyMap<string, Upstream> => {
      const upstreams = new Map<string, Upstream>([
        [passthroughUpstream, passthrough],
        [blackHoleUpstream, blackHole],
      ]);
      const isKnown = portsOf(scope, read);
      for (const key of read.get(visibleServices, scope.name) ?? []) {
        const set = read.get(upstreamSets, key);
        if (set)
          for (const upstream of seenBy(set, scope.client).upstreams)
            if (isKnown(key, upstream.port)) upstreams.set(upstream.name, withoutSecret(upstream));
      }
      // Where routes of narrowed scopes lead is known too, though it cannot be called by its own name.
      if (sidecarOf(scope, read)?.egress) {
        const listeners = read.all(listenersByScope, scope.name).map(({ listener }) => listener);
        const tables = read.all(tablesByScope, scope.name).map(({ table }) => table);
        for (const name of referenced(listeners, tables)) {
          if (upstreams.has(name)) continue;
          const upstream = upstreamAt(name, scope.client, read);
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
      return chosen?.kind === rules.kind && chosen.key === rules.key ? [seenBy(draft, scope.client)] : [];
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
      const isKnown = portsOf(scope, read);
      for (const key of read.get(visibleServices, scope.name) ?? []) {
        const set = read.get(hostSets, key);
        if (set) for (const draft of seenBy(set, scope.client)) if (isKnown(key, draft.port)) add(draft);
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
  const outboundListeners = flatDerive(
    outboundScopes,
    (scope, read): { scope: string; listener: Listener }[] => {
      const mesh = meshOf(read);
      if (!mesh) return [];
      const policy = sidecarOf(scope, read)?.policy ?? mesh.outboundPolicy;
      const parts = new Map<string, ListenerPart[]>();
      const isKnown = portsOf(scope, read);
      for (const key of read.get(visibleServices, scope.name) ?? []) {
        const set = read.get(listenerSets, key);
        if (!set) continue;
        for (const part of seenBy(set, scope.client)) {
          if (!isKnown(key, part.port)) continue;
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
          rest: [],
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

  return outboundConfigs;
}

/** Names of the upstreams that listeners and routes send to. */
export function referenced(listeners: Iterable<Listener>, tables: Iterable<RouteTable>): Set<string> {
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
