/** Bytes → frames. DATA is handed on as it comes; what is short by nature is gathered first. Source: RFC 9113, 4. */
import { ConnectionError, defaultFrameSize, errorCode, flag, frame, headSize, preface } from "./frames.ts";

export interface FrameSink {
  /** Nothing is to be read any more. */
  readonly over: boolean;
  /** Any frame but DATA, whole; the payload is only valid during the call. */
  onFrame(type: number, flags: number, stream: number, payload: Buffer): void;
  /** A frame of DATA begins; `length` with its padding, `padding` with the byte that says how much. */
  onDataFrame(flags: number, stream: number, length: number, padding: number): void;
  onData(stream: number, chunk: Buffer): void;
  onDataDone(flags: number, stream: number): void;
}

export class FrameReader {
  readonly #sink: FrameSink;
  /** What has come of something that is not whole, and how much it is going to be. */
  #parts: Buffer[] = [];
  #have = 0;
  #wanted = headSize;
  /** How much of the client's preface is still to come. */
  #preface: number;
  /** The frame of DATA that is being read: bytes that are left of its data, then of its padding. */
  #inData = false;
  #dataLeft = 0;
  #padding = 0;
  #dataFlags = 0;
  #dataStream = 0;

  constructor(sink: FrameSink, expectsPreface: boolean) {
    this.#sink = sink;
    this.#preface = expectsPreface ? preface.length : 0;
  }

  /** Throws ConnectionError. */
  read(arrived: Buffer): void {
    let chunk = arrived;
    if (this.#have > 0) {
      this.#parts.push(arrived);
      this.#have += arrived.length;
      if (this.#have < this.#wanted) return;
      chunk = Buffer.concat(this.#parts, this.#have);
      this.#parts = [];
      this.#have = 0;
    }
    let at = this.#preface > 0 ? this.#readPreface(chunk) : 0;
    while (at < chunk.length && !this.#sink.over) {
      if (this.#inData) {
        at = this.#readData(chunk, at);
        continue;
      }
      const have = chunk.length - at;
      if (have < headSize) {
        this.#keep(chunk, at, headSize);
        return;
      }
      const length = (chunk[at]! << 16) | (chunk[at + 1]! << 8) | chunk[at + 2]!;
      if (length > defaultFrameSize)
        throw new ConnectionError(errorCode.FRAME_SIZE_ERROR, `a frame of ${length} bytes`);
      const type = chunk[at + 3]!;
      const flags = chunk[at + 4]!;
      const stream = chunk.readUInt32BE(at + 5) & 0x7fffffff;
      if (type === frame.DATA) {
        const padded = (flags & flag.PADDED) !== 0;
        if (padded && have < headSize + 1 && length > 0) {
          this.#keep(chunk, at, headSize + 1);
          return;
        }
        const padding = padded ? 1 + (chunk[at + headSize] ?? 0) : 0;
        if (padding > length) throw new ConnectionError(errorCode.PROTOCOL_ERROR, "more padding than frame");
        at += headSize + (padded ? 1 : 0);
        this.#inData = true;
        this.#dataFlags = flags;
        this.#dataStream = stream;
        this.#dataLeft = length - padding;
        this.#padding = padded ? padding - 1 : 0;
        this.#sink.onDataFrame(flags, stream, length, padding);
        this.#endData();
        continue;
      }
      if (have < headSize + length) {
        this.#keep(chunk, at, headSize + length);
        return;
      }
      at += headSize;
      this.#sink.onFrame(type, flags, stream, chunk.subarray(at, at + length));
      at += length;
    }
  }

  #keep(chunk: Buffer, at: number, wanted: number): void {
    // A copy: the rest of a large chunk is not kept for a few bytes.
    this.#parts = [Buffer.from(chunk.subarray(at))];
    this.#have = chunk.length - at;
    this.#wanted = wanted;
  }

  #readPreface(chunk: Buffer): number {
    const length = Math.min(this.#preface, chunk.length);
    const from = preface.length - this.#preface;
    if (preface.compare(chunk, 0, length, from, from + length) !== 0)
      throw new ConnectionError(errorCode.PROTOCOL_ERROR, "this is not HTTP/2");
    this.#preface -= length;
    return length;
  }

  #readData(chunk: Buffer, from: number): number {
    let at = from;
    if (this.#dataLeft > 0) {
      const length = Math.min(this.#dataLeft, chunk.length - at);
      const data = at === 0 && length === chunk.length ? chunk : chunk.subarray(at, at + length);
      this.#dataLeft -= length;
      at += length;
      this.#sink.onData(this.#dataStream, data);
    }
    if (this.#dataLeft === 0) {
      const skipped = Math.min(this.#padding, chunk.length - at);
      this.#padding -= skipped;
      at += skipped;
      this.#endData();
    }
    return at;
  }

  #endData(): void {
    if (this.#dataLeft > 0 || this.#padding > 0) return;
    this.#inData = false;
    if (!this.#sink.over) this.#sink.onDataDone(this.#dataFlags, this.#dataStream);
  }
}
