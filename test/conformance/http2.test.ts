/**
 * Our HTTP/2 against a program of others: h2spec asks a server of ours everything that RFC 9113 and RFC 7541 say of
 * servers. `npm run test:real` builds it.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { type AddressInfo, createServer } from "node:net";
import { test } from "node:test";
import { promisify } from "node:util";
import { Connection, type Stream } from "../../src/http2/index.ts";
import { realWorld } from "../../src/world/index.ts";
import { tool } from "../support/tools.ts";

const world = realWorld();

/** Answers each request with its body and its trailers, and with its fields under `echo-`. */
function echo(stream: Stream, fields: readonly string[], end: boolean): void {
  const answer = [":status", "200"];
  for (let i = 0; i < fields.length; i += 2)
    if (!fields[i]!.startsWith(":")) answer.push(`echo-${fields[i]}`, fields[i + 1]!);
  stream.events = {
    data: (chunk) => {
      if (!stream.data(chunk)) stream.pause();
    },
    end: (trailers) => stream.end(trailers),
    drain: () => stream.resume(),
    closed() {},
  };
  stream.head(answer, false);
  // Not at once: h2spec counts the streams that are open.
  if (end)
    world.after(50, () => {
      stream.data(Buffer.from("no body\n"));
      stream.end();
    });
}

async function ourServer() {
  const connections = new Set<Connection>();
  const listener = createServer((socket) => {
    const connection = new Connection(socket, {
      world,
      role: "server",
      maxConcurrentStreams: 100,
      events: { stream: echo, closed: () => void connections.delete(connection) },
    });
    connections.add(connection);
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  return {
    port: (listener.address() as AddressInfo).port,
    connections,
    async [Symbol.asyncDispose]() {
      for (const connection of connections) connection.destroy();
      await new Promise((resolve) => listener.close(resolve));
    },
  };
}

const h2spec = tool("h2spec");

test("h2spec finds a server of ours to be one", { skip: h2spec.skip ?? false }, async () => {
  await using server = await ourServer();
  const args = ["-h", "127.0.0.1", "-p", String(server.port), "--timeout", "2"];
  const { stdout } = await promisify(execFile)(h2spec.file, args).catch((error: { stdout: string }) => error);
  assert.match(stdout, /\b(\d+) tests, \1 passed, 0 skipped, 0 failed/, stdout);
});
