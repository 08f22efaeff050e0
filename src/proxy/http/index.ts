/** HTTP in the embedded proxy: what Envoy's HttpConnectionManager and router do. */
import type { RouteConfiguration } from "#protocols/envoy/config/route/v3/route.ts";
import type { HttpConnectionManager } from "#protocols/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.ts";
import { preface } from "../../http2/index.ts";
import type {
  CompiledRoutes,
  ConnectionHandler,
  Downstream,
  HandlerDeps,
  HttpRoom,
  ProxyDeps,
} from "../contract.ts";
import { Deadline } from "./deadlines.ts";
import { guarded } from "./guard.ts";
import { Http1ServerConnection } from "./http1-server.ts";
import { Http2ServerConnection } from "./http2-server.ts";
import { Manager } from "./manager.ts";
import { RouteTable } from "./routes.ts";
import { readSettings } from "./settings.ts";

export { compileAccessLog } from "./access-log.ts";

import { compileAccessLog } from "./access-log.ts";

/** Throws Unservable, which names the route, for what cannot be served. */
export function compileRoutes(config: RouteConfiguration, deps: ProxyDeps): CompiledRoutes {
  return new RouteTable(config, deps.world);
}

/** Throws Unservable for settings and filters that there are not. */
export function createHttpHandler(hcm: HttpConnectionManager, deps: HandlerDeps): ConnectionHandler {
  return new HttpHandler(new Manager(readSettings(hcm, deps), deps));
}

interface Connection {
  drain(): void;
  close(): void;
}

class HttpHandler implements ConnectionHandler {
  readonly #manager: Manager;
  readonly #connections = new Set<Connection>();

  constructor(manager: Manager) {
    this.#manager = manager;
  }

  handle(downstream: Downstream): void {
    const manager = this.#manager;
    const { counters } = manager;
    counters.cxTotal.inc();
    counters.cxActive.inc();
    if (downstream.tls) {
      counters.cxSsl.inc();
      counters.cxSslActive.inc();
    }
    const { codec } = manager.settings;
    if (codec === "http1") this.#http1(downstream, downstream.head);
    else if (codec === "http2" || downstream.tls?.alpn === "h2") this.#http2(downstream, downstream.head);
    else if (downstream.tls?.alpn === "http/1.1") this.#http1(downstream, downstream.head);
    else this.#look(downstream);
  }

  #closed(connection: Connection, downstream: Downstream): void {
    this.#connections.delete(connection);
    const { counters } = this.#manager;
    counters.cxDestroy.inc();
    counters.cxActive.dec();
    if (downstream.tls) counters.cxSslActive.dec();
  }

  #http1(downstream: Downstream, head: Buffer): void {
    const { cxHttp1, cxHttp1Active } = this.#manager.counters;
    cxHttp1.inc();
    cxHttp1Active.inc();
    const closed = (connection: Connection) => {
      cxHttp1Active.dec();
      this.#closed(connection, downstream);
    };
    this.#connections.add(new Http1ServerConnection(this.#manager, downstream, head, closed));
  }

  #http2(downstream: Downstream, head: Buffer): void {
    const { cxHttp2, cxHttp2Active } = this.#manager.counters;
    cxHttp2.inc();
    cxHttp2Active.inc();
    const closed = (connection: Connection) => {
      cxHttp2Active.dec();
      this.#closed(connection, downstream);
    };
    this.#connections.add(new Http2ServerConnection(this.#manager, downstream, head, closed));
  }

  /** Nobody said which protocol: the first bytes do (HTTP/2 with prior knowledge begins with its preface). */
  #look(downstream: Downstream): void {
    const { socket } = downstream;
    const manager = this.#manager;
    let seen = downstream.head;
    const bearer = {
      onBug(error: unknown) {
        manager.bug(error);
        socket.destroy();
      },
    };
    const decided = () => {
      const most = Math.min(seen.length, preface.length);
      if (most === 0) return false;
      if (seen.compare(preface, 0, most, 0, most) !== 0) this.#http1(downstream, seen);
      else if (seen.length >= preface.length) this.#http2(downstream, seen);
      else return false;
      return true;
    };
    if (decided()) return;
    const onData = guarded(bearer, (chunk: Buffer) => {
      seen = seen.length > 0 ? Buffer.concat([seen, chunk]) : chunk;
      socket.pause();
      socket.off("data", onData);
      stopLooking();
      this.#connections.delete(looking);
      if (decided()) return;
      // A part of the preface: the rest is waited for.
      this.#connections.add(looking);
      listen();
    });
    const onGone = guarded(bearer, () => {
      stopLooking();
      socket.destroy();
      this.#closed(looking, downstream);
    });
    const nothing = () => undefined;
    const deadline = new Deadline({ onDeadline: onGone, ...bearer }, 0);
    const looking: Connection = { drain: onGone, close: onGone };
    const stopLooking = () => {
      deadline.cancel();
      socket.off("data", onData).off("end", onGone).off("close", onGone).off("error", nothing);
    };
    const listen = () => {
      const { connectionIdleTimeout } = manager.settings;
      if (connectionIdleTimeout > 0) manager.deadlines.set(deadline, connectionIdleTimeout);
      socket.on("data", onData).on("end", onGone).on("close", onGone).on("error", nothing);
      socket.resume();
    };
    this.#connections.add(looking);
    listen();
  }

  drain(): void {
    this.#manager.draining = true;
    for (const connection of this.#connections) connection.drain();
  }

  close(): void {
    for (const connection of this.#connections) connection.close();
  }

  get active(): number {
    return this.#connections.size;
  }
}

export const http: HttpRoom = { compileRoutes, createHttpHandler, compileAccessLog };
