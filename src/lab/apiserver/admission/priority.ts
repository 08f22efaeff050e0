/** Priority and default tolerations. Source: Kubernetes `plugin/pkg/admission/{priority,defaulttolerationseconds}`. */
import type { Pod } from "../../../api/index.ts";
import type { Core } from "../core.ts";
import type { ApiObject } from "../object.ts";
import { podForbidden } from "./pods.ts";

/** Sets `spec.priority` from the PriorityClass; without one, from the default class or 0. */
export function admitPriority(core: Core, pod: Pod): void {
  const classes = core.store.bucket("scheduling.k8s.io/priorityclasses").objects;
  const name = pod.spec.priorityClassName;
  let found: ApiObject | undefined;
  if (name) {
    found = classes.get(name);
    if (!found) throw podForbidden(pod, `no PriorityClass with name ${name} was found`);
  } else {
    for (const candidate of classes.values()) if (candidate.globalDefault === true) found = candidate;
    if (found) pod.spec.priorityClassName = found.metadata.name;
  }
  pod.spec.priority = typeof found?.value === "number" ? found.value : 0;
  pod.spec.preemptionPolicy =
    typeof found?.preemptionPolicy === "string" ? found.preemptionPolicy : "PreemptLowerPriority";
}

/** Pods stay five minutes on a node that is not ready or not reachable, unless they say otherwise. */
export function defaultTolerations(pod: Pod): void {
  const tolerations = pod.spec.tolerations ?? [];
  for (const key of ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]) {
    const covered = tolerations.some(
      (toleration) =>
        (toleration.key === key || !toleration.key) &&
        (!toleration.effect || toleration.effect === "NoExecute"),
    );
    if (!covered) tolerations.push({ key, operator: "Exists", effect: "NoExecute", tolerationSeconds: 300 });
  }
  pod.spec.tolerations = tolerations;
}
