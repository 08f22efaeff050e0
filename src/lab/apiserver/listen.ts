/** The API server on a socket: TLS with HTTP/1.1 and HTTP/2, client certificates verified when there are any. */

import type { IncomingMessage, ServerResponse } from "node:http";
import {
  createSecureServer,
  type Http2SecureServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
} from "node:http2";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import { bodyLimit } from "./body.ts";
import type { Call, Core, Reply, UserInfo } from "./core.ts";
import { handle, refusal } from "./handler.ts";
import { StatusError, tooLarge, unauthorized } from "./status.ts";

export interface TlsOptions {
  /** The server's certificate and key, PEM. */
  cert: string;
  key: string;
  /** Signs the certificates of clients, PEM. */
  clientCa: string;
}

export type ListenOptions = ({ host: string; port: number } | { socket: string }) & { tls: TlsOptions };

type Request = IncomingMessage | Http2ServerRequest;
type Response = ServerResponse | Http2ServerResponse;

/** Who a request comes from; undefined when its credentials are wrong. */
export type Authenticate = (
  socket: TLSSocket,
  headers: Readonly<Record<string, string>>,
) => Promise<UserInfo | undefined>;

export interface Listener {
  /** The TCP port, when it listens on one. */
  readonly port: number | undefined;
  close(): Promise<void>;
}

/** Serves requests until it is closed. Rejects when the address cannot be had. */
export async function listen(
  core: Core,
  options: ListenOptions,
  authenticate: Authenticate,
  onUpgrade: (call: Call, socket: Duplex, head: Buffer, request: IncomingMessage) => void,
): Promise<Listener> {
  const server = createSecureServer({
    cert: options.tls.cert,
    key: options.tls.key,
    ca: options.tls.clientCa,
    requestCert: true,
    // Whoever has no certificate may have a token; whoever has a wrong one is told so by a Status.
    rejectUnauthorized: false,
    allowHTTP1: true,
    // client-go has every watch of a process on one connection.
    settings: { maxConcurrentStreams: 1000 },
  });
  const sockets = new Set<Duplex>();
  server.on("secureConnection", (socket: TLSSocket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => {});
    socket.setNoDelay(true);
  });
  // Garbage on the port ends that connection and nothing else.
  server.on("tlsClientError", (_, socket) => socket.destroy());
  server.on("sessionError", () => {});
  server.on("clientError", (_: Error, socket: Duplex) => socket.destroy());
  server.on("request", (request: Request, response: Response) => {
    void serve(core, request, response, authenticate);
  });
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on("error", () => {});
    void upgrade(core, request, socket, head, authenticate, onUpgrade);
  });
  await bind(server, options);
  const address = server.address();
  return {
    port: typeof address === "object" && address ? address.port : undefined,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

function bind(server: Http2SecureServer, options: ListenOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    const done = () => {
      server.off("error", reject);
      server.on("error", () => {});
      resolve();
    };
    if ("socket" in options) server.listen(options.socket, done);
    else server.listen(options.port, options.host, done);
  });
}

function plainHeaders(request: Request): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(request.headers)) {
    if (value !== undefined) headers[name] = Array.isArray(value) ? value.join(", ") : value;
  }
  return headers;
}

/** The TLS socket under a request. With HTTP/2 it is the session's: the request's own is another object each time. */
function socketOf(request: Request): TLSSocket {
  const session = "stream" in request ? request.stream.session : undefined;
  return (session?.socket ?? request.socket) as TLSSocket;
}

async function callOf(
  request: Request,
  authenticate: Authenticate,
  signal: AbortSignal,
): Promise<{ call: Call; authenticated: boolean }> {
  const url = request.url ?? "/";
  const question = url.indexOf("?");
  const headers = plainHeaders(request);
  const user = await authenticate(socketOf(request), headers);
  return {
    authenticated: user !== undefined,
    call: {
      method: request.method ?? "GET",
      path: question < 0 ? url : url.slice(0, question),
      query: new URLSearchParams(question < 0 ? "" : url.slice(question + 1)),
      headers,
      body: undefined,
      signal,
      user: user ?? { name: "system:anonymous", groups: ["system:unauthenticated"] },
      warnings: [],
    },
  };
}

async function serve(
  core: Core,
  request: Request,
  response: Response,
  authenticate: Authenticate,
): Promise<void> {
  const ended = new AbortController();
  response.on("close", () => ended.abort());
  response.on("error", () => ended.abort());
  request.on("error", () => ended.abort());
  try {
    const { call, authenticated } = await callOf(request, authenticate, ended.signal);
    let reply: Reply;
    if (!authenticated) reply = await refusal(core, call, unauthorized());
    else {
      const body = await readBody(request);
      reply =
        body instanceof StatusError ? await refusal(core, call, body) : await handle(core, { ...call, body });
    }
    await write(reply, call.method, response);
  } catch (error) {
    if (!ended.signal.aborted) core.onBug(error);
    response.destroy();
  }
}

/** The whole body, or a refusal when it is larger than any object may be. */
async function readBody(request: Request): Promise<Uint8Array | undefined | StatusError> {
  if (request.method === "GET" || request.method === "HEAD") return undefined;
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    // The rest is read and dropped, so that the client hears the refusal, up to a point.
    if (size <= bodyLimit) chunks.push(chunk);
    else if (size > 16 * bodyLimit) break;
  }
  if (size > bodyLimit) return tooLarge(bodyLimit);
  return size === 0 ? undefined : Buffer.concat(chunks);
}

async function write(reply: Reply, method: string, response: Response): Promise<void> {
  const res = response as ServerResponse;
  res.writeHead(reply.status, reply.headers);
  if (reply.body instanceof Uint8Array) {
    res.end(method === "HEAD" ? undefined : reply.body);
    return;
  }
  res.flushHeaders();
  for await (const chunk of reply.body) {
    if (res.destroyed) break;
    if (!res.write(chunk)) await drained(res);
  }
  res.end();
}

function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off("drain", done);
      response.off("close", done);
      resolve();
    };
    response.on("drain", done);
    response.on("close", done);
  });
}

async function upgrade(
  core: Core,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  authenticate: Authenticate,
  onUpgrade: (call: Call, socket: Duplex, head: Buffer, request: IncomingMessage) => void,
): Promise<void> {
  const ended = new AbortController();
  socket.on("close", () => ended.abort());
  try {
    const { call, authenticated } = await callOf(request, authenticate, ended.signal);
    if (authenticated) return onUpgrade(call, socket, head, request);
    refuseUpgrade(socket, await refusal(core, call, unauthorized()));
  } catch (error) {
    core.onBug(error);
    socket.destroy();
  }
}

/** Answers an upgrade with a plain response. */
export function refuseUpgrade(socket: Duplex, reply: Reply): void {
  const body = reply.body instanceof Uint8Array ? reply.body : new Uint8Array();
  const headers = Object.entries({ ...reply.headers, connection: "close" })
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join("");
  socket.end(Buffer.concat([Buffer.from(`HTTP/1.1 ${reply.status} Refused\r\n${headers}\r\n`), body]));
}
