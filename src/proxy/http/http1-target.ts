/** What a request in HTTP/1.1 is for: its target and its host (RFC 9112, 3.2). */
import type { RequestHead } from "./headers.ts";
import type { ParseError } from "./http1-errors.ts";
import { hasOption } from "./http1-head.ts";

/**
 * Absolute targets name the host (RFC 9112, 3.2.2); what is no path, host or `*` is refused. `connection`: that field;
 * `noUnderscores`: names of fields may have none.
 */
export function readTarget(
  head: RequestHead,
  authority: string | undefined,
  connection: string,
  noUnderscores: boolean,
): ParseError | undefined {
  if (noUnderscores && head.headers.some((name) => name.includes("_"))) {
    return { status: 400, details: "http1.unexpected_underscore" };
  }
  if (namesForwarded(connection)) return { status: 400, details: "http1.connection_header_rejected" };
  const { path, method } = head;
  if (method === "CONNECT") {
    if (!/^[^/?#@]+:\d+$/.test(path)) return { status: 400, details: "http1.invalid_url" };
    head.authority = path;
    head.path = "";
  } else if (path.charCodeAt(0) !== 47) {
    if (path === "*") {
      if (method !== "OPTIONS") return { status: 400, details: "http1.invalid_url" };
    } else {
      const match = /^([a-zA-Z][a-zA-Z0-9+.-]*):\/\/([^/?#]*)([/?].*)?$/.exec(path);
      if (!match) return { status: 400, details: "http1.codec_error" };
      const scheme = match[1]!.toLowerCase();
      if (scheme !== "http" && scheme !== "https") return { status: 400, details: "http1.invalid_scheme" };
      const host = match[2]!.slice(match[2]!.lastIndexOf("@") + 1);
      if (host === "") return { status: 400, details: "http1.invalid_url" };
      head.authority = host;
      head.scheme = scheme;
      const rest = match[3] ?? "/";
      head.path = rest.startsWith("?") ? `/${rest}` : rest;
    }
  }
  const host = authority === undefined || head.authority !== authority ? head.authority : authority;
  if (host !== "" && !plainHost.test(host)) return { status: 400, details: "http.invalid_authority" };
  if (authority !== undefined && authority !== host && authority !== "" && !plainHost.test(authority)) {
    return { status: 400, details: "http.invalid_authority" };
  }
  return undefined;
}

/** What may stand in a host (Envoy's authority characters): RFC 3986's, without path, query and spaces. */
export const plainHost = /^[A-Za-z0-9\-._~!$&'()*+,;=:@%[\]]+$/;

/** `connection` may not take away what proxies tell each other of the client (Envoy refuses it too). */
function namesForwarded(connection: string): boolean {
  if (!connection.includes("x-forwarded-")) return false;
  return ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"].some((n) => hasOption(connection, n));
}
