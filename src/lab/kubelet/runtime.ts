/**
 * Containers as processes. Every container has a directory on the node's tmpfs with its scripts, its pipes, what it
 * is, when it started and how it ended: a kubelet that was killed finds everything there again. When the lab
 * ends, the tmpfs and the processes end together.
 */
import { spawn } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { closeSync, constants, existsSync, openSync, writeSync } from "node:fs";
import { mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { Socket } from "node:net";
import { join } from "node:path";
import type { World } from "../../world/index.ts";
import { namespaceFile, systemPath } from "../network/index.ts";
import { LogWriter, type OutputStream } from "./logs.ts";
import type { Machine } from "./machine.ts";
import { type ContainerConfig, containerFiles } from "./rootfs.ts";

/** What a container is; kept in its directory as `container.json`. */
export interface ContainerRecord {
  /** 32 hexadecimal digits; also the directory's name. */
  id: string;
  pod: { uid: string; namespace: string; name: string };
  /** Name of the container in the pod's spec. */
  name: string;
  /** How many containers of this name the pod had before: the restart count. */
  attempt: number;
  image: string;
  imageId: string;
  /** Path of the log file. */
  log: string;
  /** Network namespace. */
  network: string;
  /** Hash of the spec that it was made from. */
  config: ContainerConfig;
}

/** How a container ended. */
export interface ContainerExit {
  /** 128 + signal when it was killed. */
  code: number;
  /** Milliseconds since the epoch. */
  finishedAt: number;
  /** Why it never started, in the machine's words. */
  failure?: string;
  /** True when nobody saw it end. */
  lost?: boolean;
}

interface ContainerEvents {
  output: [stream: OutputStream, chunk: Buffer];
}

/** So much of what a container wrote before its client came is kept for that client. Bytes. */
const mostUnseen = 64 * 1024;
/** How long a client is waited for that the container was not made for (no stdinOnce). Milliseconds. */
const clientWithin = 5_000;

/** One container, running or ended. */
export class RunningContainer extends EventEmitter<ContainerEvents> {
  readonly record: ContainerRecord;
  readonly dir: string;
  readonly log: LogWriter;
  /** Process id of the container's first process, in the lab. */
  pid: number | undefined;
  /** Milliseconds since the epoch. */
  startedAt: number | undefined;
  exit: ContainerExit | undefined;
  /** Resolves when the program runs, or with `exit` set when it never will. */
  readonly started: Promise<void>;
  readonly exited: Promise<ContainerExit>;
  readonly #setStarted: () => void;
  readonly #setExited: (exit: ContainerExit) => void;
  #stdin: Socket | undefined;
  #ack: number | undefined;
  #unseen: [stream: OutputStream, chunk: Buffer][] | undefined;

  constructor(record: ContainerRecord, dir: string, world: World) {
    super();
    this.setMaxListeners(0);
    this.record = record;
    this.dir = dir;
    this.log = new LogWriter(record.log, world);
    const started = Promise.withResolvers<void>();
    const exited = Promise.withResolvers<ContainerExit>();
    this.started = started.promise;
    this.exited = exited.promise;
    this.#setStarted = started.resolve;
    this.#setExited = exited.resolve;
  }

  /** Starts the container's programs. Rejects when not even the shim could be started. */
  async launch(machine: Machine, extraFiles: Record<string, string>): Promise<void> {
    const { config, network } = this.record;
    this.#unseen = [];
    if (!config.stdinOnce) setTimeout(() => this.takeUnseen(), clientWithin).unref();
    await mkdir(join(this.dir, "root"), { recursive: true });
    const files = {
      ...containerFiles(machine, this.dir, config),
      ...extraFiles,
      "container.json": JSON.stringify(this.record),
    };
    await Promise.all(Object.entries(files).map(([name, text]) => writeFile(join(this.dir, name), text)));
    const shim = spawn(
      "/bin/sh",
      [join(this.dir, "../../shim"), this.dir, namespaceFile(network), config.stdin ? "stdin" : ""],
      { detached: true, stdio: ["ignore", "pipe", "ignore"], env: { PATH: systemPath, LC_ALL: "C" } },
    );
    shim.unref();
    await new Promise<void>((resolve, reject) => {
      shim.on("error", reject);
      shim.on("exit", () => reject(new Error("the container's pipes could not be made")));
      shim.stdout.once("data", () => resolve());
    });
    shim.stdout.destroy();
    this.listen();
  }

  /** Reads the container's pipes; the end of its output is its end. */
  listen(): void {
    const pipe = (name: string) => {
      const fd = openSync(join(this.dir, name), constants.O_RDONLY | constants.O_NONBLOCK);
      return new Socket({ fd, readable: true, writable: false });
    };
    const control = pipe("ctl");
    const outputs = (["stdout", "stderr"] as const).map((stream) => {
      const socket = pipe(stream === "stdout" ? "out" : "err");
      socket.on("data", (chunk) => {
        this.log.append(stream, chunk);
        this.#keep(stream, chunk);
        this.emit("output", stream, chunk);
      });
      return once(socket, "close");
    });
    let told = "";
    control.on("data", (chunk) => {
      told += chunk.toString();
      const lines = told.split("\n");
      told = lines.pop()!;
      for (const line of lines) {
        if (line === "started") void this.readStart();
        // The shim holds the pipes until it is told that somebody reads them.
        if (line === "exited") this.acknowledge();
      }
    });
    void Promise.all(outputs).then(async () => {
      control.destroy();
      await this.finish();
    });
  }

  #keep(stream: OutputStream, chunk: Buffer): void {
    const unseen = this.#unseen;
    if (!unseen) return;
    const kept = unseen.reduce((sum, [, { length }]) => sum + length, 0);
    if (kept + chunk.length <= mostUnseen) unseen.push([stream, chunk]);
  }

  /**
   * What the container has written, for the first client that attaches: one with stdinOnce was started for this
   * client, others may be (`kubectl run -i --overrides`). Without this, the client would miss what the program says
   * first. Nothing for later clients.
   */
  takeUnseen(): [stream: OutputStream, chunk: Buffer][] {
    const unseen = this.#unseen ?? [];
    this.#unseen = undefined;
    return unseen;
  }

  /** Lets the shim go. Opened for reading too, so that this never waits for a shim that is there no more. */
  acknowledge(): void {
    this.#ack ??= openSync(join(this.dir, "ack"), constants.O_RDWR | constants.O_NONBLOCK);
    writeSync(this.#ack, "\n");
  }

  /** Learns from the directory whether and as which process the container runs. */
  async readStart(): Promise<boolean> {
    const path = join(this.dir, "started");
    const line = await readFile(path, "utf8").catch(() => "");
    if (line === "") return false;
    this.pid = Number.parseInt(line, 10);
    this.startedAt = (await stat(path)).mtimeMs;
    this.#setStarted();
    return true;
  }

  async finish(): Promise<void> {
    await this.log.close();
    if (this.startedAt === undefined) await this.readStart();
    this.#stdin?.destroy();
    if (this.#ack !== undefined) closeSync(this.#ack);
    const path = join(this.dir, "exit");
    const code = await readFile(path, "utf8").catch(() => undefined);
    if (code === undefined) {
      this.exit = { code: 137, finishedAt: Date.now(), lost: true };
    } else {
      this.exit = { code: Number(code), finishedAt: (await stat(path)).mtimeMs };
    }
    if (this.startedAt === undefined) {
      const failure = await readFile(join(this.dir, "failure"), "utf8").catch(() => "");
      this.exit.failure = failure.trim() || `the container's setup failed with exit code ${this.exit.code}`;
    }
    this.pid = undefined;
    this.#setStarted();
    this.#setExited(this.exit);
  }

  /** Sends a signal to the container's first process. False when it is gone. */
  signal(signal: NodeJS.Signals): boolean {
    if (this.pid === undefined) return false;
    try {
      return process.kill(this.pid, signal);
    } catch {
      return false;
    }
  }

  /** Standard input, for containers that have one. */
  async stdin(): Promise<Socket | undefined> {
    if (!this.record.config.stdin || this.exit) return undefined;
    if (!this.#stdin || this.#stdin.destroyed) {
      const fd = openSync(join(this.dir, "in"), constants.O_WRONLY | constants.O_NONBLOCK);
      this.#stdin = new Socket({ fd, readable: false, writable: true });
      this.#stdin.on("error", () => {});
    }
    return this.#stdin;
  }

  /** Ends standard input (stdinOnce, after the first client that had it went). */
  async closeStdin(): Promise<void> {
    const keeper = await readFile(join(this.dir, "keeper"), "utf8").catch(() => "");
    this.#stdin?.end();
    try {
      if (keeper !== "") process.kill(Number(keeper), "SIGKILL");
    } catch {
      // Ended with the container.
    }
  }
}

/** All containers of a node. */
export class Runtime {
  readonly #machine: Machine;
  readonly #dir: string;
  readonly #world: World;
  readonly containers = new Map<string, RunningContainer>();

  constructor(machine: Machine, runDir: string, world: World) {
    this.#machine = machine;
    this.#dir = join(runDir, "containers");
    this.#world = world;
  }

  /** Starts a container; `files` (name → text) are put into its directory first. */
  async start(record: ContainerRecord, files: Record<string, string> = {}): Promise<RunningContainer> {
    const container = new RunningContainer(record, join(this.#dir, record.id), this.#world);
    this.containers.set(record.id, container);
    try {
      await container.launch(this.#machine, files);
    } catch (error) {
      await this.remove(container);
      throw error;
    }
    return container;
  }

  /** Finds the containers that an earlier kubelet of this node left, running or ended. */
  async adopt(): Promise<RunningContainer[]> {
    const names = await readdir(this.#dir).catch(() => []);
    for (const name of names) {
      const dir = join(this.#dir, name);
      let record: ContainerRecord;
      try {
        record = JSON.parse(await readFile(join(dir, "container.json"), "utf8")) as ContainerRecord;
      } catch {
        await rm(dir, { recursive: true, force: true });
        continue;
      }
      const container = new RunningContainer(record, dir, this.#world);
      const shim = await readFile(join(dir, "shim"), "utf8").catch(() => "");
      const running = (await container.readStart()) && (await isAlive(join(dir, "started")));
      if (running || (shim !== "" && (await isShim(Number(shim), dir)))) container.listen();
      else if (existsSync(join(dir, "started")) || existsSync(join(dir, "exit"))) await container.finish();
      else {
        // The kubelet ended before the container began: it was never there.
        await rm(dir, { recursive: true, force: true });
        continue;
      }
      this.containers.set(name, container);
    }
    return [...this.containers.values()];
  }

  of(podUid: string): RunningContainer[] {
    return [...this.containers.values()].filter(({ record }) => record.pod.uid === podUid);
  }

  /** Forgets a container that has ended. */
  async remove(container: RunningContainer): Promise<void> {
    this.containers.delete(container.record.id);
    await rm(container.dir, { recursive: true, force: true });
  }
}

/** Whether the process of a saved /proc/PID/stat line still is that process. */
async function isAlive(file: string): Promise<boolean> {
  const saved = await readFile(file, "utf8");
  const current = await readFile(`/proc/${Number.parseInt(saved, 10)}/stat`, "utf8").catch(() => "");
  return current !== "" && startTime(current) === startTime(saved) && state(current) !== "Z";
}

async function isShim(pid: number, dir: string): Promise<boolean> {
  const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
  return command.split("\0").includes(dir);
}

/** Fields 3 and 22 of proc(5)'s stat; the second field may hold anything, in parentheses. */
function state(line: string): string {
  return line.slice(line.lastIndexOf(")") + 2).split(" ")[0]!;
}
function startTime(line: string): string {
  return line.slice(line.lastIndexOf(")") + 2).split(" ")[19]!;
}
