/** IPv4 addresses and ranges as numbers. */

/** A range in CIDR notation, taken apart. Numbers are unsigned 32-bit addresses. */
export interface Range {
  first: number;
  size: number;
  bits: number;
}

export function parseAddress(address: string): number {
  const parts = address.split(".");
  const bytes = parts.map((part) => (/^\d{1,3}$/.test(part) ? Number(part) : 256));
  if (bytes.length !== 4 || bytes.some((byte) => byte > 255)) {
    throw new RangeError(`'${address}' is not an IPv4 address`);
  }
  return bytes.reduce((value, byte) => value * 256 + byte, 0);
}

export function formatAddress(value: number): string {
  return [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join(".");
}

/** Throws RangeError for what is not `a.b.c.d/n`. Host bits are dropped. */
export function parseRange(range: string): Range {
  const [address, length, rest] = range.split("/");
  const bits = Number(length);
  if (rest !== undefined || !/^\d{1,2}$/.test(length ?? "") || bits > 32) {
    throw new RangeError(`'${range}' is not an IPv4 range`);
  }
  const size = 2 ** (32 - bits);
  const value = parseAddress(address!);
  return { first: value - (value % size), size, bits };
}

export function contains(range: string, address: string): boolean {
  const { first, size } = parseRange(range);
  const value = parseAddress(address);
  return value >= first && value < first + size;
}
