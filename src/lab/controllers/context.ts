import {
  type KubeObject,
  type LabelSelector,
  nameOf,
  namespaces,
  type Pod,
  pathOf,
  pods,
  type Resource,
  type Service,
} from "../../api/index.ts";
import {
  type DeleteOptions,
  type Draft,
  EventRecorder,
  isConflict,
  isForbidden,
  isNamespaceTerminating,
  isNotFound,
  type KubeClient,
  reflect,
} from "../../kube/index.ts";
import { timestamp, type World } from "../../world/index.ts";
import { ObjectCache } from "./cache.ts";
import { canonicalJson } from "./hash.ts";
import { controllerOf, controllerReference } from "./pods.ts";
import { ReconcileQueue, type ReconcileResult } from "./queue.ts";
import { selects, selectsMap } from "./selectors.ts";

/** Field manager of everything that the controllers write, as in Kubernetes. */
const manager = "kube-controller-manager";

export interface ContextOptions {
  world: World;
  client: KubeClient;
  /** Where failures go that are nobody's fault but ours; one line each. */
  log?: (line: string) => void;
}

/** The words that a write answers with, but with a status that may have any shape. */
type WithStatus = KubeObject & { status?: unknown };

/**
 * What all controllers of a cluster share: one cache per resource, however many controllers look at it, and
 * writes whose answers go straight into the caches.
 */
export class ControllerContext {
  readonly world: World;
  readonly client: KubeClient;
  readonly log: (line: string) => void;
  readonly #caches = new Map<string, ObjectCache<KubeObject>>();
  readonly #queues: ReconcileQueue[] = [];
  readonly #stopping = new AbortController();
  /** Resolves when every cache is complete. */
  readonly synced: Promise<void>;
  readonly #markSynced: () => void;
  #started = false;
  /** Whether every cache has been complete once. */
  isSynced = false;

  constructor(options: ContextOptions) {
    this.world = options.world;
    this.client = options.client;
    this.log = options.log ?? (() => {});
    const { promise, resolve } = Promise.withResolvers<void>();
    this.synced = promise;
    this.#markSynced = resolve;
  }

  get signal(): AbortSignal {
    return this.#stopping.signal;
  }

