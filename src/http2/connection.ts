/**
 * One connection in HTTP/2, either end of it, on a socket that is given: its streams, and how it begins and ends. What
 * comes is read by `Incoming`, what goes is written by `Outgoing`. Source: RFC 9113. Why not node:http2: it makes two
 * objects of the runtime's streams for each request, and costs several times as much.
 */
import type { Duplex } from "node:stream";
import type { Timer, World } from "../world/index.ts";
import { Floods } from "./floods.ts";
import {
  ConnectionError,
  checkWindow,
  defaultWindow,
  errorCode,
  frame,
  goawayFrame,
  largestStreamId,
  numberFrame,
  pingFrame,
  preface,
  setting,
  settingsFrame,
} from "./frames.ts";
import { Incoming } from "./incoming.ts";
import { Outgoing } from "./outgoing.ts";
import { type ClosedBy, Stream, type StreamEvents } from "./stream.ts";

export interface ConnectionOptions {
  world: World;
  role: "client" | "server";
  events: ConnectionEvents;
  /** How many streams a client may have open at once. */
  maxConcurrentStreams?: number;
  /** Bytes that may come before they are taken: of each stream, and of the connection; 65,535 at least. */
  streamWindow?: number;
  connectionWindow?: number;
  /** Of the fields of a message: bytes as RFC 9113, 6.5.2, counts them, and how many. */
  maxHeaderListSize?: number;
  maxFields?: number;
  /** `Stream.data` says no when so much waits, bytes. */
  highWater?: number;
}

export interface ConnectionEvents {
  /** A request has come (to a server): its head, and whether that is all of it. Sets `stream.events` first of all. */
  stream?(stream: Stream, fields: string[], end: boolean): void;
  /** The peer takes no new streams; those of ours that it did not look at have been closed with REFUSED_STREAM. */
  goaway?(code: number): void;
  /** It is over; with what ended it, unless that was agreed. */
  closed(error: Error | undefined): void;
  /** A mistake of ours, which costs this connection. Without it such are thrown to whoever calls (the runtime). */
  bug?(error: unknown): void;
}

/** How long last words may take to reach a peer, ms. */
const lastWords = 1_000;
/** Streams that we have reset and whose peer may not have heard of it. */
const mostForgotten = 1_000;
/** What a peer takes before it has said so: RFC 9113, 6.5.2, recommends no less. */
const streamsAtFirst = 100;
const defaultHighWater = 64 * 1024;

export class Connection {
  readonly #socket: Duplex;
  readonly options: ConnectionOptions;
  readonly server: boolean;
  readonly streamWindow: number;
  readonly connectionWindow: number;
  readonly highWater: number;
  readonly outgoing: Outgoing;
  readonly floods: Floods;
  readonly #incoming: Incoming;
  readonly #streams = new Map<number, Stream>();
  /** Reset by us, oldest first: what still comes for them is passed over. */
  readonly #forgotten = new Set<number>();
  readonly #pings: (() => void)[] = [];
  /** How many streams the peer takes at once, and the window of each. */
  peerStreams = streamsAtFirst;
  peerWindow = defaultWindow;
  #taken = 0;
  #nextId: number;
  /** The highest of the peer's streams, and the highest that it may still open. */
  lastPeerId = 0;
  acceptUpTo = largestStreamId;
  #draining = false;
  #ending: Timer | undefined;
  #error: Error | undefined;
  over = false;
  /** All that came, bytes. */
  bytesRead = 0;

