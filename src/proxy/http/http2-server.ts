/** A client's connection in HTTP/2: one exchange for each stream. */
import { type ClosedBy, Connection, ConnectionError, errorCode, type Stream } from "../../http2/index.ts";
import type { Downstream } from "../contract.ts";
import { Deadline, type DeadlineOwner } from "./deadlines.ts";
import { Exchange } from "./exchange.ts";
import { charge } from "./guard.ts";
import { Headers, type RequestHead } from "./headers.ts";
import { plainHost } from "./http1-target.ts";
import { GuardedEvents, knownName, knownNames, pseudoHeaders, type StreamOwner } from "./http2.ts";
import type { Manager } from "./manager.ts";
import { type ConnectionFacts, connectionFacts } from "./request-headers.ts";
import type { ResponseWriter } from "./response-writer.ts";
import { Traffic } from "./traffic.ts";

const IDLE = 0;
const LIFE = 1;
const CLOSING = 2;

export class Http2ServerConnection implements DeadlineOwner {
  readonly #manager: Manager;
  readonly #connection: Connection;
  readonly #facts: ConnectionFacts;
  readonly #closed: (connection: Http2ServerConnection) => void;
  readonly #idle = new Deadline(this, IDLE);
  readonly #life = new Deadline(this, LIFE);
  readonly #closing = new Deadline(this, CLOSING);
  readonly #traffic: Traffic;
  #streams = 0;
  #draining = false;
  #requests = 0;

  constructor(
    manager: Manager,
    downstream: Downstream,
    head: Buffer,
    closed: (connection: Http2ServerConnection) => void,
  ) {
    this.#manager = manager;
    this.#closed = closed;
    const { settings, deadlines, counters } = manager;
    this.#facts = connectionFacts(downstream, settings);
    this.#connection = new Connection(downstream.socket, {
      world: manager.world,
      role: "server",
      maxConcurrentStreams: Math.min(settings.maxConcurrentStreams, 2147483647),
      streamWindow: settings.initialStreamWindow,
      connectionWindow: settings.initialConnectionWindow,
      maxHeaderListSize: settings.limits.headBytes,
      maxFields: settings.limits.headerCount + pseudoHeaders,
      highWater: manager.bufferLimit,
      events: {
        stream: (stream, fields, end) => this.#onStream(stream, fields, end),
        closed: (error) => this.#onClosed(error),
        bug: (error) => manager.bug(error),
      },
    });
    this.#traffic = new Traffic(this.#connection, counters.cxReceived, counters.cxSent);
    if (settings.maxConnectionDuration > 0) deadlines.set(this.#life, settings.maxConnectionDuration);
    this.#rest();
    if (head.length > 0) this.#connection.receive(head);
  }

  #rest(): void {
    const { settings, deadlines } = this.#manager;
    if (settings.connectionIdleTimeout > 0) deadlines.set(this.#idle, settings.connectionIdleTimeout);
  }

  #onStream(stream: Stream, fields: readonly string[], end: boolean): void {
    this.#streams++;
    this.#requests++;
    this.#idle.cancel();
    const most = this.#manager.settings.maxRequestsPerConnection;
    if (most > 0 && this.#requests === most) {
      this.#manager.counters.cxMaxRequests.inc();
      this.drain();
    }
    new Http2Exchange(this.#manager, this.#facts, stream, this).begin(fields, end);
  }

  /** A stream has come to its end. */
  released(): void {
    this.#traffic.count();
    this.#streams--;
    if (this.#streams === 0 && !this.#draining) this.#rest();
  }

  /** GOAWAY; streams that are on come to their end. */
  drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    this.#connection.drain();
    this.#manager.deadlines.set(this.#closing, Math.max(1, this.#manager.settings.drainTimeout) * 10);
  }

  close(): void {
    this.#connection.destroy();
  }

  onBug(error: unknown): void {
    this.#manager.bug(error);
    this.close();
  }

  onDeadline(kind: number): void {
    if (kind === CLOSING) this.close();
    else this.drain();
  }

  #onClosed(error: Error | undefined): void {
    if (error instanceof ConnectionError) this.#manager.counters.cxProtocolError.inc();
    this.#traffic.count();
    this.#idle.cancel();
    this.#life.cancel();
    this.#closing.cancel();
    this.#closed(this);
  }
}

