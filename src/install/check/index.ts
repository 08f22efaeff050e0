/** `weft check`: what would not work, and what to do about it. */
export { checkCluster } from "./cluster.ts";
export { checkPair, type Named } from "./pair.ts";
export type { Check } from "./result.ts";
