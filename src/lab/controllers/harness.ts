/** A cluster for tests: the real API server in memory, the controllers, and a kubelet that only says that all is well. */
import {
  type KubeObject,
  type Node,
  nameOf,
  namespaces,
  nodes,
  type Pod,
  pods,
  type Resource,
} from "../../api/index.ts";
import { Informer, KubeClient, reflect, type Transport } from "../../kube/index.ts";
import { realWorld, SimulatedWorld, sleep, timestamp, type World } from "../../world/index.ts";
import { type ApiServer, createApiServer } from "../apiserver/index.ts";
import { type Controllers, startControllers } from "./index.ts";

export interface TestCluster extends AsyncDisposable {
  world: World;
  server: ApiServer;
  client: KubeClient;
  controllers: Controllers;
  log: string[];
  /** Pods stay Pending while this says so. */
  hold: (pod: Pod) => boolean;
  addNode(name: string, change?: Partial<Node>): Promise<Node>;
  namespace(name: string): Promise<void>;
  /** Waits until `check` gives something for what the server has; fails with `what` after 10 s. */
  until<R>(what: string, check: () => Promise<R | undefined | false>): Promise<R>;
  /** Calls `look` with all objects after every change, until it is told to stop. */
  observe<T extends KubeObject>(resource: Resource<T>, look: (all: T[]) => void): () => void;
  list<T extends KubeObject>(resource: Resource<T>, namespace?: string): Promise<T[]>;
}

export async function testCluster(
  options: { nodes?: string[]; simulated?: SimulatedWorld; watchDelay?: number } = {},
): Promise<TestCluster> {
  const world = options.simulated ?? realWorld();
  const server = await createApiServer({
    world,
    cluster: "c1",
    storage: { kind: "memory" },
    serviceRange: "10.11.0.0/16",
    advertise: { address: "172.18.0.1", port: 6443 },
  });
  const transport = server.as({ name: "system:kube-controller-manager", groups: ["system:masters"] });
  const client = new KubeClient({ transport, world, cluster: "c1" });
  const log: string[] = [];
  const controllers = startControllers({
    world,
    client: new KubeClient({ transport: late(transport, world, options.watchDelay), world, cluster: "c1" }),
    rootCertificates: "PEM",
    log: (line) => log.push(line),
  });
  const stopping = new AbortController();
  const cluster: TestCluster = {
    world,
    server,
    client,
    controllers,
    log,
    hold: () => false,
    addNode: (name, change) => addNode(client, world, name, change),
    async namespace(name) {
      await client.create(namespaces, { metadata: { name } });
    },
    async until(what, check) {
      const end = performance.now() + 10_000;
      for (;;) {
        const found = await check();
        if (found) return found;
        if (performance.now() > end)
          throw new Error(`not within 10 s: ${what}${log.map((one) => `\n  ${one}`).join("")}`);
        if (world instanceof SimulatedWorld) await world.advance(50);
        else await new Promise((resolve) => setTimeout(resolve, 5));
      }
    },
    observe(resource, look) {
      const informer = new Informer(client, resource);
      informer.subscribe(() => look(informer.list()));
      return () => informer.stop();
    },
    list: async (resource, namespace) => (await client.list(resource, { namespace })).items,
    async [Symbol.asyncDispose]() {
      stopping.abort();
      controllers.stop();
      await server.close();
    },
  };
  fakeKubelet(cluster, stopping.signal);
  for (const name of options.nodes ?? ["c1-control-plane"]) await cluster.addNode(name);
  if (world instanceof SimulatedWorld) await world.advance(1000);
  await controllers.ready;
  return cluster;
}

async function addNode(
  client: KubeClient,
  world: World,
  name: string,
  change: Partial<Node> = {},
): Promise<Node> {
  const node = await client.create(nodes, {
    metadata: { name, labels: { "kubernetes.io/hostname": name, ...change.metadata?.labels } },
    spec: change.spec ?? {},
  });
  const condition = {
    type: "Ready",
    status: "True",
    reason: "KubeletReady",
    message: "",
    lastHeartbeatTime: timestamp(world),
    lastTransitionTime: timestamp(world),
  };
  const status = { conditions: [condition], addresses: [{ type: "InternalIP", address: "172.18.0.2" }] };
  return client.patch(nodes, node.metadata, { status }, { subresource: "status" });
}

/** Every pod with a node runs at once and is gone at once. */
function fakeKubelet(cluster: TestCluster, signal: AbortSignal): void {
  const { client, world } = cluster;
  let address = 2;
  const handled = new Set<string>();
  const act = async (pod: Pod): Promise<void> => {
    if (!pod.spec.nodeName) return;
    if (pod.metadata.deletionTimestamp) {
      await client
        .delete(pods, nameOf(pod), { uid: pod.metadata.uid, gracePeriodSeconds: 0 })
        .catch(() => {});
      return;
    }
    if (handled.has(pod.metadata.uid!) || cluster.hold(pod)) return;
    handled.add(pod.metadata.uid!);
    const ip = `10.10.${Math.floor(address / 250)}.${address++ % 250}`;
    const now = timestamp(world);
    const condition = { type: "Ready", status: "True", lastTransitionTime: now };
    const status = {
      phase: "Running",
      podIP: ip,
      podIPs: [{ ip }],
      conditions: [...(pod.status?.conditions ?? []).filter((one) => one.type !== "Ready"), condition],
    };
    await client
      .patch(pods, nameOf(pod), { status }, { subresource: "status" })
      .catch(() => handled.delete(pod.metadata.uid!));
  };
  reflect(
    client,
    pods,
    {
      replace: (all) => all.forEach((pod) => void act(pod)),
      put: (pod) => void act(pod),
      remove: () => {},
    },
    { signal },
  );
}

/** The same server, whose watches tell everything `delay` milliseconds late. */
function late(transport: Transport, world: World, delay = 0): Transport {
  if (delay === 0) return transport;
  return async (request) => {
    const response = await transport(request);
    if (!request.path.includes("watch=1")) return response;
    return { ...response, body: slowly(response.body) };
  };
  async function* slowly(body: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
    for await (const chunk of body) {
      await sleep(world, delay);
      yield chunk;
    }
  }
}
