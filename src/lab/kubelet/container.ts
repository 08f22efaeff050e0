/** One container of a pod's spec over time: the instance that runs, the one before, and why none runs. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Container, Pod } from "../../api/index.ts";
import { type Image, InvalidImageName, UnknownImage } from "../images/index.ts";
import { Backoff } from "./backoff.ts";
import { configOf, type Surroundings } from "./container-config.ts";
import { logDirectory, type NodeContext } from "./context.ts";
import { ConfigError } from "./env.ts";
import { readLog } from "./logs.ts";
import type { ContainerConfig } from "./rootfs.ts";
import type { ContainerExit, RunningContainer } from "./runtime.ts";
import { type ContainerStatus, isSidecar } from "./status.ts";

/** Times are RFC 3339 with whole seconds in statuses. */
export const formatTime = (at: number) => `${new Date(at).toISOString().slice(0, 19)}Z`;

export type ContainerRole = "init" | "sidecar" | "main";

const termination = "/dev/termination-log";
const longestTerminationMessage = 4096;

export class PodContainer {
  readonly #context: NodeContext;
  readonly role: ContainerRole;
  spec: Container;
  current: RunningContainer | undefined;
  last: RunningContainer | undefined;
  /** Why no instance runs. */
  waiting: { reason: string; message?: string } | undefined;
  /** What probes say; set by the worker. */
  ready = false;
  started = false;
  /** Terminated state of an instance that this node knows only from the pod's status (before the lab restarted). */
  #before: ContainerStatus | undefined;
  #restarts = 0;
  readonly #crashes = new Backoff();
  readonly #pulls = new Backoff();
  #pullFailed: { at: number; image: string } | undefined;
  #terminationMessages = new WeakMap<RunningContainer, string>();

  constructor(context: NodeContext, role: ContainerRole, spec: Container) {
    this.#context = context;
    this.role = role;
    this.spec = spec;
  }

  get name(): string {
    return this.spec.name;
  }
  /** As Events name it. */
  get fieldPath(): string {
    return `spec.${this.role === "main" ? "containers" : "initContainers"}{${this.name}}`;
  }
  get running(): boolean {
    return this.current !== undefined && this.current.exit === undefined;
  }
  get exit(): ContainerExit | undefined {
    return this.current?.exit;
  }

  /** Takes over what an earlier kubelet started, or what the pod's status remembers of an earlier lab. */
  adopt(instances: RunningContainer[], status: ContainerStatus | undefined): void {
    const sorted = [...instances].sort((a, b) => a.record.attempt - b.record.attempt);
    this.current = sorted.at(-1);
    this.last = sorted.at(-2);
    if (this.current) {
      this.#restarts = this.current.record.attempt;
      if (status?.containerID === containerId(this.current)) {
        this.ready = status?.ready ?? false;
        this.started = status?.started ?? false;
      }
    } else if (status?.containerID) {
      this.#before = status;
      this.#restarts = status.restartCount;
    }
  }

  /** Whether an instance that ended is to be followed by another. */
  restarts(restartPolicy: string): boolean {
    if (this.role === "sidecar") return true;
    const failed = this.exit === undefined || this.exit.code !== 0;
    if (this.role === "init") return failed && restartPolicy !== "Never";
    return restartPolicy === "Always" || (restartPolicy === "OnFailure" && failed);
  }

