import type { Socket } from "node:net";
import type { Counter } from "../contract.ts";

/** Up to this much, what is written together is copied into one buffer: one system call, and no list of parts. */
const COPY_AT_MOST = 16_384;

/** The writers that have something to send when what runs now is done. */
let waiting: Writer[] = [];

function flushAll(): void {
  const writers = waiting;
  waiting = [];
  for (const writer of writers) writer.flush();
}

/**
 * Gathers what is written to a socket while one event is handled, and sends it together: a head and its body, or the
 * chunks of a response, cost one write.
 */
export class Writer {
  readonly #socket: Socket;
  #parts: (string | Buffer)[] = [];
  #bytes = 0;
  #listed = false;
  #ending = false;
  /** All that was ever written. */
  written = 0;

  readonly #counter: Counter;

  /** `counter`: of all bytes. */
  constructor(socket: Socket, counter: Counter) {
    this.#socket = socket;
    this.#counter = counter;
  }

  /** Bytes that the other side has not taken yet. */
  get queued(): number {
    return this.#bytes + this.#socket.writableLength;
  }

  /** Strings are bytes (latin1). */
  write(part: string | Buffer): void {
    if (part.length === 0) return;
    this.#parts.push(part);
    this.#bytes += part.length;
    this.written += part.length;
    this.#counter.value += part.length;
    this.#list();
  }

  /** Ends our side after what was written. */
  end(): void {
    this.#ending = true;
    this.#list();
  }

  #list(): void {
    if (this.#listed) return;
    this.#listed = true;
    if (waiting.push(this) === 1) queueMicrotask(flushAll);
  }

  flush(): void {
    this.#listed = false;
    const parts = this.#parts;
    const socket = this.#socket;
    if (socket.destroyed) {
      this.#parts = [];
      this.#bytes = 0;
      return;
    }
    if (parts.length > 0) {
      const bytes = this.#bytes;
      this.#parts = [];
      this.#bytes = 0;
      if (parts.length === 1) {
        const only = parts[0]!;
        if (typeof only === "string") socket.write(only, "latin1");
        else socket.write(only);
      } else if (bytes <= COPY_AT_MOST) {
        const buffer = Buffer.allocUnsafe(bytes);
        let at = 0;
        for (const part of parts) {
          if (typeof part === "string") at += buffer.write(part, at, "latin1");
          else at += part.copy(buffer, at);
        }
        socket.write(buffer);
      } else {
        socket.cork();
        for (const part of parts) {
          if (typeof part === "string") socket.write(part, "latin1");
          else socket.write(part);
        }
        socket.uncork();
      }
    }
    if (this.#ending) {
      this.#ending = false;
      socket.end();
    }
  }
}
