/**
 * Delta ADS over gRPC: proxies connect, introduce themselves and become rows; what `traffic/` then derives for their
 * scopes is handed out, and every change of it. Connections come in ready (`accept`): TLS is the caller's.
 */
import type { Duplex } from "node:stream";
import { DeltaDiscoveryRequest } from "#protocols/envoy/service/discovery/v3/discovery.ts";
import type { Change, Collection, Engine, Source } from "../collections/index.ts";
import { type GrpcStatus, grpcStatus } from "../http2/index.ts";
import type { Locality, Proxy as MeshProxy, ScopeConfig } from "../traffic/index.ts";
import type { Timer, World } from "../world/index.ts";
import type { Kind, TlsSecret } from "./encode/index.ts";
import { type Call, type CallHandlers, GrpcServer } from "./grpc.ts";
import { type Introduction, introductionOf } from "./node.ts";
import { Pacer } from "./pacer.ts";
import { Messages } from "./response.ts";
import { type KindStatus, type Request, Session } from "./session.ts";
import { changesOf, ProxyView, type ServedTraffic } from "./view.ts";

const path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/** Who is at the other end, as its certificate says. */
export interface Peer {
  namespace: string;
  serviceAccount: string;
}

export interface PodFacts {
  labels: Readonly<Record<string, string>>;
  /** Of its node, where that says. */
  locality?: Locality;
}

export interface XdsOptions {
  world: World;
  engine: Engine;
  traffic: ServedTraffic;
  /** Takes a row for each connected proxy, which `traffic` reads. */
  proxies: Source<MeshProxy>;
  /** Gateways' credentials, by the names under which they are asked for. */
  secrets: Collection<TlsSecret>;
  /** Whose connection this is; undefined: nobody's, and every stream on it is refused. */
  authenticate: (connection: Duplex) => Peer | undefined;
  /** What the API server says of a proxy's pod. It counts more than what the proxy says: labels decide what it gets. */
  podFacts?: (pod: { namespace: string; name: string }) => PodFacts | undefined;
  log?: (line: string, error?: unknown) => void;
}

/** One connected proxy, as `weft proxies` shows it. */
export interface ProxyStatus {
  id: string;
  pod: string;
  namespace: string;
  type: MeshProxy["type"];
  cluster: string;
  implementation: string;
  version: string;
  /** Milliseconds since the epoch. */
  connectedAt: number;
  scopes: readonly string[];
  kinds: Readonly<Record<Kind, KindStatus>>;
  /** Milliseconds since the oldest change that it has not confirmed; 0 when it has all. */
  lag: number;
  /** The last settled batch that it has in full. */
  acknowledged: string;
  sent: { responses: number; bytes: number; resources: number };
}

export interface ConnectedProxy {
  status: ProxyStatus;
  view: ProxyView;
  session: Session;
  /** Ends its stream; it will come back. */
  disconnect(reason: string): void;
}

export interface XdsServer {
  /** Takes a connection that speaks HTTP/2. */
  accept(connection: Duplex): void;
  /** The proxies that are connected. */
  proxies(): ProxyStatus[];
  /** What a connected proxy is to have and has; undefined when there is none of this id or pod (`pod.namespace`). */
  proxy(name: string): ConnectedProxy | undefined;
  /** Ends every stream. */
  stop(): void;
}

/** A proxy that is gone keeps its row for this long, ms: most come back, and need nothing anew. */
const rowGrace = 30_000;

const kinds: readonly Kind[] = ["cluster", "listener", "endpoints", "route", "secret"];

/** A connected proxy. */
interface Connection {
  introduction: Introduction;
  view: ProxyView;
  session: Session;
  connectedAt: number;
  scopes: readonly string[];
  call: Call;
}

/** Starts it. The collections are those of `engine`. */
export function startXds(options: XdsOptions): XdsServer {
  return new Ads(options);
}

class Ads implements XdsServer {
  readonly #options: XdsOptions;
  readonly #server: GrpcServer;
  readonly #pacer: Pacer;
  readonly #messages: Messages;
  readonly #peers = new WeakMap<Duplex, Peer | undefined>();
  readonly #connections = new Set<Connection>();
  readonly #byScope = new Map<string, Set<Connection>>();
  /** How many streams a proxy's row is there for. */
  readonly #rows = new Map<string, number>();
  readonly #timers = new Set<Timer>();
  readonly #unsubscribe: (() => void)[];
  readonly #epoch: string;
  #version = { batches: -1, text: "" };
  #pushing = false;
  #stopped = false;

