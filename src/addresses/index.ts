/**
 * Ranges of IP addresses in CIDR notation (RFC 4632 section 3.1, RFC 4291 section 2.3): what is one, and which is in
 * which. An address alone is the range of itself. Bits behind the prefix count for nothing: `10.1.2.3/8` is
 * `10.0.0.0/8`. IPv4 and IPv6 are apart, IPv4-mapped addresses (`::ffff:10.0.0.1`) are IPv6.
 */
import { isIP } from "node:net";

export interface IpRange {
  readonly family: 4 | 6;
  /** As it was written: bits behind the prefix may be set. */
  readonly address: string;
  /** Length of the prefix, at most 32 or 128. */
  readonly bits: number;
  /** The prefix as 32-bit words, the highest first. */
  readonly prefix: readonly number[];
}

/**
 * Undefined for what is neither an address nor a range. As with Go's net.ParseCIDR the length may have leading zeros,
 * the address may not, and it has no zone.
 */
export function readRange(text: string): IpRange | undefined {
  const [address = "", length, more] = text.split("/");
  const family = isIP(address);
  if (family === 0 || address.includes("%") || more !== undefined) return undefined;
  const widest = family === 4 ? 32 : 128;
  if (length !== undefined && !/^\d{1,3}$/.test(length)) return undefined;
  const bits = length === undefined ? widest : Number(length);
  if (bits > widest) return undefined;
  const prefix = wordsOf(address, family).map((word, i) => word & maskOf(bits, i));
  return { family: family as 4 | 6, address, bits, prefix };
}

/** Whether `readRange` takes it. */
export function isRange(text: string): boolean {
  return readRange(text) !== undefined;
}

/** Whether an address is in a range, whatever its zone. False for what is no address. */
export function contains({ family, bits, prefix }: IpRange, address: string): boolean {
  if (isIP(address) !== family) return false;
  return wordsOf(address, family).every((word, i) => (word & maskOf(bits, i)) === prefix[i]);
}

/** Whether all of `inner` is in `outer`. */
export function covers(outer: IpRange, inner: IpRange): boolean {
  return outer.bits <= inner.bits && contains(outer, inner.address);
}

/** `covers` of texts. False where one of them is no range. */
export function isWithin(inner: string, outer: string): boolean {
  const [small, large] = [readRange(inner), readRange(outer)];
  return small !== undefined && large !== undefined && covers(large, small);
}

/** Whether two ranges have an address in common: then one is in the other. False where one of them is no range. */
export function overlaps(a: string, b: string): boolean {
  return isWithin(a, b) || isWithin(b, a);
}

/** Whether it is a range of more than one address. */
export function isWide(text: string): boolean {
  const range = readRange(text);
  return range !== undefined && range.bits < (range.family === 4 ? 32 : 128);
}

/** An address or range in CIDR notation. */
export function cidr(text: string): string {
  return text.includes("/") ? text : `${text}/${text.includes(":") ? 128 : 32}`;
}

/** What two lists of ranges have in common; undefined is all addresses, an empty list none. */
export function intersection(
  these: readonly string[] | undefined,
  those: readonly string[] | undefined,
): readonly string[] | undefined {
  if (!these || !those) return these ?? those;
  const both = these.flatMap((a) => those.flatMap((b) => (isWithin(a, b) ? [a] : isWithin(b, a) ? [b] : [])));
  return [...new Set(both)];
}

/** Those ranges that no other of `taken` has whole. */
export function without(ranges: readonly string[], taken: readonly string[]): readonly string[] {
  return ranges.filter((range) => !taken.some((other) => isWithin(range, other)));
}

/** The bits of the i-th word that belong to the prefix. */
function maskOf(bits: number, i: number): number {
  const own = bits - 32 * i;
  return own <= 0 ? 0 : own >= 32 ? ~0 : ~0 << (32 - own);
}

/** An address that `isIP` takes as 32-bit words: one of IPv4, four of IPv6. */
function wordsOf(address: string, family: number): number[] {
  return family === 4 ? [ipv4Word(address)] : ipv6Words(address);
}

function ipv4Word(address: string): number {
  return address.split(".").reduce((word, byte) => word * 256 + Number(byte), 0);
}

/** RFC 4291 section 2.2: groups, `::` for groups of zeros, the last two perhaps as IPv4; RFC 4007: a zone behind `%`. */
function ipv6Words(address: string): number[] {
  const [head = [], tail] = address
    .replace(/%.*$/, "")
    .split("::")
    .map((half) => half.split(":").flatMap(groupsOf));
  const zeros = Array<number>(8 - head.length - (tail?.length ?? 0)).fill(0);
  const groups = [...head, ...zeros, ...(tail ?? [])];
  return [0, 2, 4, 6].map((i) => groups[i]! * 65_536 + groups[i + 1]!);
}

function groupsOf(part: string): number[] {
  if (part === "") return [];
  if (!part.includes(".")) return [Number.parseInt(part, 16)];
  const word = ipv4Word(part);
  return [Math.floor(word / 65_536), word % 65_536];
}
