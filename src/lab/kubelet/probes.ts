/** The probes of one running container. Source: kubernetes `pkg/kubelet/prober/worker.go`. */
import type { Probe } from "../../api/index.ts";
import type { Timer, World } from "../../world/index.ts";
import type { PodContainer } from "./container.ts";
import { runProbe, type Verdict } from "./probe-actions.ts";
import type { RunningContainer } from "./runtime.ts";

export interface ProbesOptions {
  world: World;
  container: PodContainer;
  instance: RunningContainer;
  /** The pod's address. */
  address: string;
  /** `ready` or `started` changed. */
  onChange(): void;
  /** A probe failed; the message is for an Event. */
  onResult(message: string): void;
  /** The container is to be ended; the message is for an Event. */
  onDead(message: string): void;
}

/** `ready` and `started` as the pod's status shows them. */
export class Probes {
  readonly #options: ProbesOptions;
  ready: boolean;
  started: boolean;
  readonly #workers: Worker[] = [];

  constructor(options: ProbesOptions) {
    this.#options = options;
    const { startupProbe, readinessProbe } = options.container.spec;
    // After a restart of the kubelet, what was known of the same instance holds until a probe says otherwise.
    this.started = !startupProbe || options.container.started;
    this.ready = this.started && (!readinessProbe || options.container.ready);
  }

  start(): void {
    const { startupProbe, livenessProbe, readinessProbe } = this.#options.container.spec;
    if (startupProbe && !this.started) {
      this.#run("Startup", startupProbe, (passed) => {
        if (!passed) return this.#die("startup");
        this.started = true;
        if (!readinessProbe) this.ready = true;
        this.#options.onChange();
        this.#startOthers(livenessProbe, readinessProbe);
      });
    } else this.#startOthers(livenessProbe, readinessProbe);
    this.#options.onChange();
  }

  stop(): void {
    for (const worker of this.#workers) worker.stop();
    this.ready = false;
    this.started = false;
  }

  #startOthers(liveness: Probe | undefined, readiness: Probe | undefined): void {
    if (liveness) this.#run("Liveness", liveness, (passed) => passed || this.#die("liveness"));
    if (readiness) {
      this.#run("Readiness", readiness, (passed) => {
        if (passed === this.ready) return;
        this.ready = passed;
        this.#options.onChange();
      });
    }
  }

  #die(kind: string): void {
    const { container } = this.#options;
    this.#options.onDead(`Container ${container.name} failed ${kind} probe, will be restarted`);
  }

  #run(kind: "Startup" | "Liveness" | "Readiness", probe: Probe, onVerdict: (passed: boolean) => void): void {
    const { world, container, instance, address, onResult } = this.#options;
    const looksBetween = kind === "Readiness" && !probe.exec;
    const worker: Worker = new Worker(world, probe, looksBetween, {
      ask: () => runProbe(probe, container.spec, instance, address),
      onFailure: (message) => onResult(`${kind} probe failed: ${message}`),
      onVerdict: (passed) => {
        // One verdict ends a startup probe; a container that is to die is not asked again.
        if (kind === "Startup" || (kind === "Liveness" && !passed)) worker.stop();
        onVerdict(passed);
      },
    });
    this.#workers.push(worker);
    worker.start(instance.startedAt ?? world.now());
  }
}

/** The first pause between two looks in between, in milliseconds; each is twice as long as the one before. */
const firstPause = 25;

/**
 * Asks every `periodSeconds` and gives a verdict when enough answers in a row agree.
 *
 * With `looksBetween` it also asks in between until it is answered well for the first time, so that a container is
 * ready when it is and not up to a period later. Bad answers to these do not count. (kubelet, too, runs a readiness
 * probe out of turn while the container is not ready: `prober_manager.go`, UpdatePodStatus.)
 */
class Worker {
  readonly #world: World;
  readonly #probe: Probe;
  #looksBetween: boolean;
  #pause = firstPause;
  /** Monotonic time of the next round that counts. */
  #due = 0;
  readonly #calls: {
    ask(): Promise<Verdict>;
    onFailure(message: string): void;
    onVerdict(passed: boolean): void;
  };
  #row = 0;
  #last: boolean | undefined;
  #timer: Timer | undefined;
  #stopped = false;

  constructor(world: World, probe: Probe, looksBetween: boolean, calls: Worker["calls"]) {
    this.#world = world;
    this.#probe = probe;
    this.#looksBetween = looksBetween;
    this.#calls = calls;
  }

  get calls() {
    return this.#calls;
  }

  start(startedAt: number): void {
    const delay = startedAt + (this.#probe.initialDelaySeconds ?? 0) * 1000 - this.#world.now();
    this.#timer = this.#world.after(Math.max(0, delay), () => void this.#round());
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  async #round(): Promise<void> {
    const began = this.#world.monotonic();
    const counts = !this.#looksBetween || began >= this.#due;
    if (counts) this.#due = began + (this.#probe.periodSeconds ?? 10) * 1000;
    let verdict: Verdict;
    try {
      verdict = await this.#calls.ask();
    } catch (error) {
      verdict = (error as Error).message;
    }
    if (this.#stopped) return;
    const passed = verdict === undefined;
    if (passed) this.#looksBetween = false;
    if (passed || counts) this.#answered(verdict);
    if (this.#stopped) return;
    const left = Math.max(0, this.#due - this.#world.monotonic());
    const delay = this.#looksBetween ? Math.min(left, this.#pause) : left;
    this.#pause *= 2;
    this.#timer = this.#world.after(delay, () => void this.#round());
  }

  #answered(verdict: Verdict): void {
    const passed = verdict === undefined;
    this.#row = this.#last === passed ? this.#row + 1 : 1;
    this.#last = passed;
    if (!passed) this.#calls.onFailure(verdict);
    const threshold = passed ? (this.#probe.successThreshold ?? 1) : (this.#probe.failureThreshold ?? 3);
    if (this.#row >= threshold) this.#calls.onVerdict(passed);
  }
}
