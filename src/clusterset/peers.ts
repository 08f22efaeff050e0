/** The clusters of the set as this one sees them: who they are, what they offer, whether they live. */
import {
  type EndpointOffer,
  type PeerReport,
  type Secret,
  type ServiceOffer,
  secrets,
  systemNamespace,
  type TrustBundle,
} from "../api/index.ts";
import {
  type Collection,
  derive,
  type Engine,
  flatDerive,
  joinPartitions,
  type PartitionJoin,
  type Read,
  type Source,
  source,
} from "../collections/index.ts";
import {
  type Credentials,
  type KubeClient,
  parseKubeconfig,
  type Transport,
  type WatchedSource,
  watchSource,
} from "../kube/index.ts";
import { Connection, type Signs } from "./connection.ts";
import { Pace } from "./pace.ts";
import { renewInTime } from "./renewal.ts";
import { peerReportKey } from "./report.ts";
import { isPeerSecret, type PeerSpec, peersIn } from "./secret.ts";

/** How long a peer may be silent before its offers are withdrawn, in seconds, when nobody says. */
export const defaultLease = 30;
/** Milliseconds without a heartbeat after which a peer's control plane is late: it beats every third of its lease. */
const lateAfter = (lease: number) => lease / 2;

/**
 * live: heard, and its control plane beats. stale: its control plane is late or its API does not answer; its
 * offers stand. lost: for the time of its lease (30 s unless told) there was no sign of life and it did not answer
 * when asked; its offers do not count. refused, unheard: for that time, and ever since we listen, its API server
 * answers but refuses us (a token that is not good) or says what we do not understand: nothing new waits for its
 * offers, and what was imported from it before stands until it is heard, lost or no peer any more. invalid: the
 * same, because its Secret cannot be used and never could since we run. A stopped control plane whose API server
 * answers is stale for as long as that lasts: stopping or upgrading a control plane interrupts nothing. renamed: it beats
 * under another name than our Secret says, and so does not speak for who we think that it is.
 */
export interface PeerState {
  cluster: string;
  state: "live" | "renamed" | "stale" | "lost" | "refused" | "unheard" | "invalid";
  /** Why it is not live, for people. */
  reason?: string;
  /** Why its Secret as it is now cannot be used; what it said before is. */
  problem?: string;
  /** When it was last seen to beat, RFC 3339; of peers that are not live. */
  lastHeartbeat?: string;
  /** How long it may be silent, in seconds. */
  lease: number;
  /** The Weft that runs there. */
  version?: string;
  /** We have not listened long enough to say more than an earlier control plane did. */
  early?: boolean;
}

/** Something that a person should hear of. */
export interface PeerNote {
  cluster: string;
  level: "normal" | "warning";
  /** UpperCamelCase, as Events have it. */
  reason: string;
  message: string;
  /** The Secret that names the peer, where there is one. */
  secret?: Secret;
}

export interface PeersOptions {
  engine: Engine;
  /** Of our own cluster. */
  client: KubeClient;
  /** Our own id. */
  cluster: string;
  /** Opens the way to a peer's API server. */
  connect: (credentials: Credentials, peer: string) => Transport & { close?: () => void };
  onNote?: (note: PeerNote) => void;
  /** What we, or an earlier control plane of our cluster, reported on the peers. */
  reports?: Collection<PeerReport>;
  /** Whether this control plane writes, and so is the one that renews tokens; always unless told. */
  leads?: () => boolean;
  /** The lease of peers whose heartbeat was never seen, in seconds; 30 unless told. */
  lease?: number;
}

interface Peer {
  spec: PeerSpec;
  /** The one whose offers count. */
  current: Connection | undefined;
  /** Made from a changed Secret; takes over when it is complete (law 9). */
  next: Connection | undefined;
}

