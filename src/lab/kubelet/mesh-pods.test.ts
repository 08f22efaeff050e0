/** What pods of a mesh ask of a kubelet: sidecars in their order, redirection, tokens for others, files in memory. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { eventually } from "../../../test/support/eventually.ts";
import { type Pod, pods } from "../../api/index.ts";
import { insideNamespaces } from "../network/testing.ts";
import type { Harness } from "./testing/harness.ts";
import { ready } from "./testing/pods.ts";

if (insideNamespaces(import.meta.filename)) {
  const { startHarness } = await import("./testing/harness.ts");

  let h: Harness;
  before(async () => {
    h = await startHarness();
    await h.startKubelet();
  });
  after(() => h.close());

  const shell = (name: string, command: string, more: object = {}) => ({
    name,
    image: "busybox:1.36",
    command: ["/bin/sh", "-c", command],
    ...more,
  });
  const idle = "while :; do sleep 0.05; done";
  /** A web server that answers all and everything once `/work/FILE` is there, in Node: it is on every machine. */
  const server = (port: number, file = "") =>
    `exec /weft/node_modules/.bin/node -e '
      const fs = require("fs");
      process.on("SIGTERM", () => process.exit(0));
      require("http").createServer((q, r) => {
        if (q.url !== "/ready") fs.appendFileSync("/work/asked", q.url + "\\n");
        r.writeHead(${file ? `fs.existsSync("/work/${file}") ? 200 : 503` : "200"}).end("served by ${port}");
      }).listen(${port})'`;
  const work = { volumes: [{ name: "work", emptyDir: {} }] };
  const mount = { volumeMounts: [{ name: "work", mountPath: "/work" }] };
  const started = (pod: Pod | undefined, name: string) =>
    [...(pod?.status?.initContainerStatuses ?? []), ...(pod?.status?.containerStatuses ?? [])].find(
      (status) => status.name === name,
    );

  describe("native sidecars", () => {
    test("hold the containers back until their startup probe passes, and count for readiness", async () => {
      const { metadata } = await h.create({
        ...work,
        initContainers: [
          shell("proxy", server(15021, "go"), {
            restartPolicy: "Always",
            ...mount,
            startupProbe: {
              httpGet: { path: "/ready", port: 15021 },
              periodSeconds: 1,
              failureThreshold: 100,
            },
            readinessProbe: {
              httpGet: { path: "/ready", port: 15021 },
              periodSeconds: 1,
              failureThreshold: 1,
            },
          }),
        ],
        containers: [shell("main", `trap 'exit 0' TERM; ${idle}`, mount)],
      });
      const held = await h.until(metadata.name, (pod) => started(pod, "proxy")?.state?.running !== undefined);
      assert.equal(started(held, "proxy")?.started, false);
      assert.equal(started(held, "main")?.state?.waiting?.reason, "PodInitializing");
      await h.sh(metadata.name, "touch /work/go", "proxy");
      const open = await h.until(metadata.name, ready);
      assert.equal(started(open, "proxy")?.started, true);
      assert.equal(started(open, "proxy")?.ready, true);
      await h.sh(metadata.name, "rm /work/go", "proxy");
      const closed = await h.until(metadata.name, (pod) => !ready(pod));
      assert.equal(started(closed, "proxy")?.ready, false);
      assert.equal(started(closed, "main")?.ready, true, "the container itself is");
      assert.equal(started(closed, "proxy")?.restartCount, 0);
    });

    test("are told at once that the pod ends, and end when the containers have, the last one first", async () => {
      const log = (text: string) => `echo ${text} >> /work/log`;
      const host = { name: "work", hostPath: { path: "/order", type: "DirectoryOrCreate" } };
      const sidecar = (name: string) =>
        shell(name, `trap '${log(`${name} ends`)}; exit 0' TERM; ${idle}`, {
          restartPolicy: "Always",
          ...mount,
          lifecycle: { preStop: { exec: { command: ["/bin/sh", "-c", log(`${name} hook`)] } } },
        });
      const { metadata } = await h.create({
        volumes: [host],
        terminationGracePeriodSeconds: 20,
        initContainers: [sidecar("first"), sidecar("second")],
        containers: [
          shell("main", `trap 'sleep 0.5; ${log("main ends")}; exit 0' TERM; touch /work/on; ${idle}`, mount),
        ],
      });
      await h.until(metadata.name, ready);
      const reader = await h.create({ volumes: [host], containers: [shell("main", idle, mount)] });
      await h.until(reader.metadata.name, ready);
      const { output: on } = await h.sh(reader.metadata.name, "ls /work");
      assert.match(on, /on/);
      await h.client.delete(pods, {
        namespace: "default",
        name: metadata.name,
      });
      await h.until(metadata.name, (pod) => pod === undefined);
      const { output } = await h.sh(reader.metadata.name, "cat /work/log");
      const lines = output.trim().split("\n");
      assert.deepEqual(lines.slice(0, 2).sort(), ["first hook", "second hook"]);
      assert.deepEqual(lines.slice(2), ["main ends", "second ends", "first ends"]);
    });

    test("get their moment to end also when a container has used up the grace period", async () => {
      const host = { name: "work", hostPath: { path: "/grace", type: "DirectoryOrCreate" } };
      const { metadata } = await h.create({
        volumes: [host],
        terminationGracePeriodSeconds: 1,
        initContainers: [
          shell("proxy", `trap 'echo ended > /work/log; exit 0' TERM; ${idle}`, {
            restartPolicy: "Always",
            ...mount,
          }),
        ],
        containers: [shell("main", `trap '' TERM; touch /work/on; ${idle}`, mount)],
      });
      await h.until(metadata.name, ready);
      const reader = await h.create({ volumes: [host], containers: [shell("main", idle, mount)] });
      await h.until(reader.metadata.name, ready);
      await eventually(
        "its trap is set",
        async () => (await h.sh(reader.metadata.name, "test -e /work/on")).code === 0,
      );
      await h.client.delete(pods, {
        namespace: "default",
        name: metadata.name,
      });
      await h.until(metadata.name, (pod) => pod === undefined);
      assert.equal((await h.sh(reader.metadata.name, "cat /work/log")).output.trim(), "ended");
    });

    test("run their hooks over HTTP, at ports that they name", async () => {
      const hook = (path: string) => ({ httpGet: { path, port: "admin" } });
      const host = { name: "work", hostPath: { path: "/hooks", type: "DirectoryOrCreate" } };
      const { metadata } = await h.create({
        volumes: [host],
        initContainers: [
          shell("proxy", server(15020), {
            restartPolicy: "Always",
            ...mount,
            ports: [{ name: "admin", containerPort: 15020 }],
            readinessProbe: { httpGet: { path: "/ready", port: 15020 } },
            lifecycle: { preStop: hook("/drain") },
          }),
        ],
        containers: [shell("main", `trap 'exit 0' TERM; ${idle}`, mount)],
      });
      await h.until(metadata.name, ready);
      const reader = await h.create({ volumes: [host], containers: [shell("main", idle, mount)] });
      await h.until(reader.metadata.name, ready);
      await h.client.delete(pods, {
        namespace: "default",
        name: metadata.name,
      });
      await h.until(metadata.name, (pod) => pod === undefined);
      assert.equal((await h.sh(reader.metadata.name, "cat /work/asked")).output.trim(), "/drain");
    });
  });

  describe("an init container", () => {
    const rules = `
      table ip weft {
        chain output {
          type nat hook output priority -100;
          oifname lo return
          ip saddr 169.254.77.1 return
          ip protocol tcp redirect to :15001
        }
        chain input {
          type nat hook prerouting priority dstnat;
          tcp dport 15021 return
          ip protocol tcp redirect to :15006
        }
        chain leave {
          type nat hook postrouting priority srcnat;
          ip saddr 169.254.77.1 snat to $POD_IP
        }
      }`;
    const env = { env: [{ name: "POD_IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } }] };
    const redirect = `ip address replace 169.254.77.1/32 dev eth0 && nft -f - <<END\n${rules}\nEND`;

    test("that may administer the network redirects the pod's connections, in and out", async () => {
      const { metadata } = await h.create({
        ...work,
        initContainers: [
          shell("redirect", redirect, { ...env, securityContext: { capabilities: { add: ["NET_ADMIN"] } } }),
          shell("outbound", server(15001), { restartPolicy: "Always", ...mount }),
          shell("inbound", server(15006), { restartPolicy: "Always", ...mount }),
          shell("health", server(15021), {
            restartPolicy: "Always",
            ...mount,
            startupProbe: { httpGet: { path: "/ready", port: 15021 }, periodSeconds: 1 },
          }),
        ],
        containers: [
          shell("main", server(8080), {
            ...mount,
            readinessProbe: { httpGet: { path: "/ready", port: 8080 } },
          }),
        ],
      });
      const pod = await h.until(metadata.name, ready);
      const ask = (from: string, url: string, more = "") =>
        h.sh(
          from,
          `/weft/node_modules/.bin/node -e 'require("http").get("${url}", {${more}}, (r) => r.pipe(process.stdout)).on("error", (e) => console.log(e.code))'`,
        );
      const { output: addresses } = await h.sh(metadata.name, "ip -4 -o address show dev eth0");
      assert.match(addresses, /169\.254\.77\.1\/32/);
      // Anything outside is the outbound proxy's.
      assert.equal((await ask(metadata.name, "http://203.0.113.9:80/")).output, "served by 15001");
      // The proxy's own address passes: there is nobody at that place.
      const own = await ask(
        metadata.name,
        `http://${pod!.status!.podIP}:8080/`,
        'localAddress: "169.254.77.1"',
      );
      assert.equal(own.output, "served by 8080");
      const other = await h.create({ containers: [shell("main", `trap 'exit 0' TERM; ${idle}`)] });
      await h.until(other.metadata.name, ready);
      const at = (port: number) => ask(other.metadata.name, `http://${pod!.status!.podIP}:${port}/`);
      assert.equal((await at(8080)).output, "served by 15006");
      assert.equal((await at(9999)).output, "served by 15006");
      assert.equal((await at(15021)).output, "served by 15021");
    });

    test("that may not, is refused", async () => {
      const { metadata } = await h.create({
        restartPolicy: "Never",
        initContainers: [shell("redirect", redirect, env)],
        containers: [shell("main", idle)],
      });
      const pod = await h.until(metadata.name, (found) => found?.status?.phase === "Failed");
      assert.notEqual(pod!.status!.initContainerStatuses![0]!.state!.terminated!.exitCode, 0);
    });
  });

  test("a user that is not mapped is a warning, and the programs run", async () => {
    const { metadata } = await h.create({
      initContainers: [
        shell("proxy", `trap 'exit 0' TERM; ${idle}`, {
          restartPolicy: "Always",
          securityContext: { runAsUser: 1337, runAsGroup: 1337, runAsNonRoot: true },
        }),
      ],
      containers: [shell("main", `trap 'exit 0' TERM; ${idle}`)],
    });
    await h.until(metadata.name, ready);
    const told = await h.events(metadata.name);
    assert.equal(told.filter((event) => event.startsWith("Warning")).length, 1, told.join("\n"));
    assert.match(told.find((event) => event.startsWith("Warning"))!, /UserNotMapped runAsUser 1337/);
  });

  test("a projected token is for its audience and for its time", async () => {
    const token = { audience: "istio-ca", expirationSeconds: 7200, path: "istio-token" };
    const { metadata } = await h.create({
      volumes: [{ name: "token", projected: { sources: [{ serviceAccountToken: token }] } }],
      containers: [
        shell("main", `trap 'exit 0' TERM; ${idle}`, {
          volumeMounts: [{ name: "token", mountPath: "/var/run/secrets/tokens" }],
        }),
      ],
    });
    await h.until(metadata.name, ready);
    const { output } = await h.sh(metadata.name, "cat /var/run/secrets/tokens/istio-token");
    const claims = JSON.parse(Buffer.from(output.split(".")[1]!, "base64url").toString());
    assert.deepEqual(claims.aud, ["istio-ca"]);
    assert.equal(claims.exp - claims.iat, 7200);
    assert.equal(claims["kubernetes.io"].pod.name, metadata.name);
    const review = (audiences: string[]) =>
      h.client.json<{ status: { authenticated?: boolean; audiences?: string[] } }>(
        "POST",
        "/apis/authentication.k8s.io/v1/tokenreviews",
        {
          body: {
            apiVersion: "authentication.k8s.io/v1",
            kind: "TokenReview",
            spec: { token: output, audiences },
          },
        },
      );
    assert.deepEqual((await review(["istio-ca"])).status.audiences, ["istio-ca"]);
    assert.notEqual((await review(["other"])).status.authenticated, true);
  });

  test("an emptyDir of medium Memory is on no disk", async () => {
    const { metadata } = await h.create({
      volumes: [{ name: "memory", emptyDir: { medium: "Memory", sizeLimit: "1Mi" } }],
      containers: [
        shell("main", `trap 'exit 0' TERM; ${idle}`, {
          volumeMounts: [{ name: "memory", mountPath: "/etc/istio/proxy" }],
        }),
      ],
    });
    await h.until(metadata.name, ready);
    const { output } = await h.sh(
      metadata.name,
      "touch /etc/istio/proxy/x && stat -f -c %T /etc/istio/proxy",
    );
    assert.equal(output.trim(), "tmpfs");
  });
}
