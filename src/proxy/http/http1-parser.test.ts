import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Headers } from "./headers.ts";
import type { ParseError } from "./http1-errors.ts";
import { Http1Parser, type MessageSink } from "./http1-parser.ts";

interface Seen {
  line: string;
  headers: string[];
  body: string;
  trailers?: string[];
}

/** Everything that one connection's bytes mean, fed in the given pieces. */
function read(
  kind: "request" | "response",
  pieces: Buffer[],
  options: { head?: boolean; acceptHttp10?: boolean } = {},
): { seen: Seen[]; error?: ParseError; open: boolean } {
  const seen: Seen[] = [];
  let error: ParseError | undefined;
  let current: Seen | undefined;
  const sink: MessageSink = {
    onHead(parser) {
      const line = kind === "request" ? `${parser.method} ${parser.target}` : `${parser.status}`;
      current = { line, headers: [...parser.headers.flat], body: "" };
      if (parser.host !== undefined) current.headers.unshift("host", parser.host);
      if (kind === "response" && parser.status < 200) seen.push(current);
      return options.head === true;
    },
    onBody: (chunk) => {
      current!.body += chunk.toString("latin1");
    },
    onComplete(trailers: Headers | undefined) {
      if (trailers) current!.trailers = [...trailers.flat];
      seen.push(current!);
    },
    onError: (found) => {
      error = found;
    },
  };
  const parser = new Http1Parser(kind, sink, { headBytes: 61_440, headerCount: 100 }, options);
  for (const piece of pieces) {
    let at = 0;
    while (at < piece.length) at = parser.execute(piece, at);
  }
  const open = !parser.finish();
  return { seen, ...(error ? { error } : {}), open };
}

const request = (text: string, options = {}) => read("request", [Buffer.from(text, "latin1")], options);
const response = (text: string, options = {}) => read("response", [Buffer.from(text, "latin1")], options);

const token = fc.stringMatching(/^[A-Za-z][A-Za-z0-9-]{0,12}$/).filter((name) => {
  return !["content-length", "transfer-encoding", "host", "connection", "upgrade"].includes(
    name.toLowerCase(),
  );
});
const value = fc.stringMatching(/^([!-~]([ -~]{0,20}[!-~])?)?$/);
const message = fc.record({
  method: fc.constantFrom("GET", "POST", "PUT", "M-SEARCH"),
  path: fc.stringMatching(/^\/[!-~]{0,30}$/),
  fields: fc.array(fc.tuple(token, value), { maxLength: 6 }),
  body: fc.option(fc.array(fc.stringMatching(/^[\s\S]{1,40}$/), { maxLength: 4 })),
  chunked: fc.boolean(),
  trailers: fc.array(fc.tuple(token, value), { maxLength: 2 }),
});

function write(m: typeof message extends fc.Arbitrary<infer T> ? T : never): { text: string; meant: Seen } {
  let text = `${m.method} ${m.path} HTTP/1.1\r\nHost: a\r\n`;
  const headers = ["host", "a"];
  const body = (m.body ?? []).map((part) => Buffer.from(part).toString("latin1"));
  for (const [name, content] of m.fields) {
    text += `${name}: ${content}\r\n`;
    headers.push(name.toLowerCase(), content);
  }
  const meant: Seen = { line: `${m.method} ${m.path}`, headers, body: body.join("") };
  if (m.body && m.chunked) {
    text += "Transfer-Encoding: chunked\r\n\r\n";
    headers.push("transfer-encoding", "chunked");
    for (const part of body) text += `${part.length.toString(16)}\r\n${part}\r\n`;
    text += "0\r\n";
    for (const [name, content] of m.trailers) text += `${name}: ${content}\r\n`;
    if (m.trailers.length > 0) meant.trailers = m.trailers.flatMap(([name, v]) => [name.toLowerCase(), v]);
    text += "\r\n";
  } else if (m.body) {
    text += `Content-Length: ${meant.body.length}\r\n\r\n${meant.body}`;
    headers.push("content-length", String(meant.body.length));
  } else text += "\r\n";
  return { text, meant };
}

test("any split of the bytes of any requests gives the same messages", () => {
  fc.assert(
    fc.property(
      fc.array(message, { minLength: 1, maxLength: 4 }),
      fc.array(fc.nat(400), { maxLength: 12 }),
      (messages, cuts) => {
        const written = messages.map(write);
        const bytes = Buffer.from(written.map((m) => m.text).join(""), "latin1");
        const places = [...new Set(cuts.map((cut) => cut % bytes.length))].sort((a, b) => a - b);
        const pieces: Buffer[] = [];
        let from = 0;
        for (const place of [...places, bytes.length]) {
          if (place > from) pieces.push(bytes.subarray(from, place));
          from = Math.max(from, place);
        }
        const { seen, error, open } = read("request", pieces);
        assert.equal(error, undefined);
        assert.deepEqual(
          seen,
          written.map((m) => m.meant),
        );
        assert.equal(open, false);
      },
    ),
  );
});

