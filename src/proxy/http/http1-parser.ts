import { fieldName, Headers } from "./headers.ts";

/**
 * A strict parser of HTTP/1.1 messages (RFC 9112). What is ambiguous is refused, never guessed: bare CR or LF, folded
 * lines, lengths that are given twice, transfer codings other than `chunked`, whitespace where there must be none.
 * It stops after each message, so that whoever reads decides when the next one is looked at.
 */

export interface Limits {
  /** Bytes of a head, request line among them. Envoy's default for requests is 60 KiB. */
  headBytes: number;
  /** Header fields. Envoy's default is 100. */
  headerCount: number;
}

/** Why a message is refused; `details` are Envoy's words for it in %RESPONSE_CODE_DETAILS%. */
export interface ParseError {
  /** What a server answers to it. */
  status: 400 | 426 | 431 | 501;
  details: string;
}

export interface RequestLine {
  method: string;
  target: string;
  /** 0 for HTTP/1.0. */
  minor: 0 | 1;
}

/** How the body of a message is delimited. */
export type Framing = "none" | "length" | "chunked" | "close";

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

const CR = 13;
const LF = 10;

const methods = new Set(
  (
    "GET POST PUT DELETE HEAD OPTIONS PATCH CONNECT TRACE ACL BIND CHECKOUT COPY LINK LOCK M-SEARCH MERGE MKACTIVITY " +
    "MKCALENDAR MKCOL MOVE NOTIFY PROPFIND PROPPATCH PURGE REBIND REPORT SEARCH SOURCE SUBSCRIBE UNBIND UNLINK UNLOCK UNSUBSCRIBE"
  ).split(" "),
);

const bad: ParseError = { status: 400, details: "http1.codec_error" };
const badCharacters: ParseError = { status: 400, details: "http1.invalid_characters" };
const bothLengths: ParseError = { status: 400, details: "http1.content_length_and_chunked_not_allowed" };
const badCoding: ParseError = { status: 501, details: "http1.invalid_transfer_encoding" };
const tooLarge: ParseError = { status: 431, details: "http1.headers_too_large" };
const tooMany: ParseError = { status: 431, details: "http1.too_many_headers" };
const oldVersion: ParseError = { status: 426, details: "low_version" };
const badUrl: ParseError = { status: 400, details: "http1.invalid_url" };
const twoHosts: ParseError = { status: 400, details: "http1.multiple_hosts" };

/** Empty lines that are read over before a request. */
const EMPTY_LINES_AT_MOST = 16;
/** At most this many bytes of chunk extensions for one chunk. */
const CHUNK_EXTENSION_AT_MOST = 4096;

export class Http1Parser {
  readonly #kind: "request" | "response";
  readonly #sink: MessageSink;
  readonly #limits: Limits;
  readonly #acceptHttp10: boolean;
  #state: number = State.before;

  // The head (or trailer section) that is being gathered.
  /** What came in earlier pieces; undefined when all of it is in one. */
  #partial: Buffer | undefined;
  #partialLength = 0;
  /** Ends of lines (the place of their CR), from the start of the head. */
  readonly #ends: number[] = [];
  #scanned = 0;
  #lineStart = 0;
  #skipped = 0;

  /** Bytes of the body, or of the chunk, that are to come. */
  #left = 0;
  #digits = 0;
  #extension = 0;

  // What was read, valid from onHead on.
  method = "";
  target = "";
  minor: 0 | 1 = 1;
  status = 0;
  headers = new Headers();
  framing: Framing = "none";
  contentLength = -1;
  /** The `host` field of a request. */
  host: string | undefined;
  /** Lower-case options of `connection`, joined by commas; empty when there were none. */
  connection = "";
  /** What `upgrade` says, when `connection` names it. */
  upgrade: string | undefined;