/** Follows the Secrets, keeps one connection per peer, and joins what the peers offer. */
export class Peers {
  /** Keyed `cluster/namespace/name`. Our own cluster's are to be added by whoever makes them. */
  readonly serviceOffers: PartitionJoin<ServiceOffer>;
  readonly endpointOffers: PartitionJoin<EndpointOffer>;
  /** The peers' only. */
  readonly trustBundles: PartitionJoin<TrustBundle>;
  /** Keyed by cluster. */
  readonly states: Collection<PeerState>;
  readonly #options: PeersOptions;
  readonly #secrets: WatchedSource<Secret>;
  readonly #specs: Collection<PeerSpec>;
  /**
   * A row for each peer that is there but was never heard: it refuses us, answers what nobody understands, or its
   * Secret cannot be used. What was imported from it before is to stand. Keyed by cluster.
   */
  readonly unheard: Collection<{ cluster: string; name: string }>;
  readonly #signs: Source<Signs>;
  readonly #lost: Collection<{ cluster: string; lease: number }>;
  /** Secrets that cannot be used, by the cluster that they name. */
  readonly #problems: Source<{ cluster: string; message: string }>;
  readonly #peers = new Map<string, Peer>();
  readonly #pace: Pace;
  #known = false;

  constructor(options: PeersOptions) {
    const { engine, client } = options;
    this.#options = options;
    this.#pace = new Pace(client.world);
    this.serviceOffers = joinPartitions(engine, { name: "allServiceOffers", awaitPartitions: true });
    this.endpointOffers = joinPartitions(engine, { name: "allEndpointOffers", awaitPartitions: true });
    this.trustBundles = joinPartitions(engine, { name: "peerTrustBundles", awaitPartitions: true });
    this.#signs = source(engine, { name: "signs", key: ({ cluster }) => cluster });
    this.#lost = derive(
      this.#signs,
      (signs, read) => {
        const { cluster, heardAt, unanswered } = signs;
        const lease = this.#leaseOf(signs, read);
        return unanswered && read.reached(heardAt + lease) ? { cluster, lease } : undefined;
      },
      { name: "lostPeers" },
    );
    this.#problems = source(engine, { name: "peerSecretProblems", key: ({ cluster }) => cluster });
    this.#lost.subscribe((changes) => {
      for (const { key, before, after } of changes) {
        if ((before === undefined) !== (after === undefined)) this.#lostOrFound(key, after);
      }
    });
    this.#secrets = watchSource(engine, client, secrets, {
      namespace: systemNamespace,
      transform: (secret) => (isPeerSecret(secret) ? secret : undefined),
    });
    this.#specs = flatDerive(this.#secrets, peersIn, { name: "peerSecrets", key: ({ cluster }) => cluster });
    this.unheard = derive(
      this.#specs,
      ({ cluster }, read) => {
        const signs = read.get(this.#signs, cluster);
        if (!signs) {
          return read.get(this.#problems, cluster)
            ? { cluster, name: `${cluster}, whose Secret cannot be used` }
            : undefined;
        }
        const { since, complete, refusal, trouble } = signs;
        const over = !complete && (refusal ?? trouble) && read.reached(since + this.#leaseOf(signs, read));
        if (!over || read.get(this.#lost, cluster)) return undefined;
        const why = refusal ? "which refuses us" : "which answers what we do not understand";
        return { cluster, name: `${cluster}, ${why}` };
      },
      { name: "unheardPeers" },
    );
    this.unheard.subscribe((changes) => {
      // First what stands is held, then the waiting ends.
      for (const { key, after } of changes) if (after) this.#peers.get(key)?.current?.giveUp();
    });
    this.states = derive(
      this.#specs,
      ({ cluster }, read): PeerState | undefined => {
        const signs = read.get(this.#signs, cluster);
        const problem = read.get(this.#problems, cluster)?.message;
        if (!signs) return problem ? invalidState(cluster, problem, options.lease) : undefined;
        const state = stateOf(signs, this.#leaseOf(signs, read), read);
        return problem ? { ...state, problem } : state;
      },
      { name: "peers" },
    );
    this.#specs.subscribe((changes) => {
      for (const { key, after } of changes) this.#specChanged(key, after);
      if (!this.#known && this.#secrets.state === "synced") {
        this.#known = true;
        this.#signs.markSynced();
        this.#problems.markSynced();
        this.serviceOffers.markSynced();
        this.endpointOffers.markSynced();
        this.trustBundles.markSynced();
      }
    });
  }

  /** How far behind our view of each peer that beats is, in milliseconds (see Signs). It is no cause for anything. */
  get lags(): ReadonlyMap<string, number> {
    const all = [...this.#signs.values()].map(({ cluster, lag }) => [cluster, lag] as const);
    return new Map(all.filter((each): each is [string, number] => each[1] !== undefined));
  }

  /** The peers are known, heard or not. */
  get synced(): boolean {
    return this.#known;
  }

  stop(): void {
    this.#secrets.reflection.stop();
    this.#pace.stop();
    for (const peer of this.#peers.values()) {
      peer.next?.close();
      peer.current?.close();
    }
    this.#peers.clear();
  }

  /** Milliseconds: as the peer says, as it said to an earlier control plane of ours, or as is usual. */
  #leaseOf({ cluster, lease }: Signs, read: Read): number {
    const { reports, lease: usual = defaultLease } = this.#options;
    if (lease !== undefined) return lease;
    const before = reports && read.get(reports, peerReportKey(cluster))?.status?.leaseDurationSeconds;
    return (before ?? usual) * 1000;
  }

  #specChanged(cluster: string, spec: PeerSpec | undefined): void {
    if (cluster === this.#options.cluster) {
      if (spec)
        this.#note(
          cluster,
          "warning",
          "PeerIsSelf",
          `Secret ${spec.secret} names this cluster itself; ignored.`,
        );
      return;
    }
    if (!spec) {
      this.#pace.forget(cluster);
      this.#problems.remove(cluster);
      const peer = this.#peers.get(cluster);
      if (peer) this.#remove(cluster, peer);
      return;
    }
    // Of what changes faster than anyone can use it, the last counts, when its time has come.
    this.#pace.run(cluster, () => this.#use(cluster, spec));
  }

  #use(cluster: string, spec: PeerSpec): void {
    const peer = this.#peers.get(cluster);
    if (peer?.spec.kubeconfig === spec.kubeconfig) {
      this.#problems.remove(cluster);
      return;
    }
    const credentials = this.#credentials(spec);
    if (!credentials) return; // a mistake in the Secret: the last good connection stays
    if (!peer) {
      const added: Peer = { spec, current: undefined, next: undefined };
      this.#peers.set(cluster, added);
      this.#connect(cluster, added, credentials);
      return;
    }
    peer.spec = spec;
    peer.next?.close();
    peer.next = undefined;
    this.#connect(cluster, peer, credentials);
  }

  #credentials(spec: PeerSpec): Credentials | undefined {
    try {
      if (!spec.kubeconfig) throw new Error(`Secret ${spec.secret} has no data.kubeconfig`);
      const credentials = parseKubeconfig(spec.kubeconfig, `Secret ${spec.secret}`).credentials();
      this.#problems.remove(spec.cluster);
      return credentials;
    } catch (error) {
      const { message } = error as Error;
      this.#problems.put({ cluster: spec.cluster, message });
      this.#note(spec.cluster, "warning", "PeerSecretInvalid", message);
      return undefined;
    }
  }

  #connect(cluster: string, peer: Peer, credentials: Credentials): void {
    const { engine, client, connect } = this.#options;
    const connection = new Connection({
      engine,
      world: client.world,
      cluster,
      transport: connect(credentials, cluster),
      server: credentials.server,
      lease: (this.#options.lease ?? defaultLease) * 1000,
      lost: this.#lost,
      onSigns: (signs) => {
        if (peer.current === connection) this.#signs.put(signs);
        else if (peer.next === connection) this.#nextWaits(cluster, signs);
      },
      onRefused: (refusal) => this.#refusedBy(cluster, refusal, peer.next === connection),
      onSynced: () => {
        if (peer.next === connection) this.#takeOver(cluster, peer, connection);
      },
      onRenamed: (name) => this.#note(cluster, "warning", "PeerRenamed", `${renamedTo(name)}.`),
      onStranger: (kind, name, claims) =>
        this.#note(
          cluster,
          "warning",
          "ForeignOffer",
          `${kind} ${name} of ${cluster} says that it is ${claims}'s; ignored.`,
        ),
    });
    const { token } = credentials;
    const end =
      typeof token === "string" &&
      renewInTime({
        spec: peer.spec,
        token,
        own: client,
        peer: connection.client,
        ...(this.#options.leads && { mayRenew: this.#options.leads }),
        onError: (error) =>
          this.#note(cluster, "warning", "TokenNotRenewed", `${cluster}: ${(error as Error).message}`),
      });
    if (end) connection.onClose(end);
    // A connection that never gave us anything has nothing to protect.
    if (peer.current?.complete) peer.next = connection;
    else this.#takeOver(cluster, peer, connection);
  }

  /** What a changed Secret says does not work, so far; what it said before is used on. */
  #nextWaits(cluster: string, { refusal, trouble }: Signs): void {
    const message = refusal === undefined ? trouble : refusedBecause(refusal);
    if (message !== undefined) this.#problems.put({ cluster, message });
  }

  #takeOver(cluster: string, peer: Peer, connection: Connection): void {
    this.serviceOffers.add(cluster, connection.serviceOffers);
    this.endpointOffers.add(cluster, connection.endpointOffers);
    this.trustBundles.add(cluster, connection.trustBundles);
    peer.current?.close();
    peer.current = connection;
    this.#problems.remove(cluster);
    if (peer.next === connection) peer.next = undefined;
    this.#signs.put(connection.signs);
  }

  #remove(cluster: string, peer: Peer): void {
    this.#peers.delete(cluster);
    this.serviceOffers.drop(cluster);
    this.endpointOffers.drop(cluster);
    this.trustBundles.drop(cluster);
    peer.next?.close();
    peer.current?.close();
    this.#signs.remove(cluster);
    this.#note(cluster, "normal", "PeerRemoved", `${cluster} is no peer any more.`);
  }

  #refusedBy(cluster: string, refusal: string, next: boolean): void {
    const stands = next
      ? "what its Secret said before is used on"
      : "until its Secret is mended, what was imported from it stands as it is";
    this.#note(cluster, "warning", "PeerRefused", `${cluster} refuses us: ${refusal}; ${stands}.`);
  }

  #lostOrFound(cluster: string, lost: { lease: number } | undefined): void {
    const peer = this.#peers.get(cluster);
    if (!peer) return;
    if (lost) peer.current?.giveUp();
    const message = lost
      ? `${cluster} was not heard for ${lost.lease / 1000} s and does not answer; its endpoints are withdrawn.`
      : `${cluster} is heard again.`;
    this.#note(cluster, lost ? "warning" : "normal", lost ? "PeerLost" : "PeerBack", message);
  }

  #note(cluster: string, level: PeerNote["level"], reason: string, message: string): void {
    const name = this.#peers.get(cluster)?.spec.secret;
    const secret = name === undefined ? undefined : this.#secrets.get(name);
    this.#options.onNote?.({ cluster, level, reason, message, ...(secret && { secret }) });
  }
}

