/** A listener: its sockets, what it looks at, and its filter chains, which change while it goes on. */
import { createServer, type Server, type Socket } from "node:net";
import type { Listener } from "#protocols/envoy/config/listener/v3/listener.ts";
import { FilterChain } from "#protocols/envoy/config/listener/v3/listener_components.ts";
import type { Timer, World } from "../../world/index.ts";
import {
  type Address,
  type HandlerDeps,
  type HttpRoom,
  type ProxyDeps,
  type StatsScope,
  Unservable,
} from "../contract.ts";
import type { Secrets } from "../secrets.ts";
import { addressOf, messageOf, milliseconds, plainIp, printAddress } from "../values.ts";
import { Chain } from "./chain.ts";
import { type Criteria, chainMatcher } from "./chains.ts";
import { TakenConnection } from "./connection.ts";
import { type OriginalDestination, originalDestination } from "./original-destination.ts";
import { type Peeked, peek } from "./peek.ts";

const filters = "type.googleapis.com/envoy.extensions.filters.listener";

export interface ListenerDeps {
  proxy: ProxyDeps;
  secrets: Secrets;
  http: HttpRoom;
  /** The listener that serves an address, for connections that are handed on. */
  find(address: Address): BoundListener | undefined;
  nextId(): number;
  /** ms that a chain which goes away has for what it still does. */
  drainTime: number;
}

/** One version of a listener, read and made ready. */
interface Version {
  message: Listener;
  bytes: Buffer;
  chains: Chain[];
  fallback: Chain | undefined;
  matcher: { find(criteria: Criteria): Chain | undefined };
  inspect: { tls: boolean; http: boolean; redirected: boolean };
  timeout: number;
  goOn: boolean;
}

export class BoundListener {
  readonly name: string;
  readonly address: Address;
  readonly #deps: ListenerDeps;
  readonly #world: World;
  readonly stats: StatsScope;
  #current: Version | undefined;
  #next: Version | undefined;
  #stopWaiting: (() => void) | undefined;
  #server: Server | undefined;
  #retry: Timer | undefined;
  #originalDestination: OriginalDestination | undefined;
  /** Connections that no chain has yet. */
  readonly #fresh = new Set<Socket>();
  readonly #draining = new Set<Chain>();
  /** Why it does not listen, when it should. */
  problem: string | undefined;
  closed = false;
  /** It has its socket, or needs none. */
  listening = false;
  /** Called when it becomes active, or stops to be. */
  onActive: () => void = () => undefined;

  constructor(name: string, address: Address, deps: ListenerDeps) {
    this.name = name;
    this.address = address;
    this.#deps = deps;
    this.#world = deps.proxy.world;
    const shown = printAddress(address).replaceAll(":", "_");
    this.stats = deps.proxy.stats.scope(`listener.${shown}`, "listener", { listener_address: shown });
  }

