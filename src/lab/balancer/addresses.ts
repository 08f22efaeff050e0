/** Which Service of type LoadBalancer has which address: pure, from what the Services say. */
import { nameOf, type Service } from "../../api/index.ts";
import { contains, formatAddress, parseAddress, parseRange } from "../network/index.ts";

/** Whether the lab is to give the Service an address: another load balancer may be named by its class. */
export function isBalanced({ spec, metadata }: Service): boolean {
  return spec?.type === "LoadBalancer" && spec.loadBalancerClass === undefined && !metadata.deletionTimestamp;
}

/**
 * An address of the range for every balanced Service, by its `namespace/name`: the one it has, the one it asks for
 * (`spec.loadBalancerIP`), or the first that is free. Older Services come first. None where the range is full.
 */
export function assignAddresses(services: readonly Service[], range: string): Map<string, string> {
  const assigned = new Map<string, string>();
  const taken = new Set<string>();
  const balanced = services.filter(isBalanced).sort(byAge);
  const wish = (wished: (service: Service) => string | undefined) => {
    for (const service of balanced) {
      const address = wished(service);
      if (!address || assigned.has(nameOf(service)) || taken.has(address) || !isIn(range, address)) continue;
      assigned.set(nameOf(service), address);
      taken.add(address);
    }
  };
  wish((service) => service.spec?.loadBalancerIP || addressOf(service));
  wish(addressOf);
  const { first, size } = parseRange(range);
  let next = first + 1;
  for (const service of balanced) {
    if (assigned.has(nameOf(service))) continue;
    while (next < first + size - 1 && taken.has(formatAddress(next))) next++;
    if (next >= first + size - 1) break;
    assigned.set(nameOf(service), formatAddress(next));
    taken.add(formatAddress(next));
  }
  return assigned;
}

/** The address that a Service was given. */
export function addressOf(service: Service): string | undefined {
  return service.status?.loadBalancer?.ingress?.find(({ ip }) => ip)?.ip;
}

function isIn(range: string, address: string): boolean {
  if (!/^\d+\.\d+\.\d+\.\d+$/.test(address)) return false;
  return contains(range, address) && parseAddress(address) !== parseRange(range).first;
}

function byAge(a: Service, b: Service): number {
  const [x, y] = [a, b].map(({ metadata }) => `${metadata.creationTimestamp ?? ""} ${nameOf({ metadata })}`);
  return x! < y! ? -1 : x! > y! ? 1 : 0;
}
