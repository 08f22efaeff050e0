/**
 * The control plane on one page: sources → derivations → sinks. Whoever reads this knows the system.
 */
import {
  clusterAnnotation,
  clusterSetZone,
  endpointOffers,
  endpointSlices,
  fieldManager,
  heartbeatLease,
  type KubeObject,
  leaderLease,
  managedByAnnotation,
  nameOf,
  namespaces,
  nodes,
  type ProxyImplementation,
  peerAuthentications,
  peerReports,
  pods,
  type Resource,
  serviceExports,
  serviceImports,
  serviceOffers,
  services,
  systemNamespace,
  tlsModeLabel,
  trustBundles,
  versionAnnotation,
  weftVersion,
} from "./api/index.ts";
import {
  clusterId,
  defaultLease,
  type PeerNote,
  Peers,
  peerReport,
  peerReportKey,
} from "./clusterset/index.ts";
import {
  type Bug,
  type Collection,
  derive,
  Engine,
  holdBack,
  type Waiting,
  type Why,
  why,
} from "./collections/index.ts";
import { meshesOf } from "./control-meshes.ts";
import { Zones } from "./dns/index.ts";
import {
  type Credentials,
  EventRecorder,
  type FieldSink,
  fieldSink,
  type KubeClient,
  labelsOnly,
  type Mark,
  type ObjectSink,
  objectSink,
  startHeartbeat,
  startLeading,
  type Transport,
  type WatchedSource,
  type WatchSourceOptions,
  watchSource,
} from "./kube/index.ts";
import { exportNews, imported, importedSliceRow, offers, slimPod } from "./services/index.ts";

export interface ControlPlaneOptions {
  /** Of the cluster that this is the control plane of. It brings the world along. */
  client: KubeClient;
  /** The cluster's id; read from its ClusterProperty when left out. */
  cluster?: string;
  /** Opens the way to a peer's API server. */
  connect: (credentials: Credentials, peer: string) => Transport & { close?: () => void };
  /** Who holds the heartbeat, for people to see: the pod's name. */
  identity?: string;
  /**
   * There may be others for this cluster, under other identities: one of them leads and writes, all of them know
   * everything and answer DNS. Without it this is the only one.
   */
  elected?: boolean;
  /** How long our peers go on without a sign of life from us, in seconds; 30 unless told. */
  lease?: number;
  /** What meshes run: the image of discovery and proxies, which is our own, and which proxy unless a pod says. */
  mesh: { image: string; proxy: ProxyImplementation };
  /** One line about something that happened; `error` goes with it. */
  log?: (line: string, error?: unknown) => void;
  signal?: AbortSignal;
}

export interface ControlPlane {
  readonly cluster: string;
  readonly engine: Engine;
  /** What clusterset.local is answered from. */
  readonly zones: Zones;
  /** All that can be asked for in `why`, by name. */
  readonly collections: ReadonlyMap<string, Collection<unknown>>;
  /** What writes; empty while another control plane leads. */
  readonly sinks: ReadonlyMap<string, ObjectSink | FieldSink>;
  /** How far behind our view of each peer is, in milliseconds. */
  readonly lags: ReadonlyMap<string, number>;
  /** It writes. */
  readonly leading: boolean;
  /** Our own cluster is known. Peers may be missing: nobody waits for them. */
  readonly ready: boolean;
  why(collection: string, key: string): Why | undefined;
  /** Resolves when nothing is left to write at this moment. */
  idle(): Promise<void>;
  /** Writes no more and lets another lead at once; goes on answering. */
  resign(): Promise<void>;
  /** Ends at once, as if killed: whoever is to lead next waits until its turn. */
  stop(): void;
}

