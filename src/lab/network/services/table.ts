/** The nftables table of one node as data: what should be in it, and the commands that bring it there. */
import { type Rules, sets } from "./rules.ts";

/** Everything of ours is in this table; nothing else in the network namespace is touched. */
export const tableName = "weft-services";
const table = `ip ${tableName}`;
/** The bit of the packet mark that kube-proxy, too, uses for packets whose source is to be rewritten. */
const masqueradeMark = "0x4000";

/** The elements of one map or set, by key: which Services want it, and what. */
type Claims = Map<string, Map<string, string>>;

/**
 * The rules of all Services. Chains belong to one Service; elements may be wanted by several (two Services with
 * one external address): the Service whose name comes first has it, whoever was first in time.
 */
export class RuleTable {
  readonly #ranges: string;
  /** The zone that UDP flows start in. */
  readonly #firstZone: number;
  readonly #zones = new Map<string, number>();
  readonly #rules = new Map<string, Rules>();
  readonly #claims: Claims = new Map();
  /** Services changed since the last `takeChanges`, with their rules at that time. */
  readonly #changed = new Map<string, Rules | undefined>();
  /** Elements changed since then, with their value at that time. */
  readonly #touched = new Map<string, string | undefined>();

  /**
   * Whatever is still addressed to `ranges` (one, or several with commas) after translation has nothing behind it and is refused.
   * `firstZone` (1 to 65535) should be another than that of the process before us, or flows of its time may
   * go on to endpoints that are gone.
   */
  constructor(ranges: string, firstZone = 1) {
    this.#ranges = ranges;
    this.#firstZone = firstZone;
  }

