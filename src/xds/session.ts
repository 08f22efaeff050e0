/**
 * One client's side of delta ADS: what it asks for, what it is to have, and in which order it gets that. No I/O: requests
 * come in as calls, responses go out through `send`. Source: docs of Envoy, "xDS REST and gRPC protocol", incremental.
 *
 * Order (law 9): clusters, their endpoints, listeners, routes; clusters that are no longer there go last, when the
 * client has taken the listeners and routes that do without them. A change goes out at once; what changes while the
 * client has not answered, or within 10 ms of the last push, goes out together.
 */
import type { Timer, World } from "../world/index.ts";
import { type Encoded, type Kind, typeUrls } from "./encode/index.ts";
import type { Pacer, Turn } from "./pacer.ts";
import { Messages, type Response } from "./response.ts";
import { type Rejection, Subscription } from "./subscription.ts";

/** What a client is to have. */
export interface View {
  /** False while that is not known (law 7): nothing is sent. */
  readonly known: boolean;
  find(kind: Kind, name: string): Encoded | undefined;
  /** The name of what `find` finds, as it stands there; it may know one where that finds nothing. */
  nameOf(kind: Kind, name: string): string | undefined;
  /** All of a kind; for those that are not asked for by name. */
  names(kind: Kind): Iterable<string>;
  /** The name of a cluster's endpoints, when they are asked for by name. */
  endpointsOf(cluster: string): string | undefined;
}

/** envoy.service.discovery.v3.DeltaDiscoveryRequest, as far as it counts here. */
export interface Request {
  typeUrl: string;
  resourceNamesSubscribe: readonly string[];
  resourceNamesUnsubscribe: readonly string[];
  initialResourceVersions: Readonly<Record<string, string>>;
  responseNonce: string;
  errorDetail?: { code: number; message: string } | undefined;
}

export interface SessionOptions {
  world: World;
  view: View;
  /** Sends one response, framed for gRPC; `flushed` is called when its bytes have left this process, or never will. */
  send: (message: readonly Buffer[], flushed?: () => void) => void;
  /** Where clients share responses; without it none is shared. */
  messages?: Messages;
  /** Whose turn it is where much is to be sent; without it everyone's. */
  pacer?: Pacer;
  /** What stands in `system_version_info`: the settled batch that the response shows. */
  systemVersion: () => string;
  onRejection?: (kind: Kind, rejection: Rejection) => void;
  /** Something could not be made for this client, which is a bug; without it that is thrown at whoever calls. */
  onFault?: (error: unknown) => void;
}

export type SyncState = "synced" | "stale" | "rejected" | "not asked";

export interface KindStatus {
  state: SyncState;
  /** Resources that the client has. */
  resources: number;
  rejected: readonly Rejection[];
}

/** Milliseconds between pushes of changes to one client. */
const pushInterval = 10;
/** To send more resources than this one takes turns with others. */
const much = 100;
/** Milliseconds after which routes no longer wait for a client that does not ask for a new cluster's endpoints. */
const longestHold = 2_000;

const order: readonly Kind[] = ["secret", "cluster", "endpoints", "listener", "route"];
const kindOfType = new Map<string, Kind>(Object.entries(typeUrls).map(([kind, url]) => [url, kind as Kind]));

export class Session implements Turn {
  readonly #options: SessionOptions;
  readonly #messages: Messages;
  readonly #kinds: Readonly<Record<Kind, Subscription>>;
  readonly #inOrder: readonly Subscription[];
  /** Endpoints of new clusters that the client has not confirmed. */
  readonly #awaited = new Set<string>();
  #timer: Timer | undefined;
  #holdTimer: Timer | undefined;
  #pushedAt = Number.NEGATIVE_INFINITY;
  #nonce = 0;
  /** Something waits for its push. */
  #hasChanged = false;
  #staleSince: number | undefined;
  #version = "";
  #ended = false;
  /** Responses and their bytes. */
  readonly sent = { responses: 0, bytes: 0, resources: 0 };

