/** Running nft: whole files by a process of their own, small transactions by one that stays. */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import type { Timer, World } from "../../../world/index.ts";
import { type Run, run as runHere, systemPath } from "../run.ts";

/** nft refused a transaction, of which nothing was done. */
export class NftError extends Error {
  constructor(said: string) {
    super(`nft: ${said.trim().split("\n").slice(0, 3).join(" ").slice(0, 500)}`);
    this.name = "NftError";
  }
}

export interface NftOptions {
  world: World;
  /** The command, `["nft"]` unless told; tests put `ip netns exec …` before it. */
  command?: readonly string[];
  run?: Run;
}

/**
 * After every transaction nft is asked what `ip ttl` is, which it knows without the kernel: when that answer is
 * there, the transaction is done. It begins so:
 */
const question = "describe ip ttl";
const answer = "payload expression,";
/** A fresh process after so many transactions: nft remembers all that it was ever told, for its history. */
const life = 5_000;
/** A process with nothing to do goes after this time, in milliseconds. */
const idleTime = 60_000;
/** A transaction that takes longer than this, in milliseconds, never ends. */
const patience = 30_000;

/**
 * Transactions to one nft that stays (`nft -i`). At 1,000 Services and 10,000 endpoints this is three times as fast
 * as a new nft for each. Where nft was built without its interactive mode, each transaction gets its own.
 */
export class NftSession {
  readonly #world: World;
  readonly #command: readonly string[];
  readonly #run: Run;
  #process: ChildProcessWithoutNullStreams | undefined;
  #transactions = 0;
  #output = "";
  #waiting: { resolve: (said: string) => void; reject: (error: Error) => void } | undefined;
  #idle: Timer | undefined;
  #interactive = true;

  constructor(options: NftOptions) {
    this.#world = options.world;
    this.#command = options.command ?? ["nft"];
    this.#run = options.run ?? runHere;
  }

  /** Runs a file of any size in one transaction. */
  async file(text: string): Promise<void> {
    await this.#run([...this.#command, "-f", "-"], text);
  }

  /** Runs commands, one per line, in one transaction. One call at a time. Rejects with NftError if nft refuses. */
  async transaction(commands: string): Promise<void> {
    if (!this.#interactive) return this.file(commands);
    let said: string;
    try {
      said = await this.#ask(commands.replaceAll("\n", "; "));
    } catch (error) {
      if (!(error instanceof NotInteractive)) throw error;
      this.#interactive = false;
      return this.file(commands);
    }
    if (said.includes("Error:")) throw new NftError(said);
  }

  stop(): void {
    this.#idle?.cancel();
    this.#process?.kill("SIGKILL");
    this.#process = undefined;
  }

  async #ask(line: string): Promise<string> {
    this.#idle?.cancel();
    if (++this.#transactions % life === 0) this.stop();
    const child = this.#process ?? this.#start();
    const timer = this.#world.after(patience, () => this.#broken(child, new NftError("no answer")));
    try {
      return await new Promise((resolve, reject) => {
        this.#waiting = { resolve, reject };
        child.stdin.write(`${line}\n${question}\n`);
      });
    } finally {
      timer.cancel();
      this.#idle = this.#world.after(idleTime, () => this.stop());
    }
  }

  #start(): ChildProcessWithoutNullStreams {
    // Errors and answers in one stream, so that their order is kept.
    const command = ["/bin/sh", "-c", 'exec "$@" 2>&1', "sh", ...this.#command, "-i"];
    const child = spawn(command[0]!, command.slice(1), {
      // No home: nft would write a history file into it.
      env: { PATH: systemPath, LC_ALL: "C", HOME: "/dev/null" },
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.#process = child;
    this.#output = "";
    child.stdout.setEncoding("utf8");
    child.stdout.on("data", (text: string) => {
      if (child !== this.#process) return;
      this.#output += text;
      const at = this.#output.indexOf(answer);
      // The answer ends with its line.
      if (at < 0 || !this.#output.includes("\n", at)) return;
      const said = this.#output.slice(0, at);
      this.#output = "";
      this.#waiting?.resolve(said);
      this.#waiting = undefined;
    });
    child.stdin.on("error", () => {});
    child.on("error", (error) => this.#broken(child, error));
    child.on("close", () => {
      const isMissing = /interactive/i.test(this.#output);
      this.#broken(child, isMissing ? new NotInteractive() : new NftError(this.#output || "nft ended"));
    });
    return child;
  }

  #broken(child: ChildProcessWithoutNullStreams, error: Error): void {
    if (child !== this.#process) return;
    this.#process = undefined;
    child.kill("SIGKILL");
    this.#waiting?.reject(error);
    this.#waiting = undefined;
  }
}

/** This nft has no interactive mode ("libnftables: interactive CLI not supported in this build"). */
class NotInteractive extends Error {}
