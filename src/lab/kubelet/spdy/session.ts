/**
 * A SPDY/3.1 session: streams over one connection. Source: SPDY Protocol, Draft 3.1, section 2.
 *
 * Flow control. What we read we acknowledge by WINDOW_UPDATE. Kubernetes' own implementation (moby/spdystream) neither
 * sends nor heeds these, and waiting for it would be waiting for ever: so windows hold us back only from the first
 * WINDOW_UPDATE or SETTINGS_INITIAL_WINDOW_SIZE on that a peer sends; and what a peer sends beyond our window is no
 * error, we only read no further. With that the connection holds the peer back, for all streams together.
 */
import type { Duplex } from "node:stream";
import { type Frame, FrameReader, FrameWriter, goAway, ProtocolError, reset, setting } from "./frames.ts";
import type { Headers } from "./headers.ts";
import { largestWindow, SpdyStream, type StreamPort } from "./stream.ts";

export interface SessionOptions {
  /** Which end of the connection we are. */
  role: "client" | "server";
  /** A stream that the peer began. It is answered by `accept` or `destroy`; without this it is refused. */
  onStream?: (stream: SpdyStream) => void;
}

/** How many streams a peer may have open at a time. */
const mostStreams = 1000;
/** Section 2.6.8. Bytes. */
const initialWindow = 64 * 1024;
/** How much of what we wrote may wait for the peer before we read no more of what it writes. Bytes. */
const mostUnsent = 256 * 1024;
/** How long a peer has to close the connection after we did, in milliseconds. */
const patience = 10_000;

export class SpdySession {
  /** Resolves when the connection is closed, whoever closed it. */
  readonly closed: Promise<void>;
  readonly #connection: Duplex;
  readonly #options: SessionOptions;
  readonly #reader = new FrameReader();
  readonly #writer = new FrameWriter();
  readonly #streams = new Map<number, SpdyStream>();
  readonly #pings = new Map<number, () => void>();
  #nextStream: number;
  #nextPing: number;
  /** The highest id of a stream that the peer began. */
  #lastHeard = 0;
  /** The window that our streams begin with, and whether the peer is known to do flow control. */
  #peerWindow = initialWindow;
  #peerCounts = false;
  /** The same for all streams together (section 2.6.8). */
  #sessionWindow = initialWindow;
  #peerCountsSession = false;
  #unacknowledged = 0;
  #peerIsLeaving = false;
  #ending = false;