  constructor(options: SessionOptions) {
    const { view, world } = options;
    this.#options = options;
    this.#messages = options.messages ?? new Messages(world);
    const of = (kind: Kind) => new Subscription(kind, (name) => view.find(kind, name));
    this.#kinds = {
      secret: of("secret"),
      cluster: of("cluster"),
      endpoints: of("endpoints"),
      listener: of("listener"),
      route: of("route"),
    };
    this.#inOrder = order.map((kind) => this.#kinds[kind]);
  }

  /** A request came. Types that are not served are answered with nothing, as the protocol has it. */
  receive(request: Request): void {
    const kind = kindOfType.get(request.typeUrl);
    if (!kind || this.#ended) return;
    const subscription = this.#kinds[kind];
    const first = !subscription.started;
    if (request.responseNonce !== "") this.#answered(subscription, request);
    if (first) this.#begin(subscription, request);
    else {
      subscription.subscribe(this.#ownNames(kind, request.resourceNamesSubscribe));
      if (request.resourceNamesSubscribe.includes("*")) this.#markAll(subscription);
    }
    subscription.unsubscribe(request.resourceNamesUnsubscribe);
    if (kind === "endpoints") for (const name of request.resourceNamesUnsubscribe) this.#awaited.delete(name);
    this.#pump();
  }

  /**
   * Takes a request if it is a plain ACK in its usual bytes, which is known without reading it: most are. False: it is
   * something else.
   */
  acknowledges(request: Buffer): boolean {
    for (const subscription of this.#inOrder) {
      const response = subscription.flight?.response;
      if (!response?.ack.equals(request)) continue;
      this.#accepted(subscription, response);
      this.#pump();
      return true;
    }
    return false;
  }

  /** These resources have changed, come or gone. Names that the client does not ask for cost a look-up. */
  changed(kind: Kind, names: readonly string[]): void {
    const subscription = this.#kinds[kind];
    if (!subscription.started || this.#ended) return;
    for (let i = 0; i < names.length; i++) {
      if (!subscription.wants(names[i]!)) continue;
      subscription.changed.add(names[i]!);
      this.#hasChanged = true;
    }
  }

  /** The client is to have something else altogether: everything is looked at again. */
  changedAll(): void {
    for (const kind of order) {
      const subscription = this.#kinds[kind];
      if (!subscription.started) continue;
      const names = new Set<string>([...subscription.names, ...subscription.held.keys()]);
      if (subscription.wildcard) for (const name of this.#options.view.names(kind)) names.add(name);
      this.changed(kind, [...names]);
    }
  }

  /** Sends what has changed: now, or with what comes within the interval. Called after `changed`. */
  push(): void {
    if (this.#timer || this.#ended) return;
    if (!this.#hasChanged) {
      this.#pump(); // what it waited for may be known now
      return;
    }
    const { world } = this.#options;
    const now = world.monotonic();
    this.#staleSince ??= now;
    const wait = this.#pushedAt + pushInterval - now;
    if (wait <= 0) {
      this.#admit();
      return;
    }
    this.#timer = world.after(wait, () => {
      this.#timer = undefined;
      this.#admit();
    });
  }

  end(): void {
    this.#ended = true;
    this.#options.pacer?.leave(this);
    this.#timer?.cancel();
    this.#holdTimer?.cancel();
  }

  /** It is its turn. */
  resume(): void {
    this.#pump();
  }

  status(kind: Kind): KindStatus {
    const subscription = this.#kinds[kind];
    const { rejected, held } = subscription;
    return {
      state: !subscription.started
        ? "not asked"
        : rejected.size > 0
          ? "rejected"
          : subscription.settled && subscription.changed.size === 0
            ? "synced"
            : "stale",
      resources: held.size,
      rejected: [...rejected.values()],
    };
  }

  /** What the client holds of a kind: name → version. */
  held(kind: Kind): ReadonlyMap<string, string> {
    return this.#kinds[kind].held;
  }

  /** Milliseconds since the oldest change that the client does not have yet; 0 when it has all. */
  get lag(): number {
    return this.#staleSince === undefined ? 0 : this.#options.world.monotonic() - this.#staleSince;
  }

  /** The version that the client has confirmed in full. */
  get version(): string {
    return this.#version;
  }

  /** It has asked for listeners and clusters and has all there is of them. */
  get settled(): boolean {
    if (this.#hasChanged) return false;
    for (const { settled } of this.#inOrder) if (!settled) return false;
    return true;
  }

  #begin(subscription: Subscription, request: Request): void {
    subscription.started = true;
    const named = request.resourceNamesSubscribe;
    // A first request without names for listeners or clusters: all there is (the protocol's legacy wildcard).
    const mayBeAll = subscription.kind === "listener" || subscription.kind === "cluster";
    subscription.wildcard = named.includes("*") || (mayBeAll && named.length === 0);
    subscription.subscribe(this.#ownNames(subscription.kind, named).filter((name) => name !== "*"));
    subscription.owed = subscription.wildcard && Object.keys(request.initialResourceVersions).length === 0;
    // A client that comes back says what it has; it gets nothing anew.
    for (const [name, version] of Object.entries(request.initialResourceVersions)) {
      subscription.held.set(name, version);
      subscription.again.delete(name);
    }
    this.#markAll(subscription);
    this.#staleSince ??= this.#options.world.monotonic();
  }

  /** The names as the resources have them, which all clients share, in place of copies from a request. */
  #ownNames(kind: Kind, names: readonly string[]): string[] {
    return names.map((name) => this.#options.view.nameOf(kind, name) ?? name);
  }

  #markAll(subscription: Subscription): void {
    for (const name of subscription.held.keys()) subscription.due.add(name);
    if (!subscription.wildcard) return;
    for (const name of this.#options.view.names(subscription.kind)) subscription.due.add(name);
  }

  #answered(subscription: Subscription, { responseNonce, errorDetail }: Request): void {
    const { flight, kind } = subscription;
    if (flight?.response.nonce !== Number(responseNonce)) return; // an answer to something older
    if (!errorDetail) {
      this.#accepted(subscription, flight.response);
      return;
    }
    const rejection = subscription.refused(errorDetail.message);
    if (rejection) {
      this.#confirmed(kind, { resources: [rejection], removed: [] });
      this.#options.onRejection?.(kind, rejection);
    } else if (subscription.halves.length === 0) this.#confirmed(kind, flight.response);
  }

  #accepted(subscription: Subscription, response: Response): void {
    subscription.accepted();
    if (this.#awaited.size > 0) this.#confirmed(subscription.kind, response);
  }

  /** Nothing waits for these endpoints any more; nor for those of clusters that were refused. */
  #confirmed(
    kind: Kind,
    { resources, removed }: { resources: readonly { name: string }[]; removed: readonly string[] },
  ): void {
    const names = [...resources.map(({ name }) => name), ...removed];
    if (kind === "endpoints") for (const name of names) this.#awaited.delete(name);
    if (kind !== "cluster") return;
    for (const name of names) {
      const endpoints = this.#kinds.cluster.rejected.has(name) && this.#options.view.endpointsOf(name);
      if (endpoints) this.#awaited.delete(endpoints);
    }
  }

  /** What has changed so far is part of the push that begins now. */
  #admit(): void {
    for (const subscription of this.#inOrder) if (subscription.changed.size > 0) subscription.admit();
    this.#hasChanged = false;
    this.#pump();
  }

  /** Sends what can be sent now. What fails for one client is not to end the process, which serves all others. */
  #pump(): void {
    const { onFault } = this.#options;
    try {
      this.#sendInOrder();
    } catch (error) {
      if (!onFault) throw error;
      onFault(error);
    }
  }

  #sendInOrder(): void {
    const { view, world, pacer } = this.#options;
    if (this.#ended || !view.known) return;
    if (this.settled) {
      this.#caughtUp(); // as most answers find it
      return;
    }
    for (const subscription of this.#inOrder) {
      const { kind } = subscription;
      if (subscription.flight || subscription.settled) continue;
      if ((kind === "listener" || kind === "route") && this.#mustWait()) continue;
      if (pacer && subscription.due.size > much && !pacer.enter(this)) continue;
      this.#sendBatch(subscription, kind !== "cluster" || this.#mayRemoveClusters());
    }
    // Where nothing was to be sent of listeners and routes, clusters need not wait for them.
    const { cluster } = this.#kinds;
    if (!cluster.flight && !cluster.settled && this.#mayRemoveClusters()) this.#sendBatch(cluster, true);
    if (this.settled) this.#caughtUp();
    else this.#staleSince ??= world.monotonic();
  }

  #caughtUp(): void {
    this.#staleSince = undefined;
    this.#version = this.#options.systemVersion();
  }

  #sendBatch(subscription: Subscription, mayRemove: boolean): void {
    const { world, send, systemVersion, pacer } = this.#options;
    const { kind } = subscription;
    let half = subscription.halves.length > 0;
    let batch = subscription.take(mayRemove);
    while (batch.isEmpty) {
      if (!half && !subscription.owed) {
        pacer?.leave(this);
        return;
      }
      if (!half) break;
      // Of a half nothing is left where all of it has changed since: on to the next, and to what is due.
      half = subscription.halves.length > 0;
      batch = subscription.take(mayRemove);
    }
    const { resources, removed } = batch;
    if (kind === "cluster") this.#followWithEndpoints(resources, removed);
    const { response, bytes } = this.#messages.of(
      { kind, resources, removed, systemVersion: systemVersion() },
      this.#nonce,
    );
    this.#nonce = response.nonce;
    subscription.sent(response, batch.had);
    subscription.owed = false;
    this.#pushedAt = world.monotonic();
    this.sent.responses++;
    this.sent.resources += resources.length;
    for (const { byteLength } of bytes) this.sent.bytes += byteLength;
    if (pacer?.has(this)) send(bytes, () => pacer.leave(this));
    else send(bytes);
  }

  /**
   * A cluster that is new or has changed is used once its endpoints have come, even where the client has them: so they
   * are sent again, and routes wait for it.
   */
  #followWithEndpoints(clusters: readonly Encoded[], removed: readonly string[]): void {
    const { view } = this.#options;
    const { endpoints } = this.#kinds;
    for (const { name } of clusters) {
      const endpointsName = view.endpointsOf(name);
      if (endpointsName === undefined) continue;
      if (endpoints.names.has(endpointsName)) {
        endpoints.again.add(endpointsName);
        endpoints.due.add(endpointsName);
      } else if (!this.#kinds.cluster.held.has(name)) this.#awaited.add(endpointsName);
    }
    for (const name of removed) this.#awaited.delete(name);
  }

  /** Listeners and routes wait for the clusters and endpoints that they may lead to. */
  #mustWait(): boolean {
    const { cluster } = this.#kinds;
    const waits =
      this.#awaited.size > 0 ||
      // What is found for them is of now: also of changes whose push has not begun.
      cluster.changed.size > 0 ||
      (cluster.flight !== undefined && cluster.flight.response.resources.length > 0) ||
      cluster.hasNews();
    if (!waits) {
      this.#holdTimer?.cancel();
      this.#holdTimer = undefined;
      return false;
    }
    this.#holdTimer ??= this.#options.world.after(longestHold, () => {
      this.#holdTimer = undefined;
      this.#awaited.clear();
      this.#pump();
    });
    return true;
  }

  /** Not while the client may have a listener or a route that leads there. */
  #mayRemoveClusters(): boolean {
    const { listener, route } = this.#kinds;
    const isDone = (each: Subscription) => !each.started || (each.settled && each.rejected.size === 0);
    return isDone(listener) && isDone(route);
  }
}
