/** What one client has asked for of one kind of resources, what it was sent, and what it made of that. */
import type { Encoded, Kind } from "./encode/index.ts";
import { Names } from "./names.ts";
import type { Response } from "./response.ts";

/** A resource that the client did not take. It goes on with the one before. */
export interface Rejection {
  name: string;
  version: string;
  /** In the client's words. */
  reason: string;
}

/** A response that has not been answered. */
interface Flight {
  response: Response;
  /** What the client had before. */
  had: Had;
}

/** Versions that the client has of resources that are sent, and of those that are removed, in their order. */
interface Had {
  resources: readonly (string | undefined)[];
  removed: readonly (string | undefined)[];
}

/**
 * A response with so many bytes is full; what is left comes after its answer. So a hundred proxies that connect at once
 * do not have a hundred whole configurations under way.
 */
const fullResponse = 256 * 1024;

/** What is to be sent next. */
export class Batch {
  resources: readonly Encoded[] = none;
  removed: readonly string[] = none;
  readonly had = { resources: none as Had["resources"], removed: none as Had["removed"] };
  /** Of the resources. */
  bytes = 0;

  get isEmpty(): boolean {
    return this.resources.length + this.removed.length === 0;
  }
}

/** The list with one more. Most get no more than one, and an array that begins with it takes less than one that grows. */
function and<T>(list: readonly T[], more: T): readonly T[] {
  if (list.length === 0) return [more];
  (list as T[]).push(more);
  return list;
}
const none: readonly never[] = [];

export class Subscription {
  readonly kind: Kind;
  readonly #find: (name: string) => Encoded | undefined;
  /** The client has sent its first request for this kind. */
  started = false;
  /** It wants everything there is (listeners and clusters). */
  wildcard = false;
  /** A client that asked for all there is waits for an answer, also where there is nothing. */
  owed = false;
  readonly names = new Set<string>();
  /** Name → version that the client has, or will have once what is under way is answered. */
  readonly held = new Map<string, string>();
  readonly rejected = new Map<string, Rejection>();
  /** Names that have changed and wait for their push. */
  readonly changed = new Names();
  /** Names to look at when the next response is made. */
  readonly due = new Names();
  /** Names to send though the client has the version: it asked again, or needs it again. */
  readonly again = new Set<string>();
  /** Names that the client asked for, and that were answered with "there is no such resource". */
  readonly absent = new Set<string>();
  flight: Flight | undefined;
  /** Halves of a response that was rejected, to be sent on their own until the culprit is found. */
  readonly halves: (readonly Encoded[])[] = [];

  /** `find`: what the client is to have under a name. */
  constructor(kind: Kind, find: (name: string) => Encoded | undefined) {
    this.kind = kind;
    this.#find = find;
  }

  wants(name: string): boolean {
    return this.wildcard || this.names.has(name);
  }

  /** Everything that was sent has been answered, and nothing is to be sent. */
  get settled(): boolean {
    return !this.flight && !this.owed && this.due.size === 0 && this.halves.length === 0;
  }

  subscribe(names: readonly string[]): void {
    for (const name of names) {
      if (name === "*") {
        this.wildcard = true;
        continue;
      }
      this.names.add(name);
      this.due.add(name);
      if (this.held.has(name) || this.rejected.has(name)) this.again.add(name);
    }
  }

  unsubscribe(names: readonly string[]): void {
    for (const name of names) {
      if (name === "*") this.wildcard = false;
      this.names.delete(name);
      if (this.wildcard) continue;
      for (const known of [this.held, this.rejected, this.due, this.again, this.absent]) known.delete(name);
    }
  }

  /** What has changed so far is to be sent. */
  admit(): void {
    this.due.takeAll(this.changed);
  }

