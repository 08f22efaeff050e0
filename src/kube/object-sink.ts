/**
 * Law 8, first half: whole objects that are ours. Makes the API's objects equal to a desired collection, by
 * server-side apply where they differ and by deletion where they are no longer desired.
 */
import { fieldManager, type KubeObject } from "../api/index.ts";
import type { Comparison } from "./diff.ts";
import { isOutdated } from "./errors.ts";
import { isMarked, markText } from "./mark.ts";
import type { Applied } from "./objects.ts";
import { Sink, type SinkOptions, type SinkState } from "./sink.ts";
import { mainPart, ofObject, ofVersion, statusPart } from "./wanted.ts";

export interface ObjectSinkOptions<T extends KubeObject> extends SinkOptions<T> {
  /** `weft` unless told. The mark is put on all that this sink makes; no two sinks of one kind may share it. */
  manager?: string;
}

export interface WriteCounts {
  created: number;
  applied: number;
  statuses: number;
  deleted: number;
  failed: number;
}

export interface ObjectSink extends SinkState {
  readonly writes: Readonly<WriteCounts>;
}

/** Starts writing as soon as `observed` is complete. */
export function objectSink<T extends KubeObject>(options: ObjectSinkOptions<T>): ObjectSink {
  return new WholeObjects(options).begin();
}

class WholeObjects<T extends KubeObject> extends Sink<T> implements ObjectSink {
  readonly writes: WriteCounts = { created: 0, applied: 0, statuses: 0, deleted: 0, failed: 0 };
  readonly #manager: string;

  constructor(options: ObjectSinkOptions<T>) {
    const manager = options.manager ?? fieldManager;
    super(options, manager);
    this.#manager = manager;
  }

  protected override countFailure(): void {
    this.writes.failed++;
  }

  protected override *namesAtStart(): Iterable<string> {
    yield* this.rows.names();
    for (const [name, object] of this.options.observed.entries()) {
      if (isMarked(object, this.wholeMark)) yield name;
    }
  }

  protected override step(name: string): Promise<void> | undefined {
    const wanted = this.rows.of(name);
    const current = this.expected.current(name);
    return wanted ? this.#wanted(name, wanted.key, wanted.row, current) : this.#unwanted(name, current);
  }

  #wanted(name: string, key: string, row: Applied<T>, current: T | undefined): Promise<void> | undefined {
    if (this.isHeld(name, key)) return undefined;
    if (current && !isMarked(current, this.wholeMark)) return this.#inTheWay(name, current);
    this.conflict(name, undefined, current);
    const main = mainPart(row, this.wholeMark);
    if (!current) return this.#create(name, row, main);
    // It is made anew when it is gone; until then nothing can be done.
    if (current.metadata.deletionTimestamp) return undefined;
    if (!this.main.matches(name, row, main, current)) return this.#apply(name, row, main, current);
    const status = statusPart(this.client.world, row, current);
    if (!this.status.matches(name, row, status, current))
      return this.#applyStatus(name, row, status, current);
    return undefined;
  }

  #unwanted(name: string, current: T | undefined): Promise<void> | undefined {
    this.conflict(name, undefined, current);
    this.main.forget(name);
    this.status.forget(name);
    if (!current || !isMarked(current, this.wholeMark)) {
      this.rows.forget(name);
      return undefined;
    }
    if (current.metadata.deletionTimestamp) return undefined;
    if (this.isHeld(name, this.rows.last(name) ?? this.options.rowKey?.(current))) return undefined;
    return this.#delete(name, current);
  }

  /**
   * Server-side apply has no "only create", and `observed` may lag: look first, take no field by force, and
   * take our hand off again should someone have been faster even so.
   */
  async #create(name: string, row: Applied<T>, main: object): Promise<void> {
    const found = await this.client.get(this.resource, name);
    if (found) return this.expected.is(name, found);
    const made = await this.client.apply<T>(this.resource, main as Applied<T>, { manager: this.#manager });
    if (made.metadata.managedFields?.some(({ manager }) => manager !== this.#manager)) {
      const nothing = ofObject(made, {}) as unknown as Applied<T>;
      const released = await this.client.apply<T>(this.resource, nothing, { manager: this.#manager });
      return this.expected.is(name, released);
    }
    this.writes.created++;
    this.#wrote(this.main, name, row, main, made);
  }

  async #apply(name: string, row: Applied<T>, main: object, current: T): Promise<void> {
    const made = await this.#send(name, ofVersion(current, main));
    this.writes.applied++;
    this.#wrote(this.main, name, row, main, made);
  }

  async #applyStatus(name: string, row: Applied<T>, status: object, current: T): Promise<void> {
    const made = await this.#send(name, ofVersion(current, status), "status");
    this.writes.statuses++;
    this.#wrote(this.status, name, row, status, made);
  }

  /** Only what we have seen is overwritten: since then the object may have become someone else's. */
  async #send(name: string, body: object, subresource?: string): Promise<T> {
    try {
      return await this.client.apply<T>(this.resource, body as Applied<T>, {
        manager: this.#manager,
        force: true,
        ...(subresource && { subresource }),
      });
    } catch (error) {
      throw isOutdated(error) ? await this.outdated(name, error) : error;
    }
  }

  #wrote(comparison: Comparison, name: string, row: Applied<T>, wanted: object, made: T): void {
    comparison.wrote(name, row, wanted, made);
    this.expected.is(name, made);
  }

  async #delete(name: string, current: T): Promise<void> {
    const { uid, resourceVersion } = current.metadata;
    try {
      const preconditions = { ...(uid && { uid }), ...(resourceVersion && { resourceVersion }) };
      await this.client.delete(this.resource, name, preconditions);
    } catch (error) {
      throw isOutdated(error) ? await this.outdated(name, error) : error;
    }
    this.writes.deleted++;
    this.expected.isGone(name, uid);
  }

  #inTheWay(name: string, object: T): undefined {
    const message = `${this.resource.kind} ${name} exists and is not Weft's: it is not ${markText(this.wholeMark)}`;
    this.conflict(name, { name, message, fields: [] }, object);
    return undefined;
  }
}
