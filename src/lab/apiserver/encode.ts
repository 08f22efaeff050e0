/** Objects as JSON bytes, made once per stored object and shared by the log, lists and watches. */
import type { ApiObject } from "./object.ts";

const made = new WeakMap<ApiObject, Uint8Array>();

/** The object's JSON. Only for objects that never change again: those of the store. */
export function encoded(object: ApiObject): Uint8Array {
  let bytes = made.get(object);
  if (!bytes) {
    bytes = Buffer.from(JSON.stringify(object));
    made.set(object, bytes);
  }
  return bytes;
}

/** The object whose JSON these bytes are, which are its own from here on. */
export function decoded(bytes: Uint8Array): ApiObject {
  const object = JSON.parse(
    Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString(),
  ) as ApiObject;
  made.set(object, bytes);
  return object;
}

const comma = Buffer.from(",");

/** The JSON of a list object: `head` without its items, and the items' own bytes. */
export function encodedList(head: object, items: readonly ApiObject[]): Uint8Array {
  const text = JSON.stringify(head);
  const parts: Uint8Array[] = [Buffer.from(`${text.slice(0, -1)},"items":[`)];
  items.forEach((item, index) => {
    if (index > 0) parts.push(comma);
    parts.push(encoded(item));
  });
  parts.push(Buffer.from("]}\n"));
  return Buffer.concat(parts);
}
