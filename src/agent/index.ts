/** What runs beside an application: redirection, certificates, the embedded proxy or Envoy, health. */
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
