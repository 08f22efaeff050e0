/** A client's connection in HTTP/1.1: requests one after the other, each answered before the next is looked at. */
import type { Downstream } from "../contract.ts";
import { ConnectionDeadlines, HEADERS, IDLE, LIFE } from "./connection-deadlines.ts";
import type { DeadlineOwner } from "./deadlines.ts";
import { Exchange } from "./exchange.ts";
import { charge, guarded } from "./guard.ts";
import type { Headers, RequestHead } from "./headers.ts";
import type { ParseError } from "./http1-errors.ts";
import { hasOption } from "./http1-head.ts";
import { Http1Parser, type MessageSink } from "./http1-parser.ts";
import { readTarget } from "./http1-target.ts";
import { type BodyFraming, lastChunk, reasonOf, responseHead } from "./http1-writer.ts";
import type { Manager } from "./manager.ts";
import { type ConnectionFacts, connectionFacts } from "./request-headers.ts";
import type { ResponseWriter } from "./response-writer.ts";
import { Writer } from "./writer.ts";

/** Bytes of the chunk that ends a body, without trailers. */
const LAST_CHUNK = 5;

export class Http1ServerConnection implements MessageSink, ResponseWriter, DeadlineOwner {
  readonly #manager: Manager;
  readonly #downstream: Downstream;
  readonly #facts: ConnectionFacts;
  readonly #parser: Http1Parser;
  readonly #writer: Writer;
  readonly #closed: (connection: Http1ServerConnection) => void;
  readonly #deadlines: ConnectionDeadlines;

  #exchange: Exchange | undefined;
  /** What came after the request that is being answered. */
  #rest: Buffer | undefined;
  #reading = false;
  #paused = false;
  #requests = 0;
  /** What was written before the response that is on. */
  #writtenBefore = 0;
  #requestDone = true;
  #framing: BodyFraming = "none";
  #toHead = false;
  #closeAfter = false;
  #lastRequest = false;
  #minor: 0 | 1 = 1;
  #keepAlive10 = false;
  #tunnel = false;
  #done = false;