  get active(): boolean {
    return this.#current !== undefined;
  }
  get warming(): boolean {
    return this.#next !== undefined;
  }
  get message(): Listener | undefined {
    return (this.#current ?? this.#next)?.message;
  }
  get bytes(): Buffer | undefined {
    return (this.#next ?? this.#current)?.bytes;
  }
  get direction(): HandlerDeps["direction"] {
    return directionOf(this.message);
  }
  get connections(): number {
    let count = this.#fresh.size;
    for (const chain of [...this.#chains(this.#current), ...this.#draining]) count += chain.handler.active;
    return count;
  }

  /** Takes a version; it serves when what its chains want is here. Throws Unservable, and nothing has changed then. */
  update(message: Listener, bytes: Buffer): void {
    const version = this.#read(message, bytes);
    const overtaken = this.#next;
    this.#next = version;
    this.#stopWaiting?.();
    this.#retire(overtaken, version);
    this.#wait(version);
  }

  #read(message: Listener, bytes: Buffer): Version {
    const inspect = { tls: false, http: false, redirected: message.useOriginalDst ?? false };
    for (const filter of message.listenerFilters) {
      const any = filter.configType?.$case === "typedConfig" ? filter.configType.value : undefined;
      switch (any?.typeUrl) {
        case `${filters}.original_dst.v3.OriginalDst`:
          inspect.redirected = true;
          break;
        case `${filters}.tls_inspector.v3.TlsInspector`:
          inspect.tls = true;
          break;
        case `${filters}.http_inspector.v3.HttpInspector`:
          inspect.http = true;
          break;
        default:
          throw new Unservable(
            `listener filter '${filter.name}' (${any?.typeUrl ?? "no type"}) is not served`,
          );
      }
    }
    if (message.udpListenerConfig) throw new Unservable("UDP listeners are not served");
    if (message.filterChainMatcher) throw new Unservable("filter_chain_matcher is not served");
    const handler: Omit<HandlerDeps, "chain"> = {
      ...this.#deps.proxy,
      listener: this.name,
      direction: directionOf(message),
      bufferLimit: message.perConnectionBufferLimitBytes ?? 1024 * 1024,
    };
    // What of the listener goes into its handlers: when that changes, all are made anew.
    const shared = `${handler.direction} ${handler.bufferLimit}`;
    const known = new Map<string, Chain>();
    for (const version of [this.#current, this.#next]) {
      for (const chain of this.#chains(version)) known.set(chain.key, chain);
    }
    const made: Chain[] = [];
    const chainOf = (chain: FilterChain): Chain => {
      const key = `${shared} ${Buffer.from(FilterChain.encode(chain).finish()).toString("latin1")}`;
      const kept = known.get(key);
      if (kept) {
        known.delete(key);
        return kept;
      }
      const fresh = new Chain(chain, key, {
        handler: { ...handler, chain: chain.name },
        secrets: this.#deps.secrets,
        http: this.#deps.http,
        listenerStats: this.stats,
      });
      made.push(fresh);
      return fresh;
    };
    try {
      const chains = message.filterChains.map(chainOf);
      const fallback = message.defaultFilterChain && chainOf(message.defaultFilterChain);
      if (chains.length === 0 && !fallback) throw new Unservable("no filter chains specified");
      return {
        message,
        bytes,
        chains,
        fallback,
        matcher: chainMatcher(chains.map((chain) => ({ match: chain.match, chain }))),
        inspect,
        timeout: milliseconds(message.listenerFiltersTimeout, 15_000),
        goOn: message.continueOnListenerFiltersTimeout,
      };
    } catch (error) {
      for (const chain of made) chain.dispose();
      throw error;
    }
  }

  #chains(version: Version | undefined): Chain[] {
    return version ? [...version.chains, ...(version.fallback ? [version.fallback] : [])] : [];
  }

  #wait(version: Version): void {
    const wanted = this.#chains(version).flatMap((chain) => chain.wanted);
    const stops: (() => void)[] = [];
    const expired = new Set<(typeof wanted)[number]>();
    const look = () => {
      if (this.#next !== version || !wanted.every((one) => one.ready() || expired.has(one))) return;
      this.#stopWaiting?.();
      this.#activate(version);
    };
    this.#stopWaiting = () => {
      for (const stop of stops.splice(0)) stop();
      this.#stopWaiting = undefined;
    };
    for (const one of wanted) {
      if (one.ready()) continue;
      stops.push(one.subscribe(look));
      if (one.patience > 0) {
        const timer = this.#world.after(one.patience, () => {
          expired.add(one);
          look();
        });
        stops.push(() => timer.cancel());
      }
    }
    look();
  }

  #activate(version: Version): void {
    const before = this.#current;
    this.#next = undefined;
    this.#current = version;
    this.#retire(before, version);
    if (!version.inspect.redirected) this.#originalDestination = undefined;
    const redirected = version.inspect.redirected
      ? originalDestination().then((ask) => {
          this.#originalDestination = ask;
        })
      : Promise.resolve();
    redirected.then(
      () => {
        if (before) this.onActive();
        else if (version.message.bindToPort === false) {
          this.listening = true;
          this.onActive();
        } else this.#listen();
      },
      (error) => {
        this.problem = messageOf(error);
        this.#deps.proxy.log("error", `listener ${this.name}: ${this.problem}`);
        this.onActive();
      },
    );
  }

