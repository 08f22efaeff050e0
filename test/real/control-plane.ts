/**
 * A real control plane in the place of the lab's own: etcd, kube-apiserver, kube-controller-manager and
 * kube-scheduler, as processes on the lab's backbone. `node control-plane.ts PROGRAMS DIR CLUSTER`, where
 * PROGRAMS is what `build-kubernetes.mjs` made. The lab's nodes register with it as with the lab's own server.
 * With `--real-nodes` behind these, the nodes are none of the lab's, and they do not run the cluster's DNS.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { clusterRoleBindings } from "../../src/api/index.ts";
import { KubeClient, transportFor } from "../../src/kube/index.ts";
import { startLoadBalancers } from "../../src/lab/balancer/index.ts";
import { bootstrapCluster, publishClusterInfo } from "../../src/lab/bootstrap.ts";
import { run } from "../../src/lab/network/index.ts";
import { apiPort } from "../../src/lab/spec.ts";
import { LabState } from "../../src/lab/state.ts";
import { realWorld, sleep } from "../../src/world/index.ts";

const [programs, dir, name] = process.argv.slice(2) as [string, string, string];
const realNodes = process.argv.includes("--real-nodes");
const world = realWorld();
const state = new LabState(dir);
const record = state.read();
const spec = record?.spec.clusters.find((cluster) => cluster.name === name);
if (!record || !spec) throw new Error(`there is no cluster ${name} in ${state.recordFile}`);
const pki = state.readClusterPki(name);
const files = state.clusterDir(name);
const file = (of: string) => join(files, of);
const address = spec.apiAddress;
const server = `https://${address}:${apiPort}`;
const etcdClients = `http://${address}:2379`;
const etcdPeers = `http://${address}:2380`;

const children: ChildProcess[] = [];
function start(program: string, flags: Record<string, string | number | boolean>): void {
  const args = Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`);
  // They end with this process, however that ends: the next one needs their ports.
  const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", program, ...args], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  children.push(child);
  child.on("error", (error) => fail(`${program}: ${error.message}`));
  child.on("exit", (code, signal) => fail(`${program} ended (${signal ?? code})`));
}

/** One part gone is all gone: the lab starts the whole again. */
function fail(reason: string): never {
  console.error(`${name}: ${reason}`);
  for (const child of children) child.kill("SIGKILL");
  process.exit(1);
}

mkdirSync(file("etcd"), { recursive: true, mode: 0o700 });
start("etcd", {
  name,
  "data-dir": file("etcd"),
  "listen-client-urls": etcdClients,
  "advertise-client-urls": etcdClients,
  "listen-peer-urls": etcdPeers,
  "initial-advertise-peer-urls": etcdPeers,
  "initial-cluster": `${name}=${etcdPeers}`,
  // A lab's state need not outlive a power cut.
  "unsafe-no-fsync": true,
  "log-level": "error",
});
start(join(programs, "kube-apiserver"), {
  "etcd-servers": etcdClients,
  "bind-address": address,
  "advertise-address": address,
  "secure-port": apiPort,
  "tls-cert-file": file("apiserver.crt"),
  "tls-private-key-file": file("apiserver.key"),
  "client-ca-file": file("ca.crt"),
  "kubelet-client-certificate": file("apiserver-kubelet-client.crt"),
  "kubelet-client-key": file("apiserver-kubelet-client.key"),
  "kubelet-certificate-authority": file("ca.crt"),
  "kubelet-preferred-address-types": "InternalIP",
  "service-cluster-ip-range": spec.serviceRange,
  "service-account-issuer": `https://kubernetes.default.svc.${spec.clusterDomain}`,
  "service-account-signing-key-file": file("sa.key"),
  "service-account-key-file": file("sa.pub"),
  "authorization-mode": "Node,RBAC",
  "allow-privileged": true,
  // It is on no node, so no address of a Service leads anywhere: webhooks are called at their endpoints.
  "enable-aggregator-routing": true,
  v: 0,
});

const admin = { server, ca: pki.ca.cert, cert: pki.admin.cert, key: pki.admin.key };
const client = new KubeClient({ transport: transportFor(admin), world, cluster: name, server });
while (!(await ready())) await sleep(world, 100);

/** An answer must be read to its end: until then it holds its connection. */
async function ready(): Promise<boolean> {
  try {
    const response = await client.request({ method: "GET", path: "/readyz" });
    for await (const _ of response.body);
    return response.status === 200;
  } catch {
    return false;
  }
}

const base64 = (pem: string) => Buffer.from(pem).toString("base64");
const kubeconfig = file("controllers.kubeconfig");
const config = {
  apiVersion: "v1",
  kind: "Config",
  clusters: [{ name, cluster: { server, "certificate-authority-data": base64(pki.ca.cert) } }],
  users: [
    {
      name,
      user: {
        "client-certificate-data": base64(pki.admin.cert),
        "client-key-data": base64(pki.admin.key),
      },
    },
  ],
  contexts: [{ name, context: { cluster: name, user: name } }],
  "current-context": name,
};
writeFileSync(kubeconfig, JSON.stringify(config), { mode: 0o600 });
const index = Number(address.split(".")[2]);
start(join(programs, "kube-controller-manager"), {
  kubeconfig,
  "bind-address": "127.0.0.1",
  "secure-port": 11257 + index, // both clusters' control planes share the backbone's loopback
  "leader-elect": false,
  "root-ca-file": file("ca.crt"),
  "service-account-private-key-file": file("sa.key"),
  "allocate-node-cidrs": false,
});
start(join(programs, "kube-scheduler"), {
  kubeconfig,
  "bind-address": "127.0.0.1",
  "secure-port": 11259 + index * 2 + 1000,
  "leader-elect": false,
});

// What kubeadm grants: a lab node is kubelet, kube-proxy and cluster DNS under one identity; a real one the first two.
for (const role of realNodes ? ["system:node-proxier"] : ["system:node-proxier", "view"]) {
  await client.apply(
    clusterRoleBindings,
    {
      metadata: { name: `lab-nodes-${role.replace(":", "-")}` },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: role },
      subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "Group", name: "system:nodes" }],
    },
    { manager: "weft-lab", force: true },
  );
}
await (realNodes ? publishClusterInfo : bootstrapCluster)(client, spec, pki.ca.cert);

// Real clusters get these from their cloud; here the lab is the cloud, whoever's the nodes are.
startLoadBalancers({
  world,
  client,
  lab: record.spec,
  cluster: spec,
  run,
  onChange: (balancers) => process.send?.({ balancers }),
});

// The host reaches the API server through a UNIX socket.
const socket = state.apiSocket(name);
rmSync(socket, { force: true });
createServer((from) => {
  const to = connect(apiPort, address);
  from.pipe(to).pipe(from);
  from.on("error", () => to.destroy()).on("close", () => to.destroy());
  to.on("error", () => from.destroy()).on("close", () => from.destroy());
}).listen(socket, () => process.send?.("ready"));
