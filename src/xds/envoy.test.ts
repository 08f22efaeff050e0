/** The real Envoy is a client of the server: what it is told, it does. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { eventually } from "../../test/support/eventually.ts";
import { freePort } from "../../test/support/ports.ts";
import { bootstrap, discoveryRootsFile } from "../agent/bootstrap.ts";
import { sdsOf } from "../identity/index.ts";
import { makeCa } from "./testing/certificates.ts";
import { noEnvoy, startEnvoy } from "./testing/envoy.ts";
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
  upstream,
  virtualHost,
} from "./testing/features.ts";
import { startDiscovery, type TestDiscovery } from "./testing/world.ts";

const directory = mkdtempSync(join(tmpdir(), "weft-envoy-"));
const spiffeId = "spiffe://cluster.local/ns/coolapp/sa/gateway";
let discovery: TestDiscovery;
let envoy: ReturnType<typeof startEnvoy>;
let port: number;
const servers: { close(): unknown }[] = [];

/** An application that answers with its name. */
async function application(name: string): Promise<number> {
  const server = createServer((_, response) => response.end(name));
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

function get(
  path: string,
  headers = {},
  to = port,
): Promise<{ status: number; body: string; headers: Record<string, unknown> }> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ host: "127.0.0.1", port: to, path, headers, agent: false }, (response) => {
      let body = "";
      response.on("data", (data) => (body += data));
      response.on("end", () => resolve({ status: response.statusCode!, body, headers: response.headers }));
    });
    outgoing.on("error", reject).end();
  });
}

/** Fails with what Envoy and discovery said. */
function soon<T>(attempt: () => Promise<T> | T, what: string) {
  const said = () => `${what}; Envoy says:\n${envoy.output()}\n${discovery.lines.join("\n")}`;
  return eventually(said, attempt);
}

const v1 = "outbound|8080|v1|catalog";
const v2 = "outbound|8080|v2|catalog";
const listening = () =>
  listener("front", port, [chain("http", httpHandler("8080", { accessLog: false }))], {
    address: "127.0.0.1",
  });
const tableTo = (...upstreams: string[]) =>
  routeTable("8080", [virtualHost("all", ["*"], route(forward(...upstreams)))]);

before(async () => {
  if (noEnvoy) return;
  port = await freePort();
  const ca = await makeCa();
  discovery = await startDiscovery(ca);
  const own = await ca.issue({ uri: spiffeId });
  const files = sdsOf({
    certificatePem: `${own.cert}\n`,
    keyPem: own.key,
    bundles: { "cluster.local": `${ca.ca}\n` },
  });
  for (const [name, contents] of Object.entries(files))
    writeFileSync(join(directory, `${name}.json`), contents);
  writeFileSync(join(directory, "DISCOVERY.json"), discoveryRootsFile(`${ca.ca}\n`));
  const config = bootstrap({
    node: {
      id: "sidecar~127.0.0.1~gateway-1.coolapp~coolapp.svc.cluster.local",
      cluster: "gateway.coolapp",
      metadata: {
        NAMESPACE: "coolapp",
        SERVICE_ACCOUNT: "gateway",
        LABELS: { app: "gateway" },
        PROXY_IMPLEMENTATION: "envoy",
      },
      locality: { region: "", zone: "", subZone: "" },
    },
    ads: { host: "localhost", port: discovery.port },
    bindAddress: undefined,
    sds: directory,
  });
  const file = join(directory, "envoy.json");
  const text = JSON.stringify(config).replace('"port_value":15000', '"port_value":0');
  writeFileSync(file, text);
  envoy = startEnvoy(file);
});

after(async () => {
  for (const server of servers) server.close();
  await envoy?.stop();
  await discovery?.stop();
  rmSync(directory, { recursive: true, force: true });
});

test("Envoy connects with its certificate, becomes a row, and serves what it is given", {
  skip: noEnvoy,
}, async () => {
  discovery.serve({
    listeners: [listening()],
    routes: [tableTo(v1)],
    upstreams: [upstream(v1), upstream(v2)],
  });
  discovery.endpoints.put(endpointsOf(v1, endpoint("127.0.0.1", await application("v1"))));
  const answer = await soon(async () => {
    const answer = await get("/");
    return answer.status === 200 ? answer : undefined;
  }, "an answer");
  assert.equal(answer.body, "v1");
  assert.equal(answer.headers.server, "istio-envoy");
  assert.match(String(answer.headers["x-envoy-upstream-service-time"]), /^\d+$/);
  await soon(() => discovery.xds.proxies()[0]?.kinds.route.state === "synced" || undefined, "synced");
  const [status] = discovery.xds.proxies();
  assert.equal(status?.pod, "gateway-1");
  assert.equal(status?.implementation, "envoy");
  assert.match(status?.version ?? "", /^1\.\d+\.\d+$/);
  assert.equal(status?.kinds.cluster.resources, 2);
  assert.equal(status?.lag, 0);
  assert.equal(discovery.proxies.size, 1);
});

