/**
 * The part of Kubernetes' JSONPath that printer columns use: fields (`.a.b`, `['a.b']`, `.a\.b`), indices
 * (`[0]`, `[-1]`), all elements (`[*]`) and filters by equality (`[?(@.type=="Ready")]`).
 */

type Step =
  | { kind: "field"; name: string }
  | { kind: "index"; index: number }
  | { kind: "all" }
  | { kind: "filter"; path: Step[]; equal: boolean; value: unknown };

/** A compiled path: all values that it finds in an object. Throws SyntaxError for what it does not know. */
export type Path = (root: unknown) => unknown[];

export function compilePath(text: string): Path {
  const steps = parse(text);
  return (root) => walk([root], steps);
}

function walk(values: unknown[], steps: Step[]): unknown[] {
  let current = values;
  for (const step of steps) current = current.flatMap((value) => take(value, step));
  return current;
}

function take(value: unknown, step: Step): unknown[] {
  if (step.kind === "field") {
    if (!isObject(value) || !Object.hasOwn(value, step.name)) return [];
    return [value[step.name]];
  }
  const elements = Array.isArray(value)
    ? value
    : isObject(value) && step.kind === "all"
      ? Object.values(value)
      : [];
  if (step.kind === "all") return elements;
  if (step.kind === "index") {
    const at = step.index < 0 ? elements.length + step.index : step.index;
    return at in elements ? [elements[at]] : [];
  }
  return elements.filter((element) => {
    const found = walk([element], step.path);
    return found.length > 0 && (found[0] === step.value) === step.equal;
  });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parse(text: string): Step[] {
  const steps: Step[] = [];
  let rest = text.trim().replace(/^\$/, "");
  while (rest !== "") {
    const [length, step] = parseStep(rest, text);
    if (step) steps.push(step);
    rest = rest.slice(length);
  }
  return steps;
}

function parseStep(rest: string, whole: string): [number, Step | undefined] {
  let match = /^\.?\[\*\]|^\.\*/.exec(rest);
  if (match) return [match[0].length, { kind: "all" }];
  match = /^\.?\[(-?\d+)\]/.exec(rest);
  if (match) return [match[0].length, { kind: "index", index: Number(match[1]) }];
  match = /^\.?\[(?:'([^']*)'|"([^"]*)")\]/.exec(rest);
  if (match) return [match[0].length, { kind: "field", name: match[1] ?? match[2] ?? "" }];
  match = /^\.?\[\?\(\s*@([^=!<>\s]*)\s*(==|!=)\s*(?:'([^']*)'|"([^"]*)"|([\w.-]+))\s*\)\]/.exec(rest);
  if (match) {
    const value = match[3] ?? match[4] ?? literal(match[5]!);
    return [match[0].length, { kind: "filter", path: parse(match[1]!), equal: match[2] === "==", value }];
  }
  match = /^\.((?:\\.|[^.[\]\\])+)/.exec(rest);
  if (match) return [match[0].length, { kind: "field", name: match[1]!.replace(/\\(.)/g, "$1") }];
  // A lone dot is the value itself.
  if (rest === ".") return [1, undefined];
  throw new SyntaxError(`unrecognized column definition "${whole}"`);
}

function literal(text: string): unknown {
  if (text === "true") return true;
  if (text === "false") return false;
  const number = Number(text);
  return Number.isNaN(number) ? text : number;
}
