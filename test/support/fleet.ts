/**
 * Clusters in this process (law 12): real API servers with memory storage, our control planes, and between them
 * a network that can be cut, all under one simulated clock. No kubelet: tests put EndpointSlices by hand.
 */
import {
  clusterIdProperty,
  clusterProperties,
  clusterSetZone,
  customResourceDefinitions,
  definitions,
  type EndpointSlice,
  endpointSlices,
  namespaces,
  peerLabel,
  type Service,
  secrets,
  serviceExports,
  services,
  systemNamespace,
} from "../../src/api/index.ts";
import { type ControlPlane, startControlPlane } from "../../src/control.ts";
import { KubeClient, type KubeRequest, type Transport } from "../../src/kube/index.ts";
import { type ApiServer, createApiServer } from "../../src/lab/apiserver/index.ts";
import { type SimulatedWorld, sleep } from "../../src/world/index.ts";

export interface Member {
  readonly name: string;
  readonly server: ApiServer;
  /** A person with all rights and a good network. */
  readonly person: KubeClient;
  plane: ControlPlane | undefined;
  /** What the control plane logged. */
  readonly log: string[];
}

/** How bad the network between control planes and API servers is. */
export interface Weather {
  /** Most milliseconds that a request, an answer or a chunk of a watch is on its way. */
  latency: number;
  /** Probability that a request is lost, that its answer is lost after it was carried out, or that a stream breaks. */
  loss: number;
}

const admin = { name: "admin", groups: ["system:masters"] };
const nobody = { name: "system:anonymous", groups: ["system:unauthenticated"] };

export class Fleet {
  readonly world: SimulatedWorld;
  readonly members = new Map<string, Member>();
  /** `reader offerer` pairs whose connection is cut; `reader reader` cuts a control plane from its own API. */
  weather: Weather = { latency: 0, loss: 0 };
  /** Servers that are no clusters of ours, by host. */
  readonly strangers = new Map<string, Transport>();
  /** Hears every request that reaches an API server. */
  onRequest: ((reader: string, offerer: string, request: KubeRequest) => void) | undefined;
  readonly #cut = new Map<string, AbortController>();
  /** `reader offerer` pairs where the offerer does not know the reader's credential. */
  readonly #refused = new Set<string>();

  private constructor(world: SimulatedWorld) {
    this.world = world;
  }

  /** Clusters with names, each with Weft's definitions, peers of all others; no control plane runs yet. */
  static async start(world: SimulatedWorld, names: readonly string[]): Promise<Fleet> {
    const fleet = new Fleet(world);
    for (const [i, name] of names.entries()) {
      const server = await createApiServer({
        world,
        cluster: name,
        storage: { kind: "memory" },
        serviceRange: `10.${11 + 2 * i}.0.0/16`,
        advertise: { address: `172.18.${i}.1`, port: 6443 },
        onBug: (error) => {
          throw error;
        },
      });
      const person = new KubeClient({ transport: server.as(admin), world, cluster: name });
      fleet.members.set(name, { name, server, person, plane: undefined, log: [] });
      for (const definition of definitions()) await person.create(customResourceDefinitions, definition);
      await fleet.rest();
      await person.create(namespaces, { metadata: { name: systemNamespace } });
      await person.create(namespaces, { metadata: { name: "demo" } });
      await person.create(clusterProperties, {
        metadata: { name: clusterIdProperty },
        spec: { value: name },
      });
    }
    for (const reader of names)
      for (const peer of names) if (reader !== peer) await fleet.introduce(reader, peer);
    return fleet;
  }

  of(name: string): Member {
    const member = this.members.get(name);
    if (!member) throw new Error(`no cluster ${name}`);
    return member;
  }

  /** The Secret by which one cluster knows another. */
  async introduce(reader: string, peer: string, host = peer, text?: string): Promise<void> {
    const kubeconfig = {
      "current-context": peer,
      contexts: [{ name: peer, context: { cluster: peer, user: peer } }],
      clusters: [{ name: peer, cluster: { server: `https://${host}:6443` } }],
      users: [{ name: peer, user: { token: "none" } }],
    };
    await this.of(reader).person.apply(
      secrets,
      {
        metadata: {
          namespace: systemNamespace,
          name: `weft-peer-${peer}`,
          labels: { [peerLabel]: peer },
        },
        data: { kubeconfig: Buffer.from(text ?? JSON.stringify(kubeconfig)).toString("base64") },
      },
      { force: true, manager: "person" },
    );
  }

