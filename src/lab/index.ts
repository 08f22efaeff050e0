/** Clusters on this machine. The rooms inside have doors of their own. */
export type { BalancerStatus } from "./balancer/index.ts";
export { askLab, endLab, labStatus } from "./client.ts";
export {
  type AddedImage,
  bundleImage,
  findEnvoy,
  type Images,
  nativePackages,
  openImages,
  parseImageName,
  podBundle,
  readAdded,
  requireEnvoy,
} from "./images/index.ts";
export { type Launch, launchLab } from "./launch.ts";
export { freePorts, requireLatency, requireTools } from "./preflight.ts";
export type { LabAnswer, LabRequest, LabStatus, LinkStatus, ProcessStatus } from "./protocol.ts";
export {
  apiServiceAddress,
  type ClusterSpec,
  defaultCluster,
  dnsServiceAddress,
  isClusterName,
  type LabSpec,
  type LinkSpec,
  type NodeSpec,
  parseLatency,
} from "./spec.ts";
export { type ClusterPki, contextName, imagesFile, type LabRecord, LabState, weftHome } from "./state.ts";

import { readFileSync } from "node:fs";
import { WeftError } from "../api/index.ts";
import type { World } from "../world/index.ts";
import type { ClusterSpec, LabSpec } from "./spec.ts";
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

/** Reads a lab file. Throws LAB_FILE_INVALID, also for a file that cannot be read, and RANGE_IN_USE. */
export async function readLabFile(file: string): Promise<LabSpec> {
  const { parseLabFile } = await import("./labfile.ts");
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    const reason = (error as Error).message.replace(/^E[A-Z]+: /, "").replace(/,.*/, "");
    throw new WeftError("LAB_FILE_INVALID", { at: file, reason }, error);
  }
  return parseLabFile(file, text);
}
