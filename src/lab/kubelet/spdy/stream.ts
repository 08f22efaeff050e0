/** One stream of a session, as a Node stream: `end` half-closes it, `destroy` resets it. */
import { Duplex } from "node:stream";
import { type Frame, reset } from "./frames.ts";
import type { Headers } from "./headers.ts";

/** What a stream needs of its session. */
export interface StreamPort {
  /** Sends a frame; `done` when the connection has taken it, or never will. */
  write(frame: Frame, done?: () => void): void;
  /** How much may be sent by a stream that has that window left. */
  allowed(window: number): number;
  /** The stream is over. */
  gone(): void;
}

/** The peer reset the stream, or the connection was lost. */
export class StreamReset extends Error {
  /** RST_STREAM's status; undefined when the connection was lost. */
  readonly status: number | undefined;

  constructor(status: number | undefined) {
    super(status === undefined ? "the connection was lost" : `the stream was reset (status ${status})`);
    this.status = status;
  }
}

/** How much is read ahead of whoever uses the stream, and acknowledged at a time. Bytes. */
const readAhead = 64 * 1024;
const acknowledgeEvery = readAhead / 2;
/** The largest DATA frame that we send. Bytes. */
const largestFrame = 32 * 1024;
/** No window may be larger (section 2.6.8). */
export const largestWindow = 0x7fffffff;

export class SpdyStream extends Duplex {
  readonly id: number;
  /** What the stream was begun with. */
  readonly headers: Headers;
  /** Resolves with the headers of the peer's answer. Rejects when there is none. */
  readonly reply: Promise<Headers>;
  readonly #port: StreamPort;
  readonly #answer = Promise.withResolvers<Headers>();
  /** How much the peer is ready to take; below zero when it said so late. */
  #window: number;
  #blocked: (() => void) | undefined;
  #unacknowledged = 0;
  #roomMade: (() => void) | undefined;
  #heardAll = false;
  #saidAll = false;
  #isReset = false;

  constructor(id: number, headers: Headers, window: number, port: StreamPort) {
    super({ allowHalfOpen: true, readableHighWaterMark: readAhead, writableHighWaterMark: readAhead });
    this.id = id;
    this.headers = headers;
    this.#window = window;
    this.#port = port;
    this.reply = this.#answer.promise;
    this.reply.catch(() => {});
    this.on("error", () => {});
  }

  /** Answers a stream that the peer began: it may go on. */
  accept(headers: Headers = new Map()): void {
    this.#port.write({ type: "synReply", stream: this.id, headers, fin: false });
  }

  /** Ends the stream both ways at once. */
  reset(status: number): void {
    if (!this.#isReset) this.#port.write({ type: "rstStream", stream: this.id, status });
    this.#isReset = true;
    this.destroy();
  }

  replied(headers: Headers): void {
    this.#answer.resolve(headers);
  }

  /** Data of the peer. Resolves when there is room for more. */
  async receive(data: Buffer, fin: boolean): Promise<void> {
    if (this.#heardAll || this.destroyed) return;
    this.#unacknowledged += data.length;
    // A copy of what is small: the chunk that it is a part of may be large.
    const isFull = data.length > 0 && !this.push(data.length < 1024 ? Buffer.from(data) : data);
    if (fin) {
      this.#heardAll = true;
      this.push(null);
      return;
    }
    if (isFull) {
      await new Promise<void>((resolve) => {
        this.#roomMade = resolve;
      });
    }
  }

  wasReset(status: number): void {
    this.#isReset = true;
    this.destroy(new StreamReset(status));
  }

  /** The connection is gone. */
  lost(): void {
    this.#isReset = true;
    if (this.#heardAll && this.writableFinished) return;
    this.destroy(new StreamReset(undefined));
  }

  /** The peer is ready to take more, or less. False when that is more than there can be. */
  windowGrew(delta: number): boolean {
    this.#window += delta;
    this.#blocked?.();
    return this.#window <= largestWindow;
  }

  override _read(): void {
    this.#roomMade?.();
    this.#roomMade = undefined;
    if (this.#unacknowledged < acknowledgeEvery || this.#heardAll) return;
    this.#port.write({ type: "windowUpdate", stream: this.id, delta: this.#unacknowledged });
    this.#unacknowledged = 0;
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    void this.#send(chunk).then(() => callback(), callback);
  }

  async #send(data: Buffer): Promise<void> {
    for (let at = 0; at < data.length && !this.destroyed; ) {
      const allowed = this.#port.allowed(this.#window);
      if (allowed <= 0) {
        await new Promise<void>((resolve) => {
          this.#blocked = resolve;
        });
        continue;
      }
      const part = data.subarray(at, at + Math.min(largestFrame, allowed));
      at += part.length;
      this.#window -= part.length;
      await new Promise<void>((done) =>
        this.#port.write({ type: "data", stream: this.id, data: part, fin: false }, done),
      );
    }
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#saidAll = true;
    this.#port.write({ type: "data", stream: this.id, data: Buffer.alloc(0), fin: true }, () => callback());
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#roomMade?.();
    this.#blocked?.();
    if (!this.#isReset && !(this.#heardAll && this.#saidAll)) {
      this.#port.write({ type: "rstStream", stream: this.id, status: reset.cancel });
    }
    this.#isReset = true;
    this.#port.gone();
    this.#answer.reject(error ?? new StreamReset(undefined));
    callback(error);
  }
}