test("routes move to another cluster, also to a new one, without a failed request", {
  skip: noEnvoy,
}, async (t) => {
  discovery.endpoints.put(endpointsOf(v2, endpoint("127.0.0.1", await application("v2"))));
  const answers: string[] = [];
  let stop = false;
  t.after(() => {
    stop = true;
  });
  const load = (async () => {
    while (!stop) {
      const { status, body } = await get("/");
      answers.push(status === 200 ? body : `${status} ${body}`);
    }
  })();
  discovery.serve({ listeners: [listening()], routes: [tableTo(v2)], upstreams: [upstream(v2)] });
  await soon(() => answers.at(-1) === "v2" || undefined, "v2");
  // A cluster that is new at the same time as the route to it, ten times over.
  const port = await application("new");
  for (let i = 0; i < 10; i++) {
    const name = `outbound|8080|new${i}|catalog`;
    discovery.endpoints.put(endpointsOf(name, endpoint("127.0.0.1", port)));
    discovery.serve({ listeners: [listening()], routes: [tableTo(name)], upstreams: [upstream(name)] });
    const seen = answers.length;
    await soon(
      () =>
        discovery.xds.proxies()[0]?.lag === 0 && answers.length > seen && answers.at(-1) === "new"
          ? true
          : undefined,
      name,
    );
    assert.deepEqual(
      [...(discovery.xds.proxy("gateway-1.coolapp")?.session.held("cluster").keys() ?? [])],
      [name],
    );
  }
  stop = true;
  await load;
  assert.deepEqual(
    answers.filter((each) => !["v1", "v2", "new"].includes(each)),
    [],
  );
});

test("what Envoy rejects is found among the rest, recorded, and mended by the next version", {
  skip: noEnvoy,
}, async () => {
  const good = Array.from({ length: 6 }, (_, i) => upstream(`good${i}`));
  const two = ["a.example", "b.example"].map((name) => endpoint(name, 80));
  const bad = upstream("bad", { discovery: "logical-dns", endpoints: two }); // may have one only
  const base = { listeners: [listening()], routes: [tableTo(v1)] };
  discovery.endpoints.put(endpointsOf(v1, endpoint("127.0.0.1", await application("v1 again"))));
  discovery.serve({ ...base, upstreams: [upstream(v1), ...good.slice(0, 3), bad, ...good.slice(3)] });
  const rejected = await soon(() => discovery.xds.proxies()[0]?.kinds.cluster.rejected[0], "a rejection");
  assert.equal(rejected.name, "bad");
  assert.match(rejected.reason, /LOGICAL_DNS/);
  await soon(async () => (await get("/")).body === "v1 again" || undefined, "the rest");
  await soon(
    () => discovery.xds.proxy("gateway-1.coolapp")?.session.held("cluster").size === 7 || undefined,
    "the others",
  );
  assert.equal(discovery.xds.proxies()[0]?.kinds.cluster.state, "rejected");
  discovery.serve({ ...base, upstreams: [upstream(v1), ...good, upstream("bad")] });
  await soon(() => discovery.xds.proxies()[0]?.kinds.cluster.state === "synced" || undefined, "mended");
});

