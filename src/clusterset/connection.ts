/** One connection to one peer's API server: what it offers, and whether it lives. */
import {
  clusterAnnotation,
  type EndpointOffer,
  endpointOffers,
  heartbeatLease,
  type KubeObject,
  type Lease,
  leases,
  type Resource,
  type ServiceOffer,
  serviceOffers,
  systemNamespace,
  type TrustBundle,
  trustBundles,
  versionAnnotation,
} from "../api/index.ts";
import { type Collection, derive, type Engine } from "../collections/index.ts";
import {
  ApiError,
  KubeClient,
  type ReflectState,
  type Transport,
  type WatchedSource,
  watchSource,
} from "../kube/index.ts";
import { type Timer, timestamp, type World } from "../world/index.ts";
import { isEndpointOffer, isServiceOffer, isTrustBundle } from "./shape.ts";

/** Milliseconds between looks at when the peer was last heard: 5 s with the usual lease of 30 s. */
const look = (lease: number) => lease / 6;
/** A peer not heard for so long, though it has a heartbeat every third of its lease, is asked (12 s). */
const quiet = (lease: number) => lease * 0.4;
/** How long it has for the answer (4 s). */
const patience = (lease: number) => lease / 7.5;

/** Of so many heartbeats (5 minutes) the fastest is the one that others are compared with; clocks drift. */
const remembered = 30;

/** Bounds of what a peer may say of its lease, in seconds: less would not be kept, more would never run out. */
const shortestLease = 3;
const longestLease = 3600;

/** More than this in one answer, or one line of a watch, is nothing that a peer has to say, in bytes. */
const longestAnswer = 64 * 1024 * 1024;

/** A row of what is known of the peers' lives; times are milliseconds on the monotonic clock. */
export interface Signs {
  cluster: string;
  /** When we began to listen. */
  since: number;
  /** When its API server last said anything; the start of the connection before it ever did. */
  heardAt: number;
  /** When its heartbeat was last seen to change. */
  beatAt: number | undefined;
  /** The same on the wall clock, RFC 3339, for people. */
  beatTime: string | undefined;
  /**
   * How much longer than the fastest of late the last heartbeat took from there to here, in milliseconds: how far
   * behind our view of the peer is. Of delays that two clocks tell only differences mean something.
   */
  lag: number | undefined;
  /** The Weft that runs there, as its heartbeat says. */
  version: string | undefined;
  /** What it calls itself, where that is not what our Secret says. */
  otherName: string | undefined;
  /** How long it may be silent: `leaseDurationSeconds` of its heartbeat, in milliseconds, once that was seen. */
  lease: number | undefined;
  /** It was asked since it was last heard, and did not answer. */
  unanswered: boolean;
  /** Why, for people. */
  reason: string | undefined;
  /** Its offers were complete at least once. */
  complete: boolean;
  /** It answers, but refuses what we ask for (a token that is not good, rights that we lack): in its words. */
  refusal: string | undefined;
  /** Why listening to it does not work at this moment, though it may answer. */
  trouble: string | undefined;
}

export interface ConnectionOptions {
  engine: Engine;
  world: World;
  cluster: string;
  transport: Transport & { close?: () => void };
  server: string;
  /** The lease of a peer whose heartbeat was not seen yet, in milliseconds. */
  lease: number;
  /** A row for each peer that was neither heard nor answers: its offers do not count. */
  lost: Collection<{ cluster: string }>;
  onSigns: (signs: Signs) => void;
  /** Both kinds of offers are complete. */
  onSynced: () => void;
  /** It refuses us, in other words than before. */
  onRefused: (refusal: string) => void;
  /** It calls itself otherwise than our Secret does, which it did not do before. */
  onRenamed: (name: string) => void;
  /** An offer under another cluster's name; it is ignored. */
  onStranger: (kind: string, name: string, claims: string) => void;
}

