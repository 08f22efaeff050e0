/** What makes a cluster a member of a clusterset: manifests, installing, joining, leaving. */
export {
  clusterName,
  deployControlPlane,
  type InstallHooks,
  installOn,
  prepareCluster,
  waitForControlPlane,
} from "./install.ts";
export { type Joiner, joinClusters, leaveClusters, peersOf, serverForPeers } from "./join.ts";
export {
  controlPlane,
  defaultImage,
  dnsPort,
  dnsService,
  healthPort,
  type InstallOptions,
  installManager,
  type Manifest,
  manifests,
} from "./manifests.ts";
