/**
 * The settled view that answers are made from: an index from name to record sets. A lookup costs the same
 * whatever the number of names; an update costs the number of records that changed.
 */
import {
  type DnsRecord,
  type DnsRow,
  dataKey,
  isValidRecord,
  type RecordCollection,
  recordKey,
} from "./records.ts";

export interface ZoneOptions {
  /** The zone's apex, e.g. `cluster.local`. */
  name: string;
  /** Who answers for the zone (NS). When there is nobody, `ns.dns.<zone>` at the address that is listened on. */
  nameServers?: () => readonly { name: string; addresses: readonly string[] }[];
  /** How long "there is no such name" may be kept, in seconds. */
  negativeTtl?: number;
  /** Names that are not here are looked for elsewhere (reverse zones hold a part of all addresses only). */
  fallthrough?: boolean;
  /** False until the zone's content is known: till then nobody is told that a name does not exist (law 7). */
  ready?: () => boolean;
  /**
   * Names that are computed rather than kept: the records of a name, none for a name that exists without any,
   * undefined for a name that does not exist. Asked when no record of the name is kept.
   */
  computed?: (name: string) => readonly DnsRecord[] | undefined;
}

export interface Zone extends Required<Omit<ZoneOptions, "computed">> {
  computed: ZoneOptions["computed"];
}

/** What is known of a name in a zone of ours. */
export interface Found {
  zone: Zone;
  /** Undefined: the name does not exist. Empty sets: it exists, but has no record of the type asked for. */
  sets: ((type: string) => readonly DnsRecord[]) | undefined;
  /** Whether the name has records of any type. */
  filled: boolean;
}

interface Entry {
  sets: RecordSet[];
  /** How many names that have records lie directly or further below: such a name exists even when empty. */
  below: number;
}

const none: readonly DnsRecord[] = [];

export class Zones {
  readonly #zones = new Map<string, Zone>();
  readonly #names = new Map<string, Entry>();

  /** Adds a zone, or replaces its options. Records may come before their zone. */
  add(options: ZoneOptions): void {
    this.#zones.set(options.name, {
      name: options.name,
      nameServers: options.nameServers ?? (() => []),
      negativeTtl: options.negativeTtl ?? 5,
      fallthrough: options.fallthrough ?? false,
      ready: options.ready ?? (() => true),
      computed: options.computed,
    });
  }

  /** Names that have records. */
  get size(): number {
    let size = 0;
    for (const entry of this.#names.values()) if (entry.sets.length > 0) size++;
    return size;
  }

  /** Adds a record; one that nobody could ask for, or that cannot be written, is left out. Equal records count. */
  put(record: DnsRecord): void {
    if (!isValidRecord(record)) return;
    const entry = this.#entry(record.name);
    let set = entry.sets.find(({ type }) => type === record.type);
    if (!set) {
      if (entry.sets.length === 0) this.#countBelow(record.name, 1);
      set = new RecordSet(record.type);
      entry.sets.push(set);
    }
    set.add(record);
  }

  /** Takes back one of the equal records. */
  remove(record: DnsRecord): void {
    const entry = this.#names.get(record.name);
    const set = entry?.sets.find(({ type }) => type === record.type);
    if (!entry || !set) return;
    set.remove(record);
    if (set.records.length > 0) return;
    entry.sets = entry.sets.filter((other) => other !== set);
    if (entry.sets.length > 0) return;
    this.#countBelow(record.name, -1);
    this.#drop(record.name, entry);
  }

  /** Keeps the records of a collection here, from now until the returned function is called. */
  follow(collection: RecordCollection): () => void {
    for (const [, row] of collection.entries()) this.#change(undefined, row);
    const end = collection.subscribe((changes) => {
      for (const { before, after } of changes) this.#change(before, after);
    });
    return () => {
      end();
      for (const [, row] of collection.entries()) this.#change(row, undefined);
    };
  }

  /** The zone that a name lies in: the longest that matches. */
  zoneOf(name: string): Zone | undefined {
    for (const suffix of suffixes(name)) {
      const zone = this.#zones.get(suffix);
      if (zone) return zone;
    }
    return undefined;
  }

  /** What there is under a (lower-case) name, or undefined when it lies in no zone of ours. */
  find(name: string): Found | undefined {
    const zone = this.zoneOf(name);
    if (!zone) return undefined;
    const entry = this.#names.get(name);
    if (entry && entry.sets.length > 0) {
      const sets = (type: string) => entry.sets.find((set) => set.type === type)?.records ?? none;
      return { zone, sets, filled: true };
    }
    const computed = zone.computed?.(name);
    if (computed) {
      const sets = (type: string) => computed.filter((record) => record.type === type);
      return { zone, sets, filled: computed.length > 0 };
    }
    // Of a zone that is held in part, others know what lies between our names.
    const exists = name === zone.name || (entry !== undefined && !zone.fallthrough);
    return { zone, sets: exists ? () => none : undefined, filled: false };
  }

  /** Makes before it breaks, and leaves alone the records that a row has before and after. */
  #change(before: DnsRow | undefined, after: DnsRow | undefined): void {
    const gone = new Map<string, DnsRecord>();
    for (const record of recordsOf(before)) {
      const key = recordKey(record);
      if (gone.has(key)) this.remove(record);
      else gone.set(key, record);
    }
    for (const record of recordsOf(after)) if (!gone.delete(recordKey(record))) this.put(record);
    for (const record of gone.values()) this.remove(record);
  }

  #entry(name: string): Entry {
    let entry = this.#names.get(name);
    if (!entry) {
      entry = { sets: [], below: 0 };
      this.#names.set(name, entry);
    }
    return entry;
  }

  #countBelow(name: string, change: number): void {
    for (const ancestor of suffixes(name)) {
      if (ancestor === name) continue;
      const entry = this.#entry(ancestor);
      entry.below += change;
      this.#drop(ancestor, entry);
    }
  }

  #drop(name: string, entry: Entry): void {
    if (entry.below === 0 && entry.sets.length === 0) this.#names.delete(name);
  }
}