  constructor(
    kind: "request" | "response",
    sink: MessageSink,
    limits: Limits,
    options: { acceptHttp10?: boolean } = {},
  ) {
    this.#kind = kind;
    this.#sink = sink;
    this.#limits = limits;
    this.#acceptHttp10 = kind === "response" || options.acceptHttp10 === true;
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
          at = this.#readChunkSize(buffer, at, end);
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
          else this.#startChunk();
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

  /** Set while a head without a body is read: the message ended with its head. */
  #messageEnded = false;

  /** Finds the end of a section of lines. Returns the place after it, or -1 when it is not there yet. */
  #scan(buffer: Buffer, base: number, end: number): number {
    let at = base + this.#scanned;
    let lineStart = base + this.#lineStart;
    const ends = this.#ends;
    while (at < end) {
      const byte = buffer[at]!;
      if (byte > 31 && byte !== 127) {
        at++;
        continue;
      }
      if (byte === CR) {
        if (at + 1 >= end) break;
        if (buffer[at + 1] !== LF) return this.#fail(bad);
        if (at === lineStart) {
          this.#scanned = 0;
          this.#lineStart = 0;
          return at + 2;
        }
        if (ends.length > this.#limits.headerCount + 1) return this.#fail(tooMany);
        ends.push(at - base);
        at += 2;
        lineStart = at;
        continue;
      }
      if (byte === 9) {
        at++;
        continue;
      }
      return this.#fail(byte === LF ? bad : badCharacters);
    }
    this.#scanned = at - base;
    this.#lineStart = lineStart - base;
    if (this.#scanned > this.#limits.headBytes) return this.#fail(tooLarge);
    return -1;
  }

  /** Keeps what is not yet a whole section, to go on when more comes. */
  #keep(buffer: Buffer, at: number, end: number): void {
    const size = end - at;
    if (!this.#partial) {
      this.#partial = Buffer.allocUnsafe(Math.max(1024, size * 2));
      this.#partialLength = 0;
    }
    if (this.#partialLength + size > this.#partial.length) {
      const larger = Buffer.allocUnsafe((this.#partialLength + size) * 2);
      this.#partial.copy(larger, 0, 0, this.#partialLength);
      this.#partial = larger;
    }
    buffer.copy(this.#partial, this.#partialLength, at, end);
    this.#partialLength += size;
  }

  #readHead(buffer: Buffer, start: number, end: number): number {
    this.#messageEnded = false;
    let source = buffer;
    let base = start;
    let consumed = 0;
    let stop = end;
    if (this.#partial) {
      // Never more than one head can hold, whatever else came with it.
      stop = Math.min(end, start + this.#limits.headBytes + 4);
      consumed = this.#partialLength;
      this.#keep(buffer, start, stop);
      source = this.#partial;
      base = 0;
    }
    const after = this.#scan(source, base, source === buffer ? end : this.#partialLength);
    if (after < 0) {
      if (this.#state === State.failed) return end;
      if (source === buffer) this.#keep(buffer, start, end);
      return stop;
    }
    this.#partial = undefined;
    this.#parseHead(source, base, after);
    return source === buffer ? after : start + (after - consumed);
  }

  #parseHead(buffer: Buffer, start: number, after: number): void {
    const text = buffer.toString("latin1", start, after);
    const ends = this.#ends;
    if (after - start > this.#limits.headBytes) {
      this.#fail(tooLarge);
      return;
    }
    const first = ends[0]!;
    const error = this.#kind === "request" ? this.#requestLine(text, first) : this.#statusLine(text, first);
    if (error) {
      this.#fail(error);
      return;
    }
    const flat: string[] = [];
    this.headers = new Headers(flat);
    this.host = undefined;
    this.connection = "";
    this.upgrade = undefined;
    this.contentLength = -1;
    this.framing = "none";
    const failure = this.#fields(text, first + 2, 1, flat, true);
    ends.length = 0;
    if (failure) {
      this.#fail(failure);
      return;
    }
    this.#begin();
  }

  /** Reads the lines from the `line`-th on as fields. */
  #fields(
    text: string,
    from: number,
    line: number,
    flat: string[],
    framing: boolean,
  ): ParseError | undefined {
    const ends = this.#ends;
    if (ends.length - line > this.#limits.headerCount) return tooMany;
    let at = from;
    let upgrade: string | undefined;
    let coding: string | undefined;
    for (let i = line; i < ends.length; i++) {
      const end = ends[i]!;
      const colon = text.indexOf(":", at);
      if (colon < 0 || colon >= end) return bad;
      const name = fieldName(text.slice(at, colon));
      if (name === undefined) return bad;
      let from = colon + 1;
      let to = end;
      while (from < to && isBlank(text.charCodeAt(from))) from++;
      while (to > from && isBlank(text.charCodeAt(to - 1))) to--;
      const value = text.slice(from, to);
      at = end + 2;
      if (framing) {
        switch (name) {
          case "content-length": {
            if (this.contentLength >= 0) return bad;
            const length = decimal(value);
            if (length < 0) return bad;
            this.contentLength = length;
            break;
          }
          case "transfer-encoding":
            if (coding !== undefined) return badCoding;
            coding = value;
            break;
          case "host":
            if (this.#kind === "request") {
              if (this.host !== undefined) return twoHosts;
              this.host = value;
              continue;
            }
            break;
          case "connection":
            this.connection = this.connection
              ? `${this.connection},${value.toLowerCase()}`
              : value.toLowerCase();
            break;
          case "upgrade":
            upgrade = value;
            break;
        }
      }
      flat.push(name, value);
    }
    if (!framing) return undefined;
    if (coding !== undefined) {
      if (coding !== "chunked" && coding.toLowerCase() !== "chunked") return badCoding;
      if (this.contentLength >= 0) return bothLengths;
      // Chunks were not known to HTTP/1.0: who sends them there means to confuse.
      if (this.minor === 0) return bad;
      this.framing = "chunked";
    } else if (this.contentLength > 0) this.framing = "length";
    if (upgrade !== undefined && hasOption(this.connection, "upgrade")) this.upgrade = upgrade;
    return undefined;
  }

  #requestLine(text: string, end: number): ParseError | undefined {
    const space = text.indexOf(" ");
    if (space <= 0 || space >= end) return bad;
    const method = text.slice(0, space);
    if (!methods.has(method)) return bad;
    const second = text.indexOf(" ", space + 1);
    if (second < 0 || second >= end) return oldVersion; // HTTP/0.9
    if (second === space + 1) return bad;
    // Exactly one version after exactly two spaces.
    if (end - second !== 9 || !text.startsWith("HTTP/", second + 1) || text[second + 7] !== ".") return bad;
    const major = text.charCodeAt(second + 6) - 48;
    const minor = text.charCodeAt(second + 8) - 48;
    if (major < 0 || major > 9 || minor < 0 || minor > 9) return bad;
    if (major !== 1 || minor > 1) return oldVersion;
    if (minor === 0 && !this.#acceptHttp10) return oldVersion;
    const target = text.slice(space + 1, second);
    // Control characters were refused before; what is left is what is not ASCII, and tabs.
    if (!printable.test(target)) return badUrl;
    this.method = method;
    this.target = target;
    this.minor = minor as 0 | 1;
    return undefined;
  }

  #statusLine(text: string, end: number): ParseError | undefined {
    if (!text.startsWith("HTTP/1.") || end < 12 || text[8] !== " ") return bad;
    const minor = text.charCodeAt(7) - 48;
    if (minor !== 0 && minor !== 1) return bad;
    const status = decimal(text.slice(9, 12));
    if (status < 100 || (end > 12 && text[12] !== " ")) return bad;
    this.status = status;
    this.minor = minor;
    return undefined;
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
        else {
          this.#state = State.trailers;
          this.#scanned = 0;
          this.#lineStart = 0;
        }
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
    let source = buffer;
    let base = start;
    let consumed = 0;
    let stop = end;
    if (this.#partial) {
      stop = Math.min(end, start + this.#limits.headBytes + 4);
      consumed = this.#partialLength;
      this.#keep(buffer, start, stop);
      source = this.#partial;
      base = 0;
    }
    const after = this.#scan(source, base, source === buffer ? end : this.#partialLength);
    if (after < 0) {
      if (this.#state === State.failed) return end;
      if (source === buffer) this.#keep(buffer, start, end);
      return stop;
    }
    this.#partial = undefined;
    this.#endTrailers(source, base, after);
    return source === buffer ? after : start + (after - consumed);
  }

  #endTrailers(buffer: Buffer, start: number, after: number): void {
    if (after - start > this.#limits.headBytes) {
      this.#fail(tooLarge);
      return;
    }
    if (this.#ends.length === 0) {
      this.#complete(undefined);
      return;
    }
    const flat: string[] = [];
    const error = this.#fields(buffer.toString("latin1", start, after), 0, 0, flat, false);
    this.#ends.length = 0;
    if (error) this.#fail(error);
    else this.#complete(new Headers(flat));
  }

  #complete(trailers: Headers | undefined): void {
    this.#state = State.before;
    this.#skipped = 0;
    this.#messageEnded = true;
    this.#scanned = 0;
    this.#lineStart = 0;
    this.#sink.onComplete(trailers);
  }

  #fail(error: ParseError, value = -1): number {
    if (this.#state !== State.failed) {
      this.#state = State.failed;
      this.#partial = undefined;
      this.#ends.length = 0;
      this.#sink.onError(error);
    }
    return value;
  }
}

const printable = /^[\x21-\x7e]+$/;

function isBlank(code: number): boolean {
  return code === 32 || code === 9;
}

function hexDigit(byte: number): number {
  if (byte >= 48 && byte <= 57) return byte - 48;
  const lower = byte | 32;
  return lower >= 97 && lower <= 102 ? lower - 87 : -1;
}

/** Digits alone, at most 15 of them (that is a petabyte, and still exact): anything else is -1. */
function decimal(text: string): number {
  const length = text.length;
  if (length === 0 || length > 15) return -1;
  let value = 0;
  for (let i = 0; i < length; i++) {
    const digit = text.charCodeAt(i) - 48;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return value;
}

/** Whether a `connection` field (lower case) has that option. */
export function hasOption(connection: string, option: string): boolean {
  if (connection === "") return false;
  if (connection === option) return true;
  return connection.split(",").some((part) => part.trim() === option);
}
