import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect } from "node:net";
import { after, before, describe, test } from "node:test";
import dnsPacket, { type DecodedPacket, type Packet } from "dns-packet";
import fc from "fast-check";
import { realWorld, SimulatedWorld } from "../world/index.ts";
import { createDnsServer, type DnsRecord, type DnsServer, nameServersOf, Zones } from "./index.ts";

const world = realWorld();
const svc = "demo.svc.cluster.local";
const a = (name: string, data: string): DnsRecord => ({ name, type: "A", ttl: 5, data });
const srv = (name: string, port: number, target: string): DnsRecord => ({
  name,
  type: "SRV",
  ttl: 5,
  data: { port, target },
});

let zones: Zones;
let server: DnsServer;
let port: number;
const bugs: unknown[] = [];
let synced = true;

before(async () => {
  zones = new Zones();
  zones.add({ name: "cluster.local", ready: () => synced });
  zones.add({ name: "in-addr.arpa", fallthrough: true });
  zones.put({ name: "dns-version.cluster.local", type: "TXT", ttl: 28_800, data: "1.1.0" });
  zones.put(a(`serve.${svc}`, "10.11.0.9"));
  zones.put(srv(`_http._tcp.serve.${svc}`, 80, `serve.${svc}`));
  for (let i = 1; i <= 3; i++) {
    zones.put(a(`db.${svc}`, `10.10.0.${i}`));
    zones.put(a(`db-${i}.db.${svc}`, `10.10.0.${i}`));
    zones.put(srv(`_sql._tcp.db.${svc}`, 5432, `db-${i}.db.${svc}`));
  }
  for (let i = 0; i < 200; i++) zones.put(a(`many.${svc}`, `10.10.1.${i}`));
  zones.put({ name: `six.${svc}`, type: "AAAA", ttl: 5, data: "fd00::9" });
  zones.put({ name: `alias.${svc}`, type: "CNAME", ttl: 5, data: `serve.${svc}` });
  zones.put({ name: `loop.${svc}`, type: "CNAME", ttl: 5, data: `loop2.${svc}` });
  zones.put({ name: `loop2.${svc}`, type: "CNAME", ttl: 5, data: `loop.${svc}` });
  zones.put({ name: `dangling.${svc}`, type: "CNAME", ttl: 5, data: `nobody.${svc}` });
  zones.put({ name: `out.${svc}`, type: "CNAME", ttl: 5, data: "www.example.org" });
  zones.put({ name: "9.0.11.10.in-addr.arpa", type: "PTR", ttl: 5, data: `serve.${svc}` });
  server = createDnsServer({ world, zones, onBug: (error) => bugs.push(error) });
  ({ port } = await server.listen({ address: "127.0.0.1", port: 0 }));
});

after(async () => {
  await server.close();
  assert.deepEqual(bugs, []);
});

async function sendUdp(message: Buffer, to = port): Promise<Buffer> {
  const socket = createSocket("udp4");
  socket.send(message, to, "127.0.0.1");
  const [answer] = (await once(socket, "message")) as [Buffer];
  socket.close();
  return answer;
}

async function sendTcp(messages: Buffer[], to = port): Promise<Buffer[]> {
  const socket = connect(to, "127.0.0.1");
  for (const message of messages) {
    const length = Buffer.alloc(2);
    length.writeUInt16BE(message.length);
    socket.write(length);
    socket.write(message);
  }
  const answers: Buffer[] = [];
  let received = Buffer.alloc(0);
  for await (const chunk of socket) {
    received = Buffer.concat([received, chunk as Buffer]);
    while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
      answers.push(received.subarray(2, 2 + received.readUInt16BE(0)));
      received = received.subarray(2 + received.readUInt16BE(0));
    }
    if (answers.length === messages.length) break;
  }
  return answers;
}

type Options = Partial<Packet> & {
  class?: "IN" | "CH";
  size?: number;
  version?: number;
  over?: "udp" | "tcp";
  to?: number;
};

function encode(
  name: string,
  type: string,
  { class: of = "IN", size, version = 0, ...rest }: Options = {},
): Buffer {
  const opt = { type: "OPT", name: ".", udpPayloadSize: size ?? 0, ednsVersion: version, extendedRcode: 0 };
  return dnsPacket.encode({
    type: "query",
    id: 4711,
    flags: dnsPacket.RECURSION_DESIRED,
    questions: [{ name, type: type as dnsPacket.RecordType, class: of }],
    additionals:
      size === undefined ? [] : [{ ...opt, flags: 0, flag_do: false, options: [] } as dnsPacket.OptAnswer],
    ...rest,
  });
}