  /** Sets the rules of one Service; undefined when it is gone. */
  set(service: string, rules: Rules | undefined): void {
    const before = this.#rules.get(service);
    if (before && rules && equal(before, rules)) return;
    this.#moveFlows(before, rules);
    if (!this.#changed.has(service)) this.#changed.set(service, before);
    for (const key of before?.elements.keys() ?? []) if (!rules?.elements.has(key)) this.#claim(key, service);
    for (const [key, value] of rules?.elements ?? []) this.#claim(key, service, value);
    for (const key of before?.flows.keys() ?? []) {
      if (!rules?.flows.has(key)) this.#claim(`${sets.flows} ${key}`, service);
    }
    for (const key of rules?.flows.keys() ?? []) {
      this.#claim(`${sets.flows} ${key}`, service, String(this.#zones.get(key)));
    }
    if (rules) this.#rules.set(service, rules);
    else this.#rules.delete(service);
  }

  has(service: string): boolean {
    return this.#rules.has(service);
  }

  /** The commands for one transaction that brings the table from the last call's state to now; empty if none. */
  takeChanges(): string {
    const gone: string[] = [];
    const made: string[] = [];
    const filled: string[] = [];
    const dropped: string[] = [];
    for (const [service, before] of this.#changed) {
      const after = this.#rules.get(service);
      for (const name of after?.affinities ?? []) {
        if (!before?.affinities.has(name)) {
          made.push(`add set ${table} ${name} { type ipv4_addr; flags dynamic, timeout; }`);
        }
      }
      for (const [chain, rules] of after?.chains ?? []) {
        const known = before?.chains.get(chain);
        if (known && same(known, rules)) continue;
        if (known) made.push(`flush chain ${table} ${chain}`);
        else made.push(`add chain ${table} ${chain}`);
        for (const rule of rules) filled.push(`add rule ${table} ${chain} ${rule}`);
      }
      for (const chain of before?.chains.keys() ?? []) {
        if (after?.chains.has(chain)) continue;
        gone.push(`flush chain ${table} ${chain}`);
        dropped.push(`delete chain ${table} ${chain}`);
      }
      for (const name of before?.affinities ?? []) {
        if (!after?.affinities.has(name)) dropped.push(`delete set ${table} ${name}`);
      }
    }
    const removed: string[] = [];
    const added: string[] = [];
    for (const [key, before] of this.#touched) {
      const after = this.#effective(key);
      if (before === after) continue;
      const { set, element } = splitKey(key);
      if (before !== undefined) removed.push(`delete element ${table} ${set} { ${element} }`);
      if (after !== undefined) added.push(`add element ${table} ${set} { ${withVerdict(element, after)} }`);
    }
    this.#changed.clear();
    this.#touched.clear();
    // What is referred to is made before what refers to it, and unmade after it.
    return [...made, ...filled, ...removed, ...added, ...gone, ...dropped].join("\n");
  }

  /** The whole table as a file for `nft -f`: replaces what there is in one transaction. */
  whole(): string {
    this.#changed.clear();
    this.#touched.clear();
    const lines = [`add table ${table}`, `delete table ${table}`, `table ${table} {`];
    const elements = new Map<string, string[]>();
    for (const key of this.#claims.keys()) {
      const { set, element } = splitKey(key);
      const list = elements.get(set) ?? [];
      list.push(withVerdict(element, this.#effective(key)!));
      elements.set(set, list);
    }
    for (const [name, definition] of skeletonSets) {
      const list = elements.get(name);
      const filled = list ? `\n\telements = { ${list.join(",\n")} }` : "";
      lines.push(`${definition.kind} ${name} {`, `\t${definition.type}${filled}`, "}");
    }
    for (const { affinities } of this.#rules.values()) {
      for (const name of affinities) {
        lines.push(`set ${name} {`, "\ttype ipv4_addr", "\tflags dynamic, timeout", "}");
      }
    }
    lines.push("chain mark-for-masquerade {", `\tmeta mark set meta mark or ${masqueradeMark}`, "}");
    for (const { chains } of this.#rules.values()) {
      for (const [chain, rules] of chains)
        lines.push(`chain ${chain} {`, ...rules.map((rule) => `\t${rule}`), "}");
    }
    lines.push(skeletonChains(this.#ranges), "}");
    return lines.join("\n");
  }

  /**
   * The kernel sends a UDP flow where it was first sent for as long as packets keep coming, however the rules are
   * by then. When an endpoint goes, all flows to the address get another conntrack zone: the kernel takes
   * them for new ones. (kube-proxy deletes the flows one by one, which takes a program that few have installed.)
   */
  #moveFlows(before: Rules | undefined, after: Rules | undefined): void {
    for (const [key, ends] of after?.flows ?? []) {
      const zone = this.#zones.get(key) ?? this.#firstZone;
      const lost = before?.flows.get(key)?.some((end) => !ends.includes(end)) ?? this.#zones.has(key);
      this.#zones.set(key, lost ? (zone % 65_535) + 1 : zone);
    }
  }

  #claim(key: string, service: string, value?: string): void {
    if (!this.#touched.has(key)) this.#touched.set(key, this.#effective(key));
    const claims = this.#claims.get(key) ?? new Map<string, string>();
    if (value === undefined) claims.delete(service);
    else claims.set(service, value);
    if (claims.size === 0) this.#claims.delete(key);
    else this.#claims.set(key, claims);
  }

  #effective(key: string): string | undefined {
    const claims = this.#claims.get(key);
    if (!claims) return undefined;
    let first: string | undefined;
    for (const service of claims.keys()) if (first === undefined || service < first) first = service;
    return claims.get(first!);
  }
}

const skeletonSets: [string, { kind: "map" | "set"; type: string }][] = [
  [sets.clusterIps, { kind: "map", type: "type ipv4_addr . inet_proto . inet_service : verdict" }],
  [sets.externalIps, { kind: "map", type: "type ipv4_addr . inet_proto . inet_service : verdict" }],
  [sets.nodePorts, { kind: "map", type: "type inet_proto . inet_service : verdict" }],
  [sets.flows, { kind: "map", type: "typeof ip daddr . udp dport : ct zone" }],
  [sets.refused, { kind: "set", type: "type ipv4_addr . inet_proto . inet_service" }],
  [sets.ignored, { kind: "set", type: "type ipv4_addr . inet_proto . inet_service" }],
  [sets.hairpin, { kind: "set", type: "type ipv4_addr . ipv4_addr" }],
];

/**
 * Where packets enter: addresses are translated for the node's own connections (output) and for its pods' and
 * everyone else's (prerouting); what has no one behind it is answered at once.
 */
function skeletonChains(ranges: string): string {
  const lookup = "ip daddr . meta l4proto . th dport";
  return `chain services {
	${lookup} vmap @${sets.clusterIps}
	${lookup} vmap @${sets.externalIps}
	fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @${sets.nodePorts}
}
chain unserved {
	${lookup} @${sets.ignored} drop
	${lookup} @${sets.refused} goto refuse
	ip daddr { ${ranges} } goto refuse
}
chain refuse {
	meta l4proto tcp reject with tcp reset
	reject
}
chain prerouting {
	type nat hook prerouting priority -100; policy accept;
	jump services
}
chain output {
	type nat hook output priority -100; policy accept;
	jump services
}
chain flows-in {
	type filter hook prerouting priority -300; policy accept;
	ct original zone set ip daddr . udp dport map @${sets.flows}
}
chain flows-out {
	type filter hook output priority -300; policy accept;
	ct original zone set ip daddr . udp dport map @${sets.flows}
}
chain postrouting {
	type nat hook postrouting priority 100; policy accept;
	meta mark and ${masqueradeMark} == ${masqueradeMark} meta mark set meta mark xor ${masqueradeMark} masquerade
	ip saddr . ip daddr @${sets.hairpin} masquerade
}
chain filter-forward {
	type filter hook forward priority 0; policy accept;
	ct state new jump unserved
}
chain filter-output {
	type filter hook output priority 0; policy accept;
	ct state new jump unserved
}`;
}

function splitKey(key: string): { set: string; element: string } {
  const space = key.indexOf(" ");
  return { set: key.slice(0, space), element: key.slice(space + 1) };
}

function withVerdict(element: string, verdict: string): string {
  return verdict === "" ? element : `${element} : ${verdict}`;
}

function same(a: string[], b: string[]): boolean {
  return a.length === b.length && a.every((one, n) => one === b[n]);
}

function equal(a: Rules, b: Rules): boolean {
  if (a.chains.size !== b.chains.size || a.elements.size !== b.elements.size) return false;
  if (a.affinities.size !== b.affinities.size || a.flows.size !== b.flows.size) return false;
  for (const [key, value] of a.elements) if (b.elements.get(key) !== value) return false;
  for (const [key, ends] of a.flows) if (!same(ends, b.flows.get(key) ?? [])) return false;
  for (const name of a.affinities) if (!b.affinities.has(name)) return false;
  for (const [key, rules] of a.chains) if (!same(rules, b.chains.get(key) ?? [])) return false;
  return true;
}
