/** Objects as people write them, through traffic/ and xds/, on real Envoy and on the embedded proxy. */
import "reflect-metadata"; // the X.509 library's dependency injection wants it first
import assert from "node:assert/strict";
import { createPrivateKey, webcrypto } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { connect as connectTls, createServer as createTlsServer } from "node:tls";
import * as x509 from "@peculiar/x509";
import { Cluster } from "#protocols/envoy/config/cluster/v3/cluster.ts";
import { Listener } from "#protocols/envoy/config/listener/v3/listener.ts";
import { endpoint, socketAddress } from "../../src/proxy/testing/resources.ts";
import type { FilterChain } from "../../src/traffic/index.ts";
import { type TestMesh, testMesh, workload } from "../../src/traffic/testing.ts";
import { encodeListener, encodeUpstream } from "../../src/xds/encode/index.ts";
import { makeCa } from "../../src/xds/testing/certificates.ts";
import { freePort } from "../support/ports.ts";
import { exchange, listening, type Resources, startBoth } from "./harness.ts";
import { http, to } from "./http.ts";

/** A gateway called `front` with these servers, its routes, and services `old`, `new` and `rest` behind it. */
function meshWith(servers: string, ...yaml: string[]): TestMesh {
  const mesh = testMesh({ accessLog: false });
  const tcp = { ports: "[{ name: tcp, port: 5432 }]" };
  mesh.apply(
    [
      workload("old", { ip: "10.11.0.1", base: "10.10.1", ...tcp }),
      workload("new", { ip: "10.11.0.2", base: "10.10.2", ...tcp }),
      workload("rest", { ip: "10.11.0.3", base: "10.10.3", ...tcp }),
      `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: front }
spec: { selector: { app: front }, servers: ${servers} }`,
      ...yaml,
    ].join("\n---\n"),
  );
  assert.deepEqual(mesh.bugs, []);
  return mesh;
}