async function ask(
  name: string,
  type = "A",
  options: Options = {},
): Promise<DecodedPacket & { bytes: number }> {
  const { over = "udp", to = port, ...rest } = options;
  const message = encode(name, type, rest);
  const answer = over === "udp" ? await sendUdp(message, to) : (await sendTcp([message], to))[0]!;
  return { ...dnsPacket.decode(answer), bytes: answer.length };
}

type Answered = Awaited<ReturnType<typeof ask>>;
const rcode = (answer: Answered) => (answer as unknown as { rcode: string }).rcode;
const data = (answer: Answered) =>
  (answer.answers ?? []).map((one) => ("data" in one ? one.data : undefined));

describe("answers", () => {
  test("are authoritative and say what was asked, in the asker's letters", async () => {
    const answer = await ask("SERVE.Demo.svc.cluster.LOCAL");
    assert.equal(answer.id, 4711);
    assert.equal(rcode(answer), "NOERROR");
    assert.equal(answer.flag_aa, true);
    assert.equal(answer.flag_rd, true);
    assert.equal(answer.questions![0]!.name, "SERVE.Demo.svc.cluster.LOCAL");
    assert.deepEqual(answer.answers![0], {
      name: "SERVE.Demo.svc.cluster.LOCAL",
      type: "A",
      class: "IN",
      ttl: 5,
      flush: false,
      data: "10.11.0.9",
    });
    assert.equal(answer.additionals!.length, 0, "no EDNS unless asked with it");
  });

  test("AAAA, PTR and TXT", async () => {
    assert.deepEqual(data(await ask(`six.${svc}`, "AAAA")), ["fd00::9"]);
    assert.deepEqual(data(await ask("9.0.11.10.in-addr.arpa", "PTR")), [`serve.${svc}`]);
    assert.deepEqual(data(await ask("dns-version.cluster.local", "TXT")).map(String), ["1.1.0"]);
  });

  test("the addresses of a name come in changing order", async () => {
    const orders = new Set<string>();
    for (let i = 0; i < 60; i++) {
      const found = data(await ask(`db.${svc}`)) as string[];
      assert.deepEqual([...found].sort(), ["10.10.0.1", "10.10.0.2", "10.10.0.3"]);
      orders.add(found[0]!);
    }
    assert.equal(orders.size, 3);
  });

  test("SRV records share 100 and bring the addresses of their targets", async () => {
    const one = await ask(`_http._tcp.serve.${svc}`, "SRV");
    assert.deepEqual(data(one), [{ priority: 0, weight: 100, port: 80, target: `serve.${svc}` }]);
    assert.deepEqual(
      one.additionals!.map((r) => ("data" in r ? r.data : "")),
      ["10.11.0.9"],
    );
    const three = await ask(`_sql._tcp.db.${svc}`, "SRV");
    assert.deepEqual(
      (data(three) as { weight: number }[]).map(({ weight }) => weight),
      [33, 33, 33],
    );
    assert.equal(three.additionals!.length, 3);
  });

  test("aliases within our zones are followed, each owner once", async () => {
    const answer = await ask(`alias.${svc}`);
    assert.deepEqual(
      answer.answers!.map(({ name, type }) => [name, type]),
      [
        [`alias.${svc}`, "CNAME"],
        [`serve.${svc}`, "A"],
      ],
    );
    assert.deepEqual(data(await ask(`alias.${svc}`, "CNAME")), [`serve.${svc}`]);
  });

  test("aliases that lead nowhere or in a circle are an empty answer", async () => {
    for (const name of ["loop", "dangling"]) {
      const answer = await ask(`${name}.${svc}`);
      assert.deepEqual([rcode(answer), data(answer)], ["NOERROR", []]);
    }
  });

  test("an alias that leads outside stands alone when nobody can be asked", async () => {
    const answer = await ask(`out.${svc}`);
    assert.deepEqual([rcode(answer), data(answer)], ["NOERROR", ["www.example.org"]]);
  });
});