function recordsOf(row: DnsRow | undefined): readonly DnsRecord[] {
  if (row === undefined) return none;
  return Array.isArray(row) ? (row as readonly DnsRecord[]) : [row as DnsRecord];
}

/** A name and all that it lies in, without the root. */
function* suffixes(name: string): Iterable<string> {
  let rest = name;
  for (;;) {
    yield rest;
    const dot = rest.indexOf(".");
    if (dot < 0) return;
    rest = rest.slice(dot + 1);
  }
}

/** The distinct records of one name and type. Small sets are scanned; large ones know where each record is. */
class RecordSet {
  readonly type: DnsRecord["type"];
  readonly records: DnsRecord[] = [];
  /** Of records that were put more than once: how many times beyond the first. */
  #more: Map<string, number> | undefined;
  #places: Map<string, number> | undefined;

  constructor(type: DnsRecord["type"]) {
    this.type = type;
  }

  add(record: DnsRecord): void {
    const key = dataKey(record);
    if (this.#place(key) >= 0) {
      this.#more ??= new Map();
      this.#more.set(key, (this.#more.get(key) ?? 0) + 1);
      return;
    }
    this.#places?.set(key, this.records.length);
    this.records.push(record);
    if (!this.#places && this.records.length > 16) {
      this.#places = new Map(this.records.map((each, place) => [dataKey(each), place]));
    }
  }

  remove(record: DnsRecord): void {
    const key = dataKey(record);
    const more = this.#more?.get(key);
    if (more !== undefined) {
      if (more > 1) this.#more!.set(key, more - 1);
      else this.#more!.delete(key);
      return;
    }
    const place = this.#place(key);
    if (place < 0) return;
    const last = this.records.pop()!;
    this.#places?.delete(key);
    if (place < this.records.length) {
      this.records[place] = last;
      this.#places?.set(dataKey(last), place);
    }
  }

  #place(key: string): number {
    if (this.#places) return this.#places.get(key) ?? -1;
    return this.records.findIndex((record) => dataKey(record) === key);
  }
}
