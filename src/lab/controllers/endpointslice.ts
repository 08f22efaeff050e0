import {
  endpointSlices,
  nodes,
  type Service,
  serviceNameLabel,
  services as serviceResource,
  sliceManagedByLabel,
} from "../../api/index.ts";
import type { ControllerContext } from "./context.ts";
import { endpointOf, familiesOf, hasEndpoint, portsOf } from "./endpoints-of.ts";
import { canonicalJson } from "./hash.ts";
import { controllerReference, namePrefix } from "./pods.ts";
import type { ReconcileQueue, ReconcileResult } from "./queue.ts";
import { watchServicesAndPods } from "./service-pods.ts";
import { type EndpointGroup, planSlices, portsKeyOf } from "./slices.ts";

/** The value of the managed-by label on slices that this controller owns. */
const sliceController = "endpointslice-controller.k8s.io";
export const headlessLabel = "service.kubernetes.io/headless";

/**
 * Keeps the EndpointSlices of every Service with a selector. Slices that others made, and Services without a
 * selector, are left alone. Source: pkg/controller/endpointslice, staging endpointslice/reconciler.go.
 */
export function endpointSliceController(context: ControllerContext): ReconcileQueue {
  const services = context.cache(serviceResource);
  const slices = context.cache(endpointSlices);
  const nodeCache = context.cache(nodes);
  const events = context.events("endpoint-slice-controller");
  const queue = context.queue("endpointslice", reconcile);

  watchServicesAndPods(context, queue);
  slices.onChange((before, after) => {
    for (const slice of [before, after]) {
      if (slice?.metadata.labels?.[sliceManagedByLabel] !== sliceController) continue;
      const service = slice.metadata.labels[serviceNameLabel];
      if (service) queue.add(`${slice.metadata.namespace}/${service}`);
    }
  });
  return queue;

  async function reconcile(key: string): Promise<ReconcileResult> {
    const service = services.get(key);
    // The slices of a Service that is gone are its dependents: the garbage collector's.
    if (
      !service?.spec?.selector ||
      service.spec.type === "ExternalName" ||
      service.metadata.deletionTimestamp
    ) {
      return undefined;
    }
    const selected = context.podsOf(service);
    const groups = groupsOf(service, selected);
    const existing = slices
      .inNamespace(service.metadata.namespace)
      .filter(
        (slice) =>
          slice.metadata.labels?.[serviceNameLabel] === service.metadata.name &&
          slice.metadata.labels[sliceManagedByLabel] === sliceController &&
          !slice.metadata.deletionTimestamp,
      );
    const plan = planSlices(groups, existing);
    const labels = labelsOf(service);
    const updated = new Set(plan.update.map((one) => one.slice));
    for (const slice of existing) {
      const relabelled = canonicalJson(slice.metadata.labels) !== canonicalJson(labels);
      if (relabelled && !updated.has(slice) && !plan.remove.includes(slice)) {
        plan.update.push({ slice, ports: slice.ports ?? [], endpoints: slice.endpoints ?? [] });
      }
    }
    try {
      for (const { slice, ports, endpoints } of plan.update) {
        const metadata = { ...slice.metadata, labels };
        await context.replace(endpointSlices, { ...slice, metadata, ports, endpoints });
      }
      for (const { addressType, ports, endpoints } of plan.create) {
        await context.create(endpointSlices, {
          metadata: {
            generateName: namePrefix(service.metadata.name),
            namespace: service.metadata.namespace,
            labels,
            ownerReferences: [controllerReference(service)],
          },
          addressType,
          ports,
          endpoints,
        });
      }
      for (const slice of plan.remove) await context.remove(endpointSlices, slice);
    } catch (error) {
      if (!context.namespaceIsGoing(service) && !context.isRace(error)) {
        events.warning(
          service,
          "FailedToUpdateEndpointSlices",
          `Error updating Endpoint Slices for Service ${key}: ${error instanceof Error ? error.message : error}`,
        );
      }
      throw error;
    }
    return undefined;
  }

  function groupsOf(service: Service, selected: ReturnType<ControllerContext["podsOf"]>): EndpointGroup[] {
    const groups = new Map<string, EndpointGroup>();
    for (const addressType of familiesOf(service)) {
      for (const pod of selected.filter(hasEndpoint)) {
        const endpoint = endpointOf(pod, service, addressType, nodeCache.get(pod.spec.nodeName ?? ""));
        if (!endpoint) continue;
        const ports = portsOf(pod, service);
        const groupKey = `${addressType} ${portsKeyOf(ports)}`;
        const group = groups.get(groupKey) ?? { addressType, ports, endpoints: [] };
        group.endpoints.push(endpoint);
        groups.set(groupKey, group);
      }
      if (![...groups.values()].some((group) => group.addressType === addressType)) {
        groups.set(addressType, { addressType, ports: [], endpoints: [] });
      }
    }
    return [...groups.values()];
  }
}

/** The Service's own labels, which slices carry too, and those that say whose they are. */
function labelsOf(service: Service): Record<string, string> {
  const own = Object.entries(service.metadata.labels ?? {}).filter(
    ([key]) => key !== headlessLabel && key !== serviceNameLabel && key !== sliceManagedByLabel,
  );
  return {
    ...Object.fromEntries(own),
    [serviceNameLabel]: service.metadata.name,
    [sliceManagedByLabel]: sliceController,
    ...(service.spec?.clusterIP === "None" ? { [headlessLabel]: "" } : {}),
  };
}
