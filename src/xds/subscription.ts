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
  nonce: string;
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
}

export class Subscription {
  readonly kind: Kind;
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
  /** Names to look at when the next response is made. */
  readonly due = new Set<string>();
  /** Names to send though the client has the version: it asked again, or needs it again. */
  readonly again = new Set<string>();
  /** Names that the client asked for, and that were answered with "there is no such resource". */
  readonly absent = new Set<string>();
  flight: Flight | undefined;
  /** Halves of a response that was rejected, to be sent on their own until the culprit is found. */
  readonly halves: (readonly Encoded[])[] = [];

  constructor(kind: Kind) {
    this.kind = kind;
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

  /**
   * What the client is to get of the names that are due. `mayRemove`: whether resources may be taken away now; those
   * that may not stay due.
   */
  take(find: (name: string) => Encoded | undefined, mayRemove: boolean): Batch {
    const half = this.halves.shift();
    if (half) {
      // What has changed meanwhile is due anyway.
      const current = half.filter((resource) => find(resource.name)?.version === resource.version);
      return { resources: current, removed: [] };
    }
    const batch: Batch = { resources: [], removed: [] };
    let bytes = 0;
    for (const name of this.due) {
      if (bytes >= fullResponse) break;
      if (!this.wants(name)) {
        this.due.delete(name);
        continue;
      }
      const wanted = find(name);
      if (!wanted && this.held.has(name) && !mayRemove) continue;
      this.due.delete(name);
      if (!wanted) this.#remove(name, batch);
      else if (this.#add(wanted, batch)) bytes += wanted.resource.length;
      this.again.delete(name);
    }
    return batch;
  }

  /** Whether something would be sent that the client does not have: its removals aside. */
  hasNews(find: (name: string) => Encoded | undefined): boolean {
    if (this.halves.length > 0) return true;
    for (const name of this.due) {
      if (!this.wants(name)) continue;
      const wanted = find(name);
      if (wanted && this.held.get(name) !== wanted.version && !this.#isRejected(wanted)) return true;
    }
    return false;
  }

  #isRejected({ name, version }: Encoded): boolean {
    return this.rejected.get(name)?.version === version;
  }

  /** Whether it is sent. */
  #add(wanted: Encoded, batch: Batch): boolean {
    const { name, version } = wanted;
    this.absent.delete(name);
    if (this.#isRejected(wanted) && !this.again.has(name)) return false;
    if (this.held.get(name) === version) {
      // The way back to what it has: what it refused in between is no more.
      this.rejected.delete(name);
      if (!this.again.has(name)) return false;
    }
    batch.resources.push(wanted);
    return true;
  }

  #remove(name: string, batch: Batch): void {
    this.rejected.delete(name);
    // Who asks by name is told that there is none; everyone else only what they had.
    if (!this.held.has(name) && (!this.names.has(name) || this.absent.has(name))) return;
    this.absent.add(name);
    batch.removed.push(name);
  }

  /** It is on its way. */
  sent(nonce: string, { resources, removed }: Batch): void {
    const before: (string | undefined)[] = [];
    for (const { name, version } of resources) {
      before.push(this.held.get(name));
      this.held.set(name, version);
    }
    for (const name of removed) {
      before.push(this.held.get(name));
      this.held.delete(name);
    }
    this.flight = { nonce, resources, removed, before };
  }

  /** The client took what was under way; the names of it. */
  accepted(): readonly string[] {
    const flight = this.flight;
    this.flight = undefined;
    if (!flight) return [];
    for (const { name } of flight.resources) this.rejected.delete(name);
    return [...flight.resources.map(({ name }) => name), ...flight.removed];
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
