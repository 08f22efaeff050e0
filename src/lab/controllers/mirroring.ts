import {
  type Endpoint,
  type Endpoints,
  endpointSlices,
  endpoints as endpointsResource,
  nameOf,
  serviceNameLabel,
  services as serviceResource,
  sliceManagedByLabel,
} from "../../api/index.ts";
import type { ControllerContext } from "./context.ts";
import { leaderAnnotation } from "./endpoints.ts";
import { familyOf } from "./endpoints-of.ts";
import { controllerReference, namePrefix } from "./pods.ts";
import type { ReconcileQueue, ReconcileResult } from "./queue.ts";
import { type EndpointGroup, planSlices } from "./slices.ts";

/** The value of the managed-by label on slices that mirror an Endpoints object. */
const mirrorController = "endpointslicemirroring-controller.k8s.io";
const skipLabel = "endpointslice.kubernetes.io/skip-mirror";

/**
 * Gives hand-made Endpoints of a Service without a selector the EndpointSlices that everyone reads today.
 * Source: pkg/controller/endpointslicemirroring.
 */
export function mirroringController(context: ControllerContext): ReconcileQueue {
  const services = context.cache(serviceResource);
  const all = context.cache(endpointsResource);
  const slices = context.cache(endpointSlices);
  const queue = context.queue("endpointslice mirroring", reconcile);

  // Only what is, or was, mirrored: Endpoints of Services with a selector have a controller of their own.
  all.onChange((before, after) => {
    const key = nameOf((after ?? before)!);
    if (!services.get(key)?.spec?.selector) queue.add(key);
  });
  services.onChange((before, after) => {
    const key = nameOf((after ?? before)!);
    if (all.get(key) && !(before?.spec?.selector && after?.spec?.selector)) queue.add(key);
  });
  slices.onChange((before, after) => {
    for (const slice of [before, after]) {
      if (slice?.metadata.labels?.[sliceManagedByLabel] !== mirrorController) continue;
      queue.add(`${slice.metadata.namespace}/${slice.metadata.labels[serviceNameLabel]}`);
    }
  });
  return queue;

  async function reconcile(key: string): Promise<ReconcileResult> {
    const endpoints = all.get(key);
    const service = services.get(key);
    const slash = key.indexOf("/");
    const [namespace, name] = [key.slice(0, slash), key.slice(slash + 1)];
    const existing = slices
      .inNamespace(namespace)
      .filter(
        ({ metadata: { labels } }) =>
          labels?.[sliceManagedByLabel] === mirrorController && labels[serviceNameLabel] === name,
      );
    const isMirrored = endpoints && service && !service.spec?.selector && isMirrorable(endpoints);
    const groups = isMirrored ? groupsOf(endpoints) : [];
    const plan = planSlices(groups, existing);
    for (const { slice, ports, endpoints } of plan.update) {
      await context.replace(endpointSlices, { ...slice, ports, endpoints });
    }
    for (const group of plan.create) {
      await context.create(endpointSlices, {
        metadata: {
          generateName: namePrefix(name),
          namespace,
          labels: {
            ...endpoints!.metadata.labels,
            [serviceNameLabel]: name,
            [sliceManagedByLabel]: mirrorController,
          },
          ownerReferences: [controllerReference(endpoints!)],
        },
        ...group,
      });
    }
    for (const slice of plan.remove) await context.remove(endpointSlices, slice);
    return undefined;
  }
}

function isMirrorable({ metadata }: Endpoints): boolean {
  return metadata.labels?.[skipLabel] !== "true" && metadata.annotations?.[leaderAnnotation] === undefined;
}

/** One group per subset and address family. */
function groupsOf(endpoints: Endpoints): EndpointGroup[] {
  const groups: EndpointGroup[] = [];
  for (const subset of endpoints.subsets ?? []) {
    const ports = (subset.ports ?? []).map(({ name = "", port, protocol = "TCP", appProtocol }) => ({
      name,
      port,
      protocol,
      ...(appProtocol ? { appProtocol } : {}),
    }));
    for (const family of ["IPv4", "IPv6"]) {
      const list = (addresses: typeof subset.addresses, ready: boolean): Endpoint[] =>
        (addresses ?? [])
          .filter(({ ip }) => familyOf(ip) === family)
          .map(({ ip, hostname, nodeName, targetRef }) => ({
            addresses: [ip],
            conditions: { ready },
            ...(hostname ? { hostname } : {}),
            ...(nodeName ? { nodeName } : {}),
            ...(targetRef ? { targetRef } : {}),
          }));
      const found = [...list(subset.addresses, true), ...list(subset.notReadyAddresses, false)];
      if (found.length > 0) groups.push({ addressType: family, ports, endpoints: found });
    }
  }
  return groups;
}
