/** The embedded proxy as a client of our discovery: what it is told, it does, and goes on without it. */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { createServer, request } from "node:http";
import { connect } from "node:net";
import { after, before, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { eventually } from "../../test/support/eventually.ts";
import { freePort } from "../../test/support/ports.ts";
import { makeCa, type TestCa } from "../xds/testing/certificates.ts";
import {
  anyPath,
  chain,
  endpoint,
  endpointsOf,
  forward,
  httpHandler,
  listener,
  route,
  routeTable,
  tcpHandler,
  upstream,
  virtualHost,
} from "../xds/testing/features.ts";
import { startDiscovery, type TestDiscovery } from "../xds/testing/world.ts";
import { type EmbeddedProxy, startProxy } from "./index.ts";

const spiffeId = "spiffe://cluster.local/ns/coolapp/sa/gateway";
let ca: TestCa;
let discovery: TestDiscovery;
let proxy: EmbeddedProxy;
let port: number;
const lines: string[] = [];
const servers: { close(): unknown }[] = [];

async function listening(server: ReturnType<typeof createServer>): Promise<number> {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as { port: number }).port;
}

const application = (name: string) => listening(createServer((_, response) => response.end(name)));

function get(headers = {}): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ host: "127.0.0.1", port, headers, agent: false }, (response) => {
      let body = "";
      response.on("data", (data) => (body += data));
      response.on("end", () => resolve({ status: response.statusCode!, body }));
    });
    outgoing.on("error", reject).end();
  });
}

const told = (what: string) => () => `${what}\n${[...lines, ...discovery.lines].join("\n")}\n`;

const v1 = "outbound|8080|v1|catalog";
const v2 = "outbound|8080|v2|catalog";
const front = (...more: Parameters<typeof chain>[]) =>
  listener(
    "front",
    port,
    [chain("http", httpHandler("8080", { accessLog: false })), ...more.map((args) => chain(...args))],
    { address: "127.0.0.1" },
  );
const tableTo = (...upstreams: string[]) =>
  routeTable("8080", [virtualHost("all", ["*"], route(forward(...upstreams)))]);
const kind = (name: "cluster" | "route" | "listener") => discovery.xds.proxies()[0]?.kinds[name];

before(async () => {
  ca = await makeCa();
  port = await freePort();
  discovery = await startDiscovery(ca);
  const own = await ca.issue({ uri: spiffeId });
  discovery.serve({ listeners: [front()], routes: [tableTo(v1)], upstreams: [upstream(v1), upstream(v2)] });
  discovery.endpoints.put(endpointsOf(v1, endpoint("127.0.0.1", await application("v1"))));
  discovery.endpoints.put(endpointsOf(v2, endpoint("127.0.0.1", await application("v2"))));
  discovery.engine.settle();
  proxy = await startProxy({
    node: {
      id: "sidecar~127.0.0.1~gateway-1.coolapp~coolapp.svc.cluster.local",
      cluster: "gateway.coolapp",
      metadata: { NAMESPACE: "coolapp", SERVICE_ACCOUNT: "gateway", LABELS: { app: "gateway" } },
      locality: { region: "", zone: "", subZone: "" },
    },
    ads: { host: "localhost", port: discovery.port },
    identity: {
      current: { certificatePem: own.cert, keyPem: own.key, bundles: { "cluster.local": ca.ca } },
      onChange: () => () => undefined,
    },
    drainTime: 1_000,
    log: (level, message) => lines.push(`${level} ${message}`),
  });
  await proxy.ready;
});

after(async () => {
  await proxy?.stop();
  await discovery?.stop();
  for (const server of servers) server.close();
});

test("when it is ready it serves what discovery has, and says so", async () => {
  assert.equal(proxy.live, true);
  assert.deepEqual(await get(), { status: 200, body: "v1" });
  await eventually(
    told("synced"),
    () => kind("route")?.state === "synced" && kind("listener")?.state === "synced",
  );
  assert.equal(discovery.xds.proxies()[0]?.pod, "gateway-1");
});

