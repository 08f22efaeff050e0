/**
 * Law 8, second half: fields on objects of others. Applied without force under a manager of their own, taken
 * back when no longer desired; the object itself is never made and never deleted.
 */
import type { KubeObject, Resource } from "../api/index.ts";
import type { Collection } from "../collections/index.ts";
import type { Applied, KubeClient } from "./client.ts";
import { type Conflict, Conflicts } from "./conflicts.ts";
import { Comparison } from "./diff.ts";
import { type ApiError, isFieldConflict, isOutdated } from "./errors.ts";
import { Expectations } from "./expectations.ts";
import { defaultMark, isMarked, type Mark } from "./mark.ts";
import { RowIndex } from "./rows.ts";
import { mainPart, ofObject, statusPart } from "./wanted.ts";
import { Stale, Writer } from "./writer.ts";

export interface FieldSinkOptions<T extends KubeObject> {
  client: KubeClient;
  resource: Resource<T>;
  /** The fields that we want, in objects of the names given; a row may hold spec, labels, status or all of them. */
  desired: Collection<Applied<T>>;
  /** What the API has, keyed by `nameOf`, with our manager's entries of managedFields. */
  observed: Collection<T>;
  /**
   * Field manager of this sink alone: server-side apply takes what a manager sends as all that it wants, so two
   * sinks of one kind must not share one. Begins with `weft` so that reflectors keep its entries.
   */
  manager: string;
  /** Objects with these labels are whole objects of ours and none of this sink's business. */
  mark?: Mark;
  /** The key of the desired row for an object, where it can be told; see `ObjectSinkOptions.rowKey`. */
  rowKey?: (object: T) => string | undefined;
  /** Writes under way at one time; 8 unless told. */
  concurrency?: number;
  /** Called when a conflict comes (or its message changes) and, with undefined, when it goes. */
  onConflict?: (name: string, conflict: Conflict | undefined, object: T | undefined) => void;
  /** A write failed and will be tried again. */
  onError?: (name: string, error: unknown) => void;
}

export interface FieldWriteCounts {
  applied: number;
  statuses: number;
  /** Of the above, those that took fields back whole. */
  withdrawn: number;
  failed: number;
}

export interface FieldSink {
  readonly writes: Readonly<FieldWriteCounts>;
  /** Objects whose fields others own, keyed by name. */
  readonly conflicts: Collection<Conflict>;
  /** Age of the oldest change that has not been written, in milliseconds. */
  readonly lag: number;
  readonly waiting: number;
  /** Objects left alone because something they depend on has not been heard yet (law 7). */
  readonly held: number;
  /** Resolves when nothing is left to write; what is held or in conflict does not count. */
  idle(): Promise<void>;
  stop(): void;
}

/** Starts writing as soon as `observed` is complete. */
export function fieldSink<T extends KubeObject>(options: FieldSinkOptions<T>): FieldSink {
  return new Fields(options);
}

/** A conflict is tried again when the object or the wish changes, and else after this many milliseconds. */
const conflictRetry = 60_000;

class Fields<T extends KubeObject> implements FieldSink {
  readonly writes: FieldWriteCounts = { applied: 0, statuses: 0, withdrawn: 0, failed: 0 };
  readonly #options: FieldSinkOptions<T>;
  readonly #client: KubeClient;
  readonly #wholeMark: Mark;
  readonly #writer: Writer;
  readonly #rows: RowIndex<Applied<T>>;
  readonly #expected: Expectations<T>;
  readonly #conflicts: Conflicts;
  readonly #main: Comparison;
  readonly #status: Comparison;
  readonly #held = new Set<string>();
  /** The wish and the object that met a conflict: while both are the same there is nothing to try. */
  readonly #refused = new Map<
    string,
    { row: unknown; version: string | undefined; timer: { cancel(): void } }
  >();
  readonly #unsubscribe: (() => void)[];
  #started = false;

