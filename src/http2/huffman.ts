/**
 * The Huffman code of header strings, decoding only: what we write is not compressed so (hpack-encoder.ts says why).
 * Source: RFC 7541, 5.2 and Appendix B.
 */
import { HpackError } from "./hpack-tables.ts";

/**
 * Bits of the codes of the bytes, and of EOS, which is the symbol 256. Codes of one length follow one another in the order
 * of their symbols, and those of the next length begin where these end: so all of them follow from this.
 */
const lengths = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28,
  28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7,
  8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19,
  13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13,
  28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21,
  22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23,
  22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
  25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
const eos = 256;

/**
 * The code as a tree: by 2 × node + bit, the next node, or ~symbol where a code ends; the root is node 0. Nodes are
 * numbered level by level, so the branches of a level follow one another too: first those that end codes, then those to
 * the nodes of the next level. There are as many nodes as bytes, one less than leaves.
 */
function makeTree(): Int16Array {
  const tree = new Int16Array(2 * eos);
  const symbols = [...lengths.keys()].sort((a, b) => lengths[a]! - lengths[b]!);
  let nodes = 1;
  for (let branch = 0, next = 0, length = 1; branch < tree.length; length++) {
    const endOfLevel = 2 * nodes;
    while (lengths[symbols[next]!] === length) tree[branch++] = ~symbols[next++]!;
    while (branch < endOfLevel) tree[branch++] = nodes++;
  }
  return tree;
}

/** The state after EOS, which nothing leads out of. The other states are the nodes of the tree. */
const failed = eos;

/**
 * By 16 × state + the next 4 bits: the state after them << 9, and 256 + byte if they complete its code (no two codes end
 * within 4 bits). Eight bits at a time would be a third faster, and take 256 KiB and some milliseconds to make.
 */
let steps: Int32Array | undefined;
/** The states in which a string may end: at most 7 bits of ones after a code. */
const mayEnd = new Uint8Array(failed + 1);

function makeSteps(): Int32Array {
  const tree = makeTree();
  for (let node = 0, ones = 0; ones <= 7; ones++, node = tree[2 * node + 1]!) mayEnd[node] = 1;
  const ofOneBit = new Int32Array(tree.length + 2).fill(failed << 9);
  for (let branch = 0; branch < tree.length; branch++) {
    const to = tree[branch]!;
    if (to >= 0) ofOneBit[branch] = to << 9;
    else if (~to !== eos) ofOneBit[branch] = 256 | ~to;
  }
  return twice(twice(ofOneBit, 2), 4);
}

/** Steps of twice the bits, from steps of those that have `values` values. */
function twice(half: Int32Array, values: number): Int32Array {
  const whole = new Int32Array(half.length * values);
  for (let i = 0; i < half.length; i++) {
    const before = half[i]!;
    const state = before >>> 9;
    for (let bits = 0; bits < values; bits++) {
      whole[i * values + bits] = half[state * values + bits]! | (before & 511);
    }
  }
  return whole;
}

/** Most bytes that `length` bytes of Huffman code can stand for: no code is shorter than 5 bits. */
export function mostDecoded(length: number): number {
  return Math.ceil((length * 8) / 5);
}

/**
 * Decodes `from[at … end)` to the beginning of `into`, which has room for `mostDecoded`; answers with the number of bytes.
 * Throws HpackError for EOS, and for padding that is longer than 7 bits or not of ones.
 */
export function decodeHuffman(from: Uint8Array, at: number, end: number, into: Uint8Array): number {
  steps ??= makeSteps();
  const table = steps;
  let out = 0;
  let state = 0;
  for (let next = at; next < end; next++) {
    const byte = from[next]!;
    const high = table[(state << 4) | (byte >>> 4)]!;
    into[out] = high;
    out += (high >>> 8) & 1;
    const low = table[((high >>> 9) << 4) | (byte & 15)]!;
    into[out] = low;
    out += (low >>> 8) & 1;
    state = low >>> 9;
  }
  if (mayEnd[state] === 0) throw new HpackError("a string that is no Huffman code");
  return out;
}