/** Starts it; resolves when the cluster's id is known. It runs until `stop`. */
export async function startControlPlane(options: ControlPlaneOptions): Promise<ControlPlane> {
  const { client, connect, log = () => {}, signal, lease = defaultLease } = options;
  const { world } = client;
  const cluster =
    options.cluster ??
    (await clusterId(client, {
      ...(signal && { signal }),
      onWait: (reason) => log("waiting for the cluster's id", reason),
    }));

  const onBug = (bug: Bug) => log(`bug in ${bug.collection} ${bug.key ?? ""}`, bug.error);
  const engine = new Engine({ world, onBug });
  const sinks = new Map<string, ObjectSink | FieldSink>();
  const events = new EventRecorder({ client, component: "weft" });

  // What our cluster has …
  const watched: WatchedSource<KubeObject>[] = [];
  const watch = <T extends KubeObject>(
    resource: Resource<T>,
    transform?: (object: T) => T | undefined,
    more: WatchSourceOptions<T> = {},
  ) => {
    const fed = watchSource(engine, client, resource, { ...(transform && { transform }), ...more });
    watched.push(fed as unknown as WatchedSource<KubeObject>);
    return fed;
  };
  const own = {
    cluster,
    exports: watch(serviceExports),
    services: watch(services),
    endpointSlices: watch(endpointSlices),
    nodes: watch(nodes, labelsOnly),
    namespaces: watch(namespaces),
    // Who is behind endpoints is told of pods that speak their mesh's mTLS; of others there is nothing to tell.
    pods: watch(pods, slimPod, { labelSelector: `${tlsModeLabel}=istio` }),
    trustBundles: watch(trustBundles),
    peerAuthentications: watch(peerAuthentications),
    // mcs-api lets one be without a spec; there is nothing to be made of it.
    imports: watch(serviceImports, (import_) => (import_.spec ? import_ : undefined)),
    published: watch(serviceOffers),
  };
  const publishedEndpoints = watch(endpointOffers);
  const publishedReports = watch(peerReports);

  // … what it offers, and what all clusters of the set offer together …
  const offered = offers(own);
  const peers = new Peers({
    engine,
    client,
    cluster,
    connect,
    reports: publishedReports,
    lease,
    leads: () => sinks.size > 0,
    onNote: (note) => {
      log(noteLine(note));
      const { secret, level, reason, message } = note;
      if (secret && sinks.size > 0) events[level](secret, reason, message);
    },
  });
  peers.serviceOffers.add(cluster, offered.serviceOffers);
  peers.endpointOffers.add(cluster, offered.endpointOffers);
  const reports = derive(
    peers.states,
    (peer, read) => peerReport(cluster, peer, read.get(publishedReports, peerReportKey(peer.cluster))),
    { name: "peerReports" },
  );

  // … what that means here …
  const { emptyName, ...here } = imported({
    ...own,
    allServiceOffers: peers.serviceOffers,
    allEndpointOffers: peers.endpointOffers,
  });

  // … the meshes of this cluster …
  const meshes = meshesOf({ engine, client, ...own, ...options.mesh, peers, log });

  // What a peer that cannot be heard offered before stands; nothing new waits for it (law 7).
  const { unheard } = peers;
  const importedFrom = (key: string | undefined): readonly Waiting[] =>
    key === undefined
      ? [...unheard.values()]
      : (own.imports.get(key)?.status?.clusters ?? []).flatMap(({ cluster }) => unheard.get(cluster) ?? []);
  const offeredBy = (key: string | undefined): readonly Waiting[] =>
    key === undefined
      ? [...unheard.values()]
      : [unheard.get(partitionOf(key))].filter((peer) => peer !== undefined);
  const standing = {
    imports: holdBack(here.imports, { by: importedFrom, changes: unheard }),
    conflicts: holdBack(here.conflicts, { by: importedFrom, changes: unheard }),
    slices: holdBack(here.slices, { by: offeredBy, changes: unheard }),
  };

  // … and, while we lead, into the API: our own objects whole, others' objects by the field.
  const onError = (kind: string) => (name: string, error: unknown) => log(`writing ${kind} ${name}`, error);
  const objects = <T extends KubeObject>(
    resource: Resource<T>,
    desired: Parameters<typeof objectSink<T>>[0]["desired"],
    observed: Collection<T>,
    rowKey: (object: T) => string | undefined,
    mark?: Mark,
  ) =>
    sinks.set(
      resource.plural,
      objectSink({
        client,
        resource,
        desired,
        observed,
        rowKey,
        ...(mark && { mark }),
        onError: onError(resource.kind),
      }),
    );
  const fields = <T extends KubeObject>(
    manager: string,
    resource: Resource<T>,
    desired: Parameters<typeof fieldSink<T>>[0]["desired"],
    observed: Collection<T>,
    rowKey: (object: T) => string | undefined,
  ) =>
    sinks.set(
      manager,
      fieldSink({ client, resource, desired, observed, manager, rowKey, onError: onError(resource.kind) }),
    );
  const sameName = nameOf;
  const lead = (term: AbortSignal) => {
    objects(serviceOffers, offered.serviceOffers, own.published, sameName);
    objects(endpointOffers, offered.endpointOffers, publishedEndpoints, sameName);
    objects(peerReports, reports, publishedReports, ({ metadata }) => metadata.name);
    objects(serviceImports, standing.imports, own.imports, sameName);
    objects(services, here.derivedServices, own.services, () => undefined, {
      annotations: { [managedByAnnotation]: fieldManager },
    });
    objects(endpointSlices, standing.slices, own.endpointSlices, importedSliceRow);
    fields("weft-readiness", serviceExports, here.readiness, own.exports, sameName);
    fields("weft-conflicts", serviceExports, standing.conflicts, own.exports, sameName);
    fields("weft-imports", serviceImports, here.importFields, own.imports, sameName);
    fields("weft-slices", endpointSlices, here.sliceFields, own.endpointSlices, sameName);
    const releaseMeshes = meshes.lead(sinks);
    // Our peers see that we live by the heartbeat; authors are told by Events.
    const heartbeat = startHeartbeat({
      client,
      namespace: systemNamespace,
      name: heartbeatLease,
      identity: options.identity ?? cluster,
      durationSeconds: lease,
      annotations: { [versionAnnotation]: weftVersion, [clusterAnnotation]: cluster },
      onError: (error) => log("renewing the heartbeat", error),
    });
    const unsubscribe = own.exports.subscribe((changes) => {
      for (const { before, after } of changes) {
        if (!before || !after) continue;
        for (const { level, reason, message } of exportNews(before, after))
          events[level](after, reason, message);
      }
    });
    term.addEventListener(
      "abort",
      () => {
        unsubscribe();
        releaseMeshes();
        heartbeat.stop();
        for (const sink of sinks.values()) sink.stop();
        sinks.clear();
      },
      { once: true },
    );
  };

  // The names of the clusterset, which every control plane answers.
  const zones = new Zones();
  zones.add({
    name: clusterSetZone,
    ready: () => here.names.pending().length === 0,
    computed: emptyName,
  });
  const unfollow = zones.follow(here.names);
  const collections = new Map<string, Collection<unknown>>(
    Object.entries({
      ...withoutCluster(own),
      ...offered,
      ...here,
      peers: peers.states,
      allServiceOffers: peers.serviceOffers,
      allEndpointOffers: peers.endpointOffers,
      // The derivation and the source of imports have one name; the source is the one in the API.
      imports: here.imports,
      importsInApi: own.imports,
      ...meshes.collections,
    }),
  );
  const leadership = startLeading({
    client,
    namespace: systemNamespace,
    name: leaderLease,
    identity: options.identity ?? cluster,
    elected: options.elected ?? false,
    what: "control plane",
    lead,
    log,
  });
  const stop = () => {
    leadership.abandon();
    for (const { reflection } of watched) reflection.stop();
    meshes.stop();
    peers.stop();
    unfollow();
    engine.dispose();
  };
  signal?.addEventListener("abort", stop, { once: true });
  return {
    cluster,
    engine,
    zones,
    collections,
    sinks,
    get ready() {
      return peers.synced && watched.every(({ state }) => state === "synced");
    },
    why(name, key) {
      const collection = collections.get(name);
      return collection && why(collection, key);
    },
    get lags() {
      return peers.lags;
    },
    get leading() {
      return sinks.size > 0;
    },
    resign: () => leadership.resign(),
    async idle() {
      await Promise.all([...sinks.values()].map((sink) => sink.idle()));
    },
    stop,
  };
}

/** The cluster in the key of a joined offer. */
function partitionOf(key: string): string {
  return key.slice(0, key.indexOf("/"));
}

function noteLine({ level, reason, message }: PeerNote): string {
  return `${level === "warning" ? "warning: " : ""}${reason}: ${message}`;
}

function withoutCluster<T extends { cluster: string }>({ cluster: _, ...rest }: T): Omit<T, "cluster"> {
  return rest;
}
