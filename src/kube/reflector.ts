/**
 * Keeps a target equal to what one API server has of one kind: list, then watch, for as long as we live.
 * Protocol: Kubernetes API concepts "Efficient detection of changes"; WatchList is KEP-3157.
 */
import { fieldManager, type KubeObject, nameOf, type Resource } from "../api/index.ts";
import { sleep, type World } from "../world/index.ts";
import { type KubeClient, withKind } from "./client.ts";
import { ApiError, apiError, isGone, ProtocolError } from "./errors.ts";
import type { Selection, WatchEvent } from "./options.ts";
import { unreachableReason } from "./unreachable.ts";

/**
 * What a reflector feeds. All calls of one batch come in one go, with no await between them, so that nobody
 * sees a state that the server never had (law 5). Between batches the target equals the server's state at
 * some moment, and moments only move forward.
 */
export interface ReflectTarget<T> {
  /** These are all the objects there are; what is not among them is gone. */
  replace(objects: T[]): void;
  put(object: T): void;
  /** `key` as `nameOf` makes it; `last` is the object as it was when it was deleted. */
  remove(key: string, last: T): void;
  /** Once, with the first complete list. */
  synced?(): void;
  /** After each batch, the one of `synced` included. */
  settled?(): void;
}

export type ReflectState =
  | { state: "syncing" }
  | { state: "synced" }
  /** What we have is complete, but the server has not been heard since (ms since the epoch). */
  | { state: "stale"; since: number; reason: string }
  /** The server refuses, or was never reached; `error` has the particulars. */
  | { state: "error"; reason: string; error: unknown };

export interface ReflectOptions<T extends KubeObject> extends Selection {
  /** Ends the reflection; nothing is handed over afterwards. */
  signal?: AbortSignal;
  onState?: (state: ReflectState) => void;
  /** Makes objects lean before they are kept, or drops them (undefined: as if it were not there). */
  transform?: (object: T) => T | undefined;
  /** Whose entries of managedFields are kept: `weft` (and `weft-…`) unless told, null for nobody's. */
  keepManagedFieldsOf?: string | null;
  /**
   * Milliseconds without a byte, on a server that sends bookmarks, until a watch is opened anew from where it
   * was, which shows whether the server is still there; 90 s unless told.
   */
  silence?: number;
  /** Most milliseconds between two tries; 5 s unless told. */
  longestBackoff?: number;
}

export interface Reflection {
  readonly state: ReflectState;
  /** Milliseconds of the monotonic clock when the server last said anything, be it no; or undefined. */
  readonly heardAt: number | undefined;
  /** How often everything was listed; 1 on a good day. */
  readonly lists: number;
  /**
   * Opens the watch anew from where it was, at once: for whoever knows that the server can be reached again. A
   * connection that lived through an outage of the network may stay silent for a minute or two after it.
   */
  again(): void;
  stop(): void;
}

const firstBackoff = 100;
const defaultLongestBackoff = 5_000;
const defaultSilence = 90_000;
/** A server that says nothing for so long while it should send initial events does not know WatchList. */
const initialEventsSilence = 5_000;
/** Requested life of a watch, in seconds, spread so that many watches do not end together. */
const watchLife = { least: 300, spread: 300 };
/** A watch that ends sooner than this without an event counts as a failure. */
const shortWatch = 1_000;
/** So many attempts in a row may be over sooner than that, well or not, before each further one has to wait. */
const mostHasty = 5;
/** So many resumptions refused or answered with garbage in a row, and we list anew: our place may be the trouble. */
const resumptions = 3;

const initialEventsEnd = "k8s.io/initial-events-end";

/** Starts at once; ends with the signal or `stop()`. */
export function reflect<T extends KubeObject>(
  client: KubeClient,
  resource: Resource<T>,
  target: ReflectTarget<T>,
  options: ReflectOptions<T> = {},
): Reflection {
  return new Reflector(client, resource, target, options);
}

/** Thrown inside the reflector: the state must be taken anew. */
class Relist extends Error {}
/** Thrown inside the reflector: the server does not offer WatchList. */
class NoWatchList extends Error {}

