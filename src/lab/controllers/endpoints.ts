import {
  endpoints as endpointsResource,
  type Pod,
  type Service,
  services as serviceResource,
} from "../../api/index.ts";
import type { ControllerContext } from "./context.ts";
import { addressOf, familiesOf, hasEndpoint, portsOf } from "./endpoints-of.ts";
import { headlessLabel } from "./endpointslice.ts";
import { canonicalJson } from "./hash.ts";
import { isReady } from "./pods.ts";
import type { ReconcileQueue, ReconcileResult } from "./queue.ts";
import { watchServicesAndPods } from "./service-pods.ts";

/** At most so many addresses in one Endpoints object (endpoints_controller.go, maxCapacity). */
const maxAddresses = 1000;
/** On Endpoints that old programs elect their leader with: nobody's Service. */
export const leaderAnnotation = "control-plane.alpha.kubernetes.io/leader";
const overCapacity = "endpoints.kubernetes.io/over-capacity";

interface Subset {
  addresses?: Address[];
  notReadyAddresses?: Address[];
  ports?: { name?: string; port: number; protocol?: string; appProtocol?: string }[];
}
interface Address {
  ip: string;
  hostname?: string;
  nodeName?: string;
  targetRef?: object;
}

/**
 * Keeps the Endpoints object of every Service with a selector, for what still reads it.
 * Source: pkg/controller/endpoint/endpoints_controller.go.
 */
export function endpointsController(context: ControllerContext): ReconcileQueue {
  const services = context.cache(serviceResource);
  const cache = context.cache(endpointsResource);
  const queue = context.queue("endpoints", reconcile);
  watchServicesAndPods(context, queue);
  cache.onChange((before, after) => {
    const { namespace, name } = (after ?? before)!.metadata;
    // At the start all of them: their Service may have gone while nobody looked.
    const atStart = !before && !context.isSynced && !after?.metadata.annotations?.[leaderAnnotation];
    if (atStart || services.get(`${namespace}/${name}`)?.spec?.selector) queue.add(`${namespace}/${name}`);
  });
  return queue;

  async function reconcile(key: string): Promise<ReconcileResult> {
    const service = services.get(key);
    const known = cache.get(key);
    if (!service) {
      // As in Kubernetes, the Service takes along its Endpoints, whoever made them.
      if (known) await context.remove(endpointsResource, known);
      return undefined;
    }
    if (
      !service.spec?.selector ||
      service.spec.type === "ExternalName" ||
      service.metadata.deletionTimestamp
    ) {
      return undefined;
    }
    const all = context.podsOf(service).filter(hasEndpoint);
    const { subsets, truncated } = subsetsOf(service, all);
    const labels = {
      ...service.metadata.labels,
      ...(service.spec.clusterIP === "None" ? { [headlessLabel]: "" } : {}),
    };
    const annotations = { ...known?.metadata.annotations };
    delete annotations[overCapacity];
    if (truncated) annotations[overCapacity] = "truncated";
    if (!known) {
      await context.create(endpointsResource, {
        metadata: {
          name: service.metadata.name,
          namespace: service.metadata.namespace,
          ...(Object.keys(labels).length > 0 ? { labels } : {}),
          ...(truncated ? { annotations } : {}),
        },
        subsets: subsets as never,
      });
      return undefined;
    }
    const metadata = { ...known.metadata, labels, annotations };
    const same =
      canonicalJson([known.subsets ?? [], known.metadata.labels ?? {}, known.metadata.annotations ?? {}]) ===
      canonicalJson([subsets, labels, annotations]);
    if (!same) await context.replace(endpointsResource, { ...known, metadata, subsets: subsets as never });
    return undefined;
  }
}

/** The endpoints of a Service, those with equal ports together, sorted as they are stored. */
function subsetsOf(service: Service, selected: Pod[]): { subsets: Subset[]; truncated: boolean } {
  const family = familiesOf(service)[0]!;
  const groups = new Map<string, Subset>();
  let left = maxAddresses;
  const ordered = [...selected].sort((a, b) => Number(isReady(b)) - Number(isReady(a)));
  for (const pod of ordered) {
    const ip = addressOf(pod, family);
    const ports = portsOf(pod, service);
    const terminating = pod.metadata.deletionTimestamp !== undefined;
    const everyone = service.spec?.publishNotReadyAddresses === true;
    if (ip === undefined || (ports.length === 0 && service.spec?.clusterIP !== "None")) continue;
    if (terminating && !everyone) continue;
    if (left-- <= 0) break;
    const stored = ports.map(({ name, port, protocol, appProtocol }) => ({
      ...(name ? { name } : {}),
      port: port!,
      protocol,
      ...(appProtocol ? { appProtocol } : {}),
    }));
    const groupKey = canonicalJson(stored);
    const subset = groups.get(groupKey) ?? (stored.length > 0 ? { ports: stored } : {});
    groups.set(groupKey, subset);
    const named = pod.spec.hostname && pod.spec.subdomain === service.metadata.name;
    const address: Address = {
      ...(named ? { hostname: pod.spec.hostname } : {}),
      ip,
      ...(pod.spec.nodeName ? { nodeName: pod.spec.nodeName } : {}),
      targetRef: {
        kind: "Pod",
        namespace: pod.metadata.namespace,
        name: pod.metadata.name,
        uid: pod.metadata.uid,
      },
    };
    const list = isReady(pod) || everyone ? "addresses" : "notReadyAddresses";
    subset[list] = [...(subset[list] ?? []), address];
  }
  for (const subset of groups.values()) {
    subset.addresses?.sort(byAddress);
    subset.notReadyAddresses?.sort(byAddress);
  }
  return { subsets: [...groups.values()], truncated: left < 0 };
}

function byAddress(a: Address, b: Address): number {
  return a.ip < b.ip ? -1 : a.ip > b.ip ? 1 : 0;
}