/** The gateway's listeners on both proxies; each upstream is a server that says its name. */
async function startGateway(
  t: TestContext,
  mesh: TestMesh,
  { identity, isHttp = false }: { identity?: { cert: string; key: string }; isHttp?: boolean } = {},
) {
  const config = mesh.config(
    mesh.connect({ namespace: "coolapp", type: "gateway", labels: { app: "front" } }),
  );
  const clusters: Resources["clusters"] = [];
  for (const name of config.upstreams.keys()) {
    const greet = (socket: Socket) => {
      socket.on("error", () => undefined);
      if (!isHttp) socket.write(name);
      else socket.on("data", () => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    };
    const server = identity
      ? createTlsServer({ ...identity, ALPNProtocols: ["istio", "istio-h2", "istio-http/1.1"] }, greet)
      : createServer(greet);
    const { port } = await listening(t, server);
    clusters.push({
      name,
      clusterDiscoveryType: { $case: "type" as const, value: 0 as const },
      loadAssignment: { clusterName: name, endpoints: [{ lbEndpoints: [endpoint("127.0.0.1", port)] }] },
    });
  }
  // Tables come as parts of their listeners here; over ADS they are asked for by name.
  const inside = (chain: FilterChain): FilterChain => {
    const { handler } = chain;
    if (handler.kind !== "http" || typeof handler.routes !== "string") return chain;
    return { ...chain, handler: { ...handler, routes: config.routes.get(handler.routes)! } };
  };
  return startBoth(t, () => ({
    clusters,
    listeners: [...config.listeners.values()].map((listener) => ({
      ...Listener.decode(encodeListener({ ...listener, chains: listener.chains.map(inside) }).message),
      address: socketAddress("0.0.0.0", 0),
    })),
  }));
}

/** What the server says that a connection comes to; nothing where it is closed. */
function said(
  to: { host: string; port: number },
  tls?: { servername: string; ALPNProtocols: string[] },
): Promise<string> {
  return new Promise((resolve) => {
    const socket = tls ? connectTls({ ...to, ...tls, rejectUnauthorized: false }) : connect(to);
    socket.on("data", (data) => {
      resolve(String(data));
      socket.destroy();
    });
    socket.on("error", () => undefined);
    socket.on("close", () => resolve(""));
  });
}

test("tcp routes by destinationSubnets: the first that is for an address takes it", async (t) => {
  const route = (host: string) => `route: [{ destination: { host: ${host} } }]`;
  const mesh = meshWith(
    "[{ port: { number: 5432, name: tcp, protocol: TCP }, hosts: ['*'] }]",
    `
kind: VirtualService
metadata: { name: rules }
spec:
  hosts: ["*"]
  gateways: [front]
  tcp:
  - { match: [{ sourceLabels: { app: other } }], ${route("rest")} }
  - { match: [{ destinationSubnets: [127.0.1.0/24], port: 5432 }], ${route("old")} }
  - { match: [{ destinationSubnets: [127.0.1.7, 127.0.0.0/16], sourceLabels: { app: front } }], ${route("new")} }
  - { ${route("rest")} }`,
  );
  const both = await startGateway(t, mesh);
  const wanted = { "127.0.1.1": "old", "127.0.1.7": "old", "127.0.0.2": "new", "127.9.0.1": "rest" };
  await both.same(async (proxy) => {
    const { port } = proxy.address("0.0.0.0_5432");
    for (const [ip, host] of Object.entries(wanted))
      assert.equal(await said({ host: ip, port }), `outbound|5432||${host}.coolapp.svc.cluster.local`, ip);
  });
});

test("AUTO_PASSTHROUGH: the mesh's TLS goes to the upstream that its server name means, nothing else goes anywhere", async (t) => {
  const mesh = meshWith(
    "[{ port: { number: 15443, name: tls, protocol: TLS }, hosts: ['*.local'], tls: { mode: AUTO_PASSTHROUGH } }]",
    `
kind: DestinationRule
metadata: { name: old }
spec: { host: old, subsets: [{ name: V1, labels: { version: v1 } }] }`,
  );
  const identity = await (await makeCa()).issue({ dns: ["any.example"] });
  const both = await startGateway(t, mesh, { identity });
  const name = (subset: string, host: string) =>
    `outbound_.5432_.${subset}_.${host}.coolapp.svc.cluster.local`;
  await both.same(async (proxy) => {
    const { port } = proxy.address("0.0.0.0_15443");
    const call = (servername: string, ...ALPNProtocols: string[]) =>
      said({ host: "127.0.0.1", port }, { servername, ALPNProtocols });
    assert.equal(await call(name("", "old"), "istio-peer-exchange", "istio"), name("", "old"));
    assert.equal(await call(name("V1", "old"), "istio-http/1.1", "istio", "http/1.1"), name("V1", "old"));
    assert.equal(await call(name("", "new"), "istio-h2"), name("", "new"));
    assert.equal(await call(name("v2", "old"), "istio"), "");
    assert.equal(
      await call(name("", "old"), "h2", "http/1.1"),
      "",
      "what is not of the mesh is not let through",
    );
    assert.equal(await call(name("", "old")), "");
    assert.equal(await call("old.coolapp.svc.cluster.local", "istio"), "");
  });
});

test("25 rate limits at one listener: each counts its own requests, by header value too", async (t) => {
  const limits = Array.from({ length: 25 }, (_, i) => {
    const per = i % 2 === 0 ? "" : ", per: { header: x-user }";
    return `{ name: n${i}, tokens: ${1 + (i % 3)}, interval: 1h, match: { headers: { x-limit: { exact: "${i}" } } }${per} }`;
  });
  const mesh = meshWith(
    "[{ port: { number: 80, name: http, protocol: HTTP }, hosts: ['*'] }]",
    `
kind: VirtualService
metadata: { name: rules }
spec: { hosts: ["*"], gateways: [front], http: [{ route: [{ destination: { host: rest } }] }] }
---
kind: RateLimit
metadata: { name: many }
spec: { targetRefs: [{ kind: Gateway, name: front, group: networking.istio.io }], limits: [${limits.join(", ")}] }`,
  );
  const both = await startGateway(t, mesh, { isHttp: true });
  await both.same(async (proxy) => {
    const to = { ip: "127.0.0.1", port: proxy.address("0.0.0.0_80").port };
    const ask = async (limit: number, user: string) => {
      const head = `GET / HTTP/1.1\r\nhost: a\r\nx-limit: ${limit}\r\nx-user: ${user}\r\nconnection: close\r\n\r\n`;
      return (await exchange(to, head))[0]!.status;
    };
    const got: Record<string, number[]> = {};
    for (let i = 0; i < 25; i++) {
      for (const user of ["ann", "bob"]) {
        const statuses = [];
        for (let n = 0; n < 4; n++) statuses.push(await ask(i, user));
        // Without `per` both share a bucket, with it each has one.
        const tokens = i % 2 === 0 && user === "bob" ? 0 : 1 + (i % 3);
        assert.deepEqual(
          statuses,
          [0, 1, 2, 3].map((n) => (n < tokens ? 200 : 429)),
          `limit ${i} of ${user}`,
        );
        got[`${i} ${user}`] = statuses;
      }
    }
    assert.equal(await ask(99, "ann"), 200);
    return got;
  });
});

test("a Sidecar's ingress: connections to a port come to the application where it listens", async (t) => {
  const app = await listening(
    t,
    createServer((socket) => {
      socket.on("error", () => undefined);
      socket.on("data", () => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"));
    }),
  );
  // Nothing is redirected here: the port is that of the listener itself.
  const ports = { envoy: await freePort(), weft: await freePort() };
  const both = await startBoth(t, ({ kind }) => {
    const mesh = testMesh({ accessLog: false });
    mesh.apply(`
kind: Sidecar
metadata: { name: own }
spec: { ingress: [{ port: { number: ${ports[kind]}, name: http, protocol: HTTP }, defaultEndpoint: "127.0.0.1:${app.port}" }] }
---
kind: PeerAuthentication
metadata: { name: plain }
spec: { mtls: { mode: DISABLE } }`);
    const { listeners, upstreams } = mesh.config(mesh.connect({ namespace: "coolapp" }));
    const { listenerFilters, ...listener } = Listener.decode(
      encodeListener(listeners.get("virtualInbound")!).message,
    );
    return {
      clusters: [...upstreams.values()].flatMap((upstream) =>
        upstream.name.startsWith("inbound|") ? [Cluster.decode(encodeUpstream(upstream).message)] : [],
      ),
      listeners: [
        {
          ...listener,
          listenerFilters: listenerFilters.filter(({ name }) => !name.endsWith("original_dst")),
          address: socketAddress("127.0.0.1", ports[kind]),
        },
      ],
    };
  });
  await both.same(async (proxy) => {
    const [answer] = await exchange(
      proxy.address("virtualInbound"),
      "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    );
    assert.deepEqual([answer!.status, answer!.body], [200, "hi"]);
    return answer!.status;
  });
});

test("caCrl: a server whose certificate is revoked is not believed", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "weft-crl-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const ca = await makeCa();
  const [good, revoked] = [
    await ca.issue({ dns: ["good.example"] }),
    await ca.issue({ dns: ["bad.example"] }),
  ];
  const files = { ca: join(directory, "ca.pem"), crl: join(directory, "crl.pem") };
  writeFileSync(files.ca, ca.ca);
  writeFileSync(files.crl, await revocations(ca, [revoked.cert]));
  const upstreams: Resources["clusters"] = [];
  for (const [name, { cert, key }] of Object.entries({ good, revoked })) {
    const server = createTlsServer({ cert, key }, (socket) => {
      socket.on("error", () => undefined);
      socket.on("data", () => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"));
    });
    const { port } = await listening(t, server);
    const mesh = testMesh();
    mesh.apply(`
kind: ServiceEntry
metadata: { name: out }
spec: { hosts: [out.example.com], resolution: STATIC, ports: [{ number: ${port}, name: http, protocol: HTTP }], endpoints: [{ address: 127.0.0.1 }] }
---
kind: DestinationRule
metadata: { name: out }
spec: { host: out.example.com, trafficPolicy: { tls: { mode: SIMPLE, sni: x.example, caCertificates: ${files.ca}, caCrl: ${files.crl} } } }`);
    const { upstreams: all } = mesh.config(mesh.connect({ namespace: "coolapp" }));
    const upstream = all.get(`outbound|${port}||out.example.com`)!;
    upstreams.push({
      ...Cluster.decode(encodeUpstream({ ...upstream, name }).message),
      loadAssignment: { clusterName: name, endpoints: [{ lbEndpoints: [endpoint("127.0.0.1", port)] }] },
    });
  }
  const both = await startBoth(t, ({ log }) => ({
    clusters: upstreams,
    listeners: [
      http("l", log, [
        { name: "v", domains: ["*"], routes: [to("/good", "good"), to("/revoked", "revoked")] },
      ]),
    ],
  }));
  await both.same(async (proxy) => {
    const ask = async (path: string) => {
      const head = `GET ${path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n`;
      return (await exchange(proxy.address("l"), head))[0]!.status;
    };
    assert.deepEqual([await ask("/good"), await ask("/revoked")], [200, 503]);
  });
});

/** A list of revoked certificates, PEM. */
async function revocations(ca: { ca: string; key: string }, certificates: string[]): Promise<string> {
  const ecdsa = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const der = createPrivateKey(ca.key).export({ type: "pkcs8", format: "der" });
  const crl = await x509.X509CrlGenerator.create({
    issuer: new x509.X509Certificate(ca.ca).subject,
    thisUpdate: new Date(Date.now() - 60_000),
    nextUpdate: new Date(Date.now() + 3_600_000),
    entries: certificates.map((cert) => ({
      serialNumber: new x509.X509Certificate(cert).serialNumber,
      revocationDate: new Date(Date.now() - 60_000),
      reason: x509.X509CrlReason.keyCompromise,
    })),
    signingAlgorithm: ecdsa,
    signingKey: await webcrypto.subtle.importKey("pkcs8", der, ecdsa, false, ["sign"]),
  });
  return crl.toString("pem").replace(/ CRL-/g, " X509 CRL-"); // as OpenSSL has it
}

test("the port of an original destination may be another", async (t) => {
  const app = await listening(
    t,
    createServer((socket) => {
      socket.on("error", () => undefined);
      socket.on("data", () => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"));
    }),
  );
  const both = await startBoth(t, ({ log }) => ({
    clusters: [
      {
        name: "original",
        clusterDiscoveryType: { $case: "type" as const, value: 4 as const }, // ORIGINAL_DST
        lbPolicy: 6 as const, // CLUSTER_PROVIDED
        lbConfig: {
          $case: "originalDstLbConfig" as const,
          value: { useHttpHeader: true, upstreamPortOverride: app.port },
        },
      },
    ],
    listeners: [http("l", log, [{ name: "v", domains: ["*"], routes: [to("/", "original")] }])],
  }));
  await both.same(async (proxy) => {
    const head =
      "GET / HTTP/1.1\r\nhost: a\r\nx-envoy-original-dst-host: 127.0.0.1:1\r\nconnection: close\r\n\r\n";
    const [answer] = await exchange(proxy.address("l"), head);
    assert.deepEqual([answer!.status, answer!.body], [200, "hi"]);
    return answer!.status;
  });
});
