/**
 * The client of delta ADS (envoy.service.discovery.v3, "incremental xDS"): one stream for all types; what is asked
 * for, the versions that are held, and ACK or NACK for what comes. When the stream ends the proxy goes on with what
 * it has and asks again with `initial_resource_versions`.
 */

import type { Node } from "#protocols/envoy/config/core/v3/base.ts";
import {
  DeltaDiscoveryRequest,
  DeltaDiscoveryResponse,
} from "#protocols/envoy/service/discovery/v3/discovery.ts";
import type { Timer, World } from "../world/index.ts";
import type { GrpcStream } from "./grpc.ts";
import { messageOf } from "./values.ts";

export const adsPath = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

const prefix = "type.googleapis.com/envoy.";
export const typeUrls = {
  listener: `${prefix}config.listener.v3.Listener`,
  route: `${prefix}config.route.v3.RouteConfiguration`,
  cluster: `${prefix}config.cluster.v3.Cluster`,
  endpoints: `${prefix}config.endpoint.v3.ClusterLoadAssignment`,
  secret: `${prefix}extensions.transport_sockets.tls.v3.Secret`,
} as const;

/** A resource as it came. */
export interface Delivered {
  name: string;
  version: string;
  bytes: Buffer;
}

/** Refused resources with the reason. */
export type Rejections = readonly { name: string; reason: string }[];

/** Who applies resources of one type. Good ones are applied even when others of the same response are refused. */
export type Apply = (changed: readonly Delivered[], removed: readonly string[]) => Rejections;

/** Opens the stream; called again after each end. */
export type OpenStream = (on: {
  opened(): void;
  message(bytes: Buffer): void;
  ended(reason: string): void;
}) => Promise<GrpcStream>;

/** Envoy's way: half a second, doubled, with full jitter; not to its 30 s, for that long rules would be old. */
const backoff = { first: 500, most: 10_000 };

interface Subscription {
  apply: Apply;
  wildcard: boolean;
  /** Names that are asked for, with how often. */
  names: Map<string, number>;
  /** What is held, by name. */
  versions: Map<string, string>;
  /** What the server was told on this stream; undefined: nothing yet. */
  told: Set<string> | undefined;
}

export interface AdsState {
  connected: boolean;
  /** Why the last stream ended. */
  lastProblem: string | undefined;
  updates: number;
  rejected: number;
  rejections: ReadonlyMap<string, string>;
}

export class AdsClient {
  readonly #world: World;
  readonly #open: OpenStream;
  readonly #node: Node;
  readonly #log: (level: "debug" | "info" | "warning", message: string) => void;
  readonly #subscriptions = new Map<string, Subscription>();
  #stream: GrpcStream | undefined;
  #connected = false;
  #attempt = 0;
  #retry: Timer | undefined;
  #flushing = false;
  #stopped = false;
  #generation = 0;
  readonly state: AdsState & { rejections: Map<string, string> } = {
    connected: false,
    lastProblem: undefined,
    updates: 0,
    rejected: 0,
    rejections: new Map(),
  };

  constructor(options: {
    world: World;
    node: Node;
    open: OpenStream;
    log?: (level: "debug" | "info" | "warning", message: string) => void;
  }) {
    this.#world = options.world;
    this.#open = options.open;
    this.#node = options.node;
    this.#log = options.log ?? (() => undefined);
  }

  start(): void {
    void this.#connect();
  }

  stop(): void {
    this.#stopped = true;
    this.#retry?.cancel();
    this.#stream?.close();
    this.#stream = undefined;
  }

