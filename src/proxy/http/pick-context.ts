import type { PickContext } from "../contract.ts";
import type { Exchange } from "./exchange.ts";
import { hashOf } from "./hashing.ts";
import type { Retries } from "./retries.ts";
import type { Forward } from "./route-action.ts";

/** What a cluster chooses a host by, for all tries of a request. */
export function pickContext(exchange: Exchange, forward: Forward, retries: Retries | undefined): PickContext {
  const context: PickContext = { connection: exchange.facts.downstream };
  if (forward.hash.length > 0) {
    const hash = hashOf(forward.hash, exchange);
    if (hash !== undefined) context.hash = hash;
  }
  const override = exchange.head.headers.get("x-envoy-original-dst-host");
  if (override !== undefined) context.override = override;
  const { retry } = forward;
  if (retry?.avoidPrevious && retries) {
    context.avoid = (host) => retries.hosts.includes(host);
    context.attempts = retry.hostSelectionAttempts;
  }
  if (retries?.tried) context.tried = retries.tried;
  return context;
}
