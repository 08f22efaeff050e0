/** Running nft: whole tables by a process of their own, small transactions by one that stays. */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import type { Timer, World } from "../../../world/index.ts";
import { run, systemPath } from "../run.ts";

/** nft refused a transaction, of which nothing was done, or ended before it said so. */
class NftError extends Error {
  constructor(said: string) {
    super(`nft: ${said.trim().split("\n").slice(0, 3).join(" ").slice(0, 500)}`);
    this.name = "NftError";
  }
}

export interface NftOptions {
  world: World;
  /** The command, `["nft"]` unless told; tests put `ip netns exec …` before it. */
  command?: readonly string[];
}

/**
 * After every transaction nft is asked what `ip ttl` is, which it knows without the kernel: when that answer is
 * there, the transaction is done.
 */
const question = "describe ip ttl";
const answer = "payload expression,";
/** A fresh process after so many transactions: nft keeps all that it was ever told, for its history. */
const life = 5_000;
/** A process with nothing to do goes after this time, in milliseconds. */
const idleTime = 60_000;
/** Without an answer for so long, in milliseconds, there will be none. */
const patience = 10_000;

/**
 * Transactions to one nft that stays (`nft -i`): at 1,000 Services and 10,000 endpoints 4 ms each on a busy machine,
 * where a process for each takes 9 ms and now and then a quarter of a second. Where nft has no interactive mode
 * that we understand, each transaction gets its own process after all.
 */
export class NftSession {
  readonly #world: World;
  readonly #command: readonly string[];
  #process: ChildProcessWithoutNullStreams | undefined;
  #transactions = 0;
  #output = "";
  #waiting: { resolve: (said: string) => void; reject: (error: Error) => void } | undefined;
  #idle: Timer | undefined;
  /** Whether `nft -i` answers as we expect; undefined until it was tried. */
  #interactive: boolean | undefined;

  constructor(options: NftOptions) {
    this.#world = options.world;
    this.#command = options.command ?? ["nft"];
  }

  /** Runs a file of any size in one transaction. Rejects with what nft says if it refuses. */
  async file(text: string): Promise<void> {
    await run([...this.#command, "-f", "-"], text);
  }

  /** Runs commands, one per line, in one transaction. One call at a time. Rejects with what nft says if it refuses. */
  async transaction(commands: string): Promise<void> {
    this.#interactive ??= await this.#ask("").then(
      () => true,
      () => false,
    );
    if (!this.#interactive) return this.file(commands);
    const said = await this.#ask(commands.replaceAll("\n", "; "));
    if (said.includes("Error:")) throw new NftError(said);
  }

  stop(): void {
    this.#idle?.cancel();
    if (this.#process) this.#broken(this.#process, new NftError("stopped"));
  }

  /** Sends one line; resolves with what nft says to it, which is nothing when all is well. */
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
      if (this.#process) this.#idle = this.#world.after(idleTime, () => this.stop());
    }
  }

  #start(): ChildProcessWithoutNullStreams {
    // Errors and answers in one stream, so that their order is kept.
    const child = spawn("/bin/sh", ["-c", 'exec "$@" 2>&1', "sh", ...this.#command, "-i"], {
      // No home: nft would write a history file into it.
      env: { PATH: systemPath, LC_ALL: "C", HOME: "/dev/null" },
    });
    this.#process = child;
    this.#output = "";
    child.stdout.setEncoding("utf8");
    child.stdout.on("data", (text: string) => {
      if (child === this.#process) this.#heard(text);
    });
    child.stdin.on("error", () => {}); // Its end is told by `close`.
    child.on("error", (error) => this.#broken(child, error));
    child.on("close", () => this.#broken(child, new NftError(this.#output || "it ended")));
    return child;
  }

  #heard(text: string): void {
    this.#output += text;
    const at = this.#output.indexOf(answer);
    // The answer ends with its line.
    if (at < 0 || !this.#output.includes("\n", at)) return;
    const said = this.#output.slice(0, at);
    this.#output = "";
    this.#waiting?.resolve(said);
    this.#waiting = undefined;
  }

  #broken(child: ChildProcessWithoutNullStreams, error: Error): void {
    if (child !== this.#process) return;
    this.#process = undefined;
    child.kill("SIGKILL");
    this.#waiting?.reject(error);
    this.#waiting = undefined;
  }
}
