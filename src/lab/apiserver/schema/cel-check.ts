/**
 * What is certainly wrong with a CEL expression that parses, in the words of cel-go's checker: names and functions that
 * nobody declared, fields that the schema does not have, operators that do not take these types. Of what this does not
 * know (functions of Kubernetes' libraries, types that come of them) it says nothing.
 */
import { isKnownFunction, macroArities, namespaces, resultOf, typeNames } from "./cel-functions.ts";
import type { Mistake } from "./cel-syntax.ts";
import {
  type CelType,
  canBeSame,
  errorType,
  isKnown,
  isList,
  isMap,
  isOpen,
  isStruct,
  listOf,
  showType,
  simple,
  unknownType,
} from "./cel-types.ts";
import { compiled as pattern } from "./validate.ts";

/** A part of a parsed expression; `start` and `end` are offsets into its text. */
export interface CelNode {
  op: string;
  args: unknown;
  start: number;
  end: number;
}

type Scope = ReadonlyMap<string, CelType>;

const bool = simple("bool");
const numbers = ["int", "uint", "double"];
const ordered = ["bool", "string", "bytes", "timestamp", "duration"];

/** The mistakes of an expression over these variables, and its type. */
export function checkTypes(
  source: string,
  root: CelNode,
  variables: Scope,
): { mistakes: Mistake[]; type: CelType } {
  const checker = new Checker(source);
  const type = checker.check(root, variables);
  return { mistakes: checker.mistakes, type };
}

class Checker {
  readonly mistakes: Mistake[] = [];
  readonly #source: string;
  constructor(source: string) {
    this.#source = source;
  }

  check(node: CelNode, scope: Scope): CelType {
    switch (node.op) {
      case "value":
        return this.#literal(node);
      case "id":
        return this.#name(node, scope);
      case ".":
        return this.#select(node, scope);
      case ".?":
        this.check((node.args as [CelNode, string])[0], scope);
        return unknownType;
      case "[?]":
        for (const part of node.args as CelNode[]) this.check(part, scope);
        return unknownType;
      case "list":
        return this.#list(node.args as CelNode[], scope);
      case "map":
        for (const [key, value] of node.args as [CelNode, CelNode][]) {
          this.check(key, scope);
          this.check(value, scope);
        }
        return { kind: "map", key: unknownType, of: unknownType };
      case "call":
      case "rcall":
        return this.#call(node, scope);
      default:
        return this.#operator(node, scope);
    }
  }

