/** The lines of a head or of trailers, which may come in any pieces. */
import { bad, badCharacters, type ParseError, tooLarge, tooMany } from "./http1-errors.ts";

export interface Limits {
  /** Bytes of a head, request line among them. Envoy's default for requests is 60 KiB. */
  headBytes: number;
  /** Header fields. Envoy's default is 100. */
  headerCount: number;
}

export const CR = 13;
export const LF = 10;

export class Lines {
  readonly #limits: Limits;
  /** What came in earlier pieces; undefined when all of it is in one. */
  #partial: Buffer | undefined;
  #partialLength = 0;
  #scanned = 0;
  #lineStart = 0;

  /** Ends of lines (the place of their CR) in `text`. */
  readonly ends: number[] = [];
  /** All lines with the empty one that ends them, once they are `whole`. */
  text = "";
  whole = false;
  error: ParseError | undefined;

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  /** Reads on from `start`. Returns how far it came; then it is `whole`, or has an `error`, or needs more. */
  read(buffer: Buffer, start: number, end: number): number {
    this.whole = false;
    let source = buffer;
    let base = start;
    let consumed = 0;
    let stop = end;
    if (this.#partial) {
      // Never more than one head can hold, whatever else came with it.
      stop = Math.min(end, start + this.#limits.headBytes + 4);
      consumed = this.#partialLength;
      this.#keep(buffer, start, stop);
      source = this.#partial;
      base = 0;
    }
    const after = this.#scan(source, base, source === buffer ? end : this.#partialLength);
    if (after < 0) {
      if (this.error) return end;
      if (source === buffer) this.#keep(buffer, start, end);
      return stop;
    }
    this.#partial = undefined;
    if (after - base > this.#limits.headBytes) {
      this.error = tooLarge;
      return end;
    }
    this.text = source.toString("latin1", base, after);
    this.whole = true;
    return source === buffer ? after : start + (after - consumed);
  }

  /** What was read is done with. */
  clear(): void {
    this.ends.length = 0;
    this.text = "";
  }

  /** Nothing more is read. */
  drop(): void {
    this.clear();
    this.#partial = undefined;
  }

  /** Finds the end of the lines. Returns the place after it, or -1 when it is not there yet. */
  #scan(buffer: Buffer, base: number, end: number): number {
    let at = base + this.#scanned;
    let lineStart = base + this.#lineStart;
    const { ends } = this;
    while (at < end) {
      const byte = buffer[at]!;
      if (byte > 31 && byte !== 127) {
        at++;
        continue;
      }
      if (byte === CR) {
        if (at + 1 >= end) break;
        if (buffer[at + 1] !== LF) return this.#refuse(bad);
        if (at === lineStart) {
          this.#scanned = 0;
          this.#lineStart = 0;
          return at + 2;
        }
        if (ends.length > this.#limits.headerCount + 1) return this.#refuse(tooMany);
        ends.push(at - base);
        at += 2;
        lineStart = at;
        continue;
      }
      if (byte === 9) {
        at++;
        continue;
      }
      return this.#refuse(byte === LF ? bad : badCharacters);
    }
    this.#scanned = at - base;
    this.#lineStart = lineStart - base;
    if (this.#scanned > this.#limits.headBytes) return this.#refuse(tooLarge);
    return -1;
  }

  #refuse(error: ParseError): number {
    this.error = error;
    return -1;
  }

  /** Keeps what is not yet whole, to go on when more comes. */
  #keep(buffer: Buffer, at: number, end: number): void {
    const size = end - at;
    if (!this.#partial) {
      this.#partial = Buffer.allocUnsafe(Math.max(1024, size * 2));
      this.#partialLength = 0;
    }
    if (this.#partialLength + size > this.#partial.length) {
      const larger = Buffer.allocUnsafe((this.#partialLength + size) * 2);
      this.#partial.copy(larger, 0, 0, this.#partialLength);
      this.#partial = larger;
    }
    buffer.copy(this.#partial, this.#partialLength, at, end);
    this.#partialLength += size;
  }
}
