/** The embedded proxy, in this process. */
import { startProxy } from "../proxy/index.ts";
import type { World } from "../world/index.ts";
import type { HeldIdentity } from "./agent.ts";
import { adminPort } from "./bootstrap.ts";
import { giveBackMemory } from "./memory.ts";
import type { Node } from "./node.ts";
import type { RunningProxy } from "./running.ts";

export interface EmbeddedOptions {
  world: World;
  node: Node;
  ads: { host: string; port: number };
  bindAddress: string | undefined;
  identity: HeldIdentity;
  /** ms that connections have for what they still do. */
  drainTime: number;
  log(line: string): void;
}

export async function startEmbedded(options: EmbeddedOptions): Promise<RunningProxy> {
  const { world, node, ads, bindAddress, identity, drainTime } = options;
  const proxy = await startProxy({
    world,
    node,
    ads,
    identity: {
      get current() {
        return identity.current();
      },
      onChange: identity.onChange,
    },
    ...(bindAddress && { bindAddress }),
    adminPort,
    drainTime,
    log: (level, message) => options.log(level === "info" ? message : `${level}: ${message}`),
  });
  const ended = new AbortController();
  giveBackMemory(world, ended.signal).catch(() => {}); // it is ended so
  return {
    // It is this process, and ends with it.
    ended: new Promise(() => {}),
    notReady: () =>
      Promise.resolve(proxy.live ? undefined : "the proxy waits for its configuration from discovery"),
    drain() {
      // Resolves when nobody is left, which the agent looks for itself.
      void proxy.drain({ inboundOnly: true });
      return Promise.resolve();
    },
    connections: () => Promise.resolve(proxy.connections),
    metrics: () => Promise.resolve(proxy.metrics()),
    stop() {
      ended.abort();
      return proxy.stop();
    },
  };
}
