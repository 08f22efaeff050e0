import assert from "node:assert/strict";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { joinSockets } from "./sockets.ts";

/** Two connections, each with both of its ends. */
async function pair(): Promise<[far: Socket, near: Socket]> {
  const server = createServer({ allowHalfOpen: true }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const far = connect((server.address() as AddressInfo).port, "127.0.0.1");
  const [near] = (await once(server, "connection")) as [Socket];
  server.close();
  return [far, near];
}

test("a reader that is slow gets all that was said by one who is gone, also while it still talks itself", {
  timeout: 20_000,
}, async () => {
  const [reader, here] = await pair();
  const [speaker, there] = await pair();
  reader.pause();
  joinSockets(here, there);
  // More than the kernel keeps, so that some of it waits in this process.
  const said = Buffer.alloc(8_000_000, "0123456789abcdef");
  speaker.end(said);
  reader.write("what nobody reads");
  const chunks: Buffer[] = [];
  for await (const chunk of reader) chunks.push(chunk as Buffer);
  assert.ok(Buffer.concat(chunks).equals(said));
});

test("when both are done nothing is left", { timeout: 20_000 }, async () => {
  const [one, here] = await pair();
  const [other, there] = await pair();
  joinSockets(here, there);
  one.end("ping");
  other.on("data", (data: Buffer) => other.end(`${data} pong`));
  const [answer] = (await once(one, "data")) as [Buffer];
  assert.equal(answer.toString(), "ping pong");
  await Promise.all([here, there].map((socket) => socket.destroyed || once(socket, "close")));
});

test("of one that is reset the other learns", { timeout: 20_000 }, async () => {
  const [one, here] = await pair();
  const [other, there] = await pair();
  joinSockets(here, there);
  other.resume();
  one.resetAndDestroy();
  await once(other, "end");
});
