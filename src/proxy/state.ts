/** What the admin interface sees of a proxy, and may do to it. */
import type { AdsState } from "./ads.ts";
import type { ProxyNode } from "./contract.ts";
import type { ListenerManager } from "./downstream/listeners.ts";
import type { RouteTables } from "./routes.ts";
import type { Secrets } from "./secrets.ts";
import type { Registry } from "./stats.ts";
import type { ClusterManager } from "./upstream/clusters.ts";

export interface ProxyState {
  version: string;
  node: ProxyNode;
  stats: Registry;
  clusters: ClusterManager;
  listeners: ListenerManager;
  routes: RouteTables;
  secrets: Secrets;
  ads: AdsState | undefined;
  /** `LIVE`, `PRE_INITIALIZING`, `DRAINING`. */
  phase(): string;
  live(): boolean;
  failHealth(failed: boolean): void;
  drain(options: { inboundOnly: boolean; graceful: boolean }): void;
  quit(): void;
  logLevel(): string;
  setLogLevel(level: string): void;
}