describe("no answer", () => {
  const soa = {
    mname: "ns.dns.cluster.local",
    rname: "hostmaster.cluster.local",
    refresh: 7200,
    retry: 1800,
    expire: 86_400,
    minimum: 5,
  };
  const cases: [string, string, string][] = [
    [`nobody.${svc}`, "A", "NXDOMAIN"],
    [`below.serve.${svc}`, "A", "NXDOMAIN"],
    [`serve.${svc}`, "AAAA", "NOERROR"],
    [`serve.${svc}`, "MX", "NOERROR"],
    [`serve.${svc}`, "ANY", "NOERROR"],
    [`serve.${svc}`, "HTTPS", "NOERROR"],
    [`serve.${svc}`, "CNAME", "NOERROR"],
    ["demo.svc.cluster.local", "A", "NOERROR"],
    ["svc.cluster.local", "A", "NOERROR"],
    ["cluster.local", "A", "NOERROR"],
  ];
  for (const [name, type, expected] of cases) {
    test(`${name} ${type}: ${expected}, with the zone's SOA`, async () => {
      const answer = await ask(name, type === "HTTPS" ? "UNKNOWN_65" : type);
      assert.equal(rcode(answer), expected);
      assert.equal(answer.flag_aa, true);
      assert.equal(answer.answers!.length, 0);
      const [authority] = answer.authorities as [dnsPacket.SoaAnswer];
      assert.equal(authority.name, "cluster.local");
      assert.equal(authority.ttl, 5);
      const { serial, ...rest } = authority.data;
      assert.deepEqual(rest, soa);
      assert.ok(serial! > 1_700_000_000);
    });
  }

  test("the apex has an SOA and a name server with an address", async () => {
    const start = await ask("cluster.local", "SOA");
    assert.equal(start.answers![0]!.type, "SOA");
    const servers = await ask("cluster.local", "NS");
    assert.deepEqual(data(servers), ["ns.dns.cluster.local"]);
    assert.deepEqual(
      servers.additionals!.map((r) => ("data" in r ? r.data : "")),
      ["127.0.0.1"],
    );
    assert.deepEqual(data(await ask("ns.dns.cluster.local")), ["127.0.0.1"]);
  });

  test("names of nobody's zone are refused, as are transfers and other classes", async () => {
    assert.equal(rcode(await ask("example.org")), "REFUSED");
    assert.equal(rcode(await ask("1.2.3.4.in-addr.arpa", "PTR")), "REFUSED", "not ours, falls through");
    assert.equal(rcode(await ask("cluster.local", "AXFR")), "REFUSED");
    assert.equal(rcode(await ask("version.bind", "TXT", { class: "CH" })), "REFUSED");
    assert.equal(rcode(await ask(".")), "REFUSED");
  });

  test("before the content is known nobody is told that a name does not exist", async () => {
    synced = false;
    assert.equal(rcode(await ask(`nobody.${svc}`)), "SERVFAIL");
    assert.equal(rcode(await ask("demo.svc.cluster.local")), "SERVFAIL");
    assert.equal(rcode(await ask(`dangling.${svc}`)), "SERVFAIL");
    assert.deepEqual(data(await ask(`serve.${svc}`)), ["10.11.0.9"]);
    assert.equal(
      rcode(await ask(`serve.${svc}`, "AAAA")),
      "NOERROR",
      "resolvers ask for both, and want both answered",
    );
    synced = true;
  });
});

describe("size", () => {
  test("over UDP what does not fit is left out, and the client told to come back", async () => {
    const small = await ask(`many.${svc}`);
    assert.equal(small.flag_tc, true);
    assert.ok(small.bytes <= 512 && small.bytes > 480);
    const larger = await ask(`many.${svc}`, "A", { size: 1232 });
    assert.equal(larger.flag_tc, true);
    assert.ok(larger.bytes <= 1232 && larger.bytes > 1200);
    const greedy = await ask(`many.${svc}`, "A", { size: 65_000 });
    assert.ok(greedy.bytes <= 1232, "no fragments, whatever the client says");
  });

  test("over TCP all of it comes", async () => {
    const all = await ask(`many.${svc}`, "A", { over: "tcp" });
    assert.equal(all.flag_tc, false);
    assert.equal(new Set(data(all)).size, 200);
    assert.equal(all.bytes, 12 + 29 + 4 + 200 * 16, "owners are pointers");
  });

  test("additional records are left out without a word", async () => {
    const answer = await ask(`_sql._tcp.db.${svc}`, "SRV");
    assert.equal(answer.answers!.length, 3);
    assert.equal(answer.flag_tc, false);
  });

  test("EDNS is answered with EDNS, an unknown version with BADVERS", async () => {
    const answer = await ask(`serve.${svc}`, "A", { size: 4096 });
    const [opt] = answer.additionals as [dnsPacket.OptAnswer];
    assert.equal(opt.type, "OPT");
    assert.equal(opt.udpPayloadSize, 1232);
    const unknown = await ask(`serve.${svc}`, "A", { size: 4096, version: 1 });
    assert.equal((unknown.additionals![0] as dnsPacket.OptAnswer).extendedRcode, 1);
    assert.equal(unknown.answers!.length, 0);
  });

  test("one TCP connection may ask many things at once", async () => {
    const names = [`serve.${svc}`, `db.${svc}`, `nobody.${svc}`];
    const answers = await sendTcp(names.map((name, id) => encode(name, "A", { id })));
    assert.deepEqual(
      answers.map((answer) => dnsPacket.decode(answer)).map(({ id, answers }) => [id, answers!.length]),
      [
        [0, 1],
        [1, 3],
        [2, 0],
      ],
    );
  });
});