  /** Takes over the socket, which is connected (and its TLS established), and may be paused. */
  constructor(socket: Duplex, options: ConnectionOptions) {
    const { role, world, streamWindow = defaultWindow, connectionWindow = defaultWindow } = options;
    this.#socket = socket;
    this.options = options;
    this.server = role === "server";
    this.#nextId = this.server ? 2 : 1;
    // What the peer sends before it has heard of smaller ones would be too much.
    this.streamWindow = Math.max(streamWindow, defaultWindow);
    this.connectionWindow = Math.max(connectionWindow, defaultWindow);
    this.floods = new Floods(() => world.monotonic());
    this.highWater = options.highWater ?? defaultHighWater;
    this.outgoing = new Outgoing(socket, this.floods, (error) => this.#bug(error));
    this.#incoming = new Incoming(this);
    this.#begin();
    const on = <A>(event: string, act: (argument: A) => void) =>
      socket.on(event, (argument: A) => {
        try {
          act(argument);
        } catch (error) {
          this.#bug(error);
        }
      });
    on("data", (chunk: Buffer) => this.#read(chunk));
    on("drain", () => this.outgoing.drained());
    on("end", () => this.destroy());
    on("error", (error: Error) => this.destroy(error));
    on("close", () => this.destroy());
    // What has ended already does not say so again.
    if (socket.readableEnded || socket.destroyed) queueMicrotask(() => this.destroy());
    else socket.resume();
  }

  // ---------------------------------------------------------------------------------------------- for owners

  /** What came before all that the socket gives. */
  receive(bytes: Buffer): void {
    try {
      this.#read(bytes);
    } catch (error) {
      this.#bug(error);
    }
  }

  /** All that went, bytes. */
  get bytesWritten(): number {
    return this.outgoing.written;
  }

  /** Opens a stream (of a client). Undefined: this connection takes no more. */
  request(fields: readonly string[], end: boolean, events: StreamEvents): Stream | undefined {
    if (this.ending || this.#draining || this.#nextId > largestStreamId) return undefined;
    const stream = new Stream(this, this.#nextId, this.peerWindow);
    this.#nextId += 2;
    stream.events = events;
    stream.bodyless = fields[fields.indexOf(":method") + 1] === "HEAD";
    this.add(stream);
    stream.head(fields, end);
    return stream;
  }

  /** How many more streams the peer takes now. */
  get room(): number {
    return this.ending || this.#draining ? 0 : Math.max(0, this.peerStreams - this.#streams.size);
  }

  /** How many streams there are. */
  get size(): number {
    return this.#streams.size;
  }

  /** Asks whether the peer is there. */
  ping(answered: () => void): void {
    if (this.over) return;
    this.#pings.push(answered);
    this.outgoing.write(pingFrame(0, noOpaque));
  }

  /**
   * Takes no new streams, and ends when those that are on have come to their end. A server says so, hears what was on
   * its way for a whole round trip, and then says which stream was the last (RFC 9113, 6.8).
   */
  drain(): void {
    if (this.over || this.#draining) return;
    this.#draining = true;
    if (!this.server) {
      this.acceptUpTo = 0;
      this.#endWhenIdle();
      return;
    }
    this.outgoing.write(goawayFrame(largestStreamId, errorCode.NO_ERROR, ""));
    this.ping(() => {
      this.acceptUpTo = this.lastPeerId;
      this.outgoing.write(goawayFrame(this.lastPeerId, errorCode.NO_ERROR, ""));
      this.#endWhenIdle();
    });
  }

  /** Ends it at once, and every stream. */
  destroy(error?: Error): void {
    if (this.over) return;
    this.over = true;
    this.#ending?.cancel();
    this.#socket.destroy();
    this.outgoing.stop();
    this.#closeAll();
    this.options.events.closed(this.#error ?? error);
  }

  // ------------------------------------------------------------------------------------------------ for streams

  find(id: number): Stream | undefined {
    return this.#streams.get(id);
  }

  add(stream: Stream): void {
    this.floods.stream();
    this.#streams.set(stream.id, stream);
  }

  /** A frame of this stream may come, or may have been on its way when it ended. False: it never was. */
  hasBeen(id: number): boolean {
    if (id === 0) return false;
    const ours = id % 2 === (this.server ? 0 : 1);
    return ours ? id < this.#nextId : id <= this.lastPeerId || id > this.acceptUpTo;
  }

  /** What still comes for it is passed over. */
  isForgotten(id: number): boolean {
    return this.#forgotten.has(id) || (this.server && id > this.acceptUpTo);
  }

  /** The owner of a stream has taken so many bytes: as many more may come. */
  taken(bytes: number): void {
    this.#taken += bytes;
    if (this.#taken * 2 < this.connectionWindow || this.over) return;
    this.#incoming.window += this.#taken;
    this.outgoing.windowUpdate(0, this.#taken);
    this.#taken = 0;
  }

  reset(stream: Stream, code: number): void {
    if (stream.over) return;
    this.refuse(stream.id, code);
    this.close(stream, code, "us");
  }

  refuse(id: number, code: number): void {
    this.outgoing.write(numberFrame(frame.RST_STREAM, id, code));
    this.#forgotten.add(id);
    if (this.#forgotten.size <= mostForgotten) return;
    const [oldest] = this.#forgotten;
    this.#forgotten.delete(oldest!);
  }

  /** One way has come to its end: when both have, the stream is over. */
  ended(stream: Stream): void {
    if (stream.remoteEnded && stream.localEnded && !stream.endKept && !stream.over)
      this.close(stream, errorCode.NO_ERROR, "both");
  }

  close(stream: Stream, code: number, by: ClosedBy): void {
    this.#streams.delete(stream.id);
    this.outgoing.forget(stream);
    stream.close(code, by);
    if (this.#draining) this.#endWhenIdle();
  }

  // ----------------------------------------------------------------------------------------------- for Incoming

  pong(): void {
    this.#pings.shift()?.();
  }

  /** The window that the peer gives every stream is another one. */
  rewindow(value: number): void {
    for (const stream of this.#streams.values()) {
      stream.sendWindow += value - this.peerWindow;
      checkWindow(stream.sendWindow);
      this.outgoing.widen(0, stream);
    }
    this.peerWindow = value;
  }

  /** The peer looks at no stream of ours above `last`. */
  left(last: number, code: number): void {
    if (this.server) return;
    this.#draining = true;
    for (const stream of [...this.#streams.values()])
      if (stream.id > last) this.close(stream, errorCode.REFUSED_STREAM, "peer");
    this.options.events.goaway?.(code);
    this.#endWhenIdle();
  }

  #begin(): void {
    const { maxConcurrentStreams, maxHeaderListSize } = this.options;
    const values: [number, number][] = [];
    if (!this.server) {
      this.outgoing.write(preface);
      values.push([setting.ENABLE_PUSH, 0]);
    } else if (maxConcurrentStreams !== undefined)
      values.push([setting.MAX_CONCURRENT_STREAMS, maxConcurrentStreams]);
    if (this.streamWindow !== defaultWindow) values.push([setting.INITIAL_WINDOW_SIZE, this.streamWindow]);
    if (maxHeaderListSize !== undefined) values.push([setting.MAX_HEADER_LIST_SIZE, maxHeaderListSize]);
    this.outgoing.write(settingsFrame(values));
    const more = this.connectionWindow - defaultWindow;
    if (more > 0) this.outgoing.windowUpdate(0, more);
  }

  /** A mistake of ours ends the connection, if there is somebody to tell; else whoever called. */
  #bug(error: unknown): void {
    const { bug } = this.options.events;
    if (!bug) throw error;
    bug(error);
    this.destroy();
  }

  #read(chunk: Buffer): void {
    this.bytesRead += chunk.length;
    if (this.over || this.#ending) return;
    try {
      this.#incoming.read(chunk);
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error;
      // The peer did what it must not: it is told, and that is the end.
      this.#error = error;
      this.outgoing.write(goawayFrame(this.lastPeerId, error.code, error.message));
      this.#end();
    }
    this.outgoing.flush();
  }

  /** Nothing that comes counts any more. */
  get ending(): boolean {
    return this.over || this.#ending !== undefined;
  }

  #endWhenIdle(): void {
    if (this.#streams.size > 0 || this.ending) return;
    if (this.server && this.acceptUpTo === largestStreamId) return; // more may be on its way
    this.#end();
  }

  /** What was written last is to arrive: the socket stays a moment for the peer to read it. */
  #end(): void {
    if (this.ending) return;
    this.#ending = this.options.world.after(lastWords, () => this.destroy());
    this.outgoing.flush();
    this.#closeAll();
    this.#socket.end();
  }

  #closeAll(): void {
    for (const stream of [...this.#streams.values()]) this.close(stream, errorCode.CANCEL, "connection");
  }
}

const noOpaque = Buffer.alloc(8);
