/**
 * One gRPC stream over HTTP/2, by `node:http2` on a socket that we open ourselves: it must leave by the address that
 * redirection lets pass, which @grpc/grpc-js cannot do; and a sidecar loads less.
 */
import type { ClientHttp2Session, ClientHttp2Stream } from "node:http2";
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls, createSecureContext } from "node:tls";
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
/** A connection whose far end is gone is noticed within the sum of these, ms. */
const keepalive = { interval: 20_000, timeout: 10_000 };
/**
 * How long TCP and TLS may take together, ms. Without it a SYN that was translated to a pod that had just gone is sent
 * again to the same address for two minutes: the kernel keeps to what it chose at first.
 */
const connectTimeout = 5_000;

/** Opens `path`; `ended` is called once, whatever ends it. Nothing is called after `close`. */
export async function openGrpcStream(
  world: World,
  target: GrpcTarget,
  path: string,
  on: { opened(): void; message(bytes: Buffer): void; ended(reason: string): void },
): Promise<GrpcStream> {
  const { connect } = await import("node:http2");
  let session: ClientHttp2Session | undefined;
  let stream: ClientHttp2Stream | undefined;
  let over = false;
  let ping = world.after(connectTimeout, () => end(`no connection within ${connectTimeout / 1000} s`));
  const end = (reason: string) => {
    if (over) return;
    over = true;
    ping.cancel();
    stream?.destroy();
    session?.destroy();
    socket.destroy();
    on.ended(reason);
  };
  function beat() {
    if (over || !session) return;
    ping = world.after(keepalive.timeout, () => end("the server does not answer (keepalive)"));
    session.ping(() => {
      if (over) return;
      ping.cancel();
      ping = world.after(keepalive.interval, () => beat());
    });
  }
  const socket = dial(target, (problem) => {
    if (over) return;
    if (problem) return end(problem);
    ping.cancel();
    ping = world.after(keepalive.interval, () => beat());
    session = connect(`http://${target.host}:${target.port}`, {
      createConnection: () => socket,
      settings: { initialWindowSize: 4 * 1024 * 1024, enablePush: false },
    });
    session.once("connect", () => session?.setLocalWindowSize(16 * 1024 * 1024));
    session.on("error", (error) => end(messageOf(error)));
    session.on("goaway", () => end("the server said goodbye (GOAWAY)"));
    session.on("close", () => end("the connection closed"));
    stream = session.request({
      ":method": "POST",
      ":path": path,
      ":scheme": target.tls ? "https" : "http",
      ":authority": `${target.tls?.serverName ?? target.host}:${target.port}`,
      "content-type": "application/grpc",
      te: "trailers",
      "user-agent": "weft-proxy",
      ...target.headers,
    });
    const refused = (headers: Record<string, unknown>) => {
      const status = headers["grpc-status"];
      if (status === undefined) return false;
      end(
        `gRPC status ${String(status)}${headers["grpc-message"] ? `: ${decodeURIComponent(String(headers["grpc-message"]))}` : ""}`,
      );
      return true;
    };
    stream.on("response", (headers) => {
      if (headers[":status"] !== 200) end(`HTTP status ${String(headers[":status"])}`);
      else refused(headers);
    });
    stream.on("trailers", (headers) => refused(headers) || end("the stream ended"));
    stream.on("error", (error) => end(messageOf(error)));
    stream.on("close", () => end("the stream closed"));
    const read = frames((bytes) => {
      if (!over) on.message(bytes);
    });
    stream.on("data", (chunk: Buffer) => {
      const problem = read(chunk);
      if (problem) end(problem);
    });
    on.opened();
  });
  return {
    send(message) {
      if (over || !stream) return;
      const head = Buffer.alloc(5);
      head.writeUInt32BE(message.byteLength, 1);
      stream.write(Buffer.concat([head, message]));
    },
    close() {
      over = true;
      ping.cancel();
      stream?.destroy();
      session?.destroy();
      socket.destroy();
    },
  };
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

/** Cuts a byte stream into gRPC messages (length-prefixed, uncompressed). */
export function frames(give: (message: Buffer) => void): (chunk: Buffer) => string | undefined {
  let parts: Buffer[] = [];
  let have = 0;
  let wanted = 5;
  return (chunk) => {
    parts.push(chunk);
    have += chunk.length;
    while (have >= wanted) {
      const all = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
      parts = [all];
      const length = all.readUInt32BE(1);
      if (all[0] !== 0) return "a compressed message, which was not asked for";
      if (length > largest) return `a message of ${length} bytes`;
      if (have < 5 + length) {
        wanted = 5 + length;
        break;
      }
      give(all.subarray(5, 5 + length));
      parts = [all.subarray(5 + length)];
      have -= 5 + length;
      wanted = 5;
    }
    return undefined;
  };
}
