/** Clusters on this machine. The rooms inside have doors of their own. */
export { askLab, endLab, labStatus } from "./client.ts";
export { type AddedImage, type Images, openImages, parseImageName, readAdded } from "./images/index.ts";
export { type Launch, launchLab } from "./launch.ts";
export { freePorts, requireTools } from "./preflight.ts";
export type { LabAnswer, LabRequest, LabStatus, ProcessStatus } from "./protocol.ts";
export {
  apiServiceAddress,
  type ClusterSpec,
  defaultCluster,
  dnsServiceAddress,
  type LabSpec,
  type NodeSpec,
} from "./spec.ts";
export { type ClusterPki, contextName, imagesFile, type LabRecord, LabState, weftHome } from "./state.ts";

import type { World } from "../world/index.ts";
import type { ClusterSpec } from "./spec.ts";
import type { ClusterPki, LabState } from "./state.ts";

/** Makes the keys of all clusters and writes them into the lab's directory. */
export async function writeKeys(
  world: World,
  state: LabState,
  clusters: readonly ClusterSpec[],
): Promise<Record<string, ClusterPki>> {
  const { makeClusterPki } = await import("./pki.ts");
  const made = await Promise.all(clusters.map((cluster) => makeClusterPki(world, cluster)));
  return Object.fromEntries(
    clusters.map(({ name }, i) => {
      const { cluster, nodes } = made[i]!;
      state.writeClusterPki(name, cluster);
      for (const [node, pki] of Object.entries(nodes)) state.writeNodePki(name, node, pki);
      return [name, cluster];
    }),
  );
}
