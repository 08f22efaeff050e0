/**
 * Which DestinationRule holds for a client and a host. Source: Istio `pilot/pkg/model/push_context.go`
 * (destinationRule) and `destination_rule.go` (merging).
 */
import type { DestinationRule, MeshSettings, Subset, TrafficPolicy } from "../api/index.ts";
import { type Exports, exportsOf, isExportedTo } from "./exports.ts";
import type { Origin } from "./model.ts";
import { bySpecificity, fullHost } from "./names.ts";
import { byAge, timeOf } from "./registry.ts";

/** A name that can be part of an upstream's and of a server name. */
export function isSubsetName(name: string | undefined): name is string {
  return name !== undefined && /^[\w.-]{1,63}$/.test(name);
}

/** A DestinationRule with its host and exports resolved. */
export interface Rule {
  /** `namespace/name`. */
  key: string;
  host: string;
  namespace: string;
  name: string;
  created: string;
  exports: Exports;
  policy: TrafficPolicy | undefined;
  subsets: readonly Subset[];
  /** Clients that it is for; undefined: all. Not served. */
  forWorkloads: boolean;
}

/** None without a host, or while the object is being deleted. */
export function ruleOf(object: DestinationRule, mesh: MeshSettings): Rule | undefined {
  const { metadata, spec } = object;
  if (!spec?.host || metadata.deletionTimestamp) return undefined;
  const namespace = metadata.namespace ?? "";
  return {
    key: `${namespace}/${metadata.name}`,
    host: fullHost(spec.host, namespace, mesh.clusterDomain),
    namespace,
    name: metadata.name,
    created: timeOf(metadata.creationTimestamp),
    exports: exportsOf(spec.exportTo, namespace),
    policy: spec.trafficPolicy,
    subsets: spec.subsets ?? [],
    forWorkloads: Object.keys(spec.workloadSelector?.matchLabels ?? {}).length > 0,
  };
}

/** Rules of one namespace for one host, put together: the oldest one's policy, everybody's subsets. */
export interface MergedRule {
  policy: { value: TrafficPolicy; origin: Origin } | undefined;
  subsets: readonly { value: Subset; origin: Origin }[];
  origins: readonly Origin[];
}

/**
 * The rule for a client: of its own namespace, else of the service's, else of the mesh's root; in each the most specific
 * host. `candidates` are all rules whose hosts cover the host.
 */
export function ruleFor(
  candidates: readonly Rule[],
  client: string,
  serviceNamespace: string,
  root: string,
  mention: (namespace: string) => void,
): MergedRule | undefined {
  if (candidates.length === 0) return undefined;
  for (const { namespace, exports } of candidates) {
    mention(namespace);
    if (exports !== "all") for (const each of exports) mention(each);
  }
  const namespaces = client === root ? [serviceNamespace, root] : [client, serviceNamespace, root];
  for (const namespace of namespaces) {
    const own = candidates.filter(
      (rule) =>
        !rule.forWorkloads &&
        rule.namespace === namespace &&
        (namespace === client || isExportedTo(rule.exports, client)),
    );
    if (own.length > 0) return merge(own);
  }
  return undefined;
}

function merge(rules: readonly Rule[]): MergedRule {
  const host = rules.map((rule) => rule.host).sort(bySpecificity)[0];
  const sorted = rules.filter((rule) => rule.host === host).sort(byAge);
  const subsets: { value: Subset; origin: Origin }[] = [];
  const names = new Set<string>();
  let policy: MergedRule["policy"];
  const origins: Origin[] = [];
  for (const rule of sorted) {
    const origin = (field: string): Origin => ({
      kind: "DestinationRule",
      namespace: rule.namespace,
      name: rule.name,
      field,
    });
    origins.push(origin(""));
    if (rule.policy && !policy) policy = { value: rule.policy, origin: origin("spec.trafficPolicy") };
    rule.subsets.forEach((subset, i) => {
      if (!isSubsetName(subset.name) || names.has(subset.name)) return;
      names.add(subset.name);
      subsets.push({ value: subset, origin: origin(`spec.subsets[${i}]`) });
    });
  }
  return { policy, subsets, origins };
}
