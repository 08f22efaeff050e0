/**
 * Container logs: files in the format of the CRI (`<RFC 3339> <stream> <F|P> <text>`), written as output comes and
 * read as `kubectl logs` asks. Source: kubernetes `pkg/kubelet/kuberuntime/logs`.
 */
import { type FileHandle, mkdir, open, rename, stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { World } from "../../world/index.ts";

export type OutputStream = "stdout" | "stderr";

/** A line longer than this is written in parts, as containerd does. Bytes. */
const longestLine = 16 * 1024;
/** A log file is put aside when it is longer than this (kubelet's containerLogMaxSize). Bytes. */
const rotateAt = 10 * 1024 * 1024;

/** Writes one container's log. Output that ends in the middle of a line is kept until the line is whole. */
export class LogWriter {
  readonly path: string;
  readonly #world: World;
  readonly #rest: Record<OutputStream, Buffer[]> = { stdout: [], stderr: [] };
  #queue: string[] = [];
  #writing: Promise<void> | undefined;
  #file: FileHandle | undefined;
  #size = 0;
  readonly #listeners = new Set<() => void>();

  constructor(path: string, world: World) {
    this.path = path;
    this.#world = world;
  }

  append(stream: OutputStream, chunk: Buffer): void {
    const prefix = `${logTimestamp(this.#world)} ${stream}`;
    const rest = this.#rest[stream];
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      rest.push(chunk.subarray(start, end));
      this.#line(prefix, "F", rest);
      start = end + 1;
    }
    if (start < chunk.length) rest.push(chunk.subarray(start));
    if (rest.reduce((sum, part) => sum + part.length, 0) >= longestLine) this.#line(prefix, "P", rest);
    this.#write();
  }

  /** Writes what is left of unfinished lines and resolves when everything is in the file. */
  async close(): Promise<void> {
    for (const stream of ["stdout", "stderr"] as const) {
      if (this.#rest[stream].length > 0)
        this.#line(`${logTimestamp(this.#world)} ${stream}`, "P", this.#rest[stream]);
    }
    this.#write();
    await this.#writing;
    await this.#file?.close();
    this.#file = undefined;
  }

  /** Calls `listener` when more is in the file. */
  onWritten(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #line(prefix: string, tag: "F" | "P", rest: Buffer[]): void {
    this.#queue.push(`${prefix} ${tag} ${Buffer.concat(rest).toString("utf8")}\n`);
    rest.length = 0;
  }

  #write(): void {
    if (this.#writing || this.#queue.length === 0) return;
    this.#writing = this.#drain().finally(() => {
      this.#writing = undefined;
      for (const listener of [...this.#listeners]) listener();
      this.#write();
    });
  }

  async #drain(): Promise<void> {
    try {
      if (this.#file && this.#size > rotateAt) {
        await this.#file.close();
        this.#file = undefined;
        await rename(this.path, `${this.path}.1`);
      }
      if (!this.#file) {
        await mkdir(dirname(this.path), { recursive: true });
        this.#file = await open(this.path, "a");
        this.#size = (await this.#file.stat()).size;
      }
      const text = Buffer.from(this.#queue.splice(0).join(""));
      await this.#file.write(text);
      this.#size += text.length;
    } catch {
      // A log that cannot be written (disk full, directory removed with the pod) must not stop the container.
    }
  }
}

function logTimestamp(world: World): string {
  return `${new Date(world.now()).toISOString().slice(0, -1)}000000Z`;
}

/** What may be asked of a log: the parameters of `GET …/pods/NAME/log`. */
export interface LogOptions {
  follow?: boolean;
  timestamps?: boolean;
  tailLines?: number;
  sinceSeconds?: number;
  /** RFC 3339. */
  sinceTime?: string;
  limitBytes?: number;
  /** Only what was written to this one. */
  stream?: OutputStream;
}

/** Where a follower waits: told when the log has grown, and whether it still can grow. */
export interface LogSource {
  onWritten(listener: () => void): () => void;
  /** True when nothing more will be written. */
  ended(): boolean;
}

/**
 * The text of a log as the client wants it. Ends at the end of the file, or with `follow` when the container has
 * ended or the signal is aborted. A file that is not there (yet) is an empty log.
 */
export async function* readLog(
  path: string,
  options: LogOptions,
  world: World,
  source?: LogSource,
  signal?: AbortSignal,
): AsyncGenerator<Buffer> {
  const since = sinceTime(options, world);
  let left = options.limitBytes ?? Number.POSITIVE_INFINITY;
  let file: FileHandle | undefined;
  let inode = 0;
  let offset = 0;
  let rest = "";
  let wake = () => {};
  let written = true;
  const unsubscribe = source?.onWritten(() => {
    written = true;
    wake();
  });
  const onAbort = () => wake();
  signal?.addEventListener("abort", onAbort);
  try {
    while (!signal?.aborted) {
      written = false;
      const ended = source?.ended() ?? true;
      if (!file) {
        file = await open(path, "r").catch(() => undefined);
        if (file) {
          inode = (await file.stat()).ino;
          if (offset === 0 && options.tailLines !== undefined)
            offset = await tailOffset(file, options.tailLines);
        }
      }
      for (;;) {
        if (!file || signal?.aborted) break;
        const buffer = Buffer.allocUnsafe(64 * 1024);
        const { bytesRead } = await file.read(buffer, 0, buffer.length, offset);
        if (bytesRead === 0) break;
        // A read may end inside a character: only whole lines are decoded.
        const end = buffer.lastIndexOf(10, bytesRead - 1);
        if (end < 0) {
          rest += buffer.toString("latin1", 0, bytesRead);
          offset += bytesRead;
          continue;
        }
        const lines = (Buffer.from(rest, "latin1").toString("utf8") + buffer.toString("utf8", 0, end)).split(
          "\n",
        );
        rest = buffer.toString("latin1", end + 1, bytesRead);
        offset += bytesRead;
        const text = Buffer.from(lines.map((line) => formatLine(line, since, options)).join(""));
        if (text.length >= left) {
          yield text.subarray(0, left);
          return;
        }
        left -= text.length;
        if (text.length > 0) yield text;
      }
      if (!options.follow) return;
      const current = await stat(path).catch(() => undefined);
      if (file && current && current.ino !== inode) {
        // The file was put aside and a new one begun.
        await file.close();
        file = undefined;
        offset = 0;
        options = { ...options, tailLines: undefined };
        continue;
      }
      if (ended) return;
      if (!written && !signal?.aborted) await new Promise<void>((resolve) => (wake = resolve));
    }
  } finally {
    unsubscribe?.();
    signal?.removeEventListener("abort", onAbort);
    await file?.close();
  }
}

function sinceTime(options: LogOptions, world: World): string | undefined {
  if (options.sinceSeconds !== undefined) {
    return new Date(world.now() - options.sinceSeconds * 1000).toISOString().slice(0, -1);
  }
  return options.sinceTime === undefined ? undefined : new Date(options.sinceTime).toISOString().slice(0, -1);
}

/** One line of the file as the client sees it; empty when it is older than asked. */
function formatLine(line: string, since: string | undefined, options: LogOptions): string {
  const afterTime = line.indexOf(" ");
  const time = line.slice(0, afterTime);
  if (since !== undefined && time < since) return "";
  const afterStream = line.indexOf(" ", afterTime + 1);
  if (options.stream && line.slice(afterTime + 1, afterStream) !== options.stream) return "";
  const tag = line[afterStream + 1];
  const text = line.slice(afterStream + 3);
  return `${options.timestamps ? `${time} ` : ""}${text}${tag === "P" ? "" : "\n"}`;
}

/** Where the last `count` lines of a file begin. */
async function tailOffset(file: FileHandle, count: number): Promise<number> {
  const { size } = await file.stat();
  if (count <= 0) return size;
  const buffer = Buffer.allocUnsafe(64 * 1024);
  let position = size;
  let found = 0;
  while (position > 0) {
    const start = Math.max(0, position - buffer.length);
    const { bytesRead } = await file.read(buffer, 0, position - start, start);
    for (let i = bytesRead - 1; i >= 0; i--) {
      if (buffer[i] === 10 && start + i + 1 < size && ++found === count) return start + i + 1;
    }
    position = start;
  }
  return 0;
}
