/** A cluster of one node for tests: an API server in this process, the kubelet in a process of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { events, type Pod, pods, serviceAccounts } from "../../../api/index.ts";
import { KubeClient } from "../../../kube/index.ts";
import { realWorld } from "../../../world/index.ts";
import { createApiServer } from "../../apiserver/index.ts";
import { startControllers } from "../../controllers/index.ts";
import { namespaceFile, nodeNamespace, run, setUpBackbone } from "../../network/index.ts";
import { makeClusterPki } from "../../pki.ts";
import { defaultCluster } from "../../spec.ts";
import type { ClusterPki } from "../../state.ts";
import type { NodeProcessOptions } from "./node-process.ts";

export interface Harness {
  client: KubeClient;
  pki: ClusterPki;
  stateDir: string;
  imagesFile: string;
  node: { name: string; address: string };
  startKubelet(): Promise<ChildProcess>;
  kubelet(): ChildProcess;
  /** Waits until the pod is as the test wants it; fails after `timeout` ms and shows what it was. */
  until(name: string, holds: (pod: Pod | undefined) => boolean, timeout?: number): Promise<Pod | undefined>;
  create(pod: Partial<Pod["spec"]> & { containers: Pod["spec"]["containers"] }, name?: string): Promise<Pod>;
  close(): Promise<void>;
}

let count = 0;

export async function startHarness(hide: string[] = []): Promise<Harness> {
  const world = realWorld();
  const cluster = defaultCluster("c1", 0);
  const node = cluster.nodes[0]!;
  await setUpBackbone({ clusters: [cluster] }, run);
  const { cluster: pki, nodes } = await makeClusterPki(world, cluster);
  const server = await createApiServer({
    world,
    cluster: cluster.name,
    storage: { kind: "memory" },
    serviceRange: cluster.serviceRange,
    advertise: { address: cluster.apiAddress, port: 6443 },
  });
  const tls = { ...pki.serving, clientCa: pki.ca.cert };
  await server.listen({ host: cluster.apiAddress, port: 6443, tls });
  const client = new KubeClient({
    transport: server.as({ name: "test", groups: ["system:masters"] }),
    world,
    cluster: cluster.name,
  });
  startControllers({ world, client, rootCertificates: pki.ca.cert, log: () => {} });
  while (!(await client.get(serviceAccounts, "default/default"))) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const stateDir = mkdtempSync(join(tmpdir(), "weft-kubelet-"));
  const imagesFile = join(stateDir, "images.json");
  const options: NodeProcessOptions = {
    cluster,
    nodeName: node.name,
    pki: nodes[node.name]!,
    stateDir,
    imagesFile,
    hide: [stateDir, ...hide],
  };
  let kubelet: ChildProcess;
  const harness: Harness = {
    client,
    pki,
    stateDir,
    imagesFile,
    node,
    kubelet: () => kubelet,
    async startKubelet() {
      kubelet = spawn(
        "nsenter",
        [
          `--net=${namespaceFile(nodeNamespace(node))}`,
          process.execPath,
          join(import.meta.dirname, "node-process.ts"),
          JSON.stringify(options),
        ],
        { stdio: ["ignore", "inherit", "inherit", "ipc"] },
      );
      await new Promise<void>((resolve, reject) => {
        kubelet.once("message", () => resolve());
        kubelet.once("exit", (code) => reject(new Error(`the kubelet ended with exit code ${code}`)));
      });
      return kubelet;
    },
    async until(name, holds, timeout = 20_000) {
      const end = performance.now() + timeout;
      for (;;) {
        const pod = await client.get(pods, `default/${name}`);
        if (holds(pod)) return pod;
        if (performance.now() > end) {
          const told = (await client.list(events)).items.map(
            ({ reason, message }) => `${reason}: ${message}`,
          );
          throw new Error(`pod ${name} stays ${JSON.stringify(pod?.status)}\n${told.join("\n")}`);
        }
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    async create(spec, name = `pod-${++count}`) {
      return client.create(pods, {
        metadata: { namespace: "default", name },
        spec: { nodeName: node.name, ...spec },
      });
    },
    async close() {
      kubelet?.kill("SIGKILL");
      await server.close();
      rmSync(stateDir, { recursive: true, force: true });
    },
  };
  return harness;
}
