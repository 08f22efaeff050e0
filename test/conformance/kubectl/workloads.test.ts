/** kubectl and what runs: pods and their states, logs, exec with a terminal, rollouts, drains. */
import assert from "node:assert/strict";
import { spawn as spawnProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { spawn } from "@lydell/node-pty";
import { eventually } from "../../support/eventually.ts";
import { type Lab, labUnavailable, startLab, tableRows } from "../../support/lab.ts";
import { type Kubectl, kubectlIn, programs } from "./kubectl.ts";

const reason = labUnavailable();
if (reason) console.log(`skipped: kubectl and what runs: ${reason}`);

const shell = (script: string, more: object = {}) => ({
  name: "main",
  image: "busybox",
  command: ["sh", "-c", script],
  ...more,
});
const pod = (name: string, container: object, more: object = {}) => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, labels: { app: name } },
  spec: { terminationGracePeriodSeconds: 0, containers: [container], ...more },
});
const workload = (kind: string, name: string, spec: object) => ({
  apiVersion: "apps/v1",
  kind,
  metadata: { name },
  spec: {
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name } },
      spec: { terminationGracePeriodSeconds: 0, containers: [shell("sleep 1000")] },
    },
    ...spec,
  },
});
const list = (...items: object[]) => JSON.stringify({ apiVersion: "v1", kind: "List", items });

/** kubectl on a terminal of 80 columns and 24 rows: what it shows, and what is typed. */
function terminal(k: Kubectl, line: string) {
  const [program, ...words] = [...k.words, ...line.split(" ")];
  const opened = spawn(program!, words, { cols: 80, rows: 24, env: k.env });
  let shown = "";
  opened.onData((text) => {
    shown += text;
  });
  const exit = new Promise<number>((resolve) => opened.onExit(({ exitCode }) => resolve(exitCode)));
  return {
    exit,
    resize: (columns: number, rows: number) => opened.resize(columns, rows),
    type: (text: string) => opened.write(text),
    shows: (pattern: RegExp, timeout = 10_000) =>
      eventually(
        `${pattern} on the terminal`,
        () => {
          if (!pattern.test(shown)) throw new Error(JSON.stringify(shown));
          return true;
        },
        timeout,
      ),
  };
}

