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

/** A row of a collection that a zone follows: one record, or all records that one thing has. */
export type DnsRow = DnsRecord | readonly DnsRecord[];

/**
 * What the zones need of a collection (`collections/` has more to give): the rows that are there, and each
 * settled batch of changes from then on. Two rows may hold equal records: the name keeps the record until both
 * are gone.
 */
export interface RecordCollection {
  entries(): Iterable<readonly [string, DnsRow]>;
  subscribe(
    listener: (
      changes: readonly { readonly before?: DnsRow | undefined; readonly after?: DnsRow | undefined }[],
    ) => void,
  ): () => void;
}

/** A key that tells apart all records: rows of a collection of records may be keyed by it. */
export function recordKey(record: DnsRecord): string {
  return `${record.name} ${record.type} ${dataKey(record)}`;
}

/** A key that tells apart the records of one name and type. */
export function dataKey({ data, ttl }: DnsRecord): string {
  if (typeof data === "string") return `${ttl} ${data}`;
  return `${ttl} ${data.priority ?? 0} ${data.weight ?? "-"} ${data.port} ${data.target}`;
}

/**
 * The name under which an address is looked up in reverse: `7.0.10.10.in-addr.arpa`, or nibbles in `ip6.arpa`.
 * Throws RangeError for what is no address.
 */
export function reverseName(address: string): string {
  const bytes = Array.from(addressBytes(address));
  if (bytes.length === 4) return `${bytes.reverse().join(".")}.in-addr.arpa`;
  const nibbles = bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${[...nibbles].reverse().join(".")}.ip6.arpa`;
}

/** The 4 or 16 bytes of an address. Throws RangeError for what is none. */
export function addressBytes(address: string): Uint8Array {
  if (!address.includes(":")) return v4Bytes(address);
  // The last part may be an IPv4 address (RFC 4291, section 2.2).
  const groups = (text: string): number[] =>
    text === ""
      ? []
      : text.split(":").flatMap((group) => {
          if (group.includes(".")) {
            const [a, b, c, d] = v4Bytes(group) as unknown as [number, number, number, number];
            return [(a << 8) | b, (c << 8) | d];
          }
          if (!/^[0-9a-f]{1,4}$/i.test(group)) throw new RangeError(`not an address: ${address}`);
          return [Number.parseInt(group, 16)];
        });
  const halves = address.split("::");
  const head = groups(halves[0]!);
  const tail = groups(halves[1] ?? "");
  const missing = 8 - head.length - tail.length;
  if (halves.length > 2 || (halves.length === 2 ? missing < 1 : missing !== 0)) {
    throw new RangeError(`not an address: ${address}`);
  }
  const all = [...head, ...new Array<number>(halves.length === 2 ? missing : 0).fill(0), ...tail];
  return Uint8Array.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}

function v4Bytes(address: string): Uint8Array {
  const parts = address.split(".");
  if (parts.length !== 4 || parts.some((part) => !/^\d{1,3}$/.test(part) || Number(part) > 255)) {
    throw new RangeError(`not an address: ${address}`);
  }
  return Uint8Array.from(parts, Number);
}

/** Whether a record can be asked for and written: its names are names, its address is one of its family. */
export function isValidRecord(record: DnsRecord): boolean {
  if (!isValidName(record.name)) return false;
  switch (record.type) {
    case "A":
    case "AAAA":
      try {
        return addressBytes(record.data).length === (record.type === "A" ? 4 : 16);
      } catch {
        return false;
      }
    case "CNAME":
    case "PTR":
      return isValidName(record.data);
    case "SRV":
      return isValidName(record.data.target);
    default:
      return true;
  }
}

/** Labels of 1 to 63 bytes, 253 in all (RFC 1035, section 2.3.4). */
function isValidName(name: string): boolean {
  return (
    Buffer.byteLength(name) <= 253 &&
    name.split(".").every((label) => label !== "" && Buffer.byteLength(label) <= 63)
  );
}
