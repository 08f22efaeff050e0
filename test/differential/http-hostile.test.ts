/**
 * Hostile HTTP through real Envoy and through the embedded proxy: what Envoy refuses is refused with the same status.
 * Where Envoy takes what is ambiguous (it mends or guesses), the embedded proxy refuses: those cases are marked.
 */
import assert from "node:assert/strict";
import { connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { type TestContext, test } from "node:test";
import { type Both, exchange, startBackend, startBoth } from "./harness.ts";
import { cluster, http, seconds, to } from "./http.ts";

const message = (line: string, fields = "", body = "") => `${line}\r\nHost: a\r\n${fields}\r\n${body}`;
const get = (fields: string) => message("GET / HTTP/1.1", fields);
const post = (fields: string, body = "") => message("POST / HTTP/1.1", fields, body);
const chunks = (body: string) => post("Transfer-Encoding: chunked\r\n", body);

/** What both take or refuse alike. */
const alike: Record<string, string> = {
  "a plain request": get(""),
  "NUL in a value": get("X: a\0b\r\n"),
  "a control character in a value": get("X: a\x01b\r\n"),
  "DEL in a value": get("X: a\x7fb\r\n"),
  "UTF-8 in a value": get("X: \xc3\xa9\r\n"),
  "invalid UTF-8 in a value": get("X: \xff\xfe\r\n"),
  "no Host": "GET / HTTP/1.1\r\n\r\n",
  "an empty Host": "GET / HTTP/1.1\r\nHost:\r\n\r\n",
  "a Host with a space": "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
  "a Host with a slash": "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
  "a Host with @": "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
  "Content-Length and Transfer-Encoding": post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
  "Transfer-Encoding and Content-Length": post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "0\r\n\r\n"),
  "two lengths": post("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd"),
  "the same length twice": post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"),
  "a list of lengths": post("Content-Length: 3, 3\r\n", "abc"),
  "a length with +": post("Content-Length: +3\r\n", "abc"),
  "a negative length": post("Content-Length: -3\r\n", "abc"),
  "a length in hex": post("Content-Length: 0x3\r\n", "abc"),
  "a length beyond 64 bits": post("Content-Length: 99999999999999999999\r\n", "abc"),
  "an empty length": post("Content-Length:\r\n", "abc"),
  "a length with spaces around": post("Content-Length:  3 \r\n", "abc"),
  "gzip, chunked": post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
  identity: post("Transfer-Encoding: identity\r\n"),
  xchunked: post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
  "Chunked in capitals": post("Transfer-Encoding: Chunked\r\n", "0\r\n\r\n"),
  "chunked twice": post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
  "chunked, chunked": post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
  "a space before the colon": post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
  "a tab after the colon": post("Transfer-Encoding:\tchunked\r\n", "0\r\n\r\n"),
  "a vertical tab after the colon": post("Transfer-Encoding:\x0bchunked\r\n", "0\r\n\r\n"),
  "GET with chunks": get("Transfer-Encoding: chunked\r\n").concat("0\r\n\r\n"),
  "GET with a length": get("Content-Length: 3\r\n").concat("abc"),
  "chunks in HTTP/1.0": message("POST / HTTP/1.0", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
  "a chunk size that is none": chunks("zz\r\n\r\n"),
  "chunk extensions": chunks("1;a=b\r\nx\r\n0\r\n\r\n"),
  "a chunk size that ends with LF": chunks("1\nx\r\n0\r\n\r\n"),
  "a chunk extension that ends with LF": chunks("1;a\nx\r\n0\r\n\r\n"),
  "CR in a chunk extension": chunks("1;a\rb\r\nx\r\n0\r\n\r\n"),
  "a chunk size beyond 64 bits": chunks("fffffffffffffffff\r\nx"),
  "a negative chunk size": chunks("-1\r\nx"),
  "a chunk size after a space": chunks(" 1\r\nx\r\n0\r\n\r\n"),
  "a chunk size before a space": chunks("1 \r\nx\r\n0\r\n\r\n"),
  "zeros before a chunk size": chunks("0001\r\nx\r\n0\r\n\r\n"),
  "0x before a chunk size": chunks("0x1\r\nx\r\n0\r\n\r\n"),
  "an empty chunk size": chunks("\r\n\r\n"),
  trailers: chunks("1\r\nx\r\n0\r\nX-T: 1\r\n\r\n"),
  "Content-Length in trailers": chunks("1\r\nx\r\n0\r\nContent-Length: 1\r\n\r\n"),
  "a trailer without colon": chunks("1\r\nx\r\n0\r\nbad\r\n\r\n"),
  "a space in a name": get("X Y: a\r\n"),
  "a parenthesis in a name": get("X(Y: a\r\n"),
  "an empty name": get(": a\r\n"),
  "UTF-8 in a name": get("X\xe9: a\r\n"),
  "a line without colon": get("abc\r\n"),
  "a space before the first name": "GET / HTTP/1.1\r\n X: a\r\nHost: a\r\n\r\n",
  "an underscore in a name": get("x_y: a\r\n"),
  "a space in the path": message("GET /a b HTTP/1.1"),
  "UTF-8 in the path": message("GET /\xe9 HTTP/1.1"),
  "NUL in the path": message("GET /\0 HTTP/1.1"),
  "a control character in the path": message("GET /\x01 HTTP/1.1"),
  "a tab in the path": message("GET /a\tb HTTP/1.1"),
  "a path without slash": message("GET a HTTP/1.1"),
  "OPTIONS *": message("OPTIONS * HTTP/1.1"),
  "GET *": message("GET * HTTP/1.1"),
  "a fragment": message("GET /a#b HTTP/1.1"),
  "a bad percent-encoding": message("GET /a%zz HTTP/1.1"),
  "an encoded NUL": message("GET /a%00 HTTP/1.1"),
  "dots that go out": message("GET /../../b HTTP/1.1"),
  "encoded dots": message("GET /a/%2e%2e/b HTTP/1.1"),
  "back-slashes": message("GET /a\\..\\b HTTP/1.1"),
  "braces and quotes": message('GET /a{b}|^"<>` HTTP/1.1'),
  "a query without path": message("GET ?x HTTP/1.1"),
  "an absolute target": message("GET http://b.example/x HTTP/1.1"),
  "an absolute target without Host": "GET http://b.example/x HTTP/1.1\r\n\r\n",
  "an absolute target of another scheme": message("GET ftp://b.example/x HTTP/1.1"),
  "an absolute target without path": message("GET http://b.example HTTP/1.1"),
  "an absolute target without host": message("GET http:///x HTTP/1.1"),
  "an absolute target with a user": message("GET http://u@b.example/x HTTP/1.1"),
  CONNECT: "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
  "CONNECT with a path": message("CONNECT /a HTTP/1.1"),
  TRACE: message("TRACE / HTTP/1.1"),
  "an unknown method": message("FOO / HTTP/1.1"),
  "a method in lower case": message("get / HTTP/1.1"),
  "a method that is no token": message("G(T / HTTP/1.1"),
  "HTTP/1.0": message("GET / HTTP/1.0"),
  "HTTP/0.9": "GET /\r\n\r\n",
  "HTTP/1.2": message("GET / HTTP/1.2"),
  "HTTP/2.0 in words": message("GET / HTTP/2.0"),
  "HTTP/x": message("GET / HTTP/x"),
  "http/1.1": message("GET / http/1.1"),
  "HTTP/1.10": message("GET / HTTP/1.10"),
  "empty lines first": `\r\n\r\n${get("")}`,
  "a space first": ` ${get("")}`,
  "a head of 62 KB": get(`X: ${"a".repeat(62_000)}\r\n`),
  "a path of 62 KB": message(`GET /${"a".repeat(62_000)} HTTP/1.1`),
  "101 fields": get(Array.from({ length: 101 }, (_, i) => `x-${i}: 1\r\n`).join("")),
  "98 fields": get(Array.from({ length: 98 }, (_, i) => `x-${i}: 1\r\n`).join("")),
  "a TLS hello": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
  "an unknown upgrade": get("Connection: upgrade\r\nUpgrade: foo\r\n"),
  "an upgrade to h2c": get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"),
  "Connection names Host": get("Connection: host\r\n"),
  "Connection names our headers": get("Connection: x-forwarded-for, x-request-id\r\nX-Forwarded-For: 1.2.3.4\r\nX-Request-Id: 1\r\n"),
  "an expectation that is unknown": post("Expect: foo\r\nContent-Length: 1\r\n", "x"),
}; // biome-ignore format: a table

/** What Envoy takes, mends and guesses at, and we refuse: name → what is sent. */
const stricter: Record<string, string> = {
  "bare LF": "GET / HTTP/1.1\nHost: a\n\n",
  "a bare LF among CRLF": "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
  "a bare CR in a value": get("X: a\rb\r\n"),
  "a folded line": get("X: a\r\n b\r\n"),
  "two Hosts": get("Host: b\r\n"),
  "data longer than its chunk": chunks("1\r\nxy\r\n0\r\n\r\n"),
  "two spaces": message("GET  / HTTP/1.1"),
  "tabs for spaces": message("GET\t/\tHTTP/1.1"),
  "a space after the version": message("GET / HTTP/1.1 "),
  "a bare LF first": `\n${get("")}`,
};

async function start(t: TestContext): Promise<Both> {
  const a = await startBackend(t, "a");
  return startBoth(t, ({ log }) => ({
    clusters: [cluster("a", [a.port])],
    listeners: [
      http("l", log, [{ name: "v", domains: ["*"], routes: [to("/", "a")] }], {
        requestHeadersTimeout: seconds(0.5),
      }),
    ],
  }));
}

test("what Envoy refuses is refused alike, and what it takes is taken alike", async (t) => {
  const both = await start(t);
  for (const [name, bytes] of Object.entries(alike)) {
    await t.test(name, async () => {
      await both.same(async (proxy) => {
        const [answer] = await exchange(proxy.address("l"), bytes, { patience: 3000 });
        assert.ok(answer, "an answer");
        const { status, headers, body } = answer;
        if (status !== 200) return { status, headers, body };
        // What the backend was asked: nothing is hidden in it.
        const echo = JSON.parse(body) as { headers: Record<string, string> };
        if (echo.headers["x-request-id"]?.length === 36) delete echo.headers["x-request-id"];
        return { status, echo };
      });
    });
  }
});

test("what is ambiguous is refused, where Envoy guesses", async (t) => {
  const both = await start(t);
  for (const [name, bytes] of Object.entries(stricter)) {
    const [envoy] = await exchange(both.envoy.address("l"), bytes);
    assert.equal(envoy?.status, 200, `${name}: Envoy takes it; if no longer, it belongs to what is alike`);
    const [weft] = await exchange(both.weft.address("l"), bytes);
    assert.equal(weft?.status, 400, name);
    assert.equal(weft.closed, true, name);
  }
});

test("slow loris: a head that does not come to its end is answered 408", async (t) => {
  const both = await start(t);
  await both.same(async (proxy) => {
    const pieces = ["GET / HTTP/1.1\r\n", ...Array.from({ length: 20 }, (_, i) => `X-${i}: a\r\n`)];
    const [answer] = await exchange(proxy.address("l"), pieces);
    return { status: answer!.status, body: answer!.body, headers: answer!.headers };
  });
});

/** Frames of HTTP/2 by hand. */
function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}
const hello = Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(4, 0, 0)]);
/** GET / with :authority a, in HPACK's static table and literals. */
const ask = Buffer.from([0x82, 0x86, 0x84, 0x41, 0x01, 0x61]);

