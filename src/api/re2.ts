/**
 * Regular expressions in RE2's syntax, which Kubernetes (Go) and Envoy take, with RE2's promise: time linear in the
 * text, whatever the expression. V8 keeps it for most of them, and is 30 times faster than RE2 in JavaScript (re2js),
 * which does the rest: flags, counted repetition of more than a few, Unicode classes, texts beyond ASCII.
 */
import { createRequire } from "node:module";
import { setFlagsFromString } from "node:v8";
import type { RE2JS } from "re2js";

/** The groups of a match: the whole first. */
export type Groups = readonly (string | undefined)[];

export interface Re2 {
  /** Whether it is found anywhere in the text. */
  test(text: string): boolean;
  /** All that it finds, from left to right. */
  matchAll(text: string): Iterable<Groups & { index: number }>;
}

/** Throws an Error with RE2's words for what is no expression. */
export function re2(source: string): Re2 {
  const fast = linear(source);
  let exact: RE2JS | undefined;
  const slow = () => {
    exact ??= library().compile(source);
    return exact;
  };
  if (!fast) slow();
  return {
    test(text) {
      if (!fast || !isPlain.test(text)) return slow().test(text);
      return fast.test(text);
    },
    // Groups that repeat are another thing in JavaScript.
    matchAll: (text) => slow().matchAll(text) as Iterable<Groups & { index: number }>,
  };
}

/** The text with every match replaced. */
export function replaceAll(regex: Re2, text: string, by: (groups: Groups) => string): string {
  let out = "";
  let from = 0;
  for (const groups of regex.matchAll(text)) {
    out += text.slice(from, groups.index) + by(groups);
    from = groups.index + groups[0]!.length;
  }
  return out + text.slice(from);
}

/** Of texts like these both mean the same: ASCII without what `.` (CR) and `\s` (VT) see differently. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: it is what ASCII is
const isPlain = /^[\x00-\x0a\x0c\x0e-\x7f]*$/;

let re2js: typeof RE2JS | undefined;
/** Loaded when it is first needed: it takes a megabyte. */
function library(): typeof RE2JS {
  re2js ??= (createRequire(import.meta.url)("re2js") as { RE2JS: typeof RE2JS }).RE2JS;
  return re2js;
}

/** What both syntaxes write, and mean, alike: no flags, no look-around, no class in a class, escapes that both know. */
const common =
  /^(?:[^\\[(]|\\[dDwWsSbBtnrf]|\\[^\w\s]|\((?:\?(?:P?<\w+>|:))?(?!\?)|\[\^?(?:[^\]\\[]|\\[dDwWsStnrf]|\\[^\w\s])+\])*$/;

let prepared = false;

/** V8's expression, where V8 is sure to end in linear time. */
function linear(source: string): RegExp | undefined {
  if (!prepared) {
    prepared = true;
    // V8 has a second engine, which never backtracks, but not for all expressions: the flag `l` says whether.
    setFlagsFromString("--enable-experimental-regexp-engine");
    setFlagsFromString("--enable-experimental-regexp-engine-on-excessive-backtracks");
    setFlagsFromString("--regexp-backtracks-before-fallback=10000");
  }
  if (!isPlain.test(source) || !common.test(source)) return undefined;
  const text = source.replaceAll("(?P<", "(?<");
  try {
    new RegExp(text, "l");
    return new RegExp(text);
  } catch {
    // Not in linear time, or no expression at all: RE2 knows.
    return undefined;
  }
}
