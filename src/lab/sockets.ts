/** Two sockets as one connection. */
import type { Duplex } from "node:stream";

/** How long the last words may take to be read once who said them is gone. Milliseconds. */
const lastWords = 30_000;

/**
 * Passes on what each says until both are done. Of who is gone, however it went, the other still gets all that it
 * had said: it is ended, not destroyed, and read on, for closing a socket that holds unread input resets it, and the
 * peer then loses what it has not read yet.
 */
export function joinSockets(one: Duplex, other: Duplex): void {
  for (const [from, to] of [
    [one, other],
    [other, one],
  ] as const) {
    from.on("error", () => {});
    from.once("close", () => {
      if (to.destroyed) return;
      to.end();
      to.resume();
      const late = setTimeout(() => to.destroy(), lastWords);
      late.unref();
      to.once("close", () => clearTimeout(late));
    });
    from.pipe(to);
  }
}
