import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  controllerRevisions,
  daemonSets,
  events,
  jobs,
  nameOf,
  pods,
  statefulSets,
} from "../../api/index.ts";
import { SimulatedWorld } from "../../world/index.ts";
import { type TestCluster, testCluster } from "./harness.ts";

const template = (app: string, image = "serve") => ({
  metadata: { labels: { app } },
  spec: { containers: [{ name: "serve", image }] },
});

describe("a StatefulSet", () => {
  const spec = (replicas: number, more: object = {}) => ({
    serviceName: "web",
    replicas,
    selector: { matchLabels: { app: "web" } },
    template: template("web"),
    ...more,
  });
  const settled = (cluster: TestCluster, replicas: number) =>
    cluster.until(`${replicas} replicas`, async () => {
      const found = await cluster.client.get(statefulSets, "demo/web");
      const { status, metadata } = found!;
      return (
        status?.observedGeneration === metadata.generation &&
        status?.replicas === replicas &&
        status?.availableReplicas === replicas &&
        (status?.updatedReplicas ?? 0) === replicas &&
        status?.currentRevision === status?.updateRevision &&
        found
      );
    });

  test("makes its pods in order, each when the one before is ready, with names that stay", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    cluster.hold = (pod) => pod.metadata.name === "web-4";
    await cluster.client.create(statefulSets, {
      metadata: { name: "web", namespace: "demo" },
      spec: spec(3, { ordinals: { start: 3 } }) as never,
    });
    await cluster.until("the second pod", async () => cluster.client.get(pods, "demo/web-4"));
    const names = async () => (await cluster.list(pods, "demo")).map((pod) => pod.metadata.name).sort();
    assert.deepEqual(await names(), ["web-3", "web-4"]);
    cluster.hold = () => false;
    await cluster.client.delete(pods, "demo/web-4");
    await settled(cluster, 3);
    assert.deepEqual(await names(), ["web-3", "web-4", "web-5"]);
    const pod = (await cluster.client.get(pods, "demo/web-3"))!;
    assert.equal(pod.spec.hostname, "web-3");
    assert.equal(pod.spec.subdomain, "web");
    assert.equal(pod.metadata.labels!["statefulset.kubernetes.io/pod-name"], "web-3");
    assert.equal(pod.metadata.labels!["apps.kubernetes.io/pod-index"], "3");
    await cluster.client.delete(pods, "demo/web-4");
    await cluster.until("the same name again", async () => {
      const again = await cluster.client.get(pods, "demo/web-4");
      return again && again.metadata.uid !== undefined && (await names()).length === 3;
    });
    // Moved up by one: the lowest goes, a new highest comes.
    await cluster.client.patch(statefulSets, "demo/web", { spec: { ordinals: { start: 4 } } });
    await cluster.until("moved", async () => (await names()).join() === "web-4,web-5,web-6");
  });

  test("scales down from the top, one at a time", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    await cluster.client.create(statefulSets, {
      metadata: { name: "web", namespace: "demo" },
      spec: spec(4) as never,
    });
    await settled(cluster, 4);
    const seen = new Set<string>();
    const stop = cluster.observe(pods, (all) =>
      seen.add(
        all
          .map((pod) => pod.metadata.name)
          .sort()
          .join(),
      ),
    );
    await cluster.client.patch(statefulSets, "demo/web", { spec: { replicas: 1 } });
    await settled(cluster, 1);
    stop();
    const allowed = ["web-0,web-1,web-2,web-3", "web-0,web-1,web-2", "web-0,web-1", "web-0"];
    assert.deepEqual(
      [...seen].filter((one) => !allowed.includes(one)),
      [],
    );
  });

  test("updates from the top down to the partition, and goes on when that is lifted", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    await cluster.client.create(statefulSets, {
      metadata: { name: "web", namespace: "demo" },
      spec: spec(3, { updateStrategy: { type: "RollingUpdate", rollingUpdate: { partition: 2 } } }) as never,
    });
    await settled(cluster, 3);
    const images = async () =>
      (await cluster.list(pods, "demo"))
        .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
        .map((pod) => pod.spec.containers[0]!.image)
        .join();
    await cluster.client.patch(statefulSets, "demo/web", { spec: { template: template("web", "v2") } });
    await cluster.until("the last is new", async () => (await images()) === "serve,serve,v2");
    // One below the partition that has to be made anew is of the old template.
    await cluster.client.delete(pods, "demo/web-0");
    await cluster.until("back", async () => {
      const found = await cluster.client.get(statefulSets, "demo/web");
      return found?.status?.readyReplicas === 3 && (await images()) === "serve,serve,v2";
    });
    await cluster.client.patch(statefulSets, "demo/web", {
      spec: { updateStrategy: { rollingUpdate: { partition: 0 } } },
    });
    await settled(cluster, 3);
    assert.equal(await images(), "v2,v2,v2");
    const revisions = await cluster.list(controllerRevisions, "demo");
    assert.deepEqual(revisions.map((one) => one.revision).sort(), [1, 2]);
  });

  test("makes them all at once when it is Parallel", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    cluster.hold = () => true;
    await cluster.client.create(statefulSets, {
      metadata: { name: "web", namespace: "demo" },
      spec: spec(5, { podManagementPolicy: "Parallel" }) as never,
    });
    await cluster.until("five", async () => (await cluster.list(pods, "demo")).length === 5);
  });

  test("says that volume claims are not served", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    await cluster.client.create(statefulSets, {
      metadata: { name: "web", namespace: "demo" },
      spec: spec(1, {
        volumeClaimTemplates: [
          {
            metadata: { name: "data" },
            spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Gi" } } },
          },
        ],
      }) as never,
    });
    const event = await cluster.until("event", async () => (await cluster.list(events, "demo"))[0]);
    assert.match(event.message!, /^volumeClaimTemplates are not served here/);
    assert.deepEqual(await cluster.list(pods, "demo"), []);
  });
});

