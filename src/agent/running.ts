/** A proxy as the agent sees it, whichever it is. */
export interface RunningProxy {
  /** Undefined once it serves what discovery told it; until then what it waits for. */
  notReady(): Promise<string | undefined>;
  /** No new work by preference: connections are told to close as they become idle; whoever still comes is served. */
  drain(): Promise<void>;
  /** Connections from others (not counting the agent's own and discovery's). */
  connections(): Promise<number>;
  /** Its metrics in Prometheus' text format. */
  metrics(): Promise<string>;
  /** Ends it. */
  stop(): Promise<void>;
  /** Resolves with the reason when it ended without being told. */
  readonly ended: Promise<string>;
}
