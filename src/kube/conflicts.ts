/** What a sink cannot write because it is someone else's: a value that derivations can read. */
import { type Collection, type Source, source } from "../collections/index.ts";

export interface Conflict {
  /** `namespace/name` of the object. */
  name: string;
  /** For people. */
  message: string;
  /** Paths of the fields that others own; empty when the whole object is another's. */
  fields: string[];
}

export class Conflicts {
  readonly collection: Source<Conflict>;
  readonly #messages = new Map<string, string>();

  /** A collection on the engine of what is desired. */
  constructor(desired: Collection<unknown>) {
    const { engine, name } = desired;
    this.collection = source<Conflict>(engine, {
      name: `${name}/conflicts`,
      key: (of) => of.name,
      synced: true,
    });
  }

  /** Notes that a conflict is there or, with undefined, not. Returns whether that is news. */
  report(name: string, conflict: Conflict | undefined): boolean {
    if (this.#messages.get(name) === conflict?.message) return false;
    if (conflict) {
      this.#messages.set(name, conflict.message);
      this.collection.put(conflict);
    } else {
      this.#messages.delete(name);
      this.collection.remove(name);
    }
    return true;
  }
}
