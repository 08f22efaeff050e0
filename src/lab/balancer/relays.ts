/**
 * The daemon's side of load balancers: a port of 127.0.0.1 for each port of each, the same as long as the lab is
 * kept. Connections are accepted here, where the machine's network is, and handed to a process in the lab's network,
 * which connects them with the Service's address: nothing of what they carry passes the daemon.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import type { Balancer } from "./index.ts";
import type { RelayTarget } from "./relay-process.ts";

/** One port of a load balancer, as `weft status` shows it. */
export interface BalancerStatus {
  cluster: string;
  namespace: string;
  name: string;
  /** In the cluster. */
  address: string;
  port: number;
  portName?: string;
  /** On 127.0.0.1; absent for what is not TCP. */
  hostPort?: number;
  /** Where a browser or curl reaches it from this machine. */
  url?: string;
}

export interface RelaysOptions {
  /** Remembers which port is whose. */
  file: string;
  /** There is something to carry. */
  first: () => void;
  /** Hands a connection to the process that carries it; it may be gone for a moment. */
  hand: (target: RelayTarget, socket: Socket) => void;
  log: (line: string) => void;
}

interface Relay {
  target: RelayTarget;
  status: BalancerStatus;
  server?: Server;
}

export class Relays {
  readonly #options: RelaysOptions;
  readonly #relays = new Map<string, Relay>();
  readonly #ports: Map<string, number>;
  #changes: Promise<void> = Promise.resolve();

  constructor(options: RelaysOptions) {
    this.#options = options;
    this.#ports = new Map(Object.entries(rememberedPorts(options.file)));
  }

  /** Sets what there is in a cluster. */
  update(cluster: string, balancers: readonly Balancer[]): void {
    this.#changes = this.#changes.then(() => this.#set(cluster, balancers));
  }

  get status(): BalancerStatus[] {
    return [...this.#relays.values()].map(({ status }) => status);
  }

  async #set(cluster: string, balancers: readonly Balancer[]): Promise<void> {
    const wanted = new Map(
      balancers.flatMap((balancer) =>
        balancer.ports.map((port): [string, Relay] => [
          `${cluster}/${balancer.namespace}/${balancer.name}/${port.protocol}/${port.port}`,
          relayOf(cluster, balancer, port),
        ]),
      ),
    );
    for (const [key, { server, status }] of this.#relays) {
      if (status.cluster !== cluster || wanted.has(key)) continue;
      server?.close();
      this.#relays.delete(key);
    }
    if (wanted.size > 0) this.#options.first();
    for (const [key, relay] of wanted) {
      const before = this.#relays.get(key);
      this.#relays.set(key, relay);
      if (!key.includes("/TCP/")) continue;
      try {
        const server = before?.server ?? (await this.#listen(key));
        const { port } = server.address() as { port: number };
        relay.server = server;
        relay.status.hostPort = port;
        relay.status.url = `${schemeOf(relay.status)}://127.0.0.1:${port}`;
      } catch (error) {
        this.#options.log(`${key}: ${(error as Error).message}`);
      }
    }
  }

  /** Listens on the port that it had before, or on any. */
  async #listen(key: string): Promise<Server> {
    const remembered = this.#ports.get(key);
    const server = createServer({ pauseOnConnect: true, noDelay: true }, (socket) => {
      const relay = this.#relays.get(key);
      if (relay) this.#options.hand(relay.target, socket);
      else socket.destroy();
    });
    const listen = (port: number) =>
      new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen(port, "127.0.0.1", () => {
          server.off("error", reject);
          resolve();
        });
      });
    await (remembered === undefined ? listen(0) : listen(remembered).catch(() => listen(0)));
    server.on("error", (error) => this.#options.log(`${key}: ${error.message}`));
    const { port } = server.address() as { port: number };
    if (port !== remembered) {
      this.#ports.set(key, port);
      writeFileSync(this.#options.file, JSON.stringify(Object.fromEntries(this.#ports)), { mode: 0o600 });
    }
    return server;
  }
}

function relayOf(cluster: string, balancer: Balancer, port: Balancer["ports"][number]): Relay {
  const { namespace, name, address } = balancer;
  return {
    target: { address, port: port.port },
    status: {
      cluster,
      namespace,
      name,
      address,
      port: port.port,
      ...(port.name && { portName: port.name }),
    },
  };
}

/** By the names that Istio knows (`<protocol>[-<suffix>]`), then by the port. */
function schemeOf({ port, portName = "" }: BalancerStatus): string {
  const protocol = portName.split("-")[0]!.toLowerCase();
  if (protocol === "https" || (protocol !== "http" && (port === 443 || port === 8443))) return "https";
  return ["tcp", "tls", "mongo", "mysql", "redis"].includes(protocol) ? "tcp" : "http";
}

function rememberedPorts(file: string): Record<string, number> {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Record<string, number>;
  } catch {
    return {};
  }
}
