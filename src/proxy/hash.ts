/** XXH64, the hash behind Envoy's ring hash, Maglev and hash policies: the same key finds the same host in both. */

const mask = 0xffffffffffffffffn;
const p1 = 11400714785074694791n;
const p2 = 14029467366897019727n;
const p3 = 1609587929392839161n;
const p4 = 9650029242287828579n;
const p5 = 2870177450012600261n;

const rotate = (value: bigint, bits: bigint) => ((value << bits) | (value >> (64n - bits))) & mask;
const round = (sum: bigint, input: bigint) => (rotate((sum + input * p2) & mask, 31n) * p1) & mask;
const merge = (hash: bigint, sum: bigint) => ((hash ^ round(0n, sum)) * p1 + p4) & mask;

/** XXH64 of the text's UTF-8 bytes, as an unsigned 64 bit number. */
export function xxhash64(input: string | Uint8Array, seed = 0n): bigint {
  const bytes = typeof input === "string" ? Buffer.from(input) : input;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = bytes.byteLength;
  let at = 0;
  let hash: bigint;
  if (length >= 32) {
    let [a, b, c, d] = [(seed + p1 + p2) & mask, (seed + p2) & mask, seed, (seed - p1) & mask];
    for (; at + 32 <= length; at += 32) {
      a = round(a, view.getBigUint64(at, true));
      b = round(b, view.getBigUint64(at + 8, true));
      c = round(c, view.getBigUint64(at + 16, true));
      d = round(d, view.getBigUint64(at + 24, true));
    }
    hash = (rotate(a, 1n) + rotate(b, 7n) + rotate(c, 12n) + rotate(d, 18n)) & mask;
    hash = merge(merge(merge(merge(hash, a), b), c), d);
  } else {
    hash = (seed + p5) & mask;
  }
  hash = (hash + BigInt(length)) & mask;
  for (; at + 8 <= length; at += 8) {
    hash ^= round(0n, view.getBigUint64(at, true));
    hash = (rotate(hash, 27n) * p1 + p4) & mask;
  }
  if (at + 4 <= length) {
    hash ^= (BigInt(view.getUint32(at, true)) * p1) & mask;
    hash = (rotate(hash, 23n) * p2 + p3) & mask;
    at += 4;
  }
  for (; at < length; at++) {
    hash ^= (BigInt(bytes[at]!) * p5) & mask;
    hash = (rotate(hash, 11n) * p1) & mask;
  }
  hash = ((hash ^ (hash >> 33n)) * p2) & mask;
  hash = ((hash ^ (hash >> 29n)) * p3) & mask;
  return hash ^ (hash >> 32n);
}
