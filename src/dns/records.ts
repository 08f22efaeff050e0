/**
 * The resource records that a zone is made of, and how collections of them reach the server.
 * A name is lower case, fully qualified and without the trailing dot: `serve.demo.svc.clusterset.local`.
 */

export interface AddressRecord {
  name: string;
  type: "A" | "AAAA";
  /** Seconds. */
  ttl: number;
  /** The address, as text. */
  data: string;
}

export interface NameRecord {
  name: string;
  type: "CNAME" | "PTR";
  /** Seconds. */
  ttl: number;
  /** The name pointed at, without the trailing dot. */
  data: string;
}

export interface TextRecord {
  name: string;
  type: "TXT";
  /** Seconds. */
  ttl: number;
  data: string;
}

export interface ServiceRecord {
  name: string;
  type: "SRV";
  /** Seconds. */
  ttl: number;
  /**
   * Priority is 0 when it is not given. Without a weight, the records of one answer share 100 in equal parts,
   * as CoreDNS has it.
   */
  data: { port: number; target: string; priority?: number; weight?: number };
}

export type DnsRecord = AddressRecord | NameRecord | TextRecord | ServiceRecord;

/**
 * What the server needs of a collection (`collections/` has more to give): the rows that are there, and each
 * settled batch of changes. Two rows may hold equal records: the name keeps it until both are gone.
 */
export interface RecordCollection {
  entries(): Iterable<readonly [string, DnsRecord]>;
  subscribe(
    listener: (
      changes: readonly { readonly before?: DnsRecord | undefined; readonly after?: DnsRecord | undefined }[],
    ) => void,
  ): () => void;
}

/** A key that tells apart all records of a set: rows of a collection of records may be keyed by it. */
export function recordKey(record: DnsRecord): string {
  const { data } = record;
  const text =
    typeof data === "string"
      ? data
      : `${data.priority ?? 0} ${data.weight ?? ""} ${data.port} ${data.target}`;
  return `${record.name} ${record.type} ${text}`;
}
