/** What `weft install --patch-coredns` writes is understood by a real CoreDNS, which goes on serving. Seconds. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { Resolver } from "node:dns/promises";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { createDnsServer, type DnsServer, Zones } from "../../src/dns/index.ts";
import { withoutServerBlock, withServerBlock } from "../../src/install/index.ts";
import { realWorld } from "../../src/world/index.ts";
import { eventually } from "../support/eventually.ts";
import { tool } from "../support/tools.ts";

const coredns = tool("coredns");

/** A port of UDP that is free now. */
async function freePort(): Promise<number> {
  const socket = createSocket("udp4");
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  const { port } = socket.address();
  await new Promise<void>((resolve) => socket.close(() => resolve()));
  return port;
}

describe("CoreDNS", { skip: coredns.skip, timeout: 60_000 }, () => {
  const dir = mkdtempSync(join(tmpdir(), "weft-coredns-"));
  const file = join(dir, "Corefile");
  const resolver = new Resolver({ timeout: 1000, tries: 1 });
  let weft: DnsServer;
  let weftPort: number;
  let process_: ChildProcess;
  let corefile: string;
  let said = "";

  before(async () => {
    const zones = new Zones();
    zones.add({ name: "clusterset.local", ready: () => true });
    zones.put({ name: "serve.demo.svc.clusterset.local", type: "A", ttl: 5, data: "10.11.0.77" });
    weft = createDnsServer({ world: realWorld(), zones });
    weftPort = await freePort();
    await weft.listen({ address: "127.0.0.1", port: weftPort });
    const port = await freePort();
    // As kubeadm writes it, with names of a file in the place of those of a cluster.
    corefile = `.:${port} {
    bind 127.0.0.1
    errors
    hosts {
        10.11.0.1 kubernetes.default.svc.cluster.local
    }
    cache 30
    reload 2s 1s
    loadbalance
}
`;
    writeFileSync(file, corefile);
    process_ = spawn(coredns.file, ["-conf", file], { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [process_.stdout!, process_.stderr!]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        said += text;
      });
    }
    resolver.setServers([`127.0.0.1:${port}`]);
    await eventually("CoreDNS", () => resolver.resolve4("kubernetes.default.svc.cluster.local"));
  });
  after(async () => {
    process_?.kill("SIGKILL");
    await weft?.close();
    rmSync(dir, { recursive: true, force: true });
  });

  const ask = () =>
    resolver.resolve4("serve.demo.svc.clusterset.local").catch((error: NodeJS.ErrnoException) => error.code);

  test("forwards clusterset.local once its Corefile says so, and no more once that is taken back", async () => {
    assert.notDeepEqual(await ask(), ["10.11.0.77"]);
    const patched = withServerBlock(corefile, `127.0.0.1:${weftPort}`);
    writeFileSync(file, patched);
    await eventually("an answer of Weft's", async () => Array.isArray(await ask())).catch((error) => {
      throw new Error(`CoreDNS said:\n${said}`, { cause: error });
    });
    assert.deepEqual(await ask(), ["10.11.0.77"]);
    assert.deepEqual(await resolver.resolve4("kubernetes.default.svc.cluster.local"), ["10.11.0.1"]);
    assert.equal(
      await resolver.resolve4("absent.demo.svc.clusterset.local").catch(({ code }) => code),
      "ENOTFOUND",
    );
    writeFileSync(file, withoutServerBlock(patched));
    await eventually("no answer of Weft's", async () => !Array.isArray(await ask()));
    assert.deepEqual(await resolver.resolve4("kubernetes.default.svc.cluster.local"), ["10.11.0.1"]);
    assert.doesNotMatch(said, /\[FATAL\]|Corefile parse error/);
  });
});
