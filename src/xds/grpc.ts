/**
 * gRPC's side of a server, as far as ADS needs it: streams both ways on one path, on connections that come in ready.
 * @grpc/grpc-js copies every message and costs several times as much for each. Source: grpc/doc/PROTOCOL-HTTP2.md.
 */
import type { Duplex } from "node:stream";
import { Connection, errorCode, type Stream } from "../http2/index.ts";
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
  /** One message, as `framed` gives it. `flushed` is called when its bytes have left this process, or never will. */
  send(message: readonly Buffer[], flushed?: () => void): void;
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
  readonly #connections = new Set<Connection>();

  constructor(options: GrpcServerOptions) {
    this.#options = options;
  }

  /** Takes a connection that speaks HTTP/2. */
  accept(socket: Duplex): void {
    const { world } = this.#options;
    const connection = new Connection(socket, {
      world,
      role: "server",
      maxConcurrentStreams: 16,
      events: {
        stream: (stream, fields) => this.#open(stream, fields, socket),
        closed: () => {
          this.#connections.delete(connection);
          beat.cancel();
        },
      },
    });
    this.#connections.add(connection);
    const beat = keepAlive(world, connection);
  }

  /** Ends every connection at once. */
  stop(): void {
    for (const connection of [...this.#connections]) connection.destroy();
  }

  #open(stream: Stream, fields: readonly string[], connection: Duplex): void {
    stream.events = refused;
    const header = (name: string) => fields.find((_, i) => i % 2 === 1 && fields[i - 1] === name);
    const post = header(":method") === "POST";
    if (!post || !header("content-type")?.startsWith("application/grpc")) {
      only(stream, [":status", post ? "415" : "405"]);
      return;
    }
    if (header(":path") !== this.#options.path) {
      const details = "only aggregated discovery, by increments, is served here";
      only(stream, [...answer, ...trailers(status.UNIMPLEMENTED, details)]);
      return;
    }
    stream.head(answer, false);
    let over = false;
    const end: Call["end"] = (code, details = "") => {
      if (over) return;
      over = true;
      stream.end(trailers(code ?? 0, details));
      // The rest of what it asks is not wanted.
      stream.whenSent(() => stream.reset(errorCode.NO_ERROR));
    };
    const { remoteAddress = "?", remotePort = 0 } = connection as {
      remoteAddress?: string;
      remotePort?: number;
    };
    const handlers = this.#options.serve({
      connection,
      peer: `${remoteAddress}:${remotePort}`,
      send: (message, flushed) => {
        if (!over) for (const part of message) stream.data(part);
        if (flushed) stream.whenSent(flushed);
      },
      end,
    });
    const read = messages((bytes) => {
      if (!over) handlers.message(bytes);
    });
    stream.events = {
      data: (chunk) => {
        if (over) return;
        const problem = read(chunk);
        if (!problem) return;
        handlers.ended();
        end(...problem);
      },
      end: () => {
        if (over) return;
        handlers.ended();
        end();
      },
      closed: () => {
        if (over) return;
        over = true;
        handlers.ended();
      },
    };
  }
}

const answer = [":status", "200", "content-type", "application/grpc"];

function trailers(code: number, details: string): string[] {
  return ["grpc-status", String(code), "grpc-message", percentEncoded(details)];
}

/** This head is all of the answer. */
function only(stream: Stream, head: readonly string[]): void {
  stream.head(head, true);
  stream.reset(errorCode.NO_ERROR); // the rest of what it asks is not wanted
}

const refused = { data() {}, end() {}, closed() {} };

/** As PROTOCOL-HTTP2 has it for `grpc-message`: all that is printable in ASCII stays, but `%`. */
function percentEncoded(text: string): string {
  return text.toWellFormed().replace(/[^\x20-\x24\x26-\x7e]/gu, encodeURIComponent);
}

/**
 * A message as it goes out: not compressed, its length in four bytes, its parts. They are not to be changed any more; so
 * many streams may send the same.
 */
export function framed(parts: readonly Uint8Array[]): readonly Buffer[] {
  let length = 0;
  for (const { byteLength } of parts) length += byteLength;
  const short = length < worthSharing;
  const first = Buffer.allocUnsafe(5 + (short ? length : 0));
  first[0] = 0;
  first.writeUInt32BE(length, 1);
  if (!short)
    return [first, ...parts.map((part) => Buffer.from(part.buffer, part.byteOffset, part.byteLength))];
  let at = 5;
  for (const part of parts) {
    first.set(part, at);
    at += part.byteLength;
  }
  return [first];
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
function keepAlive(world: World, connection: Connection): { cancel(): void } {
  let timer: Timer;
  const beat = () => {
    timer = world.after(keepalive.timeout, () => connection.destroy());
    connection.ping(() => {
      timer.cancel();
      if (!connection.over) timer = world.after(keepalive.interval, beat);
    });
  };
  timer = world.after(keepalive.interval, beat);
  return { cancel: () => timer.cancel() };
}
