import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import { createServer as createHttp2 } from "node:http2";
import { type AddressInfo, createServer as createTcp, type Server } from "node:net";
import { after, test } from "node:test";
import { askApplication } from "./app-probe.ts";

const servers: Server[] = [];
after(() => {
  for (const server of servers) server.close();
});

async function portOf(server: Server): Promise<number> {
  servers.push(server.listen(0, "127.0.0.1"));
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

const http = (listener: RequestListener) => portOf(createServer(listener));
const ask = (probe: Parameters<typeof askApplication>[0]) =>
  askApplication(probe, "127.0.0.1", { "user-agent": "kube-probe/1.36" });

test("the application is asked over HTTP with the kubelet's headers, and its status is the answer", async () => {
  let seen: { url?: string | undefined; host?: string | undefined; agent?: string | undefined } = {};
  const port = await http((request, response) => {
    seen = { url: request.url, host: request.headers.host, agent: request.headers["user-agent"] };
    response.writeHead(request.url === "/ok" ? 200 : 418).end("x");
  });
  assert.equal((await ask({ httpGet: { path: "/ok", port } })).status, 200);
  assert.deepEqual(seen, { url: "/ok", host: `127.0.0.1:${port}`, agent: "kube-probe/1.36" });
  assert.equal((await ask({ httpGet: { path: "other", port } })).status, 418);
  assert.equal(seen.url, "/other");
  const httpHeaders = [{ name: "Host", value: "shop.example" }];
  await ask({ httpGet: { port, httpHeaders } });
  assert.equal(seen.host, "shop.example");
});

test("an application that is not there, or says nothing, is not well", async () => {
  const gone = createTcp();
  const port = await portOf(gone);
  gone.close();
  await once(gone, "close");
  for (const probe of [{ httpGet: { port } }, { tcpSocket: { port } }, { grpc: { port } }]) {
    const { status, text } = await ask(probe);
    assert.equal(status, 500);
    assert.match(text, /ECONNREFUSED/);
  }
  const silent = await portOf(createTcp(() => {}));
  const { status, text } = await ask({ httpGet: { port: silent }, timeoutSeconds: 0.05 });
  assert.equal(status, 500);
  assert.match(text, /no answer within 50 ms/);
});

test("a hook takes as long as it takes", async () => {
  const port = await http((_request, response) => setTimeout(() => response.end(), 1_200));
  assert.equal((await ask({ httpGet: { port } })).status, 500, "a probe has a second");
  assert.equal((await ask({ httpGet: { port }, timeoutSeconds: 0 })).status, 200);
});

test("a port that takes connections is well by TCP", async () => {
  const port = await portOf(createTcp((socket) => socket.end()));
  assert.equal((await ask({ tcpSocket: { port } })).status, 200);
});

test("gRPC's health service is asked for the service that is named", async () => {
  const server = createHttp2();
  server.on("stream", (stream, headers) => {
    const chunks: Buffer[] = [];
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("end", () => {
      const service = Buffer.concat(chunks).subarray(7).toString();
      const good = headers[":path"] === "/grpc.health.v1.Health/Check";
      stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": good ? "0" : "12" }));
      // status = SERVING or NOT_SERVING
      stream.end(Buffer.from([0, 0, 0, 0, 2, 0x08, service === "ill" ? 2 : 1]));
    });
  });
  const port = await portOf(server as unknown as Server);
  assert.equal((await ask({ grpc: { port } })).status, 200);
  assert.equal((await ask({ grpc: { port, service: "shop" } })).status, 200);
  assert.equal((await ask({ grpc: { port, service: "ill" } })).status, 500);
});
