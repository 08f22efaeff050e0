/**
 * Messages of HTTP/2 that are not as they should be, frame by frame, through real Envoy and through the embedded proxy:
 * what one answers the other answers alike, and what one refuses the other refuses.
 */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { test } from "node:test";
import { flag, frame, frameHead, headersFrames, headSize, numberFrame, preface, settingsFrame } from "../../src/http2/frames.ts"; // biome-ignore format: one line
import { HpackDecoder, HpackEncoder } from "../../src/http2/hpack.ts";
import { startBackend, startBoth, type TestProxy } from "./harness.ts";
import { cluster, http, to } from "./http.ts";

const pseudo = { ":method": "GET", ":scheme": "http", ":authority": "a", ":path": "/" };
type Fields = [name: string, value: string][];
const get = (more: Fields = [], changed: Record<string, string | undefined> = {}): Fields => [
  ...Object.entries({ ...pseudo, ...changed }).filter((field): field is [string, string] => field[1] !== undefined),
  ...more,
]; // biome-ignore format: one line

/** A header block as it goes out, in frames. */
const head = (fields: Fields, end = true) =>
  Buffer.concat(headersFrames(1, new HpackEncoder().encode(fields.flat()), end, 16_384));
const data = (text: string, end: boolean) =>
  Buffer.concat([frameHead(text.length, frame.DATA, end ? flag.END_STREAM : 0, 1, 0), Buffer.from(text)]);
const post = (more: Fields, ...parts: Buffer[]) =>
  Buffer.concat([head(get(more, { ":method": "POST" }), false), ...parts]);

const messages: Record<string, Buffer> = {
  "a plain request": head(get()),
  "a body": post([], data("ab", false), data("c", true)),
  "a body of its length": post([["content-length", "3"]], data("abc", true)),
  "a body longer than its length": post([["content-length", "2"]], data("abc", true)),
  "a body shorter than its length": post([["content-length", "4"]], data("abc", true)),
  "no body where a length is": head(get([["content-length", "3"]])),
  "two lengths": post([["content-length", "3"], ["content-length", "4"]], data("abc", true)),
  "a length that is none": post([["content-length", "x"]], data("abc", true)),
  "a name in capitals": head(get([["X-A", "1"]])),
  "a space in a name": head(get([["x a", "1"]])),
  "an empty name": head(get([["", "1"]])),
  "NUL in a value": head(get([["x", "a\0b"]])),
  "CR LF in a value": head(get([["x", "a\r\nb: c"]])),
  "a control character in a value": head(get([["x", "a\x01b"]])),
  "UTF-8 in a value": head(get([["x", "\xc3\xa9"]])),
  connection: head(get([["connection", "close"]])),
  "transfer-encoding": head(get([["transfer-encoding", "chunked"]])),
  "keep-alive": head(get([["keep-alive", "1"]])),
  "proxy-connection": head(get([["proxy-connection", "close"]])),
  upgrade: head(get([["upgrade", "websocket"]])),
  "te: trailers": head(get([["te", "trailers"]])),
  "te: gzip": head(get([["te", "gzip"]])),
  "no method": head(get([], { ":method": undefined })),
  "no scheme": head(get([], { ":scheme": undefined })),
  "no path": head(get([], { ":path": undefined })),
  "an empty path": head(get([], { ":path": "" })),
  "no authority": head(get([], { ":authority": undefined })),
  "host alone": head(get([["host", "a"]], { ":authority": undefined })),
  "host and authority": head(get([["host", "b"]])),
  "two methods": head(get([[":method", "POST"]])),
  "a pseudo-header after fields": head([["x", "1"], ...get()]),
  "a pseudo-header that there is not": head(get([[":x", "1"]])),
  "a status in a request": head(get([[":status", "200"]])),
  "an authority with a space": head(get([], { ":authority": "a b" })),
  "an authority with a slash": head(get([], { ":authority": "a/b" })),
  "a path without slash": head(get([], { ":path": "a" })),
  "a space in the path": head(get([], { ":path": "/a b" })),
  "UTF-8 in the path": head(get([], { ":path": "/\xe9" })),
  "a method that is no token": head(get([], { ":method": "G(T" })),
  CONNECT: head([[":method", "CONNECT"], [":authority", "a:443"]]),
  "CONNECT with a path": head(get([], { ":method": "CONNECT" })),
  "cookies in several fields": head(get([["cookie", "a=1"], ["cookie", "b=2"]])),
  "98 fields": head(get(Array.from({ length: 95 }, (_, i) => [`x-${i}`, "1"]))),
  "130 fields": head(get(Array.from({ length: 130 }, (_, i) => [`x-${i}`, "1"]))),
  "a field of 70 KB": head(get([["x", "a".repeat(70_000)]])),
  trailers: post([], data("abc", false), head([["x-t", "1"]])),
  "a pseudo-header in trailers": post([], data("abc", false), head([[":path", "/"]])),
  "trailers that do not end it": post([], data("abc", false), head([["x-t", "1"]], false)),
  "data after its end": Buffer.concat([head(get()), data("abc", true)]),
  "a stream that depends on itself": Buffer.concat([frameHead(5, frame.PRIORITY, 0, 1, 0), Buffer.from([0, 0, 0, 1, 0]), head(get())]),
  "a window of nothing more": Buffer.concat([post([]), numberFrame(frame.WINDOW_UPDATE, 1, 0)]),
  "a window beyond all": Buffer.concat([post([]), numberFrame(frame.WINDOW_UPDATE, 1, 2 ** 31 - 1)]),
  "a connection's window beyond all": numberFrame(frame.WINDOW_UPDATE, 0, 2 ** 31 - 1),
  "a reset of a stream that never was": numberFrame(frame.RST_STREAM, 7, 8),
  "a stream of an even number": Buffer.concat(headersFrames(2, new HpackEncoder().encode(get().flat()), true, 16_384)),
  "PUSH_PROMISE": Buffer.concat([head(get()), frameHead(4, frame.PUSH_PROMISE, flag.END_HEADERS, 1, 0), Buffer.from([0, 0, 0, 2])]),
  "a header block that is none": Buffer.concat([frameHead(2, frame.HEADERS, flag.END_HEADERS | flag.END_STREAM, 1, 0), Buffer.from([0xff, 0xff])]),
  "PING of 7 bytes": Buffer.concat([frameHead(7, frame.PING, 0, 0, 0), Buffer.alloc(7)]),
  "SETTINGS of 5 bytes": Buffer.concat([frameHead(5, frame.SETTINGS, 0, 0, 0), Buffer.alloc(5)]),
  "a frame that nobody knows": Buffer.concat([frameHead(3, 0x77, 0, 0, 0), Buffer.alloc(3), head(get())]),
  "empty frames without end": post([], ...Array.from({ length: 1_000 }, () => data("", false))),
  "priorities without end": Buffer.concat(Array.from({ length: 1_000 }, () => Buffer.concat([frameHead(5, frame.PRIORITY, 0, 1, 0), Buffer.from([0, 0, 0, 3, 0])]))),
  "windows without end": post([], ...Array.from({ length: 10_000 }, () => numberFrame(frame.WINDOW_UPDATE, 1, 1))),
}; // biome-ignore format: a table