  constructor(options: XdsOptions) {
    this.#options = options;
    this.#epoch = options.world.now().toString(36);
    this.#server = new GrpcServer({ world: options.world, path, serve: (call) => this.#serve(call) });
    this.#pacer = new Pacer(options.world);
    this.#messages = new Messages(options.world);
    const { traffic, secrets } = options;
    this.#unsubscribe = [
      traffic.scopes.subscribe((changes) => this.#scopesChanged(changes)),
      traffic.configs.subscribe((changes) => this.#configsChanged(changes)),
      traffic.endpoints.subscribe((changes) => this.#named("endpoints", changes)),
      secrets.subscribe((changes) => this.#named("secret", changes)),
    ];
  }

  accept(connection: Duplex): void {
    this.#peers.set(connection, this.#options.authenticate(connection));
    this.#server.accept(connection);
  }

  proxies(): ProxyStatus[] {
    return [...this.#connections].map((each) => this.#statusOf(each));
  }

  proxy(name: string): ConnectedProxy | undefined {
    for (const connection of this.#connections) {
      const { introduction, view, session, call } = connection;
      const { proxy, pod } = introduction;
      if (name === proxy.id || name === `${pod}.${proxy.namespace}`)
        return {
          status: this.#statusOf(connection),
          view,
          session,
          disconnect: (details) => {
            this.#closed(connection);
            call.end(grpcStatus.UNAVAILABLE, details);
          },
        };
    }
    return undefined;
  }

  stop(): void {
    this.#stopped = true;
    for (const end of this.#unsubscribe) end();
    for (const timer of this.#timers) timer.cancel();
    for (const connection of [...this.#connections]) this.#closed(connection);
    this.#messages.stop();
    this.#server.stop();
  }

  // ---------------------------------------------------------------------------------------------- streams

  #serve(call: Call): CallHandlers {
    let connection: Connection | undefined;
    const over = () => {
      if (connection) this.#closed(connection);
    };
    const refuse = (code: GrpcStatus, details: string) => {
      this.#options.log?.(`refused a proxy at ${call.peer}: ${details}`);
      over();
      call.end(code, details);
    };
    return {
      message: (bytes) => {
        if (this.#stopped) return;
        try {
          if (connection?.session.acknowledges(bytes)) return;
          const request = DeltaDiscoveryRequest.decode(bytes);
          connection ??= this.#introduce(call, request, refuse);
          connection?.session.receive(request as Request);
        } catch (error) {
          this.#options.log?.("serving a proxy", error);
          refuse(grpcStatus.INTERNAL, error instanceof Error ? error.message : String(error));
        }
      },
      ended: over,
    };
  }

  /** The first request of a stream says who it is. */
  #introduce(
    call: Call,
    { node }: DeltaDiscoveryRequest,
    refuse: (code: GrpcStatus, details: string) => void,
  ): Connection | undefined {
    let introduction: Introduction;
    try {
      introduction = introductionOf(node);
    } catch (error) {
      refuse(grpcStatus.INVALID_ARGUMENT, (error as Error).message);
      return undefined;
    }
    const { pod, proxy: said } = introduction;
    const facts = this.#options.podFacts?.({ namespace: said.namespace, name: pod });
    const proxy = { ...said, ...facts };
    const peer = this.#peers.get(call.connection);
    if (!peer) {
      refuse(grpcStatus.UNAUTHENTICATED, "a workload's certificate of this mesh is needed");
      return undefined;
    }
    if (peer.namespace !== proxy.namespace || peer.serviceAccount !== proxy.serviceAccount) {
      const says = `${proxy.namespace}/${proxy.serviceAccount}`;
      const is = `${peer.namespace}/${peer.serviceAccount}`;
      refuse(grpcStatus.PERMISSION_DENIED, `the node says it is ${says}, its certificate is for ${is}`);
      return undefined;
    }
    const { world, traffic, secrets } = this.#options;
    const view = new ProxyView(proxy, traffic, secrets);
    const session = new Session({
      world,
      view,
      send: (message, flushed) => call.send(message, flushed),
      messages: this.#messages,
      pacer: this.#pacer,
      systemVersion: () => this.#systemVersion(),
      onFault: (error) => {
        this.#options.log?.(`serving ${proxy.id}`, error);
        refuse(grpcStatus.INTERNAL, error instanceof Error ? error.message : String(error));
      },
      onRejection: (kind, { name, reason }) =>
        this.#options.log?.(`${proxy.id} rejected ${kind} ${name}: ${reason}`),
    });
    const connection = { introduction, view, session, connectedAt: world.now(), scopes: view.scopes, call };
    this.#connections.add(connection);
    this.#join(connection);
    this.#rows.set(proxy.id, (this.#rows.get(proxy.id) ?? 0) + 1);
    this.#options.proxies.put(proxy);
    return connection;
  }

  /** One text for all clients of a batch. */
  #systemVersion(): string {
    const { batches } = this.#options.engine.work;
    if (this.#version.batches !== batches) this.#version = { batches, text: `${this.#epoch}/${batches}` };
    return this.#version.text;
  }

  #closed(connection: Connection): void {
    if (!this.#connections.delete(connection)) return;
    connection.session.end();
    this.#leave(connection);
    const { id } = connection.introduction.proxy;
    if (this.#stopped) return;
    const timer = this.#options.world.after(rowGrace, () => {
      this.#timers.delete(timer);
      const left = (this.#rows.get(id) ?? 1) - 1;
      if (left > 0) {
        this.#rows.set(id, left);
        return;
      }
      this.#rows.delete(id);
      this.#options.proxies.remove(id);
    });
    this.#timers.add(timer);
  }

  #join(connection: Connection): void {
    for (const scope of connection.scopes) {
      const members = this.#byScope.get(scope);
      if (members) members.add(connection);
      else this.#byScope.set(scope, new Set([connection]));
    }
  }

  #leave(connection: Connection): void {
    for (const scope of connection.scopes) {
      const members = this.#byScope.get(scope);
      members?.delete(connection);
      if (members?.size === 0) this.#byScope.delete(scope);
    }
  }

  // ---------------------------------------------------------------------------------------------- changes

  #scopesChanged(changes: readonly Change<readonly string[]>[]): void {
    const ids = new Set(changes.map(({ key }) => key));
    for (const connection of this.#connections) {
      if (ids.size > 0 && !ids.has(connection.introduction.proxy.id)) continue;
      connection.view.changed();
      this.#leave(connection);
      connection.scopes = connection.view.scopes;
      this.#join(connection);
      connection.session.changedAll();
    }
    this.#pushSoon();
  }

  #configsChanged(changes: readonly Change<ScopeConfig>[]): void {
    for (const { view } of this.#connections) view.changed();
    for (const { key, before, after } of changes) {
      const members = this.#byScope.get(key);
      if (!members) continue;
      const differing = changesOf(before, after);
      for (const { session } of members) for (const [kind, names] of differing) session.changed(kind, names);
    }
    this.#pushSoon();
  }

  #named(kind: "endpoints" | "secret", changes: readonly Change<unknown>[]): void {
    if (changes.length === 0) return;
    const names = changes.map(({ key }) => key);
    for (const { session } of this.#connections) session.changed(kind, names);
    this.#pushSoon();
  }

  /** When the batch has been told in full. Also to those of whom nothing changed: what they wait for may be known now. */
  #pushSoon(): void {
    if (this.#pushing) return;
    this.#pushing = true;
    queueMicrotask(() => {
      this.#pushing = false;
      for (const { session } of this.#connections) session.push();
    });
  }

  #statusOf({ introduction, view, session, connectedAt }: Connection): ProxyStatus {
    const { proxy, pod, implementation, version } = introduction;
    const { id, namespace, type, cluster } = proxy;
    return {
      id,
      pod,
      namespace,
      type,
      cluster,
      implementation,
      version,
      connectedAt,
      scopes: view.scopes,
      kinds: Object.fromEntries(kinds.map((kind) => [kind, session.status(kind)])) as Record<
        Kind,
        KindStatus
      >,
      lag: session.lag,
      acknowledged: session.version,
      sent: { ...session.sent },
    };
  }
}