  #refuse(at: number, says: string): CelType {
    this.mistakes.push({ at, says });
    return errorType;
  }

  #noOverload(at: number, name: string, types: readonly CelType[], receiver?: CelType): CelType {
    if (![...types, ...(receiver ? [receiver] : [])].every(isKnown)) return unknownType;
    const shown = `${receiver ? `${showType(receiver)}.` : ""}(${types.map(showType).join(", ")})`;
    return this.#refuse(at, `found no matching overload for '${name}' applied to '${shown}'`);
  }

  /** Where cel-go says that a part stands: its operator, its dot, its opening parenthesis. */
  #place(node: CelNode): number {
    const after = (part: CelNode, mark: RegExp) => {
      const skipped = new RegExp(`[\\s)]*${mark.source}`, "y");
      skipped.lastIndex = part.end;
      const match = skipped.exec(this.#source);
      return match ? part.end + match[0].length - 1 : node.start;
    };
    switch (node.op) {
      case "value":
      case "id":
      case "list":
      case "map":
      case "!_":
      case "-_":
        return node.start;
      case ".":
      case ".?":
        return after((node.args as [CelNode])[0], /\./);
      case "[]":
      case "[?]":
        return after((node.args as [CelNode])[0], /\[/);
      case "?:":
        return after((node.args as [CelNode])[0], /\?/);
      case "call": {
        const open = this.#source.indexOf("(", node.start);
        return open < 0 ? node.start : open;
      }
      case "rcall":
        return after((node.args as [string, CelNode])[1], /\.\s*\w+\s*\(/);
      default: {
        const text = node.op === "in" ? "in" : node.op.replace(/[|+*?]/g, "\\$&");
        return after((node.args as CelNode[])[0]!, new RegExp(text)) - (node.op.length - 1);
      }
    }
  }

  #literal({ args: value, start }: CelNode): CelType {
    switch (typeof value) {
      case "bigint":
        // The most negative one is written as the minus of one that is too large.
        return value > 2n ** 63n ? this.#refuse(start, "invalid int literal") : simple("int");
      case "number":
        return simple("double");
      case "string":
        return simple("string");
      case "boolean":
        return bool;
      default:
        if (value === null) return simple("null");
        return value instanceof Uint8Array ? simple("bytes") : simple("uint");
    }
  }

  #name(node: CelNode, scope: Scope): CelType {
    const name = node.args as string;
    const type = scope.get(name);
    if (type) return type;
    if (typeNames.has(name)) return unknownType;
    return this.#refuse(node.start, `undeclared reference to '${name}' (in container '')`);
  }

  #select(node: CelNode, scope: Scope, at = this.#place(node)): CelType {
    const [from, name] = node.args as [CelNode, string];
    if (isNamespace(from, scope)) return unknownType;
    const type = this.check(from, scope);
    if (isOpen(type)) return type.kind === "error" ? errorType : unknownType;
    if (isMap(type)) return type.of;
    if (isStruct(type)) return type.fields.get(name) ?? this.#refuse(at, `undefined field '${name}'`);
    if (type.kind === "null" || !isKnown(type)) return unknownType;
    return this.#refuse(at, `type '${showType(type)}' does not support field selection`);
  }

  /** Whether members are alike is not judged: those of an argument of `format` need not be. */
  #list(parts: CelNode[], scope: Scope): CelType {
    const [first = unknownType, ...rest] = parts.map((part) => this.check(part, scope));
    return listOf(
      rest.every((type) => canBeSame(first, type) && type.kind === first.kind) ? first : unknownType,
    );
  }

  #mustBeBool(node: CelNode, type: CelType): void {
    if (isOpen(type) || type.kind === "bool" || !isKnown(type)) return;
    this.#refuse(this.#place(node), `expected type 'bool' but found '${showType(type)}'`);
  }

  #operator(node: CelNode, scope: Scope): CelType {
    const parts = Array.isArray(node.args) ? (node.args as CelNode[]) : [node.args as CelNode];
    const types = parts.map((part) => this.check(part, scope));
    const [a = unknownType, b = unknownType, c = unknownType] = types;
    const none = (name: string) => this.#noOverload(this.#place(node), name, types);
    switch (node.op) {
      case "&&":
      case "||":
        parts.forEach((part, i) => {
          this.#mustBeBool(part, types[i]!);
        });
        return bool;
      case "!_":
        return isOpen(a) || a.kind === "bool" ? bool : none("!_");
      case "-_":
        return isOpen(a) ? unknownType : a.kind === "int" || a.kind === "double" ? a : none("-_");
      case "?:":
        if (!(isOpen(a) || a.kind === "bool") || !canBeSame(b, c)) return none("_?_:_");
        return b.kind === c.kind ? b : unknownType;
      case "==":
      case "!=":
        return canBeSame(a, b) ? bool : none(`_${node.op}_`);
      case "<":
      case "<=":
      case ">":
      case ">=": {
        const taken =
          isOpen(a) && isOpen(b)
            ? true
            : [numbers, ...ordered.map((kind) => [kind])].some((alike) =>
                [a, b].every((type) => isOpen(type) || alike.includes(type.kind)),
              );
        return taken ? bool : none(`_${node.op}_`);
      }
      case "in": {
        if (isOpen(b)) return bool;
        const member = isList(b) ? b.of : isMap(b) ? b.key : undefined;
        return member && canBeSame(a, member) ? bool : none("@in");
      }
      case "[]": {
        if (isOpen(a)) return unknownType;
        if (isList(a) && (isOpen(b) || b.kind === "int")) return a.of;
        if (isMap(a) && canBeSame(a.key, b)) return a.of;
        return none("_[_]");
      }
      case "+":
      case "-":
      case "*":
      case "/":
      case "%":
        return arithmetic(node.op, a, b) ?? none(`_${node.op}_`);
      default:
        return unknownType;
    }
  }

  #call(node: CelNode, scope: Scope): CelType {
    const name = (node.args as [string])[0];
    const receiver = node.op === "rcall" ? (node.args as [string, CelNode])[1] : undefined;
    const parts = (receiver ? (node.args as unknown[])[2] : (node.args as unknown[])[1]) as CelNode[];
    if (name === "has" && !receiver && parts.length === 1) return this.#has(node, parts[0]!, scope);
    if (receiver && macroArities[name]?.includes(parts.length))
      return this.#macro(node, name, receiver, parts, scope);
    const inNamespace = receiver !== undefined && isNamespace(receiver, scope);
    if (inNamespace && receiver.args === "cel" && name === "bind") return this.#bind(parts, scope);
    const of = receiver && !inNamespace ? this.check(receiver, scope) : undefined;
    const types = parts.map((part) => this.check(part, scope));
    const at = this.#place(node);
    if (inNamespace) return unknownType;
    if (!isKnownFunction(name))
      return this.#refuse(at, `undeclared reference to '${name}' (in container '')`);
    if (name === "matches") {
      const text = parts.at(-1);
      if (text?.op === "value" && typeof text.args === "string" && !isPattern(text.args))
        return this.#refuse(this.#place(text), "invalid matches argument");
    }
    const result = resultOf(name, of, types);
    return result ?? this.#noOverload(at, name, types, of);
  }

  #has(node: CelNode, part: CelNode, scope: Scope): CelType {
    if (part.op === ".") this.#select(part, scope, this.#place(node));
    else this.#refuse(this.#place(part), "invalid argument to has() macro");
    return bool;
  }

  #bind(parts: CelNode[], scope: Scope): CelType {
    const [name, value, body] = parts;
    if (!name || !value || !body || name.op !== "id") return unknownType;
    const type = this.check(value, scope);
    return this.check(body, new Map(scope).set(name.args as string, type));
  }

  /** Macros over lists, maps and optionals, which declare variables for their last arguments. */
  #macro(node: CelNode, name: string, receiver: CelNode, parts: CelNode[], scope: Scope): CelType {
    const over = this.check(receiver, scope);
    const isOptional = name === "optMap" || name === "optFlatMap";
    if (!isOptional && !isOpen(over) && !isList(over) && !isMap(over)) {
      const says = `expression of type '${showType(over)}' cannot be range of a comprehension (must be list, map, or dynamic)`;
      this.#refuse(this.#place(receiver), says);
    }
    const count = name.startsWith("transform")
      ? 2
      : ["all", "exists", "exists_one", "existsOne"].includes(name)
        ? parts.length - 1
        : 1;
    const inner = new Map(scope);
    const [one, two] = memberTypes(over, count);
    if (parts.slice(0, count).some((part) => part.op !== "id")) return unknownType;
    inner.set(parts[0]!.args as string, isOptional ? unknownType : one);
    if (count === 2) inner.set(parts[1]!.args as string, two);
    const bodies = parts.slice(count);
    const types = bodies.map((part) => this.check(part, inner));
    const last = types.at(-1) ?? unknownType;
    const branches = (of: CelType) => {
      if (isOpen(types[0]!) || types[0]!.kind === "bool") return;
      this.#noOverload(this.#place(node), "_?_:_", [types[0]!, of, of]);
    };
    switch (name) {
      case "all":
      case "exists":
        this.#mustBeBool(bodies[0]!, last);
        return bool;
      case "exists_one":
      case "existsOne":
        branches(simple("int"));
        return bool;
      case "filter":
        branches(listOf(one));
        return listOf(one);
      case "map":
        if (bodies.length === 2) branches(listOf(last));
        return listOf(last);
      case "transformList":
        return listOf(last);
      default:
        return unknownType;
    }
  }
}

