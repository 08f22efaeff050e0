/**
 * Where an exception ends. What runs here is called by sockets, streams and timers of the runtime: what they are thrown
 * ends the process. A mistake of ours is to cost one request or one connection, whoever it met, and is logged.
 */
export interface Bearer {
  /** Logs it, and gives up what it was about. */
  onBug(error: unknown): void;
}

/** Has `bearer` bear what was thrown; that must not throw in turn. */
export function charge(bearer: Bearer, error: unknown): void {
  try {
    bearer.onBug(error);
  } catch {
    // It was logged first; what giving up stumbled over goes with its connection.
  }
}

/** The same function, for a listener or timer: what it throws is `bearer`'s. */
export function guarded<A extends unknown[]>(
  bearer: Bearer,
  act: (...args: A) => void,
): (...args: A) => void {
  return (...args) => {
    try {
      act(...args);
    } catch (error) {
      charge(bearer, error);
    }
  };
}