  /** Who applies a type. With `wildcard` all of the type is asked for (LDS, CDS). */
  serve(typeUrl: string, apply: Apply, wildcard = false): void {
    this.#subscriptions.set(typeUrl, {
      apply,
      wildcard,
      names: new Map(),
      versions: new Map(),
      told: undefined,
    });
    this.#flush();
  }

  /** Asks for one resource; as often as it is asked for it is to be let go. */
  subscribe(typeUrl: string, name: string): void {
    const { names } = this.#subscriptions.get(typeUrl)!;
    names.set(name, (names.get(name) ?? 0) + 1);
    this.#flush();
  }

  unsubscribe(typeUrl: string, name: string): void {
    const { names, versions } = this.#subscriptions.get(typeUrl)!;
    const count = (names.get(name) ?? 0) - 1;
    if (count > 0) names.set(name, count);
    else {
      names.delete(name);
      versions.delete(name);
    }
    this.#flush();
  }

  async #connect(): Promise<void> {
    if (this.#stopped) return;
    const generation = ++this.#generation;
    const current = () => generation === this.#generation && !this.#stopped;
    const ended = (reason: string) => {
      if (!current()) return;
      this.#generation++;
      this.#stream = undefined;
      this.#connected = false;
      this.state.connected = false;
      this.state.lastProblem = reason;
      for (const subscription of this.#subscriptions.values()) subscription.told = undefined;
      const limit = Math.min(backoff.most, backoff.first * 2 ** this.#attempt++);
      this.#log("warning", `the stream from discovery ended: ${reason}`);
      this.#retry = this.#world.after(limit * this.#world.random(), () => void this.#connect());
    };
    try {
      const stream = await this.#open({
        opened: () => {
          // The stream is ours once `open` has resolved; both orders happen.
          queueMicrotask(() => {
            if (!current()) return;
            this.#connected = true;
            this.#flush();
          });
        },
        message: (bytes) => {
          if (current()) this.#receive(bytes);
        },
        ended,
      });
      if (current()) {
        this.#stream = stream;
        this.#flush();
      } else stream.close();
    } catch (error) {
      ended(messageOf(error));
    }
  }

  /** Tells the server what changed in what we ask for, once per turn. */
  #flush(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      if (!this.#connected || !this.#stream) return;
      for (const [typeUrl, subscription] of this.#subscriptions) this.#tell(typeUrl, subscription);
    });
  }

  #tell(typeUrl: string, subscription: Subscription): void {
    const { names, told, wildcard, versions } = subscription;
    if (told) {
      const subscribe = [...names.keys()].filter((name) => !told.has(name));
      const unsubscribe = [...told].filter((name) => !names.has(name));
      if (subscribe.length === 0 && unsubscribe.length === 0) return;
      subscription.told = new Set(names.keys());
      this.#send({ typeUrl, resourceNamesSubscribe: subscribe, resourceNamesUnsubscribe: unsubscribe });
    } else if (wildcard || names.size > 0) {
      subscription.told = new Set(names.keys());
      // The first request of a type: no names at all asks for everything.
      this.#send({
        typeUrl,
        node: this.#node,
        resourceNamesSubscribe: [...names.keys()],
        initialResourceVersions: Object.fromEntries(versions),
      });
    }
  }

  #send(request: Parameters<typeof DeltaDiscoveryRequest.fromPartial>[0]): void {
    this.#stream?.send(DeltaDiscoveryRequest.encode(DeltaDiscoveryRequest.fromPartial(request)).finish());
  }

  #receive(bytes: Buffer): void {
    let response: DeltaDiscoveryResponse;
    try {
      response = DeltaDiscoveryResponse.decode(bytes);
    } catch (error) {
      this.#log("warning", `a response from discovery cannot be read: ${messageOf(error)}`);
      return;
    }
    const { typeUrl, nonce, resources, removedResources } = response;
    this.#attempt = 0;
    this.state.connected = true;
    this.state.updates++;
    const subscription = this.#subscriptions.get(typeUrl);
    if (!subscription) {
      this.#send({
        typeUrl,
        responseNonce: nonce,
        errorDetail: { code: 3, message: `unknown type ${typeUrl}`, details: [] },
      });
      return;
    }
    const changed: Delivered[] = [];
    const rejections: { name: string; reason: string }[] = [];
    for (const { name, version, resource } of resources) {
      if (!subscription.wildcard && !subscription.names.has(name)) continue; // let go of meanwhile
      if (resource?.typeUrl === typeUrl) changed.push({ name, version, bytes: resource.value });
      else rejections.push({ name, reason: `it is a ${resource?.typeUrl ?? "nothing"}, not a ${typeUrl}` });
    }
    rejections.push(...subscription.apply(changed, removedResources));
    const bad = new Set(rejections.map(({ name }) => name));
    for (const { name, version } of changed) {
      if (bad.has(name)) continue;
      subscription.versions.set(name, version);
      this.state.rejections.delete(`${typeUrl} ${name}`);
    }
    for (const name of removedResources) {
      subscription.versions.delete(name);
      this.state.rejections.delete(`${typeUrl} ${name}`);
    }
    for (const { name, reason } of rejections) this.state.rejections.set(`${typeUrl} ${name}`, reason);
    if (rejections.length === 0) {
      this.#send({ typeUrl, responseNonce: nonce });
      return;
    }
    this.state.rejected++;
    const message = rejections.map(({ name, reason }) => `${name}: ${reason}`).join("\n");
    this.#log("warning", `refused from discovery: ${message}`);
    this.#send({ typeUrl, responseNonce: nonce, errorDetail: { code: 13, message, details: [] } });
  }
}