/** The types of a comprehension's variables: of a list index and element, of a map key and value. */
function memberTypes(over: CelType, count: number): [CelType, CelType] {
  if (isList(over)) return count === 2 ? [simple("int"), over.of] : [over.of, unknownType];
  if (isMap(over)) return [over.key, over.of];
  return [over.kind === "error" ? errorType : unknownType, unknownType];
}

/** Whether a name is the first part of functions' names (`math.greatest`), or of types' (`google.protobuf`). */
function isNamespace(node: CelNode, scope: Scope): boolean {
  if (node.op === ".") return isNamespace((node.args as [CelNode])[0], scope);
  return node.op === "id" && !scope.has(node.args as string) && namespaces.has(node.args as string);
}

function arithmetic(op: string, a: CelType, b: CelType): CelType | undefined {
  const times = ["timestamp", "duration"];
  const plain = op === "%" ? ["int", "uint"] : numbers;
  const takes = (kind: string) =>
    plain.includes(kind) ||
    (op === "+" && ["string", "bytes", "list", ...times].includes(kind)) ||
    (op === "-" && times.includes(kind));
  if (isOpen(a) || isOpen(b)) {
    const known = isOpen(a) ? b : a;
    return isOpen(known) || takes(known.kind) ? unknownType : undefined;
  }
  if (!takes(a.kind)) return undefined;
  if (times.includes(a.kind) && times.includes(b.kind)) {
    if (op === "+") {
      if (a.kind === "timestamp" && b.kind === "timestamp") return undefined;
      return a.kind === "duration" && b.kind === "duration" ? a : simple("timestamp");
    }
    if (a.kind === "duration" && b.kind === "timestamp") return undefined;
    return a.kind === "timestamp" && b.kind === "duration" ? a : simple("duration");
  }
  return canBeSame(a, b) && a.kind === b.kind ? a : undefined;
}

function isPattern(text: string): boolean {
  try {
    pattern(text);
    return true;
  } catch {
    return false;
  }
}