class Reflector<T extends KubeObject> implements Reflection {
  state: ReflectState = { state: "syncing" };
  heardAt: number | undefined;
  lists = 0;
  readonly #client: KubeClient;
  readonly #world: World;
  readonly #resource: Resource<T>;
  readonly #target: ReflectTarget<T>;
  readonly #options: ReflectOptions<T>;
  readonly #stop = new AbortController();
  readonly #keep: string | null;
  #synced = false;
  #heardWallClock = 0;
  /** Where to resume; empty when everything must be taken anew. */
  #resourceVersion = "";
  /** Whether this server has sent a bookmark: only then is silence a sign of death. */
  #bookmarks = false;
  /** Consecutive failures without anything new in between. */
  #failures = 0;
  /** Those among them in which the server was there, but we did not understand each other. */
  #misunderstandings = 0;
  /** Whether the attempt under way got us further. */
  #progress = false;
  /** Ends the attempt, or the pause before the next one. */
  #hurry: (() => void) | undefined;

  constructor(
    client: KubeClient,
    resource: Resource<T>,
    target: ReflectTarget<T>,
    options: ReflectOptions<T>,
  ) {
    this.#client = client;
    this.#world = client.world;
    this.#resource = resource;
    this.#target = target;
    this.#options = options;
    this.#keep = options.keepManagedFieldsOf === undefined ? fieldManager : options.keepManagedFieldsOf;
    if (options.signal?.aborted) this.stop();
    else options.signal?.addEventListener("abort", () => this.stop(), { once: true });
    void this.#run();
  }

  stop(): void {
    this.#stop.abort();
  }

