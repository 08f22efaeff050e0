/** Connections to a host in HTTP/2: many requests at once over each. */
import type { ClientHttp2Session, ClientHttp2Stream } from "node:http2";
import type { Host, PendingConnect, UpstreamConnection } from "../contract.ts";
import { Deadline, type DeadlineOwner, type Deadlines } from "./deadlines.ts";
import { fieldName, Headers, type RequestHead } from "./headers.ts";
import { http2 } from "./http2.ts";
import { outgoing } from "./http2-server.ts";
import type { ResetReason } from "./retry-policy.ts";
import {
  type PendingStream,
  type Pool,
  reasonOfFailure,
  type StreamOptions,
  type UpstreamEvents,
  type UpstreamStream,
} from "./upstream.ts";

class Pending implements PendingStream {
  readonly events: UpstreamEvents;
  readonly options: StreamOptions;
  readonly #pool: Http2Pool;
  waiting = true;
  constructor(pool: Http2Pool, events: UpstreamEvents, options: StreamOptions) {
    this.#pool = pool;
    this.events = events;
    this.options = options;
  }
  cancel(): void {
    this.#pool.cancel(this);
  }
}

export class Http2Pool implements Pool {
  readonly host: Host;
  readonly deadlines: Deadlines;
  readonly #priority: "default" | "high";
  readonly #alpn: readonly string[] | undefined;
  readonly #sessions: Http2Client[] = [];
  readonly #pending: Pending[] = [];
  #connecting: PendingConnect | undefined;
  #draining = false;

  constructor(
    host: Host,
    priority: "default" | "high",
    deadlines: Deadlines,
    alpn: readonly string[] | undefined,
  ) {
    this.host = host;
    this.#priority = priority;
    this.deadlines = deadlines;
    this.#alpn = alpn;
    host.onRemoved(() => this.drain());
  }

