/**
 * Delta discovery responses out of resources that are encoded already: what was encoded for one client goes to all
 * others as it is, and of long responses also the whole. Field numbers: envoy/service/discovery/v3/discovery.proto.
 */
import type { Timer, World } from "../world/index.ts";
import { type Encoded, type Kind, typeUrls } from "./encode/index.ts";

/** The bytes of one response, in parts that follow each other; those of `bodies` are shared with other clients. */
export function deltaResponse(
  response: {
    kind: Kind;
    resources: readonly Encoded[];
    removed: readonly string[];
    nonce: string;
    systemVersion: string;
  },
  bodies?: Bodies,
): readonly Uint8Array[] {
  const { kind, resources, removed, nonce, systemVersion } = response;
  const parts: Uint8Array[] = [];
  for (const name of removed) field(parts, 6, Buffer.from(name));
  field(parts, 5, Buffer.from(nonce));
  return [
    bodies?.front(kind, systemVersion) ?? frontOf(kind, systemVersion),
    // What a client alone has goes between what it shares with others: the order of fields is free.
    Buffer.concat(parts),
    bodies?.of(resources) ?? bodyOf(resources),
  ];
}

/** Of fewer resources and bytes only the last body is kept. One table of routes may be half a megabyte. */
const worthKeeping = { resources: 20, bytes: 16 * 1024 };
/** Bodies that are kept, and for how long after the last use, ms: as long as clients connect one after another. */
const most = 64;
const idle = 500;

/** What is the same in the responses that many clients get within a short time. */
export class Bodies {
  readonly #world: World;
  /** By the first resource; the one used longest ago first. */
  readonly #kept = new Map<Encoded, { resources: readonly Encoded[]; body: Uint8Array }>();
  readonly #fronts = new Map<Kind, { systemVersion: string; bytes: Uint8Array }>();
  /** The last short one: one change goes to all clients in a row. */
  #last: { resources: readonly Encoded[]; body: Uint8Array } | undefined;
  #timer: Timer | undefined;
  #used = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** How many are kept. */
  get size(): number {
    return this.#kept.size;
  }

  of(resources: readonly Encoded[]): Uint8Array {
    const [first] = resources;
    if (!first || isShort(resources)) {
      if (!this.#last || !same(this.#last.resources, resources)) {
        this.#last = { resources, body: bodyOf(resources) };
      }
      return this.#last.body;
    }
    let found = this.#kept.get(first);
    this.#kept.delete(first);
    if (!found || !same(found.resources, resources)) found = { resources, body: bodyOf(resources) };
    this.#kept.set(first, found);
    if (this.#kept.size > most) for (const [oldest] of this.#kept) if (this.#kept.delete(oldest)) break;
    this.#used = this.#world.monotonic();
    this.#timer ??= this.#world.after(idle, () => this.#look());
    return found.body;
  }

  /** The fields that say what the resources are and of when. */
  front(kind: Kind, systemVersion: string): Uint8Array {
    let found = this.#fronts.get(kind);
    if (found?.systemVersion !== systemVersion) {
      found = { systemVersion, bytes: frontOf(kind, systemVersion) };
      this.#fronts.set(kind, found);
    }
    return found.bytes;
  }

  stop(): void {
    this.#timer?.cancel();
  }

  #look(): void {
    const left = this.#used + idle - this.#world.monotonic();
    this.#timer = left > 0 ? this.#world.after(left, () => this.#look()) : undefined;
    if (left <= 0) this.#kept.clear();
  }
}

function isShort(resources: readonly Encoded[]): boolean {
  if (resources.length >= worthKeeping.resources) return false;
  return resources.reduce((sum, { resource }) => sum + resource.length, 0) < worthKeeping.bytes;
}

function same(a: readonly Encoded[], b: readonly Encoded[]): boolean {
  return a.length === b.length && a.every((each, i) => each === b[i]);
}

function frontOf(kind: Kind, systemVersion: string): Uint8Array {
  const parts: Uint8Array[] = [];
  field(parts, 1, Buffer.from(systemVersion));
  field(parts, 4, Buffer.from(typeUrls[kind]));
  return Buffer.concat(parts);
}

function bodyOf(resources: readonly Encoded[]): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const { resource } of resources) field(parts, 2, resource);
  return Buffer.concat(parts);
}

/** A length-delimited field: its tag, the length, the bytes. */
function field(parts: Uint8Array[], number: number, bytes: Uint8Array): void {
  const head = [(number << 3) | 2];
  let rest = bytes.length;
  while (rest > 0x7f) {
    head.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  head.push(rest);
  parts.push(Uint8Array.from(head), bytes);
}
