/**
 * The life of one pod on this node. Level triggered: whatever wakes the worker, it looks at what the pod should be
 * and what there is, does the next steps and reports the status. Source of the order of things: Kubernetes
 * documentation, "Pod Lifecycle"; kubernetes `pkg/kubelet/kuberuntime/kuberuntime_manager.go`, computePodActions.
 */
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { type Container, type Pod, pods } from "../../api/index.ts";
import { isConflict, isNotFound } from "../../kube/index.ts";
import { type Timer, timestamp } from "../../world/index.ts";
import { attachPod, detachPod, nodeNamespace, type PodNetwork } from "../network/index.ts";
import { PodContainer, roleOf } from "./container.ts";
import type { Surroundings } from "./container-config.ts";
import { logDirectory, type NodeContext } from "./context.ts";
import { hostnameOf, hostsFile, nsswitchConf, resolvConf } from "./etc.ts";
import { runHook } from "./hooks.ts";
import { isOutage } from "./outage.ts";
import { podStatus, sayUnserved } from "./pod-status.ts";
import { Stopping } from "./pod-stop.ts";
import { forgetTokens, refreshVolumes, setUpVolumes } from "./pod-volumes.ts";
import { Probes } from "./probes.ts";
import type { RunningContainer } from "./runtime.ts";
import { isInitDone, type PodStatus } from "./status.ts";
import { type MountedVolume, VolumeError } from "./volumes.ts";

/** Milliseconds until something that failed for a reason outside of the pod is tried again. */
const retry = 2_000;
/** How often what volumes are made of is looked at again. */
const refreshEvery = 60_000;
const defaultGraceSeconds = 30;

export class PodWorker {
  readonly #context: NodeContext;
  readonly uid: string;
  pod: Pod;
  /** The object is gone from the API. */
  #removed = false;
  readonly #containers: PodContainer[];
  readonly #probes = new Map<PodContainer, Probes>();
  readonly #hooks = new WeakMap<RunningContainer, "running" | "done">();
  readonly #stopping: Stopping;
  #network: PodNetwork | undefined;
  #volumes: Map<string, MountedVolume> | undefined;
  #volumesAt = 0;
  #terminating: Promise<void> | undefined;
  #ended: "Succeeded" | "Failed" | undefined;
  #failure: { reason: string; message: string } | undefined;
  #active = false;
  #again = false;
  #timer: Timer | undefined;
  #closed = false;
  readonly #onGone: () => void;
  readonly #directory: string;
  #warned = false;

