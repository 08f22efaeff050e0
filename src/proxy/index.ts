/** The embedded data plane: an xDS client that listens, routes, balances and secures. */

import type { ClusterLoadAssignment } from "#protocols/envoy/config/endpoint/v3/endpoint.ts";
import type { Secret } from "#protocols/envoy/extensions/transport_sockets/tls/v3/secret.ts";
import { realWorld, type World } from "../world/index.ts";
import { AdsClient, adsPath, typeUrls } from "./ads.ts";
import type { HttpRoom, ProxyDeps, ProxyNode } from "./contract.ts";
import { ListenerManager } from "./downstream/listeners.ts";
import { type GrpcTarget, openGrpcStream } from "./grpc.ts";
import { LogFiles } from "./log.ts";
import { RouteTables } from "./routes.ts";
import { type ProxyIdentity, Secrets } from "./secrets.ts";
import type { ProxyState } from "./state.ts";
import { Registry } from "./stats.ts";
import { ClusterManager } from "./upstream/clusters.ts";
import { EndpointDiscovery, type Resolve, systemResolver } from "./upstream/discovery.ts";

export type { ProxyNode } from "./contract.ts";
export type { IdentityMaterial, ProxyIdentity } from "./secrets.ts";

type Level = "debug" | "info" | "warning" | "error";

/** Resources that are given instead of being asked for (tests, and what a file says): encoded messages by name. */
export interface FixedResources {
  listeners: ReadonlyMap<string, Uint8Array>;
  clusters: ReadonlyMap<string, Uint8Array>;
  routes?: ReadonlyMap<string, Uint8Array>;
  endpoints?: readonly ClusterLoadAssignment[];
  secrets?: readonly Secret[];
}

export interface ProxyOptions {
  node: ProxyNode;
  /**
   * Discovery: `istiod-basic.istio-system.svc`, 15012. Its certificate must be for `serverName` and come from the
   * identity's roots, or those of `roots` (PEM). `plain`: without TLS. `headers`: what authenticates us beside it.
   */
  ads?: {
    host: string;
    port: number;
    serverName?: string;
    roots?: string;
    plain?: boolean;
    headers?: () => Readonly<Record<string, string>>;
  };
  fixed?: FixedResources;
  identity?: ProxyIdentity;
  /** Upstream connections (and that to discovery) leave by this address: 169.254.77.1 in address mode. */
  bindAddress?: string;
  /** 15000; absent: no admin interface. 0: any. */
  adminPort?: number;
  /** 15090, on every address: /stats/prometheus alone. */
  metricsPort?: number;
  /** ms that chains and listeners which go away have for what they still do. Istio's 45 s. */
  drainTime?: number;
  log?: (level: Level, message: string) => void;
  world?: World;
  resolve?: Resolve;
  /** What serves HTTP; ours. */
  http?: HttpRoom;
  /** `weft`'s version, for /server_info. */
  version?: string;
}

export interface EmbeddedProxy {
  /** Resolves when everything that was asked for first is here and served. */
  readonly ready: Promise<void>;
  /** False before, while draining, and while its health is failed by hand. */
  readonly live: boolean;
  /** Of the admin interface, when it has one. */
  readonly adminPort: number | undefined;
  /** Connections that clients have with us. */
  readonly connections: number;
  /** Where a listener listens. */
  listenerAddress(name: string): { ip: string; port: number } | undefined;
  /** Prometheus text, as 15090 has it. */
  metrics(): string;
  /**
   * Clients are told to go (`connection: close`, GOAWAY) and idle connections close; who comes is still served until
   * `stopAccepting`. Resolves when nobody is left. `inboundOnly`: the application's own calls go on.
   */
  drain(options?: { inboundOnly?: boolean; stopAccepting?: boolean }): Promise<void>;
  /** Ends everything now. */
  stop(): Promise<void>;
}

const defaultDrainTime = 45_000;
const levels: readonly Level[] = ["debug", "info", "warning", "error"];

