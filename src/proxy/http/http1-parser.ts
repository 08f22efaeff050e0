/**
 * A strict parser of HTTP/1.1 messages (RFC 9112). What is ambiguous is refused, never guessed: bare CR or LF, folded
 * lines, lengths that are given twice, transfer codings other than `chunked`, whitespace where there must be none.
 * It stops after each message, so that whoever reads decides when the next one is looked at.
 */
import type { Headers } from "./headers.ts";
import { bad, type ParseError } from "./http1-errors.ts";
import { isBlank, MessageHead } from "./http1-head.ts";
import { CR, LF, type Limits, Lines } from "./http1-lines.ts";

export interface MessageSink {
  /**
   * The head is in the parser's fields. For responses: returns true when no body follows whatever the head says
   * (an answer to HEAD). Bytes after a head that switches protocols are left to the caller.
   */
  onHead(parser: Http1Parser): boolean;
  onBody(chunk: Buffer): void;
  /** The message is complete. Trailers when there were any. */
  onComplete(trailers: Headers | undefined): void;
  onError(error: ParseError): void;
}

const State = {
  before: 12,
  beforeLf: 13,
  head: 0,
  length: 1,
  chunkSize: 2,
  chunkExtension: 3,
  chunkSizeLf: 4,
  chunkData: 5,
  chunkCr: 6,
  chunkLf: 7,
  trailers: 8,
  close: 9,
  tunnel: 10,
  failed: 11,
} as const;

/** Empty lines that are read over before a request. */
const EMPTY_LINES_AT_MOST = 16;
/** At most this many bytes of chunk extensions for one chunk. */
const CHUNK_EXTENSION_AT_MOST = 4096;

/** Itself the head of the message that it reads. */
export class Http1Parser extends MessageHead {
  readonly #kind: "request" | "response";
  readonly #sink: MessageSink;
  readonly #lines: Lines;
  #state: number = State.before;
  #skipped = 0;
  /** Set while a head without a body is read: the message ended with its head. */
  #messageEnded = false;
  /** Bytes of the body, or of the chunk, that are to come. */
  #left = 0;
  #digits = 0;
  #extension = 0;
  /** Bytes of the message so far that are not its body: head, sizes of chunks, trailers. */
  overhead = 0;

  constructor(
    kind: "request" | "response",
    sink: MessageSink,
    limits: Limits,
    options: { acceptHttp10?: boolean } = {},
  ) {
    super(kind, limits.headerCount, options.acceptHttp10 === true);
    this.#kind = kind;
    this.#sink = sink;
    this.#lines = new Lines(limits);
  }

  /** Nothing of a next message was seen yet. */
  get idle(): boolean {
    return this.#state === State.before;
  }

  get failed(): boolean {
    return this.#state === State.failed;
  }

  /** The rest of the connection is another protocol's. */
  tunnel(): void {
    this.#state = State.tunnel;
  }

