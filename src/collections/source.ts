import type { Engine } from "./engine.ts";
import { type Collection, Table, type Waiting } from "./table.ts";

/**
 * waiting: not heard yet, so nothing may be concluded from what is missing.
 * synced: complete at least once. given up: not heard, and no longer waited for.
 */
export type SourceState = "waiting" | "synced" | "given up";

/** A collection that is fed from outside. What is fed shows when the next batch settles. */
export interface Source<V> extends Collection<V> {
  /** As of the last settled batch. */
  readonly state: SourceState;
  put(value: V): void;
  remove(key: string): void;
  /** These values and no others. */
  replace(values: Iterable<V>): void;
  /** What has been fed is complete. */
  markSynced(): void;
  /** What is missing will not be waited for (law 7); rows that are there stay. A later `markSynced` is welcome. */
  giveUp(): void;
}

/**
 * A source on `engine`. `key` names the row of a value. A source that holds a constant set, or that is fed by
 * something that cannot be late, may start as `synced`.
 */
export function source<V extends {}>(
  engine: Engine,
  options: { name: string; key: (value: V) => string; synced?: boolean },
): Source<V> {
  return new SourceTable(engine, options);
}

class SourceTable<V extends {}> extends Table<V> implements Source<V> {
  readonly #key: (value: V) => string;
  #staged = new Map<string, V | undefined>();
  #state: SourceState = "waiting";
  #stagedState: SourceState | undefined;

  constructor(engine: Engine, options: { name: string; key: (value: V) => string; synced?: boolean }) {
    super(engine, options.name);
    this.#key = options.key;
    engine.countUnknown(1);
    if (options.synced) this.markSynced();
  }

  get state(): SourceState {
    return this.#state;
  }

  put(value: V): void {
    this.#staged.set(this.#key(value), value);
    this.#feed();
  }

  remove(key: string): void {
    this.#staged.set(key, undefined);
    this.#feed();
  }

  replace(values: Iterable<V>): void {
    this.#staged.clear();
    for (const key of this.rows.keys()) this.#staged.set(key, undefined);
    for (const value of values) this.#staged.set(this.#key(value), value);
    this.#feed();
  }

  markSynced(): void {
    this.#stage("synced");
  }

  giveUp(): void {
    if ((this.#stagedState ?? this.#state) === "waiting") this.#stage("given up");
  }

  #feed(): void {
    this.touch();
    this.engine.schedule();
  }

  #stage(state: SourceState): void {
    this.#stagedState = state;
    this.#feed();
  }

  protected refresh(): void {
    if (this.#staged.size > 0) {
      const staged = this.#staged;
      this.#staged = new Map();
      for (const [key, value] of staged) this.set(key, value);
    }
    const state = this.#stagedState;
    this.#stagedState = undefined;
    if (state === undefined || state === this.#state) return;
    if (this.#state === "waiting") {
      this.engine.countUnknown(-1);
      this.engine.noteHeard(this as Table<unknown>);
    }
    this.#state = state;
  }

  protected detach(): void {
    if (this.#state === "waiting") this.engine.countUnknown(-1);
    this.#state = "given up";
  }

  protected addPendingOfKey(_key: string, into: Set<Waiting>): void {
    this.addOwnUnknowns(into);
  }

  protected override addOwnUnknowns(into: Set<Waiting>): void {
    if (this.#state === "waiting") into.add(this);
  }
}
