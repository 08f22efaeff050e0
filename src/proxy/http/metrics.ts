import type { HandlerDeps } from "../contract.ts";
import type { Exchange } from "./exchange.ts";

/** Istio's standard metrics of requests. */
export class Metrics {
  readonly #deps: HandlerDeps;
  constructor(deps: HandlerDeps) {
    this.#deps = deps;
  }
  record(_exchange: Exchange): void {
    void this.#deps;
  }
}
