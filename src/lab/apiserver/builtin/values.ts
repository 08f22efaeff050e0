/** Reading and filling JSON of unknown shape: what is not there, or is something else, reads as empty. */
import { isObject, type JsonObject } from "../schema/index.ts";

/** The object at a name; an empty one when there is none (changes to that are lost). */
export function record(value: unknown): JsonObject {
  return isObject(value) ? value : {};
}

/** The object at a path of names, or undefined. */
export function at(value: unknown, ...names: string[]): JsonObject | undefined {
  let here: unknown = value;
  for (const name of names) {
    if (!isObject(here)) return undefined;
    here = here[name];
  }
  return isObject(here) ? here : undefined;
}

/** The objects of a list; anything else in it is left out. */
export function records(value: unknown): JsonObject[] {
  return Array.isArray(value) ? value.filter(isObject) : [];
}

/** The string, or an empty one. */
export function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

export function strings(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item): item is string => typeof item === "string") : [];
}

/** Sets a member that is absent. */
export function fill(object: JsonObject, name: string, value: unknown): void {
  if (object[name] === undefined || object[name] === null) object[name] = value;
}

/** Sets a member that is absent or has Go's zero value: for fields that are no pointers. */
export function fillZero(object: JsonObject, name: string, value: unknown): void {
  const old = object[name];
  if (old === undefined || old === null || old === "" || old === 0) object[name] = value;
}

/** The object at a name, made when it is absent. */
export function ensure(object: JsonObject, name: string): JsonObject {
  const old = object[name];
  if (isObject(old)) return old;
  const made: JsonObject = {};
  if (old === undefined || old === null) object[name] = made;
  return made;
}