  /**
   * Reads from `start` up to the end of the message or of the bytes. Returns how far it came; less than the length means
   * that a message ended there (or that the rest is a tunnel's).
   */
  execute(buffer: Buffer, start = 0): number {
    let at = start;
    const end = buffer.length;
    while (at < end) {
      switch (this.#state) {
        case State.before:
          // Empty lines before a request are read over (RFC 9112, 2.2).
          if (this.#kind === "request" && buffer[at] === CR && this.#skipped < EMPTY_LINES_AT_MOST) {
            at++;
            this.#skipped++;
            this.#state = State.beforeLf;
          } else this.#state = State.head;
          break;
        case State.beforeLf:
          if (buffer[at++] !== LF) this.#fail(bad);
          else this.#state = State.before;
          break;
        case State.head: {
          at = this.#readHead(buffer, at, end);
          if (this.#messageEnded || this.#state === State.head || this.#state === State.tunnel) return at;
          break;
        }
        case State.length: {
          const take = Math.min(this.#left, end - at);
          this.#left -= take;
          const done = this.#left === 0;
          this.#sink.onBody(take === end && at === 0 ? buffer : buffer.subarray(at, at + take));
          at += take;
          if (done) {
            this.#complete(undefined);
            return at;
          }
          break;
        }
        case State.close: {
          this.#sink.onBody(at === 0 ? buffer : buffer.subarray(at));
          return end;
        }
        case State.chunkSize:
        case State.chunkExtension:
        case State.chunkSizeLf: {
          const before = at;
          at = this.#readChunkSize(buffer, at, end);
          this.overhead += at - before;
          break;
        }
        case State.chunkData: {
          const take = Math.min(this.#left, end - at);
          this.#left -= take;
          if (this.#left === 0) this.#state = State.chunkCr;
          this.#sink.onBody(buffer.subarray(at, at + take));
          at += take;
          break;
        }
        case State.chunkCr:
          if (buffer[at++] !== CR) this.#fail(bad);
          else this.#state = State.chunkLf;
          break;
        case State.chunkLf:
          if (buffer[at++] !== LF) this.#fail(bad);
          else {
            this.overhead += 2;
            this.#startChunk();
          }
          break;
        case State.trailers: {
          at = this.#readTrailers(buffer, at, end);
          if (this.#state !== State.trailers) return at;
          break;
        }
        case State.tunnel:
          return at;
        default:
          return end;
      }
    }
    return at;
  }

  /** The connection has ended. True when that ended a message well, or none was begun. */
  finish(): boolean {
    if (this.#state === State.close) {
      this.#complete(undefined);
      return true;
    }
    return this.idle || this.#state === State.tunnel;
  }

  // ------------------------------------------------------------------------------------------------ heads

  #readHead(buffer: Buffer, start: number, end: number): number {
    this.#messageEnded = false;
    const lines = this.#lines;
    const at = lines.read(buffer, start, end);
    this.overhead = lines.text.length;
    if (lines.whole) {
      const error = this.readHead(lines);
      lines.clear();
      if (error) this.#fail(error);
      else this.#begin();
    } else if (lines.error) this.#fail(lines.error);
    return at;
  }

  /** The head is read: tells it, and gets ready for what follows. */
  #begin(): void {
    if (this.#kind === "request") {
      this.#state =
        this.framing === "none" ? State.before : this.framing === "length" ? State.length : State.chunkSize;
      this.#left = this.contentLength;
      if (this.framing === "chunked") this.#startChunk();
      this.#sink.onHead(this);
      if (this.#state === State.before) this.#complete(undefined);
      return;
    }
    const status = this.status;
    if (status === 204 || (status >= 100 && status < 200)) {
      if (this.framing !== "none") {
        this.#fail(bad);
        return;
      }
    } else if (status === 304) this.framing = "none";
    else if (this.framing === "none" && this.contentLength !== 0) this.framing = "close";
    this.#left = this.contentLength;
    const bodyless = this.#sink.onHead(this);
    if (this.#state === State.failed || this.#state === State.tunnel) return;
    if (status >= 100 && status < 200) {
      this.#messageEnded = true; // the final response follows
      this.#state = State.head;
      return;
    }
    if (bodyless) this.framing = "none";
    switch (this.framing) {
      case "none":
        this.#complete(undefined);
        return;
      case "length":
        this.#state = State.length;
        return;
      case "close":
        this.#state = State.close;
        return;
      case "chunked":
        this.#startChunk();
    }
  }

  // ----------------------------------------------------------------------------------------------- chunks

  #startChunk(): void {
    this.#state = State.chunkSize;
    this.#left = 0;
    this.#digits = 0;
    this.#extension = 0;
  }

  #readChunkSize(buffer: Buffer, start: number, end: number): number {
    let at = start;
    while (at < end) {
      const byte = buffer[at]!;
      if (this.#state === State.chunkSizeLf) {
        if (byte !== LF) return this.#fail(bad, end);
        at++;
        if (this.#left > 0) this.#state = State.chunkData;
        else this.#state = State.trailers;
        return at;
      }
      if (this.#state === State.chunkSize) {
        const digit = hexDigit(byte);
        if (digit >= 0) {
          this.#left = this.#left * 16 + digit;
          if (++this.#digits > 13) return this.#fail(bad, end);
          at++;
          continue;
        }
        if (this.#digits === 0) return this.#fail(bad, end);
        if (byte === CR) this.#state = State.chunkSizeLf;
        else if (byte === 59 || isBlank(byte)) this.#state = State.chunkExtension;
        else return this.#fail(bad, end);
        at++;
        continue;
      }
      // Extensions are read over; what is not text in them, or a line end that is none, is refused.
      if (byte === CR) this.#state = State.chunkSizeLf;
      else if ((byte < 32 && byte !== 9) || byte === 127) return this.#fail(bad, end);
      else if (++this.#extension > CHUNK_EXTENSION_AT_MOST) return this.#fail(bad, end);
      at++;
    }
    return at;
  }

  #readTrailers(buffer: Buffer, start: number, end: number): number {
    const lines = this.#lines;
    const at = lines.read(buffer, start, end);
    if (lines.whole) {
      this.overhead += lines.text.length;
      if (lines.ends.length === 0) this.#complete(undefined);
      else {
        const trailers = this.readTrailers(lines);
        lines.clear();
        if ("status" in trailers) this.#fail(trailers);
        else this.#complete(trailers);
      }
    } else if (lines.error) this.#fail(lines.error);
    return at;
  }

  #complete(trailers: Headers | undefined): void {
    this.#state = State.before;
    this.#skipped = 0;
    this.#messageEnded = true;
    this.#sink.onComplete(trailers);
  }

  #fail(error: ParseError, value = -1): number {
    if (this.#state !== State.failed) {
      this.#state = State.failed;
      this.#lines.drop();
      this.#sink.onError(error);
    }
    return value;
  }
}

function hexDigit(byte: number): number {
  if (byte >= 48 && byte <= 57) return byte - 48;
  const lower = byte | 32;
  return lower >= 97 && lower <= 102 ? lower - 87 : -1;
}
