import assert from "node:assert/strict";
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { createServer, request as httpsRequest } from "node:https";
import { connect } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { describe, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { WebSocket, WebSocketServer } from "ws";
import { listeningServer } from "./testing/listening.ts";

const maps = "/api/v1/namespaces/default/configmaps";

describe("a listening API server", () => {
  test("knows its callers by certificate and token, and refuses wrong credentials", async () => {
    await using cluster = await listeningServer();
    assert.equal((await cluster.request("/api/v1/nodes", { as: cluster.pki.admin })).code, 200);
    const anonymous = await cluster.request("/api/v1/nodes");
    assert.equal(anonymous.code, 403);
    assert.match(anonymous.text, /system:anonymous/);
    assert.equal((await cluster.request("/readyz")).text, "ok");
    assert.equal((await cluster.request("/api/v1/nodes", { token: "garbage" })).code, 401);
    await cluster.client.post("/api/v1/namespaces/default/serviceaccounts", { metadata: { name: "sa" } });
    const { body } = await cluster.client.post("/api/v1/namespaces/default/serviceaccounts/sa/token", {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenRequest",
      spec: {},
    });
    const known = await cluster.request("/api/v1/nodes", { token: body.status.token });
    assert.equal(known.code, 403);
    assert.match(known.text, /system:serviceaccount:default:sa/);
  });

  test("speaks HTTP/2, with many watches on one connection", async () => {
    await using cluster = await listeningServer();
    const session = connectHttp2(`https://127.0.0.1:${cluster.port}`, {
      ca: cluster.pki.ca.cert,
      ...cluster.pki.admin,
    });
    const streams = Array.from({ length: 50 }, () => session.request({ ":path": `${maps}?watch=1` }));
    await Promise.all(streams.map((stream) => once(stream, "response")));
    await cluster.client.post(maps, { metadata: { name: "a" } });
    const events = await Promise.all(
      streams.map(async (stream) => {
        const [chunk] = (await once(stream, "data")) as [Buffer];
        return JSON.parse(chunk.toString().split("\n")[0]!).object.metadata.name;
      }),
    );
    assert.deepEqual(new Set(events), new Set(["a"]));
    session.destroy();
  });

  test("serves the same on a UNIX socket", async () => {
    await using cluster = await listeningServer();
    const path = join(cluster.folder, "api.sock");
    await cluster.server.listen({ socket: path, tls: cluster.tls });
    const socket = connectTls({
      path,
      ca: cluster.pki.ca.cert,
      servername: "localhost",
      ...cluster.pki.admin,
    });
    await once(socket, "secureConnect");
    socket.write("GET /version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    const [chunk] = (await once(socket, "data")) as [Buffer];
    assert.match(chunk.toString(), /^HTTP\/1\.1 200/);
    socket.destroy();
  });

  test("outlives garbage, half requests and bodies that are too big", async () => {
    await using cluster = await listeningServer();
    const rubbish = [
      Buffer.from("GET / HTTP/1.1\r\n\r\n"),
      Buffer.alloc(4096, 0xff),
      Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00]),
    ];
    for (const bytes of rubbish) {
      const socket = connect(cluster.port, "127.0.0.1");
      socket.on("error", () => {});
      socket.end(bytes);
      await once(socket, "close");
    }
    const tls = connectTls({ port: cluster.port, host: "127.0.0.1", ca: cluster.pki.ca.cert });
    await once(tls, "secureConnect");
    tls.on("error", () => {});
    tls.write("NONSENSE\r\n\r\n\0\0\0");
    await once(tls, "close");
    const half = connectTls({
      port: cluster.port,
      host: "127.0.0.1",
      ca: cluster.pki.ca.cert,
      ...cluster.pki.admin,
    });
    await once(half, "secureConnect");
    half.on("error", () => {});
    half.write(`POST ${maps} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"meta`);
    half.destroy();
    const big = await cluster.request(maps, {
      as: cluster.pki.admin,
      method: "POST",
      body: Buffer.alloc(5e6, 0x20),
    });
    assert.equal(big.code, 413);
    const odd = await cluster.request("/%00/..//api/%ff", { as: cluster.pki.admin });
    assert.equal(odd.code, 404);
    assert.equal((await cluster.request("/readyz")).code, 200);
    assert.deepEqual(cluster.bugs, []);
  });

  test("ends a watch whose client has gone", async () => {
    await using cluster = await listeningServer();
    const socket = connectTls({
      port: cluster.port,
      host: "127.0.0.1",
      ca: cluster.pki.ca.cert,
      ...cluster.pki.admin,
    });
    await once(socket, "secureConnect");
    socket.write(`GET ${maps}?watch=1 HTTP/1.1\r\nhost: x\r\n\r\n`);
    await once(socket, "data");
    socket.destroy();
    await once(socket, "close");
    // Writes go on as if nobody had been there.
    for (const name of ["a", "b"])
      assert.equal((await cluster.client.post(maps, { metadata: { name } })).code, 201);
    assert.deepEqual(cluster.bugs, []);
  });
});

