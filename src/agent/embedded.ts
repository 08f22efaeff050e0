/** The embedded proxy, in this process. */
import type { World } from "../world/index.ts";
import type { HeldIdentity } from "./agent.ts";
import type { Node } from "./node.ts";
import type { RunningProxy } from "./running.ts";

export interface EmbeddedOptions {
  world: World;
  node: Node;
  ads: { host: string; port: number };
  bindAddress: string | undefined;
  identity: HeldIdentity;
  discoveryRoots(): Promise<string>;
  log(line: string): void;
}

export function startEmbedded(_options: EmbeddedOptions): Promise<RunningProxy> {
  return Promise.reject(new Error("the embedded proxy is not there yet"));
}
