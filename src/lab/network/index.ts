/** The network of a lab: the backbone between nodes, the pods' network on each node, and its service rules. */
import type { ServiceRules, ServiceRulesOptions } from "./services/index.ts";

export { contains, formatAddress, parseAddress, parseRange, type Range } from "./address.ts";
export { setUpBackbone } from "./backbone.ts";
export { leadAddresses } from "./balancers.ts";
export { cutLink, healLink } from "./faults.ts";
export { setLatencies } from "./latency.ts";
export { namespaceFile, nodeNamespace } from "./names.ts";
export {
  AddressPool,
  addressOf,
  attachedPods,
  attachPod,
  detachPod,
  type PodNetwork,
  podNamespace,
} from "./pods.ts";
export { CommandError, quote, type Run, run, systemPath } from "./run.ts";
export type { ServiceRules, ServiceRulesOptions } from "./services/index.ts";

/** See `services/index.ts`. Loaded when it is called: of all that knows the network only nodes need it. */
export async function startServiceRules(options: ServiceRulesOptions): Promise<ServiceRules> {
  const services = await import("./services/index.ts");
  return services.startServiceRules(options);
}
