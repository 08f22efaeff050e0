/**
 * What our own writes left behind, until the watch shows it: without this a sink that is faster than its watch
 * would write everything twice.
 */
import type { KubeObject } from "../api/index.ts";
import type { Collection } from "../collections/index.ts";
import type { World } from "../world/index.ts";

/** How long a write may go unseen, in milliseconds, before the API is asked what became of it. */
const unseen = 5_000;

interface Expectation<T> {
  /** As the API answered our last write; undefined after a deletion. */
  object: T | undefined;
  /** The uid that our deletion was about. */
  deleted: string | undefined;
  overdue: boolean;
  timer: { cancel(): void };
}

export class Expectations<T extends KubeObject> {
  readonly #world: World;
  readonly #observed: Collection<T>;
  readonly #expected = new Map<string, Expectation<T>>();
  readonly #onOverdue: (name: string) => void;

  constructor(world: World, observed: Collection<T>, onOverdue: (name: string) => void) {
    this.#world = world;
    this.#observed = observed;
    this.#onOverdue = onOverdue;
  }

  /** What is there: as observed, or as our last write left it while that has not been observed yet. */
  current(name: string): T | undefined {
    const observed = this.#observed.get(name);
    const expected = this.#expected.get(name);
    if (!expected) return observed;
    const { object, deleted } = expected;
    if (object && (!observed || isOlder(observed, object))) return object;
    if (!object && observed && observed.metadata.uid === deleted) return undefined;
    this.forget(name);
    return observed;
  }

  /** The API answered a write or a read with this. */
  is(name: string, object: T): void {
    this.#set(name, object, undefined);
  }

  /** The API no longer has the object of this uid. */
  isGone(name: string, uid: string | undefined): void {
    this.#set(name, undefined, uid);
  }

  /** The watch has not shown our write for so long that the API should be asked. */
  isOverdue(name: string): boolean {
    return this.#expected.get(name)?.overdue ?? false;
  }

  /** The watch showed the end of an object: it came after whatever we wrote to it. */
  observedGone(name: string, object: T): void {
    if (this.#expected.get(name)?.object?.metadata.uid === object.metadata.uid) this.forget(name);
  }

  forget(name: string): void {
    this.#expected.get(name)?.timer.cancel();
    this.#expected.delete(name);
  }

  stop(): void {
    for (const { timer } of this.#expected.values()) timer.cancel();
    this.#expected.clear();
  }

  #set(name: string, object: T | undefined, deleted: string | undefined): void {
    this.#expected.get(name)?.timer.cancel();
    const timer = this.#world.after(unseen, () => {
      expectation.overdue = true;
      this.#onOverdue(name);
    });
    const expectation: Expectation<T> = { object, deleted, overdue: false, timer };
    this.#expected.set(name, expectation);
  }
}

/** resourceVersions are decimal numbers that grow with every write (KEP-5504), too long for some for a double. */
function isOlder(a: KubeObject, b: KubeObject): boolean {
  const left = a.metadata.resourceVersion ?? "";
  const right = b.metadata.resourceVersion ?? "";
  return left.length === right.length ? left < right : left.length < right.length;
}
