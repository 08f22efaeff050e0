/**
 * The kubelet: keeps the pods of one node as the API says. It knows the cluster only through the API, and the API
 * server reaches into pods only through its HTTPS port.
 */
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { configMaps, nameOf, pods, secrets, services } from "../../api/index.ts";
import { EventRecorder, Informer, type KubeClient, startHeartbeat } from "../../kube/index.ts";
import { sleep, type World } from "../../world/index.ts";
import type { Images } from "../images/index.ts";
import { AddressPool, detachPod, type Run, run as runHere } from "../network/index.ts";
import type { ClusterSpec, NodeSpec } from "../spec.ts";
import type { NodePki } from "../state.ts";
import type { NodeContext } from "./context.ts";
import { prepareMachine } from "./machine.ts";
import { mountInfo } from "./mounts.ts";
import { capacityOf, registerNode } from "./node-status.ts";
import { isOutage } from "./outage.ts";
import { PodWorker } from "./pod.ts";
import { shimScript } from "./rootfs.ts";
import { type RunningContainer, Runtime } from "./runtime.ts";
import { type KubeletServer, serveKubelet } from "./server.ts";

export interface NodeOptions {
  world: World;
  /** Calls the API server as `system:node:NAME`. */
  client: KubeClient;
  cluster: ClusterSpec;
  node: NodeSpec;
  images: Images;
  pki: NodePki;
  /** The node's directory; not visible in pods. */
  stateDir: string;
  /** The checkout of Weft: pods see it, read-only, as `packageMount`. */
  packageRoot: string;
  /** Programs that pods see in `programsMount`: name → the machine's file. */
  programs?: Readonly<Record<string, string>>;
  /** Files and directories of the machine that pods must not see: the lab's state, the user's kubeconfig. */
  hide: readonly string[];
  run?: Run;
  /** Told of errors in the kubelet itself; printed unless told. */
  onBug?: (error: unknown) => void;
}

export interface Node {
  /** Resolves when the node is registered and its pods are looked after. */
  readonly ready: Promise<void>;
  /** Stops the kubelet and leaves the pods running, as when a kubelet is restarted. */
  stop(): Promise<void>;
}

/** How often the Node object is written again when nothing changes (kubelet's nodeStatusReportFrequency). */
const nodeStatusEvery = 300_000;
const nodeLeaseSeconds = 40;

/** Starts the kubelet of a node, in the node's network namespace and in the mount and PID namespaces of the lab. */
export function startNode(options: NodeOptions): Node {
  const kubelet = new Kubelet(options);
  const ready = kubelet.start();
  ready.catch(() => {});
  return { ready, stop: () => kubelet.stop() };
}

class Kubelet {
  readonly #options: NodeOptions;
  readonly #onBug: (error: unknown) => void;
  readonly #workers = new Map<string, PodWorker>();
  readonly #stop = new AbortController();
  #informers: { stop(): void }[] = [];
  #server: KubeletServer | undefined;
  #context: NodeContext | undefined;

  constructor(options: NodeOptions) {
    this.#options = options;
    this.#onBug = options.onBug ?? ((error) => console.error("kubelet:", error));
  }

