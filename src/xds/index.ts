/** The routing model as Envoy's resources, each encoded once, and the server that hands them out (delta ADS). */

export { acceptedOf, type FindingsStatus, statusOf } from "./conditions.ts";
export { credentialsOf } from "./credentials.ts";
export { type DumpedResource, dumpOf, type ProxyDump } from "./dump.ts";
export * from "./encode/index.ts";
export {
  type ConnectedProxy,
  type Peer,
  type ProxyStatus,
  startXds,
  type XdsOptions,
  type XdsServer,
} from "./server.ts";
export type { KindStatus, SyncState } from "./session.ts";
export type { Rejection } from "./subscription.ts";
export { ProxyView, type ServedTraffic } from "./view.ts";
