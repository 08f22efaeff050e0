import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { RE2JS } from "re2js";
import { re2, replaceAll } from "./re2.ts";

test("no expression takes long for any text: V8 alone needs years for most of these", () => {
  const before = process.cpuUsage();
  for (const source of [
    "^(a+)+$",
    "(?i)^(a+)+$",
    "^(a|aa)+$",
    "^(?:a{1,63})+$",
    "^(?:\\pL+a?)+$",
    "^(.*)*b$",
    "^(a+)+[[:digit:]]$",
    "^(a?){40}a{40}$",
  ]) {
    assert.equal(re2(source).test(`${"a".repeat(2000)}!`), false, source);
    assert.equal(re2(source).test(`${"aä".repeat(1000)}!`), false, source);
  }
  const { user, system } = process.cpuUsage(before);
  assert.ok(user + system < 5_000_000, `${user + system} µs`);
});

test("what it means is what RE2 means", () => {
  const examples: [source: string, is: string[], isNot: string[]][] = [
    ["(?i)^abc$", ["ABC", "aBc"], ["abcd"]],
    ["^[[:alpha:]]+$", ["abc"], ["ab1"]],
    ["^\\A\\pL+\\z$", ["äöü"], ["ä1"]],
    ["^.$", ["x", "ä", "😀"], ["xy", "\n"]],
    ["^[]a]+$", ["]a"], ["b"]],
    ["^(?P<name>a)b$", ["ab"], ["b"]],
    ["^\\Qa.b\\E$", ["a.b"], ["axb"]],
    ["^\\w+$", ["a_1"], ["ä"]],
    ["^a{2,40}$", ["aa"], ["a"]],
    ["a", ["xax"], ["x"]],
  ];
  for (const [source, is, isNot] of examples) {
    for (const text of is) assert.equal(re2(source).test(text), true, `${source} ${text}`);
    for (const text of isNot) assert.equal(re2(source).test(text), false, `${source} ${text}`);
  }
  for (const wrong of ["(", "[z-a]", "a**", "(?=a)", "(?<!a)b", "(a)\\1", "a{2000}", "\\8"]) {
    assert.throws(() => re2(wrong), /./, wrong);
  }
});

test("any expression of the common syntax finds what RE2 finds", () => {
  const piece = fc.constantFrom(
    ..."ab.".split(""),
    "[ab]",
    "[^a]",
    "\\w",
    "\\.",
    "(a|b)",
    "(?:ab)?",
    "(b*)",
    "a+",
    "b{1,2}",
    "^",
    "$",
    "|",
    "(?i)",
    "\\d",
  );
  fc.assert(
    fc.property(
      fc.array(piece, { maxLength: 6 }).map((pieces) => pieces.join("")),
      fc.string({ unit: fc.constantFrom("a", "b", "A", ".", "1", "ä"), maxLength: 10 }),
      (source, text) => {
        const exact = RE2JS.compile(source);
        assert.equal(re2(source).test(text), exact.test(text));
        const [first] = re2(source).matchAll(text);
        assert.deepEqual(first && [...first], (exact.exec(text) && [...exact.exec(text)!]) || undefined);
      },
    ),
  );
});

test("replaces every match by what its groups say", () => {
  for (const source of ["/(v\\d)/", "(?i)/(V\\d)/"]) {
    assert.equal(
      replaceAll(re2(source), "/v1/x/v2/", ([, group]) => `<${group}>`),
      "<v1>x<v2>",
    );
    assert.equal(
      replaceAll(re2(source), "none", () => "!"),
      "none",
    );
  }
});
