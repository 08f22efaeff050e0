/** A connection to a host in HTTP/2: many requests at once. */
import { type ClosedBy, Connection, ConnectionError, errorCode, type Stream } from "../../http2/index.ts";
import type { UpstreamConnection } from "../contract.ts";
import type { ClusterCounters } from "./cluster-counters.ts";
import { Deadline, type DeadlineOwner } from "./deadlines.ts";
import { Headers, type RequestHead } from "./headers.ts";
import { GuardedEvents, knownNames, pseudoHeaders, type StreamOwner } from "./http2.ts";
import type { Http2Pool } from "./http2-pool.ts";
import type { ResetReason } from "./retry-policy.ts";
import { Traffic } from "./traffic.ts";
import { complete, ready, refuse, type UpstreamEvents, type UpstreamStream } from "./upstream.ts";

/** What a host may send before it is taken, bytes: of a response, and of all. */
const windows = { streamWindow: 1024 * 1024, connectionWindow: 16 * 1024 * 1024 };
/** Of the head of a response: bytes, and fields. */
const limits = { maxHeaderListSize: 65_535, maxFields: 100 + pseudoHeaders };

export class Http2Client implements DeadlineOwner {
  readonly connection: UpstreamConnection;
  readonly http2: Connection;
  readonly #pool: Http2Pool;
  readonly #idle = new Deadline(this, 0);
  readonly #traffic: Traffic;
  #active = 0;
  #requests = 0;
  #leaving = false;

  constructor(pool: Http2Pool, connection: UpstreamConnection) {
    this.#pool = pool;
    this.connection = connection;
    const { counters } = pool;
    this.http2 = new Connection(connection.socket, {
      world: pool.deadlines.world,
      role: "client",
      ...windows,
      ...limits,
      highWater: connection.host.cluster.bufferLimit,
      events: {
        goaway: () => this.drain(),
        closed: (error) => this.#onClosed(error),
        bug: (error) => pool.onBug(error),
      },
    });
    this.#traffic = new Traffic(this.http2, counters.cxReceived, counters.cxSent);
  }

  #onClosed(error: Error | undefined): void {
    if (error instanceof ConnectionError) this.counters.cxProtocolError.inc();
    this.#idle.cancel();
    this.#traffic.count();
    this.#leaving = true;
    this.#pool.gone(this);
  }

  onBug(error: unknown): void {
    this.#pool.onBug(error);
    this.http2.destroy();
  }

  /** There is room for a request. */
  get room(): boolean {
    return !this.#leaving && !this.http2.ending && this.#active < this.http2.peerStreams;
  }

  take(events: UpstreamEvents): void {
    this.#idle.cancel();
    this.#active++;
    this.#requests++;
    const { maxRequestsPerConnection: most } = this.connection.host.cluster;
    if (most > 0 && this.#requests >= most) this.#leaving = true;
    ready(events, new Http2Stream(this, events));
  }

  get counters(): ClusterCounters {
    return this.#pool.counters;
  }

  released(): void {
    this.#traffic.count();
    this.#active--;
    if (this.#active === 0) {
      if (this.#leaving) {
        this.http2.drain();
        return;
      }
      const { idleTimeout } = this.connection.host.cluster;
      if (idleTimeout > 0) this.#pool.deadlines.set(this.#idle, idleTimeout);
    }
    this.#pool.serve();
  }

  onDeadline(): void {
    this.drain();
  }

  drain(): void {
    this.#leaving = true;
    if (this.#active === 0) this.http2.drain();
  }
}

class Http2Stream implements UpstreamStream, StreamOwner {
  readonly connection: UpstreamConnection;
  readonly #client: Http2Client;
  #events: UpstreamEvents | undefined;
  #stream: Stream | undefined;
  #over = false;

  constructor(client: Http2Client, events: UpstreamEvents) {
    this.#client = client;
    this.connection = client.connection;
    this.#events = events;
  }

  // --------------------------------------------------------------------------------------------- request

  head(head: RequestHead, end: boolean): void {
    const { method, path, authority, scheme, headers } = head;
    const pseudo = [":method", method, ":path", path, ":authority", authority, ":scheme", scheme || "http"];
    this.#stream = this.#client.http2.request([...pseudo, ...headers.flat], end, new GuardedEvents(this));
    if (this.#stream) return;
    this.#fail("connection_termination");
    this.#release();
  }

  data(chunk: Buffer): boolean {
    return this.#stream?.data(chunk) ?? true;
  }

  onDrain(): void {
    this.#events?.onUpstreamDrain();
  }

  end(trailers: Headers | undefined): void {
    this.#stream?.end(trailers?.flat);
  }

  get queued(): number {
    return this.#stream?.queued ?? 0;
  }

  reset(): void {
    this.#events = undefined;
    if (!this.#stream) {
      this.#release();
      return;
    }
    if (!this.#over) this.#client.counters.txReset.inc();
    this.#stream.reset(errorCode.CANCEL);
  }

  // -------------------------------------------------------------------------------------------- response

  onHead(fields: readonly string[], end: boolean): void {
    const status = Number(fields[1]);
    const headers = new Headers(knownNames(fields, 2));
    if (status < 200) {
      this.#events?.onInformational(status, headers);
      return;
    }
    this.#events?.onResponseHead(status, headers, end);
    if (end) this.#complete(undefined);
  }

  onData(chunk: Buffer): void {
    this.#events?.onResponseData(chunk);
  }

  onEnd(trailers: string[] | undefined): void {
    this.#complete(trailers && new Headers(knownNames(trailers, 0)));
  }

  onClosed(code: number, by: ClosedBy): void {
    const refused = code === errorCode.REFUSED_STREAM;
    if (this.#events && !refused && by !== "connection") this.#client.counters.rxReset.inc();
    this.#fail(
      refused
        ? "remote_refused"
        : by === "connection"
          ? "connection_termination"
          : code === errorCode.PROTOCOL_ERROR
            ? "protocol_error"
            : "remote_reset",
    );
    this.#release();
  }

  onBug(error: unknown): void {
    const events = this.#events;
    this.reset();
    if (events) events.onBug(error);
    else this.#client.onBug(error);
  }

  pause(): void {
    this.#stream?.pause();
  }

  resume(): void {
    this.#stream?.resume();
  }

  // ------------------------------------------------------------------------------------------------ ends

  #complete(trailers: Headers | undefined): void {
    const events = this.#events;
    if (!events) return;
    this.#events = undefined;
    const stream = this.#stream!;
    // An answer before the request was whole: the rest of it is not wanted.
    if (!stream.ending) stream.reset(errorCode.CANCEL);
    // Released first: the client may ask again at once.
    this.#release();
    complete(events, this, trailers);
  }

  #fail(reason: ResetReason): void {
    const events = this.#events;
    this.#events = undefined;
    if (events) refuse(events, reason, undefined);
  }

  #release(): void {
    if (this.#over) return;
    this.#over = true;
    this.#client.released();
  }
}
