/** The server: sockets around `resolve`. UDP and TCP on the same port; what comes in can never end it. */
import { createSocket, type RemoteInfo, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, createServer, isIPv6, type Server, type Socket } from "node:net";
import dnsPacket from "dns-packet";
import type { World } from "../world/index.ts";
import { type Answer, type Context, plain, type ResourceRecord, resolve } from "./answer.ts";
import { type DnsTransport, Forwarder, type ForwardRule, framed } from "./forward.ts";
import { type Query, readQuery, writeAnswer, writeError } from "./wire.ts";
import type { Zones } from "./zones.ts";

export interface DnsServerOptions {
  world: World;
  zones: Zones;
  /** Who is asked about names outside the zones; without any such names are REFUSED. */
  forward?: readonly ForwardRule[];
  /** What the zones' own name servers (`ns.dns.<zone>`) resolve to; the address listened on unless given. */
  address?: string;
  /** Told of exceptions while answering; the asker gets SERVFAIL. */
  onBug?: (error: unknown) => void;
}

export interface DnsServer {
  /** Opens UDP and TCP. Port 0 takes a free one. Rejects with the socket's error (EADDRINUSE, EACCES, …). */
  listen(options: { address: string; port?: number }): Promise<{ address: string; port: number }>;
  /** Replaces the rules of forwarding. Throws RangeError for an address that is none. */
  forward(rules: readonly ForwardRule[]): void;
  close(): Promise<void>;
}

/** Open TCP connections at most, and how long one may be silent, in milliseconds. */
const mostConnections = 500;
const idleTime = 10_000;

export function createDnsServer(options: DnsServerOptions): DnsServer {
  return new Listener(options);
}

class Listener implements DnsServer {
  readonly #forwarder: Forwarder;
  readonly #context: Context;
  readonly #onBug: (error: unknown) => void;
  readonly #sockets: UdpSocket[] = [];
  readonly #servers: Server[] = [];
  readonly #connections = new Set<Socket>();

