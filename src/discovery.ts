/**
 * A mesh's discovery on one page: sources → traffic → xDS, certificates, webhook, conditions. It runs in the mesh's
 * namespace, one or more of it: all serve, one of them writes. `cli/discovery.ts` binds its sockets.
 */
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import {
  authorizationPolicies,
  type ConfigMap,
  clusterLabel,
  configMaps,
  destinationRules,
  discoveryName,
  endpointSlices,
  gatewayApi,
  gateways,
  type KubeObject,
  type MeshSettings,
  managedByLabel,
  memberOfLabel,
  meshSettingsName,
  nameOf,
  namespaces,
  nodes,
  peerAuthentications,
  pods,
  type Resource,
  rateLimits,
  readMeshSettings,
  readPeerTrust,
  rootCertificateConfigMap,
  secrets,
  serviceEntries,
  serviceImports,
  services,
  sidecars,
  type TrustBundle,
  trustBundles,
  virtualServices,
  workloadEntries,
} from "./api/index.ts";
import {
  type Bug,
  type Collection,
  derive,
  Engine,
  flatDerive,
  source,
  type Why,
  why,
} from "./collections/index.ts";
import {
  Authenticator,
  type Authority,
  acceptedBundles,
  type CertificateAnswer,
  certificates,
  type Identity,
  openAuthority,
  rootsData,
  type ServerIdentity,
  workloadOf,
} from "./identity/index.ts";
import { type WebhookAnswer, webhook } from "./injection/index.ts";
import {
  type Applied,
  type FieldSink,
  fieldSink,
  type KubeClient,
  labelsOnly,
  type ObjectSink,
  objectSink,
  startLeading,
  type WatchedSource,
  type WatchSourceOptions,
  watchSource,
} from "./kube/index.ts";
import {
  credentialOf,
  type Finding,
  type Proxy as MeshProxy,
  slimPod,
  standingIn,
  type Traffic,
  traffic,
} from "./traffic/index.ts";
import { acceptedOf, credentialsOf, startXds, statusOf, type XdsServer } from "./xds/index.ts";

export interface DiscoveryOptions {
  /** Of the cluster that the mesh is in. It brings the world along. */
  client: KubeClient;
  /** The mesh: the ServiceMeshControlPlane's namespace and name. */
  namespace: string;
  name: string;
  /** Who leads, for people to see: the pod's name. */
  identity: string;
  /** There may be others for this mesh: one of them leads and writes. Without it this is the only one. */
  elected?: boolean;
  /** One line about something that happened; `error` goes with it. */
  log?: (line: string, error?: unknown) => void;
  signal?: AbortSignal;
}

export interface Discovery {
  readonly settings: MeshSettings;
  readonly engine: Engine;
  readonly authority: Authority;
  /** What the sockets' TLS is made of; it is renewed. */
  readonly tls: ServerIdentity;
  readonly xds: XdsServer;
  readonly traffic: Traffic;
  /** All that can be asked for in `why`, by name. */
  readonly collections: ReadonlyMap<string, Collection<unknown>>;
  /** What writes; empty while another one leads. */
  readonly sinks: ReadonlyMap<string, ObjectSink | FieldSink>;
  readonly leading: boolean;
  /** Everything that proxies and pods may ask for is known. Before that nobody is served: nothing fails open. */
  readonly ready: boolean;
  /** What is not known yet, for people who wait. */
  readonly waiting: readonly string[];
  /** `POST /inject` (the API server) and `POST /certificates` (agents). */
  post(path: string, request: PostRequest): Promise<WebhookAnswer | CertificateAnswer>;
  why(collection: string, key: string): Why | undefined;
  /** Writes no more and lets another lead at once; goes on serving. */
  resign(): Promise<void>;
  stop(): void;
}

export interface PostRequest {
  method: string;
  /** Lower-case names. */
  headers: Readonly<Record<string, string | string[] | undefined>>;
  body: Uint8Array;
}

