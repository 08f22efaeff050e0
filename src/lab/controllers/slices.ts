/** How endpoints are spread over EndpointSlices: pure functions. Source: staging endpointslice reconciler.go. */
import type { Endpoint, EndpointPort, EndpointSlice } from "../../api/index.ts";
import { canonicalJson } from "./hash.ts";

/** kube-controller-manager's `--max-endpoints-per-slice`. */
export const maxEndpointsPerSlice = 100;

/** The endpoints of one address family that have the same ports: they may share slices. */
export interface EndpointGroup {
  addressType: string;
  ports: EndpointPort[];
  endpoints: Endpoint[];
}

export interface SlicePlan {
  create: EndpointGroup[];
  update: { slice: EndpointSlice; ports: EndpointPort[]; endpoints: Endpoint[] }[];
  remove: EndpointSlice[];
}

/**
 * What to write so that the slices hold exactly the wanted endpoints, each once, with few writes: an endpoint
 * stays in the slice it is in; new ones fill slices that change anyway, then make or fill further ones.
 */
export function planSlices(groups: EndpointGroup[], existing: EndpointSlice[]): SlicePlan {
  const plan: SlicePlan = { create: [], update: [], remove: [] };
  const left = new Set(existing);
  for (const group of groups) {
    const portsKey = portsKeyOf(group.ports);
    const mine = existing.filter(
      (slice) => slice.addressType === group.addressType && portsKeyOf(slice.ports ?? []) === portsKey,
    );
    for (const slice of mine) left.delete(slice);
    planGroup(group, mine, plan);
  }
  plan.remove.push(...left);
  reuse(plan);
  return plan;
}

/** A slice that is not needed becomes one that is: one write less, and its name stays. */
function reuse(plan: SlicePlan): void {
  plan.create = plan.create.filter((wanted) => {
    const at = plan.remove.findIndex((slice) => slice.addressType === wanted.addressType);
    if (at < 0) return true;
    const [slice] = plan.remove.splice(at, 1);
    plan.update.push({ slice: slice!, ports: wanted.ports, endpoints: wanted.endpoints });
    return false;
  });
}

function planGroup(group: EndpointGroup, slices: EndpointSlice[], plan: SlicePlan): void {
  const wanted = new Map(group.endpoints.map((one) => [endpointKey(one), one]));
  const drafts = slices.map((slice) => {
    const endpoints: Endpoint[] = [];
    let changed = false;
    for (const endpoint of slice.endpoints ?? []) {
      const key = endpointKey(endpoint);
      const want = wanted.get(key);
      if (!want) {
        changed = true;
        continue;
      }
      wanted.delete(key);
      endpoints.push(want);
      if (canonicalJson(want) !== canonicalJson(endpoint)) changed = true;
    }
    return { slice, endpoints, changed };
  });
  // Changed slices first, of those the fullest: fewest writes, and slices do not fragment.
  const added = [...wanted.values()];
  const order = drafts
    .filter((draft) => draft.endpoints.length < maxEndpointsPerSlice)
    .sort((a, b) => Number(b.changed) - Number(a.changed) || b.endpoints.length - a.endpoints.length);
  for (const draft of order) {
    // A slice that nothing else touches is filled only when what is left fits into it whole.
    const room = maxEndpointsPerSlice - draft.endpoints.length;
    if (added.length === 0) break;
    if (!draft.changed && added.length > room) continue;
    draft.endpoints.push(...added.splice(0, room));
    draft.changed = true;
  }
  for (const draft of drafts) {
    if (draft.endpoints.length === 0 && group.endpoints.length > 0) plan.remove.push(draft.slice);
    else if (draft.changed) plan.update.push({ ...draft, ports: group.ports });
  }
  // A group without endpoints is the placeholder that every Service with a selector has at the least.
  if (group.endpoints.length === 0) {
    if (drafts.length === 0) plan.create.push(group);
    plan.remove.push(...slices.slice(1));
  }
  while (added.length > 0) {
    plan.create.push({
      addressType: group.addressType,
      ports: group.ports,
      endpoints: added.splice(0, maxEndpointsPerSlice),
    });
  }
}

/** One pod is one endpoint, whatever address it has now. */
function endpointKey(endpoint: Endpoint): string {
  const { namespace, name, uid } = endpoint.targetRef ?? {};
  return uid ?? (name ? `${namespace}/${name}` : endpoint.addresses.join(","));
}

export function portsKeyOf(ports: EndpointPort[]): string {
  return ports
    .map((one) => [one.name ?? "", one.port, one.protocol ?? "TCP", one.appProtocol ?? ""].join("|"))
    .sort()
    .join(",");
}