describe("kubectl and what runs", { skip: reason, timeout: 240_000 }, () => {
  let lab: Lab;
  let k: Kubectl;
  let kubectls: Kubectl[];

  before(async () => {
    lab = await startLab(["c1"]);
    kubectls = await Promise.all(programs().map((program) => kubectlIn(lab, program, "work")));
    k = kubectls[0]!;
  });
  after(async () => {
    await lab?.down();
  });

  const rows = async (what: string): Promise<Record<string, string>[]> => tableRows(await k.ok(what));
  const status = async (name: string): Promise<string> => (await rows(`get pod ${name}`))[0]!.STATUS!;

  test("pods get their configuration, their secrets and what their init containers left", async () => {
    const main = shell(
      "cat /work/x /etc/conf/key /etc/pass/word; echo; echo $KEY $WORD $POD $NODE $other; touch /tmp/ready; sleep 1000",
      {
        envFrom: [{ configMapRef: { name: "conf" } }],
        env: [
          { name: "KEY", valueFrom: { configMapKeyRef: { name: "conf", key: "key" } } },
          { name: "WORD", valueFrom: { secretKeyRef: { name: "pass", key: "word" } } },
          { name: "POD", valueFrom: { fieldRef: { fieldPath: "metadata.name" } } },
          { name: "NODE", valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } },
        ],
        volumeMounts: [
          { name: "work", mountPath: "/work" },
          { name: "conf", mountPath: "/etc/conf" },
          { name: "pass", mountPath: "/etc/pass" },
        ],
        readinessProbe: { exec: { command: ["test", "-f", "/tmp/ready"] }, periodSeconds: 1 },
      },
    );
    const side = { ...shell("while true; do echo tick; sleep 0.2; done"), name: "side" };
    await k.ok("create configmap conf --from-literal=key=value --from-literal=other=thing");
    await k.ok("create secret generic pass --from-literal=word=hunter2");
    await k.says(
      "apply -f -",
      "pod/whole created",
      JSON.stringify(
        pod("whole", main, {
          initContainers: [
            {
              ...shell("echo from-init > /work/x", { volumeMounts: [{ name: "work", mountPath: "/work" }] }),
              name: "init",
            },
          ],
          containers: [main, side],
          volumes: [
            { name: "work", emptyDir: {} },
            { name: "conf", configMap: { name: "conf" } },
            { name: "pass", secret: { secretName: "pass" } },
          ],
        }),
      ),
    );
    await k.says("wait --for=condition=Ready pod/whole --timeout=20s", "pod/whole condition met");
    await k.says(
      "wait --for=jsonpath={.status.phase}=Running pod/whole --timeout=5s",
      "pod/whole condition met",
    );
    await k.says("logs whole -c main", "from-init\nvaluehunter2\nvalue hunter2 whole c1-control-plane thing");
    const [shown] = await rows("get pod whole -o wide --show-labels");
    assert.deepEqual([shown!.READY, shown!.STATUS, shown!.RESTARTS], ["2/2", "Running", "0"]);
    assert.match(shown!.IP!, /^10\.10\.0\.\d+$/);
    assert.deepEqual([shown!.NODE, shown!.LABELS], ["c1-control-plane", "app=whole"]);
    const described = await k.ok("describe pod whole");
    const events = described.split("\n").filter((line) => /^ {2}Normal +/.test(line));
    assert.deepEqual(
      events.map((line) => line.trim().split(/ {2,}/)[1]),
      ["Scheduled", ...Array.from({ length: 3 }, () => ["Pulling", "Pulled", "Created", "Started"]).flat()],
    );
    assert.match(described, /^Init Containers:\n {2}init:\n[\s\S]*Reason: +Completed\n +Exit Code: +0/m);
    assert.match(described, /KEY: +<set to the key 'key' of config map 'conf'> +Optional: false/);
  });

  test("logs: one, all, the last, by time, by label, and as they come", async () => {
    await k.says("logs whole --tail=1", /^(Defaulted .*\n)?value hunter2 whole/);
    await k.says(
      "logs whole -c main --timestamps --tail=1",
      /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z value hunter2/,
    );
    await k.says("logs whole -c main --since=1h --tail=1", /^value hunter2/);
    const all = await k.ok("logs whole --all-containers --prefix --tail=1");
    assert.match(all, /^\[pod\/whole\/main\] value/m);
    assert.match(all, /^\[pod\/whole\/side\] tick$/m);
    await k.says("logs -l app=whole -c side --tail=1", "tick");
    await k.refuses("logs whole -c nope", /container nope is not valid for pod whole/);
    await k.refuses("logs absent", /pods "absent" not found/);
    await k.refuses("logs whole -c main -p", /previous terminated container "main" in pod "whole" not found/);
    for (const command of ["logs -f whole -c side --tail=1", "attach whole -c side"]) {
      const [program, ...words] = [...k.words, ...command.split(" ")];
      const following = spawnProcess(program!, words, { env: k.env, stdio: ["ignore", "pipe", "ignore"] });
      let said = "";
      following.stdout.on("data", (chunk: Buffer) => {
        said += chunk.toString();
      });
      await eventually(command, () => said.includes("tick\ntick\ntick\n"));
      following.kill();
      await once(following, "close");
    }
  });

  test("exec: exit codes, standard input, and what cannot be run", async () => {
    for (const k of kubectls) {
      await k.refuses("exec whole -c main -- sh -c 'exit 7'", /command terminated with exit code 7/, "", 7);
      await k.says("exec -i whole -c main -- cat", "given", "given\n");
      await k.refuses("exec whole -c main -- nosuch", /exec: "nosuch": executable file not found in \$PATH/);
      await k.refuses(
        "exec whole -c nope -- ls",
        /container nope is not valid for pod whole|container not found/,
      );
    }
  });

  test("exec -it: a real terminal, its size, Ctrl-C and the exit code", async () => {
    for (const k of kubectls) {
      const t = terminal(k, "exec -it whole -c main -- sh");
      await t.shows(/[#$] $/);
      t.type("tty; stty size\r");
      await t.shows(/\/dev\/pts\/\d+\r\n24 80\r\n/);
      t.resize(101, 31);
      await eventually("the new size", async () => {
        t.type("stty size\r");
        return t.shows(/31 101\r\n/, 500);
      });
      t.type("sleep 1000 || echo woken=$?\r");
      await t.shows(/woken=\$\?\r\n/);
      t.type("\x03");
      t.type("exit 5\r");
      assert.equal(await t.exit, 5);
    }
  });

  test("run -i --rm: output, input, overrides, exit code", async () => {
    for (const k of kubectls) {
      const run = (name: string, words: string) =>
        `run ${name} -i --rm --restart=Never --image=busybox ${words}`;
      await k.refuses(run("once", "-- sh -c 'echo hello; exit 3'"), /hello[\s\S]*pod "once" deleted/, "", 3);
      await k.says(run("cat", "-- cat"), /given[\s\S]*pod "cat" deleted/, "given\n");
      const overrides = {
        spec: {
          containers: [{ ...shell("echo is $FOO"), name: "over", env: [{ name: "FOO", value: "bar" }] }],
        },
      };
      await k.says(
        run("over", `'--overrides=${JSON.stringify(overrides)}'`),
        /is bar[\s\S]*pod "over" deleted/,
      );
      const t = terminal(k, "run shell -it --rm --restart=Never --image=busybox");
      await t.shows(/try pressing enter/);
      t.type("\r");
      await t.shows(/[#$] $/);
      // kubectl asks for another size first, to have the screen drawn again.
      await eventually("the size", async () => {
        t.type("stty size\r");
        return t.shows(/24 80\r\n/, 500);
      });
      t.type("sleep 1000\r");
      await t.shows(/sleep 1000\r\n/);
      t.type("\x03");
      await t.shows(/\^C[\s\S]*[#$] $/);
      t.type("exit 4\r");
      assert.equal(await t.exit, 4);
    }
    assert.doesNotMatch(await k.ok("get pods -o name"), /once|cat|over|shell/);
  });

  test("states of pods that do not run, and why", async () => {
    const broken = list(
      pod("crash", shell("echo crashing; exit 3")),
      pod("noimage", { name: "main", image: "example.com/nosuch:1" }),
      pod("noconfig", shell("sleep 1000", { envFrom: [{ configMapRef: { name: "absent" } }] })),
      pod("novolume", shell("sleep 1", { volumeMounts: [{ name: "v", mountPath: "/v" }] }), {
        volumes: [{ name: "v", configMap: { name: "absent" } }],
      }),
      pod("nowhere", shell("sleep 1000"), { nodeSelector: { not: "there" } }),
      pod("badinit", shell("sleep 1000"), { initContainers: [{ ...shell("exit 1"), name: "init" }] }),
      pod("done", shell("true"), { restartPolicy: "Never" }),
      pod("failed", shell("exit 2"), { restartPolicy: "Never" }),
      pod(
        "unready",
        shell("sleep 1000", { readinessProbe: { exec: { command: ["false"] }, periodSeconds: 1 } }),
      ),
      pod(
        "unwell",
        shell("sleep 1000", {
          livenessProbe: {
            exec: { command: ["sh", "-c", "echo unwell; exit 1"] },
            periodSeconds: 1,
            failureThreshold: 1,
          },
        }),
      ),
    );
    await k.says("apply -f -", /^pod\/crash created$/m, broken);
    for (const [name, expected] of [
      ["crash", "CrashLoopBackOff"],
      ["noimage", "ImagePullBackOff"],
      ["noconfig", "CreateContainerConfigError"],
      ["novolume", "ContainerCreating"],
      ["nowhere", "Pending"],
      ["badinit", "Init:CrashLoopBackOff"],
      ["done", "Completed"],
      ["failed", "Error"],
    ] as const) {
      await eventually(`${name} is ${expected}`, async () => {
        const found = await status(name);
        if (found !== expected) throw new Error(`it is ${found}`);
        return true;
      });
    }
    const [crash] = await rows("get pod crash");
    assert.match(crash!.RESTARTS!, /^[12] \(\d+s ago\)$/);
    await k.says("logs crash -p", "crashing");
    const why = async (name: string) =>
      (await k.ok(`describe pod ${name}`))
        .split("\n")
        .filter((line) => /^ +Warning/.test(line))
        .join("\n");
    assert.match(
      await why("crash"),
      /BackOff +.*Back-off restarting failed container main in pod crash_work/,
    );
    assert.match(
      await why("noimage"),
      /Failed to pull image "example\.com\/nosuch:1": .*weft image add example\.com\/nosuch:1/,
    );
    assert.match(await why("noconfig"), /Error: configmap "absent" not found/);
    assert.match(
      await why("novolume"),
      /FailedMount .*MountVolume\.SetUp failed for volume "v" : configmap "absent" not found/,
    );
    assert.match(
      await why("nowhere"),
      /FailedScheduling .*0\/1 nodes are available: 1 node\(s\) didn't match Pod's node affinity\/selector/,
    );
    assert.equal((await rows("get pod unready"))[0]!.READY, "0/1");
    await eventually("the unready pod's Event", async () =>
      (await why("unready")).includes("Readiness probe failed"),
    );
    await eventually(
      "a restart of the unwell pod",
      async () => Number.parseInt((await rows("get pod unwell"))[0]!.RESTARTS!, 10) > 0,
    );
    assert.match(await why("unwell"), /Unhealthy .*Liveness probe failed: unwell/);
    assert.match(await k.ok("get pods --field-selector=status.phase=Failed -o name"), /^pod\/failed$/);
    await k.refuses(
      "wait --for=condition=Ready pod/unready --timeout=1s",
      /timed out waiting for the condition/,
    );
    await k.refuses(
      "logs noimage",
      /container "main" in pod "noimage" is waiting to start: trying and failing to pull image/,
    );
    // An image that is added makes the pod run without being asked again.
    await lab.weft("image", "add", "example.com/nosuch:1", "--", "sleep", "1000");
    await k.says("wait --for=condition=Ready pod/noimage --timeout=40s", "pod/noimage condition met");
    await k.says(
      "delete pod -l 'app in (crash,noimage,noconfig,novolume,nowhere)' --now",
      /pod "nowhere" (force )?deleted/,
    );
    await k.says("delete pod unready --grace-period=0 --force", /pod "unready" force deleted/);
    await k.ok("delete pod --all --grace-period=1");
    await k.says("get pods", "No resources found in work namespace.");
  });

  test("deployments roll out, back, and pause", async () => {
    await k.ok("apply -f -", JSON.stringify(workload("Deployment", "web", { replicas: 2 })));
    await k.says("rollout status deployment/web --timeout=30s", /deployment "web" successfully rolled out$/);
    const [web] = await rows("get deployment web");
    assert.deepEqual([web!.READY, web!["UP-TO-DATE"], web!.AVAILABLE], ["2/2", "2", "2"]);
    await k.says("rollout restart deployment/web", "deployment.apps/web restarted");
    await k.says("rollout status deployment/web --timeout=30s", /successfully rolled out$/);
    await k.ok("set env deployment/web A=B");
    await k.says("rollout status deployment/web --timeout=30s", /successfully rolled out$/);
    assert.deepEqual(
      (await k.ok("rollout history deployment/web"))
        .split("\n")
        .slice(2)
        .map((line) => line.split(" ")[0]),
      ["1", "2", "3"],
    );
    assert.match(await k.ok("rollout history deployment/web --revision=3"), /A:\s+B/);
    await k.says("rollout undo deployment/web", "deployment.apps/web rolled back");
    await k.says("rollout status deployment/web --timeout=30s", /successfully rolled out$/);
    await k.says("set env deployment/web --list", "# Deployment web, container main");
    await k.says("rollout pause deployment/web", "deployment.apps/web paused");
    await k.refuses("rollout undo deployment/web", /cannot rollback a paused deployment/);
    await k.says("rollout resume deployment/web", "deployment.apps/web resumed");
    await k.refuses("rollout undo deployment/web --to-revision=99", /unable to find specified revision 99/);
    await k.says("scale deployment/web --replicas=3", "deployment.apps/web scaled");
    await k.says(
      "wait --for=jsonpath={.status.readyReplicas}=3 deployment/web --timeout=20s",
      /condition met/,
    );
    const described = await k.ok("describe deployment web");
    assert.match(
      described,
      /^Replicas: +3 desired \| 3 updated \| 3 total \| 3 available \| 0 unavailable$/m,
    );
    assert.match(
      described,
      /ScalingReplicaSet +.*deployment-controller +Scaled up replica set web-\S+ from 0 to 2/,
    );
    await k.says("expose deployment web --port=80", "service/web exposed");
    await eventually("endpoints of the Service", async () =>
      /^Endpoints: +10\.10\.0\.\d+:80,10\.10\.0\.\d+:80,10\.10\.0\.\d+:80$/m.test(
        await k.ok("describe service web"),
      ),
    );
  });

  test("StatefulSets, DaemonSets and Jobs", async () => {
    const job = (name: string, script: string, spec: object) => ({
      apiVersion: "batch/v1",
      kind: "Job",
      metadata: { name },
      spec: { ...spec, template: { spec: { restartPolicy: "Never", containers: [shell(script)] } } },
    });
    await k.ok(
      "apply -f -",
      list(
        workload("StatefulSet", "ordered", { replicas: 2, serviceName: "ordered" }),
        workload("DaemonSet", "everywhere", {}),
        job("three", "echo done", { completions: 3, parallelism: 2 }),
        job("hopeless", "exit 1", { backoffLimit: 0 }),
      ),
    );
    await k.says("rollout status sts/ordered --timeout=30s", /complete: 2 new pods have been updated/);
    await k.says("rollout status ds/everywhere --timeout=30s", /successfully rolled out$/);
    await k.says("wait --for=condition=complete job/three --timeout=30s", "job.batch/three condition met");
    await k.says(
      "wait --for=condition=failed job/hopeless --timeout=30s",
      "job.batch/hopeless condition met",
    );
    assert.deepEqual((await k.ok("get pods -l app=ordered -o name")).split("\n"), [
      "pod/ordered-0",
      "pod/ordered-1",
    ]);
    assert.equal((await rows("get sts ordered"))[0]!.READY, "2/2");
    const [daemons] = await rows("get ds everywhere");
    assert.deepEqual([daemons!.DESIRED, daemons!.READY, daemons!["NODE SELECTOR"]], ["1", "1", "<none>"]);
    const [three] = await rows("get job three");
    assert.deepEqual([three!.STATUS, three!.COMPLETIONS], ["Complete", "3/3"]);
    assert.equal((await rows("get job hopeless"))[0]!.STATUS, "Failed");
    await k.says("logs job/three", /^done$/m);
    assert.match(
      await k.ok("describe job three"),
      /^Pods Statuses: +0 Active \(0 Ready\) \/ 3 Succeeded \/ 0 Failed$/m,
    );
    assert.match(
      await k.ok("describe job hopeless"),
      /BackoffLimitExceeded .*Job has reached the specified backoff limit/,
    );
    assert.match(
      await k.ok("describe sts ordered"),
      /Create Pod ordered-0 in StatefulSet ordered successful/,
    );
    await k.says("rollout restart sts/ordered ds/everywhere", /everywhere restarted/);
    await k.says("rollout status sts/ordered --timeout=30s", /complete: 2 new pods have been updated/);
    await k.says("rollout undo ds/everywhere", "daemonset.apps/everywhere rolled back");
    await k.ok("delete sts,ds,job --all");
    await k.says("wait --for=delete pod/ordered-0 --timeout=20s", /^(pod\/ordered-0 condition met)?$/);
  });

  test("nodes are cordoned, tainted and drained", async () => {
    const node = "c1-control-plane";
    await k.says(`taint node ${node} a=b:NoSchedule`, `node/${node} tainted`);
    await k.refuses(`taint node ${node} a=b:NoSchedule`, /already has a taint/);
    await k.says(`taint node ${node} a-`, `node/${node} untainted`);
    await k.ok("create poddisruptionbudget web --selector=app=web --min-available=3");
    await k.refuses(
      `drain ${node} --pod-selector=app=web --timeout=2s`,
      /Cannot evict pod as it would violate the pod's disruption budget/,
    );
    assert.equal((await rows(`get node ${node}`))[0]!.STATUS, "Ready,SchedulingDisabled");
    assert.equal((await rows("get deployment web"))[0]!.READY, "3/3");
    await k.ok("delete poddisruptionbudget web");
    await k.says(`drain ${node} --pod-selector=app=web --timeout=30s`, new RegExp(`node/${node} drained`));
    await eventually("three pods that wait for a node", async () => {
      const waiting = await rows("get pods -l app=web");
      return waiting.length === 3 && waiting.every(({ STATUS }) => STATUS === "Pending");
    });
    await k.says(`uncordon ${node}`, `node/${node} uncordoned`);
    await k.says("rollout status deployment/web --timeout=30s", /successfully rolled out$/);
    await k.ok("delete deployment web --cascade=foreground");
    await k.says("get pods,rs", "No resources found in work namespace.");
  });

  test("cp and port-forward work; debug is refused and says what is not served", async () => {
    const serve = {
      name: "main",
      image: "jeremyot/serve:0a40de8",
      args: ['--message=hello from {{env "NAME"}}'],
    };
    await k.ok(
      "apply -f -",
      JSON.stringify(pod("files", { ...serve, env: [{ name: "NAME", value: "inside" }] })),
    );
    await k.ok("wait --for=condition=Ready pod/files --timeout=20s");
    const [here, back] = ["here", "back"].map((name) => join(lab.home, name)) as [string, string];
    writeFileSync(here, "some data\n");
    for (const k of kubectls) {
      await k.ok(`cp ${here} files:/tmp/there`);
      await k.says("exec files -- cat /tmp/there", "some data");
      await k.ok(`cp files:/tmp/there ${back}`);
      assert.equal(readFileSync(back, "utf8"), "some data\n");
      // A real API server serves it, and the lab's kubelet passes it over.
      if (!process.env.WEFT_REAL_KUBERNETES) {
        await k.refuses(
          "debug files --image=busybox -- true",
          /the subresource pods\/ephemeralcontainers is not served/,
        );
      }
      const [program, ...words] = [...k.words, "port-forward", "pod/files", ":8080"];
      const forwarding = spawnProcess(program!, words, { env: k.env, stdio: ["ignore", "pipe", "inherit"] });
      const [said] = (await once(forwarding.stdout, "data")) as [Buffer];
      const port = /127\.0\.0\.1:(\d+) -> 8080/.exec(said.toString())?.[1];
      await eventually("an answer through the forwarded port", async () =>
        /hello from inside/.test(await (await fetch(`http://127.0.0.1:${port}/`)).text()),
      );
      forwarding.kill();
      await once(forwarding, "close");
    }
  });
});
