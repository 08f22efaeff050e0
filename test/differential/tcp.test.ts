/** TCP through real Envoy and through the embedded proxy: chains, balancing, TLS, limits, closing. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { connect, createServer, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { FileAccessLog } from "#protocols/envoy/extensions/access_loggers/file/v3/file.ts";
import { RBAC } from "#protocols/envoy/extensions/filters/network/rbac/v3/rbac.ts";
import {
  endpoint,
  listenerFilter,
  pack,
  socketAddress,
  tcpFilter,
} from "../../src/proxy/testing/resources.ts";
import { listening, startBoth } from "./harness.ts";
import { counters } from "./http.ts";

const any = socketAddress("127.0.0.1", 0);

/** A server that greets with its name, echoes, and ends when the client has ended. */
async function startEcho(t: TestContext, name: string) {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => undefined);
    socket.write(`${name}:`);
    socket.pipe(socket);
  });
  return listening(t, server);
}

/** What comes back for `text`, until the other side ends. */
function talk(to: { ip: string; port: number }, text: string, from = "127.0.0.1"): Promise<string> {
  return new Promise((resolve) => {
    const socket: Socket = connect({ host: to.ip, port: to.port, allowHalfOpen: true, localAddress: from });
    let got = "";
    socket.setEncoding("latin1");
    socket.on("data", (chunk: string) => (got += chunk));
    socket.on("end", () => {
      socket.end();
      resolve(got);
    });
    socket.on("error", (error: NodeJS.ErrnoException) => resolve(`${got}!${error.code}`));
    socket.on("connect", () => socket.end(text, "latin1"));
    socket.setTimeout(3_000, () => {
      socket.destroy();
      resolve(`${got}!silence`);
    });
  });
}

/** Says something, keeps the connection open, and takes what is said within a moment: the first word is the server's. */
function firstWord(to: { ip: string; port: number }, text: string): Promise<string> {
  return new Promise((resolve) => {
    const socket: Socket = connect({ host: to.ip, port: to.port });
    const finish = (said: string) => {
      socket.destroy();
      resolve(said);
    };
    socket.setEncoding("latin1");
    socket.on("data", (chunk: string) => finish(chunk.slice(0, chunk.indexOf(":"))));
    socket.on("error", () => finish("closed"));
    socket.on("end", () => finish("closed"));
    socket.setTimeout(3_000, () => finish("silence"));
    socket.on("connect", () => socket.write(text, "latin1"));
  });
}

const cluster = (name: string, ports: readonly number[], more: object = {}) => ({
  name,
  clusterDiscoveryType: { $case: "type" as const, value: 0 as const },
  loadAssignment: {
    clusterName: name,
    endpoints: [{ lbEndpoints: ports.map((port) => endpoint("127.0.0.1", port)) }],
  },
  ...more,
});

test("round robin goes through the hosts in turn, and half-closed connections carry the rest", async (t) => {
  const [a, b] = [await startEcho(t, "a"), await startEcho(t, "b")];
  const both = await startBoth(t, () => ({
    clusters: [cluster("echo", [a.port, b.port])],
    listeners: [{ name: "l", address: any, filterChains: [{ filters: [tcpFilter("echo")] }] }],
  }));
  await both.same(async (proxy) => {
    const said: string[] = [];
    for (let i = 0; i < 6; i++) said.push(await talk(proxy.address("l"), "hello"));
    // Who is first is chance; the turns are not.
    assert.deepEqual(said.slice(2), said.slice(0, -2));
    return [...new Set(said)].sort();
  });
  await both.same((proxy) => counters(proxy));
});