const floods: Record<string, Buffer> = {
  "settings without end": Buffer.concat([hello, ...Array.from({ length: 20_000 }, () => frame(4, 0, 0))]),
  "pings without end": Buffer.concat([
    hello,
    ...Array.from({ length: 20_000 }, () => frame(6, 0, 0, Buffer.alloc(8))),
  ]),
  "streams that are reset at once": Buffer.concat([
    hello,
    ...Array.from({ length: 20_000 }, (_, i) =>
      Buffer.concat([frame(1, 5, 2 * i + 1, ask), frame(3, 0, 2 * i + 1, Buffer.from([0, 0, 0, 8]))]),
    ),
  ]),
  "continuations without end": Buffer.concat([
    hello,
    frame(1, 0, 1, ask),
    ...Array.from({ length: 20_000 }, () => frame(9, 0, 1, Buffer.from([0x00, 0x01, 0x61, 0x01, 0x62]))),
  ]),
  "a frame that is too large": Buffer.concat([hello, frame(0, 0, 1, Buffer.alloc(100_000))]),
  "data on a stream that is none": Buffer.concat([hello, frame(0, 0, 1, Buffer.alloc(10))]),
  "headers on stream 0": Buffer.concat([hello, frame(1, 5, 0, ask)]),
  "a preface that goes wrong": Buffer.from("PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n"),
};

test("floods and broken frames of HTTP/2 end their connection, and nobody else's", async (t) => {
  const both = await start(t);
  for (const [name, bytes] of Object.entries(floods)) {
    await t.test(name, async () => {
      await both.same(async (proxy) => {
        const { ip, port } = proxy.address("l");
        const other = connectHttp2(`http://${ip}:${port}`);
        const closed = await new Promise<boolean>((resolve) => {
          const socket = connect({ host: ip, port });
          const timer = setTimeout(() => {
            resolve(false);
            socket.destroy();
          }, 4000);
          const gone = () => {
            clearTimeout(timer);
            resolve(true);
            socket.destroy();
          };
          // What comes back is not read: the flood's answers pile up at the proxy.
          socket.on("error", gone).on("close", gone).on("end", gone);
          socket.write(bytes);
          setTimeout(() => socket.resume(), 300);
        });
        const status = await new Promise<number>((resolve, reject) => {
          const stream = other.request({ ":path": "/" });
          stream.on("response", (headers) => resolve(headers[":status"]!));
          stream.on("error", reject);
          stream.resume();
        });
        other.destroy();
        return { closed, status };
      });
    });
  }
});
