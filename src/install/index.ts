/** What makes a cluster a member of a clusterset: manifests, installing, joining, leaving. */
export { type Check, checkCluster, checkPair } from "./check/index.ts";
export {
  compareVersions,
  type DefinitionPlan,
  installedDefinitions,
  ownGroup,
  planDefinition,
} from "./definitions.ts";
export { dnsForwarding, type Forwarding, withoutServerBlock, withServerBlock } from "./dns.ts";
export {
  clusterName,
  deployControlPlane,
  forwardDns,
  type InstallHooks,
  installOn,
  prepareCluster,
  waitForControlPlane,
} from "./install.ts";
export {
  type Joiner,
  joinClusters,
  leaveClusters,
  peersOf,
  renewExpired,
  serverForPeers,
} from "./join.ts";
export {
  controlPlane,
  defaultImage,
  definitionRevision,
  deploymentManifest,
  dnsPort,
  dnsService,
  healthPort,
  type InstallOptions,
  installManager,
  type Manifest,
  manifests,
} from "./manifests.ts";
export { type Uninstalled, type UninstallHooks, uninstall } from "./uninstall.ts";
