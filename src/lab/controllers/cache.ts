import { type KubeObject, nameOf, type Resource } from "../../api/index.ts";

/** Called after an object appeared (no `before`), changed, or went (no `after`). */
export type CacheListener<T> = (before: T | undefined, after: T | undefined) => void;

/** How many deleted uids are remembered, so that a late answer to our own write does not bring one back. */
const buriedLimit = 2_000;

/**
 * All objects of one resource as every controller sees them: what the watch said, plus what our own writes were
 * answered with, whichever is newer. So a controller reads its own writes, and needs no count of expected
 * events to keep it from making a pod twice. Indexed by namespace and by owner.
 */
export class ObjectCache<T extends KubeObject> {
  readonly resource: Resource<T>;
  /** Resolves once the first list is complete. */
  readonly synced: Promise<void>;
  readonly #objects = new Map<string, T>();
  readonly #byNamespace = new Map<string, Map<string, T>>();
  readonly #byOwner = new Map<string, Map<string, T>>();
  readonly #listeners: CacheListener<T>[] = [];
  readonly #buried = new Set<string>();
  /** To be called when the first list is complete. */
  readonly markSynced: () => void;

  constructor(resource: Resource<T>) {
    this.resource = resource;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.synced = promise;
    this.markSynced = resolve;
  }

  /** The object called `namespace/name` (or `name`). */
  get(key: string): T | undefined {
    return this.#objects.get(key);
  }

  list(): Iterable<T> {
    return this.#objects.values();
  }

  keys(): Iterable<string> {
    return this.#objects.keys();
  }

  get size(): number {
    return this.#objects.size;
  }

  inNamespace(namespace: string | undefined): T[] {
    return [...(this.#byNamespace.get(namespace ?? "")?.values() ?? [])];
  }

  /** Objects that have the owner, whose uid is given, among their ownerReferences. */
  ownedBy(uid: string): T[] {
    return [...(this.#byOwner.get(uid)?.values() ?? [])];
  }

  onChange(listener: CacheListener<T>): void {
    this.#listeners.push(listener);
  }

  /** The watch's list: all there is. */
  replace(objects: Iterable<T>): void {
    const present = new Set<string>();
    for (const object of objects) {
      present.add(nameOf(object));
      this.put(object);
    }
    for (const key of [...this.#objects.keys()]) if (!present.has(key)) this.remove(key);
  }

  /** An object as the watch or the answer to a write has it. An older one than is known changes nothing. */
  put(object: T): void {
    const key = nameOf(object);
    const known = this.#objects.get(key);
    const { uid, resourceVersion } = object.metadata;
    if (uid !== undefined && this.#buried.has(uid)) return;
    if (known) {
      if (known.metadata.resourceVersion === resourceVersion && known.metadata.uid === uid) return;
      if (revision(known) > revision(object)) return;
      if (known.metadata.uid !== uid) this.#bury(known);
    }
    this.#set(key, known, object);
  }

  /** The watch says that the object is gone. `uid`: only if it is still that object. */
  remove(key: string, uid?: string): void {
    const known = this.#objects.get(key);
    if (!known || (uid !== undefined && known.metadata.uid !== uid)) return;
    this.#bury(known);
    this.#set(key, known, undefined);
  }

  #bury(object: T): void {
    if (object.metadata.uid === undefined) return;
    this.#buried.add(object.metadata.uid);
    if (this.#buried.size > buriedLimit) {
      for (const oldest of this.#buried) {
        this.#buried.delete(oldest);
        break;
      }
    }
  }

  #set(key: string, before: T | undefined, after: T | undefined): void {
    if (before) {
      take(this.#byNamespace, before.metadata.namespace ?? "", key);
      for (const owner of before.metadata.ownerReferences ?? []) take(this.#byOwner, owner.uid, key);
    }
    if (after) {
      this.#objects.set(key, after);
      place(this.#byNamespace, after.metadata.namespace ?? "", key, after);
      for (const owner of after.metadata.ownerReferences ?? []) place(this.#byOwner, owner.uid, key, after);
    } else {
      this.#objects.delete(key);
    }
    for (const listener of this.#listeners) listener(before, after);
  }
}

/** resourceVersions are decimal integers that grow with every write (apimachinery pkg/util/resourceversion). */
function revision(object: KubeObject): number {
  return Number(object.metadata.resourceVersion ?? 0);
}

function place<T>(index: Map<string, Map<string, T>>, group: string, key: string, value: T): void {
  const members = index.get(group);
  if (members) members.set(key, value);
  else index.set(group, new Map([[key, value]]));
}

function take<T>(index: Map<string, Map<string, T>>, group: string, key: string): void {
  const members = index.get(group);
  if (!members) return;
  members.delete(key);
  if (members.size === 0) index.delete(group);
}
