/** The changes of one kind in a store without a log: they are kept in memory. */
import type { KeptChanges, StoreEvent } from "./store.ts";

/** At most so many events (and a quarter more), and so many bytes of JSON where that is known (the last stays). */
const historyLength = 2048;
const historyBytes = 8 * 1024 * 1024;

export class RecentChanges implements KeptChanges {
  #events: StoreEvent[] = [];
  #bytes = 0;
  compacted = 0;

  since(revision: number): StoreEvent[] {
    let from = this.#events.length;
    while (from > 0 && this.#events[from - 1]!.revision > revision) from--;
    return this.#events.slice(from);
  }

  /** Keeps it, and forgets the oldest beyond what is to be kept. */
  add(event: StoreEvent): void {
    this.#events.push(event);
    this.#bytes += event.size;
    if (this.#events.length <= historyLength * 1.25 && this.#bytes <= historyBytes * 1.25) return;
    let drop = Math.max(0, this.#events.length - historyLength);
    let freed = 0;
    for (let i = 0; i < this.#events.length - 1; i++) {
      if (i >= drop && this.#bytes - freed <= historyBytes) break;
      freed += this.#events[i]!.size;
      drop = Math.max(drop, i + 1);
    }
    this.#bytes -= freed;
    this.compacted = this.#events.splice(0, drop).at(-1)?.revision ?? this.compacted;
  }
}
