import { randomFillSync } from "node:crypto";
import type { World } from "./index.ts";

/** The machine's own clock, timers and randomness. */
export function realWorld(): World {
  return {
    now: () => Date.now(),
    monotonic: () => performance.now(),
    after(delay, wake) {
      const timer = setTimeout(wake, delay);
      return { cancel: () => clearTimeout(timer) };
    },
    random: () => Math.random(),
    bytes: (length) => randomFillSync(new Uint8Array(length)),
  };
}
