/**
 * Events for people, as core/v1 Events: what `kubectl describe` and `kubectl get events` show.
 * Repetition and rate follow client-go `tools/record/events_cache.go`.
 */
import { type Event, events } from "../api/index.ts";
import { timestamp, type World } from "../world/index.ts";
import type { KubeClient } from "./client.ts";
import { isNotFound } from "./errors.ts";

export interface EventRecorderOptions {
  client: KubeClient;
  /** Who reports, e.g. `weft` or `kubelet`. */
  component: string;
  /** The node or pod that it runs on. */
  host?: string;
  /** An Event could not be written; it is lost. */
  onError?: (error: unknown) => void;
}

/** What an Event is about; an object, or as much of one as is known. */
export interface EventSubject {
  apiVersion?: string;
  kind?: string;
  metadata: { namespace?: string; name: string; uid?: string; resourceVersion?: string };
}

/** So many different Events about one object at once, then one per `refill` ms. */
const burst = 25;
const refill = 300_000;
/** Events that are remembered in order to count their repetitions. */
const remembered = 4096;
/** A repetition later than this is a new Event: the API server forgets Events after an hour. */
const forgotten = 3_000_000;

interface Known {
  ref: { namespace: string; name: string };
  count: number;
  at: number;
}

export class EventRecorder {
  readonly #client: KubeClient;
  readonly #world: World;
  readonly #options: EventRecorderOptions;
  /** By everything but time and count; the least recently used first. */
  readonly #known = new Map<string, Known>();
  readonly #budgets = new Map<string, { left: number; at: number }>();
  #writing: Promise<void> = Promise.resolve();
  /** The last moment that names an Event, in nanoseconds since the epoch. */
  #moment = 0n;

  constructor(options: EventRecorderOptions) {
    this.#options = options;
    this.#client = options.client;
    this.#world = options.client.world;
  }

  normal(subject: EventSubject, reason: string, message: string, fieldPath?: string): void {
    this.#record("Normal", subject, reason, message, fieldPath);
  }

  warning(subject: EventSubject, reason: string, message: string, fieldPath?: string): void {
    this.#record("Warning", subject, reason, message, fieldPath);
  }

  /** Resolves when all that was recorded so far has been written or given up. */
  flush(): Promise<void> {
    return this.#writing;
  }

  /** Never throws and never waits: an Event is not worth disturbing what it reports. */
  #record(
    type: "Normal" | "Warning",
    subject: EventSubject,
    reason: string,
    message: string,
    fieldPath: string | undefined,
  ): void {
    const { namespace, name, uid } = subject.metadata;
    const object = [subject.kind, namespace, name, uid].join("\n");
    const key = [object, type, reason, message, fieldPath].join("\n");
    const time = timestamp(this.#world);
    if (!this.#mayWrite(object)) return;
    this.#writing = this.#writing
      .then(() => this.#write(key, type, subject, reason, message, fieldPath, time))
      .catch((error: unknown) => this.#options.onError?.(error));
  }

  async #write(
    key: string,
    type: string,
    subject: EventSubject,
    reason: string,
    message: string,
    fieldPath: string | undefined,
    time: string,
  ): Promise<void> {
    const known = this.#known.get(key);
    if (known && this.#world.monotonic() - known.at < forgotten) {
      try {
        const count = known.count + 1;
        await this.#client.patch(
          events,
          known.ref,
          { count, lastTimestamp: time },
          { manager: this.#options.component },
        );
        this.#remember(key, { ref: known.ref, count, at: this.#world.monotonic() });
        return;
      } catch (error) {
        if (!isNotFound(error)) throw error;
      }
    }
    const { component, host } = this.#options;
    const { namespace, name, uid, resourceVersion } = subject.metadata;
    const ref = { namespace: namespace ?? "default", name: `${name}.${this.#nextMoment().toString(16)}` };
    const event: Event = {
      apiVersion: "v1",
      kind: "Event",
      metadata: ref,
      involvedObject: {
        ...(subject.kind && { kind: subject.kind }),
        ...(subject.apiVersion && { apiVersion: subject.apiVersion }),
        ...(namespace && { namespace }),
        name,
        ...(uid && { uid }),
        ...(resourceVersion && { resourceVersion }),
        ...(fieldPath && { fieldPath }),
      },
      type,
      reason,
      message: message.length > 1024 ? `${message.slice(0, 1021)}...` : message,
      source: { component, ...(host && { host }) },
      reportingComponent: component,
      reportingInstance: host ?? "",
      firstTimestamp: time,
      lastTimestamp: time,
      count: 1,
    };
    await this.#client.create(events, event, { manager: component });
    this.#remember(key, { ref, count: 1, at: this.#world.monotonic() });
  }

  /**
   * The time, in nanoseconds, later than the last one. Events are named by it, as client-go names them: kubectl
   * shows those of one second in the order of their names. The part that no clock gives keeps recorders apart.
   */
  #nextMoment(): bigint {
    const [low = 0, high = 0] = this.#world.bytes(2);
    const now = BigInt(this.#world.now()) * 1_000_000n;
    const least = this.#moment + 1n;
    this.#moment = (now > least ? now : least) + BigInt(high * 256 + low);
    return this.#moment;
  }

  #remember(key: string, known: Known): void {
    this.#known.delete(key);
    this.#known.set(key, known);
    if (this.#known.size > remembered) this.#known.delete(this.#known.keys().next().value!);
  }

  /** A token bucket per object, so that one in trouble does not drown the others. */
  #mayWrite(object: string): boolean {
    const now = this.#world.monotonic();
    const budget = this.#budgets.get(object) ?? { left: burst, at: now };
    budget.left = Math.min(burst, budget.left + (now - budget.at) / refill);
    budget.at = now;
    this.#budgets.delete(object);
    this.#budgets.set(object, budget);
    if (this.#budgets.size > remembered) this.#budgets.delete(this.#budgets.keys().next().value!);
    if (budget.left < 1) return false;
    budget.left--;
    return true;
  }
}
