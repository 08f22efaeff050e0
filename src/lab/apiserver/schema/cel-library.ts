/**
 * The CEL environment of Kubernetes (apiserver `pkg/cel/library`): what the CEL implementation lacks of the string,
 * list, set, regular expression, URL, IP, CIDR, quantity, semver and format functions. Loaded by `cel.ts` on demand.
 */
import { isIP, isIPv4 } from "node:net";
import { Environment, Optional } from "@marcbachmann/cel-js";
import { contains, covers, type IpRange, readRange } from "../../../addresses/index.ts";
import type { CelNode } from "./cel-check.ts";
import { matchesFormat } from "./formats.ts";
import { equalJson, isObject } from "./schema.ts";
import { compiled as pattern } from "./validate.ts";

export interface CompiledRule {
  /** The variables that the expression names. */
  names: Set<string>;
  run(variables: Record<string, unknown>): unknown;
  /** What comes of it, as far as that is known before it is run (`bool`, `dyn`). */
  type: string | undefined;
  /** For rules with `optionalOldSelf`: the old value as a CEL optional. */
  withOptional(self: unknown, oldSelf: unknown): Record<string, unknown>;
}

/**
 * Returns a function that compiles expressions over these variables, each once. What does not compile is an Error.
 */
export function makeCompiler(
  variables: readonly string[] = ["self", "oldSelf"],
): (expression: string) => CompiledRule | Error {
  const environment = makeEnvironment(variables);
  const withOptional = (self: unknown, oldSelf: unknown) => ({ self, oldSelf: optional(oldSelf) });
  const known = new Map<string, CompiledRule | Error>();
  return (expression) => {
    let made = known.get(expression);
    if (!made) {
      try {
        const program = environment.parse(withOwnNames(expression));
        const checked = program.check?.();
        if (checked && !checked.valid) throw checked.error ?? new Error("the expression has a type error");
        const bare = expression.replace(/"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'/g, '""');
        const names = new Set(variables.filter((name) => new RegExp(`\\b${name}\\b`).test(bare)));
        const type = checked?.type === undefined ? undefined : String(checked.type);
        made = { names, type, run: (variables) => program(variables), withOptional };
      } catch (error) {
        made = error instanceof Error ? error : new Error(String(error));
      }
      known.set(expression, made);
    }
    return made;
  };
}

let grammar: Environment | undefined;

/** An expression's syntax tree, of no environment. Throws the library's ParseError. */
export function parseExpression(expression: string): CelNode {
  grammar ??= new Environment({
    enableOptionalTypes: true,
    limits: { maxAstNodes: 1e6, maxListElements: 1e5, maxMapEntries: 1e5, maxCallArguments: 1e3 },
  });
  return grammar.parse(expression).ast as unknown as CelNode;
}

const ownNames: Record<string, string> = { has: "isPresent", matches: "matchesRe2" };

/**
 * The library's `has` refuses an index on the way (`has(self[0].matches)`), which CEL allows, and its `matches` is
 * JavaScript's: functions of our own do the same. Texts in quotes stay as they are.
 */
function withOwnNames(expression: string): string {
  return expression.replace(
    /"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|(?<![\w.])has(?=\s*\()|(?<=\.\s*)matches(?=\s*\()/g,
    (part) => ownNames[part] ?? part,
  );
}

interface Node {
  op: string;
  args: [Node, string];
}

/** Whether a field selection `a.b` finds something in `a`, which must be there. */
function presence({ args }: { args: Node[] }) {
  const [node] = args;
  if (node?.op !== "." && node?.op !== ".?") throw new Error("invalid argument to has() macro");
  const [receiver, name] = node.args;
  return {
    typeCheck: (
      checker: { check(of: Node, context: unknown): unknown; getType(name: string): unknown },
      _: unknown,
      context: unknown,
    ) => {
      checker.check(receiver, context);
      return checker.getType("bool");
    },
    evaluate: (evaluator: { run(of: Node, context: unknown): unknown }, _: unknown, context: unknown) => {
      const value = evaluator.run(receiver, context);
      return isObject(value) && Object.hasOwn(value, name) && value[name] !== undefined;
    },
  };
}

/** CEL's optional value; none for `undefined`. */
function optional(value: unknown): Optional {
  return value === undefined ? Optional.none() : Optional.of(value);
}

const mappedAddresses = readRange("::ffff:0:0/96")!;

/** Neither with a zone nor IPv4-mapped (`pkg/cel/library/ip.go`). */
class Ip {
  readonly text: string;
  constructor(text: string) {
    if (isIP(text) === 0 || text.includes("%") || contains(mappedAddresses, text))
      throw new Error(`IP Address "${text}" parse error during conversion from string`);
    this.text = text;
  }
}

/** Of an address that may be an Ip; its length has no leading zeros (`pkg/cel/library/cidr.go`, Go's ParsePrefix). */
class Cidr {
  readonly range: IpRange;
  constructor(text: string) {
    const range = /\/(?:0|[1-9]\d*)$/.test(text) ? readRange(text) : undefined;
    if (!range || contains(mappedAddresses, range.address))
      throw new Error(`network address parse error during conversion from string: ${text}`);
    this.range = range;
  }
}

class KubernetesUrl {
  readonly url: URL;
  readonly isPath: boolean;
  constructor(text: string) {
    this.isPath = text.startsWith("/");
    this.url = new URL(this.isPath ? `path:${text}` : text);
  }
}

class QuantityValue {
  readonly value: number;
  constructor(text: string) {
    this.value = parseQuantity(text);
  }
}

class Semver {
  readonly parts: [number, number, number];
  readonly pre: string;
  constructor(text: string) {
    const match = /^(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?$/.exec(text);
    if (!match) throw new Error(`invalid semver: ${text}`);
    this.parts = [Number(match[1]), Number(match[2]), Number(match[3])];
    this.pre = match[4] ?? "";
  }
  compare(other: Semver): bigint {
    for (let i = 0; i < 3; i++) {
      const difference = this.parts[i]! - other.parts[i]!;
      if (difference !== 0) return difference < 0 ? -1n : 1n;
    }
    if (this.pre === other.pre) return 0n;
    if (this.pre === "" || other.pre === "") return this.pre === "" ? 1n : -1n;
    return this.pre < other.pre ? -1n : 1n;
  }
}

class Format {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

class IpNamespace {}
class SetsNamespace {}
class FormatNamespace {}
class StringsNamespace {}

const suffixes: Record<string, number> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

function parseQuantity(text: string): number {
  const match = /^([+-]?(?:\d+\.?\d*|\.\d+))([numkMGTPE]?|[KMGTPE]i|[eE][+-]?\d+)$/.exec(text);
  if (!match)
    throw new Error(
      "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    );
  const suffix = match[2]!;
  return /^[eE].+/.test(suffix) ? Number(text) : Number(match[1]) * suffixes[suffix]!;
}

function succeeds(make: () => unknown): boolean {
  try {
    make();
    return true;
  } catch {
    return false;
  }
}

function same(a: unknown, b: unknown): boolean {
  return a === b || equalJson(a, b);
}

function ordered(a: unknown, b: unknown): boolean {
  return (a as number) <= (b as number);
}

function pick(list: unknown[], better: (a: unknown, b: unknown) => boolean): unknown {
  if (list.length === 0) throw new Error("min/max called on empty list");
  return list.reduce((best, item) => (better(item, best) ? item : best));
}

function sum(list: unknown[]): unknown {
  if (list.length === 0) return 0n;
  return typeof list[0] === "bigint"
    ? list.reduce((total: bigint, item) => total + (item as bigint), 0n)
    : list.reduce((total: number, item) => total + Number(item), 0);
}

/** Go's `%s`, `%d`, `%f`, `%x` and so on, as the strings library of CEL has them. */
function format(template: string, values: unknown[]): string {
  let next = 0;
  return template.replace(/%(?:\.(\d+))?([sdfebxXo%])/g, (_, precision: string | undefined, verb: string) => {
    if (verb === "%") return "%";
    const value = values[next++];
    switch (verb) {
      case "d":
        return String(value);
      case "f":
        return Number(value).toFixed(precision === undefined ? 6 : Number(precision));
      case "e":
        return Number(value).toExponential(precision === undefined ? 6 : Number(precision));
      case "b":
        return typeof value === "boolean" ? (value ? "1" : "0") : (value as bigint).toString(2);
      case "o":
        return (value as bigint).toString(8);
      case "x":
        return typeof value === "string"
          ? Buffer.from(value).toString("hex")
          : (value as bigint).toString(16);
      case "X":
        return (value as bigint).toString(16).toUpperCase();
      default:
        return shown(value);
    }
  });
}

function shown(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(shown).join(", ")}]`;
  if (value instanceof Date) return value.toISOString().replace(".000Z", "Z");
  return String(value);
}

const names: Record<string, string> = {
  dns1123Label: "k8s-short-name",
  dns1123Subdomain: "k8s-long-name",
};

function formatProblem(of: Format, text: string): string[] | undefined {
  const label = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
  const key = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
  const patterns: Record<string, string> = {
    dns1123LabelPrefix: `${label}-?`,
    dns1123SubdomainPrefix: `${label}(\\.${label})*-?`,
    dns1035Label: "[a-z]([-a-z0-9]*[a-z0-9])?",
    dns1035LabelPrefix: "[a-z]([-a-z0-9]*[a-z0-9])?-?",
    qualifiedName: `(${label}(\\.${label})*/)?${key}`,
    labelValue: `(${key})?`,
  };
  const source = patterns[of.name];
  const isRight =
    source === undefined
      ? matchesFormat(names[of.name] ?? of.name, text)
      : new RegExp(`^(?:${source})$`).test(text);
  return isRight ? undefined : [`must be a valid ${of.name}`];
}

/** Registered one by one: each name, its signature and what it does. */
function makeEnvironment(variables: readonly string[]): Environment {
  const environment = new Environment({
    unlistedVariablesAreDyn: false,
    homogeneousAggregateLiterals: false,
    enableOptionalTypes: true,
  })
    .registerType("kubernetes.IP", Ip)
    .registerType("kubernetes.CIDR", Cidr)
    .registerType("kubernetes.URL", KubernetesUrl)
    .registerType("kubernetes.Quantity", QuantityValue)
    .registerType("kubernetes.Semver", Semver)
    .registerType("kubernetes.Format", Format)
    .registerType("IpNamespace", IpNamespace)
    .registerType("SetsNamespace", SetsNamespace)
    .registerType("FormatNamespace", FormatNamespace)
    .registerType("StringsNamespace", StringsNamespace)
    .registerConstant("ip", "IpNamespace", new IpNamespace())
    .registerConstant("sets", "SetsNamespace", new SetsNamespace())
    .registerConstant("format", "FormatNamespace", new FormatNamespace())
    .registerConstant("strings", "StringsNamespace", new StringsNamespace());
  for (const name of variables) environment.registerVariable(name, "dyn");
  for (const [signature, does] of Object.entries(functions)) environment.registerFunction(signature, does);
  for (const name of [
    "dns1123Label",
    "dns1123LabelPrefix",
    "dns1123Subdomain",
    "dns1123SubdomainPrefix",
    "dns1035Label",
    "dns1035LabelPrefix",
    "qualifiedName",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
  ]) {
    environment.registerFunction(`FormatNamespace.${name}(): kubernetes.Format`, () => new Format(name));
  }
  return environment;
}

// biome-ignore lint/suspicious/noExplicitAny: the library calls each with values of the signature's types
const functions: Record<string, (...values: any[]) => unknown> = {
  "isPresent(ast): bool": presence,
  "string.charAt(int): string": (text: string, at: bigint) => text[Number(at)] ?? "",
  "string.replace(string, string): string": (text: string, from: string, to: string) =>
    text.replaceAll(from, to),
  "string.replace(string, string, int): string": (text: string, from: string, to: string, count: bigint) => {
    let out = text;
    let at = 0;
    for (let n = 0n; (count < 0n || n < count) && out.indexOf(from, at) >= 0; n++) {
      const found = out.indexOf(from, at);
      out = out.slice(0, found) + to + out.slice(found + from.length);
      at = found + to.length;
    }
    return out;
  },
  "string.reverse(): string": (text: string) => [...text].reverse().join(""),
  "string.format(list): string": format,
  "StringsNamespace.quote(string): string": (_: unknown, text: string) => JSON.stringify(text),
  "string.matchesRe2(string): bool": (text: string, source: string) => pattern(source).test(text),
  "string.find(string): string": (text: string, source: string) => {
    for (const [whole] of pattern(source).matchAll(text)) return whole;
    return "";
  },
  "string.findAll(string): list": (text: string, source: string) =>
    [...pattern(source).matchAll(text)].map(([whole]) => whole),
  "string.findAll(string, int): list": (text: string, source: string, most: bigint) =>
    [...pattern(source).matchAll(text)]
      .map(([whole]) => whole)
      .slice(0, most < 0n ? undefined : Number(most)),
  "list.isSorted(): bool": (list: unknown[]) =>
    list.every((item, i) => i === 0 || ordered(list[i - 1], item)),
  "list.sum(): dyn": sum,
  "list.min(): dyn": (list: unknown[]) => pick(list, (a, b) => !ordered(b, a)),
  "list.max(): dyn": (list: unknown[]) => pick(list, (a, b) => !ordered(a, b)),
  "list.indexOf(dyn): int": (list: unknown[], item: unknown) =>
    BigInt(list.findIndex((other) => same(other, item))),
  "list.lastIndexOf(dyn): int": (list: unknown[], item: unknown) =>
    BigInt(list.findLastIndex((other) => same(other, item))),
  "SetsNamespace.contains(list, list): bool": (_: unknown, all: unknown[], some: unknown[]) =>
    some.every((item) => all.some((other) => same(other, item))),
  "SetsNamespace.equivalent(list, list): bool": (_: unknown, a: unknown[], b: unknown[]) =>
    a.every((item) => b.some((other) => same(other, item))) &&
    b.every((item) => a.some((other) => same(other, item))),
  "SetsNamespace.intersects(list, list): bool": (_: unknown, a: unknown[], b: unknown[]) =>
    a.some((item) => b.some((other) => same(other, item))),
  "isURL(string): bool": (text: string) => succeeds(() => new KubernetesUrl(text)),
  "url(string): kubernetes.URL": (text: string) => new KubernetesUrl(text),
  "kubernetes.URL.getScheme(): string": (of: KubernetesUrl) =>
    of.isPath ? "" : of.url.protocol.replace(/:$/, ""),
  "kubernetes.URL.getHost(): string": (of: KubernetesUrl) => of.url.host,
  "kubernetes.URL.getHostname(): string": (of: KubernetesUrl) => of.url.hostname.replace(/^\[|\]$/g, ""),
  "kubernetes.URL.getPort(): string": (of: KubernetesUrl) => of.url.port,
  "kubernetes.URL.getEscapedPath(): string": (of: KubernetesUrl) => of.url.pathname,
  "isIP(string): bool": (text: string) => succeeds(() => new Ip(text)),
  "ip(string): kubernetes.IP": (text: string) => new Ip(text),
  "IpNamespace.isCanonical(string): bool": (_: unknown, text: string) =>
    isIPv4(text) || (isIP(text) === 6 && new URL(`http://[${text}]`).hostname === `[${text}]`),
  "string(kubernetes.IP): string": (of: Ip) => of.text,
  "kubernetes.IP.family(): int": (of: Ip) => (isIPv4(of.text) ? 4n : 6n),
  "kubernetes.IP.isUnspecified(): bool": (of: Ip) => of.text === "0.0.0.0" || of.text === "::",
  "kubernetes.IP.isLoopback(): bool": (of: Ip) => of.text.startsWith("127.") || of.text === "::1",
  "kubernetes.IP.isLinkLocalMulticast(): bool": (of: Ip) =>
    of.text.startsWith("224.0.0.") || /^ff.2:/i.test(of.text),
  "kubernetes.IP.isLinkLocalUnicast(): bool": (of: Ip) =>
    of.text.startsWith("169.254.") || /^fe[89ab]/i.test(of.text),
  "kubernetes.IP.isGlobalUnicast(): bool": (of: Ip) =>
    !/^(?:0\.0\.0\.0|255\.255\.255\.255|127\.|169\.254\.|2(?:2[4-9]|3\d)\.|::1?$|ff|fe[89ab])/i.test(of.text),
  "isCIDR(string): bool": (text: string) => succeeds(() => new Cidr(text)),
  "cidr(string): kubernetes.CIDR": (text: string) => new Cidr(text),
  "string(kubernetes.CIDR): string": ({ range }: Cidr) => `${range.address}/${range.bits}`,
  "kubernetes.CIDR.ip(): kubernetes.IP": ({ range }: Cidr) => new Ip(range.address),
  "kubernetes.CIDR.prefixLength(): int": ({ range }: Cidr) => BigInt(range.bits),
  "kubernetes.CIDR.containsIP(string): bool": ({ range }: Cidr, ip: string) =>
    contains(range, new Ip(ip).text),
  "kubernetes.CIDR.containsIP(kubernetes.IP): bool": ({ range }: Cidr, ip: Ip) => contains(range, ip.text),
  "kubernetes.CIDR.containsCIDR(string): bool": ({ range }: Cidr, text: string) =>
    covers(range, new Cidr(text).range),
  "kubernetes.CIDR.containsCIDR(kubernetes.CIDR): bool": (of: Cidr, other: Cidr) =>
    covers(of.range, other.range),
  "isQuantity(string): bool": (text: string) => succeeds(() => new QuantityValue(text)),
  "quantity(string): kubernetes.Quantity": (text: string) => new QuantityValue(text),
  "kubernetes.Quantity.isInteger(): bool": (of: QuantityValue) => Number.isInteger(of.value),
  "kubernetes.Quantity.asInteger(): int": (of: QuantityValue) => BigInt(of.value),
  "kubernetes.Quantity.asApproximateFloat(): double": (of: QuantityValue) => of.value,
  "kubernetes.Quantity.sign(): int": (of: QuantityValue) => BigInt(Math.sign(of.value)),
  "kubernetes.Quantity.compareTo(kubernetes.Quantity): int": (a: QuantityValue, b: QuantityValue) =>
    BigInt(Math.sign(a.value - b.value)),
  "kubernetes.Quantity.isLessThan(kubernetes.Quantity): bool": (a: QuantityValue, b: QuantityValue) =>
    a.value < b.value,
  "kubernetes.Quantity.isGreaterThan(kubernetes.Quantity): bool": (a: QuantityValue, b: QuantityValue) =>
    a.value > b.value,
  "isSemver(string): bool": (text: string) => succeeds(() => new Semver(text)),
  "semver(string): kubernetes.Semver": (text: string) => new Semver(text),
  "kubernetes.Semver.major(): int": (of: Semver) => BigInt(of.parts[0]),
  "kubernetes.Semver.minor(): int": (of: Semver) => BigInt(of.parts[1]),
  "kubernetes.Semver.patch(): int": (of: Semver) => BigInt(of.parts[2]),
  "kubernetes.Semver.compareTo(kubernetes.Semver): int": (a: Semver, b: Semver) => a.compare(b),
  "kubernetes.Semver.isLessThan(kubernetes.Semver): bool": (a: Semver, b: Semver) => a.compare(b) < 0n,
  "kubernetes.Semver.isGreaterThan(kubernetes.Semver): bool": (a: Semver, b: Semver) => a.compare(b) > 0n,
  "FormatNamespace.named(string): optional": (_: unknown, name: string) => optional(new Format(name)),
  "kubernetes.Format.validate(string): optional": (of: Format, text: string) =>
    optional(formatProblem(of, text)),
};