/** What Envoy takes, and we refuse. */
const stricter = ["UTF-8 in the path", "a stream that depends on itself"];

/**
 * How it ended: with a status, or refused: by 400, by a reset of the stream (RFC 9113, 8.1.1), or by the end of the
 * connection, which is Envoy's way with messages too.
 */
function outcome(proxy: TestProxy, bytes: Buffer): Promise<string> {
  const { ip, port } = proxy.address("l");
  return new Promise((resolve) => {
    const socket = connect({ host: ip, port });
    const decoder = new HpackDecoder();
    let got = Buffer.alloc(0);
    const over = (how: string) => {
      clearTimeout(patience);
      socket.destroy();
      resolve(how);
    };
    const patience = setTimeout(() => over("nothing"), 3_000);
    socket.on("error", () => over("refused"));
    socket.on("end", () => over("refused"));
    socket.on("data", (chunk: Buffer) => {
      got = Buffer.concat([got, chunk]);
      for (;;) {
        const length = got.length < headSize ? Number.POSITIVE_INFINITY : got.readUIntBE(0, 3);
        if (got.length < headSize + length) return;
        const payload = got.subarray(headSize, headSize + length);
        const type = got[3];
        got = got.subarray(headSize + length);
        if (type === frame.HEADERS) {
          const status = decoder.decode(payload, 100_000, 1_000).fields[1]!;
          over(status === "400" ? "refused" : status);
        }
        if (type === frame.RST_STREAM || type === frame.GOAWAY) over("refused");
      }
    });
    socket.write(Buffer.concat([preface, settingsFrame([]), bytes]));
  });
}

test("what is refused at one is refused at the other", async (t) => {
  const a = await startBackend(t, "a");
  const both = await startBoth(t, ({ log }) => ({
    clusters: [cluster("a", [a.port])],
    listeners: [http("l", log, [{ name: "v", domains: ["*"], routes: [to("/", "a")] }])],
  }));
  await Promise.all(
    Object.entries(messages).map(async ([name, bytes]) => {
      const [envoy, weft] = await Promise.all([outcome(both.envoy, bytes), outcome(both.weft, bytes)]);
      assert.equal(weft, stricter.includes(name) ? "refused" : envoy, name);
      if (stricter.includes(name))
        assert.equal(envoy, "200", `${name}: if Envoy refuses it too, it is no longer stricter`);
    }),
  );
});