  again(): void {
    this.#hurry?.();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    // Attempts in a row that took no time: WatchList refused, a list, a watch that is outdated, a list, a watch are
    // five that may be. A server that ends every watch after one event is not to be asked as fast as it answers.
    let hasty = 0;
    while (!signal.aborted) {
      this.#progress = false;
      const began = this.#world.monotonic();
      const inTime = () => {
        hasty = this.#world.monotonic() - began < shortWatch ? hasty + 1 : 0;
        return hasty <= mostHasty;
      };
      try {
        if (this.#resourceVersion === "") await this.#takeAll();
        else await this.#follow();
        if (inTime()) continue;
      } catch (error) {
        if (signal.aborted) return;
        if (this.#progress) this.#failures = this.#misunderstandings = 0;
        if (error instanceof NoWatchList) {
          this.#client.watchList = "no";
          continue;
        }
        const mayContinue = inTime();
        this.#failures++;
        if (error instanceof Relist) {
          this.#resourceVersion = "";
          // The first relist is nothing out of the ordinary; more of them in a row are.
          if (this.#failures === 1 && mayContinue) continue;
        } else if (error instanceof ApiError || error instanceof ProtocolError) {
          if (++this.#misunderstandings >= resumptions) this.#resourceVersion = "";
        }
        this.#report(error);
      }
      const pause = new AbortController();
      this.#hurry = () => pause.abort();
      const ended = AbortSignal.any([signal, pause.signal]);
      await sleep(this.#world, this.#backoff(hasty - mostHasty), ended).catch(() => {});
    }
  }

  /** Takes all there is, with WatchList where the server offers it, and goes on watching on the same stream. */
  async #takeAll(): Promise<void> {
    if (this.#client.watchList !== "no") return this.#follow({ initial: true });
    const list = await this.#client.list(this.#resource, { ...this.#selection(), signal: this.#stop.signal });
    if (this.#stop.signal.aborted) return;
    this.#heard();
    this.#replaceAll(list.items, list.resourceVersion);
  }

  /** One watch, from where we are or (`initial`) with everything there is first. Returns when the server ends it. */
  async #follow({ initial = false } = {}): Promise<void> {
    const world = this.#world;
    const attempt = new AbortController();
    const end = () => attempt.abort(this.#stop.signal.reason);
    let hurried = false;
    this.#hurry = () => {
      hurried = true;
      end();
    };
    this.#stop.signal.addEventListener("abort", end, { once: true });
    const began = world.monotonic();
    const watchdog = new Watchdog(world);
    let initialObjects: Map<string, T> | undefined = initial ? new Map() : undefined;
    let events = 0;
    try {
      const timeoutSeconds = Math.round(watchLife.least + watchLife.spread * world.random());
      const watch = await this.#client
        .watch(this.#resource, {
          ...this.#selection(),
          signal: attempt.signal,
          timeoutSeconds,
          ...(initial
            ? { sendInitialEvents: true, resourceVersionMatch: "NotOlderThan" as const }
            : { resourceVersion: this.#resourceVersion }),
        })
        .catch((error) => {
          throw initial ? unsupported(error) : outdated(error);
        });
      this.#heard();
      if (!initial) this.#set({ state: "synced" });
      const batches = watch[Symbol.asyncIterator]();
      for (;;) {
        const patience = initialObjects
          ? initialEventsSilence
          : this.#bookmarks
            ? (this.#options.silence ?? defaultSilence)
            : // No bookmarks: the end that we asked for is the only sign of life to wait for.
              began + timeoutSeconds * 1000 + defaultSilence - world.monotonic();
        const next = await watchdog.within(Math.max(patience, 1), batches.next());
        if (next === silent) {
          if (initialObjects && this.#client.watchList === "unknown") throw new NoWatchList();
          if (initialObjects) throw new Error("the server fell silent before all initial events had come");
          // Nothing may have happened, even on servers that send bookmarks: a new watch will show.
          return;
        }
        if (attempt.signal.aborted) return;
        if (next.done) break;
        this.#heard();
        events += next.value.length;
        if (initialObjects) initialObjects = this.#collect(initialObjects, next.value);
        else this.#handOver(next.value);
      }
      if (initialObjects) throw new Error("the watch ended before all initial events had come");
      if (events === 0 && world.monotonic() - began < shortWatch) {
        throw new Error("the watch ended at once");
      }
    } catch (error) {
      if (!hurried) throw error;
    } finally {
      watchdog.stop();
      this.#stop.signal.removeEventListener("abort", end);
      attempt.abort();
      if (!initial && world.monotonic() - began >= shortWatch) this.#progress = true;
    }
  }

  /** Gathers initial events; with the bookmark that ends them all are handed over, and live events follow. */
  #collect(objects: Map<string, T>, events: WatchEvent<T>[]): Map<string, T> | undefined {
    for (const [index, event] of events.entries()) {
      if (event.type === "ADDED") {
        objects.set(nameOf(event.object.metadata ? event.object : malformed(event)), event.object);
      } else if (
        event.type === "BOOKMARK" &&
        event.object.metadata?.annotations?.[initialEventsEnd] === "true"
      ) {
        this.#client.watchList = "yes";
        this.#bookmarks = true;
        this.#replaceAll([...objects.values()], event.object.metadata.resourceVersion ?? "");
        const live = events.slice(index + 1);
        if (live.length > 0) this.#handOver(live);
        return undefined;
      } else if (event.type === "ERROR") {
        // A server that knows of WatchList but whose storage cannot do it says so here, as an internal error.
        throw cannotWatchList(this.#errorOf(event.object));
      } else if (this.#client.watchList === "unknown") {
        // An ordinary watch: changes come without the bookmark that we asked for.
        throw new NoWatchList();
      } else if (event.type === "DELETED") {
        objects.delete(nameOf(event.object));
      } else if (event.type === "MODIFIED") {
        objects.set(nameOf(event.object), event.object);
      }
    }
    return objects;
  }

  #replaceAll(objects: T[], resourceVersion: string): void {
    if (resourceVersion === "") throw new Error("the server gave the list no resourceVersion");
    const kept: T[] = [];
    for (const object of objects) {
      const lean = this.#lean(object);
      if (lean) kept.push(lean);
    }
    this.lists++;
    this.#target.replace(kept);
    if (!this.#synced) this.#target.synced?.();
    this.#target.settled?.();
    this.#synced = true;
    this.#resourceVersion = resourceVersion;
    this.#failures = this.#misunderstandings = 0;
    this.#progress = true;
    this.#set({ state: "synced" });
  }

  /** Hands over the events of one chunk. What precedes an ERROR event in it is handed over too. */
  #handOver(events: WatchEvent<T>[]): void {
    let changed = false;
    try {
      for (const event of events) {
        if (event.type === "ERROR") throw outdated(this.#errorOf(event.object));
        const { metadata } = event.object;
        if (!metadata?.resourceVersion) malformed(event);
        if (event.type === "BOOKMARK") this.#bookmarks = true;
        else {
          const object = event.type === "DELETED" ? undefined : this.#lean(event.object);
          if (object) this.#target.put(object);
          else this.#target.remove(nameOf(event.object), event.object);
          changed = true;
        }
        this.#resourceVersion = metadata.resourceVersion!;
        this.#progress = true;
      }
    } finally {
      if (changed) this.#target.settled?.();
    }
  }

  #lean(object: T): T | undefined {
    const full = withKind(this.#resource, object);
    const { managedFields } = full.metadata;
    if (managedFields) {
      const own =
        this.#keep === null
          ? []
          : managedFields.filter(
              ({ manager }) => manager === this.#keep || manager?.startsWith(`${this.#keep}-`),
            );
      if (own.length > 0) full.metadata.managedFields = own;
      else delete full.metadata.managedFields;
    }
    return this.#options.transform ? this.#options.transform(full) : full;
  }

  #errorOf(status: unknown): ApiError {
    const code = (status as { code?: number } | null)?.code ?? 500;
    return apiError(this.#client.cluster, code, JSON.stringify(status));
  }

  #selection(): Selection {
    const { namespace, labelSelector, fieldSelector } = this.#options;
    return {
      ...(namespace && { namespace }),
      ...(labelSelector && { labelSelector }),
      ...(fieldSelector && { fieldSelector }),
    };
  }

  #heard(): void {
    this.heardAt = this.#world.monotonic();
    this.#heardWallClock = this.#world.now();
  }

  #report(error: unknown): void {
    const reason = unreachableReason(error);
    const refused = error instanceof ApiError && error.code < 500;
    if (refused) this.#heard();
    if (this.#synced && !refused) {
      this.#set({ state: "stale", since: this.#heardWallClock, reason });
    } else {
      this.#set({ state: "error", reason, error });
    }
  }

  #set(state: ReflectState): void {
    const before = this.state;
    this.state = state;
    const same =
      before.state === state.state &&
      (before as { reason?: string }).reason === (state as { reason?: string }).reason;
    if (!same) this.#options.onState?.(state);
  }

  /** Doubles from 100 ms, spread by half, so that many clients do not come back together. */
  #backoff(hasty: number): number {
    const longest = this.#options.longestBackoff ?? defaultLongestBackoff;
    const full = Math.min(firstBackoff * 2 ** Math.min(Math.max(this.#failures, hasty) - 1, 20), longest);
    return full * (0.5 + 0.5 * this.#world.random());
  }
}

/** A refusal of our resourceVersion (410, or one from the future after a restore) asks for a new list. */
function outdated(error: unknown): unknown {
  const tooNew =
    error instanceof ApiError &&
    (error.details?.causes ?? []).some((cause) => cause.reason === "ResourceVersionTooLarge");
  return isGone(error) || tooNew
    ? new Relist(`our place in the watch is refused: ${(error as Error).message}`)
    : error;
}

/** Servers that know of WatchList but have it switched off, or do not know its parameters, say so with 400 or 422. */
function unsupported(error: unknown): unknown {
  const refused = error instanceof ApiError && (error.code === 400 || error.code === 422);
  return refused ? new NoWatchList() : outdated(error);
}

function cannotWatchList(error: unknown): unknown {
  const other = outdated(error);
  return other === error && error instanceof ApiError ? new NoWatchList() : other;
}

function malformed(event: unknown): never {
  throw new ProtocolError(`the server sent a malformed event: ${JSON.stringify(event).slice(0, 100)}`);
}

const silent = Symbol("silent");

/** Waits for something, but not for ever. One timer for the whole watch instead of one per event. */
class Watchdog {
  readonly #world: World;
  #deadline = 0;
  #timer: { at: number; cancel(): void } | undefined;
  #bark: (() => void) | undefined;

  constructor(world: World) {
    this.#world = world;
  }

  within<R>(patience: number, promise: Promise<R>): Promise<R | typeof silent> {
    this.#deadline = this.#world.monotonic() + patience;
    // A timer that fires early looks at the deadline again; one that would fire late is replaced.
    if (!this.#timer || this.#timer.at > this.#deadline) this.#arm();
    return new Promise((resolve, reject) => {
      this.#bark = () => resolve(silent);
      promise.then(resolve, reject);
    });
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#bark = undefined;
  }

  #arm(): void {
    this.#timer?.cancel();
    const at = this.#deadline;
    const timer = this.#world.after(at - this.#world.monotonic(), () => {
      this.#timer = undefined;
      if (this.#world.monotonic() >= this.#deadline) this.#bark?.();
      else this.#arm();
    });
    this.#timer = { at, cancel: () => timer.cancel() };
  }
}
