/** Ranges of addresses in CIDR notation; undefined where it does not matter which address. */
import { BlockList, isIPv4 } from "node:net";

/** An address or range as a range. */
export function cidr(address: string): string {
  return address.includes("/") ? address : `${address}/${address.includes(":") ? 128 : 32}`;
}

/** A range of addresses, not one. */
export function isRange(address: string): boolean {
  return address.includes("/") && !/\/(?:32|128)$/.test(address);
}

/** Whether all of `inner` is in `outer`. */
export function isWithin(inner: string, outer: string): boolean {
  if (inner === outer) return true;
  const [net = "", bits] = outer.split("/");
  const [address = "", length] = inner.split("/");
  if (isIPv4(net) !== isIPv4(address) || Number(bits) > Number(length)) return false;
  const list = new BlockList();
  const family = isIPv4(net) ? "ipv4" : "ipv6";
  list.addSubnet(net, Number(bits), family);
  return list.check(address, family);
}

/** What both have: of two ranges that meet, one is in the other. Empty: nothing. */
export function overlap(
  these: readonly string[] | undefined,
  those: readonly string[] | undefined,
): readonly string[] | undefined {
  if (!these || !those) return these ?? those;
  const both = these.flatMap((a) => those.flatMap((b) => (isWithin(a, b) ? [a] : isWithin(b, a) ? [b] : [])));
  return [...new Set(both)];
}

/** Those of which some other does not take all. */
export function without(ranges: readonly string[], taken: readonly string[]): readonly string[] {
  return ranges.filter((range) => !taken.some((other) => isWithin(range, other)));
}
