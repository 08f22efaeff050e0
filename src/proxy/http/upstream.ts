/** What the router and the connections to hosts say to each other; the same for HTTP/1.1 and HTTP/2. */
import type { ConnectFailure, Downstream, Host, UpstreamConnection } from "../contract.ts";
import { type Bearer, charge } from "./guard.ts";
import type { Headers, RequestHead } from "./headers.ts";
import type { ResetReason } from "./retry-policy.ts";

/** One request on its way to a host. */
export interface UpstreamStream {
  readonly connection: UpstreamConnection;
  /** Sends the head; a body follows unless `end`. `upgrade`: what follows is another protocol's bytes. */
  head(head: RequestHead, end: boolean, upgrade: string | undefined): void;
  /** False: it is full, wait for `onUpstreamDrain`. */
  data(chunk: Buffer): boolean;
  /** Bytes that the host has not taken yet. */
  readonly queued: number;
  end(trailers: Headers | undefined): void;
  /** Gives it up: nothing more is told. */
  reset(): void;
  /** Stops and goes on reading the response. */
  pause(): void;
  resume(): void;
}

/** Who asked for a stream. Nothing is called after `reset`, `cancel`, `onUpstreamReset` or the end of the response. */
export interface UpstreamEvents extends Bearer {
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
}

/** Has the request bear what it throws. */
export function ready(events: UpstreamEvents, stream: UpstreamStream): void {
  try {
    events.onUpstreamReady(stream);
  } catch (error) {
    stream.reset();
    charge(events, error);
  }
}

/** The same for one that gets no stream, or whose stream broke off. */
export function refuse(
  events: UpstreamEvents,
  reason: ResetReason,
  transportFailure: string | undefined,
): void {
  try {
    if (transportFailure === undefined) events.onUpstreamReset(reason);
    else events.onUpstreamFailure(reason, transportFailure);
  } catch (error) {
    charge(events, error);
  }
}

/** The same for one whose response is over. */
export function complete(
  events: UpstreamEvents,
  stream: UpstreamStream,
  trailers: Headers | undefined,
): void {
  try {
    events.onResponseEnd(trailers);
  } catch (error) {
    stream.reset();
    charge(events, error);
  }
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

/** What a client is told when no try ended with an answer; the last one ended with `reason`. */
export function failureAnswer(
  reason: ResetReason,
  transportFailure: string,
  retried: boolean,
): { status: number; body: string; details: string } {
  if (reason === "per_try_timeout") {
    return { status: 504, body: "upstream request timeout", details: "upstream_per_try_timeout" };
  }
  const { words, status, detail } = resets[reason];
  const which = retried ? "retried and the latest reset reason" : "reset reason";
  const cause =
    transportFailure && reason !== "overflow" ? `${detail}|${transportFailure.replace(/ /g, "_")}` : detail;
  return {
    status,
    body: `upstream connect error or disconnect/reset before headers. ${which}: ${words}`,
    details: `upstream_reset_before_response_started{${cause}}`,
  };
}
