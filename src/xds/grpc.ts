/**
 * gRPC's side of a server, as far as ADS needs it: streams both ways on one path, on connections that come in ready.
 * @grpc/grpc-js copies every message and costs several times as much for each. Source: grpc/doc/PROTOCOL-HTTP2.md.
 */
import type { Duplex } from "node:stream";
import {
  Connection,
  errorCode,
  fieldOf,
  type GrpcStatus,
  grpcMessage,
  grpcStatus,
  keepAlive,
  messages,
  type Stream,
} from "../http2/index.ts";
import type { World } from "../world/index.ts";

/** One stream of a client. */
export interface Call {
  readonly connection: Duplex;
  /** `address:port`, for people. */
  readonly peer: string;
  /** One message, as `framed` gives it. `flushed` is called when its bytes have left this process, or never will. */
  send(message: readonly Buffer[], flushed?: () => void): void;
  /** Ends the stream; OK without a status. Nothing is called afterwards. */
  end(status?: GrpcStatus, details?: string): void;
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
    const beat = keepAlive(world, connection, () => connection.destroy());
  }

  /** Ends every connection at once. */
  stop(): void {
    for (const connection of [...this.#connections]) connection.destroy();
  }

  #open(stream: Stream, fields: readonly string[], connection: Duplex): void {
    stream.events = refused;
    const post = fieldOf(fields, ":method") === "POST";
    if (!post || !fieldOf(fields, "content-type")?.startsWith("application/grpc")) {
      only(stream, [":status", post ? "415" : "405"]);
      return;
    }
    if (fieldOf(fields, ":path") !== this.#options.path) {
      const details = "only aggregated discovery, by increments, is served here";
      only(stream, [...answer, ...trailers(grpcStatus.UNIMPLEMENTED, details)]);
      return;
    }
    stream.head(answer, false);
    stream.shares = true;
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
    const read = messages(largestMessage, (bytes) => {
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
  return ["grpc-status", String(code), "grpc-message", grpcMessage(details)];
}

/** This head is all of the answer. */
function only(stream: Stream, head: readonly string[]): void {
  stream.head(head, true);
  stream.reset(errorCode.NO_ERROR); // the rest of what it asks is not wanted
}

const refused = { data() {}, end() {}, closed() {} };
