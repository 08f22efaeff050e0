/**
 * Who is sent much at one time. When all proxies connect at once, or something changes that all of them have in full,
 * long responses go out a few at a time, in the order in which they were asked for, and the next when one has left
 * this process: so only a few take memory, however slow the network is.
 */
import type { Timer, World } from "../world/index.ts";

/** Takes turns. */
export interface Turn {
  /** It may go on. */
  resume(): void;
}

/** How many are sent to at a time. */
const places = 8;
/** A place is kept for this long, ms; who is slower takes another turn. */
const patience = 500;

export class Pacer {
  readonly #world: World;
  readonly #places: number;
  readonly #inside = new Map<Turn, Timer>();
  readonly #waiting = new Set<Turn>();

  constructor(world: World, width = places) {
    this.#world = world;
    this.#places = width;
  }

  /** Whether it may be sent much now. If not, `resume` is called when it may. */
  enter(turn: Turn): boolean {
    if (this.#inside.has(turn)) return true;
    if (this.#inside.size < this.#places && this.#waiting.size === 0) {
      this.#admit(turn);
      return true;
    }
    this.#waiting.add(turn);
    return false;
  }

  /** Whether it has a place now, and so is to leave it. */
  has(turn: Turn): boolean {
    return this.#inside.has(turn);
  }

  /** What it was sent has left, or it is gone. */
  leave(turn: Turn): void {
    this.#waiting.delete(turn);
    const timer = this.#inside.get(turn);
    if (!timer) return;
    timer.cancel();
    this.#inside.delete(turn);
    while (this.#inside.size < this.#places) {
      const [next] = this.#waiting;
      if (!next) return;
      this.#waiting.delete(next);
      this.#admit(next);
      next.resume();
    }
  }

  #admit(turn: Turn): void {
    this.#inside.set(
      turn,
      this.#world.after(patience, () => this.leave(turn)),
    );
  }
}
