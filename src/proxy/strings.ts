/** Envoy's StringMatcher and RegexMatcher (envoy/type/matcher/v3), compiled once. */
import type { RegexMatcher } from "#protocols/envoy/type/matcher/v3/regex.ts";
import type { StringMatcher } from "#protocols/envoy/type/matcher/v3/string.ts";
import { type Re2, re2 } from "../api/index.ts";
import { Unservable } from "./contract.ts";
import { messageOf } from "./values.ts";

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
export function compileRegex(matcher: RegexMatcher | undefined): Re2 {
  return regexOf(`^(?:${matcher?.regex ?? ""})$`, matcher?.regex);
}

/** One that is found anywhere (regex_rewrite). */
export function regexOf(source: string, shown = source): Re2 {
  try {
    return re2(source);
  } catch (error) {
    throw new Unservable(`invalid regex '${shown}': ${messageOf(error)}`);
  }
}
