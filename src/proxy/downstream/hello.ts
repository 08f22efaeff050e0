/** Looks at a connection's first bytes without taking them: TLS ClientHello (SNI, ALPN), or HTTP. */
import { preface } from "../../http2/index.ts";

/** What the inspectors found. `undecided`: more bytes are needed. */
export type Looked<T> = T | "undecided" | undefined;

export interface ClientHello {
  serverName: string | undefined;
  alpn: readonly string[];
}

/** A ClientHello of more than this is none (Envoy's tls_inspector: 16 KiB). */
const largestHello = 16 * 1024;

/** RFC 8446, 4.1.2; RFC 6066 (server_name); RFC 7301 (ALPN). Undefined: these are not TLS. */
export function readClientHello(bytes: Buffer): Looked<ClientHello> {
  const message = handshake(bytes);
  if (message === undefined || message === "undecided") return message;
  let at = 4 + 2 + 32; // type and length, version, random
  const sized = (width: 1 | 2) => {
    const length = width === 1 ? message.readUInt8(at) : message.readUInt16BE(at);
    const start = at + width;
    at = start + length;
    if (at > message.length) throw new RangeError("it says to be longer than it is");
    return message.subarray(start, at);
  };
  try {
    sized(1); // session id
    sized(2); // cipher suites
    sized(1); // compression methods
    const hello: ClientHello = { serverName: undefined, alpn: [] };
    if (at === message.length) return hello;
    const extensions = sized(2);
    for (let i = 0; i + 4 <= extensions.length; ) {
      const type = extensions.readUInt16BE(i);
      const length = extensions.readUInt16BE(i + 2);
      const value = extensions.subarray(i + 4, i + 4 + length);
      i += 4 + length;
      if (type === 0) hello.serverName = serverName(value);
      else if (type === 16) hello.alpn = alpn(value);
    }
    return hello;
  } catch {
    return undefined; // what is no ClientHello is no TLS that we know of
  }
}

/** The handshake message, out of one or more records. */
function handshake(bytes: Buffer): Looked<Buffer> {
  const parts: Buffer[] = [];
  let have = 0;
  let wanted = 4;
  for (let at = 0; ; ) {
    if (at < bytes.length && bytes[at] !== 22) return undefined;
    if (at + 1 < bytes.length && bytes[at + 1] !== 3) return undefined;
    if (bytes.length < at + 5) return "undecided";
    const length = bytes.readUInt16BE(at + 3);
    if (length === 0) return undefined;
    const part = bytes.subarray(at + 5, at + 5 + length);
    if (at === 0 && part.length > 0 && part[0] !== 1) return undefined;
    parts.push(part);
    have += part.length;
    if (have >= 4) {
      const all = parts.length === 1 ? part : Buffer.concat(parts);
      wanted = 4 + all.readUIntBE(1, 3);
      if (wanted > largestHello) return undefined;
      if (have >= wanted) return all.subarray(0, wanted);
    }
    if (part.length < length) return "undecided";
    at += 5 + length;
  }
}

function serverName(value: Buffer): string | undefined {
  for (let at = 2; at + 3 <= value.length; ) {
    const length = value.readUInt16BE(at + 1);
    if (value[at] === 0) return value.toString("latin1", at + 3, at + 3 + length).toLowerCase();
    at += 3 + length;
  }
  return undefined;
}

function alpn(value: Buffer): string[] {
  const names: string[] = [];
  for (let at = 2; at < value.length; ) {
    const length = value[at]!;
    names.push(value.toString("latin1", at + 1, at + 1 + length));
    at += 1 + length;
  }
  return names;
}

/** What a method may begin with (RFC 9110, 5.6.2: tchar); anything else is not HTTP at once. */
const begins = /^[!#$%&'*+\-.^_`|~A-Za-z0-9]/;
/** A request line longer than this is not waited for. */
const longestLine = 64 * 1024;

/** `http/1.0`, `http/1.1` or `h2c` as the http_inspector says; undefined: this is not HTTP. */
export function readHttp(bytes: Buffer): Looked<"http/1.0" | "http/1.1" | "h2c"> {
  const common = Math.min(bytes.length, preface.length);
  if (bytes.subarray(0, common).equals(preface.subarray(0, common))) {
    return common === preface.length ? "h2c" : "undecided";
  }
  if (!begins.test(String.fromCharCode(bytes[0]!))) return undefined;
  const end = bytes.indexOf(10);
  if (end < 0) return bytes.length > longestLine ? undefined : "undecided";
  const line = bytes.toString("latin1", 0, bytes[end - 1] === 13 ? end - 1 : end);
  const version = /^[!#$%&'*+\-.^_`|~A-Za-z0-9]+[ \t]+\S+[ \t]+HTTP\/1\.([01])$/.exec(line)?.[1];
  return version === "1" ? "http/1.1" : version === "0" ? "http/1.0" : undefined;
}
