import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { before, describe, test } from "node:test";
import { defaultCluster } from "../spec.ts";
import {
  addressOf,
  attachedPods,
  cutLink,
  detachPod,
  healLink,
  namespaceFile,
  podNamespace,
  run,
  setUpBackbone,
} from "./index.ts";
import { insideNamespaces } from "./testing.ts";

if (insideNamespaces(import.meta.filename)) {
  const c1 = defaultCluster("c1", 0, 2);
  const c2 = defaultCluster("c2", 1);
  const spec = { clusters: [c1, c2] };

  /** Answers one TCP connection in a namespace with the address of the caller. */
  async function listen(namespace: string, address: string) {
    const code = `require("net").createServer((s) => s.end(s.remoteAddress)).listen(80, "${address}", () => console.log("up"))`;
    const server = spawn("nsenter", [`--net=${namespaceFile(namespace)}`, process.execPath, "-e", code]);
    await once(server.stdout, "data");
    return server;
  }
  /** As the node itself does it. */
  const attach = (node: (typeof c1.nodes)[0], uid: string, address: string) =>
    run([
      "nsenter",
      `--net=${namespaceFile(node.name)}`,
      process.execPath,
      "-e",
      `import("${import.meta.dirname}/index.ts").then((n) => n.attachPod(${JSON.stringify(node)}, "${uid}", "${address}", n.run))`,
    ]);
  const ask = (namespace: string, address: string) =>
    run([
      "nsenter",
      `--net=${namespaceFile(namespace)}`,
      process.execPath,
      "-e",
      `const s = require("net").connect({ host: "${address}", port: 80, timeout: 2000 });
       s.on("data", (d) => process.stdout.write(d)).on("timeout", () => process.exit(2)).on("error", (e) => { console.error(e.code); process.exit(1); })`,
    ]);

  describe("the backbone of a lab", () => {
    let took = 0;
    before(async () => {
      const began = performance.now();
      await setUpBackbone(spec, run);
      took = performance.now() - began;
      const [n1, n2] = c1.nodes;
      await attach(n1!, "a", "10.10.0.2");
      await attach(n1!, "b", "10.10.0.3");
      await attach(n2!, "c", "10.10.1.2");
      await attach(c2.nodes[0]!, "d", "10.12.0.2");
    });

    test("is up in less than half a second", () => assert.ok(took < 500, `${took} ms`));

    test("carries connections between pods of a node, of a cluster and of two clusters, addresses unchanged", async () => {
      for (const [uid, address] of [
        ["b", "10.10.0.3"],
        ["c", "10.10.1.2"],
        ["d", "10.12.0.2"],
      ] as const) {
        const server = await listen(podNamespace(uid), address);
        try {
          assert.equal(await ask(podNamespace("a"), address), "10.10.0.2");
        } finally {
          server.kill();
        }
      }
    });

    test("shows pods the node's address when the node itself calls", async () => {
      const server = await listen(podNamespace("b"), "10.10.0.3");
      try {
        assert.equal(await ask(c1.nodes[0]!.name, "10.10.0.3"), c1.nodes[0]!.address);
      } finally {
        server.kill();
      }
    });

    test("leads pods to the API server of their own and of another cluster", async () => {
      for (const { apiAddress } of spec.clusters) {
        const code = `require("net").createServer((s) => s.end(s.remoteAddress)).listen(80, "${apiAddress}", () => console.log("up"))`;
        const server = spawn(process.execPath, ["-e", code]);
        await once(server.stdout, "data");
        try {
          assert.equal(await ask(podNamespace("a"), apiAddress), "10.10.0.2");
        } finally {
          server.kill();
        }
      }
    });

    test("carries nothing between two clusters while their link is cut", async () => {
      const { apiAddress } = c2;
      const inPod = await listen(podNamespace("d"), "10.12.0.2");
      const code = `require("net").createServer((s) => s.end("api")).listen(80, "${apiAddress}", () => console.log("up"))`;
      const api = spawn(process.execPath, ["-e", code]);
      await once(api.stdout, "data");
      const inside = await listen(podNamespace("c"), "10.10.1.2");
      try {
        await cutLink(spec, "c1", "c2", run);
        await cutLink(spec, "c2", "c1", run);
        await assert.rejects(ask(podNamespace("a"), "10.12.0.2"), /exit code 2/);
        await assert.rejects(ask(podNamespace("a"), apiAddress), /exit code 2/);
        assert.equal(await ask(podNamespace("a"), "10.10.1.2"), "10.10.0.2");
        await healLink(spec, "c1", "c2", run);
        await healLink(spec, "c1", "c2", run);
        assert.equal(await ask(podNamespace("a"), "10.12.0.2"), "10.10.0.2");
        assert.equal(await ask(podNamespace("a"), apiAddress), "api");
      } finally {
        for (const server of [inPod, api, inside]) server.kill();
      }
    });

    test("says at once that an address has no pod", async () => {
      const began = performance.now();
      await assert.rejects(ask(podNamespace("a"), "10.10.1.99"), /EHOSTUNREACH/);
      assert.ok(performance.now() - began < 1900);
    });

    test("knows its pods and their addresses, and forgets them", async () => {
      assert.deepEqual((await attachedPods()).sort(), ["a", "b", "c", "d"]);
      assert.equal(await addressOf("c", run), "10.10.1.2");
      await detachPod("c", run);
      await detachPod("c", run);
      assert.deepEqual((await attachedPods()).sort(), ["a", "b", "d"]);
      assert.equal(await addressOf("c", run), undefined);
    });

    test("gives an address anew after an attempt that broke off", async () => {
      await attach(c1.nodes[0]!, "e", "10.10.0.9");
      const holder = spawn("nsenter", [`--net=${namespaceFile(podNamespace("e"))}`, "sleep", "100"]);
      await once(holder, "spawn");
      await attach(c1.nodes[0]!, "e", "10.10.0.10");
      assert.equal(await addressOf("e", run), "10.10.0.10");
      holder.kill();
    });
  });
}
