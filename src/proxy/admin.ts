/**
 * The admin interface, at the paths that people and istioctl know from Envoy: /ready, /stats, /stats/prometheus,
 * /clusters, /listeners, /config_dump, /certs, /server_info, /logging, /drain_listeners, /healthcheck/fail|ok,
 * /quitquitquit. On this host only; the metrics have a port of their own for all (15090).
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Any } from "#protocols/google/protobuf/any.ts";
import { certificateDumps } from "./certs.ts";
import type { BoundListener } from "./downstream/listener.ts";
import type { ProxyState } from "./state.ts";
import type { EndpointHost } from "./upstream/host.ts";
import { printAddress } from "./values.ts";

type Answer = { status?: number; type?: string; body: string };

/** Serves on `port` of 127.0.0.1. */
export async function serveAdmin(
  state: ProxyState,
  host: string,
  port: number,
  onlyMetrics = false,
): Promise<Server> {
  const server = createServer((request, response) => {
    answer(state, request, onlyMetrics).then(
      (given) => reply(response, given),
      (error) => reply(response, { status: 500, body: `${String(error)}\n` }),
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port }, () => resolve());
  });
  return server;
}

function reply(response: ServerResponse, { status = 200, type = "text/plain; charset=UTF-8", body }: Answer) {
  response.writeHead(status, {
    "content-type": type,
    "cache-control": "no-cache, max-age=0",
    "x-content-type-options": "nosniff",
    server: "envoy",
  });
  response.end(body);
}

async function answer(state: ProxyState, request: IncomingMessage, onlyMetrics: boolean): Promise<Answer> {
  const url = new URL(request.url ?? "/", "http://localhost");
  const query = url.searchParams;
  if (onlyMetrics) {
    if (url.pathname !== "/stats/prometheus") return { status: 404, body: "not found\n" };
    return { body: state.stats.prometheus() };
  }
  const mutates = /^\/(logging|drain_listeners|healthcheck|quitquitquit|reset_counters)/.test(url.pathname);
  if (mutates && request.method !== "POST") return { status: 405, body: "Method Not Allowed" };
  switch (url.pathname) {
    case "/ready":
      return state.live() ? { body: "LIVE\n" } : { status: 503, body: `${state.phase()}\n` };
    case "/stats":
      if (query.get("format") === "prometheus") return { body: state.stats.prometheus() };
      return { body: state.stats.text(query.has("filter") ? new RegExp(query.get("filter")!) : undefined) };
    case "/stats/prometheus":
      return { body: state.stats.prometheus() };
    case "/clusters":
      return query.get("format") === "json"
        ? json({ cluster_statuses: state.clusters.list().map((entry) => clusterStatus(entry)) })
        : { body: clustersText(state) };
    case "/listeners":
      return query.get("format") === "json"
        ? json({ listener_statuses: state.listeners.list().map(listenerStatus) })
        : {
            body: state.listeners
              .list()
              .map((l) => `${l.name}::${printAddress(l.address)}\n`)
              .join(""),
          };
    case "/config_dump":
      return json(await configDump(state, query.get("resource"), query.has("include_eds")));
    case "/certs":
      return json({ certificates: certificateDumps(state.secrets.list()) });
    case "/server_info":
      return json({ version: state.version, state: state.phase(), node: state.node });
    case "/logging": {
      const level = query.get("level");
      if (level) state.setLogLevel(level);
      return { body: `active loggers:\n  weft: ${state.logLevel()}\n` };
    }
    case "/drain_listeners":
      state.drain({ inboundOnly: query.has("inboundonly"), graceful: query.has("graceful") });
      return { body: "OK\n" };
    case "/healthcheck/fail":
    case "/healthcheck/ok":
      state.failHealth(url.pathname.endsWith("fail"));
      return { body: "OK\n" };
    case "/quitquitquit":
      state.quit();
      return { body: "OK\n" };
    case "/reset_counters":
      return { body: "OK\n" };
    case "/help":
    case "/":
      return {
        body: "admin commands are:\n  /certs /clusters /config_dump /drain_listeners /listeners /logging /ready /server_info /stats /stats/prometheus\n",
      };
    default:
      return { status: 404, body: "invalid path. admin commands are listed at /help\n" };
  }
}

const json = (value: unknown): Answer => ({
  type: "application/json",
  body: `${JSON.stringify(value, (_, v: unknown) => (v instanceof Map ? Object.fromEntries(v) : v), 1)}\n`,
});

function healthFlags(host: EndpointHost): string {
  const flags = [
    host.facts.health === "unhealthy" ? "/failed_eds_health" : "",
    host.facts.health === "degraded" ? "/degraded_eds_health" : "",
    host.outlier.ejected ? "/failed_outlier_check" : "",
  ].join("");
  return flags || "healthy";
}

