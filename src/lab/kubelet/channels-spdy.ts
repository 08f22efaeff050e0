/**
 * Channels over SPDY/3.1: a stream each, which the client begins and names by the header `streamType`. Source:
 * kubernetes `k8s.io/cri-streaming/pkg/streaming/remotecommand/httpstream.go`.
 */
import type { Status } from "../../api/index.ts";
import { type Channels, Sizes, type StreamRequest } from "./channels.ts";
import { reset, type SpdySession, type SpdyStream } from "./spdy/index.ts";

/** What is served, the best first; the first that a client names of these is taken. */
export const spdyProtocols = [
  "v4.channel.k8s.io",
  "v3.channel.k8s.io",
  "v2.channel.k8s.io",
  "channel.k8s.io",
];

/** How long a client has to begin its streams. Milliseconds. */
const creationTimeout = 30_000;

/** Takes the client's streams as they come; `onStream` is the session's. */
export class SpdyStreams {
  readonly #streams = new Map<string, SpdyStream>();
  readonly #wanted: Set<string>;
  readonly #all = Promise.withResolvers<void>();

  constructor(request: StreamRequest, protocol: string) {
    const canResize = protocol.startsWith("v4.") || protocol.startsWith("v3.");
    this.#wanted = new Set(["error"]);
    for (const name of ["stdin", "stdout", "stderr"] as const) if (request[name]) this.#wanted.add(name);
    if (request.tty && canResize) this.#wanted.add("resize");
  }

  readonly onStream = (stream: SpdyStream): void => {
    const type = stream.headers.get("streamtype") ?? "";
    if (!this.#wanted.has(type) || this.#streams.has(type)) {
      stream.reset(reset.refusedStream);
      return;
    }
    this.#streams.set(type, stream);
    stream.accept();
    if (this.#streams.size === this.#wanted.size) this.#all.resolve();
  };

  /** Resolves when all streams are there. Rejects when they do not come. */
  async channels(session: SpdySession, protocol: string): Promise<Channels> {
    const late = setTimeout(
      () => this.#all.reject(new Error("timed out waiting for client to create streams")),
      creationTimeout,
    );
    void session.closed.then(() => this.#all.reject(new Error("the client is gone")));
    await this.#all.promise.finally(() => clearTimeout(late));
    const of = (type: string) => this.#streams.get(type);
    const [stdin, stdout, stderr, errors] = [of("stdin"), of("stdout"), of("stderr"), of("error")!];
    // The first version ended the input's other direction at once, and its clients wait for that.
    if (protocol === "channel.k8s.io") stdin?.end();
    // What nobody says is read too: its end makes way for the stream's.
    for (const stream of [stdout, stderr, errors]) stream?.resume();
    const sizes = new Sizes();
    of("resize")?.on("data", (data: Buffer) => sizes.push(data));
    let ended = false;
    return {
      stdin,
      stdout,
      stderr,
      closed: session.closed,
      onResize: (handle) => sizes.onResize(handle),
      end(status) {
        if (ended) return;
        ended = true;
        errors.end(errorText(status, protocol), () => session.close());
      },
      drop: () => session.destroy(),
    };
  }
}

/** Up to v3 an error is its text, and success is silence. */
function errorText(status: Status, protocol: string): string {
  if (protocol.startsWith("v4.")) return JSON.stringify(status);
  return status.status === "Success" ? "" : (status.message ?? "unknown error");
}
