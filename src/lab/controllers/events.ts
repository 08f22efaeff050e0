import { type Event, events as eventResource, type KubeObject } from "../../api/index.ts";
import type { KubeClient } from "../../kube/index.ts";
import { timestamp } from "../../world/index.ts";
import { safeAlphabet } from "./hash.ts";

/** Writes Events: the same words about the same object again only count up (client-go tools/record). */
export class Recorder {
  readonly #client: KubeClient;
  readonly #component: string;
  readonly #known = new Map<string, Promise<Event | undefined>>();
  #stopped = false;

  constructor(client: KubeClient, component: string) {
    this.#client = client;
    this.#component = component;
  }

  event(about: KubeObject, type: "Normal" | "Warning", reason: string, message: string): void {
    if (this.#stopped) return;
    const key = [about.metadata.uid, type, reason, message].join("\n");
    const before = this.#known.get(key) ?? Promise.resolve(undefined);
    const written = before
      .then((known) => this.#write(known, about, type, reason, message))
      .catch(() => undefined);
    this.#known.set(key, written);
    // Remembers enough to count up repetitions, and no more.
    if (this.#known.size > 1_000) {
      for (const oldest of this.#known.keys()) {
        this.#known.delete(oldest);
        break;
      }
    }
  }

  stop(): void {
    this.#stopped = true;
  }

  async #write(
    known: Event | undefined,
    about: KubeObject,
    type: string,
    reason: string,
    message: string,
  ): Promise<Event> {
    const { world } = this.#client;
    const now = timestamp(world);
    const { namespace, name, uid, resourceVersion } = about.metadata;
    if (known) {
      const { namespace, name } = known.metadata;
      return this.#client.patch(
        eventResource,
        { namespace, name },
        { count: (known.count ?? 1) + 1, lastTimestamp: now },
      );
    }
    const suffix = Array.from(world.bytes(10), (byte) => safeAlphabet[byte % safeAlphabet.length]).join("");
    return this.#client.create(eventResource, {
      metadata: { name: `${name}.${suffix}`, namespace: namespace ?? "default" },
      involvedObject: {
        apiVersion: about.apiVersion,
        kind: about.kind,
        namespace,
        name,
        uid,
        resourceVersion,
      },
      reason,
      message,
      source: { component: this.#component },
      firstTimestamp: now,
      lastTimestamp: now,
      count: 1,
      type,
      reportingComponent: this.#component,
      reportingInstance: "",
    } as never);
  }
}
