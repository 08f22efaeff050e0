/**
 * Messages on the wire (RFC 1035, EDNS0 of RFC 6891). Queries are read by `dns-packet`; answers are written
 * here, because a headless service wants many names in few bytes and that library does not compress names.
 */
import dnsPacket from "dns-packet";
import type { Answer, Question, Rcode, ResourceRecord } from "./answer.ts";
import { addressBytes } from "./records.ts";

const headerLength = 12;
/** What a client without EDNS takes over UDP (RFC 1035, section 4.2.1). */
const plainUdpSize = 512;
/** The most that is sent in one datagram: it passes any path without fragments (DNS flag day 2020). */
const largestDatagram = 1232;
const largestMessage = 65_535;

const rcodes: Record<Rcode, number> = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  BADVERS: 16,
};
const types: Record<ResourceRecord["type"], number> = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
};
const optType = 41;

export interface Query {
  id: number;
  question: Question;
  /** The question section as it came. */
  raw: Uint8Array;
  recursionDesired: boolean;
  checkingDisabled: boolean;
  /** What the client said about EDNS, if it did. */
  edns: { version: number; size: number } | undefined;
}

/** A message that gets an error without being understood, or no answer at all. */
export interface Broken {
  id: number;
  rcode: Rcode | undefined;
}

/** Never throws: what is no query comes back as `Broken`. Answers are never answered (that would make loops). */
export function readQuery(message: Buffer): Query | Broken {
  if (message.length < headerLength) return { id: 0, rcode: undefined };
  const id = message.readUInt16BE(0);
  const flags = message.readUInt16BE(2);
  if (flags & 0x8000) return { id, rcode: undefined };
  if ((flags >> 11) & 0xf) return { id, rcode: "NOTIMP" };
  // Other counts than these are no query, and not worth decoding.
  const [questions, answers, authorities] = [4, 6, 8].map((at) => message.readUInt16BE(at));
  if (questions !== 1 || answers !== 0 || authorities !== 0) return { id, rcode: "FORMERR" };
  try {
    const packet = dnsPacket.decode(message);
    const [question] = packet.questions ?? [];
    const opt = packet.additionals?.find((record) => record.type === "OPT");
    return {
      id,
      question: { name: trimRoot(question!.name), type: question!.type, class: question!.class ?? "" },
      raw: message.subarray(headerLength, headerLength + questionLength(message)),
      recursionDesired: (flags & 0x0100) !== 0,
      checkingDisabled: (flags & 0x0010) !== 0,
      edns: opt && { version: opt.ednsVersion, size: opt.udpPayloadSize },
    };
  } catch {
    return { id, rcode: "FORMERR" };
  }
}

/** The root's name is `.` in the library and empty here. */
function trimRoot(name: string): string {
  return name === "." ? "" : name;
}

/** The bytes of the (one, already decoded) question. */
export function questionLength(message: Uint8Array): number {
  let at = headerLength;
  for (;;) {
    const length = message[at] ?? 0;
    if (length >= 0xc0) return at + 2 + 4 - headerLength;
    at += length + 1;
    if (length === 0) return at + 4 - headerLength;
  }
}

/** A header alone, for messages that were not understood. */
export function writeError({ id, rcode }: { id: number; rcode: Rcode }): Buffer {
  const message = Buffer.alloc(headerLength);
  message.writeUInt16BE(id, 0);
  message.writeUInt16BE(0x8000 | rcodes[rcode], 2);
  return message;
}

export interface WriteOptions {
  transport: "udp" | "tcp";
  recursionAvailable: boolean;
}

/**
 * Writes an answer. Over UDP it holds what the client can take: first additional records are left out, and
 * when answers must be, the truncation bit says so and the client comes back over TCP (RFC 2181, section 9).
 */
export function writeAnswer(
  query: Query,
  answer: Answer,
  { transport, recursionAvailable }: WriteOptions,
): Buffer {
  const limit =
    transport === "tcp"
      ? largestMessage
      : Math.min(largestDatagram, Math.max(plainUdpSize, query.edns?.size ?? plainUdpSize));
  const rcode = rcodes[answer.rcode];
  const writer = new Writer(limit - (query.edns ? optLength : 0));
  writer.header(query);
  const counts = [answer.answers, answer.authority, answer.additional].map((section) =>
    writer.section(section),
  );
  const truncated = counts[0]! < answer.answers.length || counts[1]! < answer.authority.length;
  if (query.edns) writer.opt(rcode >> 4);
  const flags =
    0x8000 |
    (answer.authoritative ? 0x0400 : 0) |
    (truncated ? 0x0200 : 0) |
    (query.recursionDesired ? 0x0100 : 0) |
    (recursionAvailable ? 0x0080 : 0) |
    (query.checkingDisabled ? 0x0010 : 0) |
    (rcode & 0xf);
  return writer.finish(query.id, flags, [1, counts[0]!, counts[1]!, counts[2]! + (query.edns ? 1 : 0)]);
}

