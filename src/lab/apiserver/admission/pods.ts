/** What happens to pods on their way in and out. Source: Kubernetes `pkg/registry/core/pod/strategy.go`. */
import { asRecord } from "../object.ts";
import type { Strategy } from "../strategies.ts";

export const podStrategy: Strategy = {
  statusKeepsMetadata: true,
  prepareCreate(_, object) {
    object.status = { phase: "Pending", qosClass: "BestEffort" };
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
