/**
 * One gRPC stream over HTTP/2, on a socket that we open ourselves: it must leave by the address that redirection lets
 * pass, which @grpc/grpc-js cannot do; and a sidecar loads less. Source: grpc/doc/PROTOCOL-HTTP2.md.
 */
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls, createSecureContext } from "node:tls";
import { Connection, fieldOf, framed, keepAlive, messages, type Stream } from "../http2/index.ts";
import type { World } from "../world/index.ts";
import { messageOf } from "./values.ts";

/** The newest key and certificates, PEM. */
export interface ClientCertificate {
  certificateChain: string;
  privateKey: string;
}

export interface GrpcTarget {
  host: string;
  port: number;
  /** Leave by this address. */
  localAddress?: string;
  /** Absent: plain text (tests, and Envoy's own habit for local servers). */
  tls?: { serverName: string; roots: string; certificate?: ClientCertificate };
  /** `authorization` and the like. */
  headers?: Readonly<Record<string, string>>;
}

export interface GrpcStream {
  send(message: Uint8Array): void;
  close(): void;
}

/** What a server may send in one message; a config of thousands of services stays far below. */
const largest = 256 * 1024 * 1024;
/**
 * How long TCP and TLS may take together, ms. Without it a SYN that was translated to a pod that had just gone is sent
 * again to the same address for two minutes: the kernel keeps to what it chose at first.
 */
const connectTimeout = 5_000;

/** What discovery may send before it is read, bytes. */
const windows = { streamWindow: 4 * 1024 * 1024, connectionWindow: 16 * 1024 * 1024 };

/** Opens `path`; `ended` is called once, whatever ends it. Nothing is called after `close`. */
export async function openGrpcStream(
  world: World,
  target: GrpcTarget,
  path: string,
  on: { opened(): void; message(bytes: Buffer): void; ended(reason: string): void },
): Promise<GrpcStream> {
  let connection: Connection | undefined;
  let stream: Stream | undefined;
  let over = false;
  let timer: { cancel(): void } = world.after(connectTimeout, () =>
    end(`no connection within ${connectTimeout / 1000} s`),
  );
  const close = () => {
    over = true;
    timer.cancel();
    connection?.destroy();
    socket.destroy();
  };
  const end = (reason: string) => {
    if (over) return;
    close();
    on.ended(reason);
  };
  const socket = dial(target, (problem) => {
    if (over) return;
    if (problem) {
      end(problem);
      return;
    }
    timer.cancel();
    connection = new Connection(socket, {
      world,
      role: "client",
      ...windows,
      events: {
        goaway: () => end("the server said goodbye (GOAWAY)"),
        closed: (error) => end(error ? messageOf(error) : "the connection closed"),
      },
    });
    timer = keepAlive(world, connection, () => end("the server does not answer (keepalive)"));
    const read = messages(largest, (bytes) => {
      if (!over) on.message(bytes);
    });
    stream = connection.request(requestHead(target, path), false, {
      head(fields) {
        const code = fieldOf(fields, ":status")!;
        if (code.startsWith("1")) return;
        const refusal = code === "200" ? refusalOf(fields) : `HTTP status ${code}`;
        if (refusal) end(refusal);
      },
      data(chunk) {
        const problem = read(chunk);
        if (problem) end(problem[1]);
      },
      end: (trailers) => end((trailers && refusalOf(trailers)) ?? "the stream ended"),
      closed(code, by) {
        if (by !== "connection") end(`the stream was closed (code ${code})`);
      },
    });
    on.opened();
  });
  return {
    send(message) {
      if (over || !stream) return;
      for (const part of framed([message])) stream.data(part);
    },
    close,
  };
}

function requestHead({ host, port, tls, headers = {} }: GrpcTarget, path: string): string[] {
  const pseudo = [":method", "POST", ":path", path, ":scheme", tls ? "https" : "http"];
  const authority = `${tls?.serverName ?? host}:${port}`;
  const own = ["content-type", "application/grpc", "te", "trailers", "user-agent", "weft-proxy"];
  return [...pseudo, ":authority", authority, ...own, ...Object.entries(headers).flat()];
}

/** The status that a server ends a stream with, in its head or its trailers. */
function refusalOf(fields: readonly string[]): string | undefined {
  const status = fieldOf(fields, "grpc-status");
  if (status === undefined) return undefined;
  const message = fieldOf(fields, "grpc-message");
  return `gRPC status ${status}${message ? `: ${decoded(message)}` : ""}`;
}

/** As PROTOCOL-HTTP2 has it: what is not percent-encoded as it should be stays as it is. */
function decoded(message: string): string {
  try {
    return decodeURIComponent(message);
  } catch {
    return message;
  }
}

function dial(target: GrpcTarget, done: (problem?: string) => void): Socket {
  const { host, port, localAddress, tls } = target;
  const options = { host, port, noDelay: true, ...(localAddress ? { localAddress } : {}) };
  const socket = tls
    ? connectTls({
        ...options,
        servername: tls.serverName,
        ALPNProtocols: ["h2"],
        minVersion: "TLSv1.2",
        secureContext: createSecureContext({
          ca: tls.roots,
          ...(tls.certificate
            ? { key: tls.certificate.privateKey, cert: tls.certificate.certificateChain }
            : {}),
        }),
      })
    : connectTcp(options);
  let told = false;
  const tell = (problem?: string) => {
    if (told) return;
    told = true;
    done(problem);
  };
  socket.once(tls ? "secureConnect" : "connect", () => tell());
  socket.once("error", (error) => tell(messageOf(error)));
  socket.once("close", () => tell("the connection closed"));
  return socket;
}
