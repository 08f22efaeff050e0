/**
 * From a question to an answer, without I/O. Where the Kubernetes DNS specification is silent, the answer is
 * the one that CoreDNS gives (plugin/backend_lookup.go, plugin/kubernetes).
 */
import type { DnsRecord } from "./records.ts";
import type { Found, Zone, Zones } from "./zones.ts";

export type Rcode = "NOERROR" | "FORMERR" | "SERVFAIL" | "NXDOMAIN" | "NOTIMP" | "REFUSED" | "BADVERS";

/** Records that only the server itself makes. */
export interface StartOfAuthority {
  name: string;
  type: "SOA";
  ttl: number;
  data: {
    mname: string;
    rname: string;
    serial: number;
    refresh: number;
    retry: number;
    expire: number;
    minimum: number;
  };
}

export interface NameServerRecord {
  name: string;
  type: "NS";
  ttl: number;
  data: string;
}

export type ResourceRecord = DnsRecord | StartOfAuthority | NameServerRecord;

export interface Answer {
  rcode: Rcode;
  authoritative: boolean;
  answers: ResourceRecord[];
  authority: ResourceRecord[];
  additional: ResourceRecord[];
}

export interface Question {
  /** As it was asked: case is kept. */
  name: string;
  type: string;
  class: string;
}

export interface Context {
  zones: Zones;
  /** Where this server is reached, for zones without name servers of their own. */
  address: string | undefined;
  /** A number in [0, 1). */
  random: () => number;
  /** Seconds since the epoch. */
  serial: () => number;
}

/** What a question comes to: an answer, a name outside our zones that is still to be looked up, or neither. */
export interface Resolution {
  answer: Answer;
  /** The end of a chain of CNAMEs that is not ours: its records belong behind `answer.answers`. */
  continueAt?: string;
}

const longestChain = 10;
const refusedTypes = new Set(["AXFR", "IXFR", "TSIG", "TKEY"]);

/** Undefined: the name is not ours, and whoever knows it should be asked. */
export function resolve(question: Question, context: Context): Resolution | undefined {
  const name = question.name.toLowerCase();
  const found = lookup(name, context);
  if (!found) return undefined;
  const { zone, sets, filled } = found;
  if (refusedTypes.has(question.type)) return { answer: plain("REFUSED") };

  if (!sets) {
    if (!zone.ready()) return { answer: plain("SERVFAIL") };
    if (zone.fallthrough) return undefined;
    return { answer: negative("NXDOMAIN", zone, context) };
  }
  if (name === zone.name && question.type === "SOA") return { answer: positive([soa(zone, context)]) };
  if (name === zone.name && question.type === "NS") return { answer: nameServerAnswer(zone, context) };

  const { answers, continueAt } = chase(question.name, question.type, zone, context);
  if (answers.length === 0) {
    // A name that has records has those; an empty one, or the target of an alias, may yet get its own.
    const certain = zone.ready() || (filled && sets("CNAME").length === 0);
    return { answer: certain ? negative("NOERROR", zone, context) : plain("SERVFAIL") };
  }
  const answer = positive(answers);
  if (question.type === "SRV") answer.additional = addressesOf(answers, context);
  return continueAt === undefined ? { answer } : { answer, continueAt };
}

/** The answer for names that nobody here or elsewhere can be asked about. */
export function plain(rcode: Rcode): Answer {
  return { rcode, authoritative: false, answers: [], authority: [], additional: [] };
}

function positive(answers: ResourceRecord[]): Answer {
  return { rcode: "NOERROR", authoritative: true, answers, authority: [], additional: [] };
}

function negative(rcode: Rcode, zone: Zone, context: Context): Answer {
  return { rcode, authoritative: true, answers: [], authority: [soa(zone, context)], additional: [] };
}

/** What the zones hold, and `ns.dns.<zone>`, which every SOA here names. */
function lookup(name: string, context: Context): Found | undefined {
  const found = context.zones.find(name);
  if (!found || found.sets) return found;
  const { zone } = found;
  const server = `ns.dns.${zone.name}`;
  if (name !== server && name !== `dns.${zone.name}`) return found;
  const addresses = nameServersOf(zone, context).flatMap((each) => each.addresses);
  if (addresses.length === 0) return found;
  const own = name === server ? addresses.map((each) => address(name, each, zone.negativeTtl)) : [];
  return { zone, sets: (type) => own.filter((record) => record.type === type), filled: own.length > 0 };
}

