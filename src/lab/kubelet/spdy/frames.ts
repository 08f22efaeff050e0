/**
 * Frames of SPDY/3.1 on the wire. Source: SPDY Protocol, Draft 3.1, section 2.2 and 2.6.
 */
import { HeaderReader, type Headers, HeaderWriter } from "./headers.ts";

/** Why a stream is reset (section 2.6.3). */
export const reset = {
  protocolError: 1,
  invalidStream: 2,
  refusedStream: 3,
  unsupportedVersion: 4,
  cancel: 5,
  internalError: 6,
  flowControlError: 7,
  streamInUse: 8,
  streamAlreadyClosed: 9,
  frameTooLarge: 11,
} as const;

/** Why a session ends (section 2.6.6). */
export const goAway = { ok: 0, protocolError: 1, internalError: 2 } as const;

/** SETTINGS that matter to us (section 2.6.4). */
export const setting = { maxConcurrentStreams: 4, initialWindowSize: 7 } as const;

export type Frame =
  /** Part of a DATA frame's payload, or all of it; `fin` comes with the last part. */
  | { type: "data"; stream: number; data: Buffer; fin: boolean }
  | { type: "synStream"; stream: number; headers: Headers; fin: boolean; unidirectional?: boolean }
  | { type: "synReply"; stream: number; headers: Headers; fin: boolean }
  | { type: "headers"; stream: number; headers: Headers; fin: boolean }
  | { type: "rstStream"; stream: number; status: number }
  | { type: "settings"; settings: ReadonlyMap<number, number> }
  | { type: "ping"; id: number }
  | { type: "goAway"; lastStream: number; status: number }
  | { type: "windowUpdate"; stream: number; delta: number };

/** What breaks the rules of the protocol: the session cannot go on. */
export class ProtocolError extends Error {}

const types = {
  synStream: 1,
  synReply: 2,
  rstStream: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  headers: 8,
  windowUpdate: 9,
} as const;
const version = 3;
const finFlag = 1;
const unidirectionalFlag = 2;
/** How large a control frame may be, in bytes. Payloads of DATA frames are never held. */
const largestControlFrame = 64 * 1024;

/** Writes one direction's frames; the headers' compression goes from frame to frame. */
export class FrameWriter {
  readonly #headers = new HeaderWriter();

  /** The bytes of a frame, in pieces. A `data` frame has less than 16 MiB. */
  write(frame: Frame): Buffer[] {
    if (frame.type === "data") {
      const head = Buffer.alloc(8);
      head.writeUInt32BE(frame.stream);
      head.writeUInt32BE(frame.data.length, 4);
      head[4] = frame.fin ? finFlag : 0;
      return frame.data.length > 0 ? [head, frame.data] : [head];
    }
    const { flags, body } = this.#control(frame);
    const head = Buffer.alloc(8);
    head.writeUInt16BE(0x8000 | version);
    head.writeUInt16BE(types[frame.type], 2);
    head.writeUInt32BE(body.length, 4);
    head[4] = flags;
    return [head, body];
  }

