/** HTTP/1.1 messages as bytes. */
import type { Headers, RequestHead } from "./headers.ts";

const reasons: Record<number, string> = {
  100: "Continue",
  101: "Switching Protocols",
  102: "Processing",
  103: "Early Hints",
  200: "OK",
  201: "Created",
  202: "Accepted",
  203: "Non-Authoritative Information",
  204: "No Content",
  205: "Reset Content",
  206: "Partial Content",
  207: "Multi-Status",
  208: "Already Reported",
  226: "IM Used",
  300: "Multiple Choices",
  301: "Moved Permanently",
  302: "Found",
  303: "See Other",
  304: "Not Modified",
  305: "Use Proxy",
  307: "Temporary Redirect",
  308: "Permanent Redirect",
  400: "Bad Request",
  401: "Unauthorized",
  402: "Payment Required",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  406: "Not Acceptable",
  407: "Proxy Authentication Required",
  408: "Request Timeout",
  409: "Conflict",
  410: "Gone",
  411: "Length Required",
  412: "Precondition Failed",
  413: "Payload Too Large",
  414: "URI Too Long",
  415: "Unsupported Media Type",
  416: "Range Not Satisfiable",
  417: "Expectation Failed",
  421: "Misdirected Request",
  422: "Unprocessable Entity",
  423: "Locked",
  424: "Failed Dependency",
  426: "Upgrade Required",
  428: "Precondition Required",
  429: "Too Many Requests",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
  505: "HTTP Version Not Supported",
  506: "Variant Also Negotiates",
  507: "Insufficient Storage",
  508: "Loop Detected",
  510: "Not Extended",
  511: "Network Authentication Required",
};

/** Envoy's words for a status. */
export function reasonOf(status: number): string {
  return reasons[status] ?? "Unknown";
}

const statusLines: string[] = [];
function statusLine(status: number): string {
  let line = statusLines[status];
  if (line === undefined) {
    line = `HTTP/1.1 ${status} ${reasonOf(status)}\r\n`;
    statusLines[status] = line;
  }
  return line;
}

function fields(headers: Headers): string {
  const { flat } = headers;
  let text = "";
  for (let i = 0; i < flat.length; i += 2) text += `${flat[i]}: ${flat[i + 1]}\r\n`;
  return text;
}

/** How what follows a head is delimited. */
export type BodyFraming = "none" | "length" | "chunked" | "raw";

/** A response's head, and how its body is to be written. `close`: the connection ends with it. */
export function responseHead(
  status: number,
  headers: Headers,
  options: {
    end: boolean;
    toHead: boolean;
    close: boolean;
    keepAlive10: boolean;
    http10: boolean;
    upgrade: string | undefined;
  },
): { text: string; framing: BodyFraming; close: boolean } {
  let text = statusLine(status) + fields(headers);
  let framing: BodyFraming = "none";
  if (options.upgrade !== undefined) {
    if (!headers.has("connection")) text += "connection: upgrade\r\n";
    if (!headers.has("upgrade")) text += `upgrade: ${options.upgrade}\r\n`;
    text += "\r\n";
    return { text, framing: "raw", close: false };
  }
  const bodyless = status < 200 || status === 204 || status === 304;
  // HTTP/1.0 knows no chunks: a body without length ends with the connection.
  const close =
    options.close || (options.http10 && !bodyless && !options.end && !headers.has("content-length"));
  if (close) text += "connection: close\r\n";
  else if (options.keepAlive10) text += "connection: keep-alive\r\n";
  if (!bodyless) {
    if (headers.has("content-length")) framing = options.toHead || options.end ? "none" : "length";
    else if (options.end && !options.toHead) text += "content-length: 0\r\n";
    else if (options.http10) framing = options.toHead ? "none" : "raw";
    else if (!options.end || options.toHead) {
      text += "transfer-encoding: chunked\r\n";
      framing = options.toHead ? "none" : "chunked";
    }
  }
  return { text: `${text}\r\n`, framing, close };
}

/** Methods whose requests have a body as a rule: without one they say `content-length: 0`. */
const bodied = new Set(["POST", "PUT", "PATCH", "DELETE", "PURGE", "OPTIONS"]);

/** A request's head, and how its body is to be written. */
export function requestHead(
  head: RequestHead,
  end: boolean,
  upgrade: string | undefined,
): { text: string; framing: BodyFraming } {
  const { method, headers } = head;
  let text = `${method} ${head.path} HTTP/1.1\r\nhost: ${head.authority}\r\n${fields(headers)}`;
  let framing: BodyFraming = "none";
  if (upgrade !== undefined) {
    if (!headers.has("connection")) text += "connection: upgrade\r\n";
    return { text: `${text}\r\n`, framing: "raw" };
  }
  if (headers.has("content-length")) framing = end ? "none" : "length";
  else if (end) {
    if (bodied.has(method)) text += "content-length: 0\r\n";
  } else {
    text += "transfer-encoding: chunked\r\n";
    framing = "chunked";
  }
  return { text: `${text}\r\n`, framing };
}

/** The last chunk, with trailers where they may be written. */
export function lastChunk(trailers: Headers | undefined): string {
  return trailers ? `0\r\n${fields(trailers)}\r\n` : "0\r\n\r\n";
}