  constructor(connection: Duplex, options: SessionOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#nextStream = options.role === "client" ? 1 : 2;
    this.#nextPing = this.#nextStream;
    const closed = Promise.withResolvers<void>();
    this.closed = closed.promise;
    connection.on("error", () => {});
    connection.once("close", () => {
      this.#reader.close();
      for (const stream of [...this.#streams.values()]) stream.lost();
      for (const pong of this.#pings.values()) pong();
      closed.resolve();
    });
    void this.#run();
  }

  /** How many streams are open. */
  get size(): number {
    return this.#streams.size;
  }

  /** Begins a stream. It can be written to at once; what the peer answers is read from it. */
  open(headers: Headers): SpdyStream {
    const id = this.#nextStream;
    this.#nextStream += 2;
    const stream = this.#add(id, headers);
    this.#write({ type: "synStream", stream: id, headers, fin: false });
    return stream;
  }

  /** Resolves when the peer has answered, or the session has ended. */
  ping(): Promise<void> {
    const id = this.#nextPing;
    this.#nextPing += 2;
    return new Promise((resolve) => {
      this.#pings.set(id, resolve);
      this.#write({ type: "ping", id });
    });
  }

  /** Says that no more is to come and closes the connection behind what was written. */
  close(): void {
    this.#end(goAway.ok);
  }

  destroy(): void {
    this.#connection.destroy();
  }

  async #run(): Promise<void> {
    const connection = this.#connection;
    try {
      const chunks = connection.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
      for await (const chunk of chunks) {
        for await (const frame of this.#reader.read(chunk)) {
          await this.#take(frame);
          if (connection.writableLength > mostUnsent) await this.#drained();
        }
      }
      // The peer will say no more: what it left open ends, and with it the connection.
      for (const stream of [...this.#streams.values()]) stream.lost();
      connection.end();
    } catch (error) {
      if (connection.destroyed) return;
      this.#end(error instanceof ProtocolError ? goAway.protocolError : goAway.internalError);
      for (const stream of [...this.#streams.values()]) stream.lost();
      connection.resume();
    }
  }

  #end(status: number): void {
    if (this.#ending) return;
    this.#write({ type: "goAway", lastStream: this.#lastHeard, status });
    this.#ending = true;
    this.#connection.end();
    const late = setTimeout(() => this.#connection.destroy(), patience);
    late.unref();
    void this.closed.then(() => clearTimeout(late));
  }

  /** Bounds what waits to be sent to a peer that asks and does not read. */
  async #drained(): Promise<void> {
    const connection = this.#connection;
    if (connection.destroyed) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        connection.off("drain", done).off("close", done);
        resolve();
      };
      connection.on("drain", done).on("close", done);
    });
  }

  async #take(frame: Frame): Promise<void> {
    switch (frame.type) {
      case "data": {
        const stream = this.#streams.get(frame.stream);
        if (stream) await stream.receive(frame.data, frame.fin);
        else if (this.#isUnheard(frame.stream)) this.#reset(frame.stream, reset.invalidStream);
        this.#unacknowledged += frame.data.length;
        if (this.#unacknowledged >= initialWindow / 2) {
          this.#write({ type: "windowUpdate", stream: 0, delta: this.#unacknowledged });
          this.#unacknowledged = 0;
        }
        return;
      }
      case "synStream":
        return this.#begun(frame.stream, frame.headers, frame.fin, frame.unidirectional ?? false);
      case "synReply":
        this.#streams.get(frame.stream)?.replied(frame.headers);
        if (frame.fin) await this.#streams.get(frame.stream)?.receive(Buffer.alloc(0), true);
        return;
      case "headers":
        if (frame.fin) await this.#streams.get(frame.stream)?.receive(Buffer.alloc(0), true);
        return;
      case "rstStream": {
        const stream = this.#streams.get(frame.stream);
        stream?.wasReset(frame.status);
        return;
      }
      case "settings": {
        const window = frame.settings.get(setting.initialWindowSize);
        if (window === undefined) return;
        if (window > largestWindow) throw new ProtocolError("the initial window is too large");
        this.#peerCounts = true;
        for (const stream of this.#streams.values()) stream.windowGrew(window - this.#peerWindow);
        this.#peerWindow = window;
        return;
      }
      case "ping": {
        // Each end has the ids of its own parity: the others are answered (section 2.6.5).
        if (frame.id % 2 !== this.#nextPing % 2) return this.#write(frame);
        this.#pings.get(frame.id)?.();
        this.#pings.delete(frame.id);
        return;
      }
      case "goAway":
        // No new streams; those that are there go on until the peer closes the connection.
        this.#peerIsLeaving = true;
        return;
      case "windowUpdate":
        return this.#windowGrew(frame.stream, frame.delta);
    }
  }

  #windowGrew(id: number, delta: number): void {
    if (delta === 0) throw new ProtocolError("a window grows by nothing");
    this.#peerCounts = true;
    if (id === 0) {
      this.#peerCountsSession = true;
      this.#sessionWindow += delta;
      if (this.#sessionWindow > largestWindow) throw new ProtocolError("the window is too large");
      for (const stream of this.#streams.values()) stream.windowGrew(0);
      return;
    }
    const stream = this.#streams.get(id);
    if (stream && !stream.windowGrew(delta)) stream.reset(reset.flowControlError);
  }

  /** Whether a stream of that id has never been. */
  #isUnheard(id: number): boolean {
    return id % 2 === this.#nextStream % 2 ? id >= this.#nextStream : id > this.#lastHeard;
  }

  #begun(id: number, headers: Headers, fin: boolean, unidirectional: boolean): void {
    if (id === 0 || id % 2 === this.#nextStream % 2 || id <= this.#lastHeard) {
      throw new ProtocolError(`a stream cannot have the id ${id}`);
    }
    this.#lastHeard = id;
    // Kubernetes has no use for a stream that can only be read; what is answered on all others has no place there.
    if (
      !this.#options.onStream ||
      unidirectional ||
      this.#peerIsLeaving ||
      this.#ending ||
      this.#streams.size >= mostStreams
    ) {
      this.#reset(id, reset.refusedStream);
      return;
    }
    const stream = this.#add(id, headers);
    if (fin) void stream.receive(Buffer.alloc(0), true);
    this.#options.onStream(stream);
  }

  #add(id: number, headers: Headers): SpdyStream {
    const port: StreamPort = {
      write: (frame, done) => this.#write(frame, done),
      allowed: (window) => {
        if (!this.#peerCounts) return Number.POSITIVE_INFINITY;
        return this.#peerCountsSession ? Math.min(window, this.#sessionWindow) : window;
      },
      gone: () => this.#streams.delete(id),
    };
    const stream = new SpdyStream(id, headers, this.#peerWindow, port);
    this.#streams.set(id, stream);
    return stream;
  }

  #reset(stream: number, status: number): void {
    this.#write({ type: "rstStream", stream, status });
  }

  #write(frame: Frame, done?: () => void): void {
    if (this.#ending || this.#connection.writableEnded || this.#connection.destroyed) {
      done?.();
      return;
    }
    if (frame.type === "data") this.#sessionWindow -= frame.data.length;
    const pieces = this.#writer.write(frame);
    this.#connection.cork();
    pieces.forEach((piece, i) => {
      this.#connection.write(piece, i === pieces.length - 1 ? () => done?.() : undefined);
    });
    process.nextTick(() => this.#connection.uncork());
  }
}
