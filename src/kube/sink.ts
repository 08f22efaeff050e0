/**
 * Law 8, first half: whole objects that are ours. Makes the API's objects equal to a desired collection, by
 * server-side apply where they differ and by deletion where they are no longer desired.
 */
import { fieldManager, type KubeObject, type Resource } from "../api/index.ts";
import type { Collection } from "../collections/index.ts";
import type { Applied, KubeClient } from "./client.ts";
import { type Conflict, Conflicts } from "./conflicts.ts";
import { Comparison } from "./diff.ts";
import { isOutdated } from "./errors.ts";
import { Expectations } from "./expectations.ts";
import { defaultMark, isMarked, type Mark, markText } from "./mark.ts";
import { RowIndex } from "./rows.ts";
import { mainPart, ofObject, ofVersion, statusPart } from "./wanted.ts";
import { Stale, Writer } from "./writer.ts";

export interface ObjectSinkOptions<T extends KubeObject> {
  client: KubeClient;
  resource: Resource<T>;
  /** What we want; whatever the rows' keys are, an object's metadata says its name. Needs no mark. */
  desired: Collection<Applied<T>>;
  /** What the API has, keyed by `nameOf`, with our manager's entries of managedFields. */
  observed: Collection<T>;
  /** Put on all that this sink makes. No two sinks of one kind may share it; `managed-by: weft` unless told. */
  mark?: Mark;
  manager?: string;
  /**
   * The key of the desired row that would make this object, where it can be told from the object. Without
   * it, an object found at our start is only deleted when everything that `desired` depends on has been heard.
   */
  rowKey?: (object: T) => string | undefined;
  /** Writes under way at one time; 8 unless told. */
  concurrency?: number;
  /** Called when a conflict comes (or its message changes) and, with undefined, when it goes. */
  onConflict?: (name: string, conflict: Conflict | undefined, object: T | undefined) => void;
  /** A write failed and will be tried again. */
  onError?: (name: string, error: unknown) => void;
}

export interface WriteCounts {
  created: number;
  applied: number;
  statuses: number;
  deleted: number;
  failed: number;
}

export interface ObjectSink {
  readonly writes: Readonly<WriteCounts>;
  /** The objects that are in our way, keyed by name. */
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

/** Starts writing as soon as `observed` is complete. */
export function objectSink<T extends KubeObject>(options: ObjectSinkOptions<T>): ObjectSink {
  return new WholeObjects(options);
}

class WholeObjects<T extends KubeObject> implements ObjectSink {
  readonly writes: WriteCounts = { created: 0, applied: 0, statuses: 0, deleted: 0, failed: 0 };
  readonly #conflicts: Conflicts;
  readonly #options: ObjectSinkOptions<T>;
  readonly #client: KubeClient;
  readonly #resource: Resource<T>;
  readonly #ownMark: Mark;
  readonly #manager: string;
  readonly #writer: Writer;
  readonly #rows: RowIndex<Applied<T>>;
  readonly #expected: Expectations<T>;
  readonly #main: Comparison;
  readonly #status: Comparison;
  readonly #held = new Set<string>();
  readonly #unsubscribe: (() => void)[];
  #started = false;

  constructor(options: ObjectSinkOptions<T>) {
    const { client, desired, observed } = options;
    this.#options = options;
    this.#client = client;
    this.#resource = options.resource;
    this.#ownMark = options.mark ?? defaultMark;
    this.#manager = options.manager ?? fieldManager;
    this.#conflicts = new Conflicts(desired);
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
    this.#main = new Comparison(this.#manager);
    this.#status = new Comparison(this.#manager, "status");
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
    this.#expected.stop();
    this.#writer.stop();
  }

  #mark(names: Iterable<string>): void {
    if (this.#started) for (const name of names) this.#writer.mark(name);
  }

