/**
 * A real node: containerd, kubelet and kube-proxy. `node node.ts PROGRAMS DIR CLUSTER NODE`, in the node's network
 * namespace and a mount namespace of its own, where it has a /var and a /run of its own. The kubelet starts when it
 * is told `api`: there is somebody to register with.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { quote, run } from "../../../src/lab/network/index.ts";
import { LabState } from "../../../src/lab/state.ts";
import { findProgram } from "../programs.ts";
import {
  cniConfig,
  containerdConfig,
  kernelTunables,
  kubeletConfig,
  kubeProxyConfig,
  nodeKubeconfig,
  registryHosts,
} from "./config.ts";

const [programs, dir, clusterName, nodeName] = process.argv.slice(2) as [string, string, string, string];
const state = new LabState(dir);
const cluster = state.read()!.spec.clusters.find(({ name }) => name === clusterName)!;
const registry = state.read()!.spec.clusters[0]!.apiAddress;
const node = cluster.nodes.find(({ name }) => name === nodeName)!;
const files = { cluster: state.clusterDir(clusterName), node: state.nodeDir(clusterName, nodeName) };
const file = (name: string) => join(files.node, name);

const told = new Promise<void>((resolve) =>
  process.on("message", (message) => message === "api" && resolve()),
);
process.on("disconnect", () => process.exit(1));

function start(name: string, program: string, args: readonly string[]): ChildProcess {
  const log = openSync(file(`${name}.log`), "a", 0o600);
  const child = spawn(program, args, { stdio: ["ignore", log, log] });
  closeSync(log);
  child.on("error", (error) => fail(`${name}: ${error.message}`));
  child.on("exit", (code, signal) => fail(`${name} ended (${signal ?? code}), see ${file(`${name}.log`)}`));
  return child;
}

function fail(reason: string): never {
  console.error(`${nodeName}: ${reason}`);
  process.exit(1);
}

function write(name: string, value: unknown): string {
  const text = typeof value === "string" ? value : JSON.stringify(value, undefined, 2);
  writeFileSync(file(name), text, { mode: 0o600 });
  return file(name);
}

await prepare();
const containerd = write("containerd.toml", containerdConfig(files, findProgram("runc")!));
mkdirSync(file("cni"), { recursive: true });
write("cni/10-pods.conflist", cniConfig(node));
mkdirSync(file("registries/_default"), { recursive: true });
write("registries/_default/hosts.toml", registryHosts(registry));
start("containerd", findProgram("containerd")!, ["--config", containerd]);
await told;
const kubeconfig = write("kubeconfig", nodeKubeconfig(files, cluster));
start("kube-proxy", join(programs, "kube-proxy"), [
  `--config=${write("kube-proxy.json", kubeProxyConfig(kubeconfig, node))}`,
]);
start("kubelet", join(programs, "kubelet"), [
  `--config=${write("kubelet.json", kubeletConfig(files, cluster))}`,
  `--kubeconfig=${kubeconfig}`,
  `--hostname-override=${node.name}`,
  `--node-ip=${node.address}`,
  "--root-dir=/var/lib/kubelet",
]);

/** Mounts what the node has for itself. The router's word about pods that are not there yields to the bridge. */
async function prepare(): Promise<void> {
  const own = { lib: "/var/lib", log: "/var/log" };
  for (const name of Object.keys(own)) mkdirSync(file(name), { recursive: true });
  write("resolv.conf", "");
  const script = [
    "set -e",
    ...Object.entries(own).map(([name, at]) => `mount --bind ${quote(file(name))} ${at}`),
    "mount -t tmpfs -o mode=755 run /run",
    "mkdir -p /var/lib/kubelet/volume-plugins",
    ...Object.entries(kernelTunables).map(([name, value]) => {
      const shown = quote(file(`sysctl-${name.replaceAll("/", "-")}`));
      return `if [ -e /proc/sys/${name} ]; then echo ${value} > ${shown}; mount --bind ${shown} /proc/sys/${name}; fi`;
    }),
    "mount --make-rshared /",
    `ip route del unreachable ${node.podRange} || true`,
    // Pods of one node that talk through a service's address do so over the bridge, where rules must see them.
    "echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables",
  ];
  await run(["/bin/sh", "-s"], script.join("\n"));
}