  /**
   * Starts a cluster's control plane. With an `identity` it is one of several that elect a leader, and it is not
   * the member's `plane` but for the caller to stop. `id`: what it calls itself, where that is not the member's name.
   */
  async startPlane(
    name: string,
    settings: { lease?: number; identity?: string; id?: string } = {},
  ): Promise<ControlPlane> {
    const { id = name, ...more } = settings;
    const { identity } = more;
    const member = this.of(name);
    const client = new KubeClient({ transport: this.#between(name, name), world: this.world, cluster: name });
    const starting = startControlPlane({
      ...more,
      client,
      cluster: id,
      elected: identity !== undefined,
      mesh: { image: "weft/control-plane:test", proxy: "embedded" },
      connect: ({ server }) => this.#between(name, new URL(server).hostname),
      log: (line, error) => {
        member.log.push(error === undefined ? line : `${line}: ${error}`);
        if (line.startsWith("bug")) throw new Error(line, { cause: error });
      },
    });
    const plane = await starting;
    if (!identity) member.plane = plane;
    return plane;
  }

  /** Kills it: nothing is written any more, nothing is said. */
  stopPlane(name: string): void {
    const member = this.of(name);
    member.plane?.stop();
    member.plane = undefined;
  }

  /** Cuts one cluster's way to another's API (or to its own): open watches fall silent, requests get no answer. */
  cut(reader: string, offerer: string): void {
    const key = `${reader} ${offerer}`;
    if (!this.#cut.has(key)) this.#cut.set(key, new AbortController());
  }

  heal(reader: string, offerer: string): void {
    const key = `${reader} ${offerer}`;
    this.#cut.get(key)?.abort();
    this.#cut.delete(key);
  }

  /** From now on (or, with `false`, no longer) one cluster's API answers the other that it may do nothing. */
  refuse(reader: string, offerer: string, refuse = true): void {
    if (refuse) this.#refused.add(`${reader} ${offerer}`);
    else this.#refused.delete(`${reader} ${offerer}`);
  }

  /** Cuts a cluster from everybody: the whole cluster has stopped as far as others can tell. */
  isolate(name: string): void {
    for (const other of this.members.keys()) {
      if (other !== name) this.cut(other, name);
      if (other !== name) this.cut(name, other);
    }
  }

  rejoin(name: string): void {
    for (const other of this.members.keys()) {
      this.heal(other, name);
      this.heal(name, other);
    }
  }

  /** Lets everything that is under way come to its end without moving the clock. */
  async rest(): Promise<void> {
    await this.world.advance(0);
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
  }

  /** Moves the clock in small steps, so that what is under way ends at its time. */
  async pass(seconds: number): Promise<void> {
    for (let left = seconds * 1000; left > 0; left -= 500) {
      await this.world.advance(Math.min(left, 500));
      await this.rest();
    }
  }

  async close(): Promise<void> {
    for (const name of this.members.keys()) this.stopPlane(name);
    for (const [key, cut] of this.#cut) {
      cut.abort();
      this.#cut.delete(key);
    }
    await Promise.all([...this.members.values()].map(({ server }) => server.close()));
  }

  #between(reader: string, offerer: string): Transport {
    const key = `${reader} ${offerer}`;
    const silence = (signal: AbortSignal | undefined) => {
      const cut = this.#cut.get(key);
      if (!cut) return undefined;
      return new Promise<never>((_, reject) => {
        const end = () => reject(new Error("connection reset"));
        cut.signal.addEventListener("abort", end, { once: true });
        signal?.addEventListener("abort", end, { once: true });
      });
    };
    const { world } = this;
    const travel = async (signal: AbortSignal | undefined) => {
      const { latency, loss } = this.weather;
      if (latency > 0) await sleep(world, world.random() * latency, signal);
      await silence(signal);
      if (loss > 0 && world.random() < loss) throw new Error("connection reset");
    };
    return async (request) => {
      const { signal } = request;
      await travel(signal);
      const stranger = this.strangers.get(offerer);
      if (stranger) return stranger(request);
      const member = this.members.get(offerer);
      if (!member) throw new Error(`no route to ${offerer}`);
      this.onRequest?.(reader, offerer, request);
      const response = await member.server.as(this.#refused.has(key) ? nobody : admin)(request);
      await travel(signal);
      const { body } = response;
      return {
        ...response,
        body: (async function* () {
          for await (const chunk of body) {
            await travel(signal);
            yield chunk;
          }
        })(),
      };
    };
  }

  // What people and controllers do.

  async makeService(cluster: string, name: string, spec: Partial<Service["spec"]> = {}): Promise<void> {
    await this.of(cluster).person.create(services, {
      metadata: { namespace: "demo", name },
      spec: { selector: { app: name }, ports: [{ port: 80, targetPort: 8080 }], ...spec },
    });
  }

  /** What the EndpointSlice controller would write. */
  async setEndpoints(
    cluster: string,
    service: string,
    addresses: string[],
    options: { slice?: string; port?: number; portName?: string; ready?: boolean; hostnames?: boolean } = {},
  ): Promise<void> {
    const { slice = `${service}-${cluster}abc`, port = 8080, portName = "", ready = true } = options;
    const object: EndpointSlice = {
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: {
        namespace: "demo",
        name: slice,
        labels: {
          "kubernetes.io/service-name": service,
          "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        },
      },
      addressType: "IPv4",
      ports: [{ name: portName, protocol: "TCP", port }],
      endpoints: addresses.map((address, i) => ({
        addresses: [address],
        conditions: { ready, serving: ready, terminating: false },
        nodeName: `${cluster}-control-plane`,
        ...(options.hostnames && { hostname: `${service}-${i}` }),
      })),
    };
    const { person } = this.of(cluster);
    const known = await person.get(endpointSlices, `demo/${slice}`);
    if (known) await person.replace(endpointSlices, object);
    else await person.create(endpointSlices, object);
  }

  async exportService(cluster: string, name: string): Promise<void> {
    await this.of(cluster).person.create(serviceExports, { metadata: { namespace: "demo", name } });
  }

  async unexport(cluster: string, name: string): Promise<void> {
    await this.of(cluster).person.delete(serviceExports, `demo/${name}`);
  }

  /** What a cluster's DNS answers for a name under svc.clusterset.local. */
  lookUp(cluster: string, name: string, type: string): string[] | undefined {
    const { plane } = this.of(cluster);
    const found = plane?.zones.find(`${name}.svc.${clusterSetZone}`);
    return found
      ?.sets?.(type)
      .map(({ data }) => (typeof data === "string" ? data : `${data.port} ${data.target}`));
  }
}
