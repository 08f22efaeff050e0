/** What the router and the connections to hosts say to each other; the same for HTTP/1.1 and HTTP/2. */
import type { ConnectFailure, Downstream, Host, UpstreamConnection } from "../contract.ts";
import type { Headers, RequestHead } from "./headers.ts";
import type { ResetReason } from "./retry-policy.ts";

/** One request on its way to a host. */
export interface UpstreamStream {
  readonly connection: UpstreamConnection;
  /** Sends the head; a body follows unless `end`. `upgrade`: what follows is another protocol's bytes. */
  head(head: RequestHead, end: boolean, upgrade: string | undefined): void;
  /** False: it is full, wait for `onUpstreamDrain`. */
  data(chunk: Buffer): boolean;
  end(trailers: Headers | undefined): void;
  /** Gives it up: nothing more is told. */
  reset(): void;
  /** Stops and goes on reading the response. */
  pause(): void;
  resume(): void;
}

/** Who asked for a stream. Nothing is called after `reset`, `cancel`, `onUpstreamReset` or the end of the response. */
export interface UpstreamEvents {
  onUpstreamReady(stream: UpstreamStream): void;
  /** No stream came about. */
  onUpstreamFailure(reason: ResetReason, transportFailure: string): void;
  /** 100 and 103; 101 comes as a head. */
  onInformational(status: number, headers: Headers): void;
  onResponseHead(status: number, headers: Headers, end: boolean): void;
  onResponseData(chunk: Buffer): void;
  onResponseEnd(trailers: Headers | undefined): void;
  onUpstreamReset(reason: ResetReason): void;
  onUpstreamDrain(): void;
  /** Something threw while the response was handled. */
  onBug(error: unknown): void;
}

/** A request for a stream that waits for a connection. */
export interface PendingStream {
  cancel(): void;
}

export interface StreamOptions {
  priority: "default" | "high";
  /** The request's host, without its port. */
  serverName: string;
  downstream: Downstream;
  /** The request asks to switch protocols: it cannot go over HTTP/2. */
  upgrade: boolean;
}

/** Connections to one host in one protocol. */
export interface Pool {
  readonly host: Host;
  /** Tells `events` of the stream, at once or later; what it returns gives the waiting up. */
  request(events: UpstreamEvents, options: StreamOptions): PendingStream | undefined;
  /** No new requests: idle connections close, the others after what they do. */
  drain(): void;
}

/** How a reset is named in answers to clients, and Envoy's flag for it. */
export const resets: Record<ResetReason, { words: string; flag: string; status: number; detail: string }> = {
  connection_failure: reset("remote connection failure", "UF"),
  connect_timeout: reset("connection timeout", "UF"),
  tls_failure: reset("remote connection failure", "UF"),
  overflow: reset("overflow", "UO"),
  connection_termination: reset("connection termination", "UC"),
  protocol_error: reset("protocol error", "UPE", 502),
  remote_refused: reset("remote refused stream reset", "UR"),
  remote_reset: reset("remote reset", "UR"),
  per_try_timeout: reset("local reset", "UT", 504),
  local_reset: reset("local reset", "LR"),
};

function reset(words: string, flag: string, status = 503) {
  return { words, flag, status, detail: words.replace(/ /g, "_") };
}

/** Why a connection did not come about, as the router has it. */
export function reasonOfFailure(failure: ConnectFailure): ResetReason {
  switch (failure.why) {
    case "overflow":
      return "overflow";
    case "timeout":
      return "connect_timeout";
    case "tls":
      return "tls_failure";
    default:
      return "connection_failure";
  }
}