/** One stream: the writer of its exchange. */
class Http2Exchange implements ResponseWriter, StreamOwner {
  readonly protocol = "HTTP/2";
  readonly #stream: Stream;
  readonly #manager: Manager;
  readonly #connection: Http2ServerConnection;
  readonly #exchange: Exchange;
  #headSent = false;

  constructor(manager: Manager, facts: ConnectionFacts, stream: Stream, connection: Http2ServerConnection) {
    stream.events = new GuardedEvents(this);
    this.#manager = manager;
    this.#stream = stream;
    this.#connection = connection;
    this.#exchange = new Exchange(manager, facts, this);
  }

  onBug(error: unknown): void {
    this.#manager.bug(error);
    this.reset();
  }

  // --------------------------------------------------------------------------------------------- request

  begin(fields: readonly string[], end: boolean): void {
    try {
      this.#begin(fields, end);
    } catch (error) {
      charge(this, error);
    }
  }

  #begin(fields: readonly string[], end: boolean): void {
    const headers = new Headers();
    const head: RequestHead = { method: "", path: "", authority: "", scheme: "", headers };
    let authority: string | undefined;
    let host: string | undefined;
    let bad = false;
    const rejects = this.#manager.settings.underscores === "reject";
    for (let i = 0; i < fields.length; i += 2) {
      const name = fields[i]!;
      const value = fields[i + 1]!;
      switch (name) {
        case ":method":
          head.method = value;
          break;
        case ":path":
          head.path = value;
          break;
        case ":authority":
          authority = value;
          break;
        case ":scheme":
          head.scheme = value;
          break;
        case "host":
          if (host !== undefined) bad = true;
          host = value;
          break;
        case "cookie":
          headers.append("cookie", value, "; ");
          break;
        default:
          if (badValue.test(value) || (rejects && name.includes("_"))) bad = true;
          else headers.flat.push(knownName(name), value);
      }
    }
    authority ??= host;
    head.authority = authority ?? "";
    if (bad || (authority && !plainHost.test(authority)) || (head.path && !goodPath.test(head.path))) {
      this.#stream.reset(errorCode.PROTOCOL_ERROR);
      return;
    }
    this.#exchange.begin(head, authority, end, undefined);
  }

  onData(chunk: Buffer): void {
    this.#exchange.onRequestData(chunk);
  }

  onEnd(trailers: string[] | undefined): void {
    this.#exchange.onRequestEnd(trailers && new Headers(knownNames(trailers, 0)));
  }

  onClosed(_code: number, by: ClosedBy): void {
    try {
      // Where both ways came to their end, the exchange gave its own.
      if (by !== "both") this.#exchange.onDownstreamReset();
    } finally {
      this.#connection.released();
    }
  }

  get received(): number {
    return this.#stream.overhead;
  }

  pauseRequest(): void {
    this.#stream.pause();
  }

  resumeRequest(): void {
    this.#stream.resume();
  }

  // -------------------------------------------------------------------------------------------- response

  informational(status: number, headers: Headers): void {
    if (!this.#headSent) this.#stream.head([":status", String(status), ...headers.flat], false);
  }

  head(status: number, headers: Headers, end: boolean): void {
    this.#headSent = true;
    this.#stream.head([":status", String(status), ...headers.flat], end);
  }

  data(chunk: Buffer): boolean {
    return this.#stream.data(chunk);
  }

  onDrain(): void {
    this.#exchange.onDownstreamDrain();
  }

  end(trailers: Headers | undefined): void {
    const stream = this.#stream;
    stream.end(trailers?.flat);
    if (this.#exchange.requestEnded) return;
    // An answer before the request was whole: the rest of it is not wanted.
    stream.whenSent(() => stream.reset(errorCode.NO_ERROR));
    stream.resume();
  }

  sent(): number {
    return this.#stream.given;
  }

  reset(): void {
    this.#stream.reset(errorCode.INTERNAL_ERROR);
  }

  /** Of a stream nothing else depends on. */
  closeAfter(): void {}
}

const goodPath = /^(?:\/[\x21-\x7e]*|\*)$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const badValue = /[\0-\x08\x0a-\x1f\x7f]/;
