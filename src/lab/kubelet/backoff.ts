/** Growing pauses: 10 s, then twice as long each time up to 5 minutes (kubelet's MaxContainerBackOff). */

const first = 10_000;
const most = 300_000;

/** Something that is tried again and again. Times are milliseconds. */
export class Backoff {
  #delay = 0;
  #last = 0;

  /** It is tried (again) now: the pause after the next failure grows. Starts over when it went well for long. */
  next(now: number): void {
    const startsOver = now - this.#last > 2 * most;
    this.#delay = this.#delay === 0 || startsOver ? first : Math.min(this.#delay * 2, most);
    this.#last = now;
  }

  /** When the next try may be made, counted from the last failure. */
  until(failedAt: number): number {
    return failedAt + this.#delay;
  }

  reset(): void {
    this.#delay = 0;
  }

  /** The current pause, as messages say it: `10s`, `2m40s`, `5m0s`. */
  get text(): string {
    const seconds = Math.round(this.#delay / 1000);
    return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`;
  }
}
