/** What one client has asked for of one kind of resources, what it was sent, and what it made of that. */
import type { Encoded, Kind } from "./encode/index.ts";

/** A resource that the client did not take. It goes on with the one before. */
export interface Rejection {
  name: string;
  version: string;
  /** In the client's words. */
  reason: string;
}

/** A response that has not been answered. */
interface Flight {
  nonce: number;
  resources: readonly Encoded[];
  removed: readonly string[];
  /** What the client had before of the resources, then of those removed. */
  before: readonly (string | undefined)[];
}

/**
 * A response with so many bytes is full; what is left comes after its answer. So a hundred proxies that connect at once
 * do not have a hundred whole configurations under way.
 */
const fullResponse = 256 * 1024;

/** What is to be sent next. */
export interface Batch {
  resources: Encoded[];
  removed: string[];
  /** What the client has of the resources, then of those removed. */
  before: (string | undefined)[];
}

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
  /** Names that have changed and wait for their push; some of them twice. */
  changed: string[] = [];
  /** Names to look at when the next response is made. */
  readonly due = new Set<string>();
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
      this.again.add(name);
      this.due.add(name);
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
    for (const name of this.changed) this.due.add(name);
    this.changed = [];
  }

  /**
   * What the client is to get of the names that are due. `mayRemove`: whether resources may be taken away now; those
   * that may not stay due.
   */
  take(mayRemove: boolean): Batch {
    const half = this.halves.shift();
    if (half) {
      // What has changed meanwhile is due anyway.
      const resources = half.filter((resource) => this.#find(resource.name)?.version === resource.version);
      return { resources, removed: [], before: resources.map(({ name }) => this.held.get(name)) };
    }
    const batch: Batch = { resources: [], removed: [], before: [] };
    const had: (string | undefined)[] = [];
    let bytes = 0;
    for (const name of this.due) {
      if (bytes >= fullResponse) break;
      if (!this.wants(name)) {
        this.due.delete(name);
        continue;
      }
      const wanted = this.#find(name);
      const has = this.held.get(name);
      if (!wanted && has !== undefined && !mayRemove) continue;
      this.due.delete(name);
      if (!wanted) {
        if (this.#removes(name, has)) {
          batch.removed.push(name);
          had.push(has);
        }
      } else if (this.#sends(wanted, has)) {
        batch.resources.push(wanted);
        batch.before.push(has);
        bytes += wanted.resource.length;
      }
      if (this.again.size > 0) this.again.delete(name);
    }
    batch.before.push(...had);
    return batch;
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
  sent(
    nonce: number,
    { resources, removed }: Omit<Flight, "nonce" | "before">,
    before: Flight["before"],
  ): void {
    for (const { name, version } of resources) this.held.set(name, version);
    for (const name of removed) this.held.delete(name);
    this.flight = { nonce, resources, removed, before };
  }

  /** The client took what was under way. */
  accepted(): void {
    const flight = this.flight;
    this.flight = undefined;
    if (!flight || this.rejected.size === 0) return;
    for (const { name } of flight.resources) this.rejected.delete(name);
  }

  /**
   * The client did not take what was under way, and goes on with what it had. Of several resources the halves are sent
   * on their own, until it is known which it was. Answers with the rejection when that is known.
   */
  refused(reason: string): Rejection | undefined {
    const flight = this.flight;
    this.flight = undefined;
    if (!flight) return undefined;
    const { resources, removed, before } = flight;
    const names = [...resources.map(({ name }) => name), ...removed];
    for (const [i, name] of names.entries()) {
      const version = before[i];
      if (version === undefined) this.held.delete(name);
      else this.held.set(name, version);
    }
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
}
