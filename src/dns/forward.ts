/** Names that others know: whole queries are handed on to their servers, and the answers handed back as they are. */
import { createSocket } from "node:dgram";
import { connect, isIPv6 } from "node:net";
import type { World } from "../world/index.ts";
import { questionLength } from "./wire.ts";

/** Who knows the names of a zone. */
export interface ForwardRule {
  /** `clusterset.local`, or `.` for every name that nobody else knows. */
  zone: string;
  /** `ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT`. With none, the zone has no names: NXDOMAIN. */
  to: readonly string[];
}

export type DnsTransport = "udp" | "tcp";

interface Server {
  address: string;
  port: number;
}

/** How long one server may take, and all tries together, in milliseconds (CoreDNS, plugin/forward). */
const patience = 2000;
const patienceForAll = 5000;
/** Queries under way at once; more get SERVFAIL at once. */
const mostAtOnce = 1000;

export class Forwarder {
  readonly #world: World;
  #rules = new Map<string, readonly Server[]>();
  #underWay = 0;
  readonly #closing = new AbortController();

  constructor(world: World, rules: readonly ForwardRule[]) {
    this.#world = world;
    this.set(rules);
  }

  /** Replaces all rules. Throws RangeError for an address that is none; the rules then stay as they were. */
  set(rules: readonly ForwardRule[]): void {
    this.#rules = new Map(rules.map(({ zone, to }) => [trim(zone), to.map(parseServer)]));
  }

  get any(): boolean {
    return this.#rules.size > 0;
  }

  /** The zone of the longest rule that a (lower-case) name falls under; the empty string is the root. */
  ruleFor(name: string): string | undefined {
    let rest = name;
    while (rest !== "") {
      if (this.#rules.has(rest)) return rest;
      const dot = rest.indexOf(".");
      rest = dot < 0 ? "" : rest.slice(dot + 1);
    }
    return this.#rules.has("") ? "" : undefined;
  }

  /** Whether the rule names anybody to ask. */
  knows(rule: string): boolean {
    return (this.#rules.get(rule)?.length ?? 0) > 0;
  }

  /** Sends a query to one server of the rule after the other until one answers. Rejects when none does. */
  async ask(rule: string, query: Buffer, transport: DnsTransport): Promise<Buffer> {
    const servers = this.#rules.get(rule) ?? [];
    if (servers.length === 0) throw new Error("there is nobody to ask");
    if (this.#underWay >= mostAtOnce) throw new Error("too many queries under way");
    this.#underWay++;
    try {
      const first = Math.floor(this.#world.random() * servers.length);
      const end = this.#world.monotonic() + patienceForAll;
      let problem: unknown;
      for (let attempt = 0; attempt < Math.max(2, servers.length); attempt++) {
        if (attempt > 0 && this.#world.monotonic() >= end) break;
        try {
          return await this.#askOne(servers[(first + attempt) % servers.length]!, query, transport);
        } catch (error) {
          problem = error;
          if (this.#closing.signal.aborted) break;
        }
      }
      throw problem;
    } finally {
      this.#underWay--;
    }
  }

  close(): void {
    this.#closing.abort();
  }

  /** A fresh port and a fresh id for each query: nobody else can guess an answer (RFC 5452). */
  async #askOne(server: Server, query: Buffer, transport: DnsTransport): Promise<Buffer> {
    const message = Buffer.from(query);
    message.set(this.#world.bytes(2), 0);
    const end = new AbortController();
    const onClose = () => end.abort(new Error("the DNS server is closing"));
    this.#closing.signal.addEventListener("abort", onClose, { once: true });
    const timer = this.#world.after(patience, () => end.abort(new Error("no answer in time")));
    try {
      const ask = transport === "udp" ? askUdp : askTcp;
      const answer = Buffer.from(await ask(server, message, end.signal));
      answer.writeUInt16BE(query.readUInt16BE(0), 0);
      return answer;
    } finally {
      timer.cancel();
      this.#closing.signal.removeEventListener("abort", onClose);
    }
  }
}

function askUdp(server: Server, message: Buffer, end: AbortSignal): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const socket = createSocket({ type: isIPv6(server.address) ? "udp6" : "udp4" });
  end.addEventListener("abort", () => reject(end.reason), { once: true });
  socket.on("error", reject);
  socket.on("message", (answer) => {
    if (isAnswer(answer, message)) resolve(answer);
  });
  // A connected socket hears of a closed port at once.
  socket.connect(server.port, server.address, (error?: unknown) => {
    if (error) reject(error);
    else socket.send(message);
  });
  return promise.finally(() => socket.close());
}

function askTcp(server: Server, message: Buffer, end: AbortSignal): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const socket = connect({ host: server.address, port: server.port });
  let received = Buffer.alloc(0);
  end.addEventListener("abort", () => reject(end.reason), { once: true });
  socket.on("error", reject);
  socket.on("close", () => reject(new Error("the connection was closed")));
  socket.on("data", (chunk) => {
    received = Buffer.concat([received, chunk]);
    if (received.length < 2 || received.length < 2 + received.readUInt16BE(0)) return;
    const answer = received.subarray(2, 2 + received.readUInt16BE(0));
    if (isAnswer(answer, message)) resolve(answer);
    else reject(new Error("the answer was to something else"));
  });
  socket.write(framed(message));
  return promise.finally(() => socket.destroy());
}

/** A message as it goes over TCP: its length comes first. */
export function framed(message: Buffer): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(message.length);
  return Buffer.concat([length, message]);
}

/** The id and the question are those of the query; the case of the question's letters may differ. */
function isAnswer(answer: Buffer, query: Buffer): boolean {
  if (answer.length < 12 || answer.readUInt16BE(0) !== query.readUInt16BE(0) || !(answer[2]! & 0x80))
    return false;
  // Servers that understood nothing send a header alone.
  if (answer.readUInt16BE(4) === 0) return true;
  const asked = query.subarray(12, 12 + questionLength(query));
  const echoed = answer.subarray(12, 12 + asked.length);
  return echoed.toString("latin1").toLowerCase() === asked.toString("latin1").toLowerCase();
}

function parseServer(text: string): Server {
  const [, bracketed, port] = /^\[([^\]]+)\](?::(\d+))?$/.exec(text) ?? [];
  if (bracketed !== undefined && isIPv6(bracketed)) return { address: bracketed, port: Number(port ?? 53) };
  if (isIPv6(text)) return { address: text, port: 53 };
  const [, v4, v4Port] = /^(\d+\.\d+\.\d+\.\d+)(?::(\d+))?$/.exec(text) ?? [];
  if (v4 === undefined) throw new RangeError(`'${text}' is not the address of a DNS server`);
  return { address: v4, port: Number(v4Port ?? 53) };
}

/** Whether a text can stand in `ForwardRule.to`. */
export function isServerAddress(text: string): boolean {
  try {
    parseServer(text);
    return true;
  } catch {
    return false;
  }
}

function trim(zone: string): string {
  return zone.toLowerCase().replace(/\.$/, "");
}

/** The servers that a `resolv.conf` names (resolv.conf(5)). */
export function nameServersOf(resolvConf: string): string[] {
  return [...resolvConf.matchAll(/^\s*nameserver\s+([^\s#;]+)/gm)].map(([, address]) => address!);
}
