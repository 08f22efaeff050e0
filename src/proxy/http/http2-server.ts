/** A client's connection in HTTP/2, by node:http2 on the socket that we were given: one exchange for each stream. */
import type { OutgoingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import type { Downstream } from "../contract.ts";
import { Deadline, type DeadlineOwner } from "./deadlines.ts";
import { Exchange } from "./exchange.ts";
import { bears, charge, guarded, listener } from "./guard.ts";
import { fieldName, Headers, type RequestHead } from "./headers.ts";
import { plainHost } from "./http1-target.ts";
import { http2, maxHeaderPairs } from "./http2.ts";
import type { Manager } from "./manager.ts";
import { type ConnectionFacts, connectionFacts } from "./request-headers.ts";
import type { ResponseWriter } from "./response-writer.ts";
import { Traffic } from "./traffic.ts";

const IDLE = 0;
const LIFE = 1;
const CLOSING = 2;

export class Http2ServerConnection implements DeadlineOwner {
  readonly #manager: Manager;
  readonly #session: ServerHttp2Session;
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
    const { settings, deadlines } = manager;
    this.#facts = connectionFacts(downstream, settings);
    const { socket } = downstream;
    this.#traffic = new Traffic(socket, manager.counters.cxReceived, manager.counters.cxSent);
    // A TLSSocket made by hand says it is connecting for ever (only tls.Server puts that right), and http2 would wait.
    if (downstream.tls) Object.assign(socket, { secureConnecting: false });
    if (head.length > 0) socket.unshift(head);
    const session = http2().performServerHandshake(socket, {
      settings: {
        maxConcurrentStreams: Math.min(settings.maxConcurrentStreams, 2147483647),
        initialWindowSize: settings.initialStreamWindow,
        maxHeaderListSize: settings.limits.headBytes,
        enablePush: false,
      },
      maxHeaderListPairs: maxHeaderPairs(settings.limits.headerCount),
      // Floods end the connection: frames without sense, resets without end (CVE-2023-44487), settings without number.
      maxSessionInvalidFrames: 100,
      streamResetBurst: 100,
      streamResetRate: 20,
      maxSettings: 32,
    });
    this.#session = session;
    session.on(
      "stream",
      guarded(this, (stream: ServerHttp2Stream, _headers: object, flags: number, raw?: unknown) => {
        // A raw list keeps the order and what came twice; it is what the types forget.
        this.#onStream(stream, flags, raw as string[]);
      }),
    );
    session.on("error", () => this.#manager.counters.cxProtocolError.inc());
    session.on(
      "close",
      guarded(this, () => this.#onClose()),
    );
    session.setTimeout(0);
    if (settings.initialConnectionWindow > 65_535) {
      session.once("localSettings", () => {
        if (!session.destroyed) session.setLocalWindowSize(settings.initialConnectionWindow);
      });
    }
    if (settings.maxConnectionDuration > 0) deadlines.set(this.#life, settings.maxConnectionDuration);
    this.#rest();
  }

  #rest(): void {
    const { settings, deadlines } = this.#manager;
    if (settings.connectionIdleTimeout > 0) deadlines.set(this.#idle, settings.connectionIdleTimeout);
  }

  #onStream(stream: ServerHttp2Stream, flags: number, raw: readonly string[]): void {
    this.#streams++;
    this.#requests++;
    this.#idle.cancel();
    const most = this.#manager.settings.maxRequestsPerConnection;
    if (most > 0 && this.#requests === most) {
      this.#manager.counters.cxMaxRequests.inc();
      this.drain();
    }
    new Http2Exchange(this.#manager, this.#facts, stream, flags, raw, () => {
      this.#traffic.count();
      this.#streams--;
      if (this.#streams > 0) return;
      if (this.#draining) this.#session.close();
      else this.#rest();
    });
  }

  /** GOAWAY; streams that are on come to their end. */
  drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    this.#session.close();
    this.#manager.deadlines.set(this.#closing, Math.max(1, this.#manager.settings.drainTimeout) * 10);
  }

  close(): void {
    this.#session.destroy();
  }

  onBug(error: unknown): void {
    this.#manager.bug(error);
    this.close();
  }

  onDeadline(kind: number): void {
    if (kind === CLOSING) this.close();
    else this.drain();
  }

  #onClose(): void {
    this.#traffic.count();
    this.#idle.cancel();
    this.#life.cancel();
    this.#closing.cancel();
    this.#closed(this);
  }
}

/** One stream: the writer of its exchange. */
class Http2Exchange implements ResponseWriter {
  readonly protocol = "HTTP/2";
  readonly #stream: ServerHttp2Stream;
  readonly #manager: Manager;
  readonly #done: () => void;
  readonly #exchange: Exchange;
  #trailers: Headers | undefined;
  #requestTrailers: Headers | undefined;
  #ended = false;
  /** Heads count as they are written out: node:http2 does not say how small it packed them. */
  received = 0;
  #sent = 0;

  constructor(
    manager: Manager,
    facts: ConnectionFacts,
    stream: ServerHttp2Stream,
    flags: number,
    raw: readonly string[],
    done: () => void,
  ) {
    this.#manager = manager;
    this.#stream = stream;
    this.#done = done;
    this.#exchange = new Exchange(manager, facts, this);
    bears(stream, this);
    stream.on("data", listeners.data);
    stream.on("trailers", listeners.trailers);
    stream.on("end", listeners.end);
    stream.on("drain", listeners.drain);
    stream.on("wantTrailers", listeners.wantTrailers);
    stream.on("error", nothing);
    stream.on("close", listeners.close);
    try {
      this.#begin(raw, (flags & http2().constants.NGHTTP2_FLAG_END_STREAM) !== 0);
    } catch (error) {
      charge(this, error);
    }
  }

  onBug(error: unknown): void {
    this.#manager.bug(error);
    this.reset();
  }

  onData(chunk: Buffer): void {
    this.received += FRAME;
    this.#exchange.onRequestData(chunk);
  }

  onTrailers(raw: readonly string[]): void {
    this.received += sizeOf(raw);
    this.#requestTrailers = fieldsOf(raw);
  }

  onEnd(): void {
    if (!this.#exchange.requestEnded) this.#exchange.onRequestEnd(this.#requestTrailers);
  }

  onDrain(): void {
    this.#exchange.onDownstreamDrain();
  }

  onWantTrailers(): void {
    const stream = this.#stream;
    try {
      stream.sendTrailers(this.#trailers ? outgoing(this.#trailers) : {});
    } catch {
      stream.close(http2().constants.NGHTTP2_INTERNAL_ERROR);
    }
  }

  onClose(): void {
    try {
      this.#exchange.onDownstreamReset();
    } finally {
      this.#done();
    }
  }

  #begin(raw: readonly string[], end: boolean): void {
    const headers = new Headers();
    const head: RequestHead = { method: "", path: "", authority: "", scheme: "", headers };
    let authority: string | undefined;
    let host: string | undefined;
    let bad = false;
    const rejects = this.#manager.settings.underscores === "reject";
    this.received = sizeOf(raw);
    for (let i = 0; i < raw.length; i += 2) {
      const name = raw[i]!;
      const value = raw[i + 1]!;
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
        case ":protocol":
          bad = true; // extended CONNECT is not offered
          break;
        case "host":
          if (host !== undefined) bad = true;
          host = value;
          break;
        case "cookie":
          headers.append("cookie", value, "; ");
          break;
        default: {
          const known = fieldName(name);
          if (known === undefined || badValue.test(value) || (rejects && known.includes("_"))) bad = true;
          else headers.flat.push(known, value);
        }
      }
    }
    authority ??= host;
    head.authority = authority ?? "";
    if (bad || (authority && !plainHost.test(authority)) || (head.path && !printable.test(head.path))) {
      this.#stream.close(http2().constants.NGHTTP2_PROTOCOL_ERROR);
      return;
    }
    this.#exchange.begin(head, authority, end, undefined);
  }

  head(status: number, headers: Headers, end: boolean): void {
    const { stream } = this;
    if (stream.destroyed || stream.closed) return;
    this.#sent = sizeOf(headers.flat) + STATUS;
    // A list costs less than an object, and keeps the order.
    const fields = [":status", String(status), ...headers.flat];
    try {
      stream.respond(fields, { endStream: end, waitForTrailers: !end });
      if (end) this.#ended = true;
    } catch {
      stream.close(http2().constants.NGHTTP2_INTERNAL_ERROR);
    }
  }

  sent(): number {
    return this.#sent;
  }

  get stream(): ServerHttp2Stream {
    return this.#stream;
  }

  informational(status: number, headers: Headers): void {
    const fields = outgoing(headers);
    fields[":status"] = status;
    if (!this.#stream.headersSent) this.#stream.additionalHeaders(fields);
  }

  data(chunk: Buffer): boolean {
    if (this.#stream.destroyed) return true;
    this.#sent += chunk.length + Math.ceil(chunk.length / 16_384) * FRAME;
    this.#stream.write(chunk);
    return this.#stream.writableLength < this.#manager.bufferLimit;
  }

  end(trailers: Headers | undefined): void {
    const stream = this.#stream;
    if (!this.#ended && !stream.destroyed) {
      this.#ended = true;
      this.#trailers = trailers;
      stream.end();
    }
    // An answer before the request was whole: the rest of it is not wanted.
    if (!this.#exchange.requestEnded) {
      stream.once("finish", () => stream.close(http2().constants.NGHTTP2_NO_ERROR));
      stream.resume();
    }
  }

  reset(): void {
    this.#stream.close(http2().constants.NGHTTP2_INTERNAL_ERROR);
  }

  pauseRequest(): void {
    this.#stream.pause();
  }

  resumeRequest(): void {
    this.#stream.resume();
  }

  /** Of a stream nothing else depends on. */
  closeAfter(): void {}
}

const listeners = {
  data: listener((stream: Http2Exchange, chunk: Buffer) => stream.onData(chunk)),
  trailers: listener((stream: Http2Exchange, _headers: object, _flags: number, raw?: unknown) =>
    stream.onTrailers(raw as string[]),
  ),
  end: listener((stream: Http2Exchange) => stream.onEnd()),
  drain: listener((stream: Http2Exchange) => stream.onDrain()),
  wantTrailers: listener((stream: Http2Exchange) => stream.onWantTrailers()),
  close: listener((stream: Http2Exchange) => stream.onClose()),
};
const nothing = () => undefined;

const printable = /^[\x21-\x7e]+$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const badValue = /[\0-\x08\x0a-\x1f\x7f]/;

/** Bytes of a frame's head, and of `:status`. */
const FRAME = 9;
const STATUS = 10;

/** Bytes of a frame with these fields, written out. */
function sizeOf(flat: readonly string[]): number {
  let size = FRAME;
  for (const part of flat) size += part.length;
  return size;
}

function fieldsOf(raw: readonly string[]): Headers {
  return new Headers(raw.filter((_, i) => !raw[i - (i % 2)]!.startsWith(":")));
}

/** As node:http2 takes them: what comes several times is a list. */
export function outgoing(headers: Headers): OutgoingHttpHeaders {
  const result: OutgoingHttpHeaders = {};
  const { flat } = headers;
  for (let i = 0; i < flat.length; i += 2) {
    const name = flat[i]!;
    const value = flat[i + 1]!;
    const before = result[name];
    if (before === undefined) result[name] = value;
    else if (Array.isArray(before)) before.push(value);
    else result[name] = [String(before), value];
  }
  return result;
}
