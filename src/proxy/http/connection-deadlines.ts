/** The deadlines of a client's connection in HTTP/1.1. */
import { Deadline, type DeadlineOwner } from "./deadlines.ts";
import type { Manager } from "./manager.ts";

export const IDLE = 0;
export const HEADERS = 1;
export const LIFE = 2;
export const CLOSING = 3;

export class ConnectionDeadlines {
  readonly #manager: Manager;
  readonly #owner: DeadlineOwner;
  readonly #idle: Deadline;
  #head: Deadline | undefined;
  #life: Deadline | undefined;
  #closing: Deadline | undefined;

  constructor(manager: Manager, owner: DeadlineOwner) {
    this.#manager = manager;
    this.#owner = owner;
    this.#idle = new Deadline(owner, IDLE);
    const { maxConnectionDuration } = manager.settings;
    if (maxConnectionDuration > 0) {
      this.#life = new Deadline(owner, LIFE);
      manager.deadlines.set(this.#life, maxConnectionDuration);
    }
  }

  get closing(): boolean {
    return this.#closing !== undefined;
  }

  /** Nothing is being answered. */
  rest(): void {
    const { settings, deadlines } = this.#manager;
    if (settings.connectionIdleTimeout > 0) deadlines.set(this.#idle, settings.connectionIdleTimeout);
  }

  /** A head was begun: it has to be complete in time. */
  headBegun(): void {
    const { settings, deadlines } = this.#manager;
    if (settings.requestHeadersTimeout === 0 || this.#head) return;
    this.#head = new Deadline(this.#owner, HEADERS);
    deadlines.set(this.#head, settings.requestHeadersTimeout);
  }

  /** It is complete, or its time is over. */
  headOver(): void {
    this.#idle.cancel();
    this.#head?.cancel();
    this.#head = undefined;
  }

  /** Our side has ended: the other one has a while. */
  close(): void {
    this.#idle.cancel();
    this.#closing = new Deadline(this.#owner, CLOSING);
    const { settings, deadlines } = this.#manager;
    deadlines.set(this.#closing, Math.max(1, settings.delayedCloseTimeout));
  }

  cancel(): void {
    for (const deadline of [this.#idle, this.#head, this.#life, this.#closing]) deadline?.cancel();
  }
}