  #control(frame: Exclude<Frame, { type: "data" }>): { flags: number; body: Buffer } {
    switch (frame.type) {
      case "synStream": {
        const flags = (frame.fin ? finFlag : 0) | (frame.unidirectional ? unidirectionalFlag : 0);
        // Associated stream, priority and credential slot: none.
        const fixed = Buffer.concat([words(frame.stream, 0), Buffer.alloc(2)]);
        return { flags, body: Buffer.concat([fixed, this.#headers.write(frame.headers)]) };
      }
      case "synReply":
      case "headers":
        return {
          flags: frame.fin ? finFlag : 0,
          body: Buffer.concat([words(frame.stream), this.#headers.write(frame.headers)]),
        };
      case "rstStream":
        return { flags: 0, body: words(frame.stream, frame.status) };
      case "settings":
        return { flags: 0, body: words(frame.settings.size, ...[...frame.settings].flat()) };
      case "ping":
        return { flags: 0, body: words(frame.id) };
      case "goAway":
        return { flags: 0, body: words(frame.lastStream, frame.status) };
      case "windowUpdate":
        return { flags: 0, body: words(frame.stream, frame.delta) };
    }
  }
}

function words(...values: number[]): Buffer {
  const buffer = Buffer.alloc(4 * values.length);
  for (const [i, value] of values.entries()) buffer.writeUInt32BE(value, 4 * i);
  return buffer;
}

/** Reads one direction's frames from chunks of any size, and holds no more than one control frame. */
export class FrameReader {
  readonly #headers = new HeaderReader();
  #rest: Buffer = Buffer.alloc(0);
  /** The DATA frame whose payload is coming in, and how much of it is still to come. */
  #data: { stream: number; fin: boolean; left: number } | undefined;

  /** The frames that a chunk completes. Throws ProtocolError; nothing can be read after that. */
  async *read(chunk: Buffer): AsyncGenerator<Frame, void> {
    let bytes = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
    this.#rest = Buffer.alloc(0);
    for (;;) {
      if (this.#data) {
        const { stream, fin, left } = this.#data;
        const data = bytes.subarray(0, left);
        bytes = bytes.subarray(data.length);
        this.#data = data.length < left ? { stream, fin, left: left - data.length } : undefined;
        if (data.length > 0 || !this.#data) yield { type: "data", stream, data, fin: fin && !this.#data };
        if (this.#data) return;
      }
      if (bytes.length < 8) break;
      const first = bytes.readUInt32BE(0);
      const flags = bytes[4]!;
      const length = bytes.readUInt32BE(4) & 0xffffff;
      if (first < 0x80000000) {
        if (first === 0) throw new ProtocolError("a DATA frame is of no stream");
        this.#data = { stream: first, fin: (flags & finFlag) !== 0, left: length };
        bytes = bytes.subarray(8);
        continue;
      }
      if (((first >>> 16) & 0x7fff) !== version) throw new ProtocolError("a frame is not of SPDY/3");
      if (length > largestControlFrame) throw new ProtocolError("a control frame is too large");
      if (bytes.length < 8 + length) break;
      const frame = await this.#control(first & 0xffff, flags, bytes.subarray(8, 8 + length));
      bytes = bytes.subarray(8 + length);
      if (frame) yield frame;
    }
    // A copy: the chunk may be a large one that this small rest would keep alive.
    this.#rest = Buffer.from(bytes);
  }

  close(): void {
    this.#headers.close();
  }

  /** Undefined for a type that is not known, which is passed over (section 2.2.1). */
  async #control(type: number, flags: number, body: Buffer): Promise<Frame | undefined> {
    const need = (length: number) => {
      if (body.length < length) throw new ProtocolError("a control frame is too short");
    };
    const id = (at = 0) => body.readUInt32BE(at) & 0x7fffffff;
    const fin = (flags & finFlag) !== 0;
    switch (type) {
      case types.synStream: {
        need(10);
        const unidirectional = (flags & unidirectionalFlag) !== 0;
        const headers = await this.#block(body.subarray(10));
        return { type: "synStream", stream: id(), headers, fin, ...(unidirectional && { unidirectional }) };
      }
      case types.synReply:
      case types.headers: {
        need(4);
        const headers = await this.#block(body.subarray(4));
        return { type: type === types.headers ? "headers" : "synReply", stream: id(), headers, fin };
      }
      case types.rstStream:
        need(8);
        return { type: "rstStream", stream: id(), status: body.readUInt32BE(4) };
      case types.settings: {
        need(4);
        const count = body.readUInt32BE(0);
        if (body.length - 4 < count * 8) throw new ProtocolError("SETTINGS end early");
        const settings = new Map<number, number>();
        for (let at = 4; at < 4 + count * 8; at += 8) {
          settings.set(body.readUInt32BE(at) & 0xffffff, body.readUInt32BE(at + 4));
        }
        return { type: "settings", settings };
      }
      case types.ping:
        need(4);
        return { type: "ping", id: body.readUInt32BE(0) };
      case types.goAway:
        need(8);
        return { type: "goAway", lastStream: id(), status: body.readUInt32BE(4) };
      case types.windowUpdate:
        need(8);
        return { type: "windowUpdate", stream: id(), delta: id(4) };
    }
    return undefined;
  }

  async #block(compressed: Buffer): Promise<Headers> {
    try {
      return await this.#headers.read(Buffer.from(compressed));
    } catch (error) {
      throw new ProtocolError((error as Error).message);
    }
  }
}
