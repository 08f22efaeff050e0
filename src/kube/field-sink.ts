/**
 * Law 8, second half: fields on objects of others. Applied without force under a manager of their own, taken
 * back when no longer desired; the object itself is never made and never deleted.
 */
import type { KubeObject } from "../api/index.ts";
import { type ApiError, isFieldConflict, isOutdated } from "./errors.ts";
import { isMarked } from "./mark.ts";
import type { Applied } from "./objects.ts";
import { Sink, type SinkOptions, type SinkState } from "./sink.ts";
import { mainPart, ofObject, statusPart } from "./wanted.ts";

/**
 * A row may hold spec, labels, status or all of them. Objects with the mark are whole objects of ours and none
 * of this sink's business.
 */
export interface FieldSinkOptions<T extends KubeObject> extends SinkOptions<T> {
  /**
   * Field manager of this sink alone: server-side apply takes what a manager sends as all that it wants, so two
   * sinks of one kind must not share one. Begins with `weft` so that reflectors keep its entries.
   */
  manager: string;
}

export interface FieldWriteCounts {
  applied: number;
  statuses: number;
  /** Of the above, those that took fields back whole. */
  withdrawn: number;
  failed: number;
}

export interface FieldSink extends SinkState {
  readonly writes: Readonly<FieldWriteCounts>;
}

/** Starts writing as soon as `observed` is complete. */
export function fieldSink<T extends KubeObject>(options: FieldSinkOptions<T>): FieldSink {
  return new Fields(options).begin();
}

/** A conflict is tried again when the object or the wish changes, and else after this many milliseconds. */
const conflictRetry = 60_000;

class Fields<T extends KubeObject> extends Sink<T> implements FieldSink {
  readonly writes: FieldWriteCounts = { applied: 0, statuses: 0, withdrawn: 0, failed: 0 };
  readonly #manager: string;
  /** The wish and the object that met a conflict: while both are the same there is nothing to try. */
  readonly #refused = new Map<
    string,
    { row: unknown; version: string | undefined; timer: { cancel(): void } }
  >();

  constructor(options: FieldSinkOptions<T>) {
    super(options, options.manager);
    this.#manager = options.manager;
  }

  override stop(): void {
    for (const { timer } of this.#refused.values()) timer.cancel();
    super.stop();
  }

  protected override countFailure(): void {
    this.writes.failed++;
  }

  protected override namesAtStart(): Iterable<string> {
    return this.options.observed.keys();
  }

  protected override step(name: string): Promise<void> | undefined {
    const current = this.expected.current(name);
    const wanted = this.rows.of(name);
    if (!current || isMarked(current, this.wholeMark) || current.metadata.deletionTimestamp) {
      this.#forget(name, current);
      return undefined;
    }
    const key = wanted?.key ?? this.rows.last(name) ?? this.options.rowKey?.(current);
    if (!wanted && !this.main.ownsAny(current) && !this.status.ownsAny(current)) {
      this.#forget(name, current);
      return undefined;
    }
    if (this.isHeld(name, key)) return undefined;
    const row = wanted?.row;
    const refused = this.#refused.get(name);
    if (refused && refused.row === row && refused.version === current.metadata.resourceVersion)
      return undefined;
    const main = row ? mainPart(row) : {};
    const status = statusPart(this.client.world, row, current);
    if (!this.main.matches(name, row, main, current)) return this.#apply(name, row, main, current);
    if (!this.status.matches(name, row, status, current))
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
    // With the uid, apply changes this object or none, and makes none.
    const body = ofObject(current, fields) as unknown as Applied<T>;
    let made: T;
    try {
      made = await this.client.apply<T>(this.resource, body, {
        manager: this.#manager,
        ...(subresource && { subresource }),
      });
    } catch (error) {
      if (isFieldConflict(error)) return this.#refuse(name, row, current, error);
      throw isOutdated(error) ? await this.outdated(name, error) : error;
    }
    if (subresource) this.writes.statuses++;
    else this.writes.applied++;
    if (!row) this.writes.withdrawn++;
    (subresource ? this.status : this.main).wrote(name, row, fields, made);
    this.expected.is(name, made);
  }

  /** Others own what we want: said once, and tried again when something about it changes. */
  #refuse(name: string, row: Applied<T> | undefined, current: T, error: ApiError): void {
    const causes = error.details?.causes ?? [];
    const message = `${this.resource.kind} ${name}: ${error.status.message}`;
    const fields = causes.map(({ field }) => field ?? "").filter((field) => field !== "");
    this.#refused.get(name)?.timer.cancel();
    const timer = this.client.world.after(conflictRetry, () => {
      this.#refused.delete(name);
      this.writer.mark(name);
    });
    this.#refused.set(name, { row, version: current.metadata.resourceVersion, timer });
    this.conflict(name, { name, message, fields }, current);
  }

  /** Nothing is to be done about this object (any more). */
  #forget(name: string, current: T | undefined): void {
    this.#refused.get(name)?.timer.cancel();
    this.#refused.delete(name);
    this.conflict(name, undefined, current);
    if (this.rows.of(name)) return;
    this.main.forget(name);
    this.status.forget(name);
    this.rows.forget(name);
  }
}