test("much, to readers that are slow and quick at once, arrives whole and in order, both ways", async (t) => {
  const size = 12 * 1024 * 1024;
  // Every connection has bytes of its own: four counters, xor what the client chose.
  const bytesOf = (own: number) => {
    const bytes = Buffer.allocUnsafe(size);
    for (let at = 0; at < size; at += 4) bytes.writeUInt32LE((at ^ (own * 0x01000193)) >>> 0, at);
    return bytes;
  };
  const digest = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => undefined);
    const got: Buffer[] = [];
    socket.on("data", (chunk: Buffer) => got.push(chunk));
    // The digest of what came, then bytes by its first one.
    socket.on("end", () => {
      const all = Buffer.concat(got);
      socket.end(Buffer.concat([Buffer.from(digest(all)), bytesOf(all[0]!)]));
    });
  });
  const backend = await listening(t, server);
  const both = await startBoth(t, () => ({
    clusters: [cluster("much", [backend.port])],
    listeners: [{ name: "l", address: any, filterChains: [{ filters: [tcpFilter("much")] }] }],
  }));
  await both.same(async (proxy) => {
    const { ip: host, port } = proxy.address("l");
    return await Promise.all(
      [0, 1, 2, 3, 4, 5].map(async (own) => {
        const socket = connect({ host, port, allowHalfOpen: true });
        const sent = bytesOf(own);
        sent[0] = own;
        socket.end(sent);
        const got: Buffer[] = [];
        for await (const chunk of socket as AsyncIterable<Buffer>) {
          got.push(chunk);
          // Every other reader takes a breath after each piece.
          if (own % 2 === 1) await setImmediate();
        }
        const all = Buffer.concat(got);
        assert.equal(all.subarray(0, 64).toString(), digest(sent), "what the backend got");
        assert.ok(all.subarray(64).equals(bytesOf(own)), "what came back");
        return all.length;
      }),
    );
  });
  await both.same((proxy) => counters(proxy));
});