/** Starts it; resolves when the mesh's settings are known and its authority is open. It runs until `stop`. */
export async function startDiscovery(options: DiscoveryOptions): Promise<Discovery> {
  const { client, namespace, name, log = () => {}, signal } = options;
  const { world } = client;
  const onBug = (bug: Bug) => log(`bug in ${bug.collection} ${bug.key ?? ""}`, bug.error);
  const engine = new Engine({ world, onBug });
  const ended = new AbortController();
  signal?.addEventListener("abort", () => ended.abort(signal.reason), { once: true });

  // What the cluster has …
  const watched: WatchedSource<KubeObject>[] = [];
  const watch = <T extends KubeObject>(resource: Resource<T>, more: WatchSourceOptions<T> = {}) => {
    const fed = watchSource(engine, client, resource, {
      name: resource.group ? `${resource.plural}.${resource.group}` : resource.plural,
      ...more,
    });
    watched.push(fed as unknown as WatchedSource<KubeObject>);
    return fed;
  };
  const ownConfigMaps = watch(configMaps, { namespace });
  const mesh = derive(
    ownConfigMaps,
    (configMap) =>
      configMap.metadata.name === meshSettingsName(name) ? readMeshSettings(configMap) : undefined,
    { name: "mesh" },
  );
  const cluster = {
    namespaces: watch(namespaces),
    services: watch(services),
    endpointSlices: watch(endpointSlices),
    pods: watch(pods, { transform: slimPod }),
    nodes: watch(nodes, { transform: labelsOnly }),
    imports: watch(serviceImports, { transform: (each) => (each.spec ? each : undefined) }),
    virtualServices: watch(virtualServices),
    destinationRules: watch(destinationRules),
    gateways: watch(gateways),
    serviceEntries: watch(serviceEntries),
    workloadEntries: watch(workloadEntries),
    sidecars: watch(sidecars),
    peerAuthentications: watch(peerAuthentications),
    authorizationPolicies: watch(authorizationPolicies),
    rateLimits: watch(rateLimits),
    kubeGateways: watch(gatewayApi.gateways),
    httpRoutes: watch(gatewayApi.httpRoutes),
    referenceGrants: watch(gatewayApi.referenceGrants),
  };
  const ownSecrets = watch(secrets, { namespace });
  const credentials = flatDerive(ownSecrets, credentialsOf, {
    name: "credentials",
    key: (credential) => credential.name,
  });

  // … which proxies are there, and what they are to do …
  const proxies = source<MeshProxy>(engine, { name: "proxies", key: ({ id }) => id, synced: true });
  const model = traffic({
    ...cluster,
    credentials: derive(ownSecrets, credentialOf, { name: "credentialFacts" }),
    mesh,
    proxies,
  });

  const settings = await settled(mesh, ended.signal, () => {
    const missing = `ConfigMap ${namespace}/${meshSettingsName(name)}`;
    log(`waiting for the settings of mesh ${namespace}/${name} (${missing})`);
  });
  mesh.subscribe((changes) => {
    const changed = changes.find(({ after }) => after && after.trustDomain !== settings.trustDomain);
    if (changed) log("the mesh's trust domain has changed: it counts when discovery starts again");
  });

  // … who they are …
  const authority = await openAuthority({
    client,
    world,
    namespace,
    trustDomain: settings.trustDomain,
    log,
    signal: ended.signal,
  });
  const service = discoveryName(name);
  const tls = await authority.serverIdentity([
    `${service}.${namespace}.svc`,
    `${service}.${namespace}`,
    `${service}.${namespace}.svc.${settings.clusterDomain}`,
  ]);
  // Whom the mesh believes, per trust domain: our roots, and what peers say of theirs. We tell the same of ours.
  const peerTrust = derive(ownConfigMaps, readPeerTrust, { name: "peerTrust" });
  const roots = source<Applied<ConfigMap>>(engine, { name: "roots", key: nameOfApplied, synced: true });
  const trust = source<Applied<TrustBundle>>(engine, { name: "trust", key: nameOfApplied, synced: true });
  const publishedTrust = watchSource(engine, client, trustBundles, { namespace, signal: ended.signal });
  const { trustDomain } = settings;
  let bundles: Readonly<Record<string, string>> = authority.bundles;
  let refusals = "";
  let owners: NonNullable<ConfigMap["metadata"]["ownerReferences"]> = [];
  const publishRoots = () => {
    const [claims = []] = peerTrust.values();
    const accepted = acceptedBundles({ trustDomain, roots: authority.roots }, claims, world.now());
    bundles = accepted.bundles;
    const of = ownConfigMaps.get(nameOfSettings(namespace, name));
    // With the settings' own owner, the control plane.
    owners = of?.metadata.ownerReferences ?? owners;
    roots.put({
      metadata: { namespace, name: rootCertificateConfigMap, ownerReferences: owners },
      data: rootsData(trustDomain, bundles),
    });
    const spec = { cluster: settings.cluster, trustDomain, certificates: authority.roots };
    // It goes with the mesh, as the settings do: while these are away, what was told stands.
    if (of) {
      const { apiVersion, kind, metadata } = of;
      const owner = { apiVersion, kind, name: metadata.name, uid: metadata.uid ?? "" };
      trust.put({ metadata: { namespace, name, ownerReferences: [owner] }, spec });
    }
    const refused = accepted.refused.map((each) => `${each.trustDomain} by ${each.cluster}: ${each.reason}`);
    if (refused.join() !== refusals) for (const line of refused) log(`roots do not count: ${line}`);
    refusals = refused.join();
  };
  publishRoots();
  authority.onChange(publishRoots);
  peerTrust.subscribe((changes) => {
    if (changes.length > 0) publishRoots();
  });
  const authenticator = new Authenticator(client);
  const isMember = (of: string): boolean => {
    const labels = cluster.namespaces.get(of)?.metadata.labels;
    return of === namespace || labels?.[memberOfLabel] === namespace;
  };
  const issue = certificates({
    authority,
    authenticate: (token) => authenticator.authenticate(token),
    bundles: () => bundles,
    whyNot: ({ namespace: of }: Identity) =>
      isMember(of) ? undefined : `namespace '${of}' is no member of mesh ${namespace}/${name}`,
    log,
  });
  const nativeSidecars = await hasNativeSidecars(client, ended.signal);
  const inject = webhook({
    context: () => {
      const known = mesh.get(nameOfSettings(namespace, name));
      return known && { mesh: known, nativeSidecars };
    },
    log,
  });

  // … and what is told them.
  const xds = startXds({
    world,
    engine,
    traffic: model,
    proxies,
    secrets: credentials,
    authenticate: (connection) => peerOf(connection, settings.trustDomain),
    podFacts: ({ namespace: of, name: called }) => {
      const pod = cluster.pods.get(`${of}/${called}`);
      if (!pod) return undefined;
      const place = cluster.nodes.get(pod.spec.nodeName ?? "")?.metadata.labels;
      const region = place?.["topology.kubernetes.io/region"] ?? "";
      const zone = place?.["topology.kubernetes.io/zone"] ?? "";
      const labels = { ...pod.metadata.labels, [clusterLabel]: settings.cluster };
      return region || zone ? { labels, locality: { region, zone } } : { labels };
    },
    log,
  });

  // While we lead, into the API: the roots, and what is wrong with objects.
  const sinks = new Map<string, ObjectSink | FieldSink>();
  const standing = standingIn(namespace, cluster);
  const onError = (kind: string) => (of: string, error: unknown) => log(`writing ${kind} ${of}`, error);
  /** Writes others' objects' `status`, by `namespace/name`. */
  const statuses = <T extends KubeObject>(
    manager: string,
    resource: Resource<T>,
    observed: Collection<T>,
    status: Collection<object>,
  ) => {
    const desired = derive(
      status,
      (each, _read, key) => {
        const [inNamespace, called] = key.split("/");
        return { metadata: { namespace: inNamespace, name: called }, status: each } as unknown as Applied<T>;
      },
      { name: manager },
    );
    const ours = standing.without(observed, resource.plural);
    return () =>
      sinks.set(
        manager,
        fieldSink({
          client,
          resource,
          desired,
          observed: ours,
          manager,
          rowKey: nameOf,
          onError: onError(resource.kind),
        }),
      );
  };
  /** What analysis says of objects. */
  const conditions = <T extends KubeObject>(
    resource: Resource<T>,
    observed: Collection<T>,
    statusFor: (findings: readonly Finding[]) => object | undefined = statusOf,
  ) => {
    const manager = `weft-conditions-${resource.plural}`;
    const status = derive(
      observed,
      (object, read, key) =>
        standing.of(object, read) === "ours"
          ? statusFor(read.get(model.findings, `${resource.kind}/${key}`) ?? [])
          : undefined,
      { name: `statuses of ${resource.plural}` },
    );
    return statuses(manager, resource, observed, status);
  };
  const writers = [
    statuses("weft-status-gateways", gatewayApi.gateways, cluster.kubeGateways, model.gatewayStatuses),
    statuses("weft-status-httproutes", gatewayApi.httpRoutes, cluster.httpRoutes, model.routeStatuses),
    conditions(virtualServices, cluster.virtualServices),
    conditions(destinationRules, cluster.destinationRules),
    conditions(gateways, cluster.gateways),
    conditions(serviceEntries, cluster.serviceEntries),
    conditions(sidecars, cluster.sidecars),
    conditions(peerAuthentications, cluster.peerAuthentications),
    conditions(authorizationPolicies, cluster.authorizationPolicies),
    conditions(rateLimits, cluster.rateLimits, acceptedOf),
    () =>
      sinks.set(
        "roots",
        objectSink({
          client,
          resource: configMaps,
          desired: roots,
          observed: ownConfigMaps,
          // A mark of our own: the control plane has ConfigMaps here too.
          mark: { labels: { [managedByLabel]: "weft-discovery" } },
          rowKey: ({ metadata }) => metadata.name,
          onError: onError("ConfigMap"),
        }),
      ),
    () =>
      sinks.set(
        "trust",
        objectSink({
          client,
          resource: trustBundles,
          desired: trust,
          observed: publishedTrust,
          rowKey: ({ metadata }) => metadata.name,
          onError: onError("TrustBundle"),
        }),
      ),
  ];
  const lead = (term: AbortSignal) => {
    for (const write of writers) write();
    term.addEventListener(
      "abort",
      () => {
        for (const sink of sinks.values()) sink.stop();
        sinks.clear();
      },
      { once: true },
    );
  };
  const leadership = startLeading({
    client,
    namespace,
    name: `weft-discovery-${name}`,
    identity: options.identity,
    elected: options.elected ?? false,
    what: "discovery",
    patient: true, // proxies are served by all
    lead,
    log,
  });

  const collections = new Map<string, Collection<unknown>>([
    ...model.collections,
    ["mesh", mesh],
    ["proxies", proxies],
    ["credentials", credentials],
    ["findings", model.findings],
  ]);
  const stop = () => {
    leadership.abandon();
    ended.abort();
    xds.stop();
    tls.stop();
    for (const { reflection } of watched) reflection.stop();
    engine.dispose();
  };
  ended.signal.addEventListener("abort", stop, { once: true });
  const waiting = () =>
    watched.flatMap(({ name, state, reflection }) => {
      if (state === "synced") return [];
      return reflection.state.state === "error" ? `${name} (${reflection.state.reason})` : name;
    });
  return {
    settings,
    engine,
    authority,
    tls,
    xds,
    traffic: model,
    collections,
    sinks,
    get leading() {
      return sinks.size > 0;
    },
    get ready() {
      return waiting().length === 0;
    },
    get waiting() {
      return waiting();
    },
    async post(path, request) {
      if (path === "/inject") return await inject(request);
      if (path === "/certificates") return await issue(request);
      return { status: 404, headers: { "content-type": "text/plain" }, body: "not found\n" };
    },
    why(of, key) {
      const collection = collections.get(of);
      return collection && why(collection, key);
    },
    resign: () => leadership.resign(),
    stop,
  };
}