test("routes move to clusters, also to new ones, without a failed request", async () => {
  const answers: string[] = [];
  let stop = false;
  const load = (async () => {
    while (!stop) {
      const { status, body } = await get();
      answers.push(status === 200 ? body : `${status} ${body}`);
    }
  })();
  discovery.serve({ listeners: [front()], routes: [tableTo(v2)], upstreams: [upstream(v2)] });
  await eventually(told("v2"), () => answers.at(-1) === "v2");
  const target = await application("new");
  for (let i = 0; i < 10; i++) {
    const name = `outbound|8080|new${i}|catalog`;
    discovery.endpoints.put(endpointsOf(name, endpoint("127.0.0.1", target)));
    discovery.serve({ listeners: [front()], routes: [tableTo(name)], upstreams: [upstream(name)] });
    const seen = answers.length;
    await eventually(
      told(name),
      () => discovery.xds.proxies()[0]?.lag === 0 && answers.length > seen && answers.at(-1) === "new",
    );
  }
  stop = true;
  await load;
  assert.deepEqual(
    answers.filter((each) => !["v1", "v2", "new"].includes(each)),
    [],
  );
});

test("a change of one chain leaves the connections of the others alone", async () => {
  const echo = await listening(
    createServer()
      .on("connection", (socket) => socket.pipe(socket))
      .on("clientError", () => undefined),
  );
  const tcp = "outbound|9000||echo";
  discovery.endpoints.put(endpointsOf(tcp, endpoint("127.0.0.1", echo)));
  const own = await freePort();
  const at = (...chains: Parameters<typeof chain>[]) =>
    listener(
      "two",
      own,
      chains.map((args) => chain(...args)),
      { address: "127.0.0.1", inspect: ["http"] },
    );
  const stays: Parameters<typeof chain> = [
    "tcp",
    { ...tcpHandler(v1), accessLog: false },
    { applicationProtocols: ["http/1.1"] },
  ];
  const serve = (statPrefix: string) =>
    discovery.serve({
      listeners: [front(), at(stays, ["other", { ...tcpHandler(tcp), statPrefix }])],
      routes: [tableTo(v1)],
      upstreams: [upstream(v1), upstream(tcp)],
    });
  serve("one");
  await eventually(told("the listener"), () => proxy.listenerAddress("two"));
  const socket = await eventually(
    told("a connection"),
    () =>
      new Promise<ReturnType<typeof connect> | undefined>((resolve) => {
        const made = connect({ host: "127.0.0.1", port: own }, () => resolve(made));
        made.on("error", () => resolve(undefined));
      }),
  );
  let closed = false;
  let got = "";
  socket.on("close", () => {
    closed = true;
  });
  socket.on("data", (data: Buffer) => {
    got += String(data);
  });
  socket.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
  await eventually(told("an answer"), () => got.includes("v1"));
  // The other chain changes twice, long enough for a drained connection to be closed.
  for (const prefix of ["two", "three"]) {
    serve(prefix);
    await eventually(told(prefix), () => discovery.xds.proxies()[0]?.lag === 0);
  }
  await new Promise((resolve) => setTimeout(resolve, 1_200));
  assert.equal(closed, false);
  got = "";
  socket.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
  await eventually(told("an answer on the old connection"), () => got.includes("v1"));
  socket.destroy();
});

test("what cannot be served is refused by name, the rest is taken and the last good stays", async () => {
  const two = ["a.example", "b.example"].map((name) => endpoint(name, 80));
  const base = { listeners: [front()], routes: [tableTo(v1)] };
  const bad = upstream("bad", { discovery: "logical-dns", endpoints: two }); // may have one only
  discovery.serve({ ...base, upstreams: [upstream(v1), upstream("good"), bad] });
  const rejected = await eventually(told("a rejection"), () => kind("cluster")?.rejected[0]);
  assert.equal(rejected.name, "bad");
  assert.match(rejected.reason, /LOGICAL_DNS/);
  assert.equal((await get()).body, "v1");
  const broken = { match: { ...anyPath, path: { kind: "regex", value: "(" } as const } };
  discovery.serve({
    ...base,
    routes: [routeTable("8080", [virtualHost("all", ["*"], route(forward(v1), broken))])],
    upstreams: [upstream(v1)],
  });
  await eventually(told("a rejected table"), () => kind("route")?.rejected[0]);
  assert.equal((await get()).body, "v1");
  discovery.serve({ ...base, upstreams: [upstream(v1)] });
  await eventually(
    told("mended"),
    () => kind("cluster")?.state === "synced" && kind("route")?.state === "synced",
  );
});

