/** Files of lines (access logs): written in batches, so that a line costs no system call of its own. */
import { createWriteStream, type WriteStream } from "node:fs";
import type { World } from "../world/index.ts";
import type { LogSink } from "./contract.ts";

/** Lines are written when this much is gathered, or after `patience` ms. Envoy flushes every 10 s or 64 KiB. */
const batch = 65_536;
const patience = 100;

/** The sinks by path; `/dev/stdout` and `/dev/stderr` are the process's own streams. */
export class LogFiles {
  readonly #world: World;
  readonly #sinks = new Map<string, BatchingSink>();

  constructor(world: World) {
    this.#world = world;
  }

  get(path: string): LogSink {
    let sink = this.#sinks.get(path);
    if (!sink) {
      const out =
        path === "/dev/stdout" ? process.stdout : path === "/dev/stderr" ? process.stderr : new File(path);
      sink = new BatchingSink(this.#world, out);
      this.#sinks.set(path, sink);
    }
    return sink;
  }

  flush(): void {
    for (const sink of this.#sinks.values()) sink.flush();
  }
}

/** A file that is opened with its first line; one that cannot be opened takes nothing and harms nothing. */
class File {
  readonly #path: string;
  #stream: WriteStream | undefined;
  constructor(path: string) {
    this.#path = path;
  }
  write(text: string): void {
    if (!this.#stream) {
      this.#stream = createWriteStream(this.#path, { flags: "a" });
      this.#stream.on("error", () => undefined);
    }
    this.#stream.write(text);
  }
}

class BatchingSink implements LogSink {
  readonly #world: World;
  readonly #out: { write(text: string): unknown };
  #lines = "";
  #waiting = false;

  constructor(world: World, out: { write(text: string): unknown }) {
    this.#world = world;
    this.#out = out;
  }

  write(line: string): void {
    this.#lines += line;
    if (this.#lines.length >= batch) this.flush();
    else if (!this.#waiting) {
      this.#waiting = true;
      this.#world.after(patience, () => {
        this.#waiting = false;
        this.flush();
      });
    }
  }

  flush(): void {
    if (!this.#lines) return;
    const lines = this.#lines;
    this.#lines = "";
    this.#out.write(lines);
  }
}
