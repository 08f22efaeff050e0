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
const serviceTtl = 30;

/** Says which version of the schema the zone follows. */
export const schemaVersion: DnsRecord = {
  name: `dns-version.${clusterSetZone}`,
  type: "TXT",
  ttl: 28800,
  data: "1.0.0",
};

const label = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

/**
 * The records of one ServiceImport, ours or written by hand.
 * @param slices the EndpointSlices of the import in this cluster; read only when it is headless
 */
export function dnsRecords(import_: ServiceImport, slices: () => readonly EndpointSlice[]): DnsRecord[] {
  const { name, namespace = "" } = import_.metadata;
  // A dotted name would be a name below another import's.
  if (!label.test(name) || import_.metadata.deletionTimestamp) return [];
  const base = `${name}.${namespace}.svc.${clusterSetZone}`;
  const records = import_.spec.type === "Headless" ? headless(base, slices()) : clusterSetIp(base, import_);
  return records.filter((record) => record.name.length <= 253);
}

function clusterSetIp(base: string, { spec }: ServiceImport): DnsRecord[] {
  const records: DnsRecord[] = (spec.ips ?? []).map((ip) => address(base, ip));
  if (records.length === 0) return [];
  for (const { name, protocol, port } of spec.ports) {
    if (name) records.push(service(base, name, protocol, port, base));
  }
  return records;
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
        for (const { name, protocol, port } of ports ?? []) {
          if (name && port !== undefined) records.push(service(base, name, protocol, port, own));
        }
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
  return ip.replace(/[.:]/g, "-").replace(/^-/, "0-").replace(/-$/, "-0");
}

function address(name: string, ip: string): DnsRecord {
  return { name, type: familyOf(ip) === "IPv6" ? "AAAA" : "A", ttl: addressTtl, data: ip };
}

function service(
  base: string,
  port: string,
  protocol: string | undefined,
  number: number,
  target: string,
): DnsRecord {
  const name = `_${port}._${(protocol ?? "TCP").toLowerCase()}.${base}`;
  return { name, type: "SRV", ttl: serviceTtl, data: { port: number, target } };
}