describe("a DaemonSet", () => {
  test("has one pod on every node that it fits on, and follows the nodes", async () => {
    await using cluster = await testCluster({ nodes: ["a", "b"] });
    await cluster.namespace("demo");
    await cluster.addNode("tainted", { spec: { taints: [{ key: "x", effect: "NoSchedule" }] } });
    await cluster.client.create(daemonSets, {
      metadata: { name: "agent", namespace: "demo" },
      spec: { selector: { matchLabels: { app: "agent" } }, template: template("agent") },
    });
    const on = async () =>
      (await cluster.list(pods, "demo"))
        .map((pod) => pod.spec.nodeName)
        .sort()
        .join();
    const ready = (count: number) =>
      cluster.until(`${count} ready`, async () => {
        const found = await cluster.client.get(daemonSets, "demo/agent");
        const status = found?.status;
        return (
          status?.numberReady === count &&
          status.desiredNumberScheduled === count &&
          status.updatedNumberScheduled === count &&
          status.observedGeneration === found!.metadata.generation
        );
      });
    await ready(2);
    assert.equal(await on(), "a,b");
    await cluster.addNode("c");
    await ready(3);
    assert.equal(await on(), "a,b,c");
    await cluster.client.patch(daemonSets, "demo/agent", { spec: { template: template("agent", "v2") } });
    await cluster.until("all new", async () => {
      const all = await cluster.list(pods, "demo");
      return all.length === 3 && all.every((pod) => pod.spec.containers[0]!.image === "v2");
    });
    await ready(3);
    await cluster.client.patch(daemonSets, "demo/agent", {
      spec: { template: { spec: { nodeSelector: { "kubernetes.io/hostname": "b" } } } },
    });
    await cluster.until("only b", async () => (await on()) === "b");
    await ready(1);
  });
});

