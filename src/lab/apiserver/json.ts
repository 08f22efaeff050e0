/**
 * JSON as Go's decoders read it: what is wrong with a text in their words, and names that an object gives twice
 * (of which JSON.parse keeps the last and says nothing).
 */

/** What is wrong with the text, as encoding/json says it; undefined when it is JSON. */
export function jsonProblem(text: string): string | undefined {
  return walk(text).problem;
}

/**
 * Fields that stand more than once in one object, as paths (`metadata.labels.a`) with the place of the second, and
 * where each field stands first.
 */
export function duplicateFields(text: string): {
  duplicates: Map<string, number>;
  places: Map<string, number>;
} {
  return walk(text);
}

/** Whether `value`, which was read from `bytes`, has fewer members than the text gives: some name stands twice. */
export function hasDuplicates(bytes: Uint8Array, value: unknown): boolean {
  return colons(bytes) !== members(value);
}

/** Colons outside of strings: one for each member. */
function colons(bytes: Uint8Array): number {
  let count = 0;
  let quoted = false;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i];
    if (quoted) {
      if (byte === 0x5c) i++;
      else if (byte === 0x22) quoted = false;
    } else if (byte === 0x22) quoted = true;
    else if (byte === 0x3a) count++;
  }
  return count;
}

function members(root: unknown): number {
  let count = 0;
  const open: unknown[] = [root];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (typeof next !== "object" || next === null) continue;
    const values = Object.values(next);
    if (!Array.isArray(next)) count += values.length;
    for (const value of values) if (typeof value === "object" && value !== null) open.push(value);
  }
  return count;
}

class JsonSyntaxError extends Error {}

interface Walked {
  problem: string | undefined;
  duplicates: Map<string, number>;
  places: Map<string, number>;
}

function walk(text: string): Walked {
  let at = 0;
  const duplicates = new Map<string, number>();
  const places = new Map<string, number>();

  const fail = (where: string): never => {
    const char = text[at];
    if (char === undefined) throw new JsonSyntaxError("unexpected end of JSON input");
    const quoted = char === "'" ? "'\\''" : `'${JSON.stringify(char).slice(1, -1).replace('\\"', '"')}'`;
    throw new JsonSyntaxError(`invalid character ${quoted} ${where}`);
  };
  const space = () => {
    while (text[at] === " " || text[at] === "\n" || text[at] === "\r" || text[at] === "\t") at++;
  };
  const string = (): string => {
    const from = at++;
    for (; text[at] !== '"'; at++) {
      if (text[at] === undefined || text[at]! < " ") fail("in string literal");
      if (text[at] !== "\\") continue;
      at++;
      if (text[at] === "u") {
        for (let n = 0; n < 4; n++) {
          at++;
          if (!/[0-9a-fA-F]/.test(text[at] ?? "")) fail("in \\u hexadecimal character escape");
        }
      } else if (!'"\\/bfnrt'.includes(text[at] ?? " ")) fail("in string escape code");
    }
    return JSON.parse(text.slice(from, ++at)) as string;
  };
  const digits = (where: string) => {
    if (!/\d/.test(text[at] ?? "")) fail(where);
    while (/\d/.test(text[at] ?? "")) at++;
  };
  const number = () => {
    if (text[at] === "-") at++;
    if (text[at] === "0") at++;
    else digits("in numeric literal");
    if (text[at] === ".") {
      at++;
      digits("after decimal point in numeric literal");
    }
    if (text[at] === "e" || text[at] === "E") {
      at++;
      if (text[at] === "+" || text[at] === "-") at++;
      digits("in exponent of numeric literal");
    }
  };
  const literal = (word: string) => {
    for (const char of word) {
      if (text[at] !== char) fail(`in literal ${word} (expecting '${char}')`);
      at++;
    }
  };
  const value = (path: string): void => {
    space();
    const char = text[at];
    if (char === "{") object(path);
    else if (char === "[") list(path);
    else if (char === '"') string();
    else if (char === "t") literal("true");
    else if (char === "f") literal("false");
    else if (char === "n") literal("null");
    else if (char === "-" || /\d/.test(char ?? "")) number();
    else fail("looking for beginning of value");
    space();
  };
  const object = (path: string) => {
    at++;
    space();
    const seen = new Set<string>();
    for (let first = true; !(first && text[at] === "}"); first = false) {
      space();
      if (text[at] !== '"') fail("looking for beginning of object key string");
      const name = string();
      const field = path === "" ? name : `${path}.${name}`;
      if (!places.has(field)) places.set(field, at);
      if (seen.has(name) && !duplicates.has(field)) duplicates.set(field, at);
      seen.add(name);
      space();
      if (text[at] !== ":") fail("after object key");
      at++;
      value(field);
      if (text[at] === "}") break;
      if (text[at] !== ",") fail("after object key:value pair");
      at++;
    }
    at++;
  };
  const list = (path: string) => {
    at++;
    space();
    for (let index = 0; !(index === 0 && text[at] === "]"); index++) {
      value(`${path}[${index}]`);
      if (text[at] === "]") break;
      if (text[at] !== ",") fail("after array element");
      at++;
    }
    at++;
  };

  try {
    value("");
    if (at < text.length) fail("after top-level value");
    return { problem: undefined, duplicates, places };
  } catch (error) {
    if (error instanceof JsonSyntaxError) return { problem: error.message, duplicates, places };
    if (error instanceof RangeError) return { problem: "exceeded max depth", duplicates, places };
    throw error;
  }
}
