import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer as createHttpServer, type RequestListener } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo, Server, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { TLSSocket } from "node:tls";
import { configMaps } from "../api/index.ts";
import { makeClusterPki } from "../lab/pki.ts";
import { defaultCluster } from "../lab/spec.ts";
import { realWorld } from "../world/index.ts";
import { KubeClient } from "./client.ts";
import { type Credentials, transportFor } from "./https.ts";

type Pki = Awaited<ReturnType<typeof makeClusterPki>>["cluster"];
let pki: Pki;
const open: { close(): void }[] = [];

before(async () => {
  pki = (await makeClusterPki(realWorld(), defaultCluster("c1", 0))).cluster;
});
after(() => {
  for (const one of open) one.close();
});

function listen<S extends Server>(server: S, at: number | string = 0): Promise<S> {
  open.push(server);
  return new Promise((resolve) => {
    if (typeof at === "string") server.listen(at, () => resolve(server));
    else server.listen(at, "127.0.0.1", () => resolve(server));
  });
}

async function serve(listener: RequestListener) {
  const { cert, key } = pki.serving;
  const options = { cert, key, ca: pki.ca.cert, requestCert: true, rejectUnauthorized: false };
  const server = await listen(createServer(options, listener));
  const sockets = new Set<Socket>();
  server.on("secureConnection", (socket: TLSSocket) => sockets.add(socket));
  const { port } = server.address() as AddressInfo;
  return { server, sockets, url: `https://127.0.0.1:${port}` };
}

function clientFor(credentials: Credentials) {
  const transport = transportFor(credentials);
  open.push(transport);
  return new KubeClient({ transport, world: realWorld(), cluster: "c1", server: credentials.server });
}

const answer =
  (data: Record<string, string>): RequestListener =>
  (_, response) =>
    response.end(JSON.stringify({ metadata: { name: "a" }, data }));

describe("the HTTPS transport", () => {
  test("proves who it is by certificate or token, and checks who the server is", async () => {
    const { url } = await serve((request, response) => {
      const subject = (request.socket as TLSSocket).getPeerCertificate().subject;
      answer({ cn: String(subject?.CN ?? ""), authorization: request.headers.authorization ?? "" })(
        request,
        response,
      );
    });
    const ca = pki.ca.cert;
    const get = (credentials: Partial<Credentials>) =>
      clientFor({ server: url, ...credentials })
        .get(configMaps, "demo/a")
        .then((found) => found?.data);
    assert.deepEqual(await get({ ca, ...pki.admin }), { cn: "kubernetes-admin", authorization: "" });
    let token = "one";
    const client = clientFor({ server: url, ca, token: () => token });
    assert.equal((await client.get(configMaps, "demo/a"))?.data?.authorization, "Bearer one");
    token = "two";
    assert.equal((await client.get(configMaps, "demo/a"))?.data?.authorization, "Bearer two");
    assert.ok(await get({ insecure: true }));
    assert.ok(await get({ ca, tlsServerName: "kubernetes.default.svc" }));
    await assert.rejects(
      get({}),
      /API server of c1 at https:\/\/127.* its certificate is not signed by the expected CA/,
    );
    await assert.rejects(get({ ca, tlsServerName: "example.com" }), /its certificate is for another name/);
  });

  test("uses connections again, and gives every watch one of its own", async () => {
    const { url, sockets } = await serve((request, response) => {
      if (request.url?.includes("watch=1")) response.writeHead(200).flushHeaders();
      else answer({})(request, response);
    });
    const client = clientFor({ server: url, ca: pki.ca.cert });
    for (let i = 0; i < 10; i++) await client.get(configMaps, "demo/a");
    assert.equal(sockets.size, 1);
    const stop = new AbortController();
    await Promise.all(Array.from({ length: 40 }, () => client.watch(configMaps, { signal: stop.signal })));
    await client.get(configMaps, "demo/a");
    assert.equal(sockets.size, 41);
    stop.abort();
  });

  test("opens only so many connections for many requests at once", async () => {
    const { url, sockets } = await serve(answer({}));
    const client = clientFor({ server: url, ca: pki.ca.cert });
    await Promise.all(Array.from({ length: 200 }, () => client.get(configMaps, "demo/a")));
    assert.ok(sockets.size <= 16, `${sockets.size} connections`);
  });

  test("sends a request again when the server closed the kept connection at that moment", async () => {
    const { url, sockets } = await serve(answer({}));
    const client = clientFor({ server: url, ca: pki.ca.cert });
    for (let i = 0; i < 5; i++) {
      await client.get(configMaps, "demo/a");
      for (const socket of sockets) socket.destroy();
    }
    assert.equal(sockets.size, 5);
  });

  test("ends the stream and the connection with the signal, and reports a broken stream", async () => {
    const { url, sockets, server } = await serve((_, response) => {
      response.writeHead(200);
      response.write('{"type":"ADDED","object":{"metadata":{"name":"a"}}}\n{"type":"ADD');
    });
    void server;
    const client = clientFor({ server: url, ca: pki.ca.cert });
    const stop = new AbortController();
    const watch = await client.watch(configMaps, { signal: stop.signal });
    const batches = watch[Symbol.asyncIterator]();
    assert.equal((await batches.next()).value?.length, 1);
    const closed = new Promise((resolve) => [...sockets][0]?.on("close", resolve));
    stop.abort();
    await assert.rejects(batches.next());
    await closed;
    const broken = (await client.watch(configMaps))[Symbol.asyncIterator]();
    await broken.next();
    for (const socket of sockets) socket.destroy();
    await assert.rejects(broken.next());
  });

  test("keeps the path of the server's URL, as a proxy in front of many clusters wants it", async () => {
    const server = await listen(
      createHttpServer((request, response) => answer({ url: request.url ?? "" })(request, response)),
    );
    const { port } = server.address() as AddressInfo;
    const client = clientFor({ server: `http://127.0.0.1:${port}/clusters/c1/` });
    const found = await client.get(configMaps, "demo/a");
    assert.equal(found?.data?.url, "/clusters/c1/api/v1/namespaces/demo/configmaps/a");
  });

  test("reaches a server on a UNIX socket", async () => {
    const directory = mkdtempSync(join(tmpdir(), "weft-https-"));
    const socketPath = join(directory, "api.sock");
    await listen(createHttpServer(answer({ via: "socket" })), socketPath);
    const client = clientFor({ server: "http://api", socketPath });
    assert.deepEqual((await client.get(configMaps, "demo/a"))?.data, { via: "socket" });
    rmSync(directory, { recursive: true });
  });

  test("says when nobody listens", async () => {
    await assert.rejects(clientFor({ server: "https://127.0.0.1:1" }).get(configMaps, "demo/a"), {
      code: "API_UNREACHABLE",
      message: "the API server of c1 at https://127.0.0.1:1 cannot be reached: connection refused",
    });
  });
});
