/**
 * What exec and attach have with their client, whichever protocol carries it: the program's standard streams, the
 * size of a terminal, and how it ended. `channels-websocket.ts` and `channels-spdy.ts` make them.
 */
import type { Readable, Writable } from "node:stream";
import { finished } from "node:stream/promises";
import type { Status } from "../../api/index.ts";

/** What the client wants of a stream. kube-apiserver says `input`, kubectl `stdin`. */
export interface StreamRequest {
  command: string[];
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  tty: boolean;
}

export interface Channels {
  /** Only those that were asked for. The end of `stdin` is the client's. */
  readonly stdin: Readable | undefined;
  readonly stdout: Writable | undefined;
  readonly stderr: Writable | undefined;
  /** Resolves when the client is gone. */
  readonly closed: Promise<void>;
  /** Told the sizes of the client's terminal, also one that came before. */
  onResize(handle: (columns: number, rows: number) => void): void;
  /** Says how it ended, behind all output that has ended, and closes. Only the first word counts. */
  end(status: Status): void;
  /** Ends without a word. */
  drop(): void;
}

export function readStreamRequest(query: URLSearchParams): StreamRequest {
  const flag = (...names: string[]) => names.some((name) => ["true", "1"].includes(query.get(name) ?? ""));
  const tty = flag("tty");
  return {
    command: query.getAll("command"),
    stdin: flag("stdin", "input"),
    stdout: flag("stdout", "output"),
    // A terminal has one output.
    stderr: flag("stderr", "error") && !tty,
    tty,
  };
}

/** How a program ended, as `kubectl exec` reads it: k8s.io/apimachinery `pkg/util/remotecommand/constants.go`. */
export function exitStatus(code: number): Status {
  if (code === 0) return { metadata: {}, status: "Success" };
  return {
    metadata: {},
    status: "Failure",
    message: `command terminated with non-zero exit code: error executing command, exit code ${code}`,
    reason: "NonZeroExitCode",
    details: { causes: [{ reason: "ExitCode", message: String(code) }] },
    code: 500,
  };
}

export function failure(message: string): Status {
  return { metadata: {}, status: "Failure", message, reason: "InternalError", code: 500 };
}

/** Copies all sources to their ends, then ends `to`. Resolves when all has been handed on, or the client is gone. */
export async function copyOutput(sources: readonly Readable[], to: Writable | undefined): Promise<void> {
  for (const source of sources) {
    if (to) source.pipe(to, { end: false });
    else source.resume();
  }
  // A program whose client is gone must not wait for it.
  to?.once("close", () => {
    for (const source of sources) source.resume();
  });
  await Promise.all(sources.map((source) => finished(source).catch(() => {})));
  if (to) await endOutput(to);
}

/** Ends an output. Resolves when all of it has been handed on, or the client is gone. */
export async function endOutput(to: Writable | undefined): Promise<void> {
  if (!to) return;
  to.end();
  await finished(to, { readable: false }).catch(() => {});
}

/** Reads terminal sizes, `{"Width":80,"Height":24}` one after the other, however they are cut. */
export class Sizes {
  #text = "";
  #last: [columns: number, rows: number] | undefined;
  #handle: ((columns: number, rows: number) => void) | undefined;

  onResize(handle: (columns: number, rows: number) => void): void {
    this.#handle = handle;
    if (this.#last) handle(...this.#last);
  }

  push(data: Buffer): void {
    // No size is that long: what is, is something else.
    this.#text = (this.#text + data.toString()).slice(-1024);
    for (let end = this.#text.indexOf("}"); end >= 0; end = this.#text.indexOf("}")) {
      const one = this.#text.slice(0, end + 1);
      this.#text = this.#text.slice(end + 1);
      try {
        const { Width, Height } = JSON.parse(one) as { Width?: unknown; Height?: unknown };
        if (!isSize(Width) || !isSize(Height)) continue;
        this.#last = [Width, Height];
        this.#handle?.(Width, Height);
      } catch {
        // No size at all: the terminal stays as it is.
      }
    }
  }
}

function isSize(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) > 0 && (value as number) <= 0xffff;
}
