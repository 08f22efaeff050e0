/**
 * The end of a pod's containers: preStop hooks, SIGTERM, SIGKILL, and in which order. Source: kubernetes
 * `pkg/kubelet/kuberuntime/{kuberuntime_container,kuberuntime_termination_order}.go`.
 */
import type { Pod } from "../../api/index.ts";
import type { Timer } from "../../world/index.ts";
import type { PodContainer } from "./container.ts";
import type { NodeContext } from "./context.ts";
import { runHook } from "./hooks.ts";
import type { RunningContainer } from "./runtime.ts";

/** The least time between SIGTERM and SIGKILL, whatever preStop hooks took (kubelet's minimumGracePeriodInSeconds). */
const leastGrace = 2_000;

/** The pod whose containers are stopped, as it is at that moment. */
export interface Stopped {
  readonly pod: Pod;
  readonly network: { address: string } | undefined;
}

export class Stopping {
  readonly #context: NodeContext;
  readonly #of: Stopped;
  readonly #containers: readonly PodContainer[];
  readonly #under = new Map<RunningContainer, Promise<void>>();
  #killAt: Timer | undefined;

  constructor(context: NodeContext, of: Stopped, containers: readonly PodContainer[]) {
    this.#context = context;
    this.#of = of;
    this.#containers = containers;
  }

  /** All that still run are killed in this many ms: the grace period became shorter. */
  hurry(left: number): void {
    this.#killAt?.cancel();
    this.#killAt = this.#context.world.after(left, () => {
      for (const { current } of this.#containers) current?.signal("SIGKILL");
    });
  }

  /**
   * Stops everything: preStop hooks all at once, then containers together, and sidecars one by one when these have
   * ended, the last one first. `grace` in ms.
   */
  async all(grace: number): Promise<void> {
    let turn: Promise<unknown> | undefined;
    const stop = (container: PodContainer) =>
      this.one(container, `Stopping container ${container.name}`, grace, turn);
    const all = this.#containers.filter(({ role }) => role !== "sidecar").map(stop);
    for (const sidecar of this.#containers.filter(({ role }) => role === "sidecar").reverse()) {
      turn = Promise.all(all);
      all.push(stop(sidecar));
    }
    await Promise.all(all);
    this.#killAt?.cancel();
    this.#killAt = undefined;
  }

  /** Ends an instance, once: preStop hook, its turn, SIGTERM, and SIGKILL when the grace period (ms) is over. */
  one(container: PodContainer, message: string, grace: number, turn?: Promise<unknown>): Promise<void> {
    const instance = container.current;
    if (!instance || instance.exit) return Promise.resolve();
    let stopping = this.#under.get(instance);
    if (!stopping) {
      stopping = this.#end(container, instance, message, grace, turn);
      this.#under.set(instance, stopping);
    }
    return stopping;
  }

  async #end(
    container: PodContainer,
    instance: RunningContainer,
    message: string,
    grace: number,
    turn: Promise<unknown> | undefined,
  ): Promise<void> {
    const { world, events } = this.#context;
    const { fieldPath } = container;
    events.normal(this.#of.pod, "Killing", message, fieldPath);
    await instance.started;
    const end = world.monotonic() + grace;
    const within = async <T>(promise: Promise<T>): Promise<T | undefined> => {
      const { promise: tooLong, resolve } = Promise.withResolvers<undefined>();
      const timer = world.after(Math.max(0, end - world.monotonic()), () => resolve(undefined));
      const result = await Promise.race([promise, tooLong]);
      timer.cancel();
      return result;
    };
    const hook = container.spec.lifecycle?.preStop;
    if (hook && grace > 0) {
      const address = this.#of.network?.address ?? "";
      const failure = await within(runHook(hook, container.spec, instance, address, world));
      if (failure !== undefined) events.warning(this.#of.pod, "FailedPreStopHook", failure, fieldPath);
    }
    if (turn && grace > 0) await within(turn);
    const left = grace === 0 ? 0 : Math.max(leastGrace, end - world.monotonic());
    if (left > 0) instance.signal("SIGTERM");
    const timer = world.after(left, () => instance.signal("SIGKILL"));
    await instance.exited;
    timer.cancel();
    this.#under.delete(instance);
  }
}
