/** Ranges of addresses: Node's BlockList is the measure of what is in them. */
import assert from "node:assert/strict";
import { BlockList, isIPv4 } from "node:net";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  cidr,
  contains,
  covers,
  type IpRange,
  intersection,
  isWide,
  isWithin,
  overlaps,
  readRange,
  without,
} from "./index.ts";

describe("what a range is", () => {
  const right: [string, string, number][] = [
    ["10.0.0.0/8", "10.0.0.0", 8],
    ["10.1.2.3/8", "10.1.2.3", 8],
    ["10.1.2.3", "10.1.2.3", 32],
    ["0.0.0.0/0", "0.0.0.0", 0],
    ["10.0.0.0/08", "10.0.0.0", 8],
    ["fd00::/8", "fd00::", 8],
    ["FD00::1", "FD00::1", 128],
    ["::/0", "::", 0],
    ["::ffff:10.0.0.0/104", "::ffff:10.0.0.0", 104],
  ];
  for (const [text, address, bits] of right)
    test(`${text} is`, () => {
      const { family, ...range } = readRange(text)!;
      assert.deepEqual([range.address, range.bits], [address, bits]);
      assert.equal(family, isIPv4(address) ? 4 : 6);
    });
  const wrong = [
    ...["", "/", "/8", "10", "10.0.0/8", "10.0.0.256", "010.0.0.0/8", " 10.0.0.0/8", "example.com"],
    ...[
      "10.0.0.0/",
      "10.0.0.0/33",
      "10.0.0.0/-1",
      "10.0.0.0/+8",
      "10.0.0.0/8.0",
      "10.0.0.0/8/8",
      "10.0.0.0/255.0.0.0",
    ],
    ...["fd00::/129", "fd00::1::/64", "fd00::%eth0/64", "fe80::1%eth0", "[fd00::1]"],
  ];
  for (const text of wrong) test(`'${text}' is none`, () => assert.equal(readRange(text), undefined));
});

test("IPv4 and IPv6 have no address in common, mapped addresses are IPv6", () => {
  const has = (range: string, address: string) => contains(readRange(range)!, address);
  assert.ok(!has("0.0.0.0/0", "::1"));
  assert.ok(!has("::/0", "10.0.0.1"));
  assert.ok(!has("10.0.0.0/8", "::ffff:10.0.0.1"));
  assert.ok(!has("::ffff:10.0.0.0/104", "10.0.0.1"));
  assert.ok(has("::ffff:10.0.0.0/104", "::ffff:10.1.2.3"));
  assert.ok(has("::ffff:10.0.0.0/104", "::ffff:a01:203"));
  assert.ok(!overlaps("0.0.0.0/0", "::/0"));
});

test("an address with a zone is in the ranges of its link, what is no address is in none", () => {
  const link = readRange("fe80::/10")!;
  assert.ok(contains(link, "fe80::1%eth0"));
  assert.ok(!contains(link, "fd00::1%eth0"));
  for (const text of ["", "fe80::/10", "fe80", "10.0.0.1"]) assert.ok(!contains(link, text));
  assert.ok(!isWithin("x", "x") && !overlaps("10.0.0.0/33", "10.0.0.0/8"));
});

/** An address of `count` bytes near others, so that ranges meet, in one of the ways to write it. */
const bytes = (count: number) =>
  fc
    .array(fc.constantFrom(0, 0, 0, 1, 127, 128, 255), { minLength: count, maxLength: count })
    .chain((found) => fc.tuple(fc.constant(found), fc.nat(2)));
const ipv4 = bytes(4).map(([found]) => found.join("."));
const ipv6 = bytes(16).map(([found, way]) => {
  const groups = Array.from({ length: 8 }, (_, i) => found[2 * i]! * 256 + found[2 * i + 1]!);
  const full = groups.map((group) => group.toString(16));
  if (way === 0) return full.join(":").toUpperCase();
  if (way === 1) return `${full.slice(0, 6).join(":")}:${found.slice(12).join(".")}`;
  return new URL(`http://[${full.join(":")}]`).hostname.slice(1, -1);
});
const address = fc.oneof(ipv4, ipv6);
const range = fc.oneof(
  fc.tuple(ipv4, fc.nat(32)).map(([ip, bits]) => `${ip}/${bits}`),
  fc.tuple(ipv6, fc.nat(128)).map(([ip, bits]) => `${ip}/${bits}`),
  address,
);
const family = (ip: string) => (isIPv4(ip) ? "ipv4" : "ipv6");

function blockListSays({ address, bits }: IpRange, ip: string): boolean {
  const list = new BlockList();
  list.addSubnet(address, bits, family(address));
  return family(ip) === family(address) && list.check(ip, family(ip));
}