function clustersText(state: ProxyState): string {
  const lines: string[] = [];
  for (const { cluster } of state.clusters.list()) {
    const { name } = cluster;
    for (const priority of ["default", "high"] as const) {
      const limits = cluster.limits(priority);
      lines.push(
        `${name}::${priority}_priority::max_connections::${limits.connections.max}`,
        `${name}::${priority}_priority::max_pending_requests::${limits.pendingRequests.max}`,
        `${name}::${priority}_priority::max_requests::${limits.requests.max}`,
        `${name}::${priority}_priority::max_retries::${limits.retries.max}`,
      );
    }
    lines.push(`${name}::added_via_api::true`);
    for (const host of cluster.hosts) {
      const at = `${name}::${host.name}`;
      const { counters, locality } = host;
      lines.push(
        `${at}::cx_active::${counters.cxActive}`,
        `${at}::cx_connect_fail::${counters.cxConnectFail}`,
        `${at}::cx_total::${counters.cxTotal}`,
        `${at}::rq_active::${host.activeRequests}`,
        `${at}::rq_error::${counters.rqError}`,
        `${at}::rq_success::${counters.rqSuccess}`,
        `${at}::rq_timeout::${counters.rqTimeout}`,
        `${at}::rq_total::${counters.rqTotal}`,
        `${at}::hostname::${host.hostname}`,
        `${at}::health_flags::${healthFlags(host)}`,
        `${at}::weight::${host.weight}`,
        `${at}::region::${locality.region}`,
        `${at}::zone::${locality.zone}`,
        `${at}::sub_zone::${locality.subZone}`,
        `${at}::canary::false`,
        `${at}::priority::${host.priority}`,
      );
    }
  }
  return lines.map((line) => `${line}\n`).join("");
}

function clusterStatus({ cluster, warming }: ReturnType<ProxyState["clusters"]["list"]>[number]) {
  return {
    name: cluster.name,
    added_via_api: true,
    ...(warming ? { warming } : {}),
    host_statuses: cluster.hosts.map((host) => ({
      address: { socket_address: { address: host.address.ip, port_value: host.address.port } },
      health_status: {
        eds_health_status: host.facts.health === "unhealthy" ? "UNHEALTHY" : "HEALTHY",
        ...(host.outlier.ejected ? { failed_outlier_check: true } : {}),
      },
      weight: host.weight,
      hostname: host.hostname,
      locality: host.locality,
      priority: host.priority,
      stats: Object.entries(host.counters).map(([name, value]) => ({
        name: name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`),
        value: String(value),
      })),
    })),
  };
}

function listenerStatus(listener: BoundListener) {
  return {
    name: listener.name,
    local_address: { socket_address: { address: listener.address.ip, port_value: listener.address.port } },
    ...(listener.problem ? { error: listener.problem } : {}),
  };
}

/** What is configured: messages as JSON with the field names of this house's generated types. */
async function configDump(state: ProxyState, resource: string | null, endpoints: boolean) {
  const sections: Record<string, unknown>[] = [];
  const type = (name: string) => `type.googleapis.com/envoy.admin.v3.${name}`;
  const add = (name: string, key: string, value: Record<string, unknown>) => {
    if (resource === null || resource === key) sections.push({ "@type": type(name), ...value });
  };
  const clusters = state.clusters.list();
  add("ClustersConfigDump", "dynamic_active_clusters", {
    dynamic_active_clusters: clusters
      .filter(({ warming }) => !warming)
      .map(({ cluster }) => ({ cluster: shown(cluster.config) })),
    dynamic_warming_clusters: clusters
      .filter(({ warming }) => warming)
      .map(({ cluster }) => ({ cluster: shown(cluster.config) })),
  });
  if (endpoints) {
    add("EndpointsConfigDump", "dynamic_endpoint_configs", {
      dynamic_endpoint_configs: clusters.map(({ cluster }) => ({
        cluster_name: cluster.name,
        endpoints: cluster.hosts.map((host) => ({
          address: printAddress(host.address),
          health: host.health,
          weight: host.weight,
          priority: host.priority,
          locality: host.locality,
          metadata: host.metadata?.filterMetadata,
        })),
      })),
    });
  }
  add("ListenersConfigDump", "dynamic_listeners", {
    dynamic_listeners: state.listeners.list().map((listener) => ({
      name: listener.name,
      [listener.active ? "active_state" : "warming_state"]: { listener: shown(listener.message) },
      ...(listener.problem ? { error_state: { details: listener.problem } } : {}),
    })),
  });
  add("RoutesConfigDump", "dynamic_route_configs", {
    dynamic_route_configs: state.routes
      .list()
      .map(({ name, current }) => ({ name, route_config: shown(current?.config) })),
  });
  add("SecretsConfigDump", "dynamic_active_secrets", {
    dynamic_active_secrets: state.secrets
      .list()
      .map(({ name, current }) => ({ name, present: current !== undefined })),
  });
  return {
    configs: sections,
    ads: { ...state.ads, rejections: Object.fromEntries(state.ads?.rejections ?? []) },
  };
}

/** Packed messages by type and size; wrapped choices unwrapped; private keys do not occur in these. */
function shown(value: unknown): unknown {
  if (Array.isArray(value)) return value.length === 0 ? undefined : value.map(shown);
  if (Buffer.isBuffer(value)) return value.toString("base64");
  if (value === null || typeof value !== "object") return value === "" ? undefined : value;
  const any = value as Partial<Any> & { $case?: string; value?: unknown };
  if (typeof any.typeUrl === "string" && Buffer.isBuffer(any.value)) {
    return { "@type": any.typeUrl, value: (any.value as Buffer).toString("base64") };
  }
  const out: Record<string, unknown> = {};
  for (const [key, inner] of Object.entries(value)) {
    if (inner === undefined) continue;
    const choice = inner as { $case?: unknown; value?: unknown };
    if (inner && typeof inner === "object" && typeof choice.$case === "string") {
      out[snake(choice.$case)] = shown(choice.value);
    } else out[snake(key)] = shown(inner);
  }
  return out;
}

const snake = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
