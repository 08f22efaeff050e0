/** What happens to pods on their way in and out. Source: Kubernetes `pkg/registry/core/pod/strategy.go`. */
import type { Pod } from "../../../api/index.ts";
import { updatable } from "../builtin/index.ts";
import type { ApiObject } from "../object.ts";
import { asRecord } from "../object.ts";
import { forbidden as forbiddenField } from "../schema/index.ts";
import { forbidden, invalid } from "../status.ts";
import type { Strategy } from "../strategies.ts";
import { admitPriority, defaultTolerations } from "./priority.ts";
import { admitServiceAccount, serviceAccountThere } from "./serviceaccounts.ts";

const asPod = (object: ApiObject) => object as unknown as Pod;

export const podStrategy: Strategy = {
  ready: serviceAccountThere,
  admit(core, object) {
    if (!asRecord(object.spec)) return; // validation says what is missing
    const pod = asPod(object);
    admitServiceAccount(core, pod);
    admitPriority(core, pod);
    defaultTolerations(pod);
  },
  prepareCreate(_, object) {
    if (!asRecord(object.spec)) return;
    object.status = { phase: "Pending", qosClass: qualityOf(asPod(object)) };
  },
  prepareUpdate(_, object, current) {
    const after = asRecord(object.spec)?.nodeName ?? "";
    if (after === (asRecord(current.spec)?.nodeName ?? "")) return;
    // Only a binding gives a pod a node.
    const says = `pod updates may not change fields other than ${updatable.join(",")}`;
    throw invalid({ group: "", name: "Pod" }, object.metadata.name, [forbiddenField("spec", says)]);
  },
  /** The kubelet confirms the end of a pod that is on a node and has not ended yet. */
  graceful(object, requested) {
    const spec = asRecord(object.spec) ?? {};
    const phase = asRecord(object.status)?.phase;
    if (!spec.nodeName || phase === "Succeeded" || phase === "Failed") return 0;
    const own = spec.terminationGracePeriodSeconds;
    return requested ?? (typeof own === "number" ? Math.max(own, 1) : 30);
  },
};

/** The pod's class of service (Kubernetes `pkg/apis/core/v1/helper/qos`). */
function qualityOf(pod: Pod): "Guaranteed" | "Burstable" | "BestEffort" {
  const containers = [...(pod.spec.containers ?? []), ...(pod.spec.initContainers ?? [])];
  let any = false;
  let guaranteed = containers.length > 0;
  for (const { resources } of containers) {
    for (const name of ["cpu", "memory"]) {
      const limit = resources?.limits?.[name];
      const request = resources?.requests?.[name] ?? limit;
      if (limit !== undefined || request !== undefined) any = true;
      if (limit === undefined || request !== limit) guaranteed = false;
    }
  }
  return !any ? "BestEffort" : guaranteed ? "Guaranteed" : "Burstable";
}

/** Refuses a pod for a reason that is not in its fields. */
export function podForbidden(pod: Pod, why: string) {
  return forbidden({ group: "", name: "pods" }, pod.metadata.name ?? "", why);
}