test("unknown clusters, clusters without hosts and refused connects close the connection", async (t) => {
  const gone = await listening(t, createServer());
  const refused = await new Promise<number>((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
  assert.notEqual(gone.port, refused);
  const both = await startBoth(t, () => ({
    clusters: [cluster("empty", []), cluster("refused", [refused])],
    listeners: ["empty", "refused", "missing"].map((name) => ({
      name,
      address: any,
      filterChains: [{ filters: [tcpFilter(name)] }],
    })),
  }));
  for (const name of ["empty", "refused", "missing"]) {
    await both.same(async (proxy) => (await talk(proxy.address(name), "")).replace(/!.*/, ""));
  }
  await both.same((proxy) => counters(proxy));
});

test("the HTTP inspector and the TLS inspector choose the chain", async (t) => {
  const echoes = await Promise.all(["http", "tls", "other"].map((name) => startEcho(t, name)));
  const chain = (name: string, match: object) => ({
    name,
    filterChainMatch: match,
    filters: [tcpFilter(name)],
  });
  const both = await startBoth(t, () => ({
    clusters: ["http", "tls", "other"].map((name, i) => cluster(name, [echoes[i]!.port])),
    listeners: [
      {
        name: "l",
        address: any,
        listenerFilters: [listenerFilter("tls_inspector"), listenerFilter("http_inspector")],
        listenerFiltersTimeout: { seconds: 0, nanos: 200_000_000 },
        continueOnListenerFiltersTimeout: true,
        filterChains: [
          chain("http", { applicationProtocols: ["http/1.1", "h2c"] }),
          chain("tls", { transportProtocol: "tls" }),
        ],
        defaultFilterChain: { name: "other", filters: [tcpFilter("other")] },
      },
    ],
  }));
  const openings = [
    "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    "\r\nGET / HTTP/1.1\r\n\r\n",
    "GET /a b HTTP/1.1\r\n\r\n",
    "GET  / HTTP/1.1\r\n\r\n",
    "get / HTTP/1.1\r\n\r\n",
    "FOO / HTTP/1.1\r\n\r\n",
    "GET /\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    "GE",
    "hello\n",
    "\x16\x03\x01\x00\x05hello",
    "\x00\x01\x02",
    "GET / HTTP/2.0\r\n\r\n",
    "POST /x HTTP/1.1\n\n",
    "OPTIONS * HTTP/1.1\r\n\r\n",
    "CONNECT a:80 HTTP/1.1\r\n\r\n",
  ];
  await both.same((proxy) =>
    Promise.all(openings.map(async (text) => [text, await firstWord(proxy.address("l"), text)])),
  );
  await both.same((proxy) => counters(proxy));
});

/** A file access log of what TCP connections have. */
const accessLog = (path: string) => ({
  accessLog: [
    {
      name: "file",
      configType: {
        $case: "typedConfig" as const,
        value: pack("envoy.extensions.access_loggers.file.v3.FileAccessLog", FileAccessLog, {
          path,
          accessLogFormat: {
            $case: "logFormat",
            value: {
              format: {
                $case: "textFormatSource",
                value: {
                  specifier: {
                    $case: "inlineString",
                    value:
                      "%RESPONSE_FLAGS% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% %BYTES_SENT% " +
                      '%UPSTREAM_CLUSTER_RAW% %UPSTREAM_HOST% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" ' +
                      "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %REQUESTED_SERVER_NAME% %PROTOCOL% %ROUTE_NAME% " +
                      "%CONNECTION_TERMINATION_DETAILS% %UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% " +
                      "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%\n",
                  },
                },
              },
            },
          },
        }),
      },
    },
  ],
});

test("the access log says what became of connections", async (t) => {
  const echo = await startEcho(t, "echo");
  const refused = await new Promise<number>((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
  const names = ["echo", "empty", "refused", "missing", "full"];
  const both = await startBoth(t, ({ log }) => ({
    clusters: [
      cluster("echo", [echo.port]),
      cluster("empty", []),
      cluster("refused", [refused]),
      cluster("full", [echo.port], {
        circuitBreakers: { thresholds: [{ priority: 0, maxConnections: 0 }] },
      }),
    ],
    listeners: names.map((name) => ({
      name,
      address: any,
      filterChains: [{ filters: [tcpFilter(name, accessLog(log))] }],
    })),
  }));
  await both.same(async (proxy) => {
    const lines: (string | undefined)[] = [];
    for (const [i, name] of names.entries()) {
      await talk(proxy.address(name), "hello");
      lines.push((await proxy.logged(i + 1))[i]);
    }
    return lines;
  });
  await both.same((proxy) => counters(proxy));
});

for (const [what, action, policy] of [
  [
    "those that may",
    0,
    {
      permissions: [{ rule: { $case: "any", value: true } }],
      principals: [
        { identifier: { $case: "directRemoteIp", value: { addressPrefix: "127.0.0.2", prefixLen: 32 } } },
      ],
    },
  ],
  [
    "all but those that may not",
    1,
    {
      permissions: [{ rule: { $case: "any", value: true } }],
      principals: [
        {
          identifier: {
            $case: "notId",
            value: {
              identifier: { $case: "directRemoteIp", value: { addressPrefix: "127.0.0.2", prefixLen: 32 } },
            },
          },
        },
      ],
    },
  ],
  [
    "nobody without TLS, where a name is asked for",
    0,
    {
      permissions: [{ rule: { $case: "any", value: true } }],
      principals: [{ identifier: { $case: "authenticated", value: {} } }],
    },
  ],
] as const) {
  test(`access control of connections lets pass ${what}`, async (t) => {
    const echo = await startEcho(t, "echo");
    const rbac = {
      name: "rbac",
      configType: {
        $case: "typedConfig" as const,
        value: pack("envoy.extensions.filters.network.rbac.v3.RBAC", RBAC, {
          statPrefix: "tcp.",
          rules: { action, policies: { only: policy } },
        } as never),
      },
    };
    const both = await startBoth(t, () => ({
      clusters: [cluster("echo", [echo.port])],
      listeners: [{ name: "l", address: any, filterChains: [{ filters: [rbac, tcpFilter("echo")] }] }],
    }));
    for (const from of ["127.0.0.1", "127.0.0.2"]) {
      await both.same(async (proxy) => [from, /hello$/.test(await talk(proxy.address("l"), "hello", from))]);
    }
  });
}
