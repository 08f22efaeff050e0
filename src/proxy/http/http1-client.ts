/** A connection to a host in HTTP/1.1: one request at a time, kept and used again. */
import type { UpstreamConnection } from "../contract.ts";
import { Deadline, type DeadlineOwner } from "./deadlines.ts";
import { charge, guarded } from "./guard.ts";
import type { Headers, RequestHead } from "./headers.ts";
import { hasOption } from "./http1-head.ts";
import { Http1Parser, type MessageSink } from "./http1-parser.ts";
import type { Http1Pool } from "./http1-pool.ts";
import { type BodyFraming, lastChunk, requestHead } from "./http1-writer.ts";
import type { ResetReason } from "./retry-policy.ts";
import { complete, ready, refuse, type UpstreamEvents, type UpstreamStream } from "./upstream.ts";
import { Writer } from "./writer.ts";

/** Envoy's limits for heads of responses: 60 KiB and 100 fields. */
const responseLimits = { headBytes: 61_440, headerCount: 100 };

/** One connection; itself the stream of the request that it carries. */
export class Http1Client implements UpstreamStream, MessageSink, DeadlineOwner {
  readonly connection: UpstreamConnection;
  readonly #pool: Http1Pool;
  readonly #parser: Http1Parser;
  readonly #writer: Writer;
  readonly #idleDeadline = new Deadline(this, 0);
  #events: UpstreamEvents | undefined;
  /** Whose response is over, and who is not told yet. */
  #answered: UpstreamEvents | undefined;
  #framing: BodyFraming = "none";
  #toHead = false;
  #requestDone = false;
  /** The head of the request was written. */
  #begun = false;
  #keep = true;
  #raw = false;
  #paused = false;
  #requests = 0;
  #upgrade = false;
  #answering = false;
  /** The response is over, and the connection good for another. */
  #again = false;
  readonly #limit: number;

