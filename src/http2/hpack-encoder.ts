/** Header compression of HTTP/2, writing. Source: RFC 7541. */
import { defaultTableSize, fieldOverhead, firstDynamic, staticNames, staticValues } from "./hpack-tables.ts";

/** Fields that no table is to hold, ours or an intermediary's (7.1.3), whatever their value … */
const secretNames = new Set([
  "authorization",
  "proxy-authorization",
  "x-api-key",
  "api-key",
  "x-auth-token",
  "x-csrf-token",
]);
/** … and where it is short: it might be guessed then. */
const secretWhereShort = new Set(["cookie", "set-cookie"]);
const shortSecret = 20;

/**
 * Values that come but once (ids, dates) must not push those out of the table that come again. When values of a name were
 * put there this many times more often than they came again, the next ones are not, but for one in `retryAfter`.
 */
const mostVain = 4;
const retryAfter = 64;
/** Of these no value comes again. One is in the table nevertheless: it has the name. */
const alwaysNew = new Set([
  "b3",
  "traceparent",
  "x-b3-parentspanid",
  "x-b3-spanid",
  "x-b3-traceid",
  "x-request-id",
]);

/** By name of the static table: its first index, and the indices of its values. */
const staticByName = new Map<string, { index: number; values: Map<string, number> }>();
for (let index = 1; index < firstDynamic; index++) {
  const [name, value] = [staticNames[index]!, staticValues[index]!];
  if (!staticByName.has(name)) staticByName.set(name, { index, values: new Map() });
  if (value !== "") staticByName.get(name)!.values.set(value, index);
}

/** What one connection knows of a name. */
class Name {
  readonly name: string;
  /** The first static index, 0 if there is none. */
  readonly index: number;
  /** Values shorter than this are secret. */
  readonly secretBelow: number;
  readonly staticValues: ReadonlyMap<string, number> | undefined;
  /** It is kept. Strangers make up names: those that are not known beforehand are kept while they are in the table. */
  known: boolean;
  /** The values that are in the table, with the number of their insertion. */
  readonly inserted = new Map<string, number>();
  /** The latest number of `inserted`, 0 if it is empty. */
  latest = 0;
  /** One of `inserted` that was in use lately, and its number; 0 if there is none. */
  hot = "";
  hotNumber = 0;
  /** How many more times values were put there than they came again, and values not put there since. */
  vain = 0;
  passed = 0;
  readonly alwaysNew: boolean;

  constructor(name: string) {
    const known = staticByName.get(name);
    this.index = known?.index ?? 0;
    this.name = this.index > 0 ? staticNames[this.index]! : own(name);
    this.staticValues = known?.values;
    this.secretBelow = secretNames.has(name) ? Infinity : secretWhereShort.has(name) ? shortSecret : 0;
    this.known = this.index > 0 || this.secretBelow > 0;
    this.alwaysNew = alwaysNew.has(name);
  }
}

/** The same string, but not a part of a larger one, which it would keep alive: V8 refers to those from 13 characters on. */
function own(text: string): string {
  return text.length < 13 ? text : Buffer.from(text, "latin1").toString("latin1");
}

/** Elements of a list whose names are remembered by place. */
const mostPlaces = 64;

/** What is written to: blocks are cut from one piece of memory after the other. Bytes. */
const pieceSize = 65_536;
let piece = Buffer.allocUnsafeSlow(pieceSize);
/** Where the block that is being written begins, and where it is to go on. */
let begin = 0;
let at = 0;
/** Most bytes of a number: its prefix, then groups of 7 bits. */
const mostOfNumber = 6;
/** Up to so many characters, writing them one by one is faster than a call that writes all. */
const fewCharacters = 20;

/** One direction of one connection. */
export class HpackEncoder {
  /** Bytes: the limit of the table, the one the peer knows of, and the lowest since it was told. */
  #limit = defaultTableSize;
  #told = defaultTableSize;
  #lowest = defaultTableSize;
  #size = 0;
  /** The fields of the table, at the number of their insertion modulo the length. */
  readonly #names: (Name | undefined)[] = [];
  readonly #values: string[] = [];
  /** The numbers of the newest field (it has index 62), and of the oldest. They begin with 1. */
  #newest = 0;
  #oldest = 1;
  /** Names that are in the table, and those of the static one that were in use. */
  readonly #known = new Map<string, Name>();
  /** The names of the latest lists, by their place. */
  readonly #before: (Name | undefined)[] = [];

  /** What the peer's SETTINGS_HEADER_TABLE_SIZE says, bytes. We use at most 4096 (RFC 7541, 4.2). */
  setMaxTableSize(size: number): void {
    this.#limit = Math.min(size, defaultTableSize);
    this.#lowest = Math.min(this.#lowest, this.#limit);
    this.#evict(this.#limit);
  }

