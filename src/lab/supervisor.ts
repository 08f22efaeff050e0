/** Keeps a process running: starts it, hears when it is ready, starts it again when it ends. */
import { type ChildProcess, spawn } from "node:child_process";
import type { Socket } from "node:net";
import type { Timer, World } from "../world/index.ts";

export interface ProcessSpec {
  /** As in the status and the log. */
  name: string;
  command: readonly string[];
  env: NodeJS.ProcessEnv;
}

const firstDelay = 100;
const maxDelay = 5_000;
/** A process that ran this long (ms) is started again at once when it ends. */
const stable = 10_000;

/** One supervised process. It tells that it is ready by sending `"ready"` on its IPC channel. */
export class Supervised {
  readonly spec: ProcessSpec;
  state: "running" | "starting" | "stopped" = "stopped";
  restarts = 0;
  #world: World;
  #child: ChildProcess | undefined;
  #timer: Timer | undefined;
  #delay = firstDelay;
  #wanted = false;
  readonly #onReady: () => void;
  readonly #onEnd: (reason: string) => void;
  readonly #onMessage: (message: unknown) => void;

  /**
   * `onReady` is called each time the process becomes ready, `onEnd` each time it ends without being told to, and
   * `onMessage` with what else it says.
   */
  constructor(
    world: World,
    spec: ProcessSpec,
    onReady: () => void,
    onEnd: (reason: string) => void,
    onMessage: (message: unknown) => void = () => {},
  ) {
    this.#onMessage = onMessage;
    this.#world = world;
    this.spec = spec;
    this.#onReady = onReady;
    this.#onEnd = onEnd;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  start(): void {
    this.#wanted = true;
    if (!this.#child && !this.#timer) this.#spawn();
  }

  /** Ends the process and what it started, and keeps it ended. Resolves when it is gone. */
  async stop(): Promise<void> {
    this.#wanted = false;
    this.#timer?.cancel();
    this.#timer = undefined;
    const child = this.#child;
    if (!child) return;
    const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    try {
      process.kill(-child.pid!, "SIGKILL");
    } catch {
      // It never started, or has just ended.
    }
    await gone;
  }

  /** Hands a connection over, which is ours no more. False while there is nobody to take it. */
  hand(message: object, socket: Socket): boolean {
    const child = this.#child;
    if (!child?.connected) return false;
    // What `send` answers is about its queue: one that waits in it is sent as well.
    child.send(message, socket, (error) => {
      if (error) socket.destroy();
    });
    return true;
  }

  kill(): void {
    this.#child?.kill("SIGKILL");
  }

  #spawn(): void {
    const { command, env } = this.spec;
    this.state = "starting";
    const started = this.#world.monotonic();
    const child = spawn(command[0]!, command.slice(1), {
      env,
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      // A process group of its own: what it starts ends with it.
      detached: true,
    });
    this.#child = child;
    child.on("message", (message) => {
      if (message !== "ready") return this.#onMessage(message);
      this.state = "running";
      this.#onReady();
    });
    const ended = (reason: string) => {
      if (this.#child !== child) return;
      this.#child = undefined;
      this.state = "stopped";
      if (!this.#wanted) return;
      this.#onEnd(reason);
      if (this.#world.monotonic() - started > stable) this.#delay = firstDelay;
      this.restarts++;
      this.#timer = this.#world.after(this.#delay, () => {
        this.#timer = undefined;
        this.#spawn();
      });
      this.#delay = Math.min(this.#delay * 2, maxDelay);
    };
    child.on("error", (error) => ended(error.message));
    child.on("exit", (code, signal) => ended(signal ? `killed by ${signal}` : `exit code ${code}`));
  }
}