/** Starts at once; nothing fails later: what cannot be had is asked for again, and said with `log`. */
export async function startProxy(options: ProxyOptions): Promise<EmbeddedProxy> {
  const { node, identity, bindAddress } = options;
  const world = options.world ?? realWorld();
  const http = options.http ?? (await loadHttp());
  let level = 1;
  const say = options.log ?? (() => undefined);
  const log = (at: Level, message: string) => {
    if (levels.indexOf(at) >= level) say(at, message);
  };
  const stats = new Registry();
  const files = new LogFiles(world);
  const ads = options.ads && adsClient(options, world, log);
  const secrets = new Secrets({
    ...(ads ? { ads } : {}),
    ...(identity ? { identity } : {}),
    ...(options.fixed?.secrets ? { fixed: options.fixed.secrets } : {}),
  });
  const clusters = new ClusterManager({
    world,
    stats,
    secrets,
    bindAddress,
    endpoints: new EndpointDiscovery(ads, options.fixed?.endpoints),
    resolve: options.resolve ?? systemResolver(),
  });
  const routes: RouteTables = new RouteTables(ads, (config) => http.compileRoutes(config, deps));
  const deps: ProxyDeps = { world, node, stats, clusters, routes, logFile: (path) => files.get(path), log };
  const listeners = new ListenerManager({
    proxy: deps,
    secrets,
    http,
    drainTime: options.drainTime ?? defaultDrainTime,
  });

  let isReady = false;
  let draining = false;
  let failed = false;
  const ready = clusters.ready
    .then(() => {
      // As Envoy: listeners are asked for when the clusters they need are there.
      ads?.serve(typeUrls.listener, listeners.apply, true);
      return listeners.ready;
    })
    .then(() => {
      isReady = true;
    });
  if (ads) {
    ads.serve(typeUrls.cluster, clusters.apply, true);
    ads.start();
  }
  if (options.fixed) serveFixed(options.fixed, clusters, routes, listeners, log);

  const drain: EmbeddedProxy["drain"] = async ({ inboundOnly = false, stopAccepting = false } = {}) => {
    draining = true;
    listeners.drain(inboundOnly);
    if (stopAccepting) listeners.stopAccepting(inboundOnly);
    while (listeners.connections > 0) {
      await new Promise<void>((resolve) => world.after(50, resolve));
    }
  };
  const live = () => isReady && !draining && !failed;
  let quit: () => void = () => undefined;
  const state: ProxyState = {
    version: options.version ?? "",
    node,
    stats,
    clusters,
    listeners,
    routes,
    secrets,
    ads: ads?.state,
    phase: () => (draining || failed ? "DRAINING" : isReady ? "LIVE" : "PRE_INITIALIZING"),
    live,
    failHealth: (value) => {
      failed = value;
    },
    drain: ({ inboundOnly, graceful }) => void drain({ inboundOnly, stopAccepting: !graceful }),
    quit: () => quit(),
    logLevel: () => levels[level]!,
    setLogLevel: (name) => {
      const wanted = levels.indexOf(name === "trace" ? "debug" : (name as Level));
      if (wanted >= 0) level = wanted;
    },
  };
  const servers: import("node:http").Server[] = [];
  let adminPort: number | undefined;
  if (options.adminPort !== undefined || options.metricsPort !== undefined) {
    const { serveAdmin } = await import("./admin.ts");
    if (options.adminPort !== undefined) {
      const server = await serveAdmin(state, "127.0.0.1", options.adminPort);
      adminPort = (server.address() as { port: number }).port;
      servers.push(server);
    }
    if (options.metricsPort !== undefined) {
      servers.push(await serveAdmin(state, "0.0.0.0", options.metricsPort, true));
    }
  }
  const stop = async () => {
    ads?.stop();
    listeners.stop();
    clusters.stop();
    secrets.stop();
    files.flush();
    await Promise.all(
      servers.map((server) => {
        server.closeAllConnections();
        return new Promise<void>((resolve) => server.close(() => resolve()));
      }),
    );
  };
  quit = () => void stop();
  return {
    ready,
    get live() {
      return live();
    },
    adminPort,
    get connections() {
      return listeners.connections;
    },
    listenerAddress: (name) => listeners.list().find((listener) => listener.name === name)?.address,
    metrics: () => stats.prometheus(),
    drain,
    stop,
  };
}

function loadHttp(): Promise<HttpRoom> {
  return import("./http/index.ts");
}

function adsClient(
  { ads, node, identity, bindAddress }: ProxyOptions,
  world: World,
  log: ProxyDeps["log"],
): AdsClient {
  const { host, port, serverName, roots, plain, headers } = ads!;
  return new AdsClient({
    world,
    node: {
      id: node.id,
      cluster: node.cluster,
      metadata: { ...node.metadata },
      locality: node.locality,
      userAgentName: "weft",
      dynamicParameters: {},
      extensions: [],
      clientFeatures: [],
      listeningAddresses: [],
    },
    log,
    // Each stream with the newest certificate: a rotated one is used from the next on.
    open: (on) => {
      const material = identity?.current;
      const trusted = roots ?? Object.values(material?.bundles ?? {}).join("\n");
      const target: GrpcTarget = {
        host,
        port,
        ...(bindAddress ? { localAddress: bindAddress } : {}),
        ...(headers ? { headers: headers() } : {}),
        ...(plain
          ? {}
          : {
              tls: {
                serverName: serverName ?? host,
                roots: trusted,
                ...(material
                  ? {
                      certificate: { certificateChain: material.certificatePem, privateKey: material.keyPem },
                    }
                  : {}),
              },
            }),
      };
      return openGrpcStream(world, target, adsPath, on);
    },
  });
}

function serveFixed(
  fixed: FixedResources,
  clusters: ClusterManager,
  routes: RouteTables,
  listeners: ListenerManager,
  log: ProxyDeps["log"],
): void {
  const delivered = (map: ReadonlyMap<string, Uint8Array> | undefined) =>
    [...(map ?? [])].map(([name, bytes]) => ({ name, version: "", bytes: Buffer.from(bytes) }));
  const rejections = [
    ...clusters.apply(delivered(fixed.clusters), []),
    ...routes.apply(delivered(fixed.routes), []),
  ];
  void clusters.ready.then(() => {
    for (const { name, reason } of [...rejections, ...listeners.apply(delivered(fixed.listeners), [])]) {
      log("error", `refused: ${name}: ${reason}`);
    }
  });
}
