/**
 * Envoy's format strings with command operators (`%REQ(:METHOD)%`, `%RESPONSE_FLAGS%` …), compiled once: for access
 * logs and for header values.
 */

import { type StreamFacts, Unservable } from "../contract.ts";
import { AccessLogFormatOperators } from "./operators.ts";

/** What an operator finds; undefined prints as `-` in logs and as nothing in headers. */
export type Operator = (facts: StreamFacts) => string | undefined;

export type Format = (facts: StreamFacts) => string;

/** Splits a format at its operators. Throws Unservable for an operator that there is not. */
export function parseFormat(text: string): (string | Operator)[] {
  const parts: (string | Operator)[] = [];
  let literal = "";
  let at = 0;
  while (at < text.length) {
    if (text[at] !== "%") {
      literal += text[at++];
      continue;
    }
    if (text[at + 1] === "%") {
      literal += "%";
      at += 2;
      continue;
    }
    const match = /^%([A-Z][A-Z0-9_]*)(?:\(((?:[^)]|\)(?!%|:\d))*)\))?(?::(\d+))?%/.exec(text.slice(at));
    if (!match) throw new Unservable(`format string: cannot read '${text.slice(at, at + 40)}'`);
    const operator = operatorOf(match[1]!, match[2], match[3] === undefined ? undefined : Number(match[3]));
    if (literal) parts.push(literal);
    literal = "";
    parts.push(operator);
    at += match[0].length;
  }
  if (literal) parts.push(literal);
  return parts;
}

/** The text with each operator's value; `absent` where there is none. */
export function compileFormat(text: string, absent: string): Format {
  const parts = parseFormat(text);
  if (parts.every((part) => typeof part === "string")) {
    const whole = parts.join("");
    return () => whole;
  }
  if (parts.length === 1) {
    const only = parts[0] as Operator;
    return (facts) => only(facts) ?? absent;
  }
  return (facts) => {
    let result = "";
    for (const part of parts) result += typeof part === "string" ? part : (part(facts) ?? absent);
    return result;
  };
}

function operatorOf(name: string, argument: string | undefined, length: number | undefined): Operator {
  const make = AccessLogFormatOperators[name];
  if (!make) throw new Unservable(`format string: the operator %${name}% is not served`);
  const operator = make(argument);
  if (length === undefined) return operator;
  return (facts) => operator(facts)?.slice(0, length);
}
