/** Which rows of a desired collection want an object of a name: rows may be keyed by something else. */
import { nameOf } from "../api/index.ts";
import type { Change, Collection } from "../collections/index.ts";

interface Named {
  metadata: { namespace?: string; name: string };
}

export class RowIndex<R extends Named> {
  readonly #collection: Collection<R>;
  /** More than one row for a name is a mistake of the derivation; the least key wins, the same from scratch. */
  readonly #keys = new Map<string, string[]>();
  /** The row that last wanted a name that no row wants now. */
  readonly #last = new Map<string, string>();

  constructor(collection: Collection<R>) {
    this.#collection = collection;
    for (const [key, row] of collection.entries()) this.#add(nameOf(row), key);
  }

  names(): Iterable<string> {
    return this.#keys.keys();
  }

  /** The row that wants an object of this name. */
  of(name: string): { key: string; row: R } | undefined {
    const key = this.#keys.get(name)?.[0];
    const row = key === undefined ? undefined : this.#collection.get(key);
    return row === undefined ? undefined : { key: key!, row };
  }

  /** The key of the row that wanted this name until it went or changed its mind. */
  last(name: string): string | undefined {
    return this.#last.get(name);
  }

  forget(name: string): void {
    this.#last.delete(name);
  }

  /** Takes a change of the collection in; returns the names that it touches. */
  change({ key, before, after }: Change<R>): string[] {
    const was = before && nameOf(before);
    const is = after && nameOf(after);
    if (was !== is) {
      if (was !== undefined) this.#remove(was, key);
      if (is !== undefined) this.#add(is, key);
    }
    return [...new Set([was, is])].filter((name) => name !== undefined);
  }

  #add(name: string, key: string): void {
    const keys = this.#keys.get(name);
    this.#keys.set(name, keys ? [...keys, key].sort() : [key]);
    this.#last.delete(name);
  }

  #remove(name: string, key: string): void {
    const keys = (this.#keys.get(name) ?? []).filter((other) => other !== key);
    if (keys.length > 0) {
      this.#keys.set(name, keys);
      return;
    }
    this.#keys.delete(name);
    this.#last.set(name, key);
  }
}
