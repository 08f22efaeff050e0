/** Changes of headers as routes name them (request_headers_to_add …), in Envoy's order: removed first, then added. */
import {
  HeaderValueOption_HeaderAppendAction as Action,
  type HeaderValueOption,
} from "#protocols/envoy/config/core/v3/base.ts";
import { type StreamFacts, Unservable } from "../contract.ts";
import { compileFormat, type Format } from "./format.ts";
import type { Headers } from "./headers.ts";

interface Addition {
  name: string;
  value: Format;
  action: number;
  keepEmpty: boolean;
}

/** The changes of one level: a route, a virtual host, … */
export interface Mutation {
  readonly remove: readonly string[];
  readonly add: readonly Addition[];
}

/** Undefined when nothing changes. Throws Unservable for names that may not be changed. */
export function compileMutation(
  add: readonly HeaderValueOption[],
  remove: readonly string[],
): Mutation | undefined {
  if (add.length === 0 && remove.length === 0) return undefined;
  return {
    remove: remove.map(changeable),
    add: add.map((option) => {
      const name = changeable(option.header?.key ?? "");
      const text = option.header?.value || option.header?.rawValue?.toString("latin1") || "";
      if (/[\r\n\0]/.test(text)) throw new Unservable(`header '${name}': the value has a line end`);
      return {
        name,
        value: compileFormat(text, ""),
        action: option.append === false ? Action.OVERWRITE_IF_EXISTS_OR_ADD : option.appendAction,
        keepEmpty: option.keepEmptyValue,
      };
    }),
  };
}

function changeable(key: string): string {
  const name = key.toLowerCase();
  if (name === "" || name.startsWith(":") || name === "host") {
    throw new Unservable(`':'-prefixed or host headers may not be modified: '${key}'`);
  }
  if (!/^[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(name)) throw new Unservable(`invalid header name '${key}'`);
  return name;
}

/** Values are all made from what was there before; what is overwritten goes first, then what is added. */
export function mutate(headers: Headers, mutation: Mutation, facts: StreamFacts): void {
  for (const name of mutation.remove) headers.remove(name);
  const { add } = mutation;
  if (add.length === 1) {
    change(headers, add[0]!, add[0]!.value(facts), headers.has(add[0]!.name));
    return;
  }
  const values = add.map(({ value }) => value(facts));
  const there = add.map(({ name }) => headers.has(name));
  for (const [i, addition] of add.entries()) {
    if (overwrites(addition)) change(headers, addition, values[i]!, there[i]!);
  }
  for (const [i, addition] of add.entries()) {
    if (!overwrites(addition)) change(headers, addition, values[i]!, there[i]!);
  }
}

const overwrites = ({ action }: Addition) =>
  action === Action.OVERWRITE_IF_EXISTS_OR_ADD || action === Action.OVERWRITE_IF_EXISTS;

function change(headers: Headers, { name, action, keepEmpty }: Addition, value: string, there: boolean) {
  if (value === "" && !keepEmpty) return;
  if (action === Action.ADD_IF_ABSENT && there) return;
  if (action === Action.OVERWRITE_IF_EXISTS && !there) return;
  if (action === Action.OVERWRITE_IF_EXISTS_OR_ADD || action === Action.OVERWRITE_IF_EXISTS) {
    headers.set(name, value);
  } else headers.add(name, value);
}