test("any address is in any range as Node's BlockList says", () => {
  fc.assert(
    fc.property(range, address, (text, ip) => {
      const read = readRange(text)!;
      assert.equal(contains(read, ip), blockListSays(read, ip));
    }),
    { numRuns: 1_000 },
  );
});

test("a range covers another when it has its first and its last address, and they overlap when one covers", () => {
  const bounds = (text: string): [string, bigint, bigint] => {
    const { prefix, bits, family } = readRange(text)!;
    const first = prefix.reduce((value, word) => (value << 32n) | BigInt(word >>> 0), 0n);
    return [`${family}`, first, first + (1n << BigInt((family === 4 ? 32 : 128) - bits)) - 1n];
  };
  fc.assert(
    fc.property(range, range, (x, y) => {
      const [[one, a, b], [other, c, d]] = [bounds(x), bounds(y)];
      assert.equal(isWithin(x, y), one === other && c <= a && b <= d);
      assert.equal(covers(readRange(y)!, readRange(x)!), isWithin(x, y));
      assert.equal(overlaps(x, y), one === other && a <= d && c <= b);
      assert.equal(overlaps(x, y), overlaps(y, x));
    }),
    { numRuns: 1_000 },
  );
});

test("an address is in the intersection of lists when it is in both, and a range is left when nothing took it whole", () => {
  const list = fc.array(range, { maxLength: 4 });
  const hasSome = (ranges: readonly string[], ip: string) =>
    ranges.some((each) => contains(readRange(each)!, ip));
  fc.assert(
    fc.property(list, list, address, (these, those, ip) => {
      assert.equal(hasSome(intersection(these, those)!, ip), hasSome(these, ip) && hasSome(those, ip));
      assert.equal(
        hasSome([...without(these, those), ...those], ip),
        hasSome(these, ip) || hasSome(those, ip),
      );
      for (const left of without(these, those))
        assert.ok(these.includes(left) && !those.some((taken) => isWithin(left, taken)));
    }),
    { numRuns: 1_000 },
  );
  assert.deepEqual(intersection(["10.0.0.0/8"], []), []);
});

test("a range is wide by the length of its own family's addresses", () => {
  assert.deepEqual(
    ["10.0.0.1", "10.0.0.1/32", "10.0.0.0/31", "fd00::1", "fd00::1/128", "2001:db8::/32", "x"].filter(isWide),
    ["10.0.0.0/31", "2001:db8::/32"],
  );
  assert.deepEqual(["10.0.0.1", "fd00::1", "10.0.0.0/8"].map(cidr), [
    "10.0.0.1/32",
    "fd00::1/128",
    "10.0.0.0/8",
  ]);
});

test("ranges overlap when an address is in both, whichever comes first", () => {
  const ip = (n: number) => [24, 16, 8, 0].map((shift) => (n >>> shift) & 255).join(".");
  const range = fc.tuple(
    fc.nat(0xffff).map((n) => n << 8),
    fc.integer({ min: 8, max: 32 }),
  );
  const bounds = ([n, bits]: [number, number]) => {
    const size = 2 ** (32 - bits);
    const first = Math.floor((n >>> 0) / size) * size;
    return [first, first + size - 1] as const;
  };
  fc.assert(
    fc.property(range, range, (x, y) => {
      const [[a, b], [c, d]] = [bounds(x), bounds(y)];
      const text = ([n, bits]: [number, number]) => `${ip(n)}/${bits}`;
      assert.equal(overlaps(text(x), text(y)), a <= d && c <= b);
      assert.equal(overlaps(text(x), text(y)), overlaps(text(y), text(x)));
    }),
  );
  assert.ok(overlaps("fd00::/8", "fd00:1::/32"));
  assert.ok(!overlaps("10.0.0.0/8", "fd00::/8"));
});

test("ranges: what two have in common, and what is left of one", () => {
  assert.deepEqual(intersection(["10.0.0.0/8"], ["10.1.0.0/16", "192.0.2.1/32"]), ["10.1.0.0/16"]);
  assert.deepEqual(intersection(["fd00::/8"], ["10.0.0.0/8", "fd00::1/128"]), ["fd00::1/128"]);
  assert.deepEqual(intersection(undefined, ["10.0.0.0/8"]), ["10.0.0.0/8"]);
  assert.equal(intersection(undefined, undefined), undefined);
  assert.deepEqual(without(["10.0.0.1/32", "10.0.0.2/32"], ["10.0.0.2/31"]), ["10.0.0.1/32"]);
});