function invalidState(cluster: string, reason: string, lease = defaultLease): PeerState {
  return { cluster, state: "invalid", reason, lease };
}

function stateOf(signs: Signs, lease: number, read: Read): PeerState {
  const {
    cluster,
    since,
    heardAt,
    beatAt,
    beatTime,
    unanswered,
    reason,
    refusal,
    complete,
    trouble,
    version,
    otherName,
  } = signs;
  const because = trouble ? `: ${trouble}` : "";
  const known = { cluster, lease: lease / 1000, ...(version && { version }) };
  const silent = { ...known, ...(beatTime && { lastHeartbeat: beatTime }) };
  if (unanswered) {
    const state = read.reached(heardAt + lease) ? "lost" : "stale";
    return { ...silent, state, reason: reason ?? "its API server does not answer" };
  }
  if (refusal !== undefined) {
    const state = !complete && read.reached(since + lease) ? "refused" : "stale";
    return { ...silent, state, reason: refusedBecause(refusal) };
  }
  if (!complete && trouble && read.reached(since + lease)) {
    return { ...silent, state: "unheard", reason: trouble };
  }
  if (beatAt === undefined) {
    const early = !read.reached(since + lateAfter(lease));
    return {
      ...silent,
      state: "stale",
      reason: `its heartbeat has not been seen yet${because}`,
      ...(early && { early }),
    };
  }
  if (read.reached(beatAt + lateAfter(lease))) {
    return { ...silent, state: "stale", reason: `its heartbeat is late${because}` };
  }
  if (otherName !== undefined) return { ...known, state: "renamed", reason: renamedTo(otherName) };
  return { ...known, state: "live" };
}

function refusedBecause(refusal: string): string {
  return `its API server refuses us: ${refusal}`;
}

function renamedTo(name: string): string {
  return `it calls itself '${name}' now; 'weft join' of both clusters makes it a peer by that name and forgets this one`;
}
