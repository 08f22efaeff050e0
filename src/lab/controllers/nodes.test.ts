import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { deployments, endpointSlices, leases, nameOf, nodes, pods, services } from "../../api/index.ts";
import { microTimestamp, SimulatedWorld, timestamp } from "../../world/index.ts";
import { type TestCluster, testCluster } from "./harness.ts";
import { isReady } from "./pods.ts";

/** Says that the node lives, as its kubelet does every ten seconds. */
async function renew(cluster: TestCluster, node: string): Promise<void> {
  await cluster.client.apply(
    leases,
    {
      metadata: { name: node, namespace: "kube-node-lease" },
      spec: {
        holderIdentity: node,
        leaseDurationSeconds: 40,
        renewTime: microTimestamp(cluster.world) as never,
      },
    },
    { force: true },
  );
}

/** Lets time pass while the nodes in `alive` renew their leases. */
async function pass(cluster: TestCluster, seconds: number, alive: string[]): Promise<void> {
  for (let left = seconds; left > 0; left -= 10) {
    for (const node of alive) await renew(cluster, node);
    await (cluster.world as SimulatedWorld).advance(Math.min(left, 10) * 1000);
  }
}

async function demo(nodesOfCluster: string[], replicas: number): Promise<TestCluster> {
  const cluster = await testCluster({ simulated: new SimulatedWorld(3), nodes: nodesOfCluster });
  await cluster.namespace("demo");
  await cluster.client.create(deployments, {
    metadata: { name: "serve", namespace: "demo" },
    spec: {
      replicas,
      selector: { matchLabels: { app: "serve" } },
      template: { metadata: { labels: { app: "serve" } }, spec: { containers: [{ name: "s", image: "s" }] } },
    },
  });
  await cluster.client.create(services, {
    metadata: { name: "serve", namespace: "demo" },
    spec: { selector: { app: "serve" }, ports: [{ port: 80 }] },
  });
  await cluster.until("endpoints", async () => (await ready(cluster)) === replicas);
  return cluster;
}

async function ready(cluster: TestCluster): Promise<number> {
  const slices = await cluster.list(endpointSlices, "demo");
  return slices.flatMap((slice) => slice.endpoints ?? []).filter((one) => one.conditions?.ready).length;
}

const readyOf = async (cluster: TestCluster, node: string) =>
  (await cluster.client.get(nodes, node))?.status?.conditions?.find((one) => one.type === "Ready")?.status;

describe("a node", () => {
  test("that renews its lease stays ready", async () => {
    await using cluster = await demo(["a"], 1);
    await pass(cluster, 120, ["a"]);
    assert.equal(await readyOf(cluster, "a"), "True");
    assert.equal(await ready(cluster), 1);
  });

  test("that falls silent is no longer ready after 40 s, nor are its pods, and it comes back", async () => {
    await using cluster = await demo(["a", "b"], 2);
    await pass(cluster, 30, ["a", "b"]);
    await pass(cluster, 35, ["a"]);
    assert.equal(await readyOf(cluster, "b"), "True");
    await pass(cluster, 15, ["a"]);
    assert.equal(await readyOf(cluster, "b"), "Unknown");
    assert.equal(await readyOf(cluster, "a"), "True");
    assert.equal(await ready(cluster), 1);
    const silent = (await cluster.client.get(nodes, "b"))!;
    assert.deepEqual(
      silent.spec!.taints!.map(({ key, effect }) => `${key}:${effect}`),
      ["node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"],
    );
    // Its kubelet is back: it renews the lease and reports node and pods anew.
    await renew(cluster, "b");
    const condition = {
      type: "Ready",
      status: "True",
      reason: "KubeletReady",
      lastHeartbeatTime: timestamp(cluster.world),
    };
    await cluster.client.patch(nodes, "b", { status: { conditions: [condition] } } as never, {
      subresource: "status",
    });
    for (const pod of await cluster.list(pods, "demo")) {
      if (pod.spec.nodeName !== "b") continue;
      const status = {
        conditions: [{ type: "Ready", status: "True", lastTransitionTime: timestamp(cluster.world) }],
      };
      await cluster.client.patch(pods, nameOf(pod), { status } as never, { subresource: "status" });
    }
    await cluster.until("two endpoints", async () => (await ready(cluster)) === 2);
    assert.deepEqual((await cluster.client.get(nodes, "b"))!.spec!.taints ?? [], []);
  });

  test("that stays silent loses its pods after five minutes, and others take their place", async () => {
    await using cluster = await demo(["a", "b"], 2);
    const [lost] = (await cluster.list(pods, "demo")).filter((pod) => pod.spec.nodeName === "b");
    await pass(cluster, 20, ["a", "b"]);
    await pass(cluster, 330, ["a"]);
    assert.equal((await cluster.client.get(pods, nameOf(lost!)))?.metadata.deletionTimestamp, undefined);
    await pass(cluster, 40, ["a"]);
    await cluster.until("two on a", async () => {
      const alive = (await cluster.list(pods, "demo")).filter((pod) => !pod.metadata.deletionTimestamp);
      return alive.length === 2 && alive.every((pod) => pod.spec.nodeName === "a" && isReady(pod));
    });
  });

  test("that is deleted takes its pods along", async () => {
    await using cluster = await demo(["a", "b"], 2);
    cluster.hold = (pod) => pod.spec.nodeName === "b";
    await cluster.client.delete(nodes, "b");
    await pass(cluster, 60, ["a"]);
    await cluster.until("none on b", async () => {
      const all = await cluster.list(pods, "demo");
      return all.length === 2 && all.every((pod) => pod.spec.nodeName === "a");
    });
  });
});