/** The connection lives until `close`. Reconnecting is the reflectors' business. */
export class Connection {
  readonly serviceOffers: Collection<ServiceOffer>;
  readonly endpointOffers: Collection<EndpointOffer>;
  /** Whom its meshes believe. They stand while it is lost: its workloads are no others when it is back. */
  readonly trustBundles: Collection<TrustBundle>;
  readonly client: KubeClient;
  readonly #options: ConnectionOptions;
  readonly #watched: WatchedSource<KubeObject>[] = [];
  readonly #disposables: { dispose(): void }[] = [];
  readonly #ends: (() => void)[] = [];
  /** What is refused, by the kind that was asked for. */
  readonly #refusals = new Map<string, string>();
  /** Why a kind is not heard, by the kind. */
  readonly #troubles = new Map<string, string>();
  /** From the time that a heartbeat names to when it was seen, of the last ones, in milliseconds. */
  readonly #delays: number[] = [];
  #signs: Signs;
  #timer: Timer | undefined;
  #closed = false;

  constructor(options: ConnectionOptions) {
    const { engine, world, cluster, transport, server } = options;
    this.#options = options;
    this.client = new KubeClient({ transport, world, cluster, server, longestAnswer });
    this.#signs = {
      cluster,
      since: world.monotonic(),
      heardAt: world.monotonic(),
      beatAt: undefined,
      beatTime: undefined,
      lag: undefined,
      version: undefined,
      otherName: undefined,
      lease: undefined,
      unanswered: false,
      reason: undefined,
      complete: false,
      refusal: undefined,
      trouble: undefined,
    };
    this.serviceOffers = this.#offers(serviceOffers, isServiceOffer);
    this.endpointOffers = this.#offers(endpointOffers, isEndpointOffer);
    const lease = watchSource(engine, this.client, leases, {
      namespace: systemNamespace,
      fieldSelector: `metadata.name=${heartbeatLease}`,
      name: `heartbeat of ${cluster}`,
      onState: (state) => this.#stateChanged(leases.plural, state),
    });
    // The Lease says whether the control plane runs; nobody waits for it.
    lease.giveUp();
    lease.subscribe((changes) => {
      const beat = changes.find(({ after }) => after)?.after;
      if (!beat) return;
      const seconds = beat.spec?.leaseDurationSeconds;
      this.#tell({
        beatAt: world.monotonic(),
        beatTime: timestamp(world),
        lag: this.#lagOf(beat),
        version: beat.metadata.annotations?.[versionAnnotation]?.slice(0, 63),
        otherName: this.#otherName(beat),
        ...(seconds && { lease: Math.min(Math.max(seconds, shortestLease), longestLease) * 1000 }),
      });
    });
    this.#watched.push(lease as unknown as WatchedSource<KubeObject>);
    this.trustBundles = this.#trust();
    this.#wait();
  }

  /** An earlier Weft does not say. */
  #otherName({ metadata }: Lease): string | undefined {
    const name = metadata.annotations?.[clusterAnnotation]?.slice(0, 63);
    if (name === undefined || name === this.#options.cluster) return undefined;
    if (name !== this.#signs.otherName) this.#options.onRenamed(name);
    return name;
  }

  #lagOf({ spec }: Lease): number | undefined {
    const delay = this.#options.world.now() - Date.parse(spec?.renewTime ?? "");
    if (Number.isNaN(delay)) return undefined;
    this.#delays.push(delay);
    if (this.#delays.length > remembered) this.#delays.shift();
    return delay - Math.min(...this.#delays);
  }

  get signs(): Signs {
    return this.#signs;
  }

  /** Whether its offers were complete at least once. */
  get complete(): boolean {
    return this.#watched.slice(0, 2).every(({ state }) => state === "synced");
  }

  /** Nobody waits for it any more (law 7). Should it be heard after all, nothing needs to be done. */
  giveUp(): void {
    for (const watched of this.#watched) watched.giveUp();
  }

  /** To be ended together with the connection. */
  onClose(end: () => void): void {
    this.#ends.push(end);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#timer?.cancel();
    for (const end of this.#ends) end();
    for (const { reflection } of this.#watched) reflection.stop();
    for (const disposable of this.#disposables) disposable.dispose();
    for (const watched of this.#watched) watched.dispose();
    this.#options.transport.close?.();
  }

  /** A peer speaks for itself only, and only as long as there is a sign of life. */
  #offers<T extends KubeObject & { spec: { cluster: string } }>(
    resource: Resource<T>,
    isOffer: (object: KubeObject) => boolean,
  ): Collection<T> {
    const { engine, cluster, lost, onStranger, onSynced } = this.#options;
    const watched = watchSource(engine, this.client, resource, {
      transform: (offer) => (isOffer(offer) ? offer : undefined),
      onState: (state) => this.#stateChanged(resource.plural, state),
    });
    watched.subscribe((changes) => {
      for (const { key, after } of changes) {
        if (after && after.spec.cluster !== cluster) onStranger(resource.kind, key, after.spec.cluster);
      }
      if (this.complete) onSynced();
      this.#noteComplete();
    });
    const offers = derive(
      watched,
      (offer, read) => (offer.spec.cluster !== cluster || read.get(lost, cluster) ? undefined : offer),
      { name: `${resource.plural} by ${cluster}` },
    );
    this.#watched.push(watched as unknown as WatchedSource<KubeObject>);
    this.#disposables.push(offers);
    return offers;
  }

  /** An earlier Weft has no such kind, or grants no right to it: then there is nothing to wait for. */
  #trust(): Collection<TrustBundle> {
    const { engine, cluster } = this.#options;
    const watched = watchSource(engine, this.client, trustBundles, {
      transform: (bundle) => (isTrustBundle(bundle) && bundle.spec.cluster === cluster ? bundle : undefined),
      name: `trustbundles of ${cluster}`,
      onState: (state) => {
        const { error } = state.state === "error" ? state : {};
        if (error instanceof ApiError && (error.code === 403 || error.code === 404)) watched.giveUp();
      },
    });
    this.#watched.push(watched as unknown as WatchedSource<KubeObject>);
    return watched;
  }

  get #lease(): number {
    return this.#signs.lease ?? this.#options.lease;
  }

  /** Told with the batch after the one that showed what it offers: nobody looks away before it is there. */
  #noteComplete(): void {
    if (this.complete && !this.#signs.complete) this.#tell({ complete: true });
  }

  #stateChanged(kind: string, state: ReflectState): void {
    this.#refused(kind, state);
    const failing = state.state === "error" || state.state === "stale";
    if (failing) this.#troubles.set(kind, state.reason);
    else if (!this.#troubles.delete(kind)) return;
    const [trouble] = this.#troubles.values();
    if (trouble !== this.#signs.trouble) this.#tell({ trouble });
  }

  #refused(kind: string, state: ReflectState): void {
    // Until it grants what it refused, a server that falls silent has not taken its word back.
    if (state.state === "synced") this.#refusals.delete(kind);
    else if (state.state === "error" && state.error instanceof ApiError && state.error.code < 500)
      this.#refusals.set(kind, state.error.status.message ?? state.reason);
    const [refusal] = this.#refusals.values();
    if (refusal === this.#signs.refusal) return;
    this.#tell({ refusal });
    if (refusal !== undefined) this.#options.onRefused(refusal);
  }

  #tell(news: Partial<Signs>): void {
    this.#signs = { ...this.#signs, ...news };
    this.#options.onSigns(this.#signs);
  }

  #wait(): void {
    if (!this.#closed) this.#timer = this.#options.world.after(look(this.#lease), () => void this.#look());
  }

  async #look(): Promise<void> {
    const { world } = this.#options;
    this.#noteComplete();
    let heardAt = this.#signs.heardAt;
    for (const { reflection } of this.#watched) heardAt = Math.max(heardAt, reflection.heardAt ?? 0);
    if (heardAt > this.#signs.heardAt) this.#tell({ heardAt, unanswered: false, reason: undefined });
    if (world.monotonic() - heardAt >= quiet(this.#lease)) await this.#ask();
    this.#wait();
  }

  /** Whatever an API server answers proves that it lives, a refusal too; a gateway's error does not. */
  async #ask(): Promise<void> {
    const { world } = this.#options;
    let reason: string | undefined;
    try {
      await this.client.get(leases, `${systemNamespace}/${heartbeatLease}`, {
        timeout: patience(this.#lease),
      });
    } catch (error) {
      if (!(error instanceof ApiError) || error.code >= 500) reason = (error as Error).message;
    }
    if (this.#closed) return;
    if (reason === undefined) {
      // What changed meanwhile must not wait for connections that do not know yet that the network is back.
      if (this.#signs.unanswered) for (const { reflection } of this.#watched) reflection.again();
      this.#tell({ heardAt: world.monotonic(), unanswered: false, reason: undefined });
    } else {
      this.#tell({ unanswered: true, reason });
    }
  }
}
