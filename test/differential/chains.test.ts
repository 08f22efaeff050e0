/** Which filter chain takes a connection: random tables of chains on real Envoy and on the embedded proxy. */
import assert from "node:assert/strict";
import { connect, createServer } from "node:net";
import { test } from "node:test";
import { connect as connectTls } from "node:tls";
import fc from "fast-check";
import { FilterChainMatch } from "#protocols/envoy/config/listener/v3/listener_components.ts";
import { chainMatcher } from "../../src/proxy/downstream/chains.ts";
import { endpoint, listenerFilter, socketAddress, tcpFilter } from "../../src/proxy/testing/resources.ts";
import { listening, startBoth } from "./harness.ts";

const some = <T>(...values: T[]) =>
  fc.oneof(
    { weight: 3, arbitrary: fc.constant<T[]>([]) },
    { weight: 2, arbitrary: fc.subarray(values, { maxLength: 2 }) },
  );
const range = (text: string) => {
  const [addressPrefix, length] = text.split("/");
  return { addressPrefix: addressPrefix!, prefixLen: Number(length) };
};
const ranges = (...texts: string[]) => some(...texts).map((list) => list.map(range));

/** Criteria from few words, so that they meet. (0.0.0.0/0 beside none at all is undefined in Envoy.) */
const match = fc.record({
  prefixRanges: ranges("127.0.0.1/32", "127.0.0.0/8", "10.0.0.0/8"),
  serverNames: some("a.example.com", "*.example.com", "*.com", "b.org"),
  transportProtocol: fc.constantFrom("", "", "tls", "raw_buffer"),
  applicationProtocols: some("h2", "http/1.1", "istio"),
  sourceType: fc.constantFrom(0, 0, 0, 1, 2),
  sourcePrefixRanges: ranges("127.0.0.1/32", "127.0.0.0/8", "127.0.0.2/32"),
});
type Match = typeof match extends fc.Arbitrary<infer M> ? M : never;

/** Chains that do not overlap: the rest is left out. */
function distinct(matches: readonly Match[]): Match[] {
  const kept: Match[] = [];
  for (const one of matches) {
    try {
      chainMatcher(
        [...kept, one].map((m, chain) => ({ match: FilterChainMatch.fromPartial(m as never), chain })),
      );
      kept.push(one);
    } catch {
      // It says the same as another.
    }
  }
  return kept;
}

const clients: { from: string; tls?: { servername: string; ALPNProtocols: string[] }; say?: string }[] = [];
for (const from of ["127.0.0.1", "127.0.0.2"]) {
  clients.push({ from, say: "GET / HTTP/1.1\r\nhost: a\r\n\r\n" }, { from, say: "nothing\r\n\r\n" });
  for (const servername of ["a.example.com", "b.example.com", "x.y.com", "b.org", "c.org", ""]) {
    for (const ALPNProtocols of [["h2", "http/1.1"], ["istio", "h2"], ["other"], []]) {
      clients.push({ from, tls: { servername, ALPNProtocols } });
    }
  }
}

/** The name of the server that the connection came to. */
function whose(to: { ip: string; port: number }, client: (typeof clients)[number]): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host: to.ip, port: to.port, localAddress: client.from });
    socket.on("data", (data) => {
      resolve(String(data));
      socket.destroy();
    });
    socket.on("error", () => undefined);
    socket.on("close", () => resolve("closed"));
    socket.setTimeout(5_000, () => socket.destroy());
    if (!client.tls) {
      socket.write(client.say!);
      return;
    }
    // Only its first words are wanted; the other side talks no TLS.
    const { servername, ALPNProtocols } = client.tls;
    connectTls({
      socket,
      servername,
      ...(ALPNProtocols.length > 0 ? { ALPNProtocols } : {}),
      rejectUnauthorized: false,
    }).on("error", () => undefined);
  });
}

test("random tables of chains give every connection to the same chain", async (t) => {
  const seed = Number(process.env.WEFT_SEED ?? Date.now() % 2 ** 31);
  t.diagnostic(`WEFT_SEED=${seed}`);
  const tables = fc
    .sample(fc.array(match, { minLength: 2, maxLength: 10 }), { numRuns: 40, seed })
    .map(distinct)
    .filter((table) => table.length > 0);
  const most = Math.max(...tables.map((table) => table.length));
  const ports: number[] = [];
  for (let i = 0; i < most; i++) {
    const server = createServer((socket) => {
      socket.on("error", () => undefined).write(`chain ${i}`);
    });
    ports.push((await listening(t, server)).port);
  }
  const both = await startBoth(t, () => ({
    clusters: ports.map((port, i) => ({
      name: String(i),
      clusterDiscoveryType: { $case: "type" as const, value: 0 as const },
      loadAssignment: { clusterName: String(i), endpoints: [{ lbEndpoints: [endpoint("127.0.0.1", port)] }] },
    })),
    listeners: tables.map((table, n) => ({
      name: `table ${n}`,
      address: socketAddress("127.0.0.1", 0),
      listenerFilters: [listenerFilter("tls_inspector"), listenerFilter("http_inspector")],
      filterChains: table.map((one, i) => ({
        name: String(i),
        filterChainMatch: one as never,
        filters: [tcpFilter(String(i))],
      })),
    })),
  }));
  const seen = new Set<string>();
  for (const [n, table] of tables.entries()) {
    const answers = (proxy: typeof both.envoy) =>
      Promise.all(clients.map((client) => whose(proxy.address(`table ${n}`), client)));
    const [wanted, got] = [await answers(both.envoy), await answers(both.weft)];
    for (const [i, client] of clients.entries()) {
      seen.add(got[i]!);
      if (got[i] === wanted[i]) continue;
      assert.fail(
        `${JSON.stringify(client)}: ${got[i]}, not ${wanted[i]}, of ${JSON.stringify(table, undefined, 1)}`,
      );
    }
  }
  assert.ok(seen.size > 2, "the tables tell connections apart");
});
