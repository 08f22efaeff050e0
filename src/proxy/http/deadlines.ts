import type { Timer, World } from "../../world/index.ts";
import { type Bearer, charge } from "./guard.ts";

/** Who is told when a deadline passes, and bears what it does then; `kind` is its own word for which one it was. */
export interface DeadlineOwner extends Bearer {
  onDeadline(kind: number): void;
}

/** A deadline that was set; one object may be set again and again. */
export class Deadline {
  readonly owner: DeadlineOwner;
  readonly kind: number;
  at = 0;
  previous: Deadline | undefined;
  next: Deadline | undefined;
  queue: Queue | undefined;

  constructor(owner: DeadlineOwner, kind: number) {
    this.owner = owner;
    this.kind = kind;
  }

  cancel(): void {
    this.queue?.remove(this);
  }
}

/** Deadlines of one duration: those set later are due later, so a list is always in order. */
class Queue {
  readonly duration: number;
  readonly #world: World;
  #first: Deadline | undefined;
  #last: Deadline | undefined;
  #timer: Timer | undefined;

  constructor(duration: number, world: World) {
    this.duration = duration;
    this.#world = world;
  }

  add(deadline: Deadline, now: number): void {
    deadline.at = now + this.duration;
    deadline.queue = this;
    deadline.previous = this.#last;
    deadline.next = undefined;
    if (this.#last) this.#last.next = deadline;
    else this.#first = deadline;
    this.#last = deadline;
    // A timer that is set may find that its deadline was cancelled: then it waits for the first that is left.
    if (!this.#timer) this.#arm(this.duration);
  }

  remove(deadline: Deadline): void {
    const { previous, next } = deadline;
    if (previous) previous.next = next;
    else this.#first = next;
    if (next) next.previous = previous;
    else this.#last = previous;
    deadline.queue = undefined;
    deadline.previous = undefined;
    deadline.next = undefined;
    if (this.#first) return;
    // Nothing to wait for: no timer holds the process.
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #arm(delay: number): void {
    this.#timer = this.#world.after(Math.max(0, delay), () => {
      this.#timer = undefined;
      const now = this.#world.monotonic();
      while (this.#first && this.#first.at <= now + 0.5) {
        const due = this.#first;
        this.remove(due);
        try {
          due.owner.onDeadline(due.kind);
        } catch (error) {
          charge(due.owner, error);
        }
      }
      if (this.#first && !this.#timer) this.#arm(this.#first.at - now);
    });
  }
}

/**
 * Timeouts of many requests at little cost: setting and cancelling one is a few pointers, and there is one timer of the
 * world for each duration, not for each request.
 */
export class Deadlines {
  readonly world: World;
  readonly #queues = new Map<number, Queue>();
  /** Says what should not have happened, for those who know of no request. */
  readonly bug: (error: unknown) => void;

  constructor(world: World, bug: (error: unknown) => void) {
    this.world = world;
    this.bug = bug;
  }

  /** Sets it to `duration` ms from now, also when it was set before. */
  set(deadline: Deadline, duration: number, now: number = this.world.monotonic()): void {
    deadline.queue?.remove(deadline);
    let queue = this.#queues.get(duration);
    if (!queue) {
      queue = new Queue(duration, this.world);
      this.#queues.set(duration, queue);
    }
    queue.add(deadline, now);
  }
}
