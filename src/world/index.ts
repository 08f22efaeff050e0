/**
 * The one door through which everything uncertain comes in (law 12): time, timers, randomness.
 * The network is the other uncertain thing; it comes in as a `Transport` (see `kube/transport.ts`).
 * Rooms are given a `World`; they never reach for `Date`, `setTimeout` or `Math.random` themselves.
 */

/** A timer that has been set and can be taken back. */
export interface Timer {
  cancel(): void;
}

export interface World {
  /** Wall clock, milliseconds since the epoch. May jump; use it for timestamps that people read. */
  now(): number;
  /** Monotonic clock, milliseconds since an arbitrary start. Use it for ages, deadlines and leases. */
  monotonic(): number;
  /** Calls `wake` once, after at least `delay` milliseconds. */
  after(delay: number, wake: () => void): Timer;
  /** A number in [0, 1). */
  random(): number;
  /** Random bytes, for uids and tokens. */
  bytes(length: number): Uint8Array;
}

/** Resolves after `delay` milliseconds of the world's time; rejects with the signal's reason when aborted. */
export function sleep(world: World, delay: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = () => {
      timer.cancel();
      reject(signal?.reason);
    };
    const timer = world.after(delay, () => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    });
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/** A version 4 UUID (RFC 9562) from the world's randomness. */
export function uuid(world: World): string {
  const bytes = world.bytes(16);
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = Buffer.from(bytes).toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** Kubernetes' timestamp: RFC 3339 in UTC with whole seconds, as metav1.Time is written. */
export function timestamp(world: World): string {
  return `${new Date(world.now()).toISOString().slice(0, 19)}Z`;
}

/** Kubernetes' finer timestamp: RFC 3339 in UTC with microseconds, as metav1.MicroTime is written. */
export function microTimestamp(world: World): string {
  return `${new Date(world.now()).toISOString().slice(0, 23)}000Z`;
}

export { realWorld } from "./real.ts";
export { SimulatedWorld } from "./simulated.ts";