  /** Starts with the first complete view of what is there; later looks again at what was held. */
  #wake(): void {
    const { observed } = this.#options;
    if (this.#started) {
      this.#mark(this.#held);
      return;
    }
    if (observed.pending().length > 0) return;
    this.#started = true;
    this.#mark(this.#rows.names());
    for (const [name, object] of observed.entries()) if (isMarked(object, this.#ownMark)) this.#mark([name]);
  }

  /** One look at one object; see `WriterOptions.step`. */
  #step(name: string): Promise<void> | undefined {
    this.#held.delete(name);
    if (this.#expected.isOverdue(name)) return this.#look(name);
    const wanted = this.#rows.of(name);
    const current = this.#expected.current(name);
    return wanted ? this.#wanted(name, wanted.key, wanted.row, current) : this.#unwanted(name, current);
  }

  #wanted(name: string, key: string, row: Applied<T>, current: T | undefined): Promise<void> | undefined {
    if (this.#options.desired.pending(key).length > 0) return this.#hold(name);
    if (current && !isMarked(current, this.#ownMark)) return this.#inTheWay(name, current);
    this.#conflict(name, undefined, current);
    const main = mainPart(row, this.#ownMark);
    if (!current) return this.#create(name, row, main);
    // It is made anew when it is gone; until then nothing can be done.
    if (current.metadata.deletionTimestamp) return undefined;
    if (!this.#main.matches(name, row, main, current)) return this.#apply(name, row, main, current);
    const status = statusPart(this.#client.world, row, current);
    if (!this.#status.matches(name, row, status, current))
      return this.#applyStatus(name, row, status, current);
    return undefined;
  }

  #unwanted(name: string, current: T | undefined): Promise<void> | undefined {
    this.#conflict(name, undefined, current);
    this.#main.forget(name);
    this.#status.forget(name);
    if (!current || !isMarked(current, this.#ownMark)) {
      this.#rows.forget(name);
      return undefined;
    }
    if (current.metadata.deletionTimestamp) return undefined;
    const row = this.#rows.last(name) ?? this.#options.rowKey?.(current);
    if (this.#options.desired.pending(row).length > 0) return this.#hold(name);
    return this.#delete(name, current);
  }

  #hold(name: string): undefined {
    this.#held.add(name);
    return undefined;
  }

  /**
   * Server-side apply has no "only create", and `observed` may lag: look first, take no field by force, and
   * take our hand off again should someone have been faster even so.
   */
  async #create(name: string, row: Applied<T>, main: object): Promise<void> {
    const found = await this.#client.get(this.#resource, name);
    if (found) return this.#expected.is(name, found);
    const made = await this.#client.apply<T>(this.#resource, main as Applied<T>, { manager: this.#manager });
    if (made.metadata.managedFields?.some(({ manager }) => manager !== this.#manager)) {
      const nothing = ofObject(made, {}) as unknown as Applied<T>;
      const released = await this.#client.apply<T>(this.#resource, nothing, { manager: this.#manager });
      return this.#expected.is(name, released);
    }
    this.writes.created++;
    this.#wrote(this.#main, name, row, main, made);
  }

  async #apply(name: string, row: Applied<T>, main: object, current: T): Promise<void> {
    const made = await this.#send(name, ofVersion(current, main));
    this.writes.applied++;
    this.#wrote(this.#main, name, row, main, made);
  }

  async #applyStatus(name: string, row: Applied<T>, status: object, current: T): Promise<void> {
    const made = await this.#send(name, ofVersion(current, status), "status");
    this.writes.statuses++;
    this.#wrote(this.#status, name, row, status, made);
  }

  /** Only what we have seen is overwritten: since then the object may have become someone else's. */
  async #send(name: string, body: object, subresource?: string): Promise<T> {
    try {
      return await this.#client.apply<T>(this.#resource, body as Applied<T>, {
        manager: this.#manager,
        force: true,
        ...(subresource && { subresource }),
      });
    } catch (error) {
      throw isOutdated(error) ? await this.#outdated(name, error) : error;
    }
  }

  #wrote(comparison: Comparison, name: string, row: Applied<T>, wanted: object, made: T): void {
    comparison.wrote(name, row, wanted, made);
    this.#expected.is(name, made);
  }

  async #delete(name: string, current: T): Promise<void> {
    const { uid, resourceVersion } = current.metadata;
    try {
      const preconditions = { ...(uid && { uid }), ...(resourceVersion && { resourceVersion }) };
      await this.#client.delete(this.#resource, name, preconditions);
    } catch (error) {
      throw isOutdated(error) ? await this.#outdated(name, error) : error;
    }
    this.writes.deleted++;
    this.#expected.isGone(name, uid);
  }

  async #outdated(name: string, cause: unknown): Promise<Stale> {
    await this.#look(name);
    return new Stale(`${this.#resource.kind} ${name} changed meanwhile`, { cause });
  }

  /** Our picture of the object may be wrong: what the API has now stands until something newer is observed. */
  async #look(name: string): Promise<void> {
    const before = this.#expected.current(name);
    const found = await this.#client.get(this.#resource, name);
    if (found) this.#expected.is(name, found);
    else this.#expected.isGone(name, before?.metadata.uid);
  }

  #inTheWay(name: string, object: T): undefined {
    const message = `${this.#resource.kind} ${name} exists and is not Weft's: it is not ${markText(this.#ownMark)}`;
    this.#conflict(name, { name, message, fields: [] }, object);
    return undefined;
  }

  #conflict(name: string, conflict: Conflict | undefined, object: T | undefined): void {
    if (this.#conflicts.report(name, conflict)) this.#options.onConflict?.(name, conflict, object);
  }
}
