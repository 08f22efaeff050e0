/**
 * kubectl's streams into pods: exec, attach, cp and port-forward, over WebSocket and over SPDY/3.1, which older
 * clients speak. The same with the lab's API server and, when WEFT_REAL_KUBERNETES says where it is, a real one, which
 * calls the lab's kubelets by SPDY.
 */
import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { eventually } from "../support/eventually.ts";
import { type Lab, labUnavailable, root, run, startLab } from "../support/lab.ts";

const reason = labUnavailable();
if (reason) console.log(`skipped: streams into pods: ${reason}`);

/** Answers with the size of what it is sent; on the pod's loopback only, where nobody else comes. */
const server = `
  require("node:http").createServer((request, response) => {
    let size = 0;
    request.on("data", (chunk) => { size += chunk.length; });
    request.on("end", () => response.end(request.url + " " + size));
  }).listen(8080, "127.0.0.1");
  process.on("SIGTERM", () => process.exit());
`;
const manifest = {
  apiVersion: "v1",
  kind: "List",
  items: [
    {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "web", labels: { app: "web" } },
      spec: {
        containers: [
          { name: "main", image: "busybox", command: ["/weft/node_modules/.bin/node", "-e", server] },
        ],
      },
    },
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "web" },
      spec: { selector: { app: "web" }, ports: [{ port: 80, targetPort: 8080 }] },
    },
  ],
};

describe("streams into pods", { skip: reason ?? false }, () => {
  let lab: Lab;
  before(async () => {
    lab = await startLab(["c1"]);
    const file = join(lab.home, "web.json");
    writeFileSync(file, JSON.stringify(manifest));
    await eventually("the default service account", () => lab.kubectl("c1", "apply", "-f", file));
    await lab.kubectl("c1", "wait", "--for=condition=Ready", "pod/web", "--timeout=60s");
  });
  after(() => lab?.down());

  for (const [over, webSockets] of [
    ["WebSocket", "true"],
    ["SPDY", "false"],
  ] as const) {
    const envOf = () => ({
      ...lab.env,
      KUBECTL_REMOTE_COMMAND_WEBSOCKETS: webSockets,
      KUBECTL_PORT_FORWARD_WEBSOCKETS: webSockets,
    });
    const words = (...args: string[]) => ["--context", "weft-c1", ...args];
    const kubectl = (args: string[], input?: string) => run("kubectl", words(...args), envOf(), input);

    test(`exec over ${over}: input, both outputs, exit codes, a program that is not there`, async () => {
      const command = ["exec", "-i", "web", "--", "sh", "-c", "cat; echo oops >&2; exit 7"];
      const large = "0123456789abcdef".repeat(100_000);
      const result = await kubectl(command, large);
      assert.equal(result.stdout, large);
      assert.match(result.stderr, /^oops\n/);
      assert.equal(result.status, 7);
      const missing = await kubectl(["exec", "web", "--", "nope"]);
      assert.match(missing.stderr, /exec: "nope": executable file not found in \$PATH/);
    });

    test(`run -i attaches over ${over}`, async () => {
      const name = `cat-${over.toLowerCase()}`;
      const result = await kubectl(
        ["run", "-i", "--rm", "--restart=Never", "-q", "--image=busybox", name, "--", "cat"],
        "through and back\n",
      );
      assert.equal(result.stdout, "through and back\n", result.stderr);
      assert.equal(result.status, 0);
    });

    test(`cp over ${over}, there and back`, async () => {
      const [there, back] = [join(lab.home, "there"), join(lab.home, `back-${over}`)];
      const bytes = randomBytes(3_000_000);
      writeFileSync(there, bytes);
      for (const words of [
        [there, `web:/tmp/${over}`],
        [`web:/tmp/${over}`, back],
      ]) {
        const { status, stderr } = await kubectl(["cp", ...words]);
        assert.equal(status, 0, `cp ${words.join(" ")}: ${stderr}`);
      }
      assert.ok(readFileSync(back).equals(bytes));
    });

    for (const target of ["pod/web", "svc/web"]) {
      test(`port-forward to ${target} over ${over}: what a pod has on its loopback`, async () => {
        const port = target === "pod/web" ? "8080" : "80";
        const child: ChildProcessWithoutNullStreams = spawn(
          "kubectl",
          words("port-forward", target, `:${port}`),
          { env: envOf(), cwd: root },
        );
        const ended = once(child, "exit");
        try {
          const [said] = (await once(child.stdout, "data")) as [Buffer];
          const local = /127\.0\.0\.1:(\d+) -> 8080/.exec(said.toString())?.[1];
          assert.ok(local, said.toString());
          const ask = async (size: number) => {
            const body = "x".repeat(size);
            return (await fetch(`http://127.0.0.1:${local}/${size}`, { method: "POST", body })).text();
          };
          const sizes = [1, 10_000, 2_000_000, 3];
          assert.deepEqual(
            await Promise.all(sizes.map(ask)),
            sizes.map((size) => `/${size} ${size}`),
          );
        } finally {
          child.kill();
          await ended;
        }
      });
    }

    test(`port-forward over ${over} says that nothing listens`, async () => {
      const child = spawn("kubectl", words("port-forward", "pod/web", ":9"), { env: envOf(), cwd: root });
      let told = "";
      child.stderr.on("data", (chunk: Buffer) => {
        told += chunk.toString();
      });
      const ended = once(child, "exit");
      const [said] = (await once(child.stdout, "data")) as [Buffer];
      const local = /127\.0\.0\.1:(\d+) -> 9/.exec(said.toString())?.[1];
      await assert.rejects(fetch(`http://127.0.0.1:${local}/`));
      await ended;
      assert.match(told, /error forwarding port 9 to pod .*ECONNREFUSED/);
      assert.match(told, /lost connection to pod/);
    });
  }
});
