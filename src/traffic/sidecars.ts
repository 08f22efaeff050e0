/** What workloads call, as Sidecar objects narrow it down. Source: Istio `pilot/pkg/model/sidecar.go`. */
import type { ConnectionPoolSettings, IngressListener, MeshSettings, Sidecar } from "../api/index.ts";
import { covers, isPort } from "./names.ts";
import { namedProtocol, type Protocol } from "./protocol.ts";
import { byAge, type MeshService, timeOf } from "./registry.ts";
import { selects } from "./workloads.ts";

/** A Sidecar, resolved. */
export interface SidecarRules {
  /** `namespace/name`. */
  key: string;
  namespace: string;
  name: string;
  created: string;
  selector: Readonly<Record<string, string>> | undefined;
  /** Whose services it lets through; undefined: all. */
  egress: readonly EgressRule[] | undefined;
  policy: MeshSettings["outboundPolicy"] | undefined;
  /** The ports of its workloads, in place of those that services name; undefined: it says nothing of them. */
  ingress: readonly IngressRule[] | undefined;
  /** Of connections from the proxy to the application. */
  inboundPool: ConnectionPoolSettings | undefined;
}

/** What is let through on one port, or on all that have no rule of their own. */
export interface EgressRule {
  port: number | undefined;
  /** A namespace is a name, `*`, `.` for the client's, or `~` for none. */
  hosts: readonly { namespace: string; host: string }[];
}

/** A port of a workload. */
export interface IngressRule {
  port: number;
  protocol: Protocol;
  /** Where the application listens; undefined: where the connection was going. */
  endpoint: ApplicationEndpoint | undefined;
  pool: ConnectionPoolSettings | undefined;
  /** `spec.ingress[0]`. */
  field: string;
}

/** Without an address: at the one that the connection was going to. */
export interface ApplicationEndpoint {
  address?: "127.0.0.1" | "::1";
  port: number;
}

/** `127.0.0.1:8080`, `[::1]:8080`, `0.0.0.0:8080`, `[::]:8080`; undefined for others. Source: Istio `sidecar.proto`. */
export function applicationEndpoint(text: string): ApplicationEndpoint | undefined {
  const [, host, digits] = /^(127\.0\.0\.1|0\.0\.0\.0|\[::1?\]):(\d+)$/.exec(text) ?? [];
  const port = Number(digits);
  if (!host || !isPort(port)) return undefined;
  if (host === "127.0.0.1") return { address: host, port };
  return host === "[::1]" ? { address: "::1", port } : { port };
}

/** The protocol of an ingress port; HTTP behind TLS of its own is no more than TLS to us. */
export function ingressProtocol(listener: IngressListener): Protocol | undefined {
  return namedProtocol(listener.port?.protocol ?? "");
}

function ingressOf(listeners: readonly IngressListener[]): IngressRule[] {
  const taken = new Set<number>();
  return listeners.flatMap((listener, i): IngressRule[] => {
    const protocol = ingressProtocol(listener);
    const port = listener.port?.number;
    const endpoint = listener.defaultEndpoint ? applicationEndpoint(listener.defaultEndpoint) : undefined;
    if (!protocol || protocol === "udp" || !isPort(port) || taken.has(port)) return [];
    if (listener.defaultEndpoint && !endpoint) return [];
    taken.add(port);
    return [{ port, protocol, endpoint, pool: listener.connectionPool, field: `spec.ingress[${i}]` }];
  });
}

/** None while the object is being deleted. */
export function sidecarRulesOf({ metadata, spec }: Sidecar): SidecarRules | undefined {
  if (metadata.deletionTimestamp) return undefined;
  const namespace = metadata.namespace ?? "";
  const labels = spec?.workloadSelector?.labels;
  return {
    key: `${namespace}/${metadata.name}`,
    namespace,
    name: metadata.name,
    created: timeOf(metadata.creationTimestamp),
    selector: labels && Object.keys(labels).length > 0 ? labels : undefined,
    egress: spec?.egress?.length
      ? spec.egress.map(({ port, hosts = [] }) => ({
          port: port?.number || undefined,
          hosts: hosts.flatMap((text) => {
            const slash = text.indexOf("/");
            if (slash < 0) return [];
            return [{ namespace: text.slice(0, slash), host: text.slice(slash + 1).toLowerCase() }];
          }),
        }))
      : undefined,
    policy: spec?.outboundTrafficPolicy ? (spec.outboundTrafficPolicy.mode ?? "REGISTRY_ONLY") : undefined,
    ingress: spec?.ingress?.length ? ingressOf(spec.ingress) : undefined,
    inboundPool: spec?.inboundConnectionPool,
  };
}

/** The one that selects the workload, else the namespace's, else the mesh's root's; the oldest of equals. */
export function sidecarFor(
  labels: Readonly<Record<string, string>>,
  own: readonly SidecarRules[],
  root: readonly SidecarRules[],
): SidecarRules | undefined {
  const oldest = (rules: readonly SidecarRules[]) => [...rules].sort(byAge)[0];
  return (
    oldest(own.filter(({ selector }) => selector && selects(selector, labels))) ??
    oldest(own.filter(({ selector }) => !selector)) ??
    oldest(root.filter(({ selector }) => !selector))
  );
}

/** Whether a client of `namespace` is to know the service, on some port. */
export function letsThrough(
  rules: SidecarRules | undefined,
  service: Pick<MeshService, "host" | "namespace" | "ports">,
  namespace: string,
): boolean {
  if (!rules?.egress) return true;
  if (!goesByPort(rules)) return rules.egress.some((rule) => has(rule, service, namespace));
  return service.ports.some(({ number }) => letsThroughOn(rules, service, number, namespace));
}

/** Whether it makes a difference which port of a service is called. */
export function goesByPort({ egress = [] }: SidecarRules): boolean {
  return egress.some(({ port }) => port !== undefined);
}

/** The same for one port: what is said of the port itself counts, and else what is said of all. */
export function letsThroughOn(
  { egress = [] }: SidecarRules,
  service: Pick<MeshService, "host" | "namespace">,
  port: number,
  namespace: string,
): boolean {
  const own = egress.filter((rule) => rule.port === port);
  const rules = own.length > 0 ? own : egress.filter((rule) => rule.port === undefined);
  return rules.some((rule) => has(rule, service, namespace));
}

function has(
  { hosts }: EgressRule,
  service: Pick<MeshService, "host" | "namespace">,
  namespace: string,
): boolean {
  return hosts.some((each) => {
    if (each.namespace === "~") return false;
    const of = each.namespace === "." ? namespace : each.namespace;
    return (of === "*" || of === service.namespace) && covers(each.host, service.host);
  });
}
