import assert from "node:assert/strict";
import { connect, createServer, type Server, type Socket } from "node:net";
import { after, test } from "node:test";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { eventually } from "../../test/support/eventually.ts";
import { makeCa } from "../xds/testing/certificates.ts";
import { type EmbeddedProxy, type IdentityMaterial, type ProxyOptions, startProxy } from "./index.ts";
import {
  clientTls,
  endpoint,
  listener,
  listenerFilter,
  noHttp,
  serverTls,
  staticCluster,
  tcpFilter,
} from "./testing/resources.ts";

const open: { close(): unknown }[] = [];
after(async () => {
  for (const one of open) await one.close();
});

async function listening(server: Server, port = 0): Promise<number> {
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => sockets.add(socket.on("error", () => undefined)));
  open.push({
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  });
  return (server.address() as { port: number }).port;
}

const echo = () => listening(createServer((socket) => socket.pipe(socket)));

async function start(options: Partial<ProxyOptions>): Promise<EmbeddedProxy> {
  const proxy = await startProxy({
    http: noHttp,
    node: { id: "x", cluster: "x", metadata: {}, locality: { region: "", zone: "", subZone: "" } },
    drainTime: 300,
    ...options,
  });
  open.push({ close: () => proxy.stop() });
  return proxy;
}

/** Says a word and hears it back; undefined when the connection is over. */
function say(socket: Socket, word: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    socket.once("data", (data) => resolve(String(data)));
    socket.once("close", () => resolve(undefined));
    if (socket.destroyed) resolve(undefined);
    socket.write(word);
  });
}

const dial = (port: number) => {
  const socket = connect({ host: "127.0.0.1", port });
  socket.on("error", () => undefined);
  return socket;
};

const material = (name: string, sds = {}) => ({ name, sdsConfig: sds });

/** An identity that can be changed. */
function identity(first: IdentityMaterial | undefined) {
  let current = first;
  const listeners = new Set<() => void>();
  return {
    get current() {
      return current;
    },
    onChange(call: () => void) {
      listeners.add(call);
      return () => listeners.delete(call);
    },
    become(next: IdentityMaterial) {
      current = next;
      for (const call of listeners) call();
    },
  };
}

