/** Header compression of HTTP/2, reading. The other direction is hpack-encoder.ts. Source: RFC 7541. */
import {
  defaultTableSize,
  fieldOverhead,
  firstDynamic,
  HpackError,
  staticNames,
  staticValues,
} from "./hpack-tables.ts";
import { decodeHuffman, mostDecoded } from "./huffman.ts";

export { HpackEncoder } from "./hpack-encoder.ts";
export { HpackError } from "./hpack-tables.ts";

/** Where Huffman code is decoded to; what is longer gets room of its own. */
const room = Buffer.allocUnsafe(4096);

/** Characters of a value that is kept in case that it comes again. */
const mostRemembered = 128;

/** One direction of one connection. */
export class HpackDecoder {
  /** What we announced in SETTINGS_HEADER_TABLE_SIZE, bytes. */
  readonly #announced: number;
  /** What the peer makes use of, bytes. */
  #limit: number;
  #size = 0;
  /** The dynamic table is a ring: the newest field is before `#next`, and there are `#count`. */
  readonly #names: string[] = [];
  readonly #values: string[] = [];
  readonly #mask: number;
  #next = 0;
  #count = 0;
  /** By static index: the last value that came as a literal and is no secret; the same again is the same string. */
  readonly #lastValues: string[] = [];

  #block!: Buffer;
  #at = 0;
  #end = 0;

  /** `maxTableSize`: what we announced in SETTINGS_HEADER_TABLE_SIZE, bytes. */
  constructor(maxTableSize = defaultTableSize) {
    this.#announced = maxTableSize;
    this.#limit = maxTableSize;
    let slots = 1;
    while (slots * fieldOverhead < maxTableSize) slots *= 2;
    this.#mask = slots - 1;
  }

  /**
   * One whole header block: name, value, name, value … as latin1 strings. Throws HpackError; the decoder is of no use
   * after that. Fields beyond `maxListSize` (RFC 9113, 6.5.2: the sum of name + value + 32) or `maxFields` are left out,
   * and those after them too; they are processed all the same, for the table's sake.
   */
  decode(block: Buffer, maxListSize: number, maxFields: number): { fields: string[]; tooLarge: boolean } {
    this.#block = block;
    this.#at = 0;
    this.#end = block.length;
    const fields: string[] = [];
    let listSize = 0;
    let tooLarge = false;
    let begun = false;
    while (this.#at < this.#end) {
      const byte = block[this.#at]!;
      let name: string;
      let value: string;
      if (byte >= 0x80) {
        // An indexed field (6.1).
        const index = this.#integer(0x7f);
        if (index < firstDynamic) {
          if (index === 0) throw new HpackError("index 0");
          name = staticNames[index]!;
          value = staticValues[index]!;
        } else {
          const slot = this.#slot(index);
          name = this.#names[slot]!;
          value = this.#values[slot]!;
        }
      } else if (byte >= 0x20 && byte < 0x40) {
        // A new size of the table (6.3).
        const size = this.#integer(0x1f);
        if (begun) throw new HpackError("a size of the table amid fields");
        if (size > this.#announced) throw new HpackError("a larger table than was announced");
        this.#limit = size;
        this.#evict(size);
        continue;
      } else {
        // A literal: with indexing (6.2.1), without (6.2.2), never indexed (6.2.3).
        const indexed = byte >= 0x40;
        const index = this.#integer(indexed ? 0x3f : 0x0f);
        if (index === 0) {
          name = this.#string("");
          value = this.#string("");
        } else if (index < firstDynamic) {
          name = staticNames[index]!;
          if (byte >= 0x10 && byte < 0x20) {
            value = this.#string("");
          } else {
            value = this.#string(this.#lastValues[index] ?? "");
            if (value.length <= mostRemembered) this.#lastValues[index] = value;
          }
        } else {
          const slot = this.#slot(index);
          name = this.#names[slot]!;
          value = this.#string(this.#values[slot]!);
        }
        if (indexed) this.#insert(name, value);
      }
      begun = true;
      listSize += name.length + value.length + fieldOverhead;
      if (listSize > maxListSize || fields.length >= 2 * maxFields) tooLarge = true;
      else fields.push(name, value);
    }
    return { fields, tooLarge };
  }

  /** 5.1: an integer whose first byte has it in the bits of `prefix`. */
  #integer(prefix: number): number {
    let value = this.#block[this.#at++]! & prefix;
    if (value < prefix) return value;
    // Four bytes more are enough for any number that has a meaning here.
    for (let shift = 0; shift < 28; shift += 7) {
      if (this.#at >= this.#end) throw new HpackError("the block ends within a number");
      const byte = this.#block[this.#at++]!;
      value += (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw new HpackError("a number of too many bytes");
  }

  /** 5.2: a string. When it is `guess`, that is given, and no other is made. */
  #string(guess: string): string {
    if (this.#at >= this.#end) throw new HpackError("the block ends before a string");
    const huffman = this.#block[this.#at]! >= 0x80;
    const length = this.#integer(0x7f);
    const from = this.#at;
    const to = from + length;
    if (to > this.#end) throw new HpackError("the block ends within a string");
    this.#at = to;
    if (!huffman) return stringOf(this.#block, from, to, guess);
    const most = mostDecoded(length);
    const into = most <= room.length ? room : Buffer.allocUnsafe(most);
    return stringOf(into, 0, decodeHuffman(this.#block, from, to, into), guess);
  }

  /** The slot of a field of the dynamic table by its index (2.3.3). */
  #slot(index: number): number {
    const age = index - firstDynamic;
    if (age >= this.#count) throw new HpackError("an index beyond the table");
    return (this.#next - 1 - age) & this.#mask;
  }

  #insert(name: string, value: string): void {
    const size = name.length + value.length + fieldOverhead;
    this.#evict(this.#limit - size);
    // What is larger than the table empties it (4.4).
    if (size > this.#limit) return;
    this.#names[this.#next] = name;
    this.#values[this.#next] = value;
    this.#next = (this.#next + 1) & this.#mask;
    this.#count++;
    this.#size += size;
  }

  /** Lets go of the oldest fields until no more than `most` bytes are left. */
  #evict(most: number): void {
    while (this.#count > 0 && this.#size > most) {
      const slot = (this.#next - this.#count) & this.#mask;
      this.#size -= this.#names[slot]!.length + this.#values[slot]!.length + fieldOverhead;
      this.#names[slot] = "";
      this.#values[slot] = "";
      this.#count--;
    }
  }
}

function stringOf(bytes: Buffer, from: number, to: number, guess: string): string {
  if (to - from === guess.length) {
    let at = 0;
    while (at < guess.length && guess.charCodeAt(at) === bytes[from + at]) at++;
    if (at === guess.length) return guess;
  }
  return bytes.toString("latin1", from, to);
}
