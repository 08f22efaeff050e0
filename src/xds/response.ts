/**
 * Delta discovery responses out of resources that are encoded already. What many clients get within a short time is made
 * once for all of them: a short response as a whole, of a long one its resources. Field numbers:
 * envoy/service/discovery/v3/discovery.proto.
 */
import { framed } from "../http2/index.ts";
import type { Timer, World } from "../world/index.ts";
import { type Encoded, type Kind, typeUrls } from "./encode/index.ts";

export interface Content {
  kind: Kind;
  resources: readonly Encoded[];
  /** Names of those that are no more. */
  removed: readonly string[];
  /** The settled batch that it shows. */
  systemVersion: string;
}

/** A response as its client answers it; shared with other clients. */
export interface Response extends Content {
  /** Numbers rise; each is of one content. */
  nonce: number;
  /** The bytes of a DeltaDiscoveryRequest that says no more than that this was taken. */
  ack: Buffer;
}

export interface Message {
  response: Response;
  /** Framed for gRPC; shared with other clients. */
  bytes: readonly Buffer[];
}

/** Of fewer resources and bytes only the last is kept. One table of routes may be half a megabyte. */
const worthKeeping = { resources: 20, bytes: 16 * 1024 };
/** How many long lists of resources are kept, and for how long after the last use, ms: as long as clients connect one after another. */
const most = 64;
const idle = 500;

export class Messages {
  readonly #world: World;
  /** By the first resource; the one used longest ago first. */
  readonly #kept = new Map<Encoded, { resources: readonly Encoded[]; body: Uint8Array }>();
  /** The last short one: one change goes to all clients in a row. */
  #last: Message | undefined;
  #nonce = 0;
  #timer: Timer | undefined;
  #used = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** How many long lists are kept. */
  get size(): number {
    return this.#kept.size;
  }

  /** The response for a client whose last nonce was `after`: it gets a higher one. */
  of(content: Content, after: number): Message {
    const last = this.#last;
    if (last && last.response.nonce > after && isOf(last.response, content)) return last;
    const { kind, resources, removed, systemVersion } = content;
    const nonce = ++this.#nonce;
    const short = isShort(resources);
    const type = Buffer.from(typeUrls[kind]);
    const number = Buffer.from(String(nonce));
    const parts: Uint8Array[] = [];
    field(parts, 1, Buffer.from(systemVersion));
    field(parts, 4, type);
    field(parts, 5, number);
    for (const name of removed) field(parts, 6, Buffer.from(name));
    const bytes = framed([Buffer.concat(parts), short ? bodyOf(resources) : this.#long(resources)]);
    const ack: Uint8Array[] = [];
    field(ack, 2, type);
    field(ack, 6, number);
    const response = { kind, resources, removed, systemVersion, nonce, ack: Buffer.concat(ack) };
    const message = { response, bytes };
    if (short) this.#last = message;
    return message;
  }

  stop(): void {
    this.#timer?.cancel();
  }

  #long(resources: readonly Encoded[]): Uint8Array {
    const first = resources[0]!;
    let found = this.#kept.get(first);
    this.#kept.delete(first);
    if (!found || !same(found.resources, resources)) found = { resources, body: bodyOf(resources) };
    this.#kept.set(first, found);
    if (this.#kept.size > most) for (const [oldest] of this.#kept) if (this.#kept.delete(oldest)) break;
    this.#used = this.#world.monotonic();
    this.#timer ??= this.#world.after(idle, () => this.#look());
    return found.body;
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

function isOf(response: Response, { kind, resources, removed, systemVersion }: Content): boolean {
  return (
    response.kind === kind &&
    response.systemVersion === systemVersion &&
    same(response.resources, resources) &&
    same(response.removed, removed)
  );
}

function same<T>(a: readonly T[], b: readonly T[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
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
