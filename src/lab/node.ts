/**
 * The process of one node: kubelet, service rules and the node's DNS. `node node.ts DIR CLUSTER NODE`, in the
 * network namespace of the node. It may be killed at any time: its pods run on, and the next one finds them.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { KubeClient, transportFor } from "../kube/index.ts";
import { realWorld } from "../world/index.ts";
import { startNodeDns } from "./dns/index.ts";
import { openImages } from "./images/index.ts";
import { packageMount, programsMount, startNode } from "./kubelet/index.ts";
import { startServiceRules } from "./network/index.ts";
import { imagesFile, LabState, weftHome } from "./state.ts";

const [dir, clusterName, nodeName] = process.argv.slice(2) as [string, string, string];
const world = realWorld();
const state = new LabState(dir);
const record = state.read();
const cluster = record?.spec.clusters.find(({ name }) => name === clusterName);
const node = cluster?.nodes.find(({ name }) => name === nodeName);
if (!record || !cluster || !node) throw new Error(`there is no node ${nodeName} in ${state.recordFile}`);
const pki = state.readNodePki(cluster.name, node.name);
const log = (line: string) => console.error(`${new Date(world.now()).toISOString()} ${node.name}: ${line}`);

const packageRoot = fileURLToPath(new URL("../..", import.meta.url));

const server = `https://${cluster.apiAddress}:6443`;
const client = new KubeClient({
  transport: transportFor({ server, ca: pki.ca, ...pki.client }),
  world,
  cluster: cluster.name,
  server,
  userAgent: "kubelet",
});
const kubelet = startNode({
  world,
  client,
  cluster,
  node,
  images: openImages({
    packageMount,
    bundle: record.bundle ? { path: record.bundle, directory: join(packageRoot, record.bundle) } : undefined,
    programs: programsMount,
    file: imagesFile(),
    lab: record.spec.images,
  }),
  pki,
  stateDir: state.nodeDir(cluster.name, node.name),
  packageRoot,
  ...(record.envoy && { programs: { envoy: record.envoy } }),
  hide: [weftHome(), state.dir, record.kubeconfig],
  onBug: (error) => log(`kubelet: ${error instanceof Error ? error.stack : error}`),
});
const rules = await startServiceRules({
  world,
  client,
  nodeName: node.name,
  serviceRange: cluster.serviceRange,
  balancerRange: cluster.balancerRange,
  log,
});
await startNodeDns({
  world,
  client,
  clusterDomain: cluster.clusterDomain,
  address: node.address,
  onProblem: (problem) => log(`dns: kube-system/kube-dns: ${problem}`),
  onBug: (error) => log(`dns: ${error instanceof Error ? error.stack : error}`),
});
await Promise.all([kubelet.ready, rules.ready]);
process.send?.("ready");
