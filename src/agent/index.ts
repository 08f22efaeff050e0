/** What runs beside an application: redirection, certificates, the embedded proxy or Envoy, health. */
export { runAgent } from "./agent.ts";
export { addressesPassedBy, redirect, undo } from "./redirect.ts";
export {
  inboundSource,
  proxyAddress,
  proxyUid,
  type Redirection,
  readPorts,
  readRanges,
  redirectionFile,
} from "./redirection.ts";
export { waitForProxy } from "./wait.ts";
