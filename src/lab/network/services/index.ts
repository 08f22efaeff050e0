/**
 * The node's service rules, what kube-proxy in nftables mode does: connections to a Service's addresses are sent
 * to one of its endpoints.
 */
import {
  type EndpointSlice,
  endpointSlices,
  nameOf,
  nodes,
  type Service,
  serviceNameLabel,
  services,
  zoneLabel,
} from "../../../api/index.ts";
import { Informer, type KubeClient } from "../../../kube/index.ts";
import type { Timer, World } from "../../../world/index.ts";
import { type NodePlace, rulesOf } from "./rules.ts";
import { NftSession } from "./session.ts";
import { RuleTable } from "./table.ts";

export interface ServiceRulesOptions {
  world: World;
  /** Has to read Services, EndpointSlices and its own Node. */
  client: KubeClient;
  nodeName: string;
  /** ClusterIPs of the cluster: what is addressed to them and has nothing behind it is refused. */
  serviceRange: string;
  /** Addresses of the cluster's load balancers: the same. */
  balancerRange?: string;
  /** The nft command, in the network namespace that the rules are for; `["nft"]` unless told. */
  nft?: readonly string[];
  /** Failures, one line each; they are tried again whatever it does. */
  log?: (line: string) => void;
}

export interface ServiceRules {
  /** Resolves when the rules of everything that there was at the start are in the kernel. */
  readonly ready: Promise<void>;
  /** Resolves when the kernel has all that has been seen so far. */
  settled(): Promise<void>;
  /** Ends the watches. The rules stay: connections go on being served. */
  stop(): void;
}

const firstBackoff = 100;
const longestBackoff = 30_000;

/**
 * Keeps the rules in the kernel of the network namespace that nft runs in. The first transaction replaces what an
 * earlier process left, at once and only when everything is known; later ones hold what changed. When one
 * is refused, the whole table is replaced.
 */
export function startServiceRules(options: ServiceRulesOptions): ServiceRules {
  return new Rules(options);
}

class Rules implements ServiceRules {
  readonly ready: Promise<void>;
  readonly #options: ServiceRulesOptions;
  readonly #table: RuleTable;
  readonly #nft: NftSession;
  readonly #informers: { stop(): void }[] = [];
  readonly #services: Informer<Service>;
  readonly #slices: Informer<EndpointSlice>;
  readonly #dirty = new Set<string>();
  #place: NodePlace;
  /** The kernel's table is not what ours was after the last transaction: replace it. */
  #rebuild = true;
  #synced = false;
  #working: Promise<void> | undefined;
  #failures = 0;
  #retry: Timer | undefined;
  #stopped = false;

  constructor(options: ServiceRulesOptions) {
    const { world, client, nodeName } = options;
    this.#options = options;
    const ranges = [options.serviceRange, ...(options.balancerRange ? [options.balancerRange] : [])];
    this.#table = new RuleTable(ranges.join(", "), 1 + Math.floor(world.random() * 65_535));
    this.#nft = new NftSession({ world, command: options.nft });
    this.#place = { name: nodeName, zone: undefined };
    this.#services = new Informer(client, services, { keepManagedFieldsOf: null });
    this.#slices = new Informer(client, endpointSlices, {
      keepManagedFieldsOf: null,
      transform: lean,
      indexes: { service: (slice) => [serviceOf(slice) ?? ""] },
    });
    const own = new Informer(client, nodes, { fieldSelector: `metadata.name=${nodeName}` });
    this.#informers.push(this.#services, this.#slices, own);
    this.#services.subscribe((changes) => this.#touch(changes.map(({ key }) => key)));
    this.#slices.subscribe((changes) =>
      this.#touch(changes.flatMap(({ before, after }) => [serviceOf(before), serviceOf(after)])),
    );
    own.subscribe(() => this.#moved(own.get(nodeName)?.metadata.labels?.[zoneLabel]));
    const all = [this.#services.whenSynced(), this.#slices.whenSynced(), own.whenSynced()];
    this.ready = Promise.all(all).then(async () => {
      this.#synced = true;
      this.#schedule();
      await this.settled();
    });
  }

  async settled(): Promise<void> {
    while (!this.#stopped && (this.#working || this.#retry)) {
      if (this.#working) await this.#working;
      else await new Promise<void>((resolve) => this.#afterRetry.push(resolve));
    }
  }

  stop(): void {
    this.#stopped = true;
    this.#retry?.cancel();
    for (const informer of this.#informers) informer.stop();
    for (const resolve of this.#afterRetry.splice(0)) resolve();
    this.#nft.stop();
  }

  readonly #afterRetry: (() => void)[] = [];

  #touch(keys: (string | undefined)[]): void {
    for (const key of keys) if (key !== undefined) this.#dirty.add(key);
    this.#schedule();
  }

  #moved(zone: string | undefined): void {
    if (this.#place.zone === zone) return;
    this.#place = { ...this.#place, zone };
    this.#touch(this.#services.list().map(nameOf));
  }

  /** One transaction at a time; what changes meanwhile is the next one. */
  #schedule(): void {
    if (this.#stopped || !this.#synced || this.#working || this.#retry) return;
    this.#working = Promise.resolve()
      .then(() => this.#apply())
      .then(
        () => {
          this.#failures = 0;
        },
        (error: unknown) => this.#failed(error),
      )
      .finally(() => {
        this.#working = undefined;
        if (this.#dirty.size > 0 || this.#rebuild) this.#schedule();
      });
  }

  async #apply(): Promise<void> {
    for (const key of this.#dirty) {
      const service = this.#services.get(key);
      if (service) this.#table.set(key, rulesOf(service, this.#slices.byIndex("service", key), this.#place));
      else if (this.#table.has(key)) this.#table.set(key, undefined);
    }
    this.#dirty.clear();
    if (this.#rebuild) {
      await this.#nft.file(this.#table.whole());
      this.#rebuild = false;
      return;
    }
    const changes = this.#table.takeChanges();
    if (changes !== "") await this.#nft.transaction(changes);
  }

  #failed(error: unknown): void {
    if (this.#stopped) return;
    this.#rebuild = true;
    this.#failures++;
    this.#options.log?.(`service rules: ${error instanceof Error ? error.message : error}`);
    // The first time at once: a whole table mends what a single change met.
    if (this.#failures === 1) return;
    const delay = Math.min(longestBackoff, firstBackoff * 2 ** (this.#failures - 2));
    this.#retry = this.#options.world.after(delay, () => {
      this.#retry = undefined;
      for (const resolve of this.#afterRetry.splice(0)) resolve();
      this.#schedule();
    });
  }
}

/** `namespace/name` of the Service that a slice belongs to. */
function serviceOf(slice: EndpointSlice | undefined): string | undefined {
  const name = slice?.metadata.labels?.[serviceNameLabel];
  return name === undefined ? undefined : `${slice!.metadata.namespace}/${name}`;
}

/** A slice without what no rule depends on. */
function lean(slice: EndpointSlice): EndpointSlice | undefined {
  if (slice.addressType !== "IPv4") return undefined;
  const { name, namespace, labels, uid, resourceVersion } = slice.metadata;
  const service = labels?.[serviceNameLabel];
  if (service === undefined) return undefined;
  return {
    apiVersion: slice.apiVersion,
    kind: slice.kind,
    metadata: { name, namespace, uid, resourceVersion, labels: { [serviceNameLabel]: service } },
    addressType: slice.addressType,
    ports: slice.ports,
    endpoints: (slice.endpoints ?? []).map(({ addresses, conditions, nodeName, zone }) => ({
      addresses,
      conditions,
      nodeName,
      zone,
    })),
  };
}
