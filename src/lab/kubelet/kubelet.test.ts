import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { homedir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { WebSocket } from "ws";
import { eventually } from "../../../test/support/eventually.ts";
import { configMaps, leases, nodes, type Pod, pods, secrets } from "../../api/index.ts";
import { SimulatedWorld } from "../../world/index.ts";
import { insideNamespaces } from "../network/testing.ts";
import type { Harness } from "./testing/harness.ts";

if (insideNamespaces(import.meta.filename)) {
  const { startHarness } = await import("./testing/harness.ts");

  let h: Harness;
  const secretDir = join(homedir(), ".weft-kubelet-test");

  const running = (pod: Pod | undefined) => pod?.status?.phase === "Running";
  const ready = (pod: Pod | undefined) =>
    pod?.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;
  const main = (pod: Pod | undefined) => pod?.status?.containerStatuses?.[0];
  /** A container that runs a shell command and dies on SIGTERM. */
  const shell = (command: string, more: Partial<Pod["spec"]["containers"][0]> = {}) => ({
    name: "main",
    image: "busybox:1.36",
    command: ["/bin/sh", "-c", `trap 'exit 0' TERM; ${command}`],
    ...more,
  });
  const idle = "while :; do sleep 0.1; done";

  before(async () => {
    h = await startHarness();
    await h.startKubelet();
  });
  after(async () => {
    rmSync(secretDir, { recursive: true, force: true });
    await h.close();
  });

  describe("a node", () => {
    test("is registered, Ready, with its addresses, labels and range, and renews its lease", async () => {
      const node = (await h.client.get(nodes, h.node.name))!;
      assert.equal(node.spec?.podCIDR, "10.10.0.0/24");
      assert.equal(node.metadata.labels?.["kubernetes.io/hostname"], h.node.name);
      assert.ok(node.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True"));
      assert.deepEqual(node.status?.addresses?.[0], { type: "InternalIP", address: h.node.address });
      assert.equal(node.status?.daemonEndpoints?.kubeletEndpoint?.Port, 10250);
      const lease = await h.client.get(leases, `kube-node-lease/${h.node.name}`);
      assert.equal(lease?.spec?.holderIdentity, h.node.name);
    });

    test("lets nobody in without a certificate of the cluster's CA", async () => {
      await assert.rejects(
        new Promise((resolve, reject) => {
          const options = { host: h.node.address, port: 10250, path: "/pods", rejectUnauthorized: false };
          request(options, resolve).on("error", reject).end();
        }),
      );
      assert.equal((await h.get("/healthz")).text, "ok");
    });
  });

  describe("a pod", () => {
    test("runs in its own network namespace, with its own name, address, hosts and resolver", async () => {
      const { metadata } = await h.create({ containers: [shell(idle)], hostname: "web", subdomain: "sites" });
      const pod = (await h.until(metadata.name, ready))!;
      assert.match(pod.status!.podIP!, /^10\.10\.0\.\d+$/);
      assert.equal(pod.status!.hostIP, h.node.address);
      assert.equal(main(pod)!.image, "docker.io/library/busybox:1.36");
      const { output } = await h.sh(
        metadata.name,
        "hostname; ip -o -4 addr show eth0; cat /etc/hosts /etc/resolv.conf; grep hosts /etc/nsswitch.conf",
      );
      assert.match(output, /^web\n/);
      assert.ok(output.includes(`inet ${pod.status!.podIP}/32`), output);
      assert.ok(output.includes(`${pod.status!.podIP}\tweb.sites.default.svc.cluster.local\tweb\n`), output);
      assert.ok(
        output.includes(
          "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.11.0.10\noptions ndots:5\n",
        ),
        output,
      );
      assert.ok(output.includes("hosts: files dns"));
    });

    test("has the variables that its spec, services and the node give it", async () => {
      await h.client.create(configMaps, {
        metadata: { namespace: "default", name: "settings" },
        data: { COLOUR: "blue" },
      });
      const data = { PASSWORD: Buffer.from("secret!").toString("base64") };
      await h.client.create(secrets, { metadata: { namespace: "default", name: "keys" }, data });
      const { metadata } = await h.create({
        containers: [
          shell(idle, {
            envFrom: [{ configMapRef: { name: "settings" }, prefix: "CFG_" }],
            env: [
              { name: "NODE_NAME", valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } },
              { name: "POD_IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
              { name: "PASSWORD", valueFrom: { secretKeyRef: { name: "keys", key: "PASSWORD" } } },
              { name: "BOTH", value: "$(CFG_COLOUR)-$(PASSWORD)-$(NOPE)" },
            ],
          }),
        ],
      });
      const pod = (await h.until(metadata.name, running))!;
      const { output } = await h.sh(metadata.name, "env");
      const env = Object.fromEntries(output.split("\n").map((line) => line.split(/=(.*)/s)));
      assert.equal(env.NODE_NAME, h.node.name);
      assert.equal(env.POD_IP, pod.status!.podIP);
      assert.equal(env.BOTH, "blue-secret!-$(NOPE)");
      assert.equal(env.HOSTNAME, metadata.name);
      assert.equal(env.KUBERNETES_SERVICE_HOST, "10.11.0.1");
      assert.equal(env.KUBERNETES_SERVICE_PORT_HTTPS, "443");
    });

    test("waits for a ConfigMap that it needs and goes on when it is there", async () => {
      const { metadata } = await h.create({
        containers: [shell(idle, { envFrom: [{ configMapRef: { name: "late" } }] })],
      });
      const waiting = await h.until(
        metadata.name,
        (pod) => main(pod)?.state?.waiting?.reason === "CreateContainerConfigError",
      );
      assert.equal(main(waiting)!.state!.waiting!.message, 'configmap "late" not found');
      await h.client.create(configMaps, {
        metadata: { namespace: "default", name: "late" },
        data: { A: "1" },
      });
      await h.until(metadata.name, running);
    });

    test("has volumes: emptyDir shared by containers, files of ConfigMaps, Secrets and the pod's own fields", async () => {
      await h.client.create(configMaps, {
        metadata: { namespace: "default", name: "files" },
        data: { "a.conf": "A\n", "b.conf": "B\n" },
      });
      const { metadata } = await h.create({
        volumes: [
          { name: "shared", emptyDir: {} },
          { name: "config", configMap: { name: "files", items: [{ key: "a.conf", path: "deep/a.conf" }] } },
          {
            name: "about",
            projected: {
              sources: [
                { downwardAPI: { items: [{ path: "name", fieldRef: { fieldPath: "metadata.name" } }] } },
                { configMap: { name: "files", items: [{ key: "b.conf", path: "b", mode: 0o400 }] } },
              ],
            },
          },
          { name: "host", hostPath: { path: "/var/data" } },
        ],
        containers: [
          shell(`echo from main > /shared/x; ${idle}`, {
            volumeMounts: [
              { name: "shared", mountPath: "/shared" },
              { name: "config", mountPath: "/etc/app" },
              { name: "config", mountPath: "/usr/share/no/such/dir" },
              { name: "about", mountPath: "/about" },
              { name: "host", mountPath: "/host" },
            ],
          }),
          shell(idle, {
            name: "other",
            volumeMounts: [{ name: "shared", mountPath: "/their/files", readOnly: true }],
          }),
        ],
      });
      await h.until(metadata.name, running);
      const { output } = await h.sh(
        metadata.name,
        "cat /etc/app/deep/a.conf /usr/share/no/such/dir/deep/a.conf /about/name /about/b; ls -lL /about/b; touch /about/new; ls /usr/share/doc >/dev/null && echo rest; touch /host/x && echo host",
      );
      assert.ok(output.startsWith(`A\nA\n${metadata.name}B\n`), output);
      assert.match(output, /^-r-------- /m);
      assert.match(output, /Read-only file system/);
      assert.match(output, /^rest$/m);
      assert.match(output, /^host$/m);
      const other = await h.sh(metadata.name, "cat /their/files/x; touch /their/files/y", "other");
      assert.match(other.output, /^from main\n.*Read-only file system/);
      assert.ok(
        existsSync(join(h.stateDir, "host/var/data/x")),
        "hostPath volumes are in the node's own directory",
      );
      assert.ok(!existsSync("/var/data"));
    });

    test("starts init containers one after the other, then sidecars, then containers", async () => {
      const mounts = { volumeMounts: [{ name: "log", mountPath: "/log" }] };
      const { metadata } = await h.create({
        volumes: [{ name: "log", emptyDir: {} }],
        initContainers: [
          shell("echo one >> /log/order", { name: "one", ...mounts }),
          shell(`sleep 0.2; echo side >> /log/order; touch /log/up; ${idle}`, {
            name: "side",
            restartPolicy: "Always",
            startupProbe: { exec: { command: ["test", "-e", "/log/up"] }, periodSeconds: 1 },
            ...mounts,
          }),
          shell("echo two >> /log/order", { name: "two", ...mounts }),
        ],
        containers: [shell(`echo main >> /log/order; ${idle}`, mounts)],
      });
      const pod = await h.until(metadata.name, ready);
      const { output } = await h.sh(
        metadata.name,
        "until grep -q main /log/order; do sleep 0.05; done; cat /log/order",
      );
      assert.equal(output, "one\nside\ntwo\nmain\n");
      const [one, side] = pod!.status!.initContainerStatuses!;
      assert.equal(one!.state?.terminated?.reason, "Completed");
      assert.ok(side!.started && side!.ready && side!.state?.running);
      assert.deepEqual(pod!.status!.conditions!.map(({ type, status }) => `${type}=${status}`).sort(), [
        "ContainersReady=True",
        "Initialized=True",
        "PodReadyToStartContainers=True",
        "PodScheduled=True",
        "Ready=True",
      ]);
    });

    test("that ends well is Succeeded, and its sidecar ends with it", async () => {
      const { metadata } = await h.create({
        restartPolicy: "Never",
        initContainers: [shell(idle, { name: "side", restartPolicy: "Always" })],
        containers: [shell("echo done; echo -n bye > /dev/termination-log")],
      });
      const pod = await h.until(metadata.name, (pod) => pod?.status?.phase === "Succeeded");
      assert.equal(main(pod)!.state!.terminated!.message, "bye");
      assert.ok(pod!.status!.initContainerStatuses![0]!.state!.terminated);
      const condition = pod!.status!.conditions!.find(({ type }) => type === "Ready");
      assert.equal(condition!.reason, "PodCompleted");
      assert.equal((await h.get(`/containerLogs/default/${metadata.name}/main`)).text, "done\n");
    });

    test("that fails is Failed, with exit code and the last words of its log", async () => {
      const { metadata } = await h.create({
        restartPolicy: "Never",
        containers: [shell("echo no luck; exit 7", { terminationMessagePolicy: "FallbackToLogsOnError" })],
      });
      const pod = await h.until(metadata.name, (pod) => pod?.status?.phase === "Failed");
      const { exitCode, reason, message } = main(pod)!.state!.terminated!;
      assert.deepEqual({ exitCode, reason, message }, { exitCode: 7, reason: "Error", message: "no luck\n" });
    });

    test("whose container crashes is started again, then with pauses that grow", async () => {
      const { metadata } = await h.create({ containers: [shell("echo run; sleep 0.1; exit 1")] });
      const pod = await h.until(
        metadata.name,
        (pod) => main(pod)?.state?.waiting?.reason === "CrashLoopBackOff",
      );
      assert.equal(main(pod)!.restartCount, 1);
      assert.match(
        main(pod)!.state!.waiting!.message!,
        /^back-off 10s restarting failed container=main pod=/,
      );
      assert.equal(main(pod)!.lastState!.terminated!.exitCode, 1);
      assert.equal(pod!.status!.phase, "Running");
      assert.ok(
        (await h.events(metadata.name)).some((event) =>
          event.startsWith("Warning BackOff Back-off restarting"),
        ),
      );
      const previous = await h.get(`/containerLogs/default/${metadata.name}/main?previous=true`);
      assert.equal(previous.text, "run\n");
    });

    test("with a program that is not there says so", async () => {
      const { metadata } = await h.create({
        restartPolicy: "Never",
        containers: [{ name: "main", image: "busybox", command: ["no-such-program"] }],
      });
      const pod = await h.until(metadata.name, (pod) => pod?.status?.phase === "Failed");
      assert.equal(main(pod)!.state!.terminated!.exitCode, 128);
      assert.match(
        main(pod)!.state!.terminated!.message!,
        /"no-such-program": executable file not found in \$PATH/,
      );
    });

    test("with an image that stands for nothing waits, says how to add it, and starts when it is added", async () => {
      const { metadata } = await h.create({ containers: [{ name: "main", image: "example.com/mine:1" }] });
      const pod = await h.until(
        metadata.name,
        (pod) => main(pod)?.state?.waiting?.reason === "ImagePullBackOff",
      );
      assert.match(main(pod)!.state!.waiting!.message!, /weft image add example\.com\/mine:1 -- COMMAND/);
      assert.equal(pod!.status!.phase, "Pending");
      const log = await h.get(`/containerLogs/default/${metadata.name}/main`);
      assert.deepEqual(
        [log.status, log.text],
        [
          400,
          `container "main" in pod "${metadata.name}" is waiting to start: trying and failing to pull image\n`,
        ],
      );
      writeFileSync(
        h.imagesFile,
        JSON.stringify([{ name: "example.com/mine:1", command: ["/bin/sh", "-c", idle] }]),
      );
      await h.until(metadata.name, running);
      const told = await h.events(metadata.name);
      for (const event of [
        "Warning Failed Error: ErrImagePull",
        "Normal BackOff Back-off pulling image",
        "Normal Created Container created",
        "Normal Started Container started",
      ]) {
        assert.ok(
          told.some((line) => line.startsWith(event)),
          `${event} is not in ${told.join("; ")}`,
        );
      }
    });

    test("is deleted gracefully: preStop, SIGTERM, and its last words are in the API before it goes", async () => {
      const dir = join(h.stateDir, "host/stops");
      const { metadata } = await h.create({
        terminationGracePeriodSeconds: 10,
        volumes: [{ name: "host", hostPath: { path: "/stops" } }],
        containers: [
          {
            ...shell(idle),
            command: [
              "/bin/sh",
              "-c",
              `trap 'echo term >> /stops/log; exit 0' TERM; touch /stops/up; ${idle}`,
            ],
            volumeMounts: [{ name: "host", mountPath: "/stops" }],
            lifecycle: { preStop: { exec: { command: ["/bin/sh", "-c", "echo hook >> /stops/log"] } } },
          },
        ],
      });
      const pod = (await h.until(metadata.name, running))!;
      // Before its trap is set, the first process of a PID namespace does not hear signals.
      await eventually("its trap is set", () => existsSync(join(dir, "up")));
      const began = performance.now();
      await h.client.delete(pods, `default/${metadata.name}`);
      await h.until(metadata.name, (pod) => pod === undefined);
      assert.ok(performance.now() - began < 5000);
      assert.equal(readFileSync(join(dir, "log"), "utf8"), "hook\nterm\n");
      const uid = pod.metadata.uid!;
      assert.ok(!existsSync(`/run/netns/pod_${uid}`));
      assert.ok(!existsSync(join(h.stateDir, "run/pods", uid)));
      assert.ok(!existsSync(join(h.stateDir, "pods", uid)));
      await eventually(
        "its logs are gone",
        () => !readdirSync(join(h.stateDir, "logs")).some((name) => name.includes(uid)),
      );
    });

    test("that ignores SIGTERM is killed when its grace period is over, or at once by force", async () => {
      const stubborn = { name: "main", image: "busybox", command: ["sleep", "1000"] };
      const slow = await h.create({ terminationGracePeriodSeconds: 2, containers: [stubborn] });
      const forced = await h.create({ terminationGracePeriodSeconds: 1000, containers: [stubborn] });
      const { pid } = await h
        .until(forced.metadata.name, running)
        .then(() => findProcess(forced.metadata.uid!));
      await h.until(slow.metadata.name, running);
      const began = performance.now();
      await h.client.delete(pods, `default/${slow.metadata.name}`);
      await h.client.delete(pods, `default/${forced.metadata.name}`);
      await h.client.delete(pods, `default/${forced.metadata.name}`, { gracePeriodSeconds: 0 });
      await eventually("its process is gone", () => !existsSync(`/proc/${pid}`));
      assert.ok(performance.now() - began < 1500, "the forced one is gone");
      await h.until(slow.metadata.name, (pod) => pod === undefined);
      assert.ok(performance.now() - began > 1500, "the slow one had its time");
    });
  });

  describe("a pod with wishes", () => {
    test("gets sysctls of its network namespace, and is told which it cannot have", async () => {
      const sysctls = [{ name: "net.ipv4.ip_local_port_range", value: "40000 40010" }];
      const { metadata } = await h.create({ securityContext: { sysctls }, containers: [shell(idle)] });
      await h.until(metadata.name, running);
      const { output } = await h.sh(metadata.name, "cat /proc/sys/net/ipv4/ip_local_port_range");
      assert.equal(output, "40000\t40010\n");
    });

    test("is warned when it asks for a user that is not mapped, and runs all the same", async () => {
      const { metadata } = await h.create({
        securityContext: { runAsUser: 1000 },
        containers: [shell(idle)],
      });
      await h.until(metadata.name, running);
      const told = await h.events(metadata.name);
      assert.ok(
        told.some((event) => event.startsWith("Warning UserNotMapped runAsUser 1000")),
        told.join("; "),
      );
    });

    test("shares the node's network when it wants to", async () => {
      const { metadata } = await h.create({ hostNetwork: true, containers: [shell(idle)] });
      const pod = await h.until(metadata.name, running);
      assert.equal(pod!.status!.podIP, h.node.address);
      assert.match((await h.sh(metadata.name, "ip -o -4 addr show eth0")).output, /172\.18\.0\.2\/32/);
    });

    test("has a read-only root when it wants to, volumes apart", async () => {
      const { metadata } = await h.create({
        volumes: [{ name: "tmp", emptyDir: { medium: "Memory" } }],
        containers: [
          shell(idle, {
            securityContext: { readOnlyRootFilesystem: true },
            volumeMounts: [{ name: "tmp", mountPath: "/tmp" }],
          }),
        ],
      });
      await h.until(metadata.name, running);
      const { output } = await h.sh(
        metadata.name,
        "touch /x /root/x 2>/dev/null || echo no; touch /tmp/x && echo yes",
      );
      assert.equal(output, "no\nyes\n");
    });

    test("waits for a volume that cannot be had, and is told why", async () => {
      const { metadata } = await h.create({
        volumes: [{ name: "far", nfs: { server: "x", path: "/x" } }],
        containers: [shell(idle, { volumeMounts: [{ name: "far", mountPath: "/far" }] })],
      });
      const pod = await h.until(
        metadata.name,
        (pod) => main(pod)?.state?.waiting?.reason === "ContainerCreating",
      );
      assert.equal(pod!.status!.phase, "Pending");
      await eventually("an event of it", async () =>
        (await h.events(metadata.name)).some((event) => /FailedMount .*"far" : .*kind nfs/.test(event)),
      );
    });

    test("has a token of its ServiceAccount that the API server takes", async () => {
      const { metadata } = await h.create({ automountServiceAccountToken: true, containers: [shell(idle)] });
      await h.until(metadata.name, running);
      const dir = "/var/run/secrets/kubernetes.io/serviceaccount";
      const ask = `fetch("https://172.18.0.1:6443/apis/authentication.k8s.io/v1/selfsubjectreviews", {
          method: "POST",
          headers: { authorization: "Bearer " + fs.readFileSync("${dir}/token"), "content-type": "application/json" },
          body: JSON.stringify({ apiVersion: "authentication.k8s.io/v1", kind: "SelfSubjectReview" }),
        }).then((answer) => answer.text()).then(console.log)`;
      const { output } = await h.sh(
        metadata.name,
        `cat ${dir}/namespace; echo; NODE_EXTRA_CA_CERTS=${dir}/ca.crt /weft/node_modules/.bin/node -e '${ask}'`,
      );
      assert.match(output, /^default\n/);
      assert.match(output, /system:serviceaccount:default:default/);
    });
  });

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

  describe("the machine", () => {
    test("cannot be written to, and its user's files are not seen", async () => {
      mkdirSync(secretDir, { recursive: true });
      writeFileSync(join(secretDir, "config"), "secret");
      const { metadata } = await h.create({
        containers: [
          shell(idle, {
            securityContext: { privileged: true, capabilities: { add: ["SYS_ADMIN", "NET_ADMIN"] } },
          }),
        ],
      });
      await h.until(metadata.name, running);
      const { output } = await h.sh(
        metadata.name,
        `
        for f in /usr/x /opt/x /weft/x /.machine/etc/x /etc/passwd /dev/x /proc/sys/kernel/core_pattern /proc/sys/net/ipv4/ip_forward; do
          (echo x >> $f) 2>/dev/null && echo WROTE $f
        done
        mount -o remount,rw /usr 2>/dev/null && echo REMOUNTED
        umount /.machine/etc/shadow 2>/dev/null && echo UNCOVERED
        unshare --user --map-root-user --mount sh -c 'mount -o remount,bind,rw /usr' 2>/dev/null && echo REMOUNTED
        cat /etc/shadow /.machine/etc/shadow 2>/dev/null | grep : && echo SHADOW
        [ -e ${secretDir} ] && echo HOME
        [ -e ${h.stateDir} ] && echo STATE
        ls /home/* /root/* 2>/dev/null
        cat /proc/1/environ | tr '\\0' '\\n' | grep -c WEFT_TEST
        ls /proc | grep -c '^[0-9]'
        echo end`,
      );
      assert.match(output, /^0\n\d\d?\nend\n$/);
    });

    test("lends its programs, but not its devices and processes", async () => {
      const { metadata } = await h.create({ containers: [shell(idle)] });
      await h.until(metadata.name, running);
      const { output } = await h.sh(
        metadata.name,
        "ls /dev; /weft/node_modules/.bin/node -p 1+1; id -u; cat /proc/1/comm",
      );
      assert.match(
        output,
        /^fd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntermination-log\ntty\nurandom\nzero\n2\n0\nsh\n$/,
      );
    });

    test("is read-only for pods, its own directories as well, which all pods of a node share", async () => {
      const { metadata } = await h.create({ containers: [shell(idle)] });
      await h.until(metadata.name, running);
      const places = "/weft-programs /weft /usr /dev /.machine/etc /sys /proc/sys";
      const { output } = await h.sh(
        metadata.name,
        `for d in ${places}; do touch $d/x 2>/dev/null && echo wrote $d; done; ls -d /weft-programs; echo over`,
      );
      assert.equal(output, "/weft-programs\nover\n");
    });

    test("has what a pod wants to write: /tmp, /var, /run, /root, /etc and places of its own", async () => {
      const { metadata } = await h.create({ containers: [shell(idle)] });
      await h.until(metadata.name, running);
      const { output, code } = await h.sh(
        metadata.name,
        "set -e; for d in /tmp /var/log /var/lib /run /root /etc /new/dir /dev/shm; do mkdir -p $d; touch $d/x; done; echo fine",
      );
      assert.deepEqual([output, code], ["fine\n", 0]);
    });
  });

  describe("a kubelet that is killed", () => {
    test("finds its containers again, loses none, restarts none, and nothing that they said", async () => {
      const talker = shell("i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done");
      const stays = await h.create({ containers: [talker] });
      const ends = await h.create({
        restartPolicy: "Never",
        containers: [shell("sleep 1; echo last words; exit 5")],
      });
      const goes = await h.create({ terminationGracePeriodSeconds: 1000, containers: [shell(idle)] });
      for (const { metadata } of [stays, ends, goes]) await h.until(metadata.name, running);
      const before = (await h.until(stays.metadata.name, ready))!;
      const { pid } = await findProcess(goes.metadata.uid!);

      await killKubelet();
      await h.client.delete(pods, `default/${goes.metadata.name}`, { gracePeriodSeconds: 0 });
      await new Promise((resolve) => setTimeout(resolve, 1500));
      assert.ok(existsSync(`/proc/${pid}`), "pods run on without a kubelet");
      await h.startKubelet();

      const ended = await h.until(ends.metadata.name, (pod) => pod?.status?.phase === "Failed");
      assert.equal(main(ended)!.state!.terminated!.exitCode, 5);
      assert.equal((await h.get(`/containerLogs/default/${ends.metadata.name}/main`)).text, "last words\n");
      await eventually("its process is gone", () => !existsSync(`/proc/${pid}`));

      const after = (await h.until(stays.metadata.name, ready))!;
      assert.equal(main(after)!.containerID, main(before)!.containerID);
      assert.equal(main(after)!.restartCount, 0);
      assert.equal(after.status!.podIP, before.status!.podIP);
      const numbers = await eventually("its log goes on", async () => {
        const { text } = await h.get(`/containerLogs/default/${stays.metadata.name}/main`);
        const lines = text.trim().split("\n").map(Number);
        return lines.length > 30 && lines;
      });
      assert.deepEqual(
        numbers,
        numbers.map((_, n) => n + 1),
      );
      const next = await h.create({ containers: [shell(idle)] });
      const other = await h.until(next.metadata.name, running);
      assert.notEqual(other!.status!.podIP, after.status!.podIP);
    });
  });

  describe("a kubelet that is killed again and again", () => {
    test("at any moment of many pods' starts and ends leaves them right", async (t) => {
      const seed = Date.now() % 100_000;
      t.diagnostic(`seed ${seed}`);
      const world = new SimulatedWorld(seed);
      const names: string[] = [];
      const gone: Pod[] = [];
      for (let round = 0; round < 4; round++) {
        for (let n = 0; n < 4; n++) {
          const pod = await h.create({ terminationGracePeriodSeconds: 1, containers: [shell(idle)] });
          if (n === 0) gone.push(pod);
          else names.push(pod.metadata.name);
        }
        await new Promise((resolve) => setTimeout(resolve, world.random() * 300));
        await h.client.delete(pods, `default/${gone.at(-1)!.metadata.name}`);
        await new Promise((resolve) => setTimeout(resolve, world.random() * 200));
        await killKubelet();
        await h.startKubelet();
      }
      const addresses = new Set<string>();
      for (const name of names) {
        const pod = await h.until(name, ready);
        assert.equal(main(pod)!.restartCount, 0, name);
        addresses.add(pod!.status!.podIP!);
        assert.equal((await h.sh(name, "echo here")).output, "here\n");
      }
      assert.equal(addresses.size, names.length);
      for (const { metadata } of gone) {
        await h.until(metadata.name, (pod) => pod === undefined);
        assert.ok(!existsSync(`/run/netns/pod_${metadata.uid}`), metadata.name);
      }
    });
  });

  async function killKubelet(): Promise<void> {
    const kubelet = h.kubelet();
    kubelet.removeAllListeners("exit");
    const gone = once(kubelet, "exit");
    kubelet.kill("SIGKILL");
    await gone;
  }

  /** The first process of the pod's only container, as the lab sees it. */
  async function findProcess(uid: string): Promise<{ pid: number }> {
    const containers = join(h.stateDir, "run/containers");
    for (const id of readdirSync(containers)) {
      const record = JSON.parse(readFileSync(join(containers, id, "container.json"), "utf8")) as {
        pod: { uid: string };
      };
      if (record.pod.uid === uid)
        return { pid: Number.parseInt(readFileSync(join(containers, id, "started"), "utf8"), 10) };
    }
    throw new Error(`no container of ${uid}`);
  }
}
