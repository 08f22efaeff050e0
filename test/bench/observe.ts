/** Looking into a lab from outside: HTTP to its pods, and what changes in a node's kernel. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { pods, systemNamespace } from "../../src/api/index.ts";
import type { KubeClient } from "../../src/kube/index.ts";
import { beside, nodeProcess } from "../support/processes.ts";

/** Milliseconds of the machine's monotonic clock, which all processes share. */
export const monotonic = () => Number(process.hrtime.bigint()) / 1e6;

export interface Observer extends Disposable {
  get(url: string): Promise<{ status: number; body: string }>;
  /** The monotonic time (ms) at which a change of the node's nftables rules held this text. */
  sees(text: string): Promise<number>;
}

export function observeNode(labDir: string, node: string): Observer {
  const found = nodeProcess(labDir, node);
  if (!found) throw new Error(`no process of node ${node}`);
  const agent = fileURLToPath(new URL("agent.ts", import.meta.url));
  const [program, ...args] = beside(found.pid, process.execPath, agent);
  const child = spawn(program!, args, { stdio: ["pipe", "pipe", "inherit"] });
  const waiting = new Map<number, (answer: never) => void>();
  let count = 0;
  createInterface({ input: child.stdout }).on("line", (line) => {
    const answer = JSON.parse(line) as { id: number };
    waiting.get(answer.id)?.(answer as never);
    waiting.delete(answer.id);
  });
  const ask = <T>(order: object) =>
    new Promise<T>((resolve) => {
      const id = count++;
      waiting.set(id, resolve as (answer: never) => void);
      child.stdin.write(`${JSON.stringify({ id, ...order })}\n`);
    });
  return {
    get: (url) => ask({ get: url }),
    sees: async (text) => (await ask<{ at: number }>({ expect: text })).at,
    [Symbol.dispose]: () => child.stdin.end(),
  };
}

/** Whether a command line is a control plane's: our image's program, from its bundle or its source, with no part named. */
export function isControlPlane(command: string): boolean {
  return /\/(?:build\/pods\/[^/ ]+\/main\.js|deploy\/image\/main\.ts)(?: --\S+)*$/.test(command.trim());
}

/** What the control plane says about itself at `/debug/state`. */
export interface PlaneState {
  ready: boolean;
  collections: Record<string, number>;
  sinks: Record<string, { lag: number; waiting: number; held: number; writes: Record<string, number> }>;
  engine: { evaluated: number; batches: number; bugs: number };
  memory: { rss: number; heapUsed: number };
}

export interface Plane {
  state(): Promise<PlaneState | undefined>;
  writes(state: PlaneState): number;
  /** Resolves with its state when it is ready, has written all, and `good` holds: twice in a row. */
  settled(good?: (state: PlaneState) => boolean): Promise<PlaneState>;
}

/** The control plane of a cluster, as its own cluster's node reaches it. */
export async function planeOf(client: KubeClient, observer: Observer): Promise<Plane> {
  const address = await poll(async () => {
    const { items } = await client.list(pods, { namespace: systemNamespace, labelSelector: "app=weft" });
    return items.find(({ metadata }) => !metadata.deletionTimestamp)?.status?.podIP;
  }, "an address of the control plane");
  const state = async () => {
    const { status, body } = await observer.get(`http://${address}:8080/debug/state`);
    return status === 200 ? (JSON.parse(body) as PlaneState) : undefined;
  };
  return {
    state,
    writes: (state) =>
      Object.values(state.sinks).reduce(
        (sum, { writes }) => sum + Object.values(writes).reduce((a, b) => a + b, 0),
        0,
      ),
    async settled(good = () => true) {
      let since: PlaneState | undefined;
      return poll(async () => {
        const now = await state();
        const rests =
          now?.ready &&
          Object.values(now.sinks).every(({ waiting, held }) => waiting + held === 0) &&
          good(now);
        const before = since;
        since = rests ? now : undefined;
        return rests && before;
      }, "a settled control plane");
    },
  };
}

export async function poll<T>(
  attempt: () => Promise<T | undefined | false>,
  what: string,
  patience = 600_000,
): Promise<T> {
  const end = monotonic() + patience;
  for (;;) {
    const found = await attempt();
    if (found) return found;
    if (monotonic() > end) throw new Error(`${what}: not within ${patience / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