  async start(): Promise<void> {
    const {
      world,
      client,
      cluster,
      node,
      images,
      stateDir,
      packageRoot,
      programs = {},
      hide,
      run = runHere,
    } = this.#options;
    const { signal } = this.#stop;
    const serviceInformer = new Informer(client, services, { signal, keepManagedFieldsOf: null });
    const podInformer = new Informer(client, pods, {
      signal,
      fieldSelector: `spec.nodeName=${node.name}`,
      keepManagedFieldsOf: null,
    });
    this.#informers = [serviceInformer, podInformer];
    const capacity = capacityOf(stateDir);
    // The API is asked while the machine is prepared: both take a moment.
    const registered = this.#register(capacity);
    registered.catch(() => {});
    const runDir = await mountRunDir(stateDir, run);
    const machine = await prepareMachine({ stateDir, runDir, packageRoot, programs, hide, run });
    await writeFile(join(runDir, "shim"), shimScript);
    const runtime = new Runtime(machine, runDir, world);
    const found = await runtime.adopt();
    const context: NodeContext = {
      world,
      client,
      cluster,
      node,
      images,
      runtime,
      addresses: new AddressPool(node.podRange),
      events: new EventRecorder({ client, component: "kubelet", host: node.name }),
      run,
      capacity,
      services: () => serviceInformer.list(),
      configMap: (namespace, name) => client.get(configMaps, { namespace, name }),
      secret: (namespace, name) => client.get(secrets, { namespace, name }),
      stateDir,
      runDir,
      onBug: this.#onBug,
    };
    this.#context = context;
    this.#server = await serveKubelet({
      ...this.#options,
      worker: (name) => this.#worker(name),
      workers: () => [...this.#workers.values()],
    });
    await Promise.all([registered, podInformer.whenSynced(), serviceInformer.whenSynced()]);
    if (signal.aborted) return;
    void this.#keepNodeStatus(context);
    await this.#adopt(context, podInformer, found);
    podInformer.subscribe((changes) => {
      for (const { before, after } of changes) {
        if (before && before.metadata.uid !== after?.metadata.uid) {
          this.#workers.get(before.metadata.uid!)?.remove();
        }
        if (!after) continue;
        const uid = after.metadata.uid!;
        const worker = this.#workers.get(uid);
        if (worker) worker.update(after);
        else this.#begin(new PodWorker(context, after, () => this.#workers.delete(uid)));
      }
    });
  }

  #begin(worker: PodWorker): void {
    this.#workers.set(worker.uid, worker);
    worker.wake();
  }

  /** Takes over what an earlier kubelet of this node left; what belongs to no pod any more is cleaned up. */
  async #adopt(
    context: NodeContext,
    informer: Informer<PodWorker["pod"]>,
    found: RunningContainer[],
  ): Promise<void> {
    const byPod = Map.groupBy(found, ({ record }) => record.pod.uid);
    for (const pod of informer.list()) {
      const uid = pod.metadata.uid!;
      const worker = new PodWorker(context, pod, () => this.#workers.delete(uid));
      await worker.adopt(byPod.get(uid) ?? []);
      byPod.delete(uid);
      this.#workers.set(uid, worker);
    }
    // Only now is it known which addresses are taken.
    for (const worker of this.#workers.values()) worker.wake();
    for (const [uid, orphans] of byPod) {
      for (const orphan of orphans) {
        orphan.signal("SIGKILL");
        await orphan.exited;
        await context.runtime.remove(orphan);
      }
      await detachPod(uid, context.run);
    }
    const isKnown = (uid: string) => this.#workers.has(uid);
    const { runDir, stateDir, run } = context;
    for (const uid of await namesIn(join(runDir, "pods"))) {
      if (isKnown(uid)) continue;
      await detachPod(uid, run);
      await rm(join(runDir, "pods", uid), { recursive: true, force: true });
    }
    for (const uid of await namesIn(join(stateDir, "pods"))) {
      if (!isKnown(uid)) await rm(join(stateDir, "pods", uid), { recursive: true, force: true });
    }
    for (const name of await namesIn(join(stateDir, "logs"))) {
      // NAMESPACE_POD_UID
      if (!isKnown(name.slice(name.lastIndexOf("_") + 1))) {
        await rm(join(stateDir, "logs", name), { recursive: true, force: true });
      }
    }
  }

  /** Makes the Node object and keeps its Lease, as soon as the API server is there. */
  async #register(capacity: NodeContext["capacity"]): Promise<void> {
    const { world, client, node } = this.#options;
    const { signal } = this.#stop;
    for (let wait = 100; ; wait = Math.min(wait * 2, 2_000)) {
      try {
        await registerNode(client, node, capacity, world);
        break;
      } catch (error) {
        if (!isOutage(error)) throw error;
        await sleep(world, wait, signal);
      }
    }
    const heartbeat = startHeartbeat({
      client,
      namespace: "kube-node-lease",
      name: node.name,
      identity: node.name,
      durationSeconds: nodeLeaseSeconds,
      onError: (error) => this.#report(error),
    });
    signal.addEventListener("abort", () => heartbeat.stop());
  }

  /** An API server that is away for a while is no bug. */
  #report(error: unknown): void {
    if (!isOutage(error)) this.#onBug(error);
  }

  #worker(key: string): PodWorker | undefined {
    const named = [...this.#workers.values()].filter((worker) => nameOf(worker.pod) === key);
    return named.find((worker) => !worker.isRemoved) ?? named[0];
  }

  async #keepNodeStatus({ client, node, capacity, world }: NodeContext): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await sleep(world, nodeStatusEvery, signal).catch(() => {});
      if (signal.aborted) return;
      await registerNode(client, node, capacity, world).catch((error: unknown) => this.#report(error));
    }
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    for (const informer of this.#informers) informer.stop();
    for (const worker of this.#workers.values()) worker.close();
    await this.#server?.close();
    await this.#context?.events.flush();
  }
}

/** What is true only as long as the lab runs is kept on a tmpfs in the lab's mount namespace. */
async function mountRunDir(stateDir: string, run: Run): Promise<string> {
  const runDir = join(stateDir, "run");
  await mkdir(runDir, { recursive: true });
  if (!(await mountInfo()).some(({ target }) => target === runDir)) {
    await run(["mount", "-t", "tmpfs", "-o", "mode=755", "weft-node", runDir]);
  }
  return runDir;
}

function namesIn(dir: string): Promise<string[]> {
  return readdir(dir).catch(() => []);
}
