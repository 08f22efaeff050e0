/** A connection to a host in HTTP/2: many requests at once. */
import type {
  ClientHttp2Session,
  ClientHttp2Stream,
  IncomingHttpHeaders,
  IncomingHttpStatusHeader,
} from "node:http2";
import type { UpstreamConnection } from "../contract.ts";
import type { ClusterCounters } from "./cluster-counters.ts";
import { Deadline, type DeadlineOwner } from "./deadlines.ts";
import { bears, guarded, listener } from "./guard.ts";
import { fieldName, Headers, type RequestHead } from "./headers.ts";
import { http2 } from "./http2.ts";
import type { Http2Pool } from "./http2-pool.ts";
import { outgoing } from "./http2-server.ts";
import type { ResetReason } from "./retry-policy.ts";
import { Traffic } from "./traffic.ts";
import { complete, ready, refuse, type UpstreamEvents, type UpstreamStream } from "./upstream.ts";

export class Http2Client implements DeadlineOwner {
  readonly connection: UpstreamConnection;
  readonly session: ClientHttp2Session;
  readonly #pool: Http2Pool;
  readonly #idle = new Deadline(this, 0);
  readonly #traffic: Traffic;
  #active = 0;
  #requests = 0;
  #leaving = false;

  constructor(pool: Http2Pool, connection: UpstreamConnection) {
    this.#pool = pool;
    this.connection = connection;
    const { socket } = connection;
    this.#traffic = new Traffic(socket, pool.counters.cxReceived, pool.counters.cxSent);
    const session = http2().connect("http://upstream", {
      createConnection: () => socket,
      settings: { enablePush: false, initialWindowSize: 1024 * 1024 },
      maxHeaderListPairs: 105,
    });
    this.session = session;
    session.on("error", () => undefined);
    session.on(
      "goaway",
      guarded(this, () => this.drain()),
    );
    session.on(
      "close",
      guarded(this, () => {
        this.#idle.cancel();
        this.#traffic.count();
        this.#leaving = true;
        pool.gone(this);
      }),
    );
    session.once("connect", () => {
      if (!session.destroyed) session.setLocalWindowSize(16 * 1024 * 1024);
    });
  }

  onBug(error: unknown): void {
    this.#pool.deadlines.bug(error);
    this.session.destroy();
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
    const pseudo = [":method", head.method, ":path", head.path, ":authority", head.authority];
    const fields = [...pseudo, ":scheme", head.scheme || "http", ...head.headers.flat];
    let stream: ClientHttp2Stream;
    try {
      stream = this.#client.session.request(fields, { endStream: end, waitForTrailers: !end });
    } catch {
      this.#fail("connection_termination");
      return;
    }
    this.#stream = stream;
    bears(stream, this);
    stream.on("wantTrailers", listeners.wantTrailers);
    stream.on("headers", listeners.headers);
    stream.on("response", listeners.response);
    stream.on("data", listeners.data);
    stream.on("trailers", listeners.trailers);
    stream.on("end", listeners.end);
    stream.on("drain", listeners.drain);
    stream.on("error", nothing);
    stream.on("close", listeners.close);
  }

  onWantTrailers(): void {
    const stream = this.#stream!;
    try {
      stream.sendTrailers(this.#trailers ? outgoing(this.#trailers) : {});
    } catch {
      stream.close();
    }
  }

  onInformational(status: number): void {
    this.#events?.onInformational(status, new Headers());
  }

  onResponse(flags: number, raw: readonly string[]): void {
    const { status, headers } = responseOf(raw);
    this.#responded = true;
    const ended = (flags & http2().constants.NGHTTP2_FLAG_END_STREAM) !== 0;
    this.#events?.onResponseHead(status, headers, ended);
    if (ended) this.#complete();
  }

  onData(chunk: Buffer): void {
    this.#events?.onResponseData(chunk);
  }

  onTrailers(raw: readonly string[]): void {
    this.#answer = responseOf(raw).headers;
  }

  onEnd(): void {
    if (this.#responded && this.#stream!.rstCode === 0) this.#complete();
  }

  onDrain(): void {
    this.#events?.onUpstreamDrain();
  }

  onClose(): void {
    const { rstCode } = this.#stream!;
    const { constants } = http2();
    const refused = rstCode === constants.NGHTTP2_REFUSED_STREAM;
    if (this.#events && !refused && !this.#client.session.destroyed) this.#client.counters.rxReset.inc();
    this.#fail(
      refused
        ? "remote_refused"
        : this.#client.session.destroyed && rstCode !== 0
          ? "connection_termination"
          : rstCode === constants.NGHTTP2_PROTOCOL_ERROR
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

  #complete(): void {
    const events = this.#events;
    if (!events) return;
    this.#events = undefined;
    // Released first: the client may ask again at once.
    this.#release();
    // An answer before the request was whole: the rest of it is not wanted.
    const stream = this.#stream!;
    if (!stream.writableEnded) stream.close(http2().constants.NGHTTP2_CANCEL);
    complete(events, this, this.#answer);
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

  get queued(): number {
    return this.#stream?.writableLength ?? 0;
  }

  reset(): void {
    this.#events = undefined;
    if (this.#stream && !this.#over) this.#client.counters.txReset.inc();
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

const listeners = {
  wantTrailers: listener((stream: Http2Stream) => stream.onWantTrailers()),
  headers: listener((stream: Http2Stream, headers: IncomingHttpHeaders & IncomingHttpStatusHeader) =>
    stream.onInformational(Number(headers[":status"])),
  ),
  // A raw list keeps the order and what came twice; it is what the types forget.
  response: listener((stream: Http2Stream, _headers: object, flags: number, raw?: unknown) =>
    stream.onResponse(flags, raw as string[]),
  ),
  data: listener((stream: Http2Stream, chunk: Buffer) => stream.onData(chunk)),
  trailers: listener((stream: Http2Stream, _headers: object, _flags: number, raw?: unknown) =>
    stream.onTrailers(raw as string[]),
  ),
  end: listener((stream: Http2Stream) => stream.onEnd()),
  drain: listener((stream: Http2Stream) => stream.onDrain()),
  close: listener((stream: Http2Stream) => stream.onClose()),
};
const nothing = () => undefined;
