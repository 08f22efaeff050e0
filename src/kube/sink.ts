/**
 * What the two kinds of sinks (law 8) have in common: they bring the API's objects, one at a time and level
 * triggered, to what a desired collection says, hold back on ignorance (law 7), and tell how far they are.
 */
import type { KubeObject, Resource } from "../api/index.ts";
import type { Collection } from "../collections/index.ts";
import type { KubeClient } from "./client.ts";
import { type Conflict, Conflicts } from "./conflicts.ts";
import { Comparison } from "./diff.ts";
import { Expectations } from "./expectations.ts";
import { defaultMark, type Mark } from "./mark.ts";
import type { Applied } from "./objects.ts";
import { RowIndex } from "./rows.ts";
import { Stale, Writer } from "./writer.ts";

export interface SinkOptions<T extends KubeObject> {
  client: KubeClient;
  resource: Resource<T>;
  /** What we want, in objects of the names that the rows' metadata says, whatever the rows' keys are. */
  desired: Collection<Applied<T>>;
  /** What the API has, keyed by `nameOf`, with our manager's entries of managedFields. */
  observed: Collection<T>;
  /** What marks the kind's whole objects as ours; `managed-by: weft` unless told. */
  mark?: Mark;
  /**
   * The key of the desired row that would make this object, where it can be told from the object. Without
   * it, what is found at our start is only taken back when everything that `desired` depends on has been heard.
   */
  rowKey?: (object: T) => string | undefined;
  /** Writes under way at one time; 8 unless told. */
  concurrency?: number;
  /** Called when a conflict comes (or its message changes) and, with undefined, when it goes. */
  onConflict?: (name: string, conflict: Conflict | undefined, object: T | undefined) => void;
  /** A write failed and will be tried again. */
  onError?: (name: string, error: unknown) => void;
}

export interface SinkState {
  /** The objects that cannot be as desired because of others, keyed by name. */
  readonly conflicts: Collection<Conflict>;
  /** Age of the oldest change that has not been written, in milliseconds. */
  readonly lag: number;
  /** Objects that wait for a write. */
  readonly waiting: number;
  /** Objects left alone because something they depend on has not been heard yet (law 7). */
  readonly held: number;
  /** Resolves when nothing is left to write; what is held or in conflict does not count. */
  idle(): Promise<void>;
  stop(): void;
}

export abstract class Sink<T extends KubeObject> implements SinkState {
  protected readonly options: SinkOptions<T>;
  protected readonly client: KubeClient;
  protected readonly resource: Resource<T>;
  protected readonly wholeMark: Mark;
  protected readonly writer: Writer;
  protected readonly rows: RowIndex<Applied<T>>;
  protected readonly expected: Expectations<T>;
  protected readonly main: Comparison;
  protected readonly status: Comparison;
  readonly #conflicts: Conflicts;
  readonly #held = new Set<string>();
  readonly #unsubscribe: (() => void)[];
  #started = false;

  constructor(options: SinkOptions<T>, manager: string) {
    const { client, desired, observed } = options;
    this.options = options;
    this.client = client;
    this.resource = options.resource;
    this.wholeMark = options.mark ?? defaultMark;
    this.writer = new Writer({
      world: client.world,
      concurrency: options.concurrency ?? 8,
      step: (name) => this.#step(name),
      onError: (name, error) => {
        this.countFailure();
        options.onError?.(name, error);
      },
    });
    this.rows = new RowIndex(desired);
    this.expected = new Expectations(client.world, observed, (name) => this.writer.mark(name));
    this.#conflicts = new Conflicts(desired);
    this.main = new Comparison(manager);
    this.status = new Comparison(manager, "status");
    this.#unsubscribe = [
      desired.subscribe((changes) => {
        for (const change of changes) this.#mark(this.rows.change(change));
        this.#wake();
      }),
      observed.subscribe((changes) => {
        for (const { key, before, after } of changes) {
          if (before && !after) this.expected.observedGone(key, before);
          this.#mark([key]);
        }
        this.#wake();
      }),
    ];
  }

  /** Starts writing as soon as `observed` is complete. Called once, when the sink is whole. */
  begin(): this {
    this.#wake();
    return this;
  }

  get conflicts(): Collection<Conflict> {
    return this.#conflicts.collection;
  }

  get lag(): number {
    return this.writer.lag;
  }

  get waiting(): number {
    return this.writer.size;
  }

  get held(): number {
    return this.#held.size;
  }

  idle(): Promise<void> {
    return this.writer.idle();
  }

  stop(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.expected.stop();
    this.writer.stop();
  }

  /** One look at one object; see `WriterOptions.step`. */
  protected abstract step(name: string): Promise<void> | undefined;
  /** The names to look at when the first complete view of what is there has come. */
  protected abstract namesAtStart(): Iterable<string>;
  protected abstract countFailure(): void;

  /** Whether what we want of this row (or its absence) is known; when not, the object is looked at again later. */
  protected isHeld(name: string, rowKey: string | undefined): boolean {
    if (this.options.desired.pending(rowKey).length === 0) return false;
    this.#held.add(name);
    return true;
  }

  /** Our picture of the object may be wrong: what the API has now stands until something newer is observed. */
  protected async look(name: string): Promise<void> {
    const before = this.expected.current(name);
    const found = await this.client.get(this.resource, name);
    if (found) this.expected.is(name, found);
    else this.expected.isGone(name, before?.metadata.uid);
  }

  /** What a write throws that was refused because the object is not what we saw. */
  protected async outdated(name: string, cause: unknown): Promise<Stale> {
    await this.look(name);
    return new Stale(`${this.resource.kind} ${name} changed meanwhile`, { cause });
  }

  protected conflict(name: string, conflict: Conflict | undefined, object: T | undefined): void {
    if (this.#conflicts.report(name, conflict)) this.options.onConflict?.(name, conflict, object);
  }

  #step(name: string): Promise<void> | undefined {
    this.#held.delete(name);
    return this.expected.isOverdue(name) ? this.look(name) : this.step(name);
  }

  #mark(names: Iterable<string>): void {
    if (this.#started) for (const name of names) this.writer.mark(name);
  }

  /** Starts with the first complete view of what is there; later looks again at what was held. */
  #wake(): void {
    if (this.#started) {
      this.#mark(this.#held);
      return;
    }
    if (this.options.observed.pending().length > 0) return;
    this.#started = true;
    this.#mark(this.namesAtStart());
  }
}
