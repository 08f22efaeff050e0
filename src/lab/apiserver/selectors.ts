/** Label and field selectors. Source: apimachinery `pkg/labels/selector.go`, `pkg/fields/selector.go`. */
import type { LabelSelector } from "../../api/index.ts";
import { labelValue, qualifiedName } from "./builtin/index.ts";
import { badRequest } from "./status.ts";

export type Labels = Readonly<Record<string, string>> | undefined;
export type LabelTest = (labels: Labels) => boolean;

const has = (labels: Labels, key: string) => labels !== undefined && Object.hasOwn(labels, key);

const operatorTests: Record<string, (key: string, values: Set<string>) => LabelTest> = {
  In: (key, values) => (labels) => has(labels, key) && values.has(labels![key]!),
  NotIn: (key, values) => (labels) => !has(labels, key) || !values.has(labels![key]!),
  Exists: (key) => (labels) => has(labels, key),
  DoesNotExist: (key) => (labels) => !has(labels, key),
  Gt: (key, values) => (labels) => has(labels, key) && Number(labels![key]) > Number([...values][0]),
  Lt: (key, values) => (labels) => has(labels, key) && Number(labels![key]) < Number([...values][0]),
};

/** Parses `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>5`. Empty text selects everything: undefined. Throws 400. */
export function parseLabelSelector(text: string | null | undefined): LabelTest | undefined {
  if (!text || text.trim() === "") return undefined;
  const tests = new SelectorParser(text).parse();
  return (labels) => tests.every((test) => test(labels));
}

const endOfText = "";
const symbols = new Set(["(", ")", ",", "!", "=", "==", "!=", ">", "<"]);

/** A recursive descent as in Kubernetes, so that what is wrong is said in the same words. */
class SelectorParser {
  readonly #tokens: string[];
  #at = 0;

  constructor(text: string) {
    this.#tokens = text.match(/==|!=|[(),!=<>]|[^\s(),!=<>]+/g) ?? [];
  }

  #peek(): string {
    return this.#tokens[this.#at] ?? endOfText;
  }

  #next(): string {
    return this.#tokens[this.#at++] ?? endOfText;
  }

  parse(): LabelTest[] {
    const tests: LabelTest[] = [];
    for (;;) {
      const token = this.#peek();
      if (token === endOfText) return tests;
      if (!isWord(token) && token !== "!") {
        throw badRequest(`found '${token}', expected: !, identifier, or 'end of string'`);
      }
      tests.push(this.#requirement());
      const after = this.#next();
      if (after === endOfText) return tests;
      if (after !== ",") throw badRequest(`found '${after}', expected: ',' or 'end of string'`);
      const following = this.#peek();
      if (!isWord(following) && following !== "!") {
        throw badRequest(`found '${following}', expected: identifier after ','`);
      }
    }
  }

  #requirement(): LabelTest {
    let key = this.#next();
    const negated = key === "!";
    if (negated) key = this.#next();
    if (!isWord(key)) throw unparsed(`found '${key}', expected: identifier`);
    const [problem] = qualifiedName(key);
    if (problem) throw unparsed(`<nil>: Invalid value: ${JSON.stringify(key)}: ${problem}`);
    if (negated) return operatorTests.DoesNotExist!(key, new Set());
    if (this.#peek() === endOfText || this.#peek() === ",") return operatorTests.Exists!(key, new Set());
    const operator = this.#next();
    const name = operators[operator];
    if (!name) throw unparsed(`found '${operator}', expected: in, notin, =, ==, !=, gt, lt`);
    const values = operator === "in" || operator === "notin" ? this.#values() : [this.#value()];
    values.forEach((value, index) => {
      if (name === "Gt" || name === "Lt") {
        if (/^[+-]?\d+$/.test(value)) return;
        const says = "for 'Gt', 'Lt' operators, the value must be an integer";
        throw unparsed(`values[${index}]: Invalid value: ${JSON.stringify(value)}: ${says}`);
      }
      const [wrong] = labelValue(value);
      if (wrong)
        throw unparsed(`values[${index}][${key}]: Invalid value: ${JSON.stringify(value)}: ${wrong}`);
    });
    return operatorTests[name]!(key, new Set(values));
  }

  /** After `=` and its like: an absent value is the empty one. */
  #value(): string {
    if (this.#peek() === endOfText || this.#peek() === ",") return "";
    const value = this.#next();
    if (!isWord(value)) throw unparsed(`found '${value}', expected: identifier`);
    return value;
  }

  /** `(a,b)`; nothing before, between or after commas is the empty value. */
  #values(): string[] {
    const open = this.#next();
    if (open !== "(") throw unparsed(`found '${open}' expected: '('`);
    const values: string[] = [];
    for (let wantsValue = true; ; ) {
      const token = this.#next();
      if (isWord(token) && wantsValue) {
        values.push(token);
        wantsValue = false;
      } else if (token === "," || token === ")") {
        if (wantsValue) values.push("");
        wantsValue = true;
        if (token === ")") return values.sort();
      } else throw unparsed(`found '${token}', expected: ',' or ')'`);
    }
  }
}

const operators: Record<string, string> = {
  in: "In",
  notin: "NotIn",
  "=": "In",
  "==": "In",
  "!=": "NotIn",
  ">": "Gt",
  "<": "Lt",
};

const isWord = (token: string) => token !== endOfText && !symbols.has(token);
const unparsed = (says: string) => badRequest(`unable to parse requirement: ${says}`);

/** The test of a `metav1.LabelSelector`. An empty selector selects everything. */
export function labelSelectorTest(selector: LabelSelector): LabelTest {
  const tests: LabelTest[] = Object.entries(selector.matchLabels ?? {}).map(([key, value]) =>
    operatorTests.In!(key, new Set([value])),
  );
  for (const { key, operator, values } of selector.matchExpressions ?? []) {
    const make = operator === "Gt" || operator === "Lt" ? undefined : operatorTests[operator];
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
      const value = match[3]!;
      const bare = value.replace(/\\([\\,=])/g, "");
      if (bare.includes("\\")) throw badRequest("invalid field selector: invalid escape sequence: \\");
      if (bare.includes("=")) throw badRequest("invalid field selector: unescaped character in value: 61");
      return { field: match[1]!.trim(), equal: match[2] !== "!=", value: value.replace(/\\([\\,=])/g, "$1") };
    });
}
