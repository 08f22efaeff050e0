import assert from "node:assert/strict";
import { connect as connectTcp, createServer } from "node:net";
import { before, test } from "node:test";
import { connect as connectTls } from "node:tls";
import fc from "fast-check";
import { readClientHello, readHttp } from "./hello.ts";

const hellos: { servername: string; ALPNProtocols: string[]; bytes: Buffer }[] = [];

before(async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as { port: number };
  for (const servername of ["a.example.com", "Upper.Example", ""]) {
    for (const ALPNProtocols of [["h2", "http/1.1"], ["istio"], []]) {
      const bytes = new Promise<Buffer>((resolve) => {
        server.once("connection", (socket) =>
          socket.once("data", (data) => {
            resolve(data);
            socket.destroy();
          }),
        );
      });
      const socket = connectTcp({ host: "127.0.0.1", port });
      socket.on("error", () => undefined);
      connectTls({ socket, servername, ...(ALPNProtocols.length > 0 ? { ALPNProtocols } : {}) }).on(
        "error",
        () => undefined,
      );
      hellos.push({ servername, ALPNProtocols, bytes: await bytes });
    }
  }
  server.close();
});

test("a ClientHello says its server name and its protocols", () => {
  for (const { servername, ALPNProtocols, bytes } of hellos) {
    assert.deepEqual(readClientHello(bytes), {
      serverName: servername ? servername.toLowerCase() : undefined,
      alpn: ALPNProtocols,
    });
  }
});

test("a part of a ClientHello is undecided, and in records of any size it is the same", () => {
  for (const { bytes } of hellos) {
    const whole = readClientHello(bytes);
    for (let end = 0; end < bytes.length; end++) {
      assert.equal(readClientHello(bytes.subarray(0, end)), "undecided", `${end} of ${bytes.length} bytes`);
    }
    for (const size of [1, 3, 100]) {
      const records: Buffer[] = [];
      for (let at = 5; at < bytes.length; at += size) {
        const part = bytes.subarray(at, at + size);
        records.push(Buffer.from([22, 3, 1, part.length >> 8, part.length & 255]), part);
      }
      assert.deepEqual(readClientHello(Buffer.concat(records)), whole);
    }
  }
});

test("whatever the bytes, looking at them never fails, and more bytes never take back a decision", () => {
  const start = fc.constantFrom(
    "",
    "\x16\x03\x01\x00\x40\x01",
    "GET / HTTP/1.1\r\n",
    "PRI * HTTP/2.0\r\n\r\n",
    "G",
  );
  fc.assert(
    fc.property(start, fc.uint8Array({ maxLength: 300 }), fc.nat(), (text, rest, cut) => {
      const bytes = Buffer.concat([Buffer.from(text, "latin1"), rest]);
      const part = bytes.subarray(0, cut % (bytes.length + 1));
      for (const read of [readClientHello, readHttp]) {
        const early = read(part);
        if (early !== "undecided" && part.length > 0) assert.deepEqual(read(bytes), early);
      }
    }),
    { numRuns: 2_000 },
  );
});
