/** The process of one node under test: `node node-process.ts OPTIONS`, options as JSON, in the node's network namespace. */
import { join } from "node:path";
import { KubeClient, transportFor } from "../../../kube/index.ts";
import { realWorld } from "../../../world/index.ts";
import { openImages } from "../../images/index.ts";
import type { ClusterSpec } from "../../spec.ts";
import type { NodePki } from "../../state.ts";
import { packageMount, startNode } from "../index.ts";

export interface NodeProcessOptions {
  cluster: ClusterSpec;
  nodeName: string;
  pki: NodePki;
  stateDir: string;
  imagesFile: string;
  hide: string[];
}

const options = JSON.parse(process.argv[2]!) as NodeProcessOptions;
const { cluster, pki } = options;
const world = realWorld();
const transport = transportFor({
  server: `https://${cluster.apiAddress}:6443`,
  ca: pki.ca,
  cert: pki.client.cert,
  key: pki.client.key,
});
const node = startNode({
  world,
  client: new KubeClient({ transport, world, cluster: cluster.name, userAgent: "kubelet" }),
  cluster,
  node: cluster.nodes.find(({ name }) => name === options.nodeName)!,
  images: openImages({ packageMount, file: options.imagesFile }),
  pki,
  stateDir: options.stateDir,
  packageRoot: join(import.meta.dirname, "../../../.."),
  hide: options.hide,
});
await node.ready;
process.send?.("ready");
