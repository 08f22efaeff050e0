/** The virtual hosts of the services that sidecars call. Source: Istio `pilot/pkg/networking/core/httproute.go`. */
import { isWide } from "../addresses/index.ts";
import type { Origin, RouteTable, VirtualHost } from "./model.ts";
import { upstreamName } from "./names.ts";
import { isHttp } from "./protocol.ts";
import type { MeshPort, MeshService } from "./registry.ts";
import { type DraftRoute, defaultRoute, type RouteContext, routesOf } from "./routes.ts";
import { hasPodNames, podHost } from "./upstreams.ts";
import type { HostRules } from "./virtual-services.ts";
import { selects } from "./workloads.ts";

/** A virtual host whose routes may be for some clients only. */
export interface DraftHost {
  /** The name of its table: a port, or `host:port` where the service has a listener of its own. */
  table: string;
  /** That clients call. */
  port: number;
  host: VirtualHost;
  /** Parallel to the routes; undefined when all are for everybody. */
  labels: readonly (Readonly<Record<string, string>> | undefined)[] | undefined;
}

const forLabels = new WeakMap<DraftHost, Map<string, VirtualHost>>();

/** The virtual host as clients with these labels have it; the same labels, the same object. */
export function hostFor(draft: DraftHost, labels: Readonly<Record<string, string>>): VirtualHost {
  const { host, labels: conditions } = draft;
  if (!conditions) return host;
  let made = forLabels.get(draft);
  if (!made) {
    made = new Map();
    forLabels.set(draft, made);
  }
  const key = JSON.stringify(labels);
  let found = made.get(key);
  if (!found) {
    const routes = host.routes.filter((_, i) => !conditions[i] || selects(conditions[i], labels));
    found = { ...host, routes };
    made.set(key, found);
  }
  return found;
}

/** Where and for whom virtual hosts are made, with the rules that speak for the host. */
export interface HostContext extends Omit<RouteContext, "port"> {
  rules: HostRules | undefined;
}

/** Ports with virtual hosts: HTTP, and those whose protocol is found out. */
function hasHosts(port: MeshPort): boolean {
  return isHttp(port.protocol) || port.protocol === "auto";
}

/** A service on a port whose protocol is found out has a listener for each of its addresses. */
function hasOwnListener(service: MeshService, port: MeshPort): boolean {
  return port.protocol === "auto" && service.addresses.some((address) => !isWide(address));
}

/** The virtual hosts of a service's HTTP ports. */
export function hostsOf(service: MeshService, context: HostContext): DraftHost[] {
  return service.ports.filter(hasHosts).flatMap((port) => {
    const own = hasOwnListener(service, port);
    const name = `${service.host}:${port.number}`;
    const host = draftHost(
      own ? name : String(port.number),
      name,
      own ? ["*"] : domainsOf(service, port.number, context.client),
      port.number,
      service,
      context,
    );
    return hasPodNames(service) ? [host, podsHost(service, port.number, context)] : [host];
  });
}

/** A call to one pod of a headless service is for that pod, whatever rules there are for the service. */
function podsHost(service: MeshService, port: number, { client }: HostContext): DraftHost {
  const host = podHost(service.host);
  const domains = domainsOf({ ...service, addresses: [] }, port, client).map((domain) => `*.${domain}`);
  const route = defaultRoute(upstreamName("outbound", port, "", host), [], [service.origin]);
  return {
    table: String(port),
    port,
    host: {
      name: `${host}:${port}`,
      domains,
      routes: [route],
      requireTls: false,
      origins: [service.origin],
    },
    labels: undefined,
  };
}

/** A host that only a VirtualService knows, on port 80 as Istio has it. */
export function looseHost(host: string, rules: HostRules, context: HostContext): DraftHost {
  return draftHost("80", `${host}:80`, withPort([host], 80), 80, undefined, { ...context, rules });
}

function draftHost(
  table: string,
  name: string,
  domains: readonly string[],
  port: number,
  service: MeshService | undefined,
  context: HostContext,
): DraftHost {
  const { rules } = context;
  const drafts: DraftRoute[] =
    rules && rules.http.length > 0 ? routesOf(rules, { ...context, port }) : whole(service, port, context);
  return {
    table,
    port,
    host: {
      name,
      domains,
      routes: drafts.map(({ route }) => route),
      requireTls: false,
      origins: [...(service ? [service.origin] : []), ...(rules ? [originOf(rules)] : [])],
    },
    labels: drafts.some(({ labels }) => labels) ? drafts.map(({ labels }) => labels) : undefined,
  };
}

function whole(service: MeshService | undefined, port: number, context: HostContext): DraftRoute[] {
  if (!service) return [];
  const upstream = upstreamName("outbound", port, "", service.host);
  return [{ route: defaultRoute(upstream, context.hash(service.host, port, ""), [service.origin]) }];
}

/** The object as a whole. */
export function originOf({ kind, namespace, name }: HostRules): Origin {
  return { kind, namespace, name, field: "" };
}

/**
 * The names that clients call a service by, each with and without the port. Source: Istio `generateVirtualHostDomains`,
 * `generateAltVirtualHosts`.
 */
function domainsOf(service: MeshService, port: number, client: string): string[] {
  const names = [service.host];
  if (service.kind === "Service") {
    const { name, namespace } = service;
    names.push(`${name}.${namespace}.svc`, `${name}.${namespace}`);
    if (client === namespace) names.push(name);
  }
  for (const address of service.addresses) {
    if (isWide(address)) continue;
    const host = address.replace(/\/\d+$/, "");
    names.push(host.includes(":") ? `[${host}]` : host);
  }
  return withPort(names, port);
}

function withPort(names: readonly string[], port: number): string[] {
  return names.flatMap((name) => (name === "*" ? [name] : [name, `${name}:${port}`]));
}

/** Envoy refuses a table in which two hosts have the same domain: the first keeps it. */
export function tableOf(
  name: string,
  hosts: readonly VirtualHost[],
  unknown: RouteTable["unknown"],
): RouteTable {
  const taken = new Set<string>();
  const virtualHosts: VirtualHost[] = [];
  for (const host of hosts) {
    let free = true;
    for (const domain of host.domains) {
      if (taken.has(domain)) free = false;
      taken.add(domain);
    }
    if (free) virtualHosts.push(host);
    else {
      const before = new Set(virtualHosts.flatMap(({ domains }) => domains));
      const domains = host.domains.filter((domain) => !before.has(domain));
      if (domains.length > 0) virtualHosts.push({ ...host, domains });
    }
  }
  return { name, virtualHosts, unknown };
}
