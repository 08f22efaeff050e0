/** Being the one of several that writes: elected by a Lease, or alone. */
import type { KubeClient } from "./client.ts";
import { elect } from "./lease.ts";

export interface LeadOptions {
  client: KubeClient;
  namespace: string;
  /** Of the Lease. */
  name: string;
  /** Unique among the candidates. */
  identity: string;
  /** There may be others. Without it this is the only one, and leads from now on. */
  elected: boolean;
  /** What the log calls it: `control plane`. */
  what: string;
  /** Where nobody waits for what a leader writes: its Lease has `elect`'s times. */
  patient?: boolean;
  /** Begins to write, until the signal is aborted. */
  lead: (term: AbortSignal) => void;
  log: (line: string, error?: unknown) => void;
}

export interface Leading {
  /** Leads no more, and lets the next one lead at once. */
  resign(): Promise<void>;
  /** Ends as if killed: whoever is to lead next waits until its turn. */
  abandon(): void;
}

/** A leader that was killed is replaced in 4.2 s at most. Milliseconds. */
const prompt = { leaseDuration: 3_000, renewDeadline: 2_000, retryPeriod: 1_000 };

export function startLeading(options: LeadOptions): Leading {
  const { elected, what, patient, lead, log, ...candidate } = options;
  if (!elected) {
    const term = new AbortController();
    lead(term.signal);
    return {
      resign: async () => term.abort(),
      abandon: () => term.abort(),
    };
  }
  const candidacy = elect({
    ...candidate,
    ...(!patient && prompt),
    onLeading: (term) => {
      log(`this ${what} leads`);
      term.addEventListener("abort", () => log(`this ${what} does not lead any more`));
      lead(term);
    },
    onError: (error) => log("electing a leader", error),
  });
  return { resign: () => candidacy.stop(), abandon: () => candidacy.abandon() };
}