  constructor(
    manager: Manager,
    downstream: Downstream,
    /** Bytes that came before all that the socket gives. */
    head: Buffer,
    closed: (connection: Http1ServerConnection) => void,
  ) {
    this.#manager = manager;
    this.#downstream = downstream;
    this.#closed = closed;
    const { settings } = manager;
    this.#facts = connectionFacts(downstream, settings);
    this.#parser = new Http1Parser("request", this, settings.limits, { acceptHttp10: settings.acceptHttp10 });
    const { socket } = downstream;
    this.#writer = new Writer(socket, manager.counters.cxSent);
    socket.on(
      "drain",
      guarded(this, () => this.#exchange?.onDownstreamDrain()),
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
    this.#deadlines = new ConnectionDeadlines(manager, this);
    this.#deadlines.rest();
    const onData = guarded(this, (chunk: Buffer) => this.#onData(chunk));
    if (head.length > 0) onData(head);
    socket.on("data", onData);
    if (!this.#paused) socket.resume();
  }

  get protocol(): "HTTP/1.0" | "HTTP/1.1" {
    return this.#minor === 0 ? "HTTP/1.0" : "HTTP/1.1";
  }

  #open(): Exchange {
    this.#writtenBefore = this.#writer.written;
    const exchange = new Exchange(this.#manager, this.#facts, this);
    this.#exchange = exchange;
    return exchange;
  }

  get received(): number {
    return this.#parser.overhead;
  }

  sent(whole: boolean): number {
    const end = whole && this.#framing === "chunked" ? LAST_CHUNK : 0;
    return this.#writer.written - this.#writtenBefore + end;
  }

  // ------------------------------------------------------------------------------------------- reading

  #onData(chunk: Buffer): void {
    this.#manager.counters.cxReceived.value += chunk.length;
    if (this.#lastRequest && !this.#exchange) return; // what comes after the last request is not read
    if (this.#reading || (this.#exchange && this.#requestDone && !this.#tunnel)) {
      // Pipelined: it waits, and so does the client.
      this.#rest = this.#rest ? Buffer.concat([this.#rest, chunk]) : chunk;
      this.#pause();
      return;
    }
    this.#read(chunk);
  }

  onBug(error: unknown): void {
    this.#manager.bug(error);
    this.#downstream.socket.destroy();
  }

  #read(chunk: Buffer): void {
    this.#reading = true;
    let at = 0;
    let current: Buffer | undefined = chunk;
    while (current) {
      if (at < current.length) {
        if (this.#tunnel) {
          this.#exchange?.onRequestData(at === 0 ? current : current.subarray(at));
          at = current.length;
        } else if (this.#exchange && this.#requestDone) {
          const rest = current.subarray(at);
          this.#rest = this.#rest ? Buffer.concat([rest, this.#rest]) : rest;
          this.#pause();
          break;
        } else if (this.#lastRequest && !this.#exchange) break;
        else at = this.#parser.execute(current, at);
        continue;
      }
      at = 0;
      current = this.#exchange && this.#requestDone && !this.#tunnel ? undefined : this.#rest;
      if (current) this.#rest = undefined;
    }
    this.#reading = false;
    const partial = !this.#exchange && !this.#parser.idle && !this.#parser.failed;
    if (partial && !this.#done) this.#deadlines.headBegun();
  }

  #pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#downstream.socket.pause();
  }

  #resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#downstream.socket.resume();
  }

  pauseRequest(): void {
    this.#pause();
  }

  resumeRequest(): void {
    if (!this.#rest) this.#resume();
  }

  onHead(parser: Http1Parser): boolean {
    this.#deadlines.headOver();
    const manager = this.#manager;
    this.#minor = parser.minor;
    this.#requests++;
    this.#toHead = parser.method === "HEAD";
    const { connection } = parser;
    this.#keepAlive10 = parser.minor === 0 && hasOption(connection, "keep-alive");
    const most = manager.settings.maxRequestsPerConnection;
    if (most > 0 && this.#requests === most) manager.counters.cxMaxRequests.inc();
    this.#closeAfter =
      manager.draining ||
      (connection !== "" && hasOption(connection, "close")) ||
      (parser.minor === 0 && !this.#keepAlive10) ||
      (most > 0 && this.#requests >= most) ||
      this.#lastRequest;
    const head: RequestHead = {
      method: parser.method,
      path: parser.target,
      authority: parser.host ?? "",
      scheme: "",
      headers: parser.headers,
    };
    let authority: string | undefined = parser.host;
    if (authority === undefined && parser.minor === 0 && manager.settings.defaultHost) {
      authority = manager.settings.defaultHost;
      head.authority = authority;
    }
    if (head.method === "CONNECT") this.#closeAfter = true;
    const refused = readTarget(head, authority, connection, manager.settings.underscores === "reject");
    if (refused) {
      this.onError(refused);
      return false;
    }
    if (authority === undefined && head.authority !== "") authority = head.authority;
    const { headers } = head;
    const end = parser.framing === "none" && parser.upgrade === undefined;
    this.#requestDone = end;
    const exchange = this.#open();
    if (headers.get("expect")?.toLowerCase() === "100-continue") {
      headers.remove("expect");
      if (!manager.settings.proxy100 && parser.minor === 1) {
        this.#writer.write("HTTP/1.1 100 Continue\r\n\r\n");
        manager.answered(100);
      } else headers.add("expect", "100-continue");
    }
    const upgrade = parser.upgrade;
    if (upgrade !== undefined && upgrade.toLowerCase() !== "h2c") {
      if (parser.framing !== "none" && parser.method !== "GET") {
        this.onError({ status: 400, details: "http1.codec_error" });
        return false;
      }
      if (manager.settings.upgrades.get(upgrade.toLowerCase()) === true) {
        parser.tunnel();
        this.#tunnel = true;
      } else this.#requestDone = true;
    } else if (upgrade !== undefined) this.#requestDone = parser.framing === "none";
    exchange.begin(head, authority, this.#requestDone && !this.#tunnel, upgrade);
    return false;
  }

  onBody(chunk: Buffer): void {
    this.#exchange?.onRequestData(chunk);
  }

  onComplete(trailers: Headers | undefined): void {
    if (this.#requestDone || this.#tunnel) return;
    this.#requestDone = true;
    this.#exchange?.onRequestEnd(this.#manager.settings.http1Trailers ? trailers : undefined);
    if (!this.#exchange) this.#next();
  }

  /** A message that is refused: answered when nothing of an answer was sent yet, and the connection ends. */
  onError(error: ParseError): void {
    this.#manager.counters.cxProtocolError.inc();
    this.#closeAfter = true;
    this.#requestDone = true;
    this.#lastRequest = true;
    const exchange = this.#exchange;
    if (exchange) {
      exchange.addFlag("DPE");
      exchange.router?.abandon();
      exchange.reply({ status: error.status, body: reasonOf(error.status), details: error.details });
      return;
    }
    this.#toHead = false;
    this.#open().refuse(error.status, reasonOf(error.status), error.details);
  }

  #onEnd(): void {
    // Half-closed connections are not kept (Envoy: enable_half_close is off for HTTP/1.1).
    if (this.#tunnel && this.#exchange) {
      this.#exchange.onRequestEnd(undefined);
      return;
    }
    this.#downstream.socket.destroy();
  }

  #onClose(): void {
    if (this.#done) return;
    this.#done = true;
    this.#deadlines.cancel();
    const exchange = this.#exchange;
    this.#exchange = undefined;
    try {
      exchange?.onDownstreamReset();
    } finally {
      this.#closed(this);
    }
  }

  // ------------------------------------------------------------------------------------------- writing

  closeAfter(): void {
    this.#closeAfter = true;
  }

  informational(status: number, headers: Headers): void {
    if (this.#minor === 0) return;
    let text = `HTTP/1.1 ${status} ${reasonOf(status)}\r\n`;
    for (let i = 0; i < headers.flat.length; i += 2) text += `${headers.flat[i]}: ${headers.flat[i + 1]}\r\n`;
    this.#writer.write(`${text}\r\n`);
  }

  head(status: number, headers: Headers, end: boolean, upgrade: string | undefined): void {
    if (this.#manager.draining && upgrade === undefined) this.#closeAfter = true;
    // The rest of a request that is answered already is not waited for.
    if (!this.#requestDone && !this.#tunnel) this.#closeAfter = true;
    // An upgrade that did not come about leaves the rest of the connection unknown.
    if (this.#tunnel && upgrade === undefined) this.#closeAfter = true;
    const { text, framing, close } = responseHead(status, headers, {
      end,
      toHead: this.#toHead,
      close: this.#closeAfter,
      keepAlive10: this.#keepAlive10,
      http10: this.#minor === 0,
      upgrade,
    });
    this.#framing = framing;
    if (close) this.#closeAfter = true;
    this.#writer.write(text);
  }

  data(chunk: Buffer): boolean {
    if (this.#framing === "chunked") {
      this.#writer.write(`${chunk.length.toString(16)}\r\n`);
      this.#writer.write(chunk);
      this.#writer.write("\r\n");
    } else if (this.#framing !== "none") this.#writer.write(chunk);
    return this.#writer.queued < this.#manager.bufferLimit;
  }

  end(trailers: Headers | undefined): void {
    if (this.#framing === "chunked") {
      this.#writer.write(lastChunk(this.#manager.settings.http1Trailers ? trailers : undefined));
    }
    this.#framing = "none";
    this.#exchange = undefined;
    if (this.#tunnel || this.#closeAfter || !this.#requestDone) this.#closeSoon();
    else this.#next();
  }

  reset(): void {
    this.#exchange = undefined;
    this.#writer.flush();
    this.#downstream.socket.destroy();
  }

  /** On to the next request, which may be here already. */
  #next(): void {
    this.#deadlines.rest();
    if (this.#manager.draining) {
      this.#closeSoon();
      return;
    }
    if (this.#reading) return; // the loop that is on sees it
    const rest = this.#rest;
    this.#rest = undefined;
    this.#resume();
    if (!rest) return;
    try {
      this.#read(rest);
    } catch (error) {
      // Who ended the answer before this request has nothing to do with it.
      charge(this, error);
    }
  }

  /**
   * Ends our side once all is written, and reads on for a while without looking: a client that still sends would
   * otherwise be told by a reset, and might never see the answer (delayed_close_timeout).
   */
  #closeSoon(): void {
    if (this.#lastRequest && this.#deadlines.closing) return;
    this.#lastRequest = true;
    this.#rest = undefined;
    this.#writer.end();
    this.#resume();
    this.#deadlines.close();
  }

  /** The listener goes: close when idle, and after the answer that is on. */
  drain(): void {
    if (!this.#exchange && this.#parser.idle) this.#closeSoon();
    else this.#closeAfter = true;
  }

  close(): void {
    this.#downstream.socket.destroy();
  }

  onDeadline(kind: number): void {
    if (kind === HEADERS) {
      this.#deadlines.headOver();
      this.#closeAfter = true;
      this.#lastRequest = true;
      this.#open().refuse(408, "request header timeout", "request_header_timeout", []);
    } else if (kind === LIFE) this.drain();
    else if (kind === IDLE) this.#closeSoon();
    else this.#downstream.socket.destroy();
  }
}
