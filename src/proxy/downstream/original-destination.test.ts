/** Redirected connections, in a network of their own: where they were going decides what becomes of them. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { connect, createServer } from "node:net";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Cluster } from "#protocols/envoy/config/cluster/v3/cluster.ts";
import { insideNamespaces } from "../../lab/network/testing.ts";
import { type EmbeddedProxy, startProxy } from "../index.ts";
import {
  endpoint,
  listener,
  listenerFilter,
  noHttp,
  socketAddress,
  staticCluster,
  tcpFilter,
} from "../testing/resources.ts";

const own = "10.0.0.7";
const own6 = "fd00::7";
const bound = "169.254.77.1";

const rules = `
table inet weft {
  chain out {
    type nat hook output priority -100
    ip saddr ${bound} return
    ip daddr ${own} tcp dport { 9000, 9001, 9002 } redirect to :15001
    ip6 daddr ${own6} tcp dport { 9000, 9002 } redirect to :15002
  }
}
`;

/** What a server says first; then the connection is over. */
function ask(host: string, port: number): Promise<string> {
  return new Promise((resolve) => {
    let said = "";
    const socket = connect({ host, port });
    socket.on("data", (data) => {
      said += String(data);
    });
    socket.on("error", () => undefined);
    socket.on("close", () => resolve(said || "closed"));
  });
}

if (insideNamespaces(fileURLToPath(import.meta.url))) {
  let proxy: EmbeddedProxy;
  const servers: ReturnType<typeof createServer>[] = [];
  before(async () => {
    const ip = (...args: string[]) => execFileSync("ip", args);
    ip("link", "set", "lo", "up");
    ip("addr", "add", `${own}/32`, "dev", "lo");
    ip("addr", "add", `${bound}/32`, "dev", "lo");
    ip("addr", "add", `${own6}/128`, "dev", "lo", "nodad");
    execFileSync("nft", ["-f", "-"], { input: rules });
    for (const port of [9000, 9001]) {
      const server = createServer((socket) => {
        socket.on("error", () => undefined).end(`${port} from ${socket.remoteAddress}`);
      });
      servers.push(server);
      await new Promise<void>((resolve) => server.listen(port, own, resolve));
    }
    const original = Cluster.fromPartial({
      name: "original",
      clusterDiscoveryType: { $case: "type", value: 4 },
      lbPolicy: 6,
    });
    const to = (name: string) => ({ filterChains: [{ filters: [tcpFilter(name)] }] });
    proxy = await startProxy({
      http: noHttp,
      node: { id: "x", cluster: "x", metadata: {}, locality: { region: "", zone: "", subZone: "" } },
      bindAddress: bound,
      fixed: {
        clusters: new Map([
          ["original", Cluster.encode(original).finish()],
          staticCluster("nine", [endpoint(own, 9000)]),
        ]),
        listeners: new Map([
          listener("outbound", 15001, {
            address: socketAddress("0.0.0.0", 15001),
            useOriginalDst: true,
            listenerFilters: [listenerFilter("original_dst")],
            ...to("original"),
          }),
          listener("0.0.0.0_9001", 9001, {
            address: socketAddress("0.0.0.0", 9001),
            bindToPort: false,
            ...to("nine"),
          }),
          listener("six", 15002, {
            address: socketAddress("::", 15002),
            listenerFilters: [listenerFilter("original_dst")],
            filterChains: [
              {
                filterChainMatch: {
                  destinationPort: 9000,
                  prefixRanges: [{ addressPrefix: own6, prefixLen: 128 }],
                },
                filters: [tcpFilter("nine")],
              },
            ],
          }),
        ]),
      },
    });
    await proxy.ready;
  });
  after(async () => {
    await proxy.stop();
    for (const server of servers) server.close();
  });

  test("a connection goes on to where it was going, from the address that redirection lets pass", async () => {
    assert.equal(await ask(own, 9000), `9000 from ${bound}`);
  });

  test("a listener that has no socket of its own takes what was going to its port", async () => {
    assert.equal(await ask(own, 9001), `9000 from ${bound}`);
  });

  test("chains go by where an IPv6 connection was going", async () => {
    assert.equal(await ask(own6, 9000), `9000 from ${bound}`);
    assert.equal(await ask(own6, 9002), "closed");
  });

  test("what was not redirected has nowhere to go, and does not go in circles", async () => {
    assert.equal(await ask("127.0.0.1", 15001), "closed");
  });

  test("where nobody listens the connection closes", async () => {
    assert.equal(await ask(own, 9002), "closed");
  });
}
