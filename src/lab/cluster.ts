/**
 * The process of one cluster: API server and controllers. `node cluster.ts DIR CLUSTER`, in the network
 * namespace of the backbone. It may be killed at any time: everything is in the database.
 */
import { rmSync } from "node:fs";
import { configMaps } from "../api/index.ts";
import { KubeClient } from "../kube/index.ts";
import { realWorld } from "../world/index.ts";
import { createApiServer } from "./apiserver/index.ts";
import { startControllers } from "./controllers/index.ts";
import { ensureDnsService } from "./dns/index.ts";
import { dnsServiceAddress } from "./spec.ts";
import { LabState } from "./state.ts";

const [dir, name] = process.argv.slice(2) as [string, string];
const world = realWorld();
const state = new LabState(dir);
const spec = state.read()?.spec.clusters.find((cluster) => cluster.name === name);
if (!spec) throw new Error(`there is no cluster ${name} in ${state.recordFile}`);
const pki = state.readClusterPki(name);
const port = 6443;

const server = await createApiServer({
  world,
  cluster: name,
  storage: { kind: "sqlite", file: state.databaseFile(name) },
  serviceRange: spec.serviceRange,
  advertise: { address: spec.apiAddress, port },
  serviceAccount: pki.serviceAccount,
  kubeletClient: { ...pki.kubeletClient, ca: pki.ca.cert },
  issuer: `https://kubernetes.default.svc.${spec.clusterDomain}`,
});
const tls = { ...pki.serving, clientCa: pki.ca.cert };
const socket = state.apiSocket(name);
rmSync(socket, { force: true }); // of a process before us that was killed
await Promise.all([server.listen({ socket, tls }), server.listen({ host: spec.apiAddress, port, tls })]);

const log = (line: string) => console.error(`${new Date(world.now()).toISOString()} ${name}: ${line}`);
const client = new KubeClient({
  transport: server.as({ name: "system:kube-controller-manager", groups: ["system:masters"] }),
  world,
  cluster: name,
  userAgent: "kube-controller-manager",
});
startControllers({ world, client, rootCertificates: pki.ca.cert, log });
await Promise.all([
  publishAddress(),
  ensureDnsService(client, { clusterIP: dnsServiceAddress(spec), nodes: spec.nodes }),
]);
process.send?.("ready");

/** `kube-public/cluster-info`, as kubeadm writes it: where others reach this API server, and its CA. */
async function publishAddress(): Promise<void> {
  const kubeconfig = [
    "apiVersion: v1",
    "kind: Config",
    "clusters:",
    '- name: ""',
    "  cluster:",
    `    certificate-authority-data: ${Buffer.from(pki.ca.cert).toString("base64")}`,
    `    server: https://${spec!.apiAddress}:${port}`,
    "",
  ].join("\n");
  await client.apply(
    configMaps,
    { metadata: { namespace: "kube-public", name: "cluster-info" }, data: { kubeconfig } },
    { manager: "weft-lab", force: true },
  );
}