test("without discovery it goes on with what it has, and takes up again where it was", async () => {
  const { port: at } = discovery;
  await discovery.stop();
  await eventually(told("the end"), () =>
    lines.some((line) => line.includes("the stream from discovery ended")),
  );
  assert.equal((await get()).body, "v1");
  assert.equal(proxy.live, true);
  discovery = await startDiscovery(ca, at);
  discovery.endpoints.put(endpointsOf(v2, endpoint("127.0.0.1", await application("v2 after"))));
  discovery.serve({ listeners: [front()], routes: [tableTo(v2)], upstreams: [upstream(v2)] });
  await eventually(told("the new discovery's word"), async () => (await get()).body === "v2 after");
});

test("a credential comes over the same stream, and is changed without its listener", async () => {
  const name = "kubernetes://coolapp/credential";
  const secure = await freePort();
  const issued = async () => {
    const { cert, key } = await ca.issue({ dns: ["shop.example"] });
    return { cert, key };
  };
  const shown = () =>
    new Promise<string | undefined>((resolve) => {
      const socket = connectTls(
        { host: "127.0.0.1", port: secure, servername: "shop.example", rejectUnauthorized: false },
        () => {
          resolve(socket.getPeerX509Certificate()?.serialNumber);
          socket.destroy();
        },
      );
      socket.on("error", () => resolve(undefined));
    });
  const serialOf = ({ cert }: { cert: string }) => new X509Certificate(cert).serialNumber;
  discovery.serve({
    listeners: [
      front(),
      listener(
        "secure",
        secure,
        [
          chain(
            "https",
            httpHandler("8080", { accessLog: false }),
            { serverNames: ["shop.example"] },
            { tls: { certificate: { secret: name }, client: "none", trust: "mesh", alpn: ["http/1.1"] } },
          ),
        ],
        { address: "127.0.0.1", inspect: ["tls"] },
      ),
    ],
    routes: [tableTo(v2)],
    upstreams: [upstream(v2)],
    secrets: [name],
  });
  for (const pair of [await issued(), await issued()]) {
    discovery.secrets.put({ name, certificate: pair.cert, key: pair.key });
    discovery.engine.settle();
    await eventually(told("the certificate"), async () => (await shown()) === serialOf(pair));
  }
});

test("a credential that is missing or broken keeps nobody waiting but those who need it", async () => {
  const secure = await freePort();
  const secret = (name: string) => `kubernetes://coolapp/${name}`;
  const names = ["missing", "broken", "good"];
  const { cert, key } = await ca.issue({ dns: ["good.example"] });
  discovery.secrets.put({ name: secret("good"), certificate: cert, key });
  discovery.secrets.put({ name: secret("broken"), certificate: "no certificate", key: "no key" });
  const chains = names.map((name) =>
    chain(
      name,
      httpHandler("8080", { accessLog: false }),
      { serverNames: [`${name}.example`] },
      { tls: { certificate: { secret: secret(name) }, client: "none", trust: "mesh", alpn: ["http/1.1"] } },
    ),
  );
  discovery.serve({
    listeners: [front(), listener("several", secure, chains, { address: "127.0.0.1", inspect: ["tls"] })],
    routes: [tableTo(v2)],
    upstreams: [upstream(v2)],
    secrets: names.map(secret),
  });
  const greeted = (name: string) =>
    new Promise<boolean>((resolve) => {
      const socket = connectTls(
        { host: "127.0.0.1", port: secure, servername: `${name}.example`, rejectUnauthorized: false },
        () => {
          resolve(true);
          socket.destroy();
        },
      );
      socket.on("error", () => resolve(false));
    });
  // Less than the 15 seconds that a secret is waited for while nobody says that there is none.
  await eventually(told("the certificate that is there"), () => greeted("good"));
  assert.deepEqual([await greeted("missing"), await greeted("broken")], [false, false]);
  discovery.secrets.put({ name: secret("missing"), certificate: cert, key });
  discovery.engine.settle();
  await eventually(told("the certificate that came later"), () => greeted("missing"));
});
