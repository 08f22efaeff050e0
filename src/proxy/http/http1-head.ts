/** The head of an HTTP/1.1 message (RFC 9112): its first line, its fields, and what they say of the body. */
import { fieldName, Headers } from "./headers.ts";
import {
  bad,
  badCoding,
  badUrl,
  bothLengths,
  oldVersion,
  type ParseError,
  tooMany,
  twoHosts,
} from "./http1-errors.ts";
import type { Lines } from "./http1-lines.ts";

/** How the body of a message is delimited. */
export type Framing = "none" | "length" | "chunked" | "close";

const methods = new Set(
  (
    "GET POST PUT DELETE HEAD OPTIONS PATCH CONNECT TRACE ACL BIND CHECKOUT COPY LINK LOCK M-SEARCH MERGE MKACTIVITY " +
    "MKCALENDAR MKCOL MOVE NOTIFY PROPFIND PROPPATCH PURGE REBIND REPORT SEARCH SOURCE SUBSCRIBE UNBIND UNLINK UNLOCK UNSUBSCRIBE"
  ).split(" "),
);

/** What was read of a head; it is valid until the next one is read. */
export class MessageHead {
  readonly #kind: "request" | "response";
  readonly #headerCount: number;
  readonly #acceptHttp10: boolean;

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

  constructor(kind: "request" | "response", headerCount: number, acceptHttp10: boolean) {
    this.#kind = kind;
    this.#headerCount = headerCount;
    this.#acceptHttp10 = kind === "response" || acceptHttp10;
  }

  protected readHead({ text, ends }: Lines): ParseError | undefined {
    const first = ends[0]!;
    const error = this.#kind === "request" ? this.#requestLine(text, first) : this.#statusLine(text, first);
    if (error) return error;
    const flat: string[] = [];
    this.headers = new Headers(flat);
    this.host = undefined;
    this.connection = "";
    this.upgrade = undefined;
    this.contentLength = -1;
    this.framing = "none";
    return this.#fields(text, ends, first + 2, 1, flat, true);
  }

  /** Fields alone. */
  protected readTrailers({ text, ends }: Lines): Headers | ParseError {
    const flat: string[] = [];
    return this.#fields(text, ends, 0, 0, flat, false) ?? new Headers(flat);
  }

  /** Reads the lines from the `line`-th on as fields. */
  #fields(
    text: string,
    ends: readonly number[],
    from: number,
    line: number,
    flat: string[],
    framing: boolean,
  ): ParseError | undefined {
    if (ends.length - line > this.#headerCount) return tooMany;
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
}

const printable = /^[\x21-\x7e]+$/;

export function isBlank(code: number): boolean {
  return code === 32 || code === 9;
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
