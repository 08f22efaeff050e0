import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { after, test } from "node:test";

const open: { close(): unknown }[] = [];
after(() => {
  for (const one of open) one.close();
});

async function listening(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  open.push(server);
  return (server.address() as AddressInfo).port;
}

/** A port that the relay's process carries to `port`. */
async function carried(port: number): Promise<number> {
  const relay = fork(new URL("relay-process.ts", import.meta.url));
  open.push({ close: () => relay.kill("SIGKILL") });
  await once(relay, "message");
  return listening(
    createServer({ pauseOnConnect: true }, (socket) => relay.send({ address: "127.0.0.1", port }, socket)),
  );
}

test("a client that has said all it has to say gets the whole answer, however slowly it reads", async () => {
  const size = 16 * 1024 * 1024;
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => undefined);
    socket.on("end", () => socket.end(Buffer.alloc(size, "x"))).resume();
  });
  const client = connect({
    port: await carried(await listening(server)),
    host: "127.0.0.1",
    allowHalfOpen: true,
  });
  client.end("all of it");
  let got = 0;
  client.on("data", (chunk) => {
    got += chunk.length;
    client.pause();
    setImmediate(() => client.resume());
  });
  await once(client, "end");
  assert.equal(got, size);
});

test("of a server that is gone, however it went, the client gets the last words", async () => {
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.once("data", () => socket.write("last words", () => socket.resetAndDestroy()));
  });
  const client = connect({ port: await carried(await listening(server)), host: "127.0.0.1" });
  client.write("a word");
  let got = "";
  client.on("data", (chunk) => {
    got += String(chunk);
  });
  await once(client, "end"); // an error is thrown here
  assert.equal(got, "last words");
});

test("a connection that cannot be made is reset", async () => {
  const nobody = createServer();
  const port = await listening(nobody);
  nobody.close();
  await once(nobody, "close");
  const client = connect({ port: await carried(port), host: "127.0.0.1" });
  const [error] = (await once(client, "error")) as [NodeJS.ErrnoException];
  assert.equal(error.code, "ECONNRESET");
});
