import {
  nameOf,
  nodes,
  type Pod,
  pods as podResource,
  services as serviceResource,
} from "../../api/index.ts";
import type { ControllerContext } from "./context.ts";
import { canonicalJson } from "./hash.ts";
import type { ReconcileQueue } from "./queue.ts";
import { selectsMap } from "./selectors.ts";

/** Adds a Service to the queue whenever it, or a pod that it selects or selected, changed in what endpoints show. */
export function watchServicesAndPods(context: ControllerContext, queue: ReconcileQueue): void {
  const services = context.cache(serviceResource);
  const pods = context.cache(podResource);
  services.onChange((before, after) => queue.add(nameOf((after ?? before)!)));
  pods.onChange((before, after) => {
    if (before && after && endpointText(before) === endpointText(after)) return;
    const pod = (after ?? before)!;
    for (const service of services.inNamespace(pod.metadata.namespace)) {
      const selector = service.spec?.selector;
      if (!selector) continue;
      const touched =
        (before && selectsMap(selector, before.metadata.labels)) ||
        (after && selectsMap(selector, after.metadata.labels));
      if (touched) queue.add(nameOf(service));
    }
  });
  // A node's zone is part of its endpoints.
  context.cache(nodes).onChange((before, after) => {
    if (before && after && canonicalJson(before.metadata.labels) === canonicalJson(after.metadata.labels))
      return;
    const node = (after ?? before)!.metadata.name;
    for (const pod of pods.list()) {
      if (pod.spec.nodeName !== node) continue;
      for (const service of services.inNamespace(pod.metadata.namespace)) {
        const selector = service.spec?.selector;
        if (selector && selectsMap(selector, pod.metadata.labels)) queue.add(nameOf(service));
      }
    }
  });
}

/** All of a pod that an endpoint depends on. */
function endpointText(pod: Pod): string {
  const ready = pod.status?.conditions?.find((one) => one.type === "Ready")?.status;
  return JSON.stringify([
    pod.metadata.uid,
    pod.metadata.labels,
    pod.metadata.deletionTimestamp,
    pod.spec.nodeName,
    pod.spec.hostname,
    pod.spec.subdomain,
    pod.status?.phase,
    pod.status?.podIPs ?? pod.status?.podIP,
    ready,
  ]);
}
