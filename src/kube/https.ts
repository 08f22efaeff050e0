/** The Transport of real life: HTTPS (or HTTP over a UNIX socket) with kept-alive connections. */
import {
  type ClientRequest,
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingMessage,
} from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { createSecureContext, type SecureContext } from "node:tls";
import type { KubeRequest, KubeResponse, Transport } from "./transport.ts";

/** What it takes to speak to one API server. Certificates and keys are PEM. */
export interface Credentials {
  /** `https://host:port`, optionally with a path prefix; `http://` without TLS. */
  server: string;
  /** The CA that signed the server's certificate; the system's CAs when left out. */
  ca?: string | Uint8Array;
  /** Client certificate and its key. */
  cert?: string | Uint8Array;
  key?: string | Uint8Array;
  /** Bearer token; a function is asked anew for every request. */
  token?: string | (() => string);
  /** User and password (kubeconfig `username`/`password`); kept for old API servers. */
  basic?: { username: string; password: string };
  /** The name that the server's certificate must carry, when it is not the host of the URL. */
  tlsServerName?: string;
  /** Trusts any certificate. */
  insecure?: boolean;
  /** Connects to this UNIX socket instead of the host; the URL still gives scheme, Host header and prefix. */
  socketPath?: string;
}

/** Sockets for short requests per server; each watch or other stream has one of its own beside them. */
const socketLimit = 16;
/** TCP keep-alive finds a peer that vanished without a word (libuv: 10 probes, 1 s apart, after this delay). */
const keepAliveDelay = 15_000;

export function transportFor(credentials: Credentials): Transport & { close(): void } {
  const url = new URL(credentials.server);
  const secure = url.protocol === "https:";
  const options = {
    keepAlive: true,
    scheduling: "lifo" as const,
    ...(secure && {
      rejectUnauthorized: !credentials.insecure,
      ...(credentials.tlsServerName && { servername: credentials.tlsServerName }),
    }),
  };
  const Agent = secure ? HttpsAgent : HttpAgent;
  const unary = new Agent({ ...options, maxSockets: socketLimit, maxFreeSockets: 4 });
  const streams = new Agent({ ...options, maxFreeSockets: 2 });
  const send = secure ? httpsRequest : httpRequest;
  const prefix = url.pathname.replace(/\/$/, "");
  const target = {
    protocol: url.protocol,
    host: url.hostname.replace(/^\[|\]$/g, ""),
    port: url.port || (secure ? 443 : 80),
    ...(credentials.socketPath && { socketPath: credentials.socketPath }),
  };

  /** Made once: there is a connection for each watch. By the first request, as it is told of what cannot be read. */
  let secureContext: SecureContext | undefined;
  const tls = () => {
    const { ca, cert, key } = credentials as { ca?: string; cert?: string; key?: string };
    secureContext ??= createSecureContext({ ca, cert, key });
    return { secureContext };
  };

  const transport = async (request: KubeRequest): Promise<KubeResponse> => {
    for (let attempt = 0; ; attempt++) {
      const headers: Record<string, string | number> = { host: url.host, ...request.headers };
      if (!headers.authorization) {
        const authorization = authorizationOf(credentials);
        if (authorization) headers.authorization = authorization;
      }
      if (request.body !== undefined) headers["content-length"] = Buffer.byteLength(request.body);
      const outgoing = send({
        ...target,
        ...(secure && tls()),
        method: request.method,
        path: prefix + request.path,
        headers,
        agent: isStream(request.path) ? streams : unary,
        ...(request.signal && { signal: request.signal }),
      });
      try {
        return await exchange(outgoing, request.body);
      } catch (error) {
        // The server closed a kept connection just as we took it: it has not seen the request. A POST that it
        // saw after all would be done twice, so that one is left to the caller.
        const stale = outgoing.reusedSocket && (error as NodeJS.ErrnoException).code === "ECONNRESET";
        if (!stale || request.method === "POST" || request.signal?.aborted || attempt > socketLimit)
          throw error;
      }
    }
  };
  return Object.assign(transport, {
    /** Closes the connections; what is under way breaks. */
    close() {
      unary.destroy();
      streams.destroy();
    },
  });
}

function exchange(outgoing: ClientRequest, body: string | Uint8Array | undefined): Promise<KubeResponse> {
  return new Promise((resolve, reject) => {
    outgoing.on("error", reject);
    outgoing.on("socket", (socket) => {
      socket.setNoDelay(true);
      socket.setKeepAlive(true, keepAliveDelay);
    });
    outgoing.on("response", (incoming: IncomingMessage) =>
      resolve({
        status: incoming.statusCode ?? 0,
        headers: flatHeaders(incoming),
        body: incoming,
      }),
    );
    outgoing.end(body);
  });
}

function flatHeaders(incoming: IncomingMessage): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(incoming.headers)) {
    if (value !== undefined) headers[name] = Array.isArray(value) ? value.join(", ") : value;
  }
  return headers;
}

function authorizationOf(credentials: Credentials): string | undefined {
  const token = typeof credentials.token === "function" ? credentials.token() : credentials.token;
  if (token) return `Bearer ${token}`;
  if (!credentials.basic) return undefined;
  const { username, password } = credentials.basic;
  return `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
}

function isStream(path: string): boolean {
  return /[?&](watch|follow)=(1|true|t)\b/i.test(path);
}