/** A kubelet that says what it was asked, on 127.0.0.1. */
async function fakeKubelet(
  cluster: Awaited<ReturnType<typeof listeningServer>>,
  certificateOf = "c1-control-plane",
) {
  const { serving, ca } = cluster.nodePki[certificateOf]!;
  const asked: string[] = [];
  const server = createServer(
    { ...serving, ca, requestCert: true, rejectUnauthorized: true },
    (request, response) => {
      asked.push(request.url!);
      if (request.url!.includes("/waiting")) {
        response.writeHead(400).end('container "waiting" in pod "p" is waiting to start: ContainerCreating');
      } else response.end("line 1\nline 2\n");
    },
  );
  const sockets = new WebSocketServer({ noServer: true, handleProtocols: () => "v5.channel.k8s.io" });
  server.on("upgrade", (request, socket, head) => {
    asked.push(request.url!);
    if (request.headers.upgrade === "SPDY/3.1") {
      // What SPDY carries is no affair of the API server: an echo will do.
      const protocol = request.headers["x-stream-protocol-version"];
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: ${request.method} ${protocol}\r\n\r\n`,
      );
      socket.write(head);
      socket.on("error", () => {}).pipe(socket);
      return;
    }
    sockets.handleUpgrade(request, socket, head, (channel) => {
      channel.on("message", (message: Buffer) =>
        channel.send(Buffer.concat([Buffer.from([1]), message.subarray(1)])),
      );
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  await cluster.client.post("/api/v1/nodes", { metadata: { name: "c1-control-plane" } });
  await cluster.client.patch("/api/v1/nodes/c1-control-plane/status", {
    status: {
      addresses: [{ type: "InternalIP", address: "127.0.0.1" }],
      daemonEndpoints: { kubeletEndpoint: { Port: port } },
    },
  });
  await cluster.client.post("/api/v1/namespaces/default/serviceaccounts", { metadata: { name: "default" } });
  const containers = [
    { name: "c", image: "i" },
    { name: "waiting", image: "i" },
  ];
  const pod = { metadata: { name: "p" }, spec: { nodeName: "c1-control-plane", containers } };
  const { code, body } = await cluster.client.post("/api/v1/namespaces/default/pods", pod);
  assert.equal(code, 201, body.message);
  return { asked, close: () => server.close() };
}

const pod = "/api/v1/namespaces/default/pods/p";

describe("streams from pods", () => {
  test("the kubelet's certificate is checked: one for another address is refused", async () => {
    await using cluster = await listeningServer();
    const kubelet = await fakeKubelet(cluster, "c1-worker");
    const log = await cluster.client.get(`${pod}/log?container=c`);
    assert.equal(log.code, 500);
    assert.match(log.body.message, /error dialing backend/);
    kubelet.close();
  });

  test("logs are the kubelet's words, also when it refuses", async () => {
    await using cluster = await listeningServer();
    const kubelet = await fakeKubelet(cluster);
    const log = await cluster.client.get(`${pod}/log?container=c&tailLines=5&follow=true&pretty=1`);
    assert.equal(log.code, 200);
    assert.equal(log.body, "line 1\nline 2\n");
    assert.equal(kubelet.asked[0], "/containerLogs/default/p/c?follow=true&tailLines=5");
    const waiting = await cluster.client.get(`${pod}/log?container=waiting`);
    assert.equal(waiting.code, 400);
    assert.equal(
      waiting.body.message,
      'container "waiting" in pod "p" is waiting to start: ContainerCreating',
    );
    kubelet.close();
  });

  test("exec joins the client with the kubelet, byte for byte", async () => {
    await using cluster = await listeningServer();
    const kubelet = await fakeKubelet(cluster);
    const query = "container=c&command=sh&command=-c&command=cat&stdin=true&stdout=true&stderr=true";
    const socket = new WebSocket(`wss://127.0.0.1:${cluster.port}${pod}/exec?${query}`, "v5.channel.k8s.io", {
      ca: cluster.pki.ca.cert,
      ...cluster.pki.admin,
    });
    await once(socket, "open");
    assert.equal(socket.protocol, "v5.channel.k8s.io");
    socket.send(Buffer.concat([Buffer.from([0]), Buffer.alloc(100_000, 7)]));
    const [echo] = (await once(socket, "message")) as [Buffer];
    assert.equal(echo.length, 100_001);
    assert.equal(echo[0], 1);
    assert.equal(
      kubelet.asked[0],
      "/exec/default/p/c?input=1&output=1&error=1&command=sh&command=-c&command=cat",
    );
    socket.close();
    await once(socket, "close");
    kubelet.close();
  });

  test("SPDY is joined in the same way, for exec and for port-forward, by POST and by GET", async () => {
    await using cluster = await listeningServer();
    const kubelet = await fakeKubelet(cluster);
    for (const [method, path, at] of [
      ["POST", "exec?container=c&command=cat&stdin=true", "/exec/default/p/c?input=1&command=cat"],
      ["GET", "attach?container=c&stdout=true", "/attach/default/p/c?output=1"],
      ["POST", "portforward", "/portForward/default/p"],
      ["GET", "portforward?ports=80&ports=81", "/portForward/default/p?port=80&port=81"],
    ] as const) {
      const request = httpsRequest({
        host: "127.0.0.1",
        port: cluster.port,
        path: `${pod}/${path}`,
        method,
        agent: false,
        headers: {
          connection: "Upgrade",
          upgrade: "SPDY/3.1",
          "x-stream-protocol-version": ["v5.x", "v4.x"],
        },
        ca: cluster.pki.ca.cert,
        ...cluster.pki.admin,
      });
      request.end();
      const [response, socket] = (await once(request, "upgrade")) as [IncomingMessage, Duplex];
      assert.equal(response.headers.upgrade, "SPDY/3.1");
      assert.equal(response.headers["x-stream-protocol-version"], `${method} v5.x, v4.x`);
      assert.equal(kubelet.asked.at(-1), at);
      socket.write("any bytes");
      const [echo] = (await once(socket, "data")) as [Buffer];
      assert.equal(echo.toString(), "any bytes");
      socket.destroy();
    }
    kubelet.close();
  });

  test("logs name the container, or say which there are", async () => {
    await using cluster = await listeningServer();
    const unnamed = await cluster.client.get("/api/v1/namespaces/default/pods/q/log");
    assert.equal(unnamed.code, 404);
    const kubelet = await fakeKubelet(cluster);
    const many = await cluster.client.get(`${pod}/log`);
    assert.equal(
      many.body.message,
      "a container name must be specified for pod p, choose one of: [c waiting]",
    );
    const wrong = await cluster.client.get(`${pod}/log?container=x`);
    assert.equal(wrong.body.message, "container x is not valid for pod p");
    assert.equal(kubelet.asked.length, 0);
    kubelet.close();
  });

  test("exec without an upgrade is refused, and so is one without rights", async () => {
    await using cluster = await listeningServer();
    const kubelet = await fakeKubelet(cluster);
    const plain = await cluster.client.get(`${pod}/exec?container=c&command=ls&stdout=1`);
    assert.equal(plain.body.message, "Upgrade request required");
    const socket = new WebSocket(
      `wss://127.0.0.1:${cluster.port}${pod}/exec?container=c&command=ls&stdout=1`,
      {
        ca: cluster.pki.ca.cert,
      },
    );
    const [, response] = (await once(socket, "unexpected-response")) as [unknown, { statusCode: number }];
    assert.equal(response.statusCode, 403);
    kubelet.close();
  });
});