  constructor({ world, zones, forward = [], address, onBug }: DnsServerOptions) {
    this.#forwarder = new Forwarder(world, forward);
    this.#onBug = onBug ?? ((error) => console.error(error));
    this.#context = {
      zones,
      address,
      random: () => world.random(),
      serial: () => Math.floor(world.now() / 1000),
    };
  }

  forward(rules: readonly ForwardRule[]): void {
    this.#forwarder.set(rules);
  }

  async listen({ address, port = 53 }: { address: string; port?: number }) {
    const server = createServer((connection) => this.#onConnection(connection));
    server.maxConnections = mostConnections;
    const socket = createSocket({ type: isIPv6(address) ? "udp6" : "udp4" });
    try {
      // TCP first: the port that it finds free is as good as always free for UDP.
      server.listen({ host: address, port });
      await once(server, "listening");
      socket.bind((server.address() as AddressInfo).port, address);
      await once(socket, "listening");
    } catch (error) {
      server.close();
      socket.close();
      throw error;
    }
    this.#servers.push(server);
    this.#sockets.push(socket);
    server.on("error", this.#onBug);
    socket.on("error", this.#onBug);
    socket.on("message", (message, from) => this.#onDatagram(socket, message, from));
    if (!["0.0.0.0", "::"].includes(address)) this.#context.address ??= address;
    return { address, port: socket.address().port };
  }

  async close(): Promise<void> {
    this.#forwarder.close();
    for (const connection of this.#connections) connection.destroy();
    const ends: Promise<unknown>[] = [];
    for (const server of this.#servers.splice(0)) {
      ends.push(once(server, "close"));
      server.close();
    }
    for (const socket of this.#sockets.splice(0)) {
      ends.push(once(socket, "close"));
      socket.close();
    }
    await Promise.all(ends);
  }

  #onDatagram(socket: UdpSocket, message: Buffer, from: RemoteInfo): void {
    this.#answer(message, "udp", (answer) => {
      // The error, if any, is the asker's: an address or port that cannot be sent to.
      if (this.#sockets.includes(socket)) socket.send(answer, from.port, from.address, () => {});
    });
  }

  #onConnection(connection: Socket): void {
    this.#connections.add(connection);
    let received = Buffer.alloc(0);
    connection.setTimeout(idleTime, () => connection.destroy());
    connection.on("close", () => this.#connections.delete(connection));
    connection.on("error", () => connection.destroy());
    connection.on("data", (chunk) => {
      received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
      while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
        const end = 2 + received.readUInt16BE(0);
        const message = received.subarray(2, end);
        received = received.subarray(end);
        this.#answer(message, "tcp", (answer) => {
          if (connection.writable) connection.write(framed(answer));
        });
      }
    });
  }

  /** Answers at once what is ours, later what others must be asked for. */
  #answer(message: Buffer, transport: DnsTransport, reply: (answer: Buffer) => void): void {
    const query = readQuery(message);
    if (!("question" in query)) {
      if (query.rcode !== undefined) reply(writeError({ id: query.id, rcode: query.rcode }));
      return;
    }
    const write = (answer: Answer) =>
      reply(writeAnswer(query, answer, { transport, recursionAvailable: this.#forwarder.any }));
    const fail = (error: unknown) => {
      this.#onBug(error);
      write(plain("SERVFAIL"));
    };
    try {
      const later = this.#resolve(query, message, transport, write, reply);
      later?.catch(fail);
    } catch (error) {
      fail(error);
    }
  }

  #resolve(
    query: Query,
    message: Buffer,
    transport: DnsTransport,
    write: (answer: Answer) => void,
    reply: (answer: Buffer) => void,
  ): Promise<void> | undefined {
    if (query.edns && query.edns.version !== 0) {
      write(plain("BADVERS"));
      return;
    }
    if (query.question.class !== "IN") {
      write(plain("REFUSED"));
      return;
    }
    const name = query.question.name.toLowerCase();
    const rule = this.#forwarder.ruleFor(name);
    // The longer of a zone and a rule is the nearer to the name.
    const zone = this.#context.zones.zoneOf(name);
    const ours = zone && (rule === undefined || zone.name.length >= rule.length);
    const resolution = ours ? resolve(query.question, this.#context) : undefined;
    if (resolution) {
      const { answer, continueAt } = resolution;
      if (continueAt === undefined) {
        write(answer);
        return;
      }
      return this.#continue(query, continueAt, transport, answer).then(write);
    }
    if (rule === undefined) {
      write(plain("REFUSED"));
      return;
    }
    if (!this.#forwarder.knows(rule)) {
      write(plain("NXDOMAIN"));
      return;
    }
    return this.#forwarder.ask(rule, message, transport).then(reply, () => write(plain("SERVFAIL")));
  }

  /** Adds what others say about the end of a chain of aliases; when they say nothing, the alias stands alone. */
  async #continue(query: Query, at: string, transport: DnsTransport, answer: Answer): Promise<Answer> {
    const rule = this.#forwarder.ruleFor(at.toLowerCase());
    if (rule === undefined || !this.#forwarder.knows(rule)) return answer;
    const type = query.question.type as dnsPacket.RecordType;
    try {
      const asked = dnsPacket.encode({
        type: "query",
        flags: dnsPacket.RECURSION_DESIRED,
        questions: [{ name: at, type }],
      });
      const more = dnsPacket.decode(await this.#forwarder.ask(rule, asked, transport));
      return { ...answer, answers: [...answer.answers, ...(more.answers ?? []).flatMap(known)] };
    } catch {
      return answer;
    }
  }
}

/** Records of others that this server can write. */
function known(record: dnsPacket.Answer): ResourceRecord[] {
  if (record.type === "OPT") return [];
  const { name, ttl = 0 } = record;
  switch (record.type) {
    case "A":
    case "AAAA":
    case "CNAME":
    case "PTR":
      return [{ name, ttl, type: record.type, data: record.data }];
    case "SRV": {
      const { port, target, priority = 0, weight = 0 } = record.data;
      return [{ name, ttl, type: "SRV", data: { port, target, priority, weight } }];
    }
    case "TXT":
      return [{ name, ttl, type: "TXT", data: [record.data].flat().map(String).join("") }];
    default:
      return [];
  }
}