test("an unknown cluster is 503, a host that nobody has 404, a broken route keeps the last good", {
  skip: noEnvoy,
}, async () => {
  const upstreams = [upstream(v1)];
  const hosts = (path: Parameters<typeof route>[1]) =>
    routeTable("8080", [
      virtualHost("a", ["a.example"], route(forward(v1), path)),
      virtualHost("b", ["b.example"], route(forward("not there"))),
    ]);
  discovery.serve({ listeners: [listening()], routes: [hosts({})], upstreams });
  // The table before this one has no such host.
  await soon(async () => (await get("/", { host: "b.example" })).status === 503 || undefined, "b");
  assert.equal((await get("/", { host: "a.example" })).status, 200);
  assert.equal((await get("/", { host: "a.example:1234" })).status, 200);
  assert.equal((await get("/", { host: "c.example" })).status, 404);
  const broken = { match: { ...anyPath, path: { kind: "regex", value: "(" } as const } };
  discovery.serve({ listeners: [listening()], routes: [hosts(broken)], upstreams });
  const { reason } = await soon(() => discovery.xds.proxies()[0]?.kinds.route.rejected[0], "a rejection");
  assert.match(reason, /missing|\(/);
  assert.equal((await get("/", { host: "a.example" })).status, 200);
});

test("local rate limits count all requests, some, or those of each value", { skip: noEnvoy }, async () => {
  // Tokens come back steadily: with so few of them none does while this runs, however long it takes.
  const limit = { name: "calm", tokens: 2, fill: 2, interval: 3_600_000, origins: [] };
  const inline = routeTable("inline", [
    virtualHost("all", ["*"], route(forward(v1))),
    virtualHost(
      "b",
      ["b.example"],
      route(forward(v1), { rateLimits: [{ ...limit, per: { kind: "header", name: "x-user" } }] }),
    ),
  ]);
  const api = { ...anyPath, path: { kind: "path-prefix", value: "/api" } } as const;
  const with_ = (rateLimits: Parameters<typeof httpHandler>[1]) =>
    discovery.serve({
      listeners: [
        listener("front", port, [chain("http", httpHandler(inline, { accessLog: false, ...rateLimits }))], {
          address: "127.0.0.1",
        }),
      ],
      upstreams: [upstream(v1)],
    });
  const times = async (count: number, ...request: Parameters<typeof get>) => {
    const statuses: number[] = [];
    for (let i = 0; i < count; i++) statuses.push((await get(...request)).status);
    return statuses;
  };
  const until = (what: string) => soon(() => discovery.xds.proxies()[0]?.lag === 0 || undefined, what);

  with_({ rateLimits: [limit] });
  await until("all");
  await soon(async () => (await get("/")).status === 429 || undefined, "the limit");
  assert.equal((await get("/")).headers["retry-after"], "3600");

  with_({ rateLimits: [{ ...limit, match: api }] });
  await until("some");
  await soon(async () => (await get("/")).status === 200 || undefined, "the new listener");
  assert.deepEqual(await times(4, "/"), [200, 200, 200, 200]);
  assert.deepEqual(await times(3, "/api/x?y=/"), [200, 200, 429]);
  assert.deepEqual(await times(1, "/apis"), [200]);

  with_({
    rateLimits: [
      {
        ...limit,
        match: { ...api, path: { kind: "prefix", value: "/" } },
        per: { kind: "header", name: "x-user" },
      },
    ],
  });
  await until("by value");
  await soon(async () => (await get("/api/x?y=/")).status === 200 || undefined, "the new listener");
  const users = Array.from({ length: 60 }, (_, i) => ({ "x-user": `user${i}` }));
  for (const headers of users) assert.deepEqual(await times(2, "/", headers), [200, 200]);
  for (const headers of users) assert.deepEqual(await times(1, "/", headers), [429]);
  // Those without a value share one bucket, of which one token was used above.
  assert.deepEqual(await times(3, "/"), [200, 429, 429]);
  // And of one route.
  assert.deepEqual(await times(3, "/", { host: "b.example", "x-user": "other" }), [200, 200, 429]);

  with_({ rateLimits: [{ ...limit, per: { kind: "client-identity" } }] });
  await until("by identity");
  await soon(async () => (await get("/")).status === 200 || undefined, "the new listener");
  // Nobody shows a certificate here, and nobody may say so without one.
  const forged = { "x-forwarded-client-cert": "By=a;URI=spiffe://cluster.local/ns/a/sa/b" };
  assert.deepEqual(await times(3, "/", forged), [200, 429, 429]);
});

test("who comes back with what it has gets nothing anew", { skip: noEnvoy }, async () => {
  await soon(() => discovery.xds.proxies()[0]?.kinds.cluster.state === "synced" || undefined, "synced");
  const { acknowledged: before } = discovery.xds.proxies()[0]!;
  discovery.serve({ listeners: [listening()], routes: [tableTo(v1)], upstreams: [upstream(v1)] });
  // The table is asked for when the listener has come, which is a change of its own.
  await soon(
    () =>
      discovery.xds
        .proxies()
        .find(
          ({ acknowledged, lag, kinds: { route } }) =>
            acknowledged !== before && lag === 0 && route.resources === 1,
        ),
    "settled",
  );
  const first = discovery.xds.proxies()[0]!;
  discovery.xds.proxy(first.id)?.disconnect("for the test");
  const again = await soon(
    () =>
      discovery.xds
        .proxies()
        .find(
          ({ connectedAt, lag, kinds }) =>
            connectedAt !== first.connectedAt && lag === 0 && kinds.route.state === "synced",
        ),
    "the second stream",
  );
  assert.equal(again.sent.resources, 0);
  assert.equal((await get("/")).body, "v1 again");
});
