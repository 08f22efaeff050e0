/** Names in clusterset.local (KEP-1645 specification.md, DNS schema 1.0.0). */
import {
  clusterSetZone,
  type Endpoint,
  type EndpointSlice,
  mcsSourceClusterLabel,
  type ServiceImport,
} from "../api/index.ts";
import type { DnsRecord } from "../dns/index.ts";
import { familyOf } from "./imports.ts";

/** Seconds; the specification's examples. */
const addressTtl = 4;
const portTtl = 30;

/** Says which version of the schema the zone follows. */
export const schemaVersion: DnsRecord = {
  name: `dns-version.${clusterSetZone}`,
  type: "TXT",
  ttl: 28800,
  data: "1.0.0",
};

const label = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

/**
 * The records of one ServiceImport, ours or written by hand. Beyond the specification, as CoreDNS has it for
 * cluster.local: SRV records of all named ports under the service's own name, addresses under `_port._protocol`.
 * @param slices the EndpointSlices of the import in this cluster; read only when it is headless
 */
export function dnsRecords(import_: ServiceImport, slices: () => readonly EndpointSlice[]): DnsRecord[] {
  const { name, namespace = "" } = import_.metadata;
  // A dotted name would be a name below another import's.
  if (!label.test(name) || import_.metadata.deletionTimestamp) return [];
  const base = `${name}.${namespace}.svc.${clusterSetZone}`;
  return import_.spec.type === "Headless" ? headless(base, slices()) : clusterSetIp(base, import_);
}

/**
 * Names that exist without a record, so that one who asks is not told that nothing lies below them: `svc`, and
 * namespaces with no import in them. Undefined for all others.
 */
export function emptyName(name: string, namespaceExists: (name: string) => boolean): [] | undefined {
  if (!name.endsWith(`.${clusterSetZone}`)) return undefined;
  const [svc, namespace, ...more] = name
    .slice(0, -clusterSetZone.length - 1)
    .split(".")
    .reverse();
  if (svc !== "svc" || more.length > 0) return undefined;
  return namespace === undefined || namespaceExists(namespace) ? [] : undefined;
}

function clusterSetIp(base: string, { spec }: ServiceImport): DnsRecord[] {
  return (spec.ips ?? []).flatMap((ip) => [
    address(base, ip),
    ...spec.ports.flatMap((port) => portRecords(base, port, base, ip, portTtl)),
  ]);
}

/** All ready endpoints under the service's name, and each under its own where its cluster is known. */
function headless(base: string, slices: readonly EndpointSlice[]): DnsRecord[] {
  const records: DnsRecord[] = [];
  for (const { metadata, endpoints, ports } of slices) {
    const cluster = metadata.labels?.[mcsSourceClusterLabel];
    for (const endpoint of endpoints ?? []) {
      if (endpoint.conditions?.ready === false) continue;
      for (const ip of endpoint.addresses) {
        records.push(address(base, ip));
        if (!cluster) continue;
        const own = `${hostnameOf(endpoint, ip)}.${cluster.toLowerCase()}.${base}`;
        records.push(address(own, ip));
        // Endpoints come and go: what points at them is kept no longer than they are.
        for (const port of ports ?? []) records.push(...portRecords(base, port, own, ip, addressTtl));
      }
    }
  }
  return records;
}

/** The pod's hostname, or, as CoreDNS does for cluster.local, its address with dashes. */
function hostnameOf(endpoint: Endpoint, ip: string): string {
  const hostname = endpoint.hostname?.toLowerCase();
  return hostname && label.test(hostname) ? hostname : dashed(ip);
}

/** A label neither begins nor ends with a dash: a zero is what IPv6 leaves out there. */
function dashed(ip: string): string {
  return ip.toLowerCase().replace(/[.:]/g, "-").replace(/^-/, "0-").replace(/-$/, "-0");
}

function address(name: string, ip: string): DnsRecord {
  return { name, type: familyOf(ip) === "IPv6" ? "AAAA" : "A", ttl: addressTtl, data: ip };
}

/** Unnamed ports have no SRV record (specification.md, 2.3.2 and 2.4.2). */
function portRecords(
  base: string,
  { name, protocol, port }: { name?: string; protocol?: string; port?: number },
  target: string,
  ip: string,
  ttl: number,
): DnsRecord[] {
  if (!name || port === undefined) return [];
  const own = `_${name}._${protocol ?? "TCP"}.${base}`.toLowerCase();
  const data = { port, target };
  return [{ name: own, type: "SRV", ttl, data }, address(own, ip), { name: base, type: "SRV", ttl, data }];
}