const optLength = 11;

/** Writes a message front to back, names compressed against all that came before. */
class Writer {
  #buffer = Buffer.allocUnsafe(512);
  #length = headerLength;
  readonly #limit: number;
  /** Where a (lower-case) name, or the rest of one, was written. */
  readonly #names = new Map<string, number>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  header({ raw, question }: Query): void {
    this.#room(raw.length);
    this.#buffer.set(raw, headerLength);
    this.#remember(question.name.toLowerCase(), headerLength);
    this.#length += raw.length;
  }

  /** How many records of the section fitted. */
  section(records: readonly ResourceRecord[]): number {
    let count = 0;
    for (const record of records) {
      const start = this.#length;
      this.#record(record);
      if (this.#length > this.#limit) {
        this.#forgetFrom(start);
        return count;
      }
      count++;
    }
    return count;
  }

  opt(extendedRcode: number): void {
    this.#byte(0);
    this.#short(optType);
    this.#short(largestDatagram);
    this.#byte(extendedRcode);
    this.#byte(0);
    this.#short(0);
    this.#short(0);
  }

  finish(id: number, flags: number, counts: readonly number[]): Buffer {
    [id, flags, ...counts].forEach((value, index) => {
      this.#buffer.writeUInt16BE(value, index * 2);
    });
    return this.#buffer.subarray(0, this.#length);
  }

  #record(record: ResourceRecord): void {
    this.#name(record.name);
    this.#short(types[record.type]);
    this.#short(1);
    this.#long(record.ttl);
    const lengthAt = this.#length;
    this.#short(0);
    this.#data(record);
    this.#buffer.writeUInt16BE(this.#length - lengthAt - 2, lengthAt);
  }

  #data(record: ResourceRecord): void {
    switch (record.type) {
      case "A":
      case "AAAA":
        for (const byte of addressBytes(record.data)) this.#byte(byte);
        return;
      case "CNAME":
      case "PTR":
      case "NS":
        this.#name(record.data);
        return;
      case "TXT": {
        const text = Buffer.from(record.data);
        for (let at = 0; at === 0 || at < text.length; at += 255) {
          const part = text.subarray(at, at + 255);
          this.#byte(part.length);
          for (const byte of part) this.#byte(byte);
        }
        return;
      }
      case "SRV":
        this.#short(record.data.priority ?? 0);
        this.#short(record.data.weight ?? 0);
        this.#short(record.data.port);
        // Targets of SRV are never compressed (RFC 2782), but what follows may point at them.
        this.#name(record.data.target, false);
        return;
      case "SOA": {
        const { mname, rname, serial, refresh, retry, expire, minimum } = record.data;
        this.#name(mname);
        this.#name(rname);
        for (const value of [serial, refresh, retry, expire, minimum]) this.#long(value);
      }
    }
  }

  #name(name: string, compress = true): void {
    let rest = name.replace(/\.$/, "");
    while (rest !== "") {
      const key = rest.toLowerCase();
      const known = compress ? this.#names.get(key) : undefined;
      if (known !== undefined) {
        this.#short(0xc000 | known);
        return;
      }
      this.#remember(key, this.#length, false);
      const dot = rest.indexOf(".");
      const label = Buffer.from(dot < 0 ? rest : rest.slice(0, dot));
      if (label.length > 63) throw new RangeError(`label too long in ${name}`);
      this.#byte(label.length);
      for (const byte of label) this.#byte(byte);
      rest = dot < 0 ? "" : rest.slice(dot + 1);
    }
    this.#byte(0);
  }

  /** Notes where a name starts, and, `whole`, where each of its parts does. */
  #remember(name: string, at: number, whole = true): void {
    let rest = name;
    let place = at;
    while (rest !== "" && place < 0x4000) {
      if (!this.#names.has(rest)) this.#names.set(rest, place);
      if (!whole) return;
      const dot = rest.indexOf(".");
      if (dot < 0) return;
      place += Buffer.byteLength(rest.slice(0, dot)) + 1;
      rest = rest.slice(dot + 1);
    }
  }

  #forgetFrom(start: number): void {
    this.#length = start;
    for (const [name, place] of this.#names) if (place >= start) this.#names.delete(name);
  }

  #byte(value: number): void {
    this.#room(1);
    this.#buffer[this.#length++] = value;
  }

  #short(value: number): void {
    this.#room(2);
    this.#length = this.#buffer.writeUInt16BE(value & 0xffff, this.#length);
  }

  #long(value: number): void {
    this.#room(4);
    this.#length = this.#buffer.writeUInt32BE(value >>> 0, this.#length);
  }

  #room(bytes: number): void {
    if (this.#length + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(2 * (this.#buffer.length + bytes));
    larger.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = larger;
  }
}