  constructor(context: NodeContext, pod: Pod, onGone: () => void) {
    this.#context = context;
    this.pod = pod;
    this.uid = pod.metadata.uid!;
    this.#onGone = onGone;
    this.#directory = join(context.runDir, "pods", this.uid);
    const make = (isInit: boolean) => (spec: Container) =>
      new PodContainer(context, roleOf(spec, isInit), spec);
    this.#containers = [
      ...(pod.spec.initContainers ?? []).map(make(true)),
      ...pod.spec.containers.map(make(false)),
    ];
    this.#stopping = new Stopping(context, this, this.#containers);
    const { phase } = pod.status ?? {};
    if (phase === "Succeeded" || phase === "Failed") this.#ended = phase;
  }

  /** Takes over what an earlier kubelet left of the pod. */
  async adopt(instances: RunningContainer[]): Promise<void> {
    try {
      this.#network = JSON.parse(await readFile(join(this.#directory, "network.json"), "utf8")) as PodNetwork;
      this.#context.addresses.keep(this.uid, this.#network.address);
    } catch {
      // The pod has no network yet.
    }
    const statuses = [
      ...(this.pod.status?.initContainerStatuses ?? []),
      ...(this.pod.status?.containerStatuses ?? []),
    ];
    for (const container of this.#containers) {
      container.adopt(
        instances.filter(({ record }) => record.name === container.name),
        statuses.find(({ name }) => name === container.name),
      );
      if (container.current) this.#hooks.set(container.current, "done");
      if (container.running) this.#watch(container);
    }
  }

  update(pod: Pod): void {
    this.pod = pod;
    for (const container of this.#containers) {
      const spec = [...(pod.spec.initContainers ?? []), ...pod.spec.containers].find(
        ({ name }) => name === container.name,
      );
      if (spec) container.spec = spec;
    }
    if (this.#terminating) this.#hurry();
    this.wake();
  }

  /** The object is gone from the API: what is left of the pod goes too, at once. */
  remove(): void {
    this.#removed = true;
    if (this.#terminating) this.#hurry();
    this.wake();
  }

  /** Lets go of the pod and leaves its containers running (the kubelet stops). */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    for (const probes of this.#probes.values()) probes.stop();
  }

  container(name: string): PodContainer | undefined {
    return this.#containers.find((container) => container.name === name);
  }

  /** The pod's network, once it has one and as long as it does. */
  get network(): PodNetwork | undefined {
    return this.#network;
  }

  get isRemoved(): boolean {
    return this.#removed;
  }

  wake(): void {
    if (this.#closed) return;
    if (this.#active) {
      this.#again = true;
      return;
    }
    this.#active = true;
    void this.#run();
  }

  async #run(): Promise<void> {
    let next: number | undefined;
    do {
      this.#again = false;
      try {
        next = await this.#sync();
      } catch (error) {
        if (this.#closed) return;
        if (!isOutage(error)) this.#context.onBug(error);
        next = this.#context.world.now() + retry;
      }
    } while (this.#again && !this.#closed);
    this.#active = false;
    if (this.#closed) return;
    this.#timer?.cancel();
    this.#timer = undefined;
    if (next !== undefined) {
      const delay = Math.max(10, next - this.#context.world.now());
      this.#timer = this.#context.world.after(delay, () => this.wake());
    }
  }

  /** One look at everything. Returns the moment (ms, world.now) at which to look again without being woken. */
  async #sync(): Promise<number | undefined> {
    if (this.#removed || this.pod.metadata.deletionTimestamp) {
      this.#terminating ??= this.#terminate().catch((error: unknown) => {
        this.#terminating = undefined;
        if (!isOutage(error)) this.#context.onBug(error);
        this.#context.world.after(retry, () => this.wake());
      });
      if (!this.#removed) await this.#report();
      return undefined;
    }
    if (this.#ended) {
      await this.#stopping.all(0);
      await this.#report();
      if (this.#network) await this.#releaseNetwork();
      return undefined;
    }
    const deadline = this.#deadline();
    if (deadline !== undefined && this.#context.world.now() >= deadline) {
      this.#failure = {
        reason: "DeadlineExceeded",
        message: "Pod was active on the node longer than the specified deadline",
      };
      this.#context.events.normal(this.pod, "DeadlineExceeded", this.#failure.message);
      await this.#stopping.all(this.#graceMs());
      this.#ended = "Failed";
      this.#again = true;
      return undefined;
    }
    const next = await this.#advance();
    await this.#report();
    if (this.#ended) this.#again = true;
    const moments = [next, deadline].filter((at) => at !== undefined);
    return moments.length > 0 ? Math.min(...moments) : undefined;
  }

  /** Brings the pod closer to running. */
  async #advance(): Promise<number | undefined> {
    if (!this.#warned) sayUnserved(this.#context, this.pod, this.#containers);
    this.#warned = true;
    let surroundings: Surroundings;
    try {
      surroundings = await this.#surroundings();
    } catch (error) {
      if (error instanceof VolumeError) this.#context.events.warning(this.pod, "FailedMount", error.message);
      else {
        const message = `Failed to create pod sandbox: ${(error as Error).message}`;
        this.#context.events.warning(this.pod, "FailedCreatePodSandBox", message);
      }
      return this.#context.world.now() + retry;
    }
    const wakeups = [this.#volumesAt + refreshEvery];
    const restartPolicy = this.pod.spec.restartPolicy ?? "Always";
    const keep = async (container: PodContainer) => {
      const at = await this.#keepRunning(container, restartPolicy, surroundings);
      if (at !== undefined) wakeups.push(at);
    };

    const mains = this.#containers.filter(({ role }) => role === "main");
    const begun = mains.some(({ current }) => current !== undefined);
    let initialized = true;
    for (const container of this.#containers) {
      if (container.role === "main") continue;
      // Once the containers have begun, init containers have done their part; sidecars go on.
      if (begun && container.role === "init") continue;
      const status = container.status("PodInitializing");
      if (container.role === "init" && isInitDone(container.spec, status)) continue;
      await keep(container);
      if (container.role === "init" && container.exit && !container.restarts(restartPolicy)) {
        if (container.exit.code !== 0) {
          await this.#stopping.all(this.#graceMs());
          this.#ended = "Failed";
          return undefined;
        }
      }
      if (!begun && !isInitDone(container.spec, container.status("PodInitializing"))) {
        initialized = false;
        break;
      }
    }
    if (initialized) {
      for (const container of mains) {
        await keep(container);
        // As long as its postStart hook runs, those after it wait (kuberuntime's startContainer).
        if (container.current && this.#hooks.get(container.current) === "running") break;
      }
    }

    // Sidecars and the network go when the containers are done for good.
    if (mains.every((container) => container.exit && !container.restarts(restartPolicy))) {
      const failed = mains.some(({ exit }) => exit!.code !== 0);
      await this.#stopping.all(this.#graceMs());
      for (const container of this.#containers) await container.readTerminationMessage();
      this.#ended = failed ? "Failed" : "Succeeded";
      return undefined;
    }
    return Math.min(...wakeups);
  }

  async #keepRunning(
    container: PodContainer,
    restartPolicy: string,
    surroundings: Surroundings,
  ): Promise<number | undefined> {
    const { current } = container;
    if (container.running) {
      const image = this.#imageName(container);
      if (image !== undefined && image !== current!.record.image) {
        this.#stop(container, `Container ${container.name} definition changed, will be restarted`);
      }
      return undefined;
    }
    await container.readTerminationMessage();
    if (container.exit && !container.restarts(restartPolicy)) return undefined;
    this.#probes.get(container)?.stop();
    this.#probes.delete(container);
    const again = await container.start(this.pod, surroundings);
    if (again !== undefined) return again;
    this.#watch(container);
    return undefined;
  }

  #imageName(container: PodContainer): string | undefined {
    try {
      return this.#context.images.resolve(container.spec.image ?? "").name;
    } catch {
      return undefined;
    }
  }

  /** Follows an instance: its hooks, its probes and its end. */
  #watch(container: PodContainer): void {
    const instance = container.current!;
    const { world, events } = this.#context;
    void instance.exited.then(async () => {
      this.#probes.get(container)?.stop();
      if (container.current === instance) {
        container.ready = false;
        container.started = false;
        await container.readTerminationMessage();
      }
      this.wake();
    });
    if (instance.exit) return;
    const probe = () => {
      if (instance.exit || this.#closed || container.current !== instance) return;
      const probes = new Probes({
        world,
        container,
        instance,
        address: this.#network?.address ?? this.#context.node.address,
        onChange: () => this.wake(),
        onResult: (message) => events.warning(this.pod, "Unhealthy", message, container.fieldPath),
        onDead: (message) => this.#stop(container, message),
      });
      this.#probes.set(container, probes);
      probes.start();
    };
    const hook = container.spec.lifecycle?.postStart;
    if (!hook || this.#hooks.get(instance) === "done") {
      probe();
      return;
    }
    this.#hooks.set(instance, "running");
    void runHook(hook, container.spec, instance, this.#network?.address ?? "", world).then((failure) => {
      this.#hooks.set(instance, "done");
      if (failure !== undefined) {
        events.warning(this.pod, "FailedPostStartHook", failure, container.fieldPath);
        this.#stop(container, "FailedPostStartHook");
      } else probe();
      this.wake();
    });
  }

  /** Network, volumes and files of /etc, made when they are not there. */
  async #surroundings(): Promise<Surroundings> {
    const etc = join(this.#directory, "etc");
    if (!this.#network) {
      await mkdir(etc, { recursive: true });
      this.#network = await this.#attach();
      const machine = await readFile("/etc/resolv.conf", "utf8").catch(() => "");
      const { cluster } = this.#context;
      await Promise.all([
        writeFile(join(etc, "hosts"), hostsFile(this.pod, this.#network.address, cluster.clusterDomain)),
        writeFile(join(etc, "hostname"), `${hostnameOf(this.pod)}\n`),
        writeFile(join(etc, "resolv.conf"), resolvConf(this.pod, cluster, machine)),
        writeFile(join(etc, "nsswitch.conf"), nsswitchConf),
      ]);
      await writeFile(join(this.#directory, "network.json"), JSON.stringify(this.#network));
    }
    const now = this.#context.world.now();
    if (!this.#volumes) {
      this.#volumes = await setUpVolumes(this.#context, this.pod, this.#network.address);
      this.#volumesAt = now;
    } else if (now - this.#volumesAt >= refreshEvery) {
      this.#volumesAt = now;
      await refreshVolumes(this.#context, this.pod, this.#network.address).catch((error: Error) =>
        this.#context.events.warning(this.pod, "FailedMount", error.message),
      );
    }
    return { network: this.#network, volumes: this.#volumes, etc };
  }

  async #attach(): Promise<PodNetwork> {
    const { node, addresses, run } = this.#context;
    if (this.pod.spec.hostNetwork) return { namespace: nodeNamespace(node), address: node.address };
    const address = addresses.take(this.uid);
    if (!address) throw new Error(`all addresses of ${node.podRange} are taken`);
    const sysctls = (this.pod.spec.securityContext?.sysctls ?? []).map(({ name, value }) => {
      // Others belong to the machine, or to namespaces that every container has of its own.
      if (!/^net\.[\w.-]+$/.test(name)) throw new Error(`sysctl ${name} is not supported: only net.* is`);
      return `${name.replaceAll(".", "/")}=${value}`;
    });
    try {
      return await attachPod(node, this.uid, address, run, sysctls);
    } catch (error) {
      addresses.release(this.uid);
      throw error;
    }
  }

  async #releaseNetwork(): Promise<void> {
    // Also where the network is not known: an earlier kubelet may have ended in the middle of making it.
    if (!this.pod.spec.hostNetwork) await detachPod(this.uid, this.#context.run);
    this.#context.addresses.release(this.uid);
    this.#network = undefined;
    await rm(join(this.#directory, "network.json"), { force: true });
  }

  /** The end of a pod that was deleted. */
  async #terminate(): Promise<void> {
    const { client, runtime, stateDir } = this.#context;
    await this.#stopping.all(this.#graceMs());
    for (const container of this.#containers) await container.readTerminationMessage();
    await this.#releaseNetwork();
    for (const probes of this.#probes.values()) probes.stop();
    if (!this.#removed) {
      await this.#report().catch((error: unknown) => {
        if (!isNotFound(error) && !isOutage(error)) this.#context.onBug(error);
      });
    }
    for (const instance of runtime.of(this.uid)) await runtime.remove(instance);
    await Promise.all([
      rm(this.#directory, { recursive: true, force: true }),
      rm(join(stateDir, "pods", this.uid), { recursive: true, force: true }),
    ]);
    if (!this.#removed) {
      const { namespace, name } = this.pod.metadata;
      const ref = { namespace: namespace!, name };
      await client.delete(pods, ref, { uid: this.uid, gracePeriodSeconds: 0 }).catch((error: unknown) => {
        // Another pod of the same name is there already.
        if (!isConflict(error)) throw error;
      });
    }
    await rm(logDirectory(stateDir, this.pod), { recursive: true, force: true });
    forgetTokens(this.uid);
    this.close();
    this.#onGone();
  }

  #graceMs(): number {
    if (this.#removed) return 0;
    const { deletionGracePeriodSeconds } = this.pod.metadata;
    const seconds =
      deletionGracePeriodSeconds ?? this.pod.spec.terminationGracePeriodSeconds ?? defaultGraceSeconds;
    return seconds * 1000;
  }

  /** Ends an instance, to be followed by the next one or not. */
  #stop(container: PodContainer, message: string): void {
    void this.#stopping.one(container, message, this.#graceMs());
  }

  /** The grace period of a pod that is stopping became shorter. */
  #hurry(): void {
    const since = this.pod.metadata.deletionTimestamp;
    // deletionTimestamp already is the moment at which the grace period ends.
    const left = this.#removed || !since ? 0 : Math.max(0, Date.parse(since) - this.#context.world.now());
    this.#stopping.hurry(left);
  }

  #deadline(): number | undefined {
    const { activeDeadlineSeconds } = this.pod.spec;
    const { startTime } = this.pod.status ?? {};
    if (activeDeadlineSeconds === undefined || !startTime) return undefined;
    return Date.parse(startTime) + activeDeadlineSeconds * 1000;
  }

  /** The status as it is now. */
  status(): PodStatus {
    return podStatus({
      pod: this.pod,
      containers: this.#containers,
      network: this.#network,
      ended: this.#ended,
      failure: this.#failure,
      hostIP: this.#context.node.address,
      now: timestamp(this.#context.world),
    });
  }

  /** Writes the status when it is another than the API has. */
  async #report(): Promise<void> {
    for (const container of this.#containers) {
      container.started = this.#probes.get(container)?.started ?? container.started;
      container.ready = this.#probes.get(container)?.ready ?? container.ready;
    }
    for (let attempt = 0; ; attempt++) {
      // A pod that has ended stays as it was reported, also when its containers are known no more.
      if (this.#ended && this.pod.status?.phase === this.#ended) return;
      const status = JSON.parse(JSON.stringify({ ...this.pod.status, ...this.status() })) as PodStatus;
      if (isDeepStrictEqual(status, this.pod.status)) return;
      try {
        const written = await this.#context.client.replace(
          pods,
          { ...this.pod, status },
          { subresource: "status", manager: "kubelet" },
        );
        if (written.metadata.uid === this.uid) this.pod = written;
        return;
      } catch (error) {
        if (isNotFound(error)) return;
        if (!isConflict(error) || attempt > 5) throw error;
        const fresh = await this.#context.client.get(
          pods,
          this.pod.metadata as { namespace: string; name: string },
        );
        if (!fresh || fresh.metadata.uid !== this.uid) return;
        this.pod = fresh;
      }
    }
  }
}
