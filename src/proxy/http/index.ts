/** HTTP in the embedded proxy: what Envoy's HttpConnectionManager and router do. */
import type { RouteConfiguration } from "#protocols/envoy/config/route/v3/route.ts";
import type { HttpConnectionManager } from "#protocols/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.ts";
import type {
  CompiledRoutes,
  ConnectionHandler,
  Downstream,
  HandlerDeps,
  HttpRoom,
  ProxyDeps,
} from "../contract.ts";
import { Http1ServerConnection } from "./http1-server.ts";
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
    manager.cxTotal.inc();
    manager.cxActive.inc();
    const connection = new Http1ServerConnection(manager, downstream, (closed) => {
      this.#connections.delete(closed);
      manager.cxActive.dec();
    });
    this.#connections.add(connection);
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
