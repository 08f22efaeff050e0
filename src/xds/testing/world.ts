/** A discovery without a cluster: the model is put by hand, one scope for every proxy. */
import { createServer, type Server, type TLSSocket } from "node:tls";
import { derive, Engine, type Source, source } from "../../collections/index.ts";
import { workloadOf } from "../../identity/index.ts";
import type {
  Listener,
  Proxy as MeshProxy,
  RouteTable,
  ScopeConfig,
  Upstream,
  UpstreamEndpoints,
} from "../../traffic/index.ts";
import { realWorld } from "../../world/index.ts";
import { startXds, type TlsSecret, type XdsServer } from "../index.ts";
import type { TestCa } from "./certificates.ts";

export interface TestDiscovery {
  engine: Engine;
  configs: Source<ScopeConfig>;
  endpoints: Source<UpstreamEndpoints>;
  secrets: Source<TlsSecret>;
  proxies: Source<MeshProxy>;
  xds: XdsServer;
  port: number;
  lines: string[];
  /** Puts the one scope's configuration. */
  serve(config: {
    listeners?: Listener[];
    routes?: RouteTable[];
    upstreams?: Upstream[];
    secrets?: string[];
  }): void;
  stop(): Promise<void>;
}

export const scope = "outbound/coolapp";

export async function startDiscovery(ca: TestCa, port = 0): Promise<TestDiscovery> {
  const world = realWorld();
  const lines: string[] = [];
  const engine = new Engine({ world, onBug: (bug) => lines.push(String(bug.error)) });
  const own = { synced: true };
  const configs = source<ScopeConfig>(engine, { name: "configs", key: (config) => config.scope, ...own });
  const endpoints = source<UpstreamEndpoints>(engine, { name: "endpoints", key: ({ name }) => name, ...own });
  const secrets = source<TlsSecret>(engine, { name: "secrets", key: ({ name }) => name, ...own });
  const proxies = source<MeshProxy>(engine, { name: "proxies", key: ({ id }) => id, ...own });
  const scopes = derive(proxies, () => [scope], { name: "scopes" });
  const xds = startXds({
    world,
    engine,
    traffic: { scopes, configs, endpoints },
    proxies,
    secrets,
    authenticate: (connection) => {
      const certificate = (connection as TLSSocket).getPeerX509Certificate();
      return certificate && workloadOf(certificate);
    },
    log: (line) => lines.push(line),
  });
  const server: Server = createServer(
    { ...(await ca.issue({ dns: ["localhost"] })), requestCert: true, ALPNProtocols: ["h2"] },
    (socket) => xds.accept(socket),
  );
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  return {
    engine,
    configs,
    endpoints,
    secrets,
    proxies,
    xds,
    port: (server.address() as { port: number }).port,
    lines,
    serve({ listeners = [], routes = [], upstreams = [], secrets: names = [] }) {
      const byName = <T extends { name: string }>(all: T[]) => new Map(all.map((each) => [each.name, each]));
      configs.put({
        scope,
        listeners: byName(listeners),
        routes: byName(routes),
        upstreams: byName(upstreams),
        secrets: new Set(names),
      });
      engine.settle();
    },
    async stop() {
      xds.stop();
      engine.dispose();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
