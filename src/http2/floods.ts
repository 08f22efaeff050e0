/**
 * What a peer may ask of us without giving anything, within bounds. Each is what Envoy allows by default; what goes
 * beyond ends the connection with ENHANCE_YOUR_CALM. Sources: envoy.config.core.v3.Http2ProtocolOptions; CVE-2019-9511
 * and those after it (ping, settings, empty frames, priority), CVE-2023-44487 (rapid reset), CVE-2024-27316 (CONTINUATION).
 */
import { ConnectionError, errorCode } from "./frames.ts";

/** Answers to control frames that wait for a peer that does not read. */
const mostAnswers = 1_000;
const mostEmptyInARow = 1;
/** For each stream, and some for the connection. */
const mostPriorities = 100;
const mostWindowUpdates = { always: 1_005, perStream: 2, perData: 20 };
/** Resets of its own streams that a client may send: so many at once, and so many in a second. */
const resets = { burst: 100, perSecond: 20 };
/** CONTINUATION frames of one header block. */
const mostContinuations = 16;

export class Floods {
  readonly #now: () => number;
  #answers = 0;
  #emptyInARow = 0;
  #priorities = 0;
  #windowUpdates = 0;
  #streams = 0;
  #dataSent = 0;
  #resetsLeft = resets.burst;
  #resetAt = 0;

  /** `now`: milliseconds that only go forward. */
  constructor(now: () => number) {
    this.#now = now;
  }

  stream(): void {
    this.#streams++;
  }

  dataSent(): void {
    this.#dataSent++;
  }

  /** A frame that we must answer. */
  answer(): void {
    if (++this.#answers > mostAnswers) flood("answers that are not read");
  }

  /** What was written has left. */
  answersRead(): void {
    this.#answers = 0;
  }

  /** DATA, HEADERS or CONTINUATION came. */
  payload(empty: boolean): void {
    if (!empty) this.#emptyInARow = 0;
    else if (++this.#emptyInARow > mostEmptyInARow) flood("empty frames");
  }

  priority(): void {
    if (++this.#priorities > mostPriorities * (1 + this.#streams)) flood("PRIORITY");
  }

  windowUpdate(): void {
    const { always, perStream, perData } = mostWindowUpdates;
    const most = always + perStream * this.#streams + perData * this.#dataSent;
    if (++this.#windowUpdates > most) flood("WINDOW_UPDATE");
  }

  /** The peer has reset a stream. */
  reset(): void {
    const now = this.#now();
    const since = (now - this.#resetAt) / 1_000;
    this.#resetsLeft = Math.min(resets.burst, this.#resetsLeft + since * resets.perSecond);
    this.#resetAt = now;
    if (this.#resetsLeft < 1) flood("RST_STREAM");
    this.#resetsLeft--;
  }

  continuation(count: number): void {
    if (count > mostContinuations) flood("CONTINUATION");
  }
}

function flood(of: string): never {
  throw new ConnectionError(errorCode.ENHANCE_YOUR_CALM, `a flood: ${of}`);
}
