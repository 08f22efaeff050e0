/** Reads a YAML file field by field. What is not as it should be is refused with its line and its path. */
import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type ParsedNode,
  parseDocument,
} from "yaml";
import { WeftError } from "../api/index.ts";

/** A value in the file. Its methods give it as what it should be, or throw LAB_FILE_INVALID. */
export class Field {
  /** As in error messages: `clusters[0].podRange`; empty for the whole file. */
  readonly path: string;
  readonly #file: FileText;
  readonly #node: Node | null | undefined;
  readonly #offset: number;

  /** `offset`: where in the text a person finds the field. */
  constructor(file: FileText, path: string, node: Node | null | undefined, offset: number) {
    this.#file = file;
    this.path = path;
    this.#node = isAlias(node) ? node.resolve(file.document) : node;
    this.#offset = offset;
  }

  /** `FILE:LINE:COLUMN`. */
  get at(): string {
    const { line, col } = this.#file.lines.linePos(this.#offset);
    return `${this.#file.name}:${line}:${col}`;
  }

  invalid(reason: string): WeftError {
    return new WeftError("LAB_FILE_INVALID", {
      at: this.at,
      reason: this.path ? `${this.path}: ${reason}` : reason,
    });
  }

  get isNull(): boolean {
    return !this.#node || (isScalar(this.#node) && this.#node.value === null);
  }

  get isList(): boolean {
    return isSeq(this.#node);
  }

  /** The fields of an object. Any other than the `known` ones is refused. */
  object<Name extends string>(known: readonly Name[]): { [name in Name]?: Field } {
    const fields: { [name in Name]?: Field } = {};
    for (const [name, field] of this.entries()) {
      if (!known.includes(name as Name)) {
        throw field.invalid(`there is no such field; there are ${known.join(", ")}`);
      }
      fields[name as Name] = field;
    }
    return fields;
  }

  /** The fields of an object whose names are free. */
  entries(): [string, Field][] {
    if (!isMap<ParsedNode, ParsedNode | null>(this.#node)) throw this.invalid("it should be an object");
    return this.#node.items.map(({ key, value }) => {
      const offset = key.range[0];
      if (!isScalar(key)) throw new Field(this.#file, this.path, key, offset).invalid("a name is expected");
      const name = String(key.value);
      const plain = /^[a-zA-Z]\w*$/.test(name);
      const path = plain ? `${this.path}${this.path && "."}${name}` : `${this.path}[${name}]`;
      // An object begins in the line after its name.
      return [name, new Field(this.#file, path, value, isScalar(value) ? value.range[0] : offset)];
    });
  }

  list(): Field[] {
    if (!isSeq<ParsedNode>(this.#node)) throw this.invalid("it should be a list");
    return this.#node.items.map(
      (item, i) => new Field(this.#file, `${this.path}[${i}]`, item, item.range[0]),
    );
  }

  string(): string {
    const value = this.#scalar();
    if (typeof value !== "string" || value === "") throw this.invalid("it should be a text");
    return value;
  }

  /** A text, and what YAML takes for a number or a truth value, as it is written. */
  text(): string {
    const value = this.#scalar();
    if (value === null || value === undefined) throw this.invalid("it should be a text");
    return typeof value === "string" ? value : ((this.#node as { source?: string }).source ?? String(value));
  }

  integer(least: number, most: number): number {
    const value = this.#scalar();
    if (typeof value !== "number" || !Number.isInteger(value) || value < least || value > most) {
      throw this.invalid(`it should be a whole number from ${least} to ${most}`);
    }
    return value;
  }

  oneOf<Choice extends string>(choices: readonly Choice[]): Choice {
    const value = this.#scalar();
    if (!choices.includes(value as Choice)) throw this.invalid(`it should be ${choices.join(" or ")}`);
    return value as Choice;
  }

  #scalar(): unknown {
    return isScalar(this.#node) ? this.#node.value : undefined;
  }
}

interface FileText {
  name: string;
  lines: LineCounter;
  document: Document.Parsed;
}

/** The whole file as one field. Throws LAB_FILE_INVALID for what is no YAML. */
export function parseFields(name: string, text: string): Field {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const [error] = document.errors;
  if (error) {
    const { line, col } = lines.linePos(error.pos[0]);
    const reason =
      error.code === "MULTIPLE_DOCS" ? "it should be one document, without '---'" : error.message;
    throw new WeftError("LAB_FILE_INVALID", { at: `${name}:${line}:${col}`, reason });
  }
  return new Field({ name, lines, document }, "", document.contents, 0);
}
