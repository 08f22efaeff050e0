/**
 * gRPC's side of a server, as far as ADS needs it: streams both ways on one path, on connections that come in ready.
 * By `node:http2` itself: @grpc/grpc-js copies every message and costs several times as much for each.
 * Source: grpc/doc/PROTOCOL-HTTP2.md.
 */
import { performServerHandshake, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { Duplex } from "node:stream";
import type { Timer, World } from "../world/index.ts";

/** grpc/doc/statuscodes.md, those that are used here. */
export const status = {
  INVALID_ARGUMENT: 3,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  UNAUTHENTICATED: 16,
} as const;
export type Status = (typeof status)[keyof typeof status];

/** One stream of a client. */
export interface Call {
  readonly connection: Duplex;
  /** `address:port`, for people. */
  readonly peer: string;
  /**
   * One message, given in parts; they are not to be changed any more. `flushed` is called when its bytes have left this
   * process, or never will.
   */
  send(parts: readonly Uint8Array[], flushed?: () => void): void;
  /** Ends the stream; OK without a status. Nothing is called afterwards. */
  end(status?: Status, details?: string): void;
}

export interface CallHandlers {
  message(bytes: Buffer): void;
  /** Called once, whatever ended it; not after `Call.end`. */
  ended(): void;
}

export interface GrpcServerOptions {
  world: World;
  path: string;
  serve: (call: Call) => CallHandlers;
}

/** Most bytes of a request: the versions of some hundred thousand resources. */
const largestMessage = 64 * 1024 * 1024;
/** A connection whose far end is gone is noticed within the sum of these, ms. */
const keepalive = { interval: 20_000, timeout: 10_000 };
/** Parts below this are put together: one write costs more than copying them. */
const worthSharing = 16 * 1024;

export class GrpcServer {
  readonly #options: GrpcServerOptions;
  readonly #sessions = new Set<ServerHttp2Session>();

  constructor(options: GrpcServerOptions) {
    this.#options = options;
  }

  /** Takes a connection that speaks HTTP/2. */
  accept(connection: Duplex): void {
    const session = performServerHandshake(connection, {
      settings: { maxConcurrentStreams: 16, enablePush: false },
      maxSessionMemory: 128,
    });
    this.#sessions.add(session);
    const timer = keepAlive(this.#options.world, session);
    session.on("stream", (stream, headers) => this.#open(stream, headers, connection));
    session.on("error", () => session.destroy());
    session.once("close", () => {
      this.#sessions.delete(session);
      timer.cancel();
    });
  }

  /** Ends every connection at once. */
  stop(): void {
    for (const session of this.#sessions) session.destroy();
  }

  #open(stream: ServerHttp2Stream, headers: Record<string, unknown>, connection: Duplex): void {
    stream.on("error", () => {}); // "close" follows
    const { ":method": method, ":path": path, "content-type": type } = headers;
    if (method !== "POST" || !String(type).startsWith("application/grpc")) {
      stream.respond({ ":status": method === "POST" ? 415 : 405 }, { endStream: true });
      return;
    }
    const trailers = { "grpc-status": "0", "grpc-message": "" };
    if (path !== this.#options.path) {
      trailers["grpc-status"] = String(status.UNIMPLEMENTED);
      trailers["grpc-message"] = "only aggregated discovery, by increments, is served here";
      stream.respond({ ...answer, ...trailers }, { endStream: true });
      return;
    }
    stream.respond(answer, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers(trailers));
    let over = false;
    const end: Call["end"] = (code, details = "") => {
      if (over) return;
      over = true;
      trailers["grpc-status"] = String(code ?? 0);
      trailers["grpc-message"] = percentEncoded(details);
      stream.end();
    };
    const { remoteAddress = "?", remotePort = 0 } = connection as {
      remoteAddress?: string;
      remotePort?: number;
    };
    const handlers = this.#options.serve({
      connection,
      peer: `${remoteAddress}:${remotePort}`,
      send: (parts, flushed = () => {}) => {
        if (over || stream.destroyed) flushed();
        else write(stream, parts, flushed);
      },
      end,
    });
    const gone = () => {
      if (over) return;
      over = true;
      handlers.ended();
    };
    const read = messages((bytes) => {
      if (!over) handlers.message(bytes);
    });
    stream.on("data", (chunk: Buffer) => {
      if (over) return;
      const problem = read(chunk);
      if (!problem) return;
      handlers.ended();
      end(...problem);
    });
    stream.on("end", () => {
      if (over) return;
      handlers.ended();
      end();
    });
    stream.once("close", gone);
  }
}

const answer = { ":status": 200, "content-type": "application/grpc" };

/** As PROTOCOL-HTTP2 has it for `grpc-message`: all that is printable in ASCII stays, but `%`. */
function percentEncoded(text: string): string {
  return text.toWellFormed().replace(/[^\x20-\x24\x26-\x7e]/gu, encodeURIComponent);
}

/** A message as it goes out: not compressed, its length in four bytes, its parts. */
function write(stream: ServerHttp2Stream, parts: readonly Uint8Array[], flushed: () => void): void {
  const length = parts.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(length, 1);
  if (length < worthSharing) {
    stream.write(Buffer.concat([head, ...parts], 5 + length), flushed);
    return;
  }
  stream.cork();
  const [last] = parts.slice(-1);
  stream.write(head);
  for (const part of parts.slice(0, -1)) stream.write(part);
  stream.write(last, flushed);
  stream.uncork();
}

/** Cuts what comes into messages. Answers with what is wrong with it. */
function messages(
  give: (message: Buffer) => void,
): (chunk: Buffer) => [status: Status, details: string] | undefined {
  let parts: Buffer[] = [];
  let have = 0;
  let wanted = 5;
  return (chunk) => {
    parts.push(chunk);
    have += chunk.length;
    while (have >= wanted) {
      const all = parts.length === 1 ? parts[0]! : Buffer.concat(parts, have);
      parts = [all];
      const length = all.readUInt32BE(1);
      if (all[0] !== 0) return [status.UNIMPLEMENTED, "a compressed message, which was not asked for"];
      if (length > largestMessage) return [status.RESOURCE_EXHAUSTED, `a message of ${length} bytes`];
      wanted = 5 + length;
      if (have < wanted) break;
      give(all.subarray(5, wanted));
      have -= wanted;
      parts = have > 0 ? [all.subarray(wanted)] : [];
      wanted = 5;
    }
    return undefined;
  };
}

/** Asks now and then whether the far end is there; a connection where nobody answers is ended. */
function keepAlive(world: World, session: ServerHttp2Session): { cancel(): void } {
  let timer: Timer;
  const beat = () => {
    if (session.destroyed) return;
    timer = world.after(keepalive.timeout, () => session.destroy());
    session.ping(() => {
      timer.cancel();
      if (!session.destroyed) timer = world.after(keepalive.interval, beat);
    });
  };
  timer = world.after(keepalive.interval, beat);
  return { cancel: () => timer.cancel() };
}