  #listen(): void {
    if (this.closed) return;
    const { ip, port } = this.address;
    const server = createServer({ pauseOnConnect: true, allowHalfOpen: true, noDelay: true }, (socket) =>
      this.#accept(socket),
    );
    server.on("error", (error) => {
      const first = this.problem === undefined;
      this.problem = `cannot bind '${printAddress(this.address)}': ${messageOf(error)}`;
      if (first) this.#deps.proxy.log("error", `listener ${this.name}: ${this.problem}; trying again`);
      this.#retry = this.#world.after(1_000, () => this.#listen());
      if (first) this.onActive();
    });
    const where = ip.startsWith("/") ? { path: ip } : { host: ip, port };
    server.listen({ ...where, backlog: 4096, exclusive: true }, () => {
      this.problem = undefined;
      this.listening = true;
      const bound = server.address();
      // Port 0, for tests: what the kernel chose.
      if (port === 0 && bound && typeof bound === "object") this.address.port = bound.port;
      this.onActive();
    });
    this.#server = server;
  }

  #accept(socket: Socket): void {
    const { world } = this.#deps.proxy;
    const remote = { ip: plainIp(socket.remoteAddress ?? ""), port: socket.remotePort ?? 0 };
    const local = { ip: plainIp(socket.localAddress ?? ""), port: socket.localPort ?? 0 };
    const connection = new TakenConnection(this.#deps.nextId(), socket, remote, local, {
      at: world.now(),
      monotonic: world.monotonic(),
    });
    const original = this.#originalDestination?.(socket);
    if (original && (original.ip !== local.ip || original.port !== local.port)) {
      connection.local = original;
      connection.redirected = true;
      if (this.#current?.message.useOriginalDst) {
        const other = this.#deps.find(original);
        if (other && other !== this) {
          other.take(connection);
          return;
        }
      }
    }
    this.take(connection);
  }

  /** A connection is ours: accepted here, or handed on by another listener. */
  take(connection: TakenConnection): void {
    const version = this.#current;
    const { socket } = connection;
    if (!version || this.closed) {
      socket.on("error", () => undefined).destroy();
      return;
    }
    connection.listener = this.name;
    this.stats.counter("downstream_cx_total").inc();
    const active = this.stats.gauge("downstream_cx_active");
    active.inc();
    socket.once("close", () => active.dec());
    const { inspect, timeout, goOn } = version;
    const secured = inspect.tls || version.chains.some(({ tls }) => tls) || version.fallback?.tls;
    if (!inspect.http && !secured) {
      this.#choose(connection, undefined);
      return;
    }
    this.#fresh.add(socket);
    const options = inspect.tls || inspect.http ? { timeout, goOn } : { timeout: 0, goOn: false };
    peek(this.#world, socket, { tls: Boolean(secured), http: inspect.http, ...options }, (peeked) => {
      this.#fresh.delete(socket);
      if (peeked) {
        connection.head = peeked.head;
        this.#choose(connection, peeked);
      } else this.stats.counter("downstream_pre_cx_timeout").inc();
    });
  }

  #choose(connection: TakenConnection, peeked: Peeked | undefined): void {
    const version = this.#current;
    // Chains go by the inspectors that are configured; what else was seen is for the handshake.
    const hello = version?.inspect.tls ? peeked?.hello : undefined;
    connection.serverName = hello?.serverName;
    const chain =
      version?.matcher.find({
        local: connection.local,
        remote: connection.remote,
        serverName: hello?.serverName,
        transport: hello ? "tls" : "raw_buffer",
        applicationProtocols: hello?.alpn ?? (peeked?.http ? [peeked.http] : []),
      }) ?? version?.fallback;
    if (!chain) {
      this.stats.counter("no_filter_chain_match").inc();
      connection.socket.on("error", () => undefined).destroy();
      return;
    }
    if (!chain.tls) {
      chain.take(connection);
      return;
    }
    const raw = connection.socket as Socket;
    this.#fresh.add(raw);
    chain.tls.accept(connection, peeked?.hello, (good) => {
      this.#fresh.delete(raw);
      if (!good) return;
      connection.serverName = peeked?.hello?.serverName;
      if (this.#draining.has(chain) || !this.closed) chain.take(connection);
      else connection.socket.on("error", () => undefined).destroy();
    });
  }

  /** Chains of `old` that `kept` and the current version do not have: they finish what they do, then end. */
  #retire(old: Version | undefined, kept: Version | undefined): void {
    const stay = new Set([
      ...this.#chains(kept),
      ...this.#chains(this.#current),
      ...this.#chains(this.#next),
    ]);
    for (const chain of this.#chains(old)) {
      if (stay.has(chain)) continue;
      this.#draining.add(chain);
      chain.handler.drain();
      const end = () => {
        timer.cancel();
        this.#draining.delete(chain);
        chain.dispose();
      };
      const timer = this.#world.after(chain.handler.active === 0 ? 0 : this.#deps.drainTime, end);
    }
  }

  /** Says goodbye to clients, and goes on to serve (graceful draining). */
  drain(): void {
    for (const chain of this.#chains(this.#current)) chain.handler.drain();
  }

  /** Accepts nothing any more. What is there goes on. */
  stopAccepting(): void {
    this.#retry?.cancel();
    this.#server?.close();
    this.#server = undefined;
  }

  /** It was taken away: its connections have the drain time; `now`: they have none. */
  close(now = false): void {
    this.closed = true;
    this.#stopWaiting?.();
    this.stopAccepting();
    for (const socket of this.#fresh) socket.on("error", () => undefined).destroy();
    const versions = [this.#next, this.#current];
    this.#next = undefined;
    this.#current = undefined;
    for (const version of versions) this.#retire(version, undefined);
    if (now) {
      for (const chain of this.#draining) chain.dispose();
      this.#draining.clear();
    }
  }
}

function directionOf(message: Listener | undefined): HandlerDeps["direction"] {
  return (["unspecified", "inbound", "outbound"] as const)[message?.trafficDirection ?? 0] ?? "unspecified";
}

/** Throws Unservable when the message has no address. */
export function listenerAddress(message: Listener): Address {
  return addressOf(message.address);
}
