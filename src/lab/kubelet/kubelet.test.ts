import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { eventually } from "../../../test/support/eventually.ts";
import { configMaps, leases, nodes, pods, secrets } from "../../api/index.ts";
import { insideNamespaces } from "../network/testing.ts";
import type { Harness } from "./testing/harness.ts";
import { findProcess, idle, main, ready, running, shell } from "./testing/pods.ts";

if (insideNamespaces(import.meta.filename)) {
  const { startHarness } = await import("./testing/harness.ts");

  let h: Harness;
  before(async () => {
    h = await startHarness();
    await h.startKubelet();
  });
  after(() => h.close());

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
        .then(() => findProcess(h, forced.metadata.uid!));
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
}