test("a rotated certificate is for new connections; those that are there go on", async () => {
  const ca = await makeCa();
  const make = async (account: string): Promise<IdentityMaterial> => {
    const { cert, key } = await ca.issue({ uri: `spiffe://cluster.local/ns/demo/sa/${account}` });
    return { certificatePem: cert, keyPem: key, bundles: { "cluster.local": ca.ca } };
  };
  const us = identity(undefined);
  const common = {
    tlsCertificateSdsSecretConfigs: [material("default")],
    validationContextType: {
      $case: "validationContextSdsSecretConfig" as const,
      value: material("ROOTCA"),
    },
  };
  const target = await echo();
  // Out through one listener with our certificate, and in again by another that asks for it.
  const probe = createServer();
  const inner = await listening(probe);
  probe.close();
  const proxy = await start({
    identity: us,
    fixed: {
      clusters: new Map([
        staticCluster("echo", [endpoint("127.0.0.1", target)]),
        staticCluster("self", [endpoint("127.0.0.1", inner)], {
          transportSocket: clientTls({ commonTlsContext: common }),
        }),
      ]),
      listeners: new Map([
        listener("out", 0, { filterChains: [{ filters: [tcpFilter("self")] }] }),
        listener("in", inner, {
          filterChains: [
            {
              transportSocket: serverTls({ commonTlsContext: common, requireClientCertificate: true }),
              filters: [tcpFilter("echo")],
            },
          ],
        }),
      ]),
    },
  });
  let ready = false;
  void proxy.ready.then(() => {
    ready = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(ready, false, "it waits for its certificate");
  us.become(await make("first"));
  await proxy.ready;

  const out = proxy.listenerAddress("out")!.port;
  const dialled: Socket[] = [];
  const dial = (port: number) => {
    const socket = connect({ host: "127.0.0.1", port });
    dialled.push(socket.on("error", () => undefined));
    return socket;
  };
  const old = dial(out);
  assert.equal(await say(old, "before"), "before");
  const shown = () =>
    new Promise<string>((resolve) => {
      const { cert, key } = client;
      const socket: TLSSocket = connectTls(
        { port: inner, host: "127.0.0.1", cert, key, rejectUnauthorized: false },
        () => {
          resolve(socket.getPeerX509Certificate()?.subjectAltName ?? "");
          socket.destroy();
        },
      );
      socket.on("error", () => undefined);
    });
  const client = await ca.issue({ uri: "spiffe://cluster.local/ns/demo/sa/client" });
  assert.match(await shown(), /sa\/first$/);
  us.become(await make("second"));
  assert.match(await shown(), /sa\/second$/);
  assert.equal(await say(old, "after"), "after");
  assert.equal(await say(dial(out), "new"), "new");
  // Another root: who is signed by the old one is not believed any more, connections stay.
  const other = await makeCa();
  const { cert, key } = await other.issue({ uri: "spiffe://cluster.local/ns/demo/sa/third" });
  us.become({ certificatePem: cert, keyPem: key, bundles: { "cluster.local": other.ca } });
  assert.equal(await say(old, "still"), "still");
  assert.equal(await say(dial(out), "new"), "new");
  const stranger = connectTls({
    port: inner,
    host: "127.0.0.1",
    cert: client.cert,
    key: client.key,
    rejectUnauthorized: false,
  });
  stranger.on("error", () => undefined);
  assert.equal(await say(stranger, "me?"), undefined);
  // What is over is not counted any more: nothing of TLS is left behind.
  for (const socket of dialled) socket.destroy();
  await eventually(
    "nothing is left",
    () =>
      /upstream_cx_active\{cluster_name="self"\} 0\n/.test(proxy.metrics()) &&
      /upstream_cx_active\{cluster_name="echo"\} 0\n/.test(proxy.metrics()) &&
      new RegExp(`listener_downstream_cx_active\\{listener_address="127.0.0.1_${inner}"\\} 0\\n`).test(
        proxy.metrics(),
      ) &&
      proxy.connections === 0,
  );
});

test("draining waits for connections, stopAccepting lets nobody in any more", async () => {
  const target = await echo();
  const proxy = await start({
    fixed: {
      clusters: new Map([staticCluster("echo", [endpoint("127.0.0.1", target)])]),
      listeners: new Map([listener("l", 0, { filterChains: [{ filters: [tcpFilter("echo")] }] })]),
    },
  });
  await proxy.ready;
  assert.equal(proxy.live, true);
  const { port } = proxy.listenerAddress("l")!;
  const socket = dial(port);
  assert.equal(await say(socket, "a"), "a");
  assert.equal(proxy.connections, 1);
  let drained = false;
  void proxy.drain({ stopAccepting: true }).then(() => {
    drained = true;
  });
  assert.equal(proxy.live, false);
  assert.equal(await say(dial(port), "b"), undefined);
  assert.equal(await say(socket, "c"), "c");
  assert.equal(drained, false);
  socket.destroy();
  await eventually("drained", () => drained);
});

test("an address that is taken is tried again, and said", async () => {
  const holder = createServer();
  const port = await listening(holder);
  const target = await echo();
  const said: string[] = [];
  const proxy = await start({
    adminPort: 0,
    log: (_, message) => said.push(message),
    fixed: {
      clusters: new Map([staticCluster("echo", [endpoint("127.0.0.1", target)])]),
      listeners: new Map([listener("l", port, { filterChains: [{ filters: [tcpFilter("echo")] }] })]),
    },
  });
  await proxy.ready;
  assert.match(said.join("\n"), /cannot bind '127.0.0.1:\d+'/);
  holder.close();
  await eventually("served", async () => (await say(dial(port), "a")) === "a");
});

test("limits of connections hold back what is too much, and let in again", async () => {
  const target = await echo();
  const proxy = await start({
    fixed: {
      clusters: new Map([
        staticCluster("echo", [endpoint("127.0.0.1", target)], {
          circuitBreakers: { thresholds: [{ priority: 0, maxConnections: 2 }] },
        }),
      ]),
      listeners: new Map([listener("l", 0, { filterChains: [{ filters: [tcpFilter("echo")] }] })]),
    },
  });
  await proxy.ready;
  const { port } = proxy.listenerAddress("l")!;
  const [a, b] = [dial(port), dial(port)];
  assert.deepEqual([await say(a, "a"), await say(b, "b")], ["a", "b"]);
  assert.equal(await say(dial(port), "c"), undefined);
  a.destroy();
  await eventually("let in again", async () => (await say(dial(port), "d")) === "d");
  assert.match(proxy.metrics(), /envoy_cluster_upstream_cx_overflow\{cluster_name="echo"\} [1-9]/);
});

test("who says little and ends at once is served all the same", async () => {
  const target = await listening(createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)));
  const proxy = await start({
    fixed: {
      clusters: new Map([staticCluster("echo", [endpoint("127.0.0.1", target)])]),
      listeners: new Map([
        listener("l", 0, {
          listenerFilters: [listenerFilter("tls_inspector"), listenerFilter("http_inspector")],
          listenerFiltersTimeout: { seconds: 0, nanos: 0 },
          filterChains: [{ filters: [tcpFilter("echo")] }],
        }),
      ]),
    },
  });
  await proxy.ready;
  for (const words of ["GE", "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01"]) {
    const socket = connect({ ...proxy.listenerAddress("l")!, host: "127.0.0.1", allowHalfOpen: true });
    socket.end(words, "latin1");
    let got = "";
    for await (const data of socket) got += String(data);
    assert.equal(got, words);
  }
});