describe("hostile packets", () => {
  const query = encode(`serve.${svc}`, "A", { size: 1232 });

  test("whatever bytes come, the server lives and answers at most once", async () => {
    const mutated = fc
      .array(fc.tuple(fc.nat(query.length - 1), fc.nat(255)), { maxLength: 8 })
      .map((changes) => {
        const message = Buffer.from(query);
        for (const [at, byte] of changes) message[at] = byte;
        return message;
      });
    const cut = fc.nat(query.length).map((length) => query.subarray(0, length));
    const noise = fc.uint8Array({ maxLength: 600 }).map((bytes) => Buffer.from(bytes));
    const socket = createSocket("udp4");
    let answers = 0;
    socket.on("message", () => answers++);
    let sent = 0;
    await fc.assert(
      fc.asyncProperty(fc.oneof(mutated, cut, noise), async (message) => {
        sent++;
        socket.send(message, port, "127.0.0.1");
        if (sent % 20 === 0) assert.deepEqual(data(await ask(`serve.${svc}`)), ["10.11.0.9"]);
      }),
      { numRuns: 1000 },
    );
    assert.ok(answers <= sent);
    socket.close();
    assert.deepEqual(bugs, []);
  });

  test("what is no query gets the error that it deserves", async () => {
    const rest = { flags: 0, questions: [] as dnsPacket.Question[] };
    const none = dnsPacket.decode(await sendUdp(dnsPacket.encode({ type: "query", id: 1, ...rest })));
    assert.equal((none as unknown as { rcode: string }).rcode, "FORMERR");
    const notify = Buffer.from(query);
    notify[2] = 4 << 3;
    assert.equal((dnsPacket.decode(await sendUdp(notify)) as unknown as { rcode: string }).rcode, "NOTIMP");
    const pointerLoop = Buffer.concat([query.subarray(0, 12), Buffer.from([0xc0, 0x0c, 0, 1, 0, 1])]);
    assert.equal(
      (dnsPacket.decode(await sendUdp(pointerLoop)) as unknown as { rcode: string }).rcode,
      "FORMERR",
    );
  });

  test("garbage over TCP ends its own connection at most", async () => {
    const socket = connect(port, "127.0.0.1");
    socket.write(Buffer.from([0xff, 0xff, 1, 2, 3]));
    socket.end();
    socket.resume();
    await once(socket, "close");
    assert.deepEqual(data(await ask(`serve.${svc}`, "A", { over: "tcp" })), ["10.11.0.9"]);
  });
});

