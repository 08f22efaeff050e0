/** Requests sent a second time to look at, not to answer (request_mirror_policies). */
import type { Host } from "../contract.ts";
import type { Exchange } from "./exchange.ts";
import type { Headers, RequestHead } from "./headers.ts";
import { requestTo } from "./pools.ts";
import { ownAddress } from "./request-headers.ts";
import type { ResetReason } from "./retry-policy.ts";
import { type Mirror, portAt } from "./route-action.ts";
import type { UpstreamEvents, UpstreamStream } from "./upstream.ts";

/** Sends the whole request to every mirror that its share chooses. What comes back is read and forgotten. */
export function sendShadows(mirrors: readonly Mirror[], exchange: Exchange, body: readonly Buffer[]): void {
  const { manager } = exchange;
  for (const mirror of mirrors) {
    if (mirror.share < 1 && manager.world.random() >= mirror.share) continue;
    const name = mirror.cluster || exchange.head.headers.get(mirror.clusterHeader) || "";
    const cluster = manager.deps.clusters.get(name);
    const host = cluster?.pick({ connection: exchange.facts.downstream });
    if (!cluster || !host) continue;
    const limits = cluster.limits("default");
    if (!limits.requests.tryAcquire()) continue;
    const head: RequestHead = { ...exchange.head, headers: exchange.head.headers.copy() };
    if (!mirror.keepHost) head.authority = shadowed(head.authority);
    // As of a client within, which is us (Envoy's AsyncClient).
    head.headers.set("x-envoy-internal", "true");
    head.headers.append("x-forwarded-for", ownAddress(), ",");
    const shadow = new Shadow(host, head, body, () => limits.requests.release());
    requestTo(host, "default", exchange, head.authority, false, shadow);
  }
}

/** `a.example:80` → `a.example-shadow:80`. */
function shadowed(authority: string): string {
  const port = portAt(authority);
  return port < 0 ? `${authority}-shadow` : `${authority.slice(0, port)}-shadow${authority.slice(port)}`;
}

class Shadow implements UpstreamEvents {
  readonly #host: Host;
  readonly #head: RequestHead;
  readonly #body: readonly Buffer[];
  readonly #done: () => void;

  constructor(host: Host, head: RequestHead, body: readonly Buffer[], done: () => void) {
    this.#host = host;
    this.#head = head;
    this.#body = body;
    this.#done = done;
  }

  onUpstreamReady(stream: UpstreamStream): void {
    this.#host.counters.rqTotal++;
    stream.head(this.#head, this.#body.length === 0, undefined);
    for (const chunk of this.#body) stream.data(chunk);
    if (this.#body.length > 0) stream.end(undefined);
  }
  onUpstreamFailure(_reason: ResetReason): void {
    this.#done();
  }
  onInformational(): void {}
  onResponseHead(status: number, _headers: Headers, _end: boolean): void {
    this.#host.reportStatus(status);
  }
  onResponseData(): void {}
  onResponseEnd(): void {
    this.#done();
  }
  onUpstreamReset(): void {
    this.#done();
  }
  onUpstreamDrain(): void {}
  onBug(): void {
    this.#done();
  }
}
