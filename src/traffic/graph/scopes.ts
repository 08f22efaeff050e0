/** Which scopes there are: from the proxies that are connected, and what makes a difference between them. */
import { derive, flatDerive, index, type Read } from "../../collections/index.ts";
import { clientOf, isExportedTo } from "../exports.ts";
import type { TrafficInputs } from "../inputs.ts";
import type { Proxy as MeshProxy } from "../model.ts";
import { byAge } from "../registry.ts";
import { labelText, podOf, type Scope, workloadLabels } from "../scopes.ts";
import { sidecarFor, sidecarRulesOf } from "../sidecars.ts";
import { selects } from "../workloads.ts";
import type { InstanceGraph } from "./instances.ts";
import type { MeshGraph } from "./mesh.ts";
import type { RuleGraph } from "./rules.ts";

/** Scopes of proxies, and of which kind they are. */
export function scopeGraph(
  inputs: TrafficInputs,
  { meshOf, meshFor, members }: MeshGraph,
  { workloads }: InstanceGraph,
  { hostRules, rules }: RuleGraph,
) {
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
  const selectingRules = index(rules, ({ selector, namespace }) => (selector ? [namespace] : []), {
    name: "selectingRules",
  });
  const sidecars = derive(
    inputs.sidecars,
    (sidecar, read) => (meshFor(sidecar, read) ? sidecarRulesOf(sidecar) : undefined),
    { name: "sidecarRules" },
  );
  const sidecarsByNamespace = index(sidecars, ({ namespace }) => namespace, { name: "sidecarsByNamespace" });
  const sidecarOf = (scope: Scope, read: Read) =>
    scope.sidecar === undefined ? undefined : read.get(sidecars, scope.sidecar);
  // No row for a proxy whose namespace is no member, or is none any more: it is told nothing, and goes on with what it has.
  const proxyScopes = derive(
    inputs.proxies,
    (proxy, read): readonly Scope[] | undefined => {
      if (!meshOf(read) || !read.get(members, proxy.namespace)) return undefined;
      return scopesOfProxy(proxy, read);
    },
    { name: "proxyScopes" },
  );
  const scopesOfProxy = (proxy: MeshProxy, read: Read): Scope[] => {
    const { namespace } = proxy;
    const labels = workloadLabels(proxy.labels);
    const ports = read.get(workloads, `${namespace}/${podOf(proxy)}`)?.ports ?? {};
    // DestinationRules that are for its workload, the oldest first.
    const selected = read
      .all(selectingRules, namespace)
      .filter(({ selector }) => selects(selector, proxy.labels))
      .sort(byAge);
    const client = clientOf(
      namespace,
      selected.map(({ key }) => key),
    );
    const selectedBy = selected.length > 0 ? `rules=${selected.map(({ name }) => name).join(",")}` : "";
    const named = (...parts: string[]) => parts.filter((part) => part).join("/");
    if (proxy.type === "gateway") {
      const name = named(`gateway/${namespace}/${labelText(labels)}`, selectedBy);
      return [{ name, kind: "gateway", namespace, client, labels, ports }];
    }
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
    const inbound = sidecar?.ingress || sidecar?.inboundPool ? sidecar : undefined;
    // What holds for the whole namespace makes no scope of its own.
    const parts = [labelText(outbound), sidecar?.selector ? `sidecar=${sidecar.name}` : "", selectedBy];
    return [
      {
        name: named(`outbound/${namespace}`, ...parts),
        kind: "outbound",
        namespace,
        client,
        labels: outbound,
        ...(sidecar && { sidecar: sidecar.key }),
        ports: {},
      },
      {
        name: [
          `inbound/${namespace}/${labelText(labels)}`,
          inbound?.selector ? `sidecar=${inbound.name}` : "",
        ]
          .filter((part) => part)
          .join("/"),
        kind: "inbound",
        namespace,
        client: namespace,
        labels,
        ...(inbound && { sidecar: inbound.key }),
        ports,
      },
    ];
  };
  const scopes = derive(proxyScopes, (all) => all.map(({ name }) => name), { name: "scopes" });
  const allScopes = flatDerive(proxyScopes, (all) => all, { name: "allScopes", key: ({ name }) => name });

  return { scopes, allScopes, sidecarOf };
}

/** What it hands on. */
export type ScopeGraph = ReturnType<typeof scopeGraph>;
