/**
 * Which DestinationRule holds for a client and a host. Source: Istio `pilot/pkg/model/push_context.go`
 * (destinationRule) and `destination_rule.go` (merging).
 */
import type { DestinationRule, MeshSettings, Subset, TrafficPolicy } from "../api/index.ts";
import { clientOf, type Exports, exportsOf, isExportedTo, namespaceOf, selectingRules } from "./exports.ts";
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
  /** The workloads of its namespace that it is for, as clients; undefined: it is for all clients. */
  selector: Readonly<Record<string, string>> | undefined;
}

/** None without a host, or while the object is being deleted. */
export function ruleOf(object: DestinationRule, mesh: MeshSettings): Rule | undefined {
  const { metadata, spec } = object;
  if (!spec?.host || metadata.deletionTimestamp) return undefined;
  const namespace = metadata.namespace ?? "";
  const selector = spec.workloadSelector?.matchLabels;
  return {
    key: `${namespace}/${metadata.name}`,
    host: fullHost(spec.host, namespace, mesh.clusterDomain),
    namespace,
    name: metadata.name,
    created: timeOf(metadata.creationTimestamp),
    exports: exportsOf(spec.exportTo, namespace),
    policy: spec.trafficPolicy,
    subsets: spec.subsets ?? [],
    selector: selector && Object.keys(selector).length > 0 ? selector : undefined,
  };
}

/** Rules of one namespace for one host, put together: the oldest one's policy, everybody's subsets. */
export interface MergedRule {
  policy: { value: TrafficPolicy; origin: Origin } | undefined;
  subsets: readonly { value: Subset; origin: Origin }[];
  origins: readonly Origin[];
}

/**
 * The rule for a client: one that selects its workload, of its own namespace, else of the service's, else of the mesh's root; in each the most specific
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
  const own = namespaceOf(client);
  for (const { namespace, exports, selector, key } of candidates) {
    if (selector) {
      mention(clientOf(namespace, [key]));
      continue;
    }
    mention(namespace);
    if (exports !== "all") for (const each of exports) mention(each);
  }
  for (const key of selectingRules(client)) {
    const rule = candidates.find((each) => each.selector && each.key === key);
    if (rule) return merge([rule]);
  }
  const namespaces = own === root ? [serviceNamespace, root] : [own, serviceNamespace, root];
  for (const namespace of namespaces) {
    const found = candidates.filter(
      (rule) =>
        !rule.selector &&
        rule.namespace === namespace &&
        (namespace === own || isExportedTo(rule.exports, own)),
    );
    if (found.length > 0) return merge(found);
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
