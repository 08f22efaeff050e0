/** What workloads call, as Sidecar objects narrow it down. Source: Istio `pilot/pkg/model/sidecar.go`. */
import type { MeshSettings, Sidecar } from "../api/index.ts";
import { covers } from "./names.ts";
import { byAge, type MeshService, timeOf } from "./registry.ts";
import { selects } from "./workloads.ts";

/** A Sidecar, resolved. */
export interface SidecarRules {
  /** `namespace/name`. */
  key: string;
  namespace: string;
  name: string;
  created: string;
  selector: Readonly<Record<string, string>> | undefined;
  /** Whose services it lets through; undefined: all. A namespace is a name, `*`, or `~` for none. */
  hosts: readonly { namespace: string; host: string }[] | undefined;
  policy: MeshSettings["outboundPolicy"] | undefined;
}

/** None while the object is being deleted. */
export function sidecarRulesOf({ metadata, spec }: Sidecar): SidecarRules | undefined {
  if (metadata.deletionTimestamp) return undefined;
  const namespace = metadata.namespace ?? "";
  const labels = spec?.workloadSelector?.labels;
  return {
    key: `${namespace}/${metadata.name}`,
    namespace,
    name: metadata.name,
    created: timeOf(metadata.creationTimestamp),
    selector: labels && Object.keys(labels).length > 0 ? labels : undefined,
    hosts: spec?.egress?.length
      ? spec.egress.flatMap(({ hosts }) =>
          (hosts ?? []).flatMap((text) => {
            const slash = text.indexOf("/");
            if (slash < 0) return [];
            return [{ namespace: text.slice(0, slash), host: text.slice(slash + 1).toLowerCase() }];
          }),
        )
      : undefined,
    policy: spec?.outboundTrafficPolicy ? (spec.outboundTrafficPolicy.mode ?? "REGISTRY_ONLY") : undefined,
  };
}

/** The one that selects the workload, else the namespace's, else the mesh's root's; the oldest of equals. */
export function sidecarFor(
  labels: Readonly<Record<string, string>>,
  own: readonly SidecarRules[],
  root: readonly SidecarRules[],
): SidecarRules | undefined {
  const oldest = (rules: readonly SidecarRules[]) => [...rules].sort(byAge)[0];
  return (
    oldest(own.filter(({ selector }) => selector && selects(selector, labels))) ??
    oldest(own.filter(({ selector }) => !selector)) ??
    oldest(root.filter(({ selector }) => !selector))
  );
}

/** Whether a client of `namespace` is to know the service. */
export function letsThrough(
  rules: SidecarRules | undefined,
  service: Pick<MeshService, "host" | "namespace">,
  namespace: string,
): boolean {
  if (!rules?.hosts) return true;
  return rules.hosts.some((each) => {
    if (each.namespace === "~") return false;
    const of = each.namespace === "." ? namespace : each.namespace;
    return (of === "*" || of === service.namespace) && covers(each.host, service.host);
  });
}
