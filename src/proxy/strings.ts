/** Envoy's StringMatcher and RegexMatcher (envoy/type/matcher/v3), compiled once. */
import { setFlagsFromString } from "node:v8";
import type { RegexMatcher } from "#protocols/envoy/type/matcher/v3/regex.ts";
import type { StringMatcher } from "#protocols/envoy/type/matcher/v3/string.ts";
import { Unservable } from "./contract.ts";
import { messageOf } from "./values.ts";

// An expression that backtracks without end is gone on with in linear time, as Envoy's RE2 would: V8 has both engines.
setFlagsFromString("--enable-experimental-regexp-engine-on-excessive-backtracks");
setFlagsFromString("--regexp-backtracks-before-fallback=10000");

/** Longer texts match no regular expression. Envoy has no such bound. */
const longest = 8192;

/** The test of one matcher. Throws Unservable for what is not served. */
export function compileStringMatcher(matcher: StringMatcher | undefined): (text: string) => boolean {
  const pattern = matcher?.matchPattern;
  if (!pattern) throw new Unservable("a StringMatcher without a pattern is not served");
  if (pattern.$case === "safeRegex") {
    const regex = compileRegex(pattern.value);
    return (text) => text.length <= longest && regex.test(text);
  }
  if (pattern.$case === "custom") throw new Unservable("custom string matchers are not served");
  if (matcher.ignoreCase) {
    const test = plain(pattern.$case, pattern.value.toLowerCase());
    return (text) => test(text.toLowerCase());
  }
  return plain(pattern.$case, pattern.value);
}

function plain(kind: "exact" | "prefix" | "suffix" | "contains", value: string): (text: string) => boolean {
  switch (kind) {
    case "exact":
      return (text) => text === value;
    case "prefix":
      return (text) => text.startsWith(value);
    case "suffix":
      return (text) => text.endsWith(value);
    case "contains":
      return (text) => text.includes(value);
  }
}

/** A regular expression in RE2's syntax that matches the whole text. */
export function compileRegex(matcher: RegexMatcher | undefined): RegExp {
  return regexOf(matcher?.regex ?? "", true);
}

/** `whole` false: finds it anywhere, all of them (regex_rewrite). */
export function regexOf(source: string, whole: boolean): RegExp {
  // What RE2 writes differently: flags in front, named groups, \A, \z, \C, POSIX classes.
  let flags = whole ? "" : "g";
  let text = source.replace(/^\(\?([imsU]+)\)/, (_, given: string) => {
    for (const flag of given) if ("ims".includes(flag)) flags += flag;
    return "";
  });
  text = text
    .replace(/\(\?P</g, "(?<")
    .replace(/\\A/g, "^")
    .replace(/\\z/g, "$")
    .replace(/\[\[:(\^?)(\w+):\]\]/g, (all, not: string, name: string) => {
      const inside = posix[name];
      return inside === undefined ? all : `[${not}${inside}]`;
    });
  if (/\\[1-9]|\(\?[=!]|\(\?<[=!]/.test(text)) {
    throw new Unservable(`invalid regex '${source}': back-references and look-around are not RE2's`);
  }
  try {
    return new RegExp(whole ? `^(?:${text})$` : text, flags);
  } catch (error) {
    throw new Unservable(`invalid regex '${source}': ${messageOf(error)}`);
  }
}

const posix: Record<string, string> = {
  alnum: "0-9A-Za-z",
  alpha: "A-Za-z",
  digit: "0-9",
  lower: "a-z",
  upper: "A-Z",
  punct: "!-\\/:-@\\[-`{-~",
  space: "\\t\\n\\v\\f\\r ",
  word: "0-9A-Za-z_",
  xdigit: "0-9A-Fa-f",
};