  /** One header block of name, value, name, value … (latin1 strings). */
  encode(fields: readonly string[]): Buffer {
    begin = at;
    reserve(2 * mostOfNumber);
    if (this.#lowest < this.#told || this.#limit !== this.#told) this.#tellSize();
    for (let i = 0; i < fields.length; i += 2) {
      const value = fields[i + 1]!;
      const name = this.#nameAt(i, fields[i]!);
      reserve(name.name.length + value.length + 3 * mostOfNumber);
      const index = this.#find(name, value);
      if (index > 0) writeNumber(0x80, 0x7f, index);
      else this.#writeLiteral(name, value);
    }
    return piece.subarray(begin, at);
  }

  #tellSize(): void {
    if (this.#lowest < this.#limit && this.#lowest < this.#told) writeNumber(0x20, 0x1f, this.#lowest);
    writeNumber(0x20, 0x1f, this.#limit);
    this.#told = this.#limit;
    this.#lowest = this.#limit;
  }

  /** The name at a place of a list: mostly the one that was there in the list before. */
  #nameAt(place: number, text: string): Name {
    const before = this.#before[place];
    if (before?.name === text && before.known) return before;
    let name = this.#known.get(text);
    if (name === undefined) {
      name = new Name(text);
      if (name.known) this.#known.set(name.name, name);
    }
    if (name.known && place < mostPlaces) this.#before[place] = name;
    return name;
  }

  /** The index of a whole field, 0 if it has none. */
  #find(name: Name, value: string): number {
    if (name.latest > 0) {
      if (name.hotNumber === 0 || name.hot !== value) {
        const onlyHot = name.hotNumber > 0 && name.inserted.size === 1;
        const number = onlyHot ? undefined : name.inserted.get(value);
        if (number === undefined) return name.staticValues?.get(value) ?? 0;
        name.hot = value;
        name.hotNumber = number;
      }
      if (name.vain > 0) name.vain--;
      return firstDynamic + this.#newest - name.hotNumber;
    }
    return name.staticValues?.get(value) ?? 0;
  }

  #writeLiteral(name: Name, value: string): void {
    const index =
      name.index > 0 ? name.index : name.latest > 0 ? firstDynamic + this.#newest - name.latest : 0;
    if (value.length < name.secretBelow) {
      writeNumber(0x10, 0x0f, index);
    } else if (this.#isWorthIndexing(name, value, index)) {
      writeNumber(0x40, 0x3f, index);
      this.#insert(name, value);
    } else {
      writeNumber(0, 0x0f, index);
    }
    if (index === 0) writeString(name.name);
    writeString(value);
  }

  #isWorthIndexing(name: Name, value: string, index: number): boolean {
    // What takes most of the table would be alone there.
    if ((name.name.length + value.length + fieldOverhead) * 4 > this.#limit * 3) return false;
    // With the value, the name has an index from then on.
    if (index === 0) return true;
    if (name.alwaysNew) return false;
    if (name.vain < mostVain || ++name.passed >= retryAfter) {
      name.passed = 0;
      return true;
    }
    return false;
  }

  #insert(name: Name, text: string): void {
    const value = own(text);
    const size = name.name.length + value.length + fieldOverhead;
    this.#evict(this.#limit - size);
    const number = ++this.#newest;
    this.#names[number & slotMask] = name;
    this.#values[number & slotMask] = value;
    this.#size += size;
    name.inserted.set(value, number);
    name.latest = number;
    name.hot = value;
    name.hotNumber = number;
    if (name.vain < mostVain) name.vain++;
    if (!name.known) {
      name.known = true;
      this.#known.set(name.name, name);
    }
  }

  /** Lets go of the oldest fields until no more than `most` bytes are left. */
  #evict(most: number): void {
    while (this.#size > most && this.#oldest <= this.#newest) {
      const number = this.#oldest++;
      const name = this.#names[number & slotMask]!;
      const value = this.#values[number & slotMask]!;
      this.#names[number & slotMask] = undefined;
      this.#values[number & slotMask] = "";
      this.#size -= name.name.length + value.length + fieldOverhead;
      name.inserted.delete(value);
      if (name.hotNumber === number) {
        name.hot = "";
        name.hotNumber = 0;
      }
      if (name.latest === number) {
        name.latest = 0;
        if (name.index === 0) {
          name.known = false;
          this.#known.delete(name.name);
        }
      }
    }
  }
}

/** The table has at most 128 fields. */
const slotMask = defaultTableSize / fieldOverhead - 1;

/** Makes room for so many bytes behind what is written of the block. */
function reserve(bytes: number): void {
  if (at + bytes <= piece.length) return;
  const next = Buffer.allocUnsafeSlow(Math.max(pieceSize, 2 * (at - begin + bytes)));
  piece.copy(next, 0, begin, at);
  piece = next;
  at -= begin;
  begin = 0;
}

/** 5.1: an integer; `head` are the bits before those of `prefix`. */
function writeNumber(head: number, prefix: number, value: number): void {
  if (value < prefix) {
    piece[at++] = head | value;
    return;
  }
  piece[at++] = head | prefix;
  let rest = value - prefix;
  for (; rest >= 0x80; rest >>>= 7) piece[at++] = rest | 0x80;
  piece[at++] = rest;
}

/**
 * 5.2: a string. Never in Huffman code: of an id of 36 characters that would make 11 bytes less, for 0.2 µs here and as
 * much again where it is read.
 */
function writeString(text: string): void {
  const length = text.length;
  writeNumber(0, 0x7f, length);
  const from = at;
  at += length;
  if (length > fewCharacters) {
    piece.write(text, from, length, "latin1");
  } else {
    const to = piece;
    for (let i = 0; i < length; i++) to[from + i] = text.charCodeAt(i);
  }
}
