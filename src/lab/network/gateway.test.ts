import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { before, describe, test } from "node:test";
import { defaultCluster, type LabSpec } from "../spec.ts";
import { CommandError, namespaceFile, podNamespace, run, setLatencies, setUpBackbone } from "./index.ts";
import { latencyCommands } from "./latency.ts";
import { insideNamespaces } from "./testing.ts";

if (insideNamespaces(import.meta.filename)) {
  const c1 = defaultCluster("c1", 0, 2);
  const c2 = defaultCluster("c2", 1);
  const spec: LabSpec = { clusters: [c1, c2], network: "gateway" };
  const inside = (namespace: string | undefined, code: string) => [
    ...(namespace ? ["nsenter", `--net=${namespaceFile(namespace)}`] : []),
    process.execPath,
    "-e",
    code,
  ];
  const attach = (node: (typeof c1.nodes)[0], uid: string, address: string) =>
    run(
      inside(
        node.name,
        `import("${import.meta.dirname}/index.ts").then((n) => n.attachPod(${JSON.stringify(node)}, "${uid}", "${address}", n.run))`,
      ),
    );
  /** What a server at `address` in `to` says of where a connection from `from` comes from, or the error's code. */
  async function ask(from: string, to: string | undefined, address: string): Promise<string> {
    const [program, ...args] = inside(
      to,
      `require("net").createServer((s) => s.end(s.remoteAddress)).listen(80, "${address}", () => console.log("up"))`,
    );
    const server = spawn(program!, args);
    await once(server.stdout, "data");
    const client = `const s = require("net").connect({ host: "${address}", port: 80, timeout: 3000 });
      s.on("data", (d) => process.stdout.write(d)).on("timeout", () => { console.log("timeout"); s.destroy(); })
       .on("error", (e) => console.log(e.code))`;
    try {
      return (await run(inside(from, client))).trim();
    } finally {
      server.kill();
    }
  }

  describe("a network of gateways", () => {
    before(async () => {
      await setUpBackbone(spec, run);
      await attach(c1.nodes[0]!, "a", "10.10.0.2");
      await attach(c1.nodes[1]!, "b", "10.10.1.2");
      await attach(c2.nodes[0]!, "d", "10.12.0.2");
    });

    test("keeps pods of two clusters apart and says so at once", async () => {
      assert.equal(await ask(podNamespace("a"), podNamespace("d"), "10.12.0.2"), "ENETUNREACH");
      assert.equal(await ask(podNamespace("d"), podNamespace("b"), "10.10.1.2"), "ENETUNREACH");
      assert.equal(await ask(c1.nodes[0]!.name, podNamespace("d"), "10.12.0.2"), "ENETUNREACH");
    });

    test("leaves the pods of a cluster with each other, addresses unchanged", async () => {
      assert.equal(await ask(podNamespace("a"), podNamespace("b"), "10.10.1.2"), "10.10.0.2");
      assert.equal(await ask(podNamespace("a"), c1.nodes[1]!.name, c1.nodes[1]!.address), "10.10.0.2");
      assert.equal(await ask(podNamespace("a"), undefined, c1.apiAddress), "10.10.0.2");
    });

    test("shows nodes and API servers of another cluster the address of the pod's node", async () => {
      assert.equal(await ask(podNamespace("b"), undefined, c2.apiAddress), c1.nodes[1]!.address);
      assert.equal(
        await ask(podNamespace("a"), c2.nodes[0]!.name, c2.nodes[0]!.address),
        c1.nodes[0]!.address,
      );
    });

    test("has latency on its links where the kernel can delay packets, and says so where it cannot", async () => {
      const { network: _, ...flat } = spec;
      const roundTrip = async () => {
        const ping = ["ping", "-c", "1", "-W", "5", c2.nodes[0]!.address];
        const said = await run(["nsenter", `--net=${namespaceFile(c1.nodes[0]!.name)}`, ...ping]);
        return Number(/time=([\d.]+) ms/.exec(said)?.[1]);
      };
      try {
        await setLatencies(flat, [{ between: ["c1", "c2"], latency: 40 }], run);
      } catch (error) {
        assert.ok(error instanceof CommandError && error.command[0] === "tc", String(error));
        assert.match(error.stderr, /Specified qdisc kind is unknown/);
        return;
      }
      assert.ok((await roundTrip()) >= 80);
      await setLatencies(flat, [], run);
      assert.ok((await roundTrip()) < 40);
    });
  });
}

describe("latency on links", () => {
  const [a, b, c] = [defaultCluster("a", 0), defaultCluster("b", 1, 2), defaultCluster("c", 2)];
  const spec = { clusters: [a, b, c] };

  test("waits at the ends of the link alone, and twice as long for what an API server answers", () => {
    const { tc, nft } = latencyCommands(spec, [{ between: ["b", "a"], latency: 40 }]);
    const map = "priomap 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0";
    const bands = (link: string) => [
      `qdisc add dev ${link} root handle 1: prio bands 3 ${map}`,
      `qdisc add dev ${link} parent 1:2 netem delay 40000us limit 100000`,
      `qdisc add dev ${link} parent 1:3 netem delay 80000us limit 100000`,
    ];
    assert.deepEqual(tc, ["node0", "node1", "node2"].flatMap(bands));
    assert.deepEqual(nft.match(/^add rule.*$/gm), [
      'add rule ip weft-latency postrouting oifname "node0" ip saddr { 10.12.0.0/16, 172.18.1.2, 172.18.1.3 } meta priority set 1:2',
      'add rule ip weft-latency postrouting oifname "node0" ip saddr { 172.18.1.1 } meta priority set 1:3',
      ...["node1", "node2"].flatMap((link) => [
        `add rule ip weft-latency postrouting oifname "${link}" ip saddr { 10.10.0.0/16, 172.18.0.2 } meta priority set 1:2`,
        `add rule ip weft-latency postrouting oifname "${link}" ip saddr { 172.18.0.1 } meta priority set 1:3`,
      ]),
    ]);
  });

  test("shares a band where two links wait as long, and is nothing without links", () => {
    const { tc } = latencyCommands(spec, [
      { between: ["a", "b"], latency: 5 },
      { between: ["a", "c"], latency: 10 },
    ]);
    assert.equal(tc[0]?.split(" priomap")[0], "qdisc add dev node0 root handle 1: prio bands 4");
    assert.deepEqual(latencyCommands(spec, []).tc, []);
  });
});