  /** The shared cache of a resource; it starts to fill at `start`. */
  cache<T extends KubeObject>(resource: Resource<T>): ObjectCache<T> {
    const path = pathOf(resource);
    const known = this.#caches.get(path);
    if (known) return known as unknown as ObjectCache<T>;
    const cache = new ObjectCache(resource);
    this.#caches.set(path, cache as unknown as ObjectCache<KubeObject>);
    if (this.#started) this.#fill(cache);
    return cache;
  }

  /** The cache of a resource, if any controller uses one. */
  sharedCache<T extends KubeObject>(resource: Resource<T>): ObjectCache<T> | undefined {
    return this.#caches.get(pathOf(resource)) as ObjectCache<T> | undefined;
  }

  /** A queue that starts to work when every cache is complete: nothing is done on ignorance (law 7). */
  queue(
    name: string,
    reconcile: (key: string) => Promise<ReconcileResult>,
    workers?: number,
  ): ReconcileQueue {
    const queue = new ReconcileQueue({
      world: this.world,
      workers,
      reconcile: async (key) => {
        if (!this.isSynced) await this.synced;
        return reconcile(key);
      },
      onError: (key, error, failures) => {
        // Someone was faster, or it is gone: the watch brings what is true now.
        if (this.isRace(error)) return;
        if (failures === 1 || failures % 10 === 0) this.log(`${name} ${key}: ${messageOf(error)}`);
      },
    });
    this.#queues.push(queue);
    return queue;
  }

  /** Starts all watches; resolves when every cache is complete. */
  async start(): Promise<void> {
    this.#started = true;
    for (const cache of this.#caches.values()) this.#fill(cache);
    await Promise.all([...this.#caches.values()].map((cache) => cache.synced));
    this.isSynced = true;
    this.#markSynced();
  }

  stop(): void {
    this.#stopping.abort();
    for (const queue of this.#queues) queue.stop();
  }

  /** Every queue is empty; for tests. */
  get idle(): boolean {
    return this.#queues.every((queue) => queue.idle);
  }

  timestamp(): string {
    return timestamp(this.world);
  }

  /** A controller's own voice in `kubectl describe`. */
  events(component: string): EventRecorder {
    return new EventRecorder({
      client: this.client,
      component,
      onError: (error) => {
        // A namespace that goes takes no more Events.
        if (!this.signal.aborted && !isForbidden(error) && !isNotFound(error)) {
          this.log(`${component}: event: ${messageOf(error)}`);
        }
      },
    });
  }

  /** The pods that a Service's selector matches. */
  podsOf(service: Service): Pod[] {
    const selector = service.spec?.selector;
    if (!selector) return [];
    return this.cache(pods)
      .inNamespace(service.metadata.namespace)
      .filter((pod) => selectsMap(selector, pod.metadata.labels));
  }

  /** Whether a write failed only because someone else was faster: changed it, deleted it, or its namespace. */
  isRace(error: unknown): boolean {
    return isConflict(error) || isNotFound(error) || isNamespaceTerminating(error);
  }

  namespaceIsGoing(object: KubeObject): boolean {
    const namespace = this.cache(namespaces).get(object.metadata.namespace ?? "");
    return !namespace || namespace.metadata.deletionTimestamp !== undefined;
  }

  async create<T extends KubeObject>(resource: Resource<T>, object: Draft<T>): Promise<T> {
    return this.#known(resource, await this.client.create(resource, object, { manager }));
  }

  /** Writes the object as it was read; a Conflict says that someone was faster. */
  async replace<T extends KubeObject>(resource: Resource<T>, object: T): Promise<T> {
    return this.#known(resource, await this.client.replace(resource, object as Draft<T>, { manager }));
  }

  /** Writes the status, if it differs from what the object has. */
  async replaceStatus<T extends WithStatus>(
    resource: Resource<T>,
    object: T,
    status: NonNullable<T["status"]>,
  ): Promise<void> {
    if (canonicalJson(status) === canonicalJson(object.status ?? {})) return;
    const changed = { ...object, status } as unknown as Draft<T>;
    this.#known(resource, await this.client.replace(resource, changed, { subresource: "status", manager }));
  }

  /** A merge patch on exactly this object: not on another of the same name. */
  async patch<T extends KubeObject>(
    resource: Resource<T>,
    object: T,
    patch: Record<string, unknown>,
    subresource?: string,
  ): Promise<T> {
    const metadata = { ...(patch.metadata as object | undefined), uid: object.metadata.uid };
    return this.#known(
      resource,
      await this.client.patch(resource, nameOf(object), { ...patch, metadata }, { subresource, manager }),
    );
  }

  /** Deletes exactly this object; that it is gone already is success. */
  async remove<T extends KubeObject>(
    resource: Resource<T>,
    object: T,
    options: Pick<DeleteOptions, "propagationPolicy" | "gracePeriodSeconds"> = {},
  ): Promise<void> {
    const { namespace, name, uid } = object.metadata;
    const cache = this.#caches.get(pathOf(resource));
    try {
      const answer = await this.client.json<KubeObject>("DELETE", pathOf(resource, namespace, name), {
        body: {
          kind: "DeleteOptions",
          apiVersion: "v1",
          ...options,
          ...(uid === undefined ? {} : { preconditions: { uid } }),
        },
      });
      if (answer.kind === "Status" || answer.metadata.deletionTimestamp === undefined) {
        cache?.remove(nameOf(object), uid);
      } else {
        cache?.put(answer);
      }
    } catch (error) {
      // Gone, or replaced by another of its name: either way this one is no more.
      if (!isNotFound(error) && !isConflict(error)) throw error;
      cache?.remove(nameOf(object), uid);
    }
  }

  /**
   * The objects that `owner` controls: adopts those that its selector matches and nobody controls, releases
   * those that it controls and its selector no longer matches.
   * Source: pkg/controller/controller_ref_manager.go.
   */
  async claim<T extends KubeObject>(
    owner: KubeObject,
    selector: LabelSelector | undefined,
    resource: Resource<T>,
  ): Promise<T[]> {
    const cache = this.cache(resource);
    const claimed: T[] = [];
    for (const object of cache.ownedBy(owner.metadata.uid!)) {
      if (controllerOf(object)?.uid !== owner.metadata.uid) continue;
      if (selects(selector, object.metadata.labels) || owner.metadata.deletionTimestamp) {
        claimed.push(object);
      } else if (!object.metadata.deletionTimestamp) {
        const rest = (object.metadata.ownerReferences ?? []).filter((one) => one.uid !== owner.metadata.uid);
        await this.patch(resource, object, {
          metadata: { ownerReferences: rest, resourceVersion: object.metadata.resourceVersion },
        });
      }
    }
    if (owner.metadata.deletionTimestamp) return claimed;
    for (const object of cache.inNamespace(owner.metadata.namespace)) {
      if (controllerOf(object) || object.metadata.deletionTimestamp) continue;
      if (!selects(selector, object.metadata.labels)) continue;
      const references = [...(object.metadata.ownerReferences ?? []), controllerReference(owner)];
      claimed.push(
        await this.patch(resource, object, {
          metadata: { ownerReferences: references, resourceVersion: object.metadata.resourceVersion },
        }),
      );
    }
    return claimed;
  }

  #known<T extends KubeObject>(resource: Resource<T>, object: T): T {
    delete object.metadata.managedFields;
    (this.#caches.get(pathOf(resource)) as ObjectCache<T> | undefined)?.put(object);
    return object;
  }

  #fill<T extends KubeObject>(cache: ObjectCache<T>): void {
    const target = {
      replace: (objects: T[]) => cache.replace(objects),
      put: (object: T) => cache.put(object),
      remove: (key: string, last: T) => cache.remove(key, last.metadata.uid),
      synced: () => cache.markSynced(),
    };
    reflect(this.client, cache.resource, target, { signal: this.signal, keepManagedFieldsOf: null });
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
