/** The table of messages that `scripts/schemas` makes from Kubernetes' Go types. Read when it is first needed. */
import { readFileSync } from "node:fs";

/**
 * [field number, JSON name (empty: the struct is inlined), type, flags].
 * Types: string, bool, int32, int64, double, bytes; the special ones of `special.ts`; the name of a message; `[]` or
 * `{}` before any of these for a list or a map from strings.
 * Flags: `p` pointer, `o` omitempty, `z` omitzero.
 */
export type MessageField = [number, string, string, string?];

export interface Message {
  name: string;
  fields: MessageField[];
  byNumber: Map<number, MessageField>;
  /** By JSON name, inlined structs' fields included. */
  byName: Map<string, MessageField>;
}

interface Table {
  kinds: Record<string, string>;
  messages: Record<string, MessageField[]>;
}

let table: Table | undefined;
const messages = new Map<string, Message>();

function load(): Table {
  if (!table) {
    const file = new URL("./messages.generated.json", import.meta.url);
    const { kinds, ...rest } = JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;
    table = { kinds: kinds as Table["kinds"], messages: rest as Table["messages"] };
  }
  return table;
}

/** The message of a built-in kind: a name that `messageNamed` knows. */
export function messageOf(apiVersion: string, kind: string): string | undefined {
  const { kinds } = load();
  const name = `${apiVersion}/${kind}`;
  if (Object.hasOwn(kinds, name)) return kinds[name];
  return Object.hasOwn(kinds, `*/${kind}`) ? kinds[`*/${kind}`] : undefined;
}

export function messageNamed(name: string): Message {
  let message = messages.get(name);
  if (!message) {
    const fields = load().messages[name];
    if (!fields) throw new Error(`no message ${name}`);
    message = {
      name,
      fields,
      byNumber: new Map(fields.map((field) => [field[0], field])),
      byName: new Map(),
    };
    for (const field of fields) {
      if (field[1] !== "") message.byName.set(field[1], field);
      else for (const [inner, of] of messageNamed(field[2]).byName) message.byName.set(inner, of);
    }
    messages.set(name, message);
  }
  return message;
}
