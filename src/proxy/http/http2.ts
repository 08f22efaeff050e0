type Http2 = typeof import("node:http2");
let loaded: Http2 | undefined;

/** node:http2, loaded when the first connection speaks it: a sidecar that needs none does not carry it. */
export function http2(): Http2 {
  loaded ??= process.getBuiltinModule("node:http2");
  return loaded;
}

/** What begins every HTTP/2 connection of a client (RFC 9113, 3.4). */
export const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** Node counts pseudo-headers too. */
export function maxHeaderPairs(fields: number): number {
  return fields + 5;
}
