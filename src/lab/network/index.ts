/** The network of a lab: the backbone between nodes, and the pods' network on each node. */
export { contains, formatAddress, parseAddress, parseRange, type Range } from "./address.ts";
export { namespaceFile, nodeNamespace, setUpBackbone } from "./backbone.ts";
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
