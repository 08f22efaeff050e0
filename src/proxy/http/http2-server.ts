/** A client's connection in HTTP/2, by node:http2 on the socket that we were given: one exchange for each stream. */
import type {
  IncomingHttpHeaders,
  OutgoingHttpHeaders,
  ServerHttp2Session,
  ServerHttp2Stream,
} from "node:http2";
import type { Downstream } from "../contract.ts";
import { Deadline, type DeadlineOwner } from "./deadlines.ts";
import { Exchange, type ResponseWriter } from "./exchange.ts";
import { fieldName, Headers, type RequestHead } from "./headers.ts";
import { http2, maxHeaderPairs } from "./http2.ts";
import type { Manager } from "./manager.ts";
import { type ConnectionFacts, connectionFacts } from "./request-headers.ts";

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
    session.on("stream", (stream, headers, flags, raw) => {
      // A raw list keeps the order and what came twice; it is what the types forget.
      this.#onStream(stream, headers, flags, raw as unknown as string[]);
    });
    session.on("error", () => this.#manager.protocolErrors.inc());
    session.on("close", () => this.#onClose());
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

  #onStream(
    stream: ServerHttp2Stream,
    parsed: IncomingHttpHeaders,
    flags: number,
    raw: readonly string[],
  ): void {
    this.#streams++;
    this.#requests++;
    this.#idle.cancel();
    const most = this.#manager.settings.maxRequestsPerConnection;
    if (most > 0 && this.#requests >= most) this.drain();
    new Http2Exchange(this.#manager, this.#facts, stream, parsed, flags, raw, () => {
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

  onDeadline(kind: number): void {
    if (kind === CLOSING) this.close();
    else this.drain();
  }

  #onClose(): void {
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

  constructor(
    manager: Manager,
    facts: ConnectionFacts,
    stream: ServerHttp2Stream,
    _parsed: IncomingHttpHeaders,
    flags: number,
    raw: readonly string[],
    done: () => void,
  ) {
    this.#manager = manager;
    this.#stream = stream;
    this.#done = done;
    const exchange = new Exchange(manager, facts, this);
    this.#exchange = exchange;
    stream.on("data", (chunk: Buffer) => exchange.onRequestData(chunk));
    stream.on("trailers", (_headers, _flags, rawTrailers) => {
      this.#requestTrailers = fieldsOf(rawTrailers as unknown as string[]);
    });
    stream.on("end", () => {
      if (!exchange.requestEnded) exchange.onRequestEnd(this.#requestTrailers);
    });
    stream.on("drain", () => exchange.onDownstreamDrain());
    stream.on("wantTrailers", () => {
      try {
        stream.sendTrailers(this.#trailers ? outgoing(this.#trailers) : {});
      } catch {
        stream.close(http2().constants.NGHTTP2_INTERNAL_ERROR);
      }
    });
    stream.on("error", () => undefined);
    stream.on("close", () => {
      exchange.onDownstreamReset();
      this.#done();
    });
    const { NGHTTP2_FLAG_END_STREAM } = http2().constants;
    try {
      this.#begin(raw, (flags & NGHTTP2_FLAG_END_STREAM) !== 0);
    } catch (error) {
      manager.bug(error);
      stream.close(http2().constants.NGHTTP2_INTERNAL_ERROR);
    }
  }

  #begin(raw: readonly string[], end: boolean): void {
    const headers = new Headers();
    const head: RequestHead = { method: "", path: "", authority: "", scheme: "", headers };
    let authority: string | undefined;
    let host: string | undefined;
    let bad = false;
    const rejects = this.#manager.settings.underscores === "reject";
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
    const fields = outgoing(headers);
    fields[":status"] = status;
    try {
      stream.respond(fields, { endStream: end, waitForTrailers: !end });
      if (end) this.#ended = true;
    } catch {
      stream.close(http2().constants.NGHTTP2_INTERNAL_ERROR);
    }
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

const plainHost = /^[A-Za-z0-9\-._~!$&'()*+,;=:@%[\]]+$/;
const printable = /^[\x21-\x7e]+$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const badValue = /[\0-\x08\x0a-\x1f\x7f]/;

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
