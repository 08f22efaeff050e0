/** Names of which there are mostly none or one: those take no table, which the runtime would make anew each time. */
export class Names implements Iterable<string> {
  #only: string | undefined;
  #several: Set<string> | undefined;

  get size(): number {
    if (this.#several) return this.#several.size;
    return this.#only === undefined ? 0 : 1;
  }

  add(name: string): void {
    if (this.#several) this.#several.add(name);
    else if (this.#only === undefined) this.#only = name;
    else if (this.#only !== name) {
      this.#several = new Set([this.#only, name]);
      this.#only = undefined;
    }
  }

  delete(name: string): void {
    if (this.#only === name) this.#only = undefined;
    if (!this.#several?.delete(name) || this.#several.size > 0) return;
    this.#several = undefined;
  }

  clear(): void {
    this.#only = undefined;
    this.#several = undefined;
  }

  /** The first of them. */
  get first(): string | undefined {
    return this.#several ? this.#several.values().next().value : this.#only;
  }

  /** Adds those of another to these, and leaves that one empty. */
  takeAll(from: Names): void {
    if (from.#several) for (const name of from.#several) this.add(name);
    else if (from.#only !== undefined) this.add(from.#only);
    from.clear();
  }

  [Symbol.iterator](): Iterator<string> {
    const names = this.#several ?? (this.#only === undefined ? [] : [this.#only]);
    return names[Symbol.iterator]();
  }
}