test("any bytes at all, in any split, are judged alike and never throw", () => {
  const noise = fc.array(
    fc.constantFrom(
      "GET ", "/ ", "HTTP/1.1", "\r\n", "\n", "\r", " ", ":", "host: a\r\n", "content-length: 3\r\n", "abc", "\0", "é",
      "transfer-encoding: chunked\r\n", "0\r\n\r\n", "3\r\nabc\r\n", ";x", "POST / HTTP/1.1\r\n", "\r\n\r\n",
    ), // biome-ignore format: a list of scraps
    { maxLength: 20 },
  );
  fc.assert(
    fc.property(noise, (scraps) => {
      const bytes = Buffer.from(scraps.join(""), "latin1");
      const whole = read("request", [bytes]);
      const single = read(
        "request",
        [...bytes].map((byte) => Buffer.from([byte])),
      );
      assert.deepEqual(single, whole);
    }),
  );
});

const refused: [string, string, number][] = [
  ["a bare LF", "GET / HTTP/1.1\nHost: a\n\n", 400],
  ["a bare CR", "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400],
  ["a folded line", "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400],
  ["a NUL", "GET / HTTP/1.1\r\nHost: a\r\nX: a\0\r\n\r\n", 400],
  ["two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400],
  ["both lengths", "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400],
  [
    "both lengths the other way",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
    400,
  ],
  ["two lengths", "POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", 400],
  ["a list of lengths", "POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\n", 400],
  ["a signed length", "POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\n", 400],
  ["a length beyond measure", "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400],
  ["an empty length", "POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", 400],
  ["gzip, chunked", "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501],
  [
    "chunked twice",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    501,
  ],
  ["space before the colon", "POST / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n", 400],
  ["no colon", "GET / HTTP/1.1\r\nabc\r\n\r\n", 400],
  ["no name", "GET / HTTP/1.1\r\n: a\r\n\r\n", 400],
  ["a name that is no token", "GET / HTTP/1.1\r\nX(: a\r\n\r\n", 400],
  ["a target with a space", "GET /a b HTTP/1.1\r\n\r\n", 400],
  ["two spaces", "GET  / HTTP/1.1\r\n\r\n", 400],
  ["tabs", "GET\t/\tHTTP/1.1\r\n\r\n", 400],
  ["a target that is not ASCII", "GET /\xe9 HTTP/1.1\r\n\r\n", 400],
  ["an unknown method", "FOO / HTTP/1.1\r\n\r\n", 400],
  ["a method in lower case", "get / HTTP/1.1\r\n\r\n", 400],
  ["HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", 426],
  ["HTTP/0.9", "GET /\r\n\r\n", 426],
  ["HTTP/2.0", "GET / HTTP/2.0\r\n\r\n", 426],
  ["http/1.1", "GET / http/1.1\r\n\r\n", 400],
  ["a TLS hello", "\x16\x03\x01\x02\0\x01\0", 400],
  ["a head of 62 KB", `GET / HTTP/1.1\r\nX: ${"a".repeat(62_000)}\r\n\r\n`, 431],
  ["a line of 62 KB without end", `GET /${"a".repeat(62_000)}`, 431],
  ["101 fields", `GET / HTTP/1.1\r\n${"x: y\r\n".repeat(101)}\r\n`, 431],
];
for (const [name, text, status] of refused) {
  test(`refused: ${name}`, () => {
    const { error, seen } = request(text);
    assert.equal(error?.status, status);
    assert.deepEqual(seen, []);
  });
}

const badChunks: [string, string][] = [
  ["no number", "zz\r\n"],
  ["a bare LF", "1\nx\r\n0\r\n\r\n"],
  ["a bare LF after an extension", "1;a\nx\r\n0\r\n\r\n"],
  ["a bare CR in an extension", "1;a\rb\r\nx\r\n0\r\n\r\n"],
  ["data longer than said", "1\r\nxy\r\n0\r\n\r\n"],
  ["a size beyond measure", "fffffffffffffffff\r\nx"],
  ["a sign", "-1\r\nx"],
  ["0x", "0x1\r\nx\r\n0\r\n\r\n"],
  ["nothing", "\r\n\r\n"],
  ["a bad trailer", "0\r\nbad\r\n\r\n"],
  ["endless extensions", `1;${"a".repeat(5000)}\r\nx`],
];
for (const [name, chunks] of badChunks) {
  test(`refused chunks: ${name}`, () => {
    const { error } = request(`POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n${chunks}`);
    assert.equal(error?.status, 400);
  });
}

test("responses: bodies by length, chunks and close; none for HEAD, 204, 304 and 1xx", () => {
  const bodies = (text: string, options = {}) =>
    response(text, options).seen.map((m) => `${m.line} ${m.body}`);
  assert.deepEqual(bodies("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"), ["200 a"]);
  assert.deepEqual(bodies("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n0\r\n\r\n"), [
    "200 a",
  ]);
  assert.deepEqual(bodies("HTTP/1.0 200\r\n\r\nabc"), ["200 abc"]);
  assert.deepEqual(bodies("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", { head: true }), ["200 "]);
  assert.deepEqual(bodies("HTTP/1.1 304 X\r\nContent-Length: 9\r\n\r\n"), ["304 "]);
  assert.deepEqual(bodies("HTTP/1.1 100 X\r\n\r\nHTTP/1.1 204 X\r\n\r\n"), ["100 ", "204 "]);
  assert.equal(response("HTTP/1.1 204 X\r\nContent-Length: 1\r\n\r\na").error?.status, 400);
  assert.equal(response("HTTP/1.1 99 X\r\n\r\n").error?.status, 400);
  assert.equal(response("garbage\r\n\r\n").error?.status, 400);
  assert.equal(response("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab").open, true);
});
