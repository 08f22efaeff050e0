/** One stream: a request and its response, as their owner sees them. Source: RFC 9113, 5. */
import type { Connection } from "./connection.ts";
import { defaultFrameSize, errorCode, headSize } from "./frames.ts";
import { and, none } from "./pieces.ts";

/** How a stream came to its end: both ways did, or somebody cut it off. */
export type ClosedBy = "both" | "us" | "peer" | "connection";

/** What happens to a stream. Nothing is called after `closed`. */
export interface StreamEvents {
  /** The response's head (of a client's stream), informational ones (1xx) before it. */
  head?(fields: string[], end: boolean): void;
  data(chunk: Buffer): void;
  /** All of the message has come; not called where its head said that already. */
  end(trailers: string[] | undefined): void;
  /** What `data` refused has gone out. */
  drain?(): void;
  /** It is over; `code`: RFC 9113, 7. */
  closed(code: number, by: ClosedBy): void;
}

export class Stream {
  readonly id: number;
  readonly #connection: Connection;
  /** Whose it is; set before anything else is done with it. */
  events: StreamEvents | undefined;
  /** How much may be sent, and how much may come, bytes. */
  sendWindow: number;
  receiveWindow: number;
  #taken = 0;
  /** What `content-length` still promises, bytes; -1: nothing. */
  expected = -1;
  /** What is sent here is sent on streams of other connections too, in the same pieces. */
  shares = false;
  /** The answer to HEAD promises a body that does not come. */
  bodyless = false;
  /** The head has come (of a client's stream: the final one). */
  headed = false;
  remoteEnded = false;
  localEnded = false;
  over = false;
  /** Bytes of frames that came and are no data: heads, trailers, framing; and of all HEADERS and DATA that went. */
  overhead = 0;
  sent = 0;
  #waiting: Buffer[] = none;
  #queued = 0;
  #end: { trailers: readonly string[] | undefined } | undefined;
  #refused = false;
  #sent: (() => void)[] | undefined;
  #paused = false;
  #kept: Buffer[] = [];
  #keptEnd: { trailers: string[] | undefined } | undefined;

  constructor(connection: Connection, id: number, sendWindow: number) {
    this.#connection = connection;
    this.id = id;
    this.sendWindow = sendWindow;
    this.receiveWindow = connection.streamWindow;
  }

  // ------------------------------------------------------------------------------------------------ sending

  /** A response's head, and informational ones before it. */
  head(fields: readonly string[], end: boolean): void {
    if (this.over || this.localEnded) return;
    this.#connection.outgoing.headers(this, fields, end);
    if (end) this.#ended();
  }

  /** The bytes are not to be changed any more. False: enough waits; `drain` comes. */
  data(chunk: Buffer): boolean {
    if (this.over || this.localEnded || this.#end) return true;
    if (chunk.length > 0) {
      this.#waiting = and(this.#waiting, chunk);
      this.#queued += chunk.length;
      // What waited before may go with it.
      if (this.#connection.outgoing.data(this)) this.emptied();
    }
    this.#refused ||= this.#queued >= this.#connection.highWater;
    return !this.#refused;
  }

  end(trailers?: readonly string[]): void {
    if (this.over || this.localEnded || this.#end) return;
    this.#end = { trailers };
    if (this.#queued === 0) this.emptied();
  }

  /** Calls back when all that was given so far has left this process, or never will. */
  whenSent(call: () => void): void {
    if (this.over) call();
    else if (this.#queued === 0) this.#connection.outgoing.whenFlushed(call);
    else {
      this.#sent ??= [];
      this.#sent.push(call);
    }
  }

  /** Cuts it off at once, both ways. */
  reset(code: number = errorCode.CANCEL): void {
    this.#connection.reset(this, code);
  }

  /** Nothing will be given to send any more: what was given is out or waits. */
  get ending(): boolean {
    return this.localEnded || this.#end !== undefined;
  }

  /** Bytes of frames: those that went, and those that what waits will need. */
  get given(): number {
    return this.sent + this.#queued + Math.ceil(this.#queued / defaultFrameSize) * headSize;
  }

  /** Bytes that wait here for a window, or for the socket. */
  get queued(): number {
    return this.#queued;
  }

  /** The next bytes to send, at most `most`. For the connection. */
  take(most: number): Buffer {
    const first = this.#waiting[0]!;
    const whole = first.length <= most;
    if (!whole) this.#waiting[0] = first.subarray(most);
    else if (this.#waiting.length > 1) this.#waiting.shift();
    else this.#waiting = none;
    const taken = whole ? first : first.subarray(0, most);
    this.#queued -= taken.length;
    return taken;
  }

  /** All that waited has gone. For the connection. */
  emptied(): void {
    const { outgoing } = this.#connection;
    if (this.#sent) {
      for (const call of this.#sent) outgoing.whenFlushed(call);
      this.#sent = undefined;
    }
    if (this.#end) {
      const { trailers } = this.#end;
      this.#end = undefined;
      if (trailers && trailers.length > 0) outgoing.headers(this, trailers, true);
      else outgoing.end(this);
      this.#ended();
    } else if (this.#refused) {
      this.#refused = false;
      this.events?.drain?.();
    }
  }

  #ended(): void {
    this.localEnded = true;
    this.#connection.ended(this);
  }

  // ---------------------------------------------------------------------------------------------- receiving

  /** What comes is kept back, and the peer stops when its window is used up. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    // Whom it is given to may pause and resume again: what is kept stays in order.
    while (!this.#paused && this.#kept.length > 0) this.#give(this.#kept.shift()!);
    const end = this.#keptEnd;
    if (!end || this.#paused) return;
    this.#keptEnd = undefined;
    this.#giveEnd(end.trailers);
  }

  /** Data came. For the connection. */
  arrived(chunk: Buffer): void {
    if (this.#paused) this.#kept.push(chunk);
    else this.#give(chunk);
  }

  /** All of the message came. For the connection. */
  arrivedEnd(trailers: string[] | undefined): void {
    this.remoteEnded = true;
    if (this.#paused) this.#keptEnd = { trailers };
    else this.#giveEnd(trailers);
  }

  /** Its end came and was not told yet. */
  get endKept(): boolean {
    return this.#keptEnd !== undefined;
  }

  #give(chunk: Buffer): void {
    if (this.over) return;
    this.events?.data(chunk);
    this.taken(chunk.length);
  }

  #giveEnd(trailers: string[] | undefined): void {
    if (this.over) return;
    this.events?.end(trailers);
    this.#connection.ended(this);
  }

  /** So many bytes need no place here any more: as many more may come. For the connection. */
  taken(bytes: number): void {
    this.#connection.taken(bytes);
    if (this.over || this.remoteEnded) return;
    this.#taken += bytes;
    if (this.#taken * 2 < this.#connection.streamWindow) return;
    this.receiveWindow += this.#taken;
    this.#connection.outgoing.windowUpdate(this.id, this.#taken);
    this.#taken = 0;
  }

  /** For the connection. */
  close(code: number, by: ClosedBy): void {
    this.over = true;
    for (const { length } of this.#kept) this.#connection.taken(length);
    this.#kept = [];
    this.#waiting = none;
    this.#queued = 0;
    for (const call of this.#sent ?? []) call();
    this.#sent = undefined;
    const { events } = this;
    this.events = undefined;
    events?.closed(code, by);
  }
}
