/**
 * The Huffman code of header strings, decoding only: what we write is never compressed so (hpack-encoder.ts says why).
 * Source: RFC 7541, 5.2 and Appendix B.
 */
import { HpackError } from "./hpack-tables.ts";

/** Bits of the code of each byte, 0 … 255. Those of one length follow one another by value, so the codes follow from this. */
const lengths = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28,
  28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7,
  8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19,
  13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13,
  28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21,
  22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23,
  22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
  25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
const longest = 30;
/** Bits that are looked up at once: the codes of nearly all that headers have are no longer. */
const atOnce = 10;

/** By the next `atOnce` bits: length of the code << 8 | byte; 0 where the code is longer. */
const short = new Uint16Array(1 << atOnce);
/** By length of a code: the first code of that length, how many there are, and where their bytes begin in `bytes`. */
const first = new Int32Array(longest + 1);
const count = new Int32Array(longest + 1);
const begin = new Int32Array(longest + 1);
/** The bytes in the order of their codes. */
const bytes = new Uint8Array(256);

for (const length of lengths) count[length]!++;
for (let length = 1, code = 0, at = 0; length <= longest; length++) {
  code <<= 1;
  first[length] = code;
  begin[length] = at;
  code += count[length]!;
  at += count[length]!;
}
const placed = begin.slice();
for (const [byte, length] of lengths.entries()) {
  const at = placed[length]!++;
  bytes[at] = byte;
  if (length > atOnce) continue;
  const from = (first[length]! + at - begin[length]!) << (atOnce - length);
  short.fill((length << 8) | byte, from, from + (1 << (atOnce - length)));
}

/** Most bytes that `length` bytes of Huffman code can stand for: no code is shorter than 5 bits. */
export function mostDecoded(length: number): number {
  return Math.ceil((length * 8) / 5);
}

/**
 * Decodes `from[at … end)` to the beginning of `into`, which has room for `mostDecoded`; answers with the number of bytes.
 * Throws HpackError for EOS and for padding that is longer than 7 bits or not of ones.
 */
export function decodeHuffman(from: Uint8Array, at: number, end: number, into: Uint8Array): number {
  let next = at;
  let out = 0;
  /** The last `have` bits of `bits` are read and not yet decoded. */
  let bits = 0;
  let have = 0;
  for (;;) {
    while (have < atOnce && next < end) {
      bits = (bits << 8) | from[next++]!;
      have += 8;
    }
    const left = have - atOnce;
    // At the end the missing bits are thought of as ones: of padding, no code comes of it.
    const found = short[left >= 0 ? (bits >>> left) & 1023 : ((bits << -left) | ((1 << -left) - 1)) & 1023]!;
    const length = found >>> 8;
    if (length !== 0 && length <= have) {
      into[out++] = found;
      have -= length;
      continue;
    }
    if (left < 0) {
      const ones = (1 << have) - 1;
      if (have > 7 || (bits & ones) !== ones) throw new HpackError("padding of a string");
      return out;
    }
    have = left;
    let code = (bits >>> left) & 1023;
    for (let size = atOnce + 1; ; size++) {
      if (size > longest) throw new HpackError("EOS in a string");
      if (have === 0) {
        if (next === end) throw new HpackError("padding of a string");
        bits = from[next++]!;
        have = 8;
      }
      code = (code << 1) | ((bits >>> --have) & 1);
      const offset = code - first[size]!;
      if (offset < count[size]!) {
        into[out++] = bytes[begin[size]! + offset]!;
        break;
      }
    }
  }
}
