/**
 * What a cloud's load balancer is for a cluster, in the lab: gives Services of type LoadBalancer an address of the
 * cluster's own range, leads that address to a node (whose service rules know it from the Service's status), and
 * says which Services there are, so that the daemon can offer them on 127.0.0.1. Source: Kubernetes
 * `staging/src/k8s.io/cloud-provider/controllers/service`.
 */
import {
  type EndpointSlice,
  endpointSlices,
  type Node,
  nameOf,
  nodes,
  type Service,
  serviceNameLabel,
  services,
} from "../../api/index.ts";
import { Informer, isConflict, isNotFound, type KubeClient } from "../../kube/index.ts";
import type { Timer, World } from "../../world/index.ts";
import { leadAddresses, type Run } from "../network/index.ts";
import type { ClusterSpec, LabSpec } from "../spec.ts";
import { addressOf, assignAddresses, isBalanced } from "./addresses.ts";

export { type BalancerStatus, Relays } from "./relays.ts";

/** A Service with an address of its own. */
export interface Balancer {
  namespace: string;
  name: string;
  address: string;
  ports: { name?: string; protocol: string; port: number }[];
}

export interface LoadBalancersOptions {
  world: World;
  /** May read Services, EndpointSlices and Nodes, and write the status of Services. */
  client: KubeClient;
  lab: LabSpec;
  cluster: ClusterSpec;
  /** Runs commands in the network namespace of the backbone. */
  run: Run;
  /** All balancers of the cluster, whenever something about them changes. */
  onChange: (balancers: Balancer[]) => void;
  /** Failures, one line each; they are tried again. */
  log?: (line: string) => void;
}

/** Milliseconds until what failed is tried again. */
const retry = 1_000;
/** Nodes with this label take no part (Kubernetes' well-known labels). */
const excluded = "node.kubernetes.io/exclude-from-external-load-balancers";

/** Runs until it is stopped. What it made stays. */
export function startLoadBalancers(options: LoadBalancersOptions): { stop(): void } {
  const balancers = new LoadBalancers(options);
  return { stop: () => balancers.stop() };
}

class LoadBalancers {
  readonly #options: LoadBalancersOptions;
  readonly #services: Informer<Service>;
  readonly #nodes: Informer<Node>;
  /** Where the endpoints are of Services that want to be reached at these nodes only. */
  readonly #slices = new Map<string, Informer<EndpointSlice>>();
  #working = false;
  #again = false;
  #timer: Timer | undefined;
  #stopped = false;
  #told = "[]";

