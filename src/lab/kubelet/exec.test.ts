/** What is asked of containers from outside: logs, exec and attach. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { WebSocket } from "ws";
import { insideNamespaces } from "../network/testing.ts";
import type { Harness } from "./testing/harness.ts";
import { idle, main, running, shell } from "./testing/pods.ts";

if (insideNamespaces(import.meta.filename)) {
  const { startHarness } = await import("./testing/harness.ts");

  let h: Harness;
  before(async () => {
    h = await startHarness();
    await h.startKubelet();
  });
  after(() => h.close());

  describe("logs, exec and attach", () => {
    test("logs are followed to the end, cut, timed and filtered", async () => {
      const { metadata } = await h.create({
        restartPolicy: "Never",
        containers: [shell("for i in 1 2 3; do echo line $i; sleep 0.3; done; echo -n 'no newline'")],
      });
      await h.until(metadata.name, (pod) => main(pod)?.state?.running !== undefined);
      const path = `/containerLogs/default/${metadata.name}/main`;
      assert.equal((await h.get(`${path}?follow=true`)).text, "line 1\nline 2\nline 3\nno newline");
      assert.equal((await h.get(`${path}?tailLines=2`)).text, "line 3\nno newline");
      assert.equal((await h.get(`${path}?limitBytes=9`)).text, "line 1\nli");
      assert.match(
        (await h.get(`${path}?tailLines=1&timestamps=true`)).text,
        /^\d{4}-\d\d-\d\dT\S+Z no newline$/,
      );
      assert.equal((await h.get(`${path}?sinceTime=2100-01-01T00:00:00Z`)).text, "");
      assert.equal((await h.get(`/containerLogs/default/${metadata.name}/nope`)).status, 404);
    });

    test("exec carries input, both outputs and the exit code", async () => {
      const { metadata } = await h.create({
        containers: [shell(idle, { workingDir: "/made/here", env: [{ name: "A", value: "1" }] })],
      });
      await h.until(metadata.name, running);
      const exec = `/exec/default/${metadata.name}/main`;
      const command = encodeURIComponent("cat; pwd; echo $A; echo oops >&2; exit 3");
      const result = await h.stream(
        `${exec}?command=sh&command=-c&command=${command}&stdin=1&stdout=1&stderr=1`,
        (send) => {
          send(0, "typed\n");
          send(255, Uint8Array.of(0));
        },
      );
      assert.equal(result.stdout, "typed\n/made/here\n1\n");
      assert.equal(result.stderr, "oops\n");
      assert.deepEqual(result.status?.details?.causes, [{ reason: "ExitCode", message: "3" }]);
      assert.equal(result.closed, 1000);
      const missing = await h.stream(`${exec}?command=nope&stdout=1`);
      assert.match(missing.status!.message!, /"nope": executable file not found in \$PATH/);
      assert.equal((await h.stream(`/exec/default/${metadata.name}/nope?command=sh`)).closed, 404);
    });

    test("exec has a terminal of the size that the client has", async () => {
      const { metadata } = await h.create({ containers: [shell(idle)] });
      await h.until(metadata.name, running);
      const result = await h.stream(
        `/exec/default/${metadata.name}/main?command=sh&stdin=1&stdout=1&tty=1`,
        (send) => {
          send(4, '{"Width":101,"Height":31}');
          send(0, "stty size; tty; sleep 0.5; stty size; exit 4\n");
          setTimeout(() => send(4, '{"Width":102,"Height":32}'), 300);
        },
      );
      assert.match(result.stdout, /31 101\r\n\/dev\/pts\/0\r\n32 102\r\n/);
      assert.deepEqual(result.status?.details?.causes, [{ reason: "ExitCode", message: "4" }]);
    });

    test("attach reaches the container's own input, which ends with the first client when it is stdinOnce", async () => {
      const { metadata } = await h.create({
        restartPolicy: "Never",
        containers: [
          shell("echo early; while read line; do echo got $line; done; echo end", {
            stdin: true,
            stdinOnce: true,
          }),
        ],
      });
      await h.until(metadata.name, running);
      const result = await h.stream(
        `/attach/default/${metadata.name}/main?stdin=1&stdout=1&stderr=1`,
        (send) => {
          send(0, "hello\n");
          send(255, Uint8Array.of(0));
        },
      );
      assert.equal(result.stdout, "early\ngot hello\nend\n");
      assert.equal(result.status?.status, "Success");
      await h.until(metadata.name, (pod) => pod?.status?.phase === "Succeeded");
    });

    test("a container with a terminal keeps it while clients come and go", async () => {
      const { metadata } = await h.create({
        restartPolicy: "Never",
        containers: [{ name: "main", image: "busybox", command: ["sh"], stdin: true, tty: true }],
      });
      await h.until(metadata.name, running);
      const attach = `/attach/default/${metadata.name}/main?stdin=1&stdout=1&tty=1`;
      const tls = { ca: h.pki.ca.cert, cert: h.pki.kubeletClient.cert, key: h.pki.kubeletClient.key };
      const first = new WebSocket(`wss://${h.node.address}:10250${attach}`, ["v5.channel.k8s.io"], tls);
      await once(first, "open");
      first.send(Buffer.from("\0X=kept\n"));
      await once(first, "message");
      first.close();
      const result = await h.stream(attach, (send) => send(0, "echo is $X; exit 0\n"));
      assert.match(result.stdout, /is kept\r\n/);
    });
  });
}