  /**
   * Starts an instance when it is time. Returns the moment (ms, world.now) to try again at when it is not, or when
   * it failed; `waiting` then says why.
   */
  async start(pod: Pod, surroundings: Surroundings): Promise<number | undefined> {
    const { world, events, runtime } = this.#context;
    const now = world.now();
    const about = [pod, this.fieldPath] as const;
    const podName = `${pod.metadata.name}_${pod.metadata.namespace}(${pod.metadata.uid})`;
    if (this.exit) {
      const until = this.#crashes.until(this.exit.finishedAt);
      if (now < until) {
        const text = `restarting failed container=${this.name} pod=${podName}`;
        if (this.waiting?.reason !== "CrashLoopBackOff") {
          const message = `Back-off restarting failed container ${this.name} in pod ${podName}`;
          events.warning(about[0], "BackOff", message, about[1]);
        }
        this.waiting = { reason: "CrashLoopBackOff", message: `back-off ${this.#crashes.text} ${text}` };
        return until;
      }
    }
    const image = this.#pull(about, now);
    if (!(typeof image === "object")) return image;
    let config: ContainerConfig;
    try {
      config = await configOf(this.#context, this.spec, pod, image, surroundings);
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      this.waiting = { reason: "CreateContainerConfigError", message: error.message };
      events.warning(about[0], "Failed", `Error: ${error.message}`, about[1]);
      return now + 5_000;
    }
    if (this.exit || this.#before) this.#restarts++;
    if (this.exit) this.#crashes.next(now);
    const id = Buffer.from(world.bytes(32)).toString("hex");
    if (this.last) await runtime.remove(this.last);
    this.last = this.current;
    this.ready = false;
    this.started = false;
    const attempt = this.#restarts;
    const messageFile = join(this.#context.runDir, "containers", id.slice(0, 32), "termination-log");
    config.mounts.push({
      source: messageFile,
      target: this.spec.terminationMessagePath ?? termination,
      readOnly: false,
      isFile: true,
    });
    events.normal(about[0], "Created", "Container created", about[1]);
    this.current = await runtime.start(
      {
        id: id.slice(0, 32),
        pod: { uid: pod.metadata.uid!, namespace: pod.metadata.namespace!, name: pod.metadata.name },
        name: this.name,
        attempt,
        image: image.name,
        imageId: image.id,
        log: join(logDirectory(this.#context.stateDir, pod), this.name, `${attempt}.log`),
        network: surroundings.network.namespace,
        config,
      },
      { "termination-log": "" },
    );
    this.waiting = undefined;
    await this.current.started;
    if (this.current.startedAt === undefined) {
      const message = `Error: failed to start container "${this.name}": ${this.current.exit?.failure ?? ""}`;
      events.warning(about[0], "Failed", message, about[1]);
    } else {
      events.normal(about[0], "Started", "Container started", about[1]);
    }
    return undefined;
  }

  /** The image, or when to ask again. */
  #pull(about: readonly [Pod, string], now: number): Image | number {
    const { events, images } = this.#context;
    const name = this.spec.image ?? "";
    const policy = this.spec.imagePullPolicy ?? (/:latest$|^[^:@]+$/.test(name) ? "Always" : "IfNotPresent");
    try {
      const image = images.resolve(name);
      this.#pullFailed = undefined;
      this.#pulls.reset();
      if (policy === "Always") {
        events.normal(about[0], "Pulling", `Pulling image "${name}"`, about[1]);
        const text = `Successfully pulled image "${name}" in 0s (0s including waiting). Image size: 0 bytes.`;
        events.normal(about[0], "Pulled", text, about[1]);
      } else {
        const text = `Container image "${name}" already present on machine and can be accessed by the pod`;
        events.normal(about[0], "Pulled", text, about[1]);
      }
      return image;
    } catch (error) {
      if (error instanceof InvalidImageName) {
        this.waiting = {
          reason: "InvalidImageName",
          message: `Failed to apply default image tag: ${error.message}`,
        };
        events.warning(about[0], "InspectFailed", this.waiting.message!, about[1]);
        return now + 60_000;
      }
      if (!(error instanceof UnknownImage)) throw error;
      if (policy === "Never") {
        const message = `Container image "${name}" is not present with pull policy of Never: ${error.message}`;
        if (this.waiting?.reason !== "ErrImageNeverPull") {
          events.warning(about[0], "ErrImageNeverPull", message, about[1]);
          events.warning(about[0], "Failed", "Error: ErrImageNeverPull", about[1]);
        }
        this.waiting = { reason: "ErrImageNeverPull", message };
        return now + retryImages;
      }
      const failed = this.#pullFailed?.image === name ? this.#pullFailed : undefined;
      if (failed && now < this.#pulls.until(failed.at)) {
        if (this.waiting?.reason !== "ImagePullBackOff") {
          events.normal(about[0], "BackOff", `Back-off pulling image "${name}"`, about[1]);
          events.warning(about[0], "Failed", "Error: ImagePullBackOff", about[1]);
        }
        const message = `Back-off pulling image "${name}": ErrImagePull: ${error.message}`;
        this.waiting = { reason: "ImagePullBackOff", message };
        // The image may be added at any moment: no reason to let people wait.
        return Math.min(now + retryImages, this.#pulls.until(failed.at));
      }
      events.normal(about[0], "Pulling", `Pulling image "${name}"`, about[1]);
      events.warning(about[0], "Failed", `Failed to pull image "${name}": ${error.message}`, about[1]);
      events.warning(about[0], "Failed", "Error: ErrImagePull", about[1]);
      this.#pullFailed = { at: now, image: name };
      this.#pulls.next(now);
      this.waiting = { reason: "ErrImagePull", message: error.message };
      return now + retryImages;
    }
  }

  /** The container's status; `pending` is what a container that was never started waits for. */
  status(pending: string): ContainerStatus {
    const { current, last } = this;
    const state: ContainerStatus["state"] = {};
    let lastState: ContainerStatus["lastState"] = {};
    const ended = current?.exit ? this.#terminated(current) : undefined;
    if (this.waiting) {
      state.waiting = this.waiting;
      if (ended) lastState = { terminated: ended };
    } else if (ended) state.terminated = ended;
    else if (current)
      state.running = { startedAt: formatTime(current.startedAt ?? this.#context.world.now()) };
    else state.waiting = { reason: pending };
    if (last?.exit && !lastState?.terminated) lastState = { terminated: this.#terminated(last) };
    if (!lastState?.terminated && this.#before) lastState = { terminated: terminatedBefore(this.#before) };
    const running = state.running !== undefined;
    return {
      name: this.name,
      state,
      lastState,
      ready: this.role === "init" ? ended?.exitCode === 0 : running && this.ready,
      restartCount: this.#restarts,
      image: current?.record.image ?? this.spec.image ?? "",
      imageID: current?.record.imageId ?? "",
      ...(current && { containerID: containerId(current) }),
      started: running && (this.role === "init" || this.started),
    };
  }

  #terminated(container: RunningContainer) {
    const { exit } = container;
    const code = exit!.code;
    const reason = exit!.failure
      ? "StartError"
      : exit!.lost
        ? "ContainerStatusUnknown"
        : code === 0
          ? "Completed"
          : "Error";
    const message = exit!.failure ?? this.#terminationMessages.get(container);
    return {
      exitCode: code,
      reason,
      ...(message && { message }),
      startedAt: formatTime(container.startedAt ?? exit!.finishedAt),
      finishedAt: formatTime(exit!.finishedAt),
      containerID: containerId(container),
    };
  }

  /** Reads what an instance that ended left as its message. */
  async readTerminationMessage(): Promise<void> {
    const { current } = this;
    if (!current?.exit || this.#terminationMessages.has(current)) return;
    let message = await readFile(join(current.dir, "termination-log"), "utf8").catch(() => "");
    if (
      message === "" &&
      this.spec.terminationMessagePolicy === "FallbackToLogsOnError" &&
      current.exit.code !== 0
    ) {
      for await (const chunk of readLog(current.record.log, { tailLines: 80 }, this.#context.world)) {
        message += chunk.toString();
      }
      message = message.slice(-2048);
    }
    this.#terminationMessages.set(current, message.slice(0, longestTerminationMessage));
  }
}

/** How often an image that is not known is looked up again; a lookup costs next to nothing. */
const retryImages = 2_000;

export function containerId(container: RunningContainer): string {
  return `weft://${container.record.id}`;
}

function terminatedBefore(status: ContainerStatus) {
  if (status.state?.terminated) return status.state.terminated;
  return {
    exitCode: 255,
    reason: "Unknown",
    ...(status.state?.running?.startedAt && { startedAt: status.state.running.startedAt }),
    ...(status.containerID && { containerID: status.containerID }),
  };
}

export function roleOf(spec: Container, isInit: boolean): ContainerRole {
  if (!isInit) return "main";
  return isSidecar(spec) ? "sidecar" : "init";
}
