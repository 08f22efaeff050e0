/**
 * The names of a Service: Kubernetes DNS-Based Service Discovery, version 1.1.0, and beyond it what CoreDNS
 * answers (plugin/kubernetes, `findServices`): addresses under `_port._protocol`, SRV records of all ports
 * under the service's own name, and names for the endpoints of services that have a ClusterIP.
 */
import type { EndpointSlice, Service } from "../../api/index.ts";
import { type DnsRecord, reverseName } from "../../dns/index.ts";

export interface NamingOptions {
  /** The cluster's domain, e.g. `cluster.local`. */
  domain: string;
  /** Seconds that answers may be kept. */
  ttl: number;
}

interface Port {
  name: string | undefined;
  protocol: string;
  port: number;
}

/** All records of a Service, whose `slices` are the EndpointSlices that carry its name. */
export function serviceRecords(
  service: Service,
  slices: readonly EndpointSlice[],
  { domain, ttl }: NamingOptions,
): DnsRecord[] {
  const { name, namespace } = service.metadata;
  const own = `${name}.${namespace}.svc.${domain}`;
  if (service.spec?.type === "ExternalName") {
    const target = (service.spec.externalName ?? "").replace(/\.$/, "");
    // An address is no name to point at.
    return target === "" || isAddress(target) ? [] : [{ name: own, type: "CNAME", ttl, data: target }];
  }
  const records = new Records(ttl);
  const clusterIPs = service.spec?.clusterIPs ?? [service.spec?.clusterIP ?? ""].filter((ip) => ip !== "");
  const headless = clusterIPs[0] === "None";
  if (!headless) {
    const ports = (service.spec?.ports ?? []).map(({ name, protocol = "TCP", port }) => ({
      name,
      protocol,
      port,
    }));
    for (const ip of clusterIPs) {
      records.address(own, ip);
      records.reverse(ip, own);
      for (const port of ports) records.port(own, port, own, ip);
    }
  }
  for (const slice of slices) {
    const ports = (slice.ports ?? []).flatMap(({ name, protocol = "TCP", port }) =>
      port === undefined ? [] : [{ name, protocol, port }],
    );
    for (const { addresses, conditions, hostname } of slice.endpoints ?? []) {
      // No word about readiness counts as ready.
      if (conditions?.ready === false) continue;
      for (const ip of addresses ?? []) {
        const endpoint = `${hostname || hostLabel(ip)}.${own}`;
        records.address(endpoint, ip);
        records.reverse(ip, endpoint);
        if (!headless) continue;
        records.address(own, ip);
        for (const port of ports) records.port(own, port, endpoint, ip);
      }
    }
  }
  return records.all;
}

/** Collects records and leaves out those that cannot be. */
class Records {
  readonly all: DnsRecord[] = [];
  readonly #ttl: number;

  constructor(ttl: number) {
    this.#ttl = ttl;
  }

  address(name: string, ip: string): void {
    this.all.push({ name, type: ip.includes(":") ? "AAAA" : "A", ttl: this.#ttl, data: ip });
  }

  port(own: string, { name, protocol, port }: Port, target: string, ip: string): void {
    const record = { type: "SRV" as const, ttl: this.#ttl, data: { port, target } };
    this.all.push({ ...record, name: own });
    if (!name) return;
    const named = `_${name}._${protocol}.${own}`.toLowerCase();
    this.all.push({ ...record, name: named });
    this.address(named, ip);
  }

  reverse(ip: string, name: string): void {
    if (isAddress(ip)) this.all.push({ name: reverseName(ip), type: "PTR", ttl: this.#ttl, data: name });
  }
}

/** The label of an endpoint without a hostname: its address with dashes. */
export function hostLabel(ip: string): string {
  const label = ip.replaceAll(/[.:]/g, "-").toLowerCase();
  // A label does not end with a dash.
  return label.endsWith("-") ? `${label}0` : label;
}

/**
 * The names that need no table: `10-10-0-7.demo.pod.cluster.local` is that address whenever the namespace
 * exists (as CoreDNS has it by default, `pods insecure`), and namespaces exist without any service in them.
 * Undefined for a name that does not exist.
 */
export function computedRecords(
  name: string,
  namespaceExists: (namespace: string) => boolean,
  { domain, ttl }: NamingOptions,
): DnsRecord[] | undefined {
  if (!name.endsWith(`.${domain}`)) return undefined;
  const labels = name.slice(0, -domain.length - 1).split(".");
  const kind = labels.pop();
  if (kind !== "svc" && kind !== "pod") return undefined;
  const namespace = labels.pop();
  if (namespace === undefined) return [];
  if (!namespaceExists(namespace)) return undefined;
  if (labels.length === 0) return [];
  if (kind !== "pod" || labels.length > 1) return undefined;
  const label = labels[0]!;
  const v4 = /^\d+-\d+-\d+-\d+$/.test(label);
  const ip = label.replaceAll("-", v4 ? "." : ":");
  if (!isAddress(ip)) return undefined;
  return [{ name, type: v4 ? "A" : "AAAA", ttl, data: ip }];
}

function isAddress(text: string): boolean {
  if (!/^[\d.]+$|:/.test(text)) return false;
  try {
    reverseName(text);
    return true;
  } catch {
    return false;
  }
}
