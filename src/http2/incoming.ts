/** What a connection receives: frames → what they mean for it and its streams. Throws ConnectionError. Source: RFC 9113, 6. */
import type { Connection } from "./connection.ts";
import { checkFields, Malformed, type MessageKind } from "./fields.ts";
import {
  ConnectionError,
  checkWindow,
  defaultFrameSize,
  errorCode,
  flag,
  frame,
  frameHead,
  headSize,
  largestWindow,
  numberFrame,
  pingFrame,
  setting,
} from "./frames.ts";
import { HpackDecoder, HpackError } from "./hpack.ts";
import { FrameReader, type FrameSink } from "./reader.ts";
import { Stream } from "./stream.ts";

/** Where the owner sets no limits. */
const defaults = { maxHeaderListSize: 64 * 1024, maxFields: 1_000 };

/** A header block that is not whole. */
interface Block {
  stream: number;
  end: boolean;
  /** RFC 7540, 5.3.1: an error of the stream. */
  dependsOnItself: boolean;
  parts: Buffer[];
  /** Of its frames. */
  bytes: number;
}

export class Incoming implements FrameSink {
  readonly #connection: Connection;
  readonly #reader: FrameReader;
  readonly #decoder = new HpackDecoder();
  /** How much may come, bytes. */
  window: number;
  #greeted = false;
  #block: Block | undefined;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.#reader = new FrameReader(this, connection.server);
    this.window = connection.connectionWindow;
  }

  read(chunk: Buffer): void {
    this.#reader.read(chunk);
  }

  get over(): boolean {
    return this.#connection.ending;
  }

  onFrame(type: number, flags: number, id: number, payload: Buffer): void {
    this.#inOrder(type, flags, id);
    switch (type) {
      case frame.HEADERS:
        this.#onHeaders(flags, id, payload);
        break;
      case frame.CONTINUATION:
        this.#onContinuation(flags, id, payload);
        break;
      case frame.PRIORITY:
        this.#onPriority(id, payload);
        break;
      case frame.RST_STREAM:
        this.#onReset(id, payload);
        break;
      case frame.SETTINGS:
        this.#onSettings(flags, id, payload);
        break;
      case frame.PING:
        this.#onPing(flags, id, payload);
        break;
      case frame.GOAWAY:
        this.#onGoaway(id, payload);
        break;
      case frame.WINDOW_UPDATE:
        this.#onWindowUpdate(id, payload);
        break;
      case frame.PUSH_PROMISE:
        wrong("PUSH_PROMISE, which was not allowed");
    }
  }

  #inOrder(type: number, flags: number, id: number): void {
    if (!this.#greeted && (type !== frame.SETTINGS || flags & flag.ACK)) wrong("SETTINGS is to come first");
    if (this.#block && (type !== frame.CONTINUATION || id !== this.#block.stream))
      wrong("a header block is to come without a break");
  }

  // --------------------------------------------------------------------------------------------------- messages

  #onHeaders(flags: number, id: number, payload: Buffer): void {
    const padded = flags & flag.PADDED ? 1 : 0;
    const prioritized = (flags & flag.PRIORITY) !== 0;
    const from = padded + (prioritized ? 5 : 0);
    const to = payload.length - (padded ? (payload[0] ?? 0) : 0);
    if (from > to) wrong("more padding than frame");
    const end = (flags & flag.END_STREAM) !== 0;
    const part = payload.subarray(from, to);
    this.#connection.floods.payload(part.length === 0 && !end);
    const dependsOnItself = prioritized && (payload.readUInt32BE(padded) & 0x7fffffff) === id;
    this.#block = { stream: id, end, dependsOnItself, parts: [], bytes: headSize + payload.length };
    this.#onPart(part, flags);
  }

  #onContinuation(flags: number, id: number, payload: Buffer): void {
    if (!this.#block) wrong(`CONTINUATION of stream ${id}, which has no header block under way`);
    const { floods } = this.#connection;
    floods.payload(payload.length === 0);
    floods.continuation(this.#block.parts.length);
    this.#block.bytes += headSize + payload.length;
    this.#onPart(payload, flags);
  }

  #onPart(part: Buffer, flags: number): void {
    const block = this.#block!;
    if ((flags & flag.END_HEADERS) === 0) {
      block.parts.push(Buffer.from(part));
      return;
    }
    this.#block = undefined;
    const { stream: id, end, parts } = block;
    const { fields, tooLarge } = this.#decode(parts.length === 0 ? part : Buffer.concat([...parts, part]));
    const connection = this.#connection;
    const stream = connection.find(id);
    if (stream) stream.overhead += block.bytes;
    if (!stream) this.#onRequest(block, fields, tooLarge);
    else if (stream.remoteEnded) connection.reset(stream, errorCode.STREAM_CLOSED);
    else if (tooLarge) connection.reset(stream, errorCode.ENHANCE_YOUR_CALM);
    else if (stream.headed) this.#onTrailers(stream, fields, end);
    else this.#onResponse(stream, fields, end);
  }

  #decode(block: Buffer): { fields: string[]; tooLarge: boolean } {
    const { maxHeaderListSize = defaults.maxHeaderListSize, maxFields = defaults.maxFields } =
      this.#connection.options;
    try {
      return this.#decoder.decode(block, maxHeaderListSize, maxFields);
    } catch (error) {
      if (!(error instanceof HpackError)) throw error;
      throw new ConnectionError(errorCode.COMPRESSION_ERROR, error.message);
    }
  }

  #onRequest({ stream: id, end, dependsOnItself, bytes }: Block, fields: string[], tooLarge: boolean): void {
    const connection = this.#connection;
    const { events, maxConcurrentStreams = Number.POSITIVE_INFINITY } = connection.options;
    if (connection.isForgotten(id)) return;
    if (!connection.server || id % 2 === 0) wrong(`HEADERS of stream ${id}, which the peer may not open`);
    if (id <= connection.lastPeerId)
      throw new ConnectionError(errorCode.STREAM_CLOSED, `HEADERS of stream ${id}, which is closed`);
    connection.lastPeerId = id;
    const length = lengthOf(fields, "request");
    const refusal =
      connection.size >= maxConcurrentStreams
        ? errorCode.REFUSED_STREAM
        : tooLarge
          ? errorCode.ENHANCE_YOUR_CALM
          : dependsOnItself || length === undefined || (end && length > 0)
            ? errorCode.PROTOCOL_ERROR
            : undefined;
    if (refusal !== undefined) {
      connection.floods.stream();
      connection.refuse(id, refusal);
      return;
    }
    const stream = new Stream(connection, id, connection.peerWindow);
    stream.expected = length!;
    stream.headed = true;
    stream.remoteEnded = end;
    stream.overhead = bytes;
    connection.add(stream);
    events.stream!(stream, fields, end);
  }

  #onResponse(stream: Stream, fields: string[], end: boolean): void {
    const length = lengthOf(fields, "response");
    const status = fields[1]!;
    const informational = status?.startsWith("1");
    if (length === undefined || (informational && end)) {
      this.#connection.reset(stream, errorCode.PROTOCOL_ERROR);
      return;
    }
    stream.headed = !informational;
    if (!informational && !stream.bodyless && status !== "304") stream.expected = length;
    stream.remoteEnded = end;
    stream.events?.head?.(fields, end);
    if (end) this.#connection.ended(stream);
  }

  #onTrailers(stream: Stream, fields: string[], end: boolean): void {
    if (!end || stream.expected > 0 || lengthOf(fields, "trailers") === undefined)
      this.#connection.reset(stream, errorCode.PROTOCOL_ERROR);
    else stream.arrivedEnd(fields);
  }

  onDataFrame(flags: number, id: number, length: number, padding: number): void {
    this.#inOrder(frame.DATA, flags, id);
    const connection = this.#connection;
    connection.floods.payload(length === 0 && (flags & flag.END_STREAM) === 0);
    this.window -= length;
    if (this.window < 0)
      throw new ConnectionError(errorCode.FLOW_CONTROL_ERROR, "more data than the connection's window");
    const stream = connection.find(id);
    if (stream) {
      stream.receiveWindow -= length;
      stream.overhead += headSize + padding;
      if (stream.remoteEnded) connection.reset(stream, errorCode.STREAM_CLOSED);
      else if (stream.receiveWindow < 0) connection.reset(stream, errorCode.FLOW_CONTROL_ERROR);
      else if (!stream.headed) connection.reset(stream, errorCode.PROTOCOL_ERROR);
    } else if (!connection.hasBeen(id)) wrong(`DATA of stream ${id}, which was never opened`);
    else if (!connection.isForgotten(id))
      throw new ConnectionError(errorCode.STREAM_CLOSED, `DATA of stream ${id}, which is closed`);
    if (!stream) connection.taken(padding);
    else if (padding > 0) stream.taken(padding);
  }

  onData(id: number, chunk: Buffer): void {
    const stream = this.#connection.find(id);
    if (!stream) {
      this.#connection.taken(chunk.length);
      return;
    }
    if (stream.expected >= 0) {
      stream.expected -= chunk.length;
      if (stream.expected < 0) {
        this.#connection.taken(chunk.length);
        this.#connection.reset(stream, errorCode.PROTOCOL_ERROR);
        return;
      }
    }
    stream.arrived(chunk);
  }

  onDataDone(flags: number, id: number): void {
    const stream = (flags & flag.END_STREAM) === 0 ? undefined : this.#connection.find(id);
    if (!stream) return;
    if (stream.expected > 0) this.#connection.reset(stream, errorCode.PROTOCOL_ERROR);
    else stream.arrivedEnd(undefined);
  }

  // ---------------------------------------------------------------------------------------------------- control

  /** Priorities are not served (RFC 9113, 5.3); what is wrong with them is still told. */
  #onPriority(id: number, payload: Buffer): void {
    if (id === 0) wrong("PRIORITY of no stream");
    this.#connection.floods.priority();
    const onItself = payload.length === 5 && (payload.readUInt32BE(0) & 0x7fffffff) === id;
    if (payload.length === 5 && !onItself) return;
    const code = onItself ? errorCode.PROTOCOL_ERROR : errorCode.FRAME_SIZE_ERROR;
    const stream = this.#connection.find(id);
    if (stream) this.#connection.reset(stream, code);
    else this.#connection.outgoing.answer(numberFrame(frame.RST_STREAM, id, code));
  }

  #onReset(id: number, payload: Buffer): void {
    const connection = this.#connection;
    if (payload.length !== 4) wrongSize("RST_STREAM");
    if (!connection.hasBeen(id)) wrong(`RST_STREAM of stream ${id}, which was never opened`);
    if (connection.server) connection.floods.reset();
    const stream = connection.find(id);
    if (stream) connection.close(stream, payload.readUInt32BE(0), "peer");
  }

  #onSettings(flags: number, id: number, payload: Buffer): void {
    if (id !== 0) wrong("SETTINGS of a stream");
    if (flags & flag.ACK) {
      if (payload.length > 0) wrongSize("SETTINGS");
      return;
    }
    if (payload.length % 6 !== 0) wrongSize("SETTINGS");
    const connection = this.#connection;
    if (!this.#greeted) connection.peerStreams = Number.POSITIVE_INFINITY;
    this.#greeted = true;
    // Acknowledged before what they allow is used.
    connection.outgoing.answer(frameHead(0, frame.SETTINGS, flag.ACK, 0));
    for (let at = 0; at < payload.length; at += 6)
      this.#onSetting(payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
  }

  #onSetting(id: number, value: number): void {
    const connection = this.#connection;
    switch (id) {
      case setting.HEADER_TABLE_SIZE:
        connection.outgoing.encoder.setMaxTableSize(value);
        break;
      case setting.ENABLE_PUSH:
        if (value > 1 || (value === 1 && !connection.server)) wrong("ENABLE_PUSH");
        break;
      case setting.MAX_CONCURRENT_STREAMS:
        connection.peerStreams = value;
        break;
      case setting.INITIAL_WINDOW_SIZE:
        checkWindow(value);
        connection.rewindow(value);
        break;
      case setting.MAX_FRAME_SIZE:
        if (value < defaultFrameSize || value >= 2 ** 24) wrong("MAX_FRAME_SIZE");
        connection.outgoing.frameSize = value;
        break;
    }
  }

  #onPing(flags: number, id: number, payload: Buffer): void {
    if (id !== 0) wrong("PING of a stream");
    if (payload.length !== 8) wrongSize("PING");
    if (flags & flag.ACK) this.#connection.pong();
    else this.#connection.outgoing.answer(pingFrame(flag.ACK, payload));
  }

  #onGoaway(id: number, payload: Buffer): void {
    if (id !== 0) wrong("GOAWAY of a stream");
    if (payload.length < 8) wrongSize("GOAWAY");
    this.#connection.left(payload.readUInt32BE(0) & 0x7fffffff, payload.readUInt32BE(4));
  }

  #onWindowUpdate(id: number, payload: Buffer): void {
    const connection = this.#connection;
    if (payload.length !== 4) wrongSize("WINDOW_UPDATE");
    connection.floods.windowUpdate();
    const more = payload.readUInt32BE(0) & 0x7fffffff;
    if (id === 0) {
      if (more === 0) wrong("WINDOW_UPDATE of nothing");
      connection.outgoing.widen(more);
      return;
    }
    if (!connection.hasBeen(id)) wrong(`WINDOW_UPDATE of stream ${id}, which was never opened`);
    const stream = connection.find(id);
    if (!stream) return;
    stream.sendWindow += more;
    if (more === 0) connection.reset(stream, errorCode.PROTOCOL_ERROR);
    else if (stream.sendWindow > largestWindow) connection.reset(stream, errorCode.FLOW_CONTROL_ERROR);
    else connection.outgoing.widen(more, stream);
  }
}

/** What `content-length` promises, -1 without it; undefined: the message is malformed. */
function lengthOf(fields: readonly string[], kind: MessageKind): number | undefined {
  try {
    return checkFields(fields, kind);
  } catch (error) {
    if (error instanceof Malformed) return undefined;
    throw error;
  }
}

function wrong(message: string): never {
  throw new ConnectionError(errorCode.PROTOCOL_ERROR, message);
}

function wrongSize(of: string): never {
  throw new ConnectionError(errorCode.FRAME_SIZE_ERROR, `the size of ${of}`);
}
