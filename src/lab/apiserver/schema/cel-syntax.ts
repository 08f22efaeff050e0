/**
 * Where CEL's grammar ends: what is wrong with an expression that does not parse, in the words of cel-go's parser
 * (ANTLR's) as far as they follow from where it stopped. The lists of what was expected may differ.
 */

/** Something wrong at a place of an expression; `at` counts UTF-16 units from 0. */
export interface Mistake {
  at: number;
  says: string;
}

/** What the CEL implementation throws where it stops. */
interface ParseError extends Error {
  code?: string;
  summary?: string;
  range?: { start: number; end: number };
}

const starts =
  "'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER";

/** Grammar that CEL has and our parser does not: whatever stands beside it is not judged. */
function isBeyondUs(source: string): boolean {
  if (/[`\f]|\b(?:[rR][bB]|[bB][rR])['"]/.test(source)) return true;
  const bare = source.replace(/"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'/g, '""');
  return /[[{,(]\s*\?|[\w.]\s*\{|(?:^|[^\w\])}'"\s.])\s*\./.test(bare);
}

/**
 * The mistakes of an expression, at most a few: none when it parses, or when it is not certain that it may not.
 * `parse` throws a ParseError.
 */
export function syntaxMistakes(source: string, parse: (text: string) => unknown): Mistake[] {
  const found: Mistake[] = [];
  if (isBeyondUs(source)) return found;
  let text = source;
  while (found.length < 10) {
    let error: ParseError;
    try {
      parse(text);
      return found;
    } catch (thrown) {
      error = thrown as ParseError;
    }
    const stop = describe(text, error);
    if (!stop) return found;
    found.push(stop.mistake);
    if (stop.skip === 0) return found;
    // The lexer leaves out what it cannot read, and the parser goes on with the rest.
    const { at } = stop.mistake;
    text = text.slice(0, at) + " ".repeat(stop.skip) + text.slice(at + stop.skip);
  }
  return found;
}

function describe(text: string, error: ParseError): { mistake: Mistake; skip: number } | undefined {
  const { code = "", summary = "", range } = error;
  if (!range) return undefined;
  const at = range.start;
  const isEnd = at >= text.length;
  const token = isEnd ? "<EOF>" : text.slice(at, range.end);
  const say = (says: string, skip = 0) => ({ mistake: { at, says }, skip });
  const unread = (part: string) => say(`Syntax error: token recognition error at: '${part}'`, part.length);
  switch (code) {
    case "unterminated_string":
      return unread(text.slice(at).split("\n")[0]!);
    case "reserved_identifier":
      return /^(?:__proto__|prototype)$/.test(token) ? undefined : say(`reserved identifier: ${token}`);
    case "unexpected_character": {
      if (!summary.endsWith("'")) return unread(text.slice(at, at + (/[=&|]/.test(text[at]!) ? 2 : 1)));
      const isLast = text.slice(range.end).trim() === "";
      return say(`Syntax error: ${isLast ? "extraneous" : "mismatched"} input '${token}' expecting <EOF>`);
    }
    case "unexpected_token": {
      const inIndex = /[\w)\]]\s*\[\s*$/.test(text.slice(0, at));
      const expected = inIndex ? starts.replace("'!', ", "'!', '?', ") : starts;
      const goesOn = !isEnd && /^\s*[\w'"([{!-]/.test(text.slice(range.end));
      return say(
        `Syntax error: ${goesOn ? "extraneous" : "mismatched"} input '${token}' expecting {${expected}}`,
      );
    }
    case "expected_token": {
      const [, expected = ""] = /^Expected (\w+),/.exec(summary) ?? [];
      if (expected === "IDENTIFIER") {
        if (/^\d/.test(token)) return undefined;
        if (/^(?:true|false|null)$/.test(token))
          return say(`Syntax error: mismatched input '${token}' expecting IDENTIFIER`);
        return say(`Syntax error: no viable alternative at input '.${isEnd ? "" : token}'`);
      }
      if (expected === "COLON") return say(`Syntax error: mismatched input '${token}' expecting ':'`);
      const closing = { RPAREN: ")", RBRACKET: "]", RBRACE: "}" }[expected];
      if (closing === undefined) return undefined;
      if (isEnd && (closing === ")" || isIndexOpen(text)))
        return say(`Syntax error: missing '${closing}' at '<EOF>'`);
      return say(`Syntax error: mismatched input '${token}' expecting {'${closing}', ','}`);
    }
    default:
      return undefined;
  }
}

/** Whether the last bracket that is open at the end is that of an index. */
function isIndexOpen(text: string): boolean {
  const bare = text.replace(/"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'/g, '""');
  let depth = 0;
  for (let i = bare.length - 1; i >= 0; i--) {
    if (bare[i] === "]") depth++;
    else if (bare[i] === "[" && depth-- === 0) return /[\w)\]"]\s*$/.test(bare.slice(0, i));
  }
  return false;
}

/** Mistakes as cel-go shows them: where, what, the line, and a mark below it. */
export function showMistakes(source: string, mistakes: readonly Mistake[]): string {
  const lines = source.split("\n");
  return [...mistakes]
    .sort((a, b) => a.at - b.at)
    .map(({ at, says }) => {
      const before = source.slice(0, at).split("\n");
      const characters = [...before.at(-1)!];
      const line = lines[before.length - 1]!.replaceAll("\t", " ");
      // What needs more than one byte is taken for wide.
      const dots = characters.map((character) => (character > "\x7f" ? "．" : ".")).join("");
      const mark = line.slice(before.at(-1)!.length) > "\x7f" ? "＾" : "^";
      return `ERROR: <input>:${before.length}:${characters.length + 1}: ${says}\n | ${line}\n | ${dots}${mark}`;
    })
    .join("\n");
}
