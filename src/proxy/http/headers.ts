/**
 * Header fields as they pass through the proxy: names in lower case (Envoy writes them so, and HTTP/2 wants it),
 * values as they came, in the order in which they came. Pseudo-headers are fields of the message, not in here.
 */
export class Headers {
  /** Names and values in turn. */
  readonly flat: string[];

  constructor(flat: string[] = []) {
    this.flat = flat;
  }

  get size(): number {
    return this.flat.length >> 1;
  }

  /** The first value of that (lower-case) name. */
  get(name: string): string | undefined {
    const flat = this.flat;
    for (let i = 0; i < flat.length; i += 2) if (flat[i] === name) return flat[i + 1];
    return undefined;
  }

  has(name: string): boolean {
    return this.get(name) !== undefined;
  }

  /** All values of that name as Envoy's matchers see them: joined by commas. */
  joined(name: string): string | undefined {
    const flat = this.flat;
    let result: string | undefined;
    for (let i = 0; i < flat.length; i += 2) {
      if (flat[i] === name) result = result === undefined ? flat[i + 1] : `${result},${flat[i + 1]}`;
    }
    return result;
  }

  /** Another field of that name, after those that are there. */
  add(name: string, value: string): void {
    this.flat.push(name, value);
  }

  /** One field of that name, in the place of the first that there was. */
  set(name: string, value: string): void {
    const flat = this.flat;
    for (let i = 0; i < flat.length; i += 2) {
      if (flat[i] !== name) continue;
      flat[i + 1] = value;
      this.#removeFrom(i + 2, name);
      return;
    }
    flat.push(name, value);
  }

  /** Joined to the value that is there with a separator, or a field of its own. */
  append(name: string, value: string, separator = ","): void {
    const flat = this.flat;
    for (let i = 0; i < flat.length; i += 2) {
      if (flat[i] !== name) continue;
      flat[i + 1] = flat[i + 1] === "" ? value : `${flat[i + 1]}${separator}${value}`;
      return;
    }
    flat.push(name, value);
  }

  remove(name: string): boolean {
    return this.#removeFrom(0, name);
  }

  #removeFrom(start: number, name: string): boolean {
    const flat = this.flat;
    let to = start;
    while (to < flat.length && flat[to] !== name) to += 2;
    if (to >= flat.length) return false;
    for (let from = to + 2; from < flat.length; from += 2) {
      if (flat[from] === name) continue;
      flat[to] = flat[from]!;
      flat[to + 1] = flat[from + 1]!;
      to += 2;
    }
    flat.length = to;
    return true;
  }

  /** Removes every field whose name the test accepts. */
  removeWhere(test: (name: string) => boolean): void {
    const flat = this.flat;
    let to = 0;
    for (let from = 0; from < flat.length; from += 2) {
      if (test(flat[from]!)) continue;
      flat[to] = flat[from]!;
      flat[to + 1] = flat[from + 1]!;
      to += 2;
    }
    flat.length = to;
  }

  some(test: (name: string) => boolean): boolean {
    const { flat } = this;
    for (let i = 0; i < flat.length; i += 2) if (test(flat[i]!)) return true;
    return false;
  }

  copy(): Headers {
    return new Headers(this.flat.slice());
  }
}

/** The head of a request, whichever protocol it came in. */
export interface RequestHead {
  method: string;
  /** With its query; `*` and CONNECT's missing path as they are. */
  path: string;
  /** `:authority`, or Host. */
  authority: string;
  scheme: string;
  headers: Headers;
}

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/**
 * Field names seen before, as they are written, to their lower-case form. What is in here is a valid token, so a name
 * is judged once; and equal names are the same string, so comparing them is comparing pointers.
 */
const known = new Map<string, string>();
const KNOWN_AT_MOST = 4096;

/** The name in lower case, or undefined when it is no token (RFC 9110, 5.6.2). */
export function fieldName(raw: string): string | undefined {
  const name = known.get(raw);
  if (name !== undefined) return name;
  if (!token.test(raw)) return undefined;
  const lower = raw.toLowerCase();
  if (known.size >= KNOWN_AT_MOST || raw.length > 64) return lower;
  // Not a slice of somebody's buffer, which it would keep alive; and one object for all spellings.
  const own = known.get(lower) ?? Buffer.from(lower, "latin1").toString("latin1");
  known.set(own, own);
  if (raw !== own) known.set(Buffer.from(raw, "latin1").toString("latin1"), own);
  return own;
}

// What the code asks for by literal is the same object here, whatever is seen first.
for (const name of [
  "accept",
  "accept-encoding",
  "authorization",
  "b3",
  "cache-control",
  "connection",
  "content-encoding",
  "content-length",
  "content-type",
  "cookie",
  "date",
  "expect",
  "grpc-message",
  "grpc-status",
  "grpc-timeout",
  "host",
  "keep-alive",
  "location",
  "origin",
  "proxy-connection",
  "server",
  "set-cookie",
  "te",
  "traceparent",
  "tracestate",
  "transfer-encoding",
  "upgrade",
  "user-agent",
  "via",
  "x-b3-sampled",
  "x-b3-spanid",
  "x-b3-traceid",
  "x-envoy-attempt-count",
  "x-envoy-decorator-operation",
  "x-envoy-expected-rq-timeout-ms",
  "x-envoy-original-path",
  "x-envoy-peer-metadata",
  "x-envoy-peer-metadata-id",
  "x-envoy-upstream-service-time",
  "x-forwarded-client-cert",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-forwarded-proto",
  "x-request-id",
]) {
  known.set(name, name);
  const proper = name.replace(/(^|-)[a-z]/g, (letter) => letter.toUpperCase());
  known.set(proper, name);
}
