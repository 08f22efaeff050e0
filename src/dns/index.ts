/** A DNS server over collections of records; knows neither mesh nor lab. */
export type { Rcode } from "./answer.ts";
export { type ForwardRule, isServerAddress, nameServersOf } from "./forward.ts";
export {
  type AddressRecord,
  type DnsRecord,
  type DnsRow,
  type NameRecord,
  type RecordCollection,
  recordKey,
  reverseName,
  type ServiceRecord,
  type TextRecord,
} from "./records.ts";
export { createDnsServer, type DnsServer, type DnsServerOptions } from "./server.ts";
export { type ZoneOptions, Zones } from "./zones.ts";
