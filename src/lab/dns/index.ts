/** The cluster DNS of the lab. */
export { type DnsServiceOptions, dnsServiceName, dnsServiceNamespace, ensureDnsService } from "./install.ts";
export { type NodeDns, type NodeDnsOptions, startNodeDns } from "./node.ts";
