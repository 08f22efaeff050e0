/** Label and field selectors. Source: apimachinery `pkg/labels/selector.go`, `pkg/fields/selector.go`. */
import type { LabelSelector } from "../../api/index.ts";
import { badRequest } from "./status.ts";

export type Labels = Readonly<Record<string, string>> | undefined;
export type LabelTest = (labels: Labels) => boolean;

const has = (labels: Labels, key: string) => labels !== undefined && Object.hasOwn(labels, key);

const operatorTests: Record<string, (key: string, values: Set<string>) => LabelTest> = {
  In: (key, values) => (labels) => has(labels, key) && values.has(labels![key]!),
  NotIn: (key, values) => (labels) => !has(labels, key) || !values.has(labels![key]!),
  Exists: (key) => (labels) => has(labels, key),
  DoesNotExist: (key) => (labels) => !has(labels, key),
};

const labelKey = /^([a-z0-9A-Z]([-a-z0-9A-Z_.]*[a-z0-9A-Z])?\/)?[a-z0-9A-Z]([-a-z0-9A-Z_.]*[a-z0-9A-Z])?$/;
const labelValue = /^([a-z0-9A-Z]([-a-z0-9A-Z_.]*[a-z0-9A-Z])?)?$/;

function checkKey(key: string): string {
  if (!labelKey.test(key)) throw badRequest(`unable to parse requirement: invalid label key "${key}"`);
  return key;
}

/** Parses `a=b,c!=d,e in (f,g),h notin (i),j,!k`. Empty text selects everything: undefined. */
export function parseLabelSelector(text: string | null | undefined): LabelTest | undefined {
  if (!text || text.trim() === "") return undefined;
  const tests = splitOutsideBrackets(text).map((part) => requirement(part.trim()));
  return (labels) => tests.every((test) => test(labels));
}

function requirement(part: string): LabelTest {
  const set = /^(\S+)\s+(in|notin)\s*\((.*)\)$/s.exec(part);
  if (set) {
    const values = new Set(set[3]!.split(",").map((value) => value.trim()));
    return operatorTests[set[2] === "in" ? "In" : "NotIn"]!(checkKey(set[1]!), values);
  }
  const compare = /^([^=!<>\s]+)\s*(==|=|!=)\s*(\S*)$/.exec(part);
  if (compare) {
    const value = compare[3]!;
    if (!labelValue.test(value))
      throw badRequest(`unable to parse requirement: invalid label value: "${value}"`);
    return operatorTests[compare[2] === "!=" ? "NotIn" : "In"]!(checkKey(compare[1]!), new Set([value]));
  }
  if (part.startsWith("!")) return operatorTests.DoesNotExist!(checkKey(part.slice(1).trim()), new Set());
  return operatorTests.Exists!(checkKey(part), new Set());
}

function splitOutsideBrackets(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let index = 0; index < text.length; index++) {
    const char = text[index];
    if (char === "(") depth++;
    else if (char === ")") depth--;
    else if (char === "," && depth === 0) {
      parts.push(text.slice(start, index));
      start = index + 1;
    }
  }
  parts.push(text.slice(start));
  return parts;
}

/** The test of a `metav1.LabelSelector`. An empty selector selects everything. */
export function labelSelectorTest(selector: LabelSelector): LabelTest {
  const tests: LabelTest[] = Object.entries(selector.matchLabels ?? {}).map(([key, value]) =>
    operatorTests.In!(key, new Set([value])),
  );
  for (const { key, operator, values } of selector.matchExpressions ?? []) {
    const make = operatorTests[operator];
    if (!make) throw badRequest(`"${operator}" is not a valid label selector operator`);
    tests.push(make(key, new Set(values ?? [])));
  }
  return (labels) => tests.every((test) => test(labels));
}

/** One term of a field selector: the field's value has to be (`equal`) or not be `value`. */
export interface FieldTerm {
  field: string;
  equal: boolean;
  value: string;
}

/** Parses `metadata.name=a,spec.nodeName!=b`, with `\,` and `\=` escaped in values. */
export function parseFieldSelector(text: string | null | undefined): FieldTerm[] {
  if (!text) return [];
  return text
    .split(/(?<!\\),/)
    .filter((part) => part !== "")
    .map((part) => {
      const match = /^(.*?)(!=|==|=)(.*)$/s.exec(part);
      if (!match) throw badRequest(`invalid selector: '${text}'; can't understand '${part}'`);
      return {
        field: match[1]!.trim(),
        equal: match[2] !== "!=",
        value: match[3]!.replace(/\\([\\,=])/g, "$1"),
      };
    });
}