const nameOfApplied = ({ metadata }: { metadata: { name: string } }): string => metadata.name;

/** The key of the settings' ConfigMap, which is that of its row. */
function nameOfSettings(namespace: string, name: string): string {
  return `${namespace}/${meshSettingsName(name)}`;
}

/** The one row, as soon as there is one. */
async function settled<T>(rows: Collection<T>, signal: AbortSignal, onWait: () => void): Promise<T> {
  const first = () => rows.values().next().value;
  rows.engine.settle();
  if (first() === undefined) onWait();
  return await new Promise<T>((resolve, reject) => {
    const look = () => {
      const row = first();
      if (row === undefined) return;
      unsubscribe();
      resolve(row);
    };
    const unsubscribe = rows.subscribe(look);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    look();
  });
}

/** Who is at the other end: a workload of our trust domain, by the certificate that TLS has checked. */
function peerOf(connection: Duplex, trustDomain: string) {
  const socket = connection as TLSSocket;
  const certificate = socket.authorized ? socket.getPeerX509Certificate() : undefined;
  const workload = certificate && workloadOf(certificate);
  return workload?.trustDomain === trustDomain ? workload : undefined;
}

/** Containers that start before the others and end after them: Kubernetes 1.29 and later. */
async function hasNativeSidecars(client: KubeClient, signal: AbortSignal): Promise<boolean> {
  const { minor = "0" } = await client.json<{ minor?: string }>("GET", "/version", { signal });
  return Number.parseInt(minor, 10) >= 29;
}
