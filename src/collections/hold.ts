import type { Collection, Waiting } from "./table.ts";

/**
 * The same collection, some of whose rows, and absent rows, wait for more than the engine knows of (law 7): for
 * something that was given up on, so that nothing new waits for it, while what was built on it stands. It is for
 * who writes; nothing can be derived from it.
 *
 * @param options.by what a key waits for besides; undefined asks for all of it
 * @param options.changes whatever changes the answer of `by` changes a row of this collection
 */
export function holdBack<V>(
  collection: Collection<V>,
  options: { by: (key: string | undefined) => readonly Waiting[]; changes: Collection<unknown> },
): Collection<V> {
  const { by, changes } = options;
  return {
    name: collection.name,
    engine: collection.engine,
    get size() {
      return collection.size;
    },
    get: (key) => collection.get(key),
    has: (key) => collection.has(key),
    entries: () => collection.entries(),
    keys: () => collection.keys(),
    values: () => collection.values(),
    pending: (key) => [...collection.pending(key), ...by(key)],
    subscribe(sink) {
      const ends = [collection.subscribe(sink), changes.subscribe(() => sink([]))];
      return () => {
        for (const end of ends) end();
      };
    },
    dispose: () => collection.dispose(),
  };
}