  /**
   * What the client is to get of the names that are due. `mayRemove`: whether resources may be taken away now; those
   * that may not stay due.
   */
  take(mayRemove: boolean): Batch {
    if (this.halves.length > 0) return this.#takeHalf(this.halves.shift()!);
    const batch = new Batch();
    const { due } = this;
    if (due.size === 1) {
      if (!this.#staysDue(due.first!, batch, mayRemove)) due.clear(); // as most changes find it
      return batch;
    }
    for (const name of due) {
      if (!this.#staysDue(name, batch, mayRemove)) due.delete(name);
      if (batch.bytes >= fullResponse) break;
    }
    return batch;
  }

  /** What has changed meanwhile is due anyway. */
  #takeHalf(half: readonly Encoded[]): Batch {
    const batch = new Batch();
    batch.resources = half.filter(({ name, version }) => this.#find(name)?.version === version);
    batch.had.resources = batch.resources.map(({ name }) => this.held.get(name));
    return batch;
  }

  /** Looks at a name that is due, and takes what is to be sent of it into the batch, if it may. */
  #staysDue(name: string, batch: Batch, mayRemove: boolean): boolean {
    if (!this.wants(name)) return false;
    const wanted = this.#find(name);
    const has = this.held.get(name);
    if (!wanted && has !== undefined && !mayRemove) return true;
    if (!wanted) {
      if (this.#removes(name, has)) {
        batch.removed = and(batch.removed, name);
        batch.had.removed = and(batch.had.removed, has);
      }
    } else if (this.#sends(wanted, has)) {
      batch.resources = and(batch.resources, wanted);
      batch.had.resources = and(batch.had.resources, has);
      batch.bytes += wanted.resource.length;
    }
    if (this.again.size > 0) this.again.delete(name);
    return false;
  }

  /** Whether something would be sent that the client does not have: its removals aside. */
  hasNews(): boolean {
    if (this.halves.length > 0) return true;
    for (const name of this.due) {
      if (!this.wants(name)) continue;
      const wanted = this.#find(name);
      if (wanted && this.held.get(name) !== wanted.version && !this.#isRejected(wanted)) return true;
    }
    return false;
  }

  #isRejected({ name, version }: Encoded): boolean {
    return this.rejected.get(name)?.version === version;
  }

  /** Whether it is sent to a client that has the version `has`. Most of these tables are empty: that is asked first. */
  #sends(wanted: Encoded, has: string | undefined): boolean {
    const { name, version } = wanted;
    if (this.absent.size > 0) this.absent.delete(name);
    const again = this.again.size > 0 && this.again.has(name);
    if (this.#isRejected(wanted) && !again) return false;
    if (has !== version) return true;
    // The way back to what it has: what it refused in between is no more.
    this.rejected.delete(name);
    return again;
  }

  /** Whether it is told: who asks by name is, once; everyone else only of what they had. */
  #removes(name: string, has: string | undefined): boolean {
    this.rejected.delete(name);
    if (has === undefined && (!this.names.has(name) || this.absent.has(name))) return false;
    this.absent.add(name);
    return true;
  }

  /** It is on its way. */
  sent(response: Response, had: Had): void {
    for (const { name, version } of response.resources) this.held.set(name, version);
    for (const name of response.removed) this.held.delete(name);
    this.flight = { response, had };
  }

  /** The client took what was under way. */
  accepted(): void {
    const flight = this.flight;
    this.flight = undefined;
    if (!flight || this.rejected.size === 0) return;
    for (const { name } of flight.response.resources) this.rejected.delete(name);
  }

  /**
   * The client did not take what was under way, and goes on with what it had. Of several resources the halves are sent
   * on their own, until it is known which it was. Answers with the rejection when that is known.
   */
  refused(reason: string): Rejection | undefined {
    const flight = this.flight;
    this.flight = undefined;
    if (!flight) return undefined;
    const { had, response } = flight;
    const { resources, removed } = response;
    for (const [i, { name }] of resources.entries()) this.#hadBefore(name, had.resources[i]);
    for (const [i, name] of removed.entries()) this.#hadBefore(name, had.removed[i]);
    // What was to go with them is told without them.
    for (const name of resources.length > 0 ? removed : []) {
      this.absent.delete(name);
      this.due.add(name);
    }
    const [only] = resources;
    if (only && resources.length === 1) {
      const rejection = { name: only.name, version: only.version, reason };
      this.rejected.set(only.name, rejection);
      return rejection;
    }
    if (resources.length > 1) {
      const middle = resources.length >> 1;
      this.halves.push(resources.slice(0, middle), resources.slice(middle));
    }
    return undefined;
  }

  #hadBefore(name: string, version: string | undefined): void {
    if (version === undefined) this.held.delete(name);
    else this.held.set(name, version);
  }
}