  constructor(pool: Http1Pool, connection: UpstreamConnection) {
    this.#pool = pool;
    this.connection = connection;
    const { socket } = connection;
    this.#writer = new Writer(socket, pool.counters.cxSent);
    this.#parser = new Http1Parser("response", this, responseLimits);
    this.#limit = connection.host.cluster.bufferLimit;
    socket.on(
      "data",
      guarded(this, (chunk: Buffer) => this.#onData(chunk)),
    );
    socket.on(
      "drain",
      guarded(this, () => this.#events?.onUpstreamDrain()),
    );
    socket.on(
      "end",
      guarded(this, () => this.#onEnd()),
    );
    socket.on("error", () => undefined);
    socket.on(
      "close",
      guarded(this, () => this.#onClose()),
    );
    socket.resume();
  }

  /** Begins the request of `events`. */
  take(events: UpstreamEvents): void {
    this.#idleDeadline.cancel();
    this.#events = events;
    this.#requestDone = false;
    this.#begun = false;
    this.#answering = false;
    this.#keep = true;
    this.#requests++;
    ready(events, this);
  }

  onBug(error: unknown): void {
    const events = this.#events;
    this.reset();
    if (events) events.onBug(error);
    else this.#pool.deadlines.bug(error);
  }

  /** Waits for its next request. */
  rest(): void {
    const { idleTimeout } = this.connection.host.cluster;
    if (idleTimeout > 0) this.#pool.deadlines.set(this.#idleDeadline, idleTimeout);
  }

  onDeadline(): void {
    this.close();
  }

  close(): void {
    this.#idleDeadline.cancel();
    this.connection.socket.destroy();
  }

  // ------------------------------------------------------------------------------------------- request

  head(head: RequestHead, end: boolean, upgrade: string | undefined): void {
    this.#begun = true;
    this.#toHead = head.method === "HEAD";
    this.#upgrade = upgrade !== undefined;
    const { text, framing } = requestHead(head, end, upgrade);
    this.#framing = framing;
    this.#writer.write(text);
    if (end) this.#requestDone = true;
  }

  data(chunk: Buffer): boolean {
    if (this.#framing === "chunked") {
      this.#writer.write(`${chunk.length.toString(16)}\r\n`);
      this.#writer.write(chunk);
      this.#writer.write("\r\n");
    } else this.#writer.write(chunk);
    return this.#writer.queued < this.#limit;
  }

  end(_trailers: Headers | undefined): void {
    if (this.#framing === "chunked") this.#writer.write(lastChunk(undefined));
    this.#requestDone = true;
    if (this.#framing === "raw") this.#writer.end();
    // The response was there before the request was whole: it is over now, but not known to be clean.
    if (!this.#events) this.close();
  }

  get queued(): number {
    return this.#writer.queued;
  }

  reset(): void {
    const asked = this.#events !== undefined;
    this.#events = undefined;
    this.#again = false;
    // Nothing was said on it yet: it is as good as before.
    if (asked && !this.#begun) this.#pool.free(this);
    else this.close();
  }

  pause(): void {
    this.#paused = true;
    this.connection.socket.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.connection.socket.resume();
  }

  // ------------------------------------------------------------------------------------------ response

  #onData(chunk: Buffer): void {
    this.#pool.counters.cxReceived.value += chunk.length;
    const events = this.#events;
    if (!events) {
      this.#pool.counters.cxProtocolError.inc();
      this.close(); // nobody asked
      return;
    }
    let at = 0;
    while (at < chunk.length) {
      if (this.#raw) {
        this.#events?.onResponseData(at === 0 ? chunk : chunk.subarray(at));
        return;
      }
      at = this.#parser.execute(chunk, at);
      if (this.#events) continue;
      this.#isOver(at === chunk.length);
      return;
    }
  }

  onHead(parser: Http1Parser): boolean {
    const events = this.#events!;
    const { status, headers } = parser;
    if (status < 200 && status !== 101) {
      events.onInformational(status, headers);
      return false;
    }
    if (status === 101) {
      if (!this.#upgrade) {
        this.#fail("protocol_error");
        return true;
      }
      this.#raw = true;
      this.#keep = false;
      parser.tunnel();
      events.onResponseHead(status, headers, false);
      return true;
    }
    const { connection } = parser;
    this.#answering = true;
    // What ends with the connection keeps none; an answer to HEAD has nothing that could.
    this.#keep =
      !this.#upgrade &&
      (this.#toHead || parser.framing !== "close") &&
      (parser.minor === 1 ? !hasOption(connection, "close") : hasOption(connection, "keep-alive"));
    const end = this.#toHead || parser.framing === "none";
    events.onResponseHead(status, headers, end);
    return this.#toHead;
  }

  onBody(chunk: Buffer): void {
    this.#events?.onResponseData(chunk);
  }

  /** Trailers end here: Envoy takes none over HTTP/1.1 unless it is told to (enable_trailers). */
  onComplete(): void {
    const events = this.#events;
    if (!events) return;
    this.#events = undefined;
    const { maxRequestsPerConnection: most } = this.connection.host.cluster;
    this.#again = this.#keep && this.#requestDone && (most === 0 || this.#requests < most);
    this.#answered = events;
  }

  onError(): void {
    this.#pool.counters.cxProtocolError.inc();
    this.#fail("protocol_error");
  }

  /** The response is over, and its connection another's; `clean`: nothing came behind it, which belongs to no request. */
  #isOver(clean: boolean): void {
    if (!clean && this.#answered) this.#pool.counters.cxProtocolError.inc();
    const again = this.#again && clean;
    // The client may ask again at once, and finds it here; but who waits already comes when what we held is given back.
    const first = !this.#pool.waiting;
    if (again) this.resume();
    else this.close();
    if (again && first) this.#pool.free(this);
    this.#tell();
    if (again && !first) this.#pool.free(this);
  }

  #tell(): void {
    const events = this.#answered;
    this.#answered = undefined;
    try {
      events?.onResponseEnd(undefined);
    } catch (error) {
      charge(events!, error);
    }
  }

  #onEnd(): void {
    if (this.#raw) {
      const events = this.#events;
      this.#events = undefined;
      if (events) complete(events, this, undefined);
    } else if (!this.#parser.finish() || this.#events) {
      // A body that ends too soon breaks the protocol; no answer at all is just a connection that ended.
      if (this.#answering) this.#pool.counters.cxProtocolError.inc();
      this.#fail(this.#answering ? "protocol_error" : "connection_termination");
    }
    this.close();
    this.#tell();
  }

  #onClose(): void {
    this.#idleDeadline.cancel();
    this.#fail("connection_termination");
    this.#pool.gone(this);
  }

  #fail(reason: ResetReason): void {
    const events = this.#events;
    this.#events = undefined;
    if (!events) return;
    refuse(events, reason, undefined);
    this.close();
  }
}
