/** A cluster of one node for tests: an API server in this process, the kubelet in a process of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebSocket } from "ws";
import { events, type Pod, pods, type Status, serviceAccounts } from "../../../api/index.ts";
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
  /** GET on the kubelet's own port, as the API server does it. */
  get(path: string): Promise<{ status: number; text: string }>;
  /** exec or attach on the kubelet's own port. */
  stream(
    path: string,
    input?: (send: (channel: number, data: string | Uint8Array) => void) => void,
    protocols?: string[],
  ): Promise<Streamed>;
  /** Runs a shell command in the pod's container; its output and exit code. */
  sh(pod: string, command: string, container?: string): Promise<{ output: string; code: number }>;
  events(pod: string): Promise<string[]>;
  create(pod: Partial<Pod["spec"]> & { containers: Pod["spec"]["containers"] }, name?: string): Promise<Pod>;
  close(): Promise<void>;
}

/** What came over a stream: text by channel, and the WebSocket's close code or the HTTP status of a refusal. */
export interface Streamed {
  stdout: string;
  stderr: string;
  status: Status | undefined;
  closed: number;
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
    serviceAccount: pki.serviceAccount,
  });
  const tls = { ...pki.serving, clientCa: pki.ca.cert };
  await server.listen({ host: cluster.apiAddress, port: 6443, tls });
  const client = new KubeClient({
    transport: server.as({ name: "test", groups: ["system:masters"] }),
    world,
    cluster: cluster.name,
  });
  const controllers = startControllers({ world, client, rootCertificates: pki.ca.cert, log: () => {} });
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
  const tlsClient = { ca: pki.ca.cert, cert: pki.kubeletClient.cert, key: pki.kubeletClient.key };
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
    get: (path) =>
      new Promise((resolve, reject) => {
        const asked = request(
          { host: node.address, port: 10250, path, agent: false, ...tlsClient },
          (response) => {
            let text = "";
            response.on("data", (chunk) => {
              text += chunk;
            });
            response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
          },
        );
        asked.on("error", reject);
        asked.end();
      }),
    stream: (path, input, protocols = ["v5.channel.k8s.io"]) =>
      new Promise((resolve, reject) => {
        const url = `wss://${node.address}:10250${path}`;
        const socket = new WebSocket(url, protocols, tlsClient);
        const result: Streamed = { stdout: "", stderr: "", status: undefined, closed: 0 };
        socket.on("open", () =>
          input?.((channel, data) => socket.send(Buffer.concat([Buffer.from([channel]), Buffer.from(data)]))),
        );
        socket.on("message", (message: Buffer) => {
          const text = message.subarray(1).toString();
          if (message[0] === 1) result.stdout += text;
          if (message[0] === 2) result.stderr += text;
          if (message[0] === 3) result.status = JSON.parse(text) as Status;
        });
        socket.on("close", (closed) => resolve({ ...result, closed }));
        socket.on("unexpected-response", (_, response) => {
          response.on("data", (chunk) => {
            result.stderr += chunk;
          });
          response.on("end", () => resolve({ ...result, closed: response.statusCode ?? 0 }));
        });
        socket.on("error", reject);
      }),
    async sh(pod, command, container = "main") {
      const query = new URLSearchParams([
        ["command", "sh"],
        ["command", "-c"],
        ["command", command],
        ["output", "1"],
        ["error", "1"],
      ]);
      const { stdout, stderr, status } = await harness.stream(`/exec/default/${pod}/${container}?${query}`);
      const code = status?.details?.causes?.find(({ reason }) => reason === "ExitCode")?.message;
      if (status?.status !== "Success" && code === undefined) throw new Error(status?.message ?? stderr);
      return { output: stdout + stderr, code: Number(code ?? 0) };
    },
    async events(pod) {
      const { items } = await client.list(events);
      return items
        .filter(({ involvedObject }) => involvedObject.name === pod)
        .map(({ type, reason, message }) => `${type} ${reason} ${message}`);
    },
    async create(spec, name = `pod-${++count}`) {
      return client.create(pods, {
        metadata: { namespace: "default", name },
        spec: {
          nodeName: node.name,
          automountServiceAccountToken: false,
          terminationGracePeriodSeconds: 3,
          ...spec,
        },
      });
    },
    async close() {
      controllers.stop();
      kubelet?.removeAllListeners("exit");
      kubelet?.kill("SIGKILL");
      await server.close();
      await run(["umount", "--recursive", "--lazy", join(stateDir, "run")]);
      rmSync(stateDir, { recursive: true, force: true });
    },
  };
  return harness;
}
