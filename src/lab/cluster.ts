/**
 * The process of one cluster: API server and controllers. `node cluster.ts DIR CLUSTER`, in the network
 * namespace of the backbone. It may be killed at any time: everything is in the database.
 */
import { rmSync } from "node:fs";
import { KubeClient } from "../kube/index.ts";
import { realWorld } from "../world/index.ts";
import { createApiServer } from "./apiserver/index.ts";
import { startLoadBalancers } from "./balancer/index.ts";
import { bootstrapCluster } from "./bootstrap.ts";
import { startControllers } from "./controllers/index.ts";
import { run } from "./network/index.ts";
import type { BalancersMessage } from "./protocol.ts";
import { apiPort as port } from "./spec.ts";
import { LabState } from "./state.ts";

const [dir, name] = process.argv.slice(2) as [string, string];
const world = realWorld();
const state = new LabState(dir);
const record = state.read();
const spec = record?.spec.clusters.find((cluster) => cluster.name === name);
if (!record || !spec) throw new Error(`there is no cluster ${name} in ${state.recordFile}`);
const pki = state.readClusterPki(name);

const server = await createApiServer({
  world,
  cluster: name,
  storage: { kind: "sqlite", file: state.databaseFile(name), sync: process.env.WEFT_FSYNC === "1" },
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
startLoadBalancers({
  world,
  client,
  lab: record.spec,
  cluster: spec,
  run,
  onChange: (balancers) => process.send?.({ balancers } satisfies BalancersMessage),
  log,
});
await bootstrapCluster(client, spec, pki.ca.cert);
process.send?.("ready");