  request(events: UpstreamEvents, options: StreamOptions): PendingStream | undefined {
    const session = this.#sessions.find((one) => one.room);
    if (session) {
      session.take(events);
      return undefined;
    }
    if (!this.host.cluster.limits(this.#priority).pendingRequests.tryAcquire()) {
      events.onUpstreamFailure("overflow", "");
      return undefined;
    }
    const pending = new Pending(this, events, options);
    this.#pending.push(pending);
    this.#connect(options);
    return pending;
  }

  cancel(pending: Pending): void {
    if (!pending.waiting) return;
    this.#leave(pending);
    this.#pending.splice(this.#pending.indexOf(pending), 1);
  }

  #leave(pending: Pending): void {
    pending.waiting = false;
    this.host.cluster.limits(this.#priority).pendingRequests.release();
  }

  #connect(options: StreamOptions): void {
    if (this.#connecting) return;
    this.#connecting = this.host.connect(
      {
        priority: this.#priority,
        serverName: options.serverName,
        ...(this.#alpn ? { alpn: this.#alpn } : {}),
      },
      (result) => {
        this.#connecting = undefined;
        if (result.ok) {
          const client = new Http2Client(this, result);
          this.#sessions.push(client);
          this.serve();
          return;
        }
        if (result.why === "overflow" && this.#sessions.length > 0) return;
        for (const pending of this.#pending.splice(0)) {
          this.#leave(pending);
          pending.events.onUpstreamFailure(reasonOfFailure(result), result.transportFailure);
        }
      },
    );
  }

  /** What waits goes where there is room. */
  serve(): void {
    while (this.#pending.length > 0) {
      const session = this.#sessions.find((one) => one.room);
      if (!session) {
        this.#connect(this.#pending[0]!.options);
        return;
      }
      const pending = this.#pending.shift()!;
      this.#leave(pending);
      session.take(pending.events);
    }
    if (this.#draining || this.host.removed) for (const session of [...this.#sessions]) session.drain();
  }

  gone(session: Http2Client): void {
    const at = this.#sessions.indexOf(session);
    if (at >= 0) this.#sessions.splice(at, 1);
    if (this.#pending.length > 0) this.serve();
  }

  drain(): void {
    this.#draining = true;
    for (const session of [...this.#sessions]) session.drain();
  }
}

class Http2Client implements DeadlineOwner {
  readonly connection: UpstreamConnection;
  readonly session: ClientHttp2Session;
  readonly #pool: Http2Pool;
  readonly #idle = new Deadline(this, 0);
  #active = 0;
  #requests = 0;
  #leaving = false;

  constructor(pool: Http2Pool, connection: UpstreamConnection) {
    this.#pool = pool;
    this.connection = connection;
    const { socket } = connection;
    const session = http2().connect("http://upstream", {
      createConnection: () => socket,
      settings: { enablePush: false, initialWindowSize: 1024 * 1024 },
      maxHeaderListPairs: 105,
    });
    this.session = session;
    session.on("error", () => undefined);
    session.on("goaway", () => this.drain());
    session.on("close", () => {
      this.#idle.cancel();
      this.#leaving = true;
      pool.gone(this);
    });
    session.once("connect", () => {
      if (!session.destroyed) session.setLocalWindowSize(16 * 1024 * 1024);
    });
  }

  get room(): boolean {
    if (this.#leaving || this.session.destroyed || this.session.closed) return false;
    const most = this.session.remoteSettings?.maxConcurrentStreams ?? 100;
    return this.#active < most;
  }

  take(events: UpstreamEvents): void {
    this.#idle.cancel();
    this.#active++;
    this.#requests++;
    const { maxRequestsPerConnection: most } = this.connection.host.cluster;
    if (most > 0 && this.#requests >= most) this.#leaving = true;
    events.onUpstreamReady(new Http2Stream(this, events));
  }

  released(): void {
    this.#active--;
    if (this.#active === 0) {
      if (this.#leaving) {
        this.session.close();
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
    if (this.#active === 0) this.session.close();
  }
}

class Http2Stream implements UpstreamStream {
  readonly connection: UpstreamConnection;
  readonly #client: Http2Client;
  #events: UpstreamEvents | undefined;
  #stream: ClientHttp2Stream | undefined;
  #trailers: Headers | undefined;
  #answer: Headers | undefined;
  #responded = false;
  #over = false;
  readonly #limit: number;

  constructor(client: Http2Client, events: UpstreamEvents) {
    this.#client = client;
    this.connection = client.connection;
    this.#events = events;
    this.#limit = client.connection.host.cluster.bufferLimit;
  }

  head(head: RequestHead, end: boolean): void {
    const fields = outgoing(head.headers);
    fields[":method"] = head.method;
    fields[":path"] = head.path;
    fields[":authority"] = head.authority;
    fields[":scheme"] = head.scheme || "http";
    let stream: ClientHttp2Stream;
    try {
      stream = this.#client.session.request(fields, { endStream: end, waitForTrailers: !end });
    } catch {
      this.#fail("connection_termination");
      return;
    }
    this.#stream = stream;
    stream.on("wantTrailers", () => {
      try {
        stream.sendTrailers(this.#trailers ? outgoing(this.#trailers) : {});
      } catch {
        stream.close();
      }
    });
    stream.on("headers", (headers) => {
      const status = Number(headers[":status"]);
      this.#events?.onInformational(status, new Headers());
    });
    stream.on("response", (_headers, flags, raw?: unknown) => {
      const { status, headers } = responseOf(raw as string[]);
      this.#responded = true;
      const ended = (flags & http2().constants.NGHTTP2_FLAG_END_STREAM) !== 0;
      this.#events?.onResponseHead(status, headers, ended);
      if (ended) this.#complete();
    });
    stream.on("data", (chunk: Buffer) => this.#events?.onResponseData(chunk));
    stream.on("trailers", (_headers, _flags, raw?: unknown) => {
      this.#answer = responseOf(raw as string[]).headers;
    });
    stream.on("end", () => {
      if (this.#responded && stream.rstCode === 0) this.#complete();
    });
    stream.on("drain", () => this.#events?.onUpstreamDrain());
    stream.on("error", () => undefined);
    stream.on("close", () => {
      const { constants } = http2();
      this.#fail(
        stream.rstCode === constants.NGHTTP2_REFUSED_STREAM
          ? "remote_refused"
          : this.#client.session.destroyed && stream.rstCode !== 0
            ? "connection_termination"
            : stream.rstCode === constants.NGHTTP2_PROTOCOL_ERROR
              ? "protocol_error"
              : "remote_reset",
      );
      this.#release();
    });
  }

  #complete(): void {
    const events = this.#events;
    if (!events) return;
    this.#events = undefined;
    // Released first: the client may ask again at once.
    this.#release();
    events.onResponseEnd(this.#answer);
  }

  #fail(reason: ResetReason): void {
    const events = this.#events;
    this.#events = undefined;
    events?.onUpstreamReset(reason);
  }

  #release(): void {
    if (this.#over) return;
    this.#over = true;
    this.#client.released();
  }

  data(chunk: Buffer): boolean {
    const stream = this.#stream;
    if (!stream || stream.destroyed) return true;
    stream.write(chunk);
    return stream.writableLength < this.#limit;
  }

  end(trailers: Headers | undefined): void {
    this.#trailers = trailers;
    if (this.#stream && !this.#stream.destroyed && !this.#stream.writableEnded) this.#stream.end();
  }

  reset(): void {
    this.#events = undefined;
    if (this.#stream) this.#stream.close(http2().constants.NGHTTP2_CANCEL);
    else this.#release();
  }

  pause(): void {
    this.#stream?.pause();
  }

  resume(): void {
    this.#stream?.resume();
  }
}

function responseOf(raw: readonly string[]): { status: number; headers: Headers } {
  let status = 0;
  const flat: string[] = [];
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!;
    if (name === ":status") status = Number(raw[i + 1]);
    else if (!name.startsWith(":")) flat.push(fieldName(name) ?? name, raw[i + 1]!);
  }
  return { status, headers: new Headers(flat) };
}
