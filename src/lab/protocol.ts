/** What the lab's daemon and its callers say to each other: one JSON value per line. */
import type { Readable, Writable } from "node:stream";
import type { Balancer, BalancerStatus } from "./balancer/index.ts";

/** A question or an order, on `lab.sock`; one answer follows. */
export type LabRequest =
  | { do: "status" }
  /** `keep`: the lab's directory stays, so that the next `weft up` brings the same clusters back. */
  | { do: "down"; keep?: boolean }
  /** Ends a cluster's API server, nodes and pods, as if its machines lost power; `start` brings them back. */
  | { do: "stop" | "start"; cluster: string }
  /** The same for one node and its pods. */
  | { do: "stop" | "start"; node: string }
  /** Nothing passes a link that is cut; `heal` makes it whole again. */
  | { do: "cut" | "heal"; between: [string, string] }
  /** What a packet takes more on a link, each way, in milliseconds; 0 is none. */
  | { do: "latency"; between: [string, string]; latency: number }
  /** Kills a process of the lab, by its name in the status; it is started again. For tests. */
  | { do: "kill"; process: string };

export type LabAnswer = { error: string } | { ok: true; status?: LabStatus };

/** From the daemon to `weft up`, on the channel that lives until `release`. */
export type LabEvent =
  /** A process is ready for the first time, or (`backbone`) the network is there. */
  | { ready: string }
  /** `process` ended and is started again; without a process, the lab cannot start. */
  | { failed: string; process?: string };

/**
 * From `weft up` to the daemon. `start`: the keys are written, clusters may start. `release`: the lab stays; when
 * the channel closes without it, the lab ends.
 */
export type LabOrder = { order: "start" | "release" };

/** From a cluster's process to the daemon: the load balancers that there are now. */
export interface BalancersMessage {
  balancers: Balancer[];
}

export interface ProcessStatus {
  /** `lab`, `c1`, `c1-control-plane`, or `pods of c1-control-plane`. */
  name: string;
  role: "daemon" | "cluster" | "node" | "pods" | "relay";
  cluster?: string;
  state: "running" | "starting" | "stopped";
  pid?: number;
  restarts: number;
  /** Proportional set size: shared pages count in part. Bytes. */
  memory: number;
}

/** A link on which something is not as it would be in a lab without faults. */
export interface LinkStatus {
  between: [string, string];
  cut: boolean;
  /** Milliseconds, each way. */
  latency: number;
}

export interface LabStatus {
  started: string;
  kubeconfig: string;
  clusters: {
    name: string;
    server: string;
    context: string;
    state: string;
    nodes: string[];
    /** Those that were stopped on purpose, by themselves. */
    stoppedNodes: string[];
  }[];
  network: "flat" | "gateway";
  links: LinkStatus[];
  /** Ports of Services of type LoadBalancer. */
  balancers: BalancerStatus[];
  processes: ProcessStatus[];
  /** Sum over all processes of the lab, in bytes. */
  memory: number;
}

export function writeLine(stream: Writable, value: unknown): void {
  stream.write(`${JSON.stringify(value)}\n`);
}

/** Calls `onLine` with each value; lines that are no JSON are left out. */
export function readLines(stream: Readable, onLine: (value: unknown) => void): void {
  let rest = "";
  stream.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) {
      let value: unknown;
      try {
        value = JSON.parse(line);
      } catch {
        continue;
      }
      onLine(value);
    }
  });
}