function nameServersOf(
  zone: Zone,
  context: Context,
): readonly { name: string; addresses: readonly string[] }[] {
  const named = zone.nameServers();
  if (named.length > 0 || context.address === undefined) return named;
  return [{ name: `ns.dns.${zone.name}`, addresses: [context.address] }];
}

/** The records of a type, or the chain of CNAMEs that leads to them, as far as our zones reach. */
function chase(asked: string, type: string, zone: Zone, context: Context) {
  const answers: ResourceRecord[] = [];
  const seen = new Set<string>();
  let name = asked;
  for (;;) {
    const key = name.toLowerCase();
    const found = lookup(key, context);
    if (!found) return { answers, continueAt: name };
    const records = found.sets?.(type) ?? [];
    if (records.length > 0) {
      answers.push(...(type === "SRV" ? weighted(records) : shuffled(records, context)).map(under(name)));
      return { answers };
    }
    const alias = type === "CNAME" ? undefined : found.sets?.("CNAME")[0];
    if (!alias) break;
    if (seen.size >= longestChain || seen.has(key)) return { answers: [] };
    seen.add(key);
    answers.push(under(name)(alias));
    name = alias.data as string;
    // What another of our zones does not know is its own business, not that of the zone asked.
    if (context.zones.zoneOf(name.toLowerCase()) !== zone) {
      const other = lookup(name.toLowerCase(), context);
      if (!other || (other.zone.fallthrough && !other.sets)) return { answers, continueAt: name };
    }
  }
  // As CoreDNS has it, an alias of nothing is an empty answer.
  return { answers: [] };
}

/** Owners in an answer are written as they were asked for. */
function under(name: string): <R extends DnsRecord>(record: R) => R {
  return (record) => (record.name === name ? record : { ...record, name });
}

/** In an order of their own each time, so that clients that take the first spread over all. */
function shuffled(records: readonly DnsRecord[], { random }: Context): DnsRecord[] {
  const all = [...records];
  for (let last = all.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [all[last], all[other]] = [all[other]!, all[last]!];
  }
  return all;
}

/** SRV records without a weight share 100 among those of their priority; nobody gets less than 1. */
function weighted(records: readonly DnsRecord[]): DnsRecord[] {
  const members = new Map<number, number>();
  for (const record of records) {
    if (record.type !== "SRV") continue;
    const priority = record.data.priority ?? 0;
    members.set(priority, (members.get(priority) ?? 0) + 1);
  }
  return records.map((record) => {
    if (record.type !== "SRV" || record.data.weight !== undefined) return record;
    const share = Math.max(1, Math.floor(100 / members.get(record.data.priority ?? 0)!));
    return { ...record, data: { ...record.data, weight: share } };
  });
}

/** The addresses of what SRV records point at, each once. */
function addressesOf(answers: readonly ResourceRecord[], context: Context): ResourceRecord[] {
  const targets = new Set<string>();
  for (const record of answers) if (record.type === "SRV") targets.add(record.data.target);
  const addresses: ResourceRecord[] = [];
  for (const target of targets) {
    const sets = context.zones.find(target.toLowerCase())?.sets;
    if (sets) addresses.push(...sets("A"), ...sets("AAAA"));
  }
  return addresses;
}

function nameServerAnswer(zone: Zone, context: Context): Answer {
  const servers = nameServersOf(zone, context);
  const ttl = zone.negativeTtl;
  if (servers.length === 0) return negative("NOERROR", zone, context);
  const answer = positive(servers.map(({ name }) => ({ name: zone.name, type: "NS", ttl, data: name })));
  answer.additional = servers.flatMap(({ name, addresses }) =>
    addresses.map((each) => address(name, each, ttl)),
  );
  return answer;
}

function address(name: string, data: string, ttl: number): DnsRecord {
  return { name, type: data.includes(":") ? "AAAA" : "A", ttl, data };
}

/** The zone's SOA: its time to live says how long a negative answer may be kept (RFC 2308). */
function soa(zone: Zone, context: Context): StartOfAuthority {
  return {
    name: zone.name,
    type: "SOA",
    ttl: Math.min(zone.negativeTtl, 300),
    data: {
      mname: `ns.dns.${zone.name}`,
      rname: `hostmaster.${zone.name}`,
      serial: context.serial(),
      refresh: 7200,
      retry: 1800,
      expire: 86_400,
      minimum: zone.negativeTtl,
    },
  };
}