describe("a Job", () => {
  async function finish(cluster: TestCluster, name: string, phase: "Succeeded" | "Failed"): Promise<void> {
    const now = new Date(cluster.world.now()).toISOString();
    const state = { terminated: { exitCode: phase === "Failed" ? 1 : 0, finishedAt: now } };
    await cluster.client.patch(
      pods,
      name,
      {
        status: {
          phase,
          conditions: [{ type: "Ready", status: "False" }],
          containerStatuses: [
            { name: "serve", image: "serve", imageID: "", ready: false, restartCount: 0, state },
          ],
        },
      } as never,
      { subresource: "status" },
    );
  }
  const spec = (more: object) => ({
    template: { spec: { ...template("job").spec, restartPolicy: "Never" } },
    ...more,
  });
  const running = (cluster: TestCluster, count: number) =>
    cluster.until(`${count} running`, async () => {
      const all = (await cluster.list(pods, "demo")).filter((pod) => pod.status?.phase === "Running");
      return all.length === count && all;
    });
  const condition = (cluster: TestCluster, type: string) =>
    cluster.until(type, async () => {
      const found = await cluster.client.get(jobs, "demo/work");
      return found?.status?.conditions?.some((one) => one.type === type && one.status === "True") && found;
    });

  test("runs as many pods at a time as it may, until as many succeeded as it wants", async () => {
    await using cluster = await testCluster();
    await cluster.namespace("demo");
    await cluster.client.create(jobs, {
      metadata: { name: "work", namespace: "demo" },
      spec: spec({ completions: 3, parallelism: 2 }) as never,
    });
    const first = await running(cluster, 2);
    for (const pod of first) await finish(cluster, nameOf(pod), "Succeeded");
    const [last] = await running(cluster, 1);
    assert.equal(last!.metadata.labels!["job-name"], "work");
    await finish(cluster, nameOf(last!), "Succeeded");
    const done = await condition(cluster, "Complete");
    assert.equal(done.status!.succeeded, 3);
    assert.ok(done.status!.completionTime);
    assert.equal((await cluster.list(pods, "demo")).length, 3, "finished pods stay for their logs");
  });

  test("tries again after growing pauses, and gives up at its limit", async () => {
    const world = new SimulatedWorld(7);
    await using cluster = await testCluster({ simulated: world });
    await cluster.namespace("demo");
    await cluster.client.create(jobs, {
      metadata: { name: "work", namespace: "demo" },
      spec: spec({ backoffLimit: 1 }) as never,
    });
    const [first] = await running(cluster, 1);
    await finish(cluster, nameOf(first!), "Failed");
    await world.advance(9_000);
    assert.equal((await cluster.list(pods, "demo")).length, 1, "not before ten seconds");
    await world.advance(2_000);
    const [second] = await running(cluster, 1);
    await finish(cluster, nameOf(second!), "Failed");
    const failed = await condition(cluster, "Failed");
    const why = failed.status!.conditions!.find((one) => one.type === "Failed")!;
    assert.equal(why.reason, "BackoffLimitExceeded");
    assert.equal(why.message, "Job has reached the specified backoff limit");
    assert.equal(failed.status!.failed, 2);
  });

  test("gives each pod its index, and is gone when its time to live is over", async () => {
    const world = new SimulatedWorld(8);
    await using cluster = await testCluster({ simulated: world });
    await cluster.namespace("demo");
    await cluster.client.create(jobs, {
      metadata: { name: "work", namespace: "demo" },
      spec: spec({
        completions: 2,
        parallelism: 2,
        completionMode: "Indexed",
        ttlSecondsAfterFinished: 30,
      }) as never,
    });
    const both = await running(cluster, 2);
    const key = "batch.kubernetes.io/job-completion-index";
    assert.deepEqual(both.map((pod) => pod.metadata.annotations![key]).sort(), ["0", "1"]);
    assert.deepEqual(both.map((pod) => pod.spec.hostname).sort(), ["work-0", "work-1"]);
    for (const pod of both) await finish(cluster, nameOf(pod), "Succeeded");
    const done = await condition(cluster, "Complete");
    assert.equal(done.status!.completedIndexes, "0-1");
    await world.advance(25_000);
    assert.ok(await cluster.client.get(jobs, "demo/work"));
    await world.advance(10_000);
    await cluster.until("gone", async () => !(await cluster.client.get(jobs, "demo/work")));
    await cluster.until("no pods", async () => (await cluster.list(pods, "demo")).length === 0);
  });

  test("is stopped at its deadline, and holds still while it is suspended", async () => {
    const world = new SimulatedWorld(9);
    await using cluster = await testCluster({ simulated: world });
    await cluster.namespace("demo");
    await cluster.client.create(jobs, {
      metadata: { name: "work", namespace: "demo" },
      spec: spec({ activeDeadlineSeconds: 60, suspend: true }) as never,
    });
    await condition(cluster, "Suspended");
    // Less than it takes for the node, which has no kubelet, to count as silent.
    await world.advance(30_000);
    assert.deepEqual(await cluster.list(pods, "demo"), []);
    await cluster.client.patch(jobs, "demo/work", { spec: { suspend: false } });
    await running(cluster, 1);
    await world.advance(61_000);
    const failed = await condition(cluster, "Failed");
    assert.equal(failed.status!.conditions!.find((one) => one.type === "Failed")!.reason, "DeadlineExceeded");
    await cluster.until("no pods", async () => (await cluster.list(pods, "demo")).length === 0);
  });
});
