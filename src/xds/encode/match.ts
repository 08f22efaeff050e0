/** Matches of strings, headers, query parameters and addresses in Envoy's shape. */
import type { NamedMatch, StringMatch } from "../../traffic/index.ts";

/** Matches of a value; `present` has no value to match and is the caller's. */
type ValueMatch = Exclude<StringMatch, { kind: "present" }>;

/** envoy.type.matcher.v3.RegexMatcher; a program of RE2. */
export const regex = (value: string, ignoreCase?: boolean) => ({
  engineType: { $case: "googleRe2" as const, value: {} },
  regex: ignoreCase ? `(?i)${value}` : value,
});

/** envoy.type.matcher.v3.StringMatcher */
export function stringMatcher(match: ValueMatch) {
  if (match.kind === "regex") {
    return { matchPattern: { $case: "safeRegex" as const, value: regex(match.value, match.ignoreCase) } };
  }
  return {
    matchPattern: { $case: match.kind, value: match.value },
    ignoreCase: match.ignoreCase ?? false,
  };
}

/** envoy.config.route.v3.HeaderMatcher. Without the header, "not this value" holds (as Istio's withoutHeaders). */
export function headerMatcher({ name, match, invert }: NamedMatch) {
  if (match.kind === "present") {
    return {
      name,
      headerMatchSpecifier: { $case: "presentMatch" as const, value: true },
      invertMatch: invert,
    };
  }
  return {
    name,
    headerMatchSpecifier: { $case: "stringMatch" as const, value: stringMatcher(match) },
    invertMatch: invert,
    treatMissingHeaderAsEmpty: invert,
  };
}

/** envoy.config.route.v3.QueryParameterMatcher, which knows no inversion. */
export function queryMatcher({ name, match }: NamedMatch) {
  if (match.kind === "present") {
    return { name, queryParameterMatchSpecifier: { $case: "presentMatch" as const, value: true } };
  }
  return {
    name,
    queryParameterMatchSpecifier: { $case: "stringMatch" as const, value: stringMatcher(match) },
  };
}

/** `10.11.0.9/32`, or an address alone. */
export function cidr(range: string) {
  const [addressPrefix = "", length] = range.split("/");
  const whole = addressPrefix.includes(":") ? 128 : 32;
  return { addressPrefix, prefixLen: length === undefined ? whole : Number(length) };
}

/** A text that is to be matched as it stands inside of a regular expression. */
export function escapeRegex(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