  constructor(options: LoadBalancersOptions) {
    this.#options = options;
    const { client } = options;
    this.#services = new Informer(client, services, { keepManagedFieldsOf: null });
    this.#nodes = new Informer(client, nodes, { keepManagedFieldsOf: null });
    for (const informer of [this.#services, this.#nodes]) informer.subscribe(() => this.#wake());
    void Promise.all([this.#services.whenSynced(), this.#nodes.whenSynced()]).then(() => this.#wake());
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    for (const informer of [this.#services, this.#nodes, ...this.#slices.values()]) informer.stop();
  }

  #wake(): void {
    if (this.#working) this.#again = true;
    else if (!this.#stopped && this.#services.synced && this.#nodes.synced) void this.#work();
  }

  async #work(): Promise<void> {
    this.#working = true;
    this.#timer?.cancel();
    do {
      this.#again = false;
      try {
        await this.#reconcile();
      } catch (error) {
        this.#options.log?.(`load balancers: ${error instanceof Error ? error.message : String(error)}`);
        this.#timer = this.#options.world.after(retry, () => this.#wake());
      }
    } while (this.#again && !this.#stopped);
    this.#working = false;
  }

  async #reconcile(): Promise<void> {
    const { lab, cluster, run, onChange } = this.#options;
    const all = this.#services.list();
    const assigned = assignAddresses(all, cluster.balancerRange);
    this.#follow(all);
    // An address leads somewhere before anybody is told of it, and as long as anybody may know it.
    await leadAddresses(lab, cluster, this.#places(all, assigned), run);
    for (const service of all) await this.#write(service, assigned.get(nameOf(service)));
    const balancers = all
      .filter((service) => assigned.has(nameOf(service)))
      .map((service) => balancerOf(service, assigned.get(nameOf(service))!));
    const text = JSON.stringify(balancers);
    if (text === this.#told) return;
    this.#told = text;
    onChange(balancers);
  }

  /** The node that each address leads to: one that is ready, and with endpoints of its own where only these count. */
  #places(all: readonly Service[], assigned: ReadonlyMap<string, string>): Map<string, string> {
    const ready = this.#nodes.list().filter(isReady);
    const open = ready.filter(({ metadata }) => metadata.labels?.[excluded] === undefined);
    const names = (open.length > 0 ? open : ready).map(({ metadata }) => metadata.name).sort();
    const places = new Map<string, string>();
    for (const service of all) {
      const address = assigned.get(nameOf(service));
      if (!address) continue;
      const local = this.#slices.get(nameOf(service));
      const having = local && new Set(local.list().flatMap(readyNodes));
      const choice = having ? names.filter((name) => having.has(name)) : names;
      // Always the same of the same choice, so that connections stay where they are.
      const chosen = choice[Number(address.split(".")[3]) % choice.length];
      if (chosen) places.set(address, chosen);
    }
    return places;
  }

  /** Watches the endpoints of those Services whose traffic may not leave the node. */
  #follow(all: readonly Service[]): void {
    const local = new Map(
      all
        .filter((service) => isBalanced(service) && service.spec?.externalTrafficPolicy === "Local")
        .map((service) => [nameOf(service), service]),
    );
    for (const [key, informer] of this.#slices) {
      if (local.has(key)) continue;
      informer.stop();
      this.#slices.delete(key);
    }
    for (const [key, { metadata }] of local) {
      if (this.#slices.has(key)) continue;
      const informer = new Informer(this.#options.client, endpointSlices, {
        namespace: metadata.namespace!,
        labelSelector: `${serviceNameLabel}=${metadata.name}`,
        keepManagedFieldsOf: null,
      });
      informer.subscribe(() => this.#wake());
      this.#slices.set(key, informer);
    }
  }

  async #write(service: Service, address: string | undefined): Promise<void> {
    const has = addressOf(service);
    if (has === address) return;
    // Another's load balancer gave it.
    if (!address && service.spec?.type === "LoadBalancer" && service.spec.loadBalancerClass) return;
    if (service.metadata.deletionTimestamp) return;
    const { namespace, name, resourceVersion } = service.metadata;
    const loadBalancer = address ? { ingress: [{ ip: address, ipMode: "VIP" }] } : { ingress: null };
    try {
      await this.#options.client.patch(
        services,
        { namespace: namespace!, name },
        { metadata: { resourceVersion }, status: { loadBalancer } },
        { subresource: "status", manager: "service-controller" },
      );
    } catch (error) {
      // Its change is on its way to us.
      if (!isConflict(error) && !isNotFound(error)) throw error;
    }
  }
}

function balancerOf({ metadata, spec }: Service, address: string): Balancer {
  return {
    namespace: metadata.namespace!,
    name: metadata.name,
    address,
    ports: (spec?.ports ?? []).map(({ name, protocol = "TCP", port }) => ({
      ...(name && { name }),
      protocol,
      port,
    })),
  };
}

const isReady = ({ status, metadata }: Node) =>
  !metadata.deletionTimestamp &&
  (status?.conditions?.some((condition) => condition.type === "Ready" && condition.status === "True") ??
    false);

const readyNodes = ({ endpoints }: EndpointSlice) =>
  (endpoints ?? []).flatMap(({ nodeName, conditions }) =>
    nodeName && conditions?.ready !== false ? [nodeName] : [],
  );
