/** Probes of pods that run: readiness, liveness, and the gates that others open. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { eventually } from "../../../test/support/eventually.ts";
import { pods } from "../../api/index.ts";
import { insideNamespaces } from "../network/testing.ts";
import type { Harness } from "./testing/harness.ts";
import { idle, main, ready, running, shell } from "./testing/pods.ts";

if (insideNamespaces(import.meta.filename)) {
  const { startHarness } = await import("./testing/harness.ts");

  let h: Harness;
  before(async () => {
    h = await startHarness();
    await h.startKubelet();
  });
  after(() => h.close());

  describe("probes", () => {
    test("decide readiness, back and forth", async () => {
      const readinessProbe = {
        exec: { command: ["test", "-e", "/tmp/ok"] },
        periodSeconds: 1,
        failureThreshold: 1,
      };
      const { metadata } = await h.create({ containers: [shell(idle, { readinessProbe })] });
      const pod = await h.until(metadata.name, running);
      assert.equal(ready(pod), false);
      const condition = pod!.status!.conditions!.find(({ type }) => type === "Ready");
      assert.equal(condition!.message, "containers with unready status: [main]");
      await h.sh(metadata.name, "touch /tmp/ok");
      await h.until(metadata.name, ready);
      await h.sh(metadata.name, "rm /tmp/ok");
      await h.until(metadata.name, (pod) => !ready(pod));
      assert.ok(
        (await h.events(metadata.name)).some((event) =>
          event.startsWith("Warning Unhealthy Readiness probe failed"),
        ),
      );
    });

    test("ask by HTTP and TCP at the pod's address", async () => {
      const server = "/weft/node_modules/.bin/node";
      const code = `require("http").createServer((q, r) => { r.statusCode = q.url === "/healthy" && q.headers["x-a"] === "b" ? 200 : 500; r.end(); }).listen(8080)`;
      const { metadata } = await h.create({
        containers: [
          {
            name: "main",
            image: "busybox",
            command: [server, "-e", code],
            ports: [{ name: "web", containerPort: 8080 }],
            readinessProbe: {
              httpGet: { path: "/healthy", port: "web", httpHeaders: [{ name: "X-A", value: "b" }] },
              periodSeconds: 1,
            },
            livenessProbe: { tcpSocket: { port: 8080 }, initialDelaySeconds: 1, periodSeconds: 1 },
          },
        ],
      });
      await h.until(metadata.name, ready);
    });

    test("ask by gRPC", async () => {
      const code = `const h2 = require("http2");
        h2.createServer().on("stream", (s, h) => {
          const asked = []; s.on("data", (d) => asked.push(d)).on("end", () => {
            const ok = h[":path"] === "/grpc.health.v1.Health/Check" && Buffer.concat(asked).subarray(7).toString() === "mine";
            s.on("wantTrailers", () => s.sendTrailers({ "grpc-status": "0" }));
            s.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
            s.end(Buffer.from([0, 0, 0, 0, 2, 8, ok ? 1 : 2]));
          });
        }).listen(9000)`;
      const container = (service: string) => ({
        name: "main",
        image: "busybox",
        command: ["/weft/node_modules/.bin/node", "-e", code],
        readinessProbe: { grpc: { port: 9000, service }, periodSeconds: 1 },
      });
      const good = await h.create({ containers: [container("mine")] });
      const bad = await h.create({ containers: [container("other")] });
      await h.until(good.metadata.name, ready);
      const expected =
        'Warning Unhealthy Readiness probe failed: service unhealthy (responded with "NOT_SERVING")';
      await eventually("an event of it", async () => (await h.events(bad.metadata.name)).includes(expected));
      assert.ok(!ready(await h.until(bad.metadata.name, running)));
    });

    test("restart what is not alive", async () => {
      const livenessProbe = { exec: { command: ["false"] }, periodSeconds: 1, failureThreshold: 1 };
      const { metadata } = await h.create({ containers: [shell(idle, { livenessProbe })] });
      await h.until(metadata.name, (pod) => main(pod)?.restartCount === 1);
      const told = await h.events(metadata.name);
      assert.ok(
        told.includes("Normal Killing Container main failed liveness probe, will be restarted"),
        told.join("; "),
      );
    });

    test("wait for gates that others open", async () => {
      const { metadata } = await h.create({
        readinessGates: [{ conditionType: "example.com/open" }],
        containers: [shell(idle)],
      });
      const pod = (await h.until(metadata.name, (pod) => main(pod)?.ready === true))!;
      assert.equal(
        pod.status!.conditions!.find(({ type }) => type === "Ready")!.reason,
        "ReadinessGatesNotReady",
      );
      const condition = {
        type: "example.com/open",
        status: "True",
        lastTransitionTime: "2026-01-01T00:00:00Z",
      };
      await h.client.patch(
        pods,
        `default/${metadata.name}`,
        { status: { conditions: [condition] } },
        { type: "strategic", subresource: "status" },
      );
      const open = await h.until(metadata.name, ready);
      assert.ok(
        open!.status!.conditions!.some(({ type }) => type === "example.com/open"),
        "the condition of others stays",
      );
    });
  });
}