  constructor(options: FieldSinkOptions<T>) {
    const { client, desired, observed } = options;
    this.#options = options;
    this.#client = client;
    this.#wholeMark = options.mark ?? defaultMark;
    this.#writer = new Writer({
      world: client.world,
      concurrency: options.concurrency ?? 8,
      step: (name) => this.#step(name),
      onError: (name, error) => {
        this.writes.failed++;
        options.onError?.(name, error);
      },
    });
    this.#rows = new RowIndex(desired);
    this.#expected = new Expectations(client.world, observed, (name) => this.#writer.mark(name));
    this.#conflicts = new Conflicts(desired);
    this.#main = new Comparison(options.manager);
    this.#status = new Comparison(options.manager, "status");
    this.#unsubscribe = [
      desired.subscribe((changes) => {
        for (const change of changes) this.#mark(this.#rows.change(change));
        this.#wake();
      }),
      observed.subscribe((changes) => {
        for (const { key, before, after } of changes) {
          if (before && !after) this.#expected.observedGone(key, before);
          this.#mark([key]);
        }
        this.#wake();
      }),
    ];
    this.#wake();
  }

  get conflicts(): Collection<Conflict> {
    return this.#conflicts.collection;
  }

  get lag(): number {
    return this.#writer.lag;
  }

  get waiting(): number {
    return this.#writer.size;
  }

  get held(): number {
    return this.#held.size;
  }

  idle(): Promise<void> {
    return this.#writer.idle();
  }

  stop(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    for (const { timer } of this.#refused.values()) timer.cancel();
    this.#expected.stop();
    this.#writer.stop();
  }

  #mark(names: Iterable<string>): void {
    if (this.#started) for (const name of names) this.#writer.mark(name);
  }

  #wake(): void {
    const { observed } = this.#options;
    if (this.#started) {
      this.#mark(this.#held);
      return;
    }
    if (observed.pending().length > 0) return;
    this.#started = true;
    this.#mark(observed.keys());
  }

  #step(name: string): Promise<void> | undefined {
    this.#held.delete(name);
    if (this.#expected.isOverdue(name)) return this.#look(name);
    const current = this.#expected.current(name);
    const wanted = this.#rows.of(name);
    if (!current || isMarked(current, this.#wholeMark) || current.metadata.deletionTimestamp) {
      this.#forget(name, current);
      return undefined;
    }
    const key = wanted?.key ?? this.#rows.last(name) ?? this.#options.rowKey?.(current);
    if (!wanted && !this.#main.ownsAny(current) && !this.#status.ownsAny(current)) {
      this.#forget(name, current);
      return undefined;
    }
    if (this.#options.desired.pending(key).length > 0) {
      this.#held.add(name);
      return undefined;
    }
    const row = wanted?.row;
    const refused = this.#refused.get(name);
    if (refused && refused.row === row && refused.version === current.metadata.resourceVersion)
      return undefined;
    const main = row ? mainPart(row) : {};
    const status = statusPart(this.#client.world, row, current);
    if (!this.#main.matches(name, row, main, current)) return this.#apply(name, row, main, current);
    if (!this.#status.matches(name, row, status, current))
      return this.#apply(name, row, status, current, "status");
    this.#forget(name, current);
    return undefined;
  }

  async #apply(
    name: string,
    row: Applied<T> | undefined,
    fields: object,
    current: T,
    subresource?: "status",
  ): Promise<void> {
    const { resource, manager } = this.#options;
    // With the uid, apply changes this object or none, and makes none.
    const body = ofObject(current, fields) as unknown as Applied<T>;
    let made: T;
    try {
      made = await this.#client.apply<T>(resource, body, { manager, ...(subresource && { subresource }) });
    } catch (error) {
      if (isFieldConflict(error)) return this.#refuse(name, row, current, error);
      if (!isOutdated(error)) throw error;
      await this.#look(name);
      throw new Stale(`${resource.kind} ${name} changed meanwhile`, { cause: error });
    }
    if (subresource) this.writes.statuses++;
    else this.writes.applied++;
    if (!row) this.writes.withdrawn++;
    (subresource ? this.#status : this.#main).wrote(name, row, fields, made);
    this.#expected.is(name, made);
  }

  /** Others own what we want: said once, and tried again when something about it changes. */
  #refuse(name: string, row: Applied<T> | undefined, current: T, error: ApiError): void {
    const causes = error.details?.causes ?? [];
    const message = `${this.#options.resource.kind} ${name}: ${error.status.message}`;
    const fields = causes.map(({ field }) => field ?? "").filter((field) => field !== "");
    this.#refused.get(name)?.timer.cancel();
    const timer = this.#client.world.after(conflictRetry, () => {
      this.#refused.delete(name);
      this.#writer.mark(name);
    });
    this.#refused.set(name, { row, version: current.metadata.resourceVersion, timer });
    this.#conflict(name, { name, message, fields }, current);
  }

  async #look(name: string): Promise<void> {
    const before = this.#expected.current(name);
    const found = await this.#client.get(this.#options.resource, name);
    if (found) this.#expected.is(name, found);
    else this.#expected.isGone(name, before?.metadata.uid);
  }

  /** Nothing is to be done about this object (any more). */
  #forget(name: string, current: T | undefined): void {
    this.#refused.get(name)?.timer.cancel();
    this.#refused.delete(name);
    this.#conflict(name, undefined, current);
    if (this.#rows.of(name)) return;
    this.#main.forget(name);
    this.#status.forget(name);
    this.#rows.forget(name);
  }

  #conflict(name: string, conflict: Conflict | undefined, object: T | undefined): void {
    if (this.#conflicts.report(name, conflict)) this.#options.onConflict?.(name, conflict, object);
  }
}