describe("forwarding", () => {
  let upstream: DnsServer;
  let own: DnsServer;
  let at: number;
  let upstreamAt: number;

  before(async () => {
    const theirs = new Zones();
    theirs.add({ name: "clusterset.local" });
    theirs.add({ name: "example.org" });
    theirs.put(a("serve.demo.svc.clusterset.local", "10.11.0.77"));
    theirs.put(a("www.example.org", "192.0.2.1"));
    for (let i = 0; i < 200; i++) theirs.put(a("many.example.org", `192.0.2.${i}`));
    upstream = createDnsServer({ world, zones: theirs });
    upstreamAt = (await upstream.listen({ address: "127.0.0.1", port: 0 })).port;
    own = createDnsServer({
      world,
      zones,
      forward: [
        { zone: "clusterset.local", to: [`127.0.0.1:${upstreamAt}`] },
        { zone: "example.org.", to: ["127.0.0.1:1", `127.0.0.1:${upstreamAt}`] },
        { zone: ".", to: [] },
      ],
    });
    at = (await own.listen({ address: "127.0.0.1", port: 0 })).port;
  });
  after(async () => {
    await own.close();
    await upstream.close();
  });

  test("a stub domain's names come from its server, as they are", async () => {
    const answer = await ask("serve.DEMO.svc.clusterset.local", "A", { to: at });
    assert.equal(answer.id, 4711);
    assert.deepEqual(data(answer), ["10.11.0.77"]);
    assert.equal(answer.questions![0]!.name, "serve.DEMO.svc.clusterset.local");
    assert.equal(rcode(await ask("nobody.svc.clusterset.local", "A", { to: at })), "NXDOMAIN");
  });

  test("a server that does not answer is passed over", async () => {
    for (let i = 0; i < 4; i++)
      assert.deepEqual(data(await ask("www.example.org", "A", { to: at })), ["192.0.2.1"]);
  });

  test("what was truncated comes whole over TCP", async () => {
    assert.equal((await ask("many.example.org", "A", { to: at })).flag_tc, true);
    assert.equal((await ask("many.example.org", "A", { to: at, over: "tcp" })).answers!.length, 200);
  });

  test("an alias that leads outside is completed there", async () => {
    assert.deepEqual(data(await ask(`out.${svc}`, "A", { to: at })), ["www.example.org", "192.0.2.1"]);
  });

  test("a name that nobody knows does not exist, at once", async () => {
    assert.equal(rcode(await ask("example.com", "A", { to: at })), "NXDOMAIN");
    assert.equal(rcode(await ask("1.2.3.4.in-addr.arpa", "PTR", { to: at })), "NXDOMAIN");
  });

  test("rules change without a restart, and bad ones change nothing", async () => {
    assert.throws(() => own.forward([{ zone: ".", to: ["not an address"] }]), RangeError);
    assert.deepEqual(data(await ask("www.example.org", "A", { to: at })), ["192.0.2.1"]);
    own.forward([{ zone: "example.org", to: ["127.0.0.1:1"] }]);
    assert.equal(rcode(await ask("www.example.org", "A", { to: at })), "SERVFAIL");
    assert.equal(rcode(await ask("serve.demo.svc.clusterset.local", "A", { to: at })), "REFUSED");
  });

  test("a server that is silent costs its patience and no more", async () => {
    const silent = createSocket("udp4");
    silent.bind(0, "127.0.0.1");
    await once(silent, "listening");
    const clock = new SimulatedWorld(1);
    const waiting = createDnsServer({
      world: clock,
      zones: new Zones(),
      forward: [{ zone: ".", to: [`127.0.0.1:${silent.address().port}`] }],
    });
    const { port: to } = await waiting.listen({ address: "127.0.0.1", port: 0 });
    let heard = 0;
    silent.on("message", () => {
      heard++;
      // The test's clock moves only once the query is on its way.
      setImmediate(() => void clock.advance(2000));
    });
    assert.equal(rcode(await ask("example.org", "A", { to })), "SERVFAIL");
    assert.equal(heard, 2, "asked twice");
    await waiting.close();
    silent.close();
  });

  test("resolv.conf is read", () => {
    assert.deepEqual(
      nameServersOf("# nameserver 9.9.9.9\nnameserver 10.0.0.1\n nameserver  fd00::1 # x\nsearch a\n"),
      ["10.0.0.1", "fd00::1"],
    );
  });
});

test("a port that is taken is an error with its code, and nothing stays open", async () => {
  const second = createDnsServer({ world, zones: new Zones() });
  await assert.rejects(second.listen({ address: "127.0.0.1", port }), { code: "EADDRINUSE" });
  await second.close();
});

// A second opinion where it is installed; all of it is tested above with a codec that is not ours either.
const dig = spawnSync("dig", ["-v"]).error === undefined ? test : () => {};
dig("dig reads the answers", async () => {
  const run = async (...args: string[]) => {
    const child = spawn("dig", ["@127.0.0.1", "-p", `${port}`, "+tries=1", ...args]);
    let out = "";
    for await (const chunk of child.stdout) out += chunk;
    return out;
  };
  assert.equal((await run("+short", `serve.${svc}`)).trim(), "10.11.0.9");
  const many = await run(`many.${svc}`);
  assert.equal(
    many.match(/\tA\t10\.10\.1\./g)?.length,
    200,
    "after a truncated answer it comes back over TCP",
  );
  assert.doesNotMatch(many, /WARNING: (Message|.*malformed)/i);
  assert.match(await run("SRV", `_sql._tcp.db.${svc}`), /ANSWER: 3, AUTHORITY: 0, ADDITIONAL: 4/);
  assert.match(
    await run(`nobody.${svc}`),
    /status: NXDOMAIN[\s\S]*SOA\tns\.dns\.cluster\.local\. hostmaster/,
  );
});