test("of a TCP client that came in over mTLS metrics say what discovery knows, if its certificate agrees", async () => {
  const ca = await makeCa();
  const make = (namespace: string, account: string) =>
    ca.issue({ uri: `spiffe://cluster.local/ns/${namespace}/sa/${account}` });
  const own = await make("demo", "server");
  const common = {
    tlsCertificateSdsSecretConfigs: [material("default")],
    validationContextType: { $case: "validationContextSdsSecretConfig" as const, value: material("ROOTCA") },
  };
  const workload = "caller-v1;demo;caller;v1;c1";
  const proxy = await start({
    identity: identity({
      certificatePem: own.cert,
      keyPem: own.key,
      bundles: { "cluster.local": ca.ca },
    }),
    fixed: {
      clusters: new Map([
        staticCluster("echo", [endpoint("127.0.0.1", await echo())]),
        // Where the caller is, as its clients know it: at another port.
        staticCluster("caller", [
          endpoint("127.0.0.1", 9, { metadata: { filterMetadata: { istio: { workload } } } }),
        ]),
      ]),
      listeners: new Map([
        listener("in", 0, {
          trafficDirection: 1,
          filterChains: [
            {
              transportSocket: serverTls({ commonTlsContext: common, requireClientCertificate: true }),
              filters: [tcpFilter("echo")],
            },
          ],
        }),
      ]),
    },
  });
  await proxy.ready;
  const call = async ({ cert, key }: { cert: string; key: string }) => {
    const { port } = proxy.listenerAddress("in")!;
    const socket = connectTls({ port, host: "127.0.0.1", cert, key, rejectUnauthorized: false });
    socket.on("error", () => undefined);
    assert.equal(await say(socket, "word"), "word");
    socket.destroy();
  };
  await call(await make("demo", "caller"));
  await call(await make("other", "caller"));
  const closed = () =>
    proxy
      .metrics()
      .split("\n")
      .filter((line) => line.startsWith("istio_tcp_connections_closed_total{"));
  await eventually("both are counted", () => closed().length === 2);
  const sources = closed().map((line) =>
    ["workload", "workload_namespace", "principal", "canonical_service", "canonical_revision"].map(
      (name) => new RegExp(`source_${name}="([^"]*)"`).exec(line)?.[1],
    ),
  );
  assert.deepEqual(sources.sort(), [
    ["caller-v1", "demo", "spiffe://cluster.local/ns/demo/sa/caller", "caller", "v1"],
    ["unknown", "other", "spiffe://cluster.local/ns/other/sa/caller", "unknown", "latest"],
  ]);
});
