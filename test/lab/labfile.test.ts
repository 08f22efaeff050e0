/**
 * A lab as its file describes it, in every field; faults on purpose; and a lab that is kept: ended, and brought back
 * with everything in it.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { LabRecord, LabStatus } from "../../src/lab/index.ts";
import { eventually } from "../support/eventually.ts";
import { labUnavailable, type Result, root, run, samples, tableRows } from "../support/lab.ts";

const bin = join(root, "bin/weft");
const demo = join(samples, "mcs-demo");
const reason = labUnavailable();
if (reason) console.log(`skipped: the lab file: ${reason}`);

const file = `
network: gateway
images:
  example.com/greeter: [echo, hello from the lab file]
  example.com/machine:
clusters:
- name: east
  clusterDomain: east.example
  podRange: 10.64.0.0/16
  serviceRange: 10.65.0.0/16
  region: eu
  nodes:
  - zone: eu-1
  - name: east-2
    zone: eu-2
    labels: { disk: ssd }
- name: west
`;

describe("a lab file", { skip: reason, timeout: 240_000 }, () => {
  let home: string;
  let env: NodeJS.ProcessEnv;
  let labFile: string;
  const weft = (...args: string[]): Promise<Result> => run(bin, args, env);
  const good = async (...args: string[]): Promise<string> => {
    const { status, stdout, stderr } = await weft(...args);
    assert.equal(status, 0, `weft ${args.join(" ")}\n${stdout}\n${stderr}`);
    return stdout;
  };
  /** The error of a command that is refused. */
  const refused = async (...args: string[]): Promise<string> => {
    const { status, stderr } = await weft(...args);
    assert.equal(status, 1, stderr);
    return stderr.split("\n")[0]!;
  };
  const kubectl = (cluster: string, ...args: string[]): Promise<Result> =>
    run("kubectl", ["--context", `weft-${cluster}`, ...args], env);
  const says = async (cluster: string, ...args: string[]): Promise<string> => {
    const { status, stdout, stderr } = await kubectl(cluster, ...args);
    assert.equal(status, 0, `kubectl ${args.join(" ")}\n${stdout}\n${stderr}`);
    return stdout.trim();
  };
  const status = async () => JSON.parse(await good("status", "-o", "json")) as LabStatus;
  const inPod = (script: string) =>
    kubectl("east", "-n", "demo", "exec", "deploy/serve", "--", "sh", "-c", script);

  before(async () => {
    home = mkdtempSync(join(tmpdir(), "weft-test-"));
    env = { ...process.env, WEFT_HOME: join(home, "weft"), KUBECONFIG: join(home, "kubeconfig") };
    labFile = join(home, "lab.yaml");
    writeFileSync(labFile, file);
    await good("up", "-f", labFile);
    for (const [cluster, deployment] of [
      ["east", "dep1.yaml"],
      ["west", "dep2.yaml"],
    ] as const) {
      await says(cluster, "create", "ns", "demo");
      await says(cluster, "apply", "-f", join(demo, deployment), "-f", join(demo, "svc.yaml"));
      await says(cluster, "-n", "demo", "rollout", "status", "deployment/serve", "--timeout=60s");
    }
  });
  after(async () => {
    await weft("down");
    rmSync(home, { recursive: true, force: true });
  });

  test("with a mistake is refused with its line, and nothing is started", async () => {
    const bad = join(home, "bad.yaml");
    const other = { ...env, WEFT_HOME: join(home, "other") };
    for (const [text, message] of [
      [
        "clusters:\n- name: c1\n  pods: 10.0.0.0/8\n",
        `${bad}:3:9: clusters[0].pods: there is no such field; `,
      ],
      [
        "clusters:\n- name: a\n- name: b\n  podRange: 10.10.0.0/20\n",
        "the address range 10.10.0.0/20 of the pods of b ",
      ],
    ] as const) {
      writeFileSync(bad, text);
      const { status, stderr } = await run(bin, ["up", "-f", bad], other);
      assert.equal(status, 1);
      assert.ok(stderr.startsWith(`error: ${message}`), stderr);
    }
    const { stderr } = await run(bin, ["up", "-f", join(home, "nowhere.yaml")], other);
    assert.equal(stderr.split("\n")[0], `error: ${join(home, "nowhere.yaml")}: no such file or directory`);
    assert.equal(existsSync(join(home, "other")), false);
  });

  test("makes nodes with their names, labels, regions and zones", async () => {
    const columns = "-L=topology.kubernetes.io/region,topology.kubernetes.io/zone,disk";
    const rows = tableRows(await says("east", "get", "nodes", columns));
    assert.deepEqual(
      rows.map(({ NAME, STATUS, REGION, ZONE, DISK }) => [NAME, STATUS, REGION, ZONE, DISK]),
      [
        ["east-2", "Ready", "eu", "eu-2", "ssd"],
        ["east-control-plane", "Ready", "eu", "eu-1", ""],
      ],
    );
  });

  test("gives a cluster its ranges and its own domain", async () => {
    const service = await says(
      "east",
      "-n",
      "demo",
      "get",
      "svc",
      "serve",
      "-o",
      "jsonpath={.spec.clusterIP}",
    );
    assert.match(service, /^10\.65\./);
    const pod = await says("east", "-n", "demo", "get", "pods", "-o", "jsonpath={.items[0].status.podIP}");
    assert.match(pod, /^10\.64\./);
    const { stdout } = await inPod(
      "cat /etc/resolv.conf; getent hosts serve.demo.svc.east.example; getent hosts serve",
    );
    assert.match(stdout, /^search demo\.svc\.east\.example svc\.east\.example east\.example$/m);
    assert.equal(
      stdout.match(new RegExp(`^${service} +serve\\.demo\\.svc\\.east\\.example$`, "gm"))?.length,
      2,
    );
    assert.notEqual((await inPod("getent hosts serve.demo.svc.cluster.local")).status, 0);
  });

  test("keeps the pods of clusters apart where the network has gateways only", async () => {
    assert.equal((await status()).network, "gateway");
    const west = await says("west", "-n", "demo", "get", "pods", "-o", "jsonpath={.items[0].status.podIP}");
    const { status: code, stderr } = await inPod(`curl -sS --max-time 5 http://${west}:8080/`);
    assert.notEqual(code, 0);
    assert.match(stderr, /Network is unreachable|Couldn't connect|Failed to connect/);
    // API servers are reached, and so the clusters know each other.
    await eventually("east sees west", async () => {
      const rows = tableRows(await good("clusters", "--context", "weft-east"));
      return rows.find(({ CLUSTER }) => CLUSTER === "west")?.REASON === "Live";
    });
  });

  test("names images, and so does weft image add", async () => {
    await good("image", "add", "example.com/added");
    await good("image", "add", "example.com/words:v1", "--", "echo", "hello", "again");
    const rows = tableRows(await good("image", "list"));
    const origin = (image: string) => rows.find(({ IMAGE }) => IMAGE === image)?.FROM;
    assert.deepEqual(["example.com/greeter", "example.com/added", "docker.io/library/busybox"].map(origin), [
      "lab file",
      "added",
      "built in",
    ]);
    for (const [pod, image, expected] of [
      ["greeter", "example.com/greeter:v7", "hello from the lab file"],
      ["words", "example.com/words:v1", "hello again"],
    ] as const) {
      await says("east", "run", pod, `--image=${image}`, "--restart=Never");
      await says("east", "wait", "--for=jsonpath={.status.phase}=Succeeded", `pod/${pod}`, "--timeout=30s");
      assert.equal(await says("east", "logs", pod), expected);
    }
    // A name that stands for the machine's own file system runs a shell when the pod says nothing else.
    for (const image of ["example.com/added", "example.com/machine"]) {
      const shell = ["run", "-i", "--rm", "--restart=Never", "--quiet", "shell", `--image=${image}`];
      const args = ["--context", "weft-east", ...shell];
      const { stdout, stderr } = await run("kubectl", args, env, "echo a shell as $0\n");
      assert.match(stdout, /a shell as \/bin\/sh/, stderr);
    }
    const unknown = await kubectl(
      "east",
      "run",
      "unknown",
      "--image=example.com/words:v2",
      "--restart=Never",
    );
    assert.equal(unknown.status, 0);
    await eventually("the other tag is unknown", async () =>
      (await says("east", "get", "pod", "unknown")).includes("ImagePullBackOff"),
    );
  });

  test("a node that is stopped takes its pods with it, and brings them back", async () => {
    const pod = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "pinned" },
      spec: { nodeName: "east-2", containers: [{ name: "a", image: "registry.k8s.io/pause" }] },
    };
    const apply = ["--context", "weft-east", "apply", "-f", "-"];
    assert.equal((await run("kubectl", apply, env, JSON.stringify(pod))).status, 0);
    await says("east", "wait", "--for=condition=Ready", "pod/pinned", "--timeout=30s");
    assert.equal((await good("node", "stop", "east-2")).trim(), "node east-2 is stopped");
    assert.deepEqual((await status()).clusters.find(({ name }) => name === "east")?.stoppedNodes, ["east-2"]);
    assert.match(await good("status"), /east-2 \(stopped\)/);
    assert.notEqual((await kubectl("east", "exec", "pinned", "--", "true")).status, 0);
    assert.equal((await good("node", "start", "east-2")).trim(), "node east-2 runs");
    await eventually(
      "the pod is back",
      async () => (await kubectl("east", "exec", "pinned", "--", "true")).status === 0,
    );
    assert.equal(
      await says(
        "east",
        "get",
        "pod",
        "pinned",
        "-o",
        "jsonpath={.status.containerStatuses[0].restartCount}",
      ),
      "1",
    );
  });

  test("faults that there cannot be are refused", async () => {
    assert.equal(await refused("cluster", "stop", "north"), "error: the lab has no cluster 'north'");
    assert.equal(await refused("node", "stop", "east"), "error: the lab has no node 'east'");
    assert.equal(await refused("link", "cut", "east", "north"), "error: the lab has no cluster 'north'");
    assert.equal(await refused("link", "latency", "east", "west", "50"), "error: '50' is no latency");
  });

  test("a link has latency where the kernel can delay packets; elsewhere that is said", async () => {
    const { status: code, stderr } = await weft("link", "latency", "east", "west", "150ms");
    if (code !== 0) {
      assert.match(stderr, /^error: this machine cannot delay packets: /);
      return;
    }
    assert.deepEqual((await status()).links, [{ between: ["east", "west"], cut: false, latency: 150 }]);
    const begun = performance.now();
    await inPod("curl -sk https://172.18.1.1:6443/version");
    assert.ok(performance.now() - begun > 600, "a TCP and a TLS handshake of 300 ms each");
    await good("link", "latency", "east", "west", "0ms");
    assert.deepEqual((await status()).links, []);
  });

  test("a lab that is kept comes back with its objects, keys and contexts", async () => {
    await says("east", "-n", "demo", "create", "configmap", "mine", "--from-literal=a=b");
    const uid = ["-n", "demo", "get", "configmap", "mine", "-o", "jsonpath={.metadata.uid}"];
    const before = await says("east", ...uid);
    const servers = (await status()).clusters.map(({ server }) => server);

    assert.match(await good("down", "--keep"), /^the lab is kept/);
    assert.equal(existsSync(env.KUBECONFIG!), false);
    assert.equal(await refused("status"), "error: no lab is running");
    for (const args of [["up", "--clusters", "c1"], ["tour"]]) {
      assert.match(await refused(...args), /^error: a lab is kept here \(east, west\), and /);
    }
    assert.match(await good("up", "-f", labFile), /contexts weft-east, weft-west/);

    assert.deepEqual(
      (await status()).clusters.map(({ server }) => server),
      servers,
    );
    assert.equal(await says("east", ...uid), before);
    await eventually("the pods run again", async () => {
      const { stdout } = await inPod("curl -s --max-time 3 http://serve/");
      return stdout.includes("hello from cluster 1");
    });
    await eventually("east sees west", async () => {
      const rows = tableRows(await good("clusters", "--context", "weft-east"));
      return rows.find(({ CLUSTER }) => CLUSTER === "west")?.REASON === "Live";
    });
  });

  test("a start that is stopped leaves a lab that is kept as it was", async () => {
    await good("down", "--keep");
    const record = join(env.WEFT_HOME!, "lab/lab.json");
    const stopped = async (signal: "SIGINT" | "SIGKILL"): Promise<void> => {
      const child = spawn(process.execPath, [bin, "up"], { env, stdio: "ignore" });
      const ended = new Promise((resolve) => child.on("exit", resolve));
      await eventually("the lab comes up", () => existsSync(join(env.WEFT_HOME!, "lab/lab.sock")), 60_000);
      child.kill(signal);
      await ended;
      const read = () => JSON.parse(readFileSync(record, "utf8")) as LabRecord;
      // It was up before the signal came: that is another story.
      if (!read().kept) {
        await good("down", "--keep");
        return stopped(signal);
      }
      await eventually("it is kept", () => {
        const { kept, launcher } = read();
        return kept && launcher === 0 && !existsSync(join(env.WEFT_HOME!, "lab/lab.sock"));
      });
    };
    await stopped("SIGINT");
    await stopped("SIGKILL");
    await good("up");
    assert.equal(
      await says("east", "-n", "demo", "get", "configmap", "mine", "-o", "jsonpath={.data.a}"),
      "b",
    );
  });

  test("a lab that is kept goes when it is to be forgotten", async () => {
    await good("down", "--keep");
    const lab = join(env.WEFT_HOME!, "lab");
    assert.match(readFileSync(join(lab, "lab.json"), "utf8"), /"kept": true/);
    assert.equal((await good("down", "--purge")).trim(), "the lab that was kept is gone");
    assert.equal(existsSync(lab), false);
    assert.equal(await refused("down"), "error: no lab is running");
  });
});
