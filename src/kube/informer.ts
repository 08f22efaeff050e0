/** A plain cache of one kind of objects, with listeners: for the lab's controllers and the kubelet. */
import { type KubeObject, nameOf, type Resource } from "../api/index.ts";
import type { KubeClient } from "./client.ts";
import type { Ref } from "./objects.ts";
import { type Reflection, type ReflectOptions, type ReflectState, reflect } from "./reflector.ts";

/** What happened to one object: it came (no `before`), changed, or went (no `after`). */
export interface ObjectChange<T> {
  key: string;
  before: T | undefined;
  after: T | undefined;
}

export type ChangeListener<T> = (changes: ObjectChange<T>[]) => void;

export interface InformerOptions<T extends KubeObject> extends ReflectOptions<T> {
  /** Named ways to find objects: each gives the keys under which an object is found with `byIndex`. */
  indexes?: Record<string, (object: T) => readonly string[]>;
  /** Called with what a listener throws; the other listeners and the cache go on. Printed unless told. */
  onBug?: (error: unknown) => void;
}

/**
 * Starts when it is made. Objects in it are shared and must not be changed: copy before editing.
 * Listeners are called once per batch, when the cache already shows the whole batch.
 */
export class Informer<T extends KubeObject> {
  readonly resource: Resource<T>;
  readonly #objects = new Map<string, T>();
  readonly #indexes = new Map<string, Index<T>>();
  readonly #listeners = new Set<ChangeListener<T>>();
  readonly #whenSynced = Promise.withResolvers<void>();
  readonly #reflection: Reflection;
  readonly #onBug: (error: unknown) => void;
  #batch: ObjectChange<T>[] = [];
  #synced = false;

  constructor(client: KubeClient, resource: Resource<T>, options: InformerOptions<T> = {}) {
    this.resource = resource;
    this.#onBug = options.onBug ?? ((error) => console.error(error));
    for (const [name, keys] of Object.entries(options.indexes ?? {}))
      this.#indexes.set(name, new Index(keys));
    this.#reflection = reflect(
      client,
      resource,
      {
        replace: (objects) => this.#replace(objects),
        put: (object) => this.#set(nameOf(object), object),
        remove: (key) => this.#set(key, undefined),
        synced: () => {
          this.#synced = true;
        },
        settled: () => this.#settled(),
      },
      options,
    );
  }

  get(ref: Ref): T | undefined {
    return this.#objects.get(typeof ref === "string" ? ref : nameOf({ metadata: ref }));
  }

  /** All objects, or those of one namespace. */
  list(namespace?: string): T[] {
    const all = [...this.#objects.values()];
    return namespace === undefined ? all : all.filter((object) => object.metadata.namespace === namespace);
  }

  /** The objects that the index of that name has under `key`. */
  byIndex(name: string, key: string): T[] {
    const index = this.#indexes.get(name);
    if (!index) throw new RangeError(`no index is called ${name}`);
    return [...(index.keys.get(key) ?? [])].map((name) => this.#objects.get(name)!);
  }

  get size(): number {
    return this.#objects.size;
  }

  /** Whether the cache has been complete at least once. */
  get synced(): boolean {
    return this.#synced;
  }

  get state(): ReflectState {
    return this.#reflection.state;
  }

  /** Resolves when the cache is complete for the first time. */
  whenSynced(): Promise<void> {
    return this.#whenSynced.promise;
  }

  /** Calls `listener` for every batch from now on, first with all that is there already. */
  subscribe(listener: ChangeListener<T>): () => void {
    if (this.#objects.size > 0) {
      this.#tell(
        listener,
        [...this.#objects].map(([key, after]) => ({ key, before: undefined, after })),
      );
    }
    const own: ChangeListener<T> = (changes) => listener(changes);
    this.#listeners.add(own);
    return () => this.#listeners.delete(own);
  }

  /** Ends the watch; the cache stays as it is. */
  stop(): void {
    this.#reflection.stop();
  }

  #replace(objects: T[]): void {
    const gone = new Set(this.#objects.keys());
    for (const object of objects) {
      const key = nameOf(object);
      gone.delete(key);
      const before = this.#objects.get(key);
      const same =
        before !== undefined &&
        before.metadata.resourceVersion === object.metadata.resourceVersion &&
        before.metadata.uid === object.metadata.uid;
      if (!same) this.#set(key, object);
    }
    for (const key of gone) this.#set(key, undefined);
  }

  #set(key: string, after: T | undefined): void {
    const before = this.#objects.get(key);
    if (before === undefined && after === undefined) return;
    if (after === undefined) this.#objects.delete(key);
    else this.#objects.set(key, after);
    for (const index of this.#indexes.values()) index.move(key, before, after);
    this.#batch.push({ key, before, after });
  }

  #settled(): void {
    const batch = this.#batch;
    this.#batch = [];
    if (batch.length > 0) for (const listener of this.#listeners) this.#tell(listener, batch);
    if (this.#synced) this.#whenSynced.resolve();
  }

  #tell(listener: ChangeListener<T>, changes: ObjectChange<T>[]): void {
    try {
      listener(changes);
    } catch (error) {
      this.#onBug(error);
    }
  }
}

class Index<T> {
  readonly keys = new Map<string, Set<string>>();
  readonly #keysOf: (object: T) => readonly string[];

  constructor(keysOf: (object: T) => readonly string[]) {
    this.#keysOf = keysOf;
  }

  move(name: string, before: T | undefined, after: T | undefined): void {
    for (const key of before === undefined ? [] : this.#keysOf(before)) {
      const names = this.keys.get(key);
      names?.delete(name);
      if (names?.size === 0) this.keys.delete(key);
    }
    for (const key of after === undefined ? [] : this.#keysOf(after)) {
      const names = this.keys.get(key);
      if (names) names.add(name);
      else this.keys.set(key, new Set([name]));
    }
  }
}
